//! Lines of known width: what terminals show, not bytes, decides what fits.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` within `columns`, its beginning replaced by `…` if it is longer: the end of a path
/// and of a function's name says most.
pub(super) fn cut_left(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = text;
    while width(kept) + 1 > columns {
        let mut chars = kept.chars();
        if chars.next().is_none() {
            break;
        }
        kept = chars.as_str();
    }
    format!("…{kept}")
}

/// As [`cut_left`], but what comes before a path stays: `file-io: fsync fd 9 …/claims.db`.
pub(super) fn cut_path(text: &str, columns: usize) -> String {
    let (before, path) = text.split_at(text.find('/').unwrap_or(0));
    let room = columns.saturating_sub(width(before));
    if width(text) <= columns || room < columns / 3 {
        cut_left(text, columns)
    } else {
        format!("{before}{}", cut_left(path, room))
    }
}

/// `text` within `columns`, its end replaced by `…` if it is longer.
pub(super) fn cut_right(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// `text` broken at spaces into lines of at most `columns`; a longer word has a line to itself.
/// The spaces of `1.24 s` and `41 %` do not break.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut lines = vec![String::new()];
    let mut index = 0;
    while let Some(&word) = words.get(index) {
        let mut chunk = word.to_owned();
        index += 1;
        let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || c == '<');
        while let Some(&unit) = words.get(index).filter(|next| is_unit(next)) {
            if !number(&chunk) {
                break;
            }
            chunk.push(' ');
            chunk.push_str(unit);
            index += 1;
        }
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            *last = chunk;
        } else if width(last) + 1 + width(&chunk) <= columns {
            last.push(' ');
            last.push_str(&chunk);
        } else {
            lines.push(chunk);
        }
    }
    lines
}

fn is_unit(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ',', ';', ':', ')']);
    matches!(word, "ns" | "µs" | "ms" | "s" | "min" | "h" | "%")
}

/// A line in the making.
#[derive(Clone, Debug)]
pub(super) struct Line {
    text: String,
    width: usize,
    color: bool,
}

impl Line {
    /// An empty line, coloured or not.
    pub(super) const fn new(color: bool) -> Line {
        Line {
            text: String::new(),
            width: 0,
            color,
        }
    }

    /// Columns so far.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Appends `text` in `style`.
    pub(super) fn push(&mut self, style: Style, text: &str) -> &mut Line {
        self.width += width(text);
        if text.is_empty() {
            return self;
        }
        if self.color && style != Style::new() {
            self.text.push_str(&style.render().to_string());
            self.text.push_str(text);
            self.text.push_str(&style.render_reset().to_string());
        } else {
            self.text.push_str(text);
        }
        self
    }

    /// Appends `text` at the right of a column of `columns`.
    pub(super) fn push_right(&mut self, style: Style, text: &str, columns: usize) -> &mut Line {
        let pad = columns.saturating_sub(width(text));
        self.push(Style::new(), &" ".repeat(pad)).push(style, text)
    }

    /// Fills up with spaces to `column`.
    pub(super) fn pad_to(&mut self, column: usize) -> &mut Line {
        let pad = column.saturating_sub(self.width);
        self.push(Style::new(), &" ".repeat(pad))
    }

    /// The line, without spaces at its end.
    pub(super) fn finish(&self) -> &str {
        self.text.trim_end_matches(' ')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstyle::AnsiColor;

    #[test]
    fn cuts_by_columns_and_not_by_bytes() {
        assert_eq!(cut_left("claims::store::reserve", 10), "…::reserve");
        assert_eq!(cut_left("予約::予約", 7), "…::予約");
        assert_eq!(cut_left("予約予約", 4), "…約");
        assert_eq!(cut_right("tokio-rt-worker", 8), "tokio-r…");
        assert_eq!(cut_right("予約予約", 4), "予…");
        assert_eq!(cut_right("é\u{301}é", 2), "é\u{301}é");
        assert_eq!(cut_left("short", 5), "short");
        assert_eq!(
            cut_path("read fd 9 /srv/claims.db", 24),
            "read fd 9 /srv/claims.db"
        );
        assert_eq!(
            cut_path("read fd 9 /srv/claims.db", 20),
            "read fd 9 …claims.db"
        );
        assert_eq!(cut_path("a long beginning /srv/x", 10), "…ng /srv/x");
        assert_eq!(cut_path("claims::store", 8), "…::store");
    }

    #[test]
    fn wraps_at_spaces_and_keeps_numbers_with_their_unit() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("took 1.24 s, then", 10), ["took", "1.24 s,", "then"]);
        assert_eq!(wrap("12 min 03 s more", 6), ["12 min", "03 s", "more"]);
        assert_eq!(wrap("verylongword", 4), ["verylongword"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn colours_take_no_columns() {
        let mut line = Line::new(true);
        line.push(AnsiColor::Red.on_default(), "ab").pad_to(4);
        line.push_right(Style::new(), "x", 3).pad_to(20);
        assert_eq!(line.width(), 20);
        assert_eq!(line.finish(), "\x1b[31mab\x1b[0m    x");
    }
}
