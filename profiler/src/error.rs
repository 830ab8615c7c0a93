//! The one error type of the command line: what failed, why, and what to try next.

use std::error::Error as StdError;
use std::fmt;

/// The result of anything that may end the program with a message.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How `holdup` ends. The numbers are an interface: scripts and continuous integration read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well; also after a first Ctrl-C, and when the reader of standard output left.
    Success = 0,
    /// Something failed.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The target holds no tokio runtime.
    NoRuntime = 3,
    /// The kernel lacks what holdup needs (`EX_UNAVAILABLE` of `sysexits.h`).
    Unsupported = 69,
    /// Not permitted (`EX_NOPERM` of `sysexits.h`).
    Permission = 77,
    /// A second Ctrl-C: ended at once, without a report (128 + `SIGINT`).
    Interrupted = 130,
}

impl Exit {
    /// The number for the shell.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

/// An error on its way to the user.
///
/// The texts are raw: whoever prints them escapes them, since they may quote what the target
/// chose (names, paths, arguments).
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that ends the program with [`Exit::Failure`]. `message` says what failed, in
    /// one line without a full stop.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Error {
        Error {
            exit: Exit::Failure,
            message: message.into(),
            details: Vec::new(),
            hint: None,
            source: None,
        }
    }

    /// A command line that makes no sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(message).exit(Exit::Usage)
    }

    /// A kernel that lacks something.
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(message).exit(Exit::Unsupported)
    }

    /// A missing permission.
    #[must_use]
    pub fn permission(message: impl Into<String>) -> Error {
        Error::new(message).exit(Exit::Permission)
    }

    /// Ends the program with `exit` instead.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Error {
        self.exit = exit;
        self
    }

    /// Why it failed.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The one command (or change) to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// A line to print below the message, such as one candidate of several.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Error {
        self.details.push(line.into());
        self
    }

    /// How the program ends if nobody handles this.
    #[must_use]
    pub fn exit_status(&self) -> Exit {
        self.exit
    }

    /// The lines below the message.
    #[must_use]
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// What to try next.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and every cause, joined by `: ` in one line.
    #[must_use]
    pub fn chain(&self) -> String {
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
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => {
                let message = error.to_string();
                let mut causes = error.chain().skip(1).map(ToString::to_string).peekable();
                let converted = Error::new(message);
                if causes.peek().is_none() {
                    return converted;
                }
                converted.because(causes.collect::<Vec<_>>().join(": "))
            }
        }
    }
}

/// `text` as a shell takes it for one word, for the commands in hints.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/=:,@+%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(shell_word("claims_api"), "claims_api");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
        assert_eq!(shell_word(""), "''");
    }

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
    fn an_error_keeps_its_exit_and_hint_through_anyhow() {
        let error = anyhow::Error::new(Error::permission("no").hint("sudo holdup"));
        let error = Error::from(error);
        assert_eq!(error.exit_status(), Exit::Permission);
        assert_eq!(error.suggestion(), Some("sudo holdup"));
    }

    #[test]
    fn a_foreign_error_keeps_its_causes() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(Error::from(error).chain(), "outer: inner");
    }
}
