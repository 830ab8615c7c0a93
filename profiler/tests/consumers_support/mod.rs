//! The programs that the tests give holdup's files to, and the files.

pub(crate) mod files;
pub(crate) mod firefox;
pub(crate) mod programs;
