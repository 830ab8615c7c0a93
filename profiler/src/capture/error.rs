//! Why a capture cannot be read or written.

use super::schema::VERSION;
use std::io;

/// The result of reading or writing a capture.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read at all.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// A pipe, a device or the like.
    #[error("it is no regular file")]
    NoFile,
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// Something else altogether.
    #[error("it is no capture of holdup")]
    NotSqlite,
    /// A database that is not holdup's.
    #[error("it is a database of another program")]
    Foreign,
    /// A capture of a newer holdup.
    #[error(
        "it has version {0} of the capture format, and this holdup reads up to version {VERSION}"
    )]
    Newer(u32),
    /// The file ends too early.
    #[error("it is damaged: a part of it is missing at the end")]
    CutOff,
    /// What is in it cannot be.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The recording that writes it went on, and was not to be held up any longer.
    #[error("it changed while it was read")]
    Changed,
    /// More than a capture can have.
    #[error("there is too much in it: {0}")]
    TooMuch(String),
    /// It cannot be written.
    #[error("{0}")]
    Write(String, #[source] Option<io::Error>),
}

impl Error {
    /// Something in it cannot be.
    pub(super) fn damaged(what: impl Into<String>) -> Error {
        Error::Damaged(what.into())
    }
}

impl From<rusqlite::Error> for Error {
    /// Of reading.
    fn from(error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory | ErrorCode::TooBig) => {
                Error::TooMuch("SQLite has not the memory for it".into())
            }
            _ => Error::Damaged(error.to_string()),
        }
    }
}
