//! The report's own signs in ASCII, for terminals that show no more.

/// The text with every sign of the report's own spelled in ASCII, and what else is none as `?`.
#[must_use]
pub fn spelled(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => spelled.push(c),
            '·' => spelled.push('-'),
            '…' => spelled.push_str("..."),
            'µ' => spelled.push('u'),
            '≥' => spelled.push_str(">="),
            '→' => spelled.push_str("->"),
            '─' | '–' | '—' => spelled.push('-'),
            '≤' => spelled.push_str("<="),
            '│' => spelled.push('|'),
            '┌' | '└' => spelled.push('+'),
            '▶' => spelled.push('>'),
            '█' | '▉' | '▊' | '▋' | '▌' => spelled.push('#'),
            '▍' | '▎' | '▏' => spelled.push('|'),
            '\u{a0}' | '\u{202f}' => spelled.push(' '),
            _ => spelled.push('?'),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_ascii_is_left() {
        assert_eq!(
            spelled("pid 7 · ≥ 1.5 µs  ██▋▏ …f"),
            "pid 7 - >= 1.5 us  ###| ...f"
        );
        assert_eq!(spelled("┌▶ └─ │ ≤5"), "+> +- | <=5");
        assert_eq!(spelled("名"), "?");
    }
}
