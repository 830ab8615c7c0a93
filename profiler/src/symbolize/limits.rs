//! How long names may be, and for how long a module may be read.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Longest name or path that is kept, in bytes. Of a longer one the beginning is shown. Generic
/// Rust code has names of some thousand bytes.
pub(super) const MAX_NAME: usize = 16 << 10;

/// Longest symbol that is demangled, in bytes.
pub(super) const MAX_SYMBOL: usize = 64 << 10;

/// Longest name in a program whose names take [`MAX_NAMES`] already.
pub(super) const SHORT_NAME: usize = 256;

/// Bytes of names that are kept at their full length.
pub(super) const MAX_NAMES: usize = 32 << 20;

/// CPU time that the names of one module may take, and its source lines as much again. A program
/// of some hundred MiB takes a few tenths of a second on a slow machine.
pub(super) const MODULE_TIME: Duration = Duration::from_millis(1500);

/// CPU time that the names of all modules may take together which need more than [`MODEST_TIME`]
/// each, and their source lines as much again.
const ALL_TIME: Duration = Duration::from_secs(3);

/// CPU time that a module has in any case.
const MODEST_TIME: Duration = Duration::from_millis(50);

/// CPU time that all modules took together, for names or for source lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TotalTime(Duration);

impl TotalTime {
    /// A module that had taken `before` has taken `now`.
    pub(super) fn add(&mut self, before: Duration, now: Duration) {
        // What a module takes while it is modest is nobody's to pay for.
        let over = |time: Duration| time.saturating_sub(MODEST_TIME);
        self.0 += over(now).saturating_sub(over(before));
    }

    /// What one module may take.
    pub(super) fn module(self) -> Duration {
        if self.0 > ALL_TIME {
            MODEST_TIME
        } else {
            MODULE_TIME
        }
    }
}

/// A name of at most `most` bytes; a longer one loses its end, and shows that.
pub(super) fn cut(name: &str, most: usize) -> Cow<'_, str> {
    if name.len() <= most {
        return Cow::Borrowed(name);
    }
    let end = name.floor_char_boundary(most.saturating_sub(END.len()));
    let mut short = name.get(..end).unwrap_or_default().to_owned();
    short.push_str(END);
    Cow::Owned(short)
}

/// What shows that a name goes on.
const END: &str = "…";

/// A text that ends by itself at [`MAX_NAME`]: whoever writes to it gets an error there, which
/// ends a demangler that would go on for megabytes.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    /// What `write` writes, or as much of it as a name may have; none where it fails.
    pub(super) fn written(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> Option<String> {
        let mut text = Bounded::default();
        let written = write(&mut text);
        (written.is_ok() || text.is_full()).then(|| text.into_text())
    }

    /// What was written, as [`cut`] has it.
    pub(super) fn into_text(mut self) -> String {
        if self.full {
            let end = self.text.floor_char_boundary(MAX_NAME - END.len());
            self.text.truncate(end);
            self.text.push_str(END);
        }
        self.text
    }

    /// Whether there was more.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = (MAX_NAME + 1).saturating_sub(self.text.len());
        let end = s.floor_char_boundary(room);
        self.text.push_str(s.get(..end).unwrap_or_default());
        self.full |= self.text.len() > MAX_NAME || end < s.len();
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fmt::Write;

    #[test]
    fn who_took_all_the_time_leaves_the_modest_theirs() {
        let mut total = TotalTime::default();
        for _ in 0..1000 {
            total.add(Duration::ZERO, MODEST_TIME);
        }
        assert_eq!(total.module(), MODULE_TIME);
        for _ in 0..3 {
            total.add(MODEST_TIME, MODULE_TIME);
        }
        assert_eq!(total.module(), MODEST_TIME);
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut("ä", MAX_NAME), "ä");
        let exact = "x".repeat(MAX_NAME);
        assert!(matches!(cut(&exact, MAX_NAME), Cow::Borrowed(_)));
        for long in ["x".repeat(MAX_NAME + 1), "ä".repeat(MAX_NAME)] {
            let short = cut(&long, MAX_NAME);
            assert!(
                short.len() <= MAX_NAME && short.ends_with(END),
                "{}",
                short.len()
            );
        }
    }

    #[test]
    fn a_bounded_text_refuses_what_is_too_much() {
        let mut text = Bounded::default();
        for _ in 0..MAX_NAME {
            text.write_str("x").expect("room");
        }
        assert!(!text.is_full());
        assert!(text.write_str("ä").is_err());
        assert!(text.is_full());
        let text = text.into_text();
        assert!(text.len() <= MAX_NAME && text.ends_with(END));
        let mut other = Bounded::default();
        assert!(other.write_str(&"ä".repeat(MAX_NAME)).is_err());
        assert!(other.into_text().len() <= MAX_NAME);
    }
}
