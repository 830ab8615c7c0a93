//! Writing a capture: each transaction as a whole, see [`super::pages`].

use super::pages::{Checksum, LockFor, Locked, PAGE, PAGE_BYTES, Trailer, read_exact_at};
use super::vfs::PageStore;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For how long whoever reads the file is waited for. After that the file changes under its eyes:
/// nobody may hold up a recording by reading it.
const PATIENCE: Duration = Duration::from_secs(5);

type Page = Box<[u8; PAGE]>;

/// Why the file could not be written, which SQLite does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    /// The last one, once.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: &io::Error) {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
    }
}

/// A new file, which nobody else writes to.
#[derive(Debug)]
pub(super) struct CommitStore {
    file: File,
    /// Pages that are in the file for good.
    committed: u32,
    /// Pages of the database with the transaction under way.
    pages: u32,
    /// What the transaction under way has written.
    pending: BTreeMap<u32, Page>,
    /// Whether changed pages could not be put in their places. They are behind the end, and have to
    /// stay there.
    broken: bool,
    failure: Failure,
    /// How many changes of the file are left until we are killed.
    #[cfg(test)]
    left: Option<u32>,
}

impl CommitStore {
    /// A database in `file`, which is empty, readable and writable.
    pub(super) fn new(file: File, failure: Failure) -> CommitStore {
        CommitStore {
            file,
            committed: 0,
            pages: 0,
            pending: BTreeMap::new(),
            broken: false,
            failure,
            #[cfg(test)]
            left: None,
        }
    }

    fn commit_all(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let pages = std::mem::replace(&mut self.pages, self.committed);
        if self.broken || pages < self.committed {
            return Err(io::Error::other(
                "the capture cannot be written to any more",
            ));
        }
        let (mut changed, mut appended) = (Vec::new(), Vec::new());
        for (number, page) in pending {
            if number >= pages {
                continue;
            }
            if number >= self.committed {
                appended.push((number, page));
            } else if !self.is_there(number, &page)? {
                changed.push((number, page));
            }
        }
        if changed.is_empty() && appended.is_empty() {
            return Ok(());
        }
        let committed = u64::from(self.committed) * PAGE_BYTES;
        // What a transaction left that failed.
        self.cut(committed)?;
        let written = self.write_all(pages, &changed, &appended);
        if written.is_err() {
            let _ = self.cut(committed);
        }
        written?;
        self.broken = true;
        self.put_in_place(&changed, pages)?;
        self.broken = false;
        (self.committed, self.pages) = (pages, pages);
        Ok(())
    }

    /// Everything that changes nothing of the committed pages.
    fn write_all(
        &mut self,
        pages: u32,
        changed: &[(u32, Page)],
        appended: &[(u32, Page)],
    ) -> io::Result<()> {
        // Without a first page there is no database: nobody takes half of one for a whole.
        for (number, page) in appended.iter().rev() {
            self.put(&page[..], offset(*number))?;
        }
        let Some((0, _)) = changed.first() else {
            return match self.committed {
                0 => Ok(()),
                _ => Err(io::Error::other("a transaction that is not counted")),
            };
        };
        let mut first = [0; PAGE];
        read_exact_at(&self.file, &mut first, 0)?;
        let trailer = Trailer {
            pages,
            first_page_before: Checksum::of(&first),
            changed: changed.iter().map(|(number, _)| *number).collect(),
        };
        let mut sum = Checksum::default();
        let mut at = trailer.images();
        for (_, page) in changed {
            sum.add(&page[..]);
            self.put(&page[..], at)?;
            at += PAGE_BYTES;
        }
        self.put(&trailer.encode(sum.0), at)
    }

    /// The changed pages to their places. From here on the transaction is done, whatever comes.
    fn put_in_place(&mut self, changed: &[(u32, Page)], pages: u32) -> io::Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let _lock = Locked::get(&self.file, LockFor::Writing, PATIENCE);
        // The first page comes first: by it, others see that the file changes under their eyes.
        for (number, page) in changed {
            self.put(&page[..], offset(*number))?;
        }
        // While the file is locked: whoever reads by the trailer would find the next transaction in
        // its place. If it stays, it says what the pages say.
        let _ = self.cut(offset(pages));
        Ok(())
    }

    /// Writes to the file.
    fn put(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.live()?;
        self.file.write_all_at(bytes, at)
    }

    /// Cuts the file off.
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.live()?;
        self.file.set_len(len)
    }

    /// Fails once a test has killed us.
    #[cfg_attr(not(test), expect(clippy::unused_self, clippy::unnecessary_wraps))]
    fn live(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::Interrupted)?;
        }
        Ok(())
    }

    /// Whether a page is in the file as it is to be.
    fn is_there(&self, number: u32, page: &[u8; PAGE]) -> io::Result<bool> {
        let mut there = [0; PAGE];
        read_exact_at(&self.file, &mut there, offset(number))?;
        Ok(there == *page)
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.failure.set(error))
    }
}

fn offset(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES
}

impl PageStore for CommitStore {
    fn read(&mut self, buf: &mut [u8], from: u64) -> io::Result<usize> {
        let end = u64::from(self.pages) * PAGE_BYTES;
        let len = usize::try_from(end.saturating_sub(from)).map_or(buf.len(), |n| n.min(buf.len()));
        let buf = buf.get_mut(..len).unwrap_or_default();
        let number = (from / PAGE_BYTES) as u32;
        let within = (from % PAGE_BYTES) as usize;
        // SQLite reads a page at most.
        if let Some(page) = self.pending.get(&number) {
            let Some(part) = page.get(within..within + len) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            buf.copy_from_slice(part);
            return Ok(len);
        }
        self.noted(read_exact_at(&self.file, buf, from))?;
        Ok(len)
    }

    fn write(&mut self, buf: &[u8], at: u64) -> io::Result<()> {
        let page: Result<[u8; PAGE], _> = buf.try_into();
        let (Ok(page), Ok(number)) = (page, u32::try_from(at / PAGE_BYTES)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !at.is_multiple_of(PAGE_BYTES) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.pending.insert(number, Box::new(page));
        self.pages = self.pages.max(number.saturating_add(1));
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let pages = u32::try_from(size.div_ceil(PAGE_BYTES));
        self.pages = pages.map_err(|_| io::ErrorKind::InvalidInput)?;
        self.pending.retain(|number, _| *number < self.pages);
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        let done = self.commit_all();
        self.noted(done)
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.pages) * PAGE_BYTES)
    }
}

impl Drop for CommitStore {
    /// Nothing but the database is left.
    fn drop(&mut self) {
        if !self.broken {
            let _ = self.cut(u64::from(self.committed) * PAGE_BYTES);
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
