//! What a capture that is read may hold. Nobody says that holdup wrote it.

use super::error::{Error, Result};

/// Rows of the tables of names: several times what a recording keeps.
pub(super) const MAX_PROCESSES: usize = 1 << 16;
pub(super) const MAX_THREADS: usize = 1 << 20;
pub(super) const MAX_FRAMES: usize = 1 << 20;
pub(super) const MAX_STACKS: usize = 1 << 19;
pub(super) const MAX_OBJECTS: usize = 1 << 18;
pub(super) const MAX_WAKERS: usize = 1 << 18;

/// Frames of all stacks together, of 8 bytes each.
pub(super) const MAX_STACK_FRAMES: usize = 1 << 23;

/// Rows of one interval in one table; a recording ends an interval before it has as many.
pub(super) const MAX_ROWS: usize = 1 << 20;

/// Bytes of text in all tables of names together.
const MAX_TEXT: usize = 256 << 20;

/// Bytes of one row.
pub(super) const MAX_ROW: i32 = 4 << 20;

/// Bytes that SQLite may take.
pub(super) const MAX_HEAP: i64 = 128 << 20;

/// The latest instant on the kernel's clock: 73 years after its start.
pub(super) const MAX_TIME: u64 = 1 << 61;

/// The sum of all times, and of all counts, in one column: sums of them must not overflow.
const MAX_SUM: u64 = 1 << 61;

/// What was read so far of something that has a bound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds a number out of the file.
    pub(super) fn add(&mut self, number: i64) -> Result<u64> {
        let number = u64::try_from(number).map_err(|_| Error::damaged("a negative number"))?;
        self.0 = self.0.saturating_add(number);
        if self.0 > MAX_SUM {
            return Err(Error::damaged("numbers that are too large"));
        }
        Ok(number)
    }
}

/// Text that was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text(usize);

impl Text {
    /// Adds a text.
    pub(super) fn add(&mut self, len: usize) -> Result<()> {
        self.0 = self.0.saturating_add(len);
        if self.0 > MAX_TEXT {
            return Err(Error::TooMuch("names".into()));
        }
        Ok(())
    }
}

/// Fails where a table has more rows than it may.
pub(super) fn at_most(rows: usize, most: usize, what: &str) -> Result<()> {
    if rows > most {
        return Err(Error::TooMuch(what.to_owned()));
    }
    Ok(())
}
