//! Messages on standard error.

use super::error::Error;
use super::escape::printable;
use super::held_log::HeldLog;
use super::settings::ConsoleSettings;
use crate::render;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const FRAMES: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠧", "⠇", "⠏"];
const ASCII_FRAMES: [&str; 4] = ["|", "/", "-", "\\"];
/// Longer lines might wrap, and could not be drawn over.
const LINE: usize = 76;
/// How often the spinner is drawn over.
pub(crate) const SPIN: Duration = Duration::from_millis(125);

/// Standard error. Whatever is said goes through the escape, since it may quote names that the
/// target chose. A standard error that nobody reads is no failure.
#[derive(Debug)]
pub(crate) struct Progress {
    settings: ConsoleSettings,
}

impl Progress {
    pub(crate) fn new(settings: ConsoleSettings) -> Progress {
        Progress { settings }
    }

    /// One line, unless `-q`.
    pub(crate) fn say(&self, text: &str) {
        if !self.settings.quiet {
            let _ = writeln!(HeldLog, "{}", self.shown(text));
        }
    }

    /// The text as the terminal can show it.
    fn shown(&self, text: &str) -> String {
        let text = printable(text);
        if self.settings.ascii {
            render::in_ascii(&text)
        } else {
            text.into()
        }
    }

    /// One line also under `-q`: what was found is what somebody asked to be told.
    pub(crate) fn fail(&self, text: &str) {
        let _ = writeln!(io::stderr(), "holdup: fail: {}", self.shown(text));
    }

    /// One line also under `-q`: something went wrong that does not end the program.
    pub(crate) fn error(&self, error: &Error) {
        let mut text = error_text(error, self.settings.color);
        if self.settings.ascii {
            text = render::in_ascii(&text);
        }
        let _ = HeldLog.write_all(text.as_bytes());
    }

    /// Whether [`Progress::spin`] draws anything.
    pub(crate) fn has_spinner(&self) -> bool {
        self.settings.spinner
    }

    /// Draws the `step`th picture of the spinner over the last, and `text` after it.
    pub(crate) fn spin(&self, step: usize, text: &str) {
        if self.settings.spinner {
            let frames: &[&str] = if self.settings.ascii {
                &ASCII_FRAMES
            } else {
                &FRAMES
            };
            let frame = frames.get(step % frames.len()).copied().unwrap_or_default();
            let mut err = io::stderr();
            // What is left of a longer text is erased (ECMA-48 EL).
            let text: String = self.shown(text).chars().take(LINE).collect();
            let _ = write!(err, "\r{frame} {text}\x1b[K");
            let _ = err.flush();
        }
    }

    /// Takes the spinner away.
    pub(crate) fn clear(&self) {
        if self.settings.spinner {
            // Carriage return, and erase to the end of the line (ECMA-48 EL).
            let _ = write!(HeldLog, "\r\x1b[K");
        }
    }
}

/// The error as it stands on standard error, with its last newline.
pub(crate) fn error_text(error: &Error, color: bool) -> String {
    let (red, bold, plain) = if color {
        ("\x1b[1;31m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = format!("holdup: {red}error:{plain} {}\n", printable(&error.chain()));
    for line in error.details() {
        text.push_str(&format!("  {}\n", printable(line)));
    }
    if let Some(hint) = error.suggestion() {
        text.push_str(&format!("  {bold}try:{plain} {}\n", printable(hint)));
    }
    text
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cannot_forge_lines_or_colors() {
        let error = Error::new("no process is called \x1b[31mx\nholdup: error: y")
            .because(io::Error::other("why\r"))
            .detail("12  a\x1b]0;title\x07")
            .hint("pgrep\tx");
        assert_eq!(
            error_text(&error, false),
            "holdup: error: no process is called \\u{1b}[31mx\\nholdup: error: y: why\\r\n  \
             12  a\\u{1b}]0;title\\u{7}\n  try: pgrep\\tx\n"
        );
    }

    #[test]
    fn colors_only_where_asked() {
        let error = Error::new("x").hint("y");
        assert_eq!(error_text(&error, false), "holdup: error: x\n  try: y\n");
        assert!(error_text(&error, true).contains("\x1b[1;31merror:\x1b[0m x\n"));
    }
}
