//! The error type of the command line: what failed, why, and what to try next. The rooms have
//! errors of their own; [`super::hint`] turns them into this one.

use super::exit::Exit;
use std::error::Error as StdError;
use std::fmt;

/// The result of anything that may end the program with a message.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error on its way to the user.
///
/// The texts are raw: whoever prints them escapes them, since they may quote what the target
/// chose (names, paths, arguments).
#[derive(Debug)]
pub(crate) struct Error {
    exit: Exit,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that ends the program with [`Exit::Failure`]. `message` says what failed, in
    /// one line without a full stop.
    pub(crate) fn new(message: impl Into<String>) -> Error {
        Error {
            exit: Exit::Failure,
            message: message.into(),
            details: Vec::new(),
            hint: None,
            source: None,
        }
    }

    /// An error of a room: its message, and why, as far as its sources tell.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Error {
        let plain = Error::new(error.to_string());
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        if causes.is_empty() {
            return plain;
        }
        plain.because(causes.join(": "))
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Error {
        Error::new(message).exit(Exit::Usage)
    }

    /// Ends the program with `exit` instead.
    pub(crate) fn exit(mut self, exit: Exit) -> Error {
        self.exit = exit;
        self
    }

    /// Why it failed.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The one command (or change) to try next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same, where there is one.
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Error {
        self.hint = hint.or(self.hint);
        self
    }

    /// A line to print below the message, such as one candidate of several.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Error {
        self.details.push(line.into());
        self
    }

    /// How the program ends if nobody handles this.
    pub(crate) fn exit_status(&self) -> Exit {
        self.exit
    }

    /// The lines below the message.
    pub(crate) fn details(&self) -> &[String] {
        &self.details
    }

    /// What to try next.
    pub(crate) fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and every cause, joined by `: ` in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Many error types already print their source: do not say it twice.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        Error::of(error.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let io = std::io::Error::from_raw_os_error(libc::ENOENT);
        let error = Error::new("cannot open the thing").because(Error::new("middle").because(io));
        assert_eq!(
            error.chain(),
            "cannot open the thing: middle: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_foreign_error_keeps_its_causes() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(Error::from(error).chain(), "outer: inner");
    }
}
