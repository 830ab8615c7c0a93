//! What unwinding information may take to read.
//!
//! An entry of some bytes can state a row for each byte of the code, and as many entries as there
//! is room for can be about the same code: a file of 100 MiB takes a GiB of rows. So there is a
//! bound on what all modules that are read together may take.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that are in memory at once, of 8 bytes each. The largest programs have some millions.
const ROWS: u64 = 8 << 20;
/// Bytes of entries that are read. The largest programs have some tens of MiB.
const BYTES: u64 = 192 << 20;
/// Rows that are taken at a time.
const BLOCK: u64 = 4096;

/// What is left for all modules.
#[derive(Debug)]
pub struct Effort {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort {
            rows: AtomicU64::new(ROWS),
            bytes: AtomicU64::new(BYTES),
        }
    }
}

impl Effort {
    /// So many rows are in memory no more.
    pub fn give_back(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

fn take(from: &AtomicU64, count: u64) -> bool {
    let less = |left: u64| left.checked_sub(count);
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// What one module takes of it.
#[derive(Debug)]
pub(super) struct Share<'a> {
    of: &'a Effort,
    /// Rows that were taken.
    rows: u64,
    /// Whether anything was refused. Then everything is from there on.
    refused: bool,
}

impl<'a> Share<'a> {
    pub(super) const fn new(of: &'a Effort) -> Share<'a> {
        Share {
            of,
            rows: 0,
            refused: false,
        }
    }

    /// Whether there may be one more than these rows.
    pub(super) fn allows_row(&mut self, rows: usize) -> bool {
        if rows as u64 >= self.rows && !self.refused {
            self.refused = !take(&self.of.rows, BLOCK);
            self.rows += if self.refused { 0 } else { BLOCK };
        }
        !self.refused
    }

    /// Whether there may be an index of so many entries, each of which is as long as a row.
    pub(super) fn allows_index(&mut self, entries: u64) -> bool {
        take(&self.of.rows, entries)
    }

    /// Whether so many bytes may be read.
    pub(super) fn allows_bytes(&mut self, bytes: u64) -> bool {
        self.refused |= !take(&self.of.bytes, bytes);
        !self.refused
    }

    /// So many rows are kept, and nothing is taken any more. Returns whether anything was refused.
    pub(super) fn keep(self, rows: usize) -> bool {
        let kept = (rows as u64).min(self.rows);
        self.of.give_back(self.rows - kept);
        self.refused
    }
}
