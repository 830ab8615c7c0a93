//! What `holdup list` found, as JSON.

use crate::report::list::Listing;
use std::io;

/// Writes JSON: one object, its members always in the same order. Members are added without notice.
///
/// # Errors
/// Those of writing to `out`.
pub fn json(listing: &Listing, out: &mut dyn io::Write) -> io::Result<()> {
    super::json::write(listing, out)
}
