//! What `holdup dump` found, as JSON.

use crate::report::dump::Dump;
use std::io;

/// Writes JSON: one object, its members always in the same order; times are nanoseconds. Members are
/// added without notice.
///
/// # Errors
/// Those of writing to `out`.
pub fn json(dump: &Dump, out: &mut dyn io::Write) -> io::Result<()> {
    super::json::write(dump, out)
}
