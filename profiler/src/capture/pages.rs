//! The pages of a capture: how a transaction gets into the file as a whole.
//!
//! SQLite's own ways need a file beside the database, a rollback journal or a log, in a directory that
//! may be somebody else's, and a copy of the database alone is then not sound. So the file has its own
//! way, and never needs another one. Pages are appended freely, since a reader looks only at as many
//! as the first page says there are. What a transaction changes of the others goes behind the end
//! first, with a trailer as the last page of the file:
//!
//! ```text
//! | committed pages | new pages | changed pages, once more | their numbers | trailer |
//! ```
//!
//! Only then it goes to its place. If we are killed before the trailer is whole, the committed pages
//! are as they were. After that, whoever reads by [`Trailer::find`] sees the new state, however many
//! pages came to their places. Any other program sees it once they all did: between the first and the
//! last lie some 50 microseconds a second, during which the file is locked as SQLite locks it. Before
//! the lock is given back, the part behind the end is cut off: the next transaction is written there,
//! and nobody may read by a trailer then.
//!
//! Nothing is synced before the end: a sync a second would hold up the disk of the machine that is
//! looked at. So a killed holdup loses at most the last interval, but a machine that loses its power
//! may lose the file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// The same for offsets.
pub(super) const PAGE_BYTES: u64 = PAGE as u64;

/// How the trailer begins.
const MAGIC: &[u8; 16] = b"holdup redo v1\0\0";

/// Pages that one transaction may have changed; 512 MiB of them.
const MAX_CHANGED: u32 = 1 << 17;

/// Where SQLite's locks lie, and how many bytes they take; see `PENDING_BYTE` in its source.
const LOCK_START: i64 = 0x4000_0000;
const LOCK_LEN: i64 = 512;

/// From one try to get the lock to the next.
const LOCK_GAP: Duration = Duration::from_millis(1);

/// What says that pages are to be taken from behind the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Pages of the database with this transaction.
    pub(super) pages: u32,
    /// Checksum of the first page as it was before.
    pub(super) first_page_before: u64,
    /// The numbers of the changed pages, from 0 on, ascending.
    pub(super) changed: Vec<u32>,
}

impl Trailer {
    /// Where the changed pages are, once more: behind the last page of the database.
    pub(super) fn images(&self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES
    }

    /// The list of numbers and the trailer itself, as they stand in the file. `sum` is that of the
    /// images.
    pub(super) fn encode(&self, sum: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.changed.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        let mut check = Checksum(sum);
        check.add(&bytes);
        let mut trailer = [0; PAGE];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            let end = at + part.len();
            if let Some(place) = trailer.get_mut(at..end) {
                place.copy_from_slice(part);
            }
            at = end;
        };
        put(MAGIC);
        put(&self.pages.to_le_bytes());
        put(&(self.changed.len() as u32).to_le_bytes());
        put(&self.first_page_before.to_le_bytes());
        check.add(trailer.get(..32).unwrap_or_default());
        let sum = check.0.to_le_bytes();
        if let Some(place) = trailer.get_mut(32..40) {
            place.copy_from_slice(&sum);
        }
        bytes.extend_from_slice(&trailer);
        bytes
    }

    /// The trailer at the end of a file of `size` bytes, if there is a whole one and it is still
    /// good: no other program has written to the database since.
    pub(super) fn find(file: &File, size: u64) -> io::Result<Option<Trailer>> {
        if !size.is_multiple_of(PAGE_BYTES) || size < 3 * PAGE_BYTES {
            return Ok(None);
        }
        let mut trailer = [0; PAGE];
        read_exact_at(file, &mut trailer, size - PAGE_BYTES)?;
        let word = |at: usize| {
            let bytes = trailer.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_le_bytes)
        };
        let long = |at: usize| {
            let bytes = trailer.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_le_bytes)
        };
        if !trailer.starts_with(MAGIC) {
            return Ok(None);
        }
        let (Some(pages), Some(count), Some(first_page_before), Some(sum)) =
            (word(16), word(20), long(24), long(32))
        else {
            return Ok(None);
        };
        let list = (u64::from(count) * 4).next_multiple_of(PAGE_BYTES);
        let images = u64::from(count) * PAGE_BYTES;
        let expected = u64::from(pages) * PAGE_BYTES + images + list + PAGE_BYTES;
        if count == 0 || count > MAX_CHANGED || expected != size {
            return Ok(None);
        }
        let mut check = Checksum::default();
        let mut image = [0; PAGE];
        let begin = u64::from(pages) * PAGE_BYTES;
        for n in 0..u64::from(count) {
            read_exact_at(file, &mut image, begin + n * PAGE_BYTES)?;
            check.add(&image);
        }
        let mut numbers = vec![0; list as usize];
        read_exact_at(file, &mut numbers, begin + images)?;
        check.add(&numbers);
        check.add(trailer.get(..32).unwrap_or_default());
        if check.0 != sum {
            return Ok(None);
        }
        let changed: Vec<u32> = numbers
            .chunks_exact(4)
            .take(count as usize)
            .filter_map(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)))
            .collect();
        let found = Trailer {
            pages,
            first_page_before,
            changed,
        };
        Ok(found.is_good(file)?.then_some(found))
    }

    /// Whether the first page is either as it was before the transaction, or as after it. Each
    /// transaction changes it.
    fn is_good(&self, file: &File) -> io::Result<bool> {
        let ascending = self.changed.is_sorted_by(|a, b| a < b);
        if self.changed.first() != Some(&0)
            || !ascending
            || self.changed.last() >= Some(&self.pages)
        {
            return Ok(false);
        }
        let (mut now, mut after) = ([0; PAGE], [0; PAGE]);
        read_exact_at(file, &mut now, 0)?;
        read_exact_at(file, &mut after, self.images())?;
        Ok(now == after || Checksum::of(&now) == self.first_page_before)
    }
}

/// FNV-1a over words of eight bytes: it is to find a part that was not written, and nothing more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum(pub(super) u64);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    /// That of some bytes.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        let mut sum = Checksum::default();
        sum.add(bytes);
        sum.0
    }

    /// Goes on with `bytes`, whose number is a multiple of eight.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let words = bytes
            .chunks_exact(8)
            .filter_map(|word| word.try_into().ok());
        for word in words.map(u64::from_le_bytes) {
            self.0 = (self.0 ^ word)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
    }
}

/// How many pages the first page of a database says there are; none where it does not know. See
/// "In-header database size" in SQLite's file format.
pub(super) fn pages_in_header(first_page: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        let bytes = first_page.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_be_bytes)
    };
    let is_known = word(24)? == word(92)?;
    word(28).filter(|&pages| is_known && pages > 0)
}

/// SQLite's counter of transactions, as it stands in the first page itself.
pub(super) fn counter_in_place(file: &File) -> io::Result<[u8; 4]> {
    let mut counter = [0; 4];
    read_exact_at(file, &mut counter, 24)?;
    Ok(counter)
}

/// Reads as much as `buf` has room for.
///
/// # Errors
/// `UnexpectedEof` where the file ends before that.
pub(super) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buf, offset)
}

/// A lock by which SQLite's programs keep out of each other's way. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Locked {
    file: File,
}

/// For what a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockFor {
    Reading,
    Writing,
}

impl Locked {
    /// Locks the file; none where others have it for all of `patience`, or it cannot be locked.
    pub(super) fn get(file: &File, purpose: LockFor, patience: Duration) -> Option<Locked> {
        // The same open file by another descriptor.
        let file = file.try_clone().ok()?;
        let kind = match purpose {
            LockFor::Reading => libc::F_RDLCK,
            LockFor::Writing => libc::F_WRLCK,
        };
        let begun = Instant::now();
        loop {
            match set_lock(&file, kind) {
                Ok(()) => return Some(Locked { file }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            if begun.elapsed() >= patience {
                return None;
            }
            std::thread::sleep(LOCK_GAP);
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // The end of the program gives it back as well.
        let _ = set_lock(&self.file, libc::F_UNLCK);
    }
}

/// By a lock of the open file and not of the process: another descriptor of ours that is closed takes
/// none away. See fcntl(2).
fn set_lock(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: zeros are a valid `flock`, and it is filled below.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = LOCK_START;
    lock.l_len = LOCK_LEN;
    // SAFETY: the descriptor is open, and the kernel only reads `lock`.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
