//! Reading a capture as the last whole transaction left it, see [`super::pages`].

use super::error::{Error, Result};
use super::pages::{PAGE, PAGE_BYTES, Trailer, pages_in_header, read_exact_at};
use super::vfs::PageStore;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What every SQLite database begins with.
const SQLITE: &[u8; 16] = b"SQLite format 3\0";

/// Pages that a capture may have: 1 TiB of them.
const MAX_PAGES: u32 = 1 << 28;

/// The pages of a file that is only read.
#[derive(Debug)]
pub(super) struct CommittedStore {
    file: File,
    pages: u32,
    /// Pages that are to be read from elsewhere in the file.
    moved: HashMap<u32, u64>,
}

/// What stands in the first page of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// `application_id`: whose database it is.
    pub(super) application: u32,
    /// `user_version`: the version of its schema.
    pub(super) version: u32,
}

impl CommittedStore {
    /// Looks at the beginning and the end of a regular file.
    ///
    /// # Errors
    /// Where it is none, or it is not an SQLite database, or one in another form.
    pub(super) fn open(file: File) -> Result<(CommittedStore, Stamp)> {
        let metadata = file.metadata().map_err(Error::Read)?;
        if metadata.is_dir() {
            return Err(Error::Read(io::Error::from_raw_os_error(libc::EISDIR)));
        }
        if !metadata.is_file() {
            return Err(Error::NoFile);
        }
        let size = metadata.len();
        if size == 0 {
            return Err(Error::Empty);
        }
        let trailer = Trailer::find(&file, size).map_err(Error::Read)?;
        let mut moved = HashMap::new();
        if let Some(trailer) = &trailer {
            for (&number, image) in trailer.changed.iter().zip(0..) {
                moved.insert(number, trailer.images() + image * PAGE_BYTES);
            }
        }
        let mut store = CommittedStore {
            file,
            pages: u32::try_from(size.div_ceil(PAGE_BYTES)).unwrap_or(MAX_PAGES),
            moved,
        };
        let mut first = [0; PAGE];
        let len = store.read(&mut first, 0).map_err(Error::Read)?;
        let stamp = stamp(first.get(..len).unwrap_or_default())?;
        if let Some(pages) = pages_in_header(&first) {
            // A page that is not all there is none.
            if u64::from(pages) > size / PAGE_BYTES {
                return Err(Error::CutOff);
            }
            store.pages = pages;
        }
        if store.pages >= MAX_PAGES {
            return Err(Error::damaged("it is too large"));
        }
        Ok((store, stamp))
    }
}

/// Reads the header of a database; see "The Database Header" in SQLite's file format.
fn stamp(first: &[u8]) -> Result<Stamp> {
    if !first.starts_with(SQLITE) {
        return Err(Error::NotSqlite);
    }
    let word = |at: usize| {
        let bytes = first.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_be_bytes)
    };
    let (Some(application), Some(version)) = (word(68), word(60)) else {
        return Err(Error::CutOff);
    };
    Ok(Stamp {
        application,
        version,
    })
}

/// Whether a database, once found to be ours, is in the form that we write.
pub(super) fn check_form(store: &mut CommittedStore) -> Result<()> {
    let mut header = [0; 100];
    if store.read(&mut header, 0).map_err(Error::Read)? < header.len() {
        return Err(Error::CutOff);
    }
    let page = header.get(16..18).and_then(|b| b.try_into().ok());
    if page.map(u16::from_be_bytes) != Some(PAGE as u16) {
        return Err(Error::damaged("its pages have another size"));
    }
    // 2 stands for a log beside the file, which we never have.
    if header.get(18..20) != Some(&[1, 1]) {
        return Err(Error::damaged("it was changed to be written with a log"));
    }
    Ok(())
}

impl PageStore for CommittedStore {
    fn read(&mut self, buf: &mut [u8], from: u64) -> io::Result<usize> {
        let end = u64::from(self.pages) * PAGE_BYTES;
        let len = usize::try_from(end.saturating_sub(from)).map_or(buf.len(), |n| n.min(buf.len()));
        let buf = buf.get_mut(..len).unwrap_or_default();
        let number = u32::try_from(from / PAGE_BYTES).unwrap_or(u32::MAX);
        let within = from % PAGE_BYTES;
        match self.moved.get(&number) {
            // Within one page.
            Some(&image) if within + len as u64 <= PAGE_BYTES => {
                read_exact_at(&self.file, buf, image + within)?;
                Ok(len)
            }
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => read_up_to(&self.file, buf, from),
        }
    }

    fn write(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn commit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.pages) * PAGE_BYTES)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(file: &File, buf: &mut [u8], from: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
