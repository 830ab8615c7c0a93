//! Text that fits.

use super::look::Look;
use crate::render::sanitize;
use crate::report::{Report, Site};
use crate::units::Pid;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` within `columns`, its end left out if it is longer.
pub(super) fn cut_end(text: &str, columns: usize, look: Look) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let sign = look.ellipsis();
    let room = columns.saturating_sub(width(sign));
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    if columns >= width(sign) {
        kept.push_str(sign);
    }
    kept
}

/// `text` within `columns`, its beginning left out if it is longer: the end of a function's name says
/// most.
pub(super) fn cut_start(text: &str, columns: usize, look: Look) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let sign = look.ellipsis();
    let room = columns.saturating_sub(width(sign));
    let mut kept: Vec<char> = Vec::new();
    let mut used = 0;
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    let tail: String = kept.into_iter().rev().collect();
    if columns >= width(sign) {
        format!("{sign}{tail}")
    } else {
        tail
    }
}

/// `text` at the left of `columns`.
pub(super) fn left(text: &str, columns: usize, look: Look) -> String {
    let text = cut_end(text, columns, look);
    let pad = columns.saturating_sub(width(&text));
    format!("{text}{}", " ".repeat(pad))
}

/// `text` at the right of `columns`.
pub(super) fn right(text: &str, columns: usize, look: Look) -> String {
    let text = cut_end(text, columns, look);
    let pad = columns.saturating_sub(width(&text));
    format!("{}{text}", " ".repeat(pad))
}

/// In ASCII, where the terminal shows no more: units and what the target's names have.
pub(super) fn plain(text: &str, look: Look) -> String {
    if !look.ascii {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => out.push(c),
            'µ' => out.push('u'),
            '…' => out.push_str(".."),
            '·' | '–' | '─' => out.push('-'),
            '│' => out.push('|'),
            '≥' => out.push_str(">="),
            _ => out.push('?'),
        }
    }
    out
}

/// `claims_api (4711)`, escaped; none where there is one process only.
pub(super) fn process(report: &Report, pid: Pid) -> Option<String> {
    let process = report.targets.iter().find(|process| process.pid == pid)?;
    let name = || format!("{} ({pid})", sanitize(process.exe_name()));
    (report.targets.len() > 1).then(name)
}

/// `store.rs:88`, escaped: the last two parts of the path.
pub(super) fn place(site: &Site) -> Option<String> {
    let file = sanitize(site.file.as_deref()?).into_owned();
    let mut parts = file.rsplit('/');
    let (last, before) = (parts.next()?, parts.next());
    let short = match before {
        Some(before) => format!("{before}/{last}"),
        None => last.to_owned(),
    };
    Some(match site.line {
        Some(line) => format!("{short}:{line}"),
        None => short,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        color: false,
        ascii: false,
    };

    #[test]
    fn what_is_cut_fits() {
        assert_eq!(cut_end("tokio-rt-worker", 8, LOOK), "tokio-r…");
        assert_eq!(cut_start("claims::store::reserve", 10, LOOK), "…::reserve");
        assert_eq!(cut_start("予約予約", 4, LOOK), "…約");
        assert_eq!(cut_end("予約", 0, LOOK), "");
        assert_eq!(left("ab", 4, LOOK), "ab  ");
        assert_eq!(right("ab", 4, LOOK), "  ab");
        let ascii = Look {
            ascii: true,
            ..LOOK
        };
        assert_eq!(cut_end("tokio-rt-worker", 8, ascii), "tokio-..");
        assert_eq!(plain("81.0 µs 名", ascii), "81.0 us ?");
    }
}
