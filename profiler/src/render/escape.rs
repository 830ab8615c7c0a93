//! Text from the target made harmless.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` without anything that a terminal or a reader's eye could be tricked with: control
/// characters (escape sequences begin with one) become `\x1b`, line separators and characters
/// that are invisible or turn the direction of writing become `\u{202e}`.
///
/// The result holds no line break, and is safe within XML once `<`, `>`, `&` and quotes are
/// escaped: XML 1.0 has no form at all for most control characters.
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    // Nearly all text is of this sort, and a form of a million waits asks for each.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain || !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let code = u32::from(c);
        let written = match c {
            _ if !is_deceptive(c) => {
                out.push(c);
                Ok(())
            }
            _ if code < 0x100 => write!(out, "\\x{code:02x}"),
            _ => write!(out, "\\u{{{code:x}}}"),
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    Cow::Owned(out)
}

/// Controls (C0, DEL, C1), the formats of Unicode's general category Cf that hide or turn text,
/// the line and paragraph separators, variation selectors, and the noncharacters at the end of
/// the basic plane (not allowed in XML).
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fffe}'..='\u{ffff}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::sanitize;
    use std::borrow::Cow;

    #[test]
    fn plain_text_is_left_alone() {
        let text = "claims::store::<impl Größe>::réserve \\ 予約";
        assert!(matches!(sanitize(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(sanitize("\x1b]0;pwned\x07"), "\\x1b]0;pwned\\x07");
        assert_eq!(sanitize("a\nb\tc\r\0"), "a\\x0ab\\x09c\\x0d\\x00");
        assert_eq!(sanitize("\u{9b}31m"), "\\x9b31m");
    }

    #[test]
    fn text_that_turns_or_hides_becomes_visible() {
        assert_eq!(sanitize("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(sanitize("a\u{200b}b\u{feff}"), "a\\u{200b}b\\u{feff}");
        assert_eq!(sanitize("\u{2066}x\u{2069}"), "\\u{2066}x\\u{2069}");
        assert_eq!(sanitize("\u{e0041}"), "\\u{e0041}");
    }
}
