//! What can go wrong with a child process: a sentence for whoever reads the output.

use std::fmt;

/// The sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Error {
        Error(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The live tests have sentences for errors.
impl From<Error> for String {
    fn from(error: Error) -> String {
        error.0
    }
}
