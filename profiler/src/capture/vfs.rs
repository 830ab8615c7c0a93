//! SQLite's way to a file: through a [`PageStore`] and no other. SQLite opens nothing by a name, so
//! that it makes no file beside the capture and follows no link.

use rusqlite::{Connection, OpenFlags, ffi};
use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the pages of a database are.
pub(super) trait PageStore: Send {
    /// Reads up to `buf.len()` bytes, fewer only at the end.
    fn read(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Takes in what is to stand at `offset` from the next [`PageStore::commit`] on.
    fn write(&mut self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts off what lies beyond `size` bytes, with the next [`PageStore::commit`].
    fn truncate(&mut self, size: u64) -> io::Result<()>;

    /// Makes everything since the last time stand in the file, or nothing of it.
    fn commit(&mut self) -> io::Result<()>;

    /// The size in bytes.
    fn size(&mut self) -> io::Result<u64>;
}

/// What the file of a connection is taken from.
type Slot = Mutex<Option<Box<dyn PageStore>>>;

/// A connection over a [`PageStore`].
pub(super) struct Opened {
    /// None only while this is dropped: it goes before what it reads by.
    connection: Option<Connection>,
    vfs: Registered,
}

impl Opened {
    /// Opens the database in `store`.
    pub(super) fn new(store: Box<dyn PageStore>, flags: OpenFlags) -> rusqlite::Result<Opened> {
        let vfs = Registered::new(store)?;
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let name = vfs.name.as_c_str();
        let connection = Connection::open_with_flags_and_vfs("capture", flags, name)?;
        Ok(Opened {
            connection: Some(connection),
            vfs,
        })
    }

    /// The connection.
    pub(super) fn connection(&self) -> rusqlite::Result<&Connection> {
        let gone = || rusqlite::Error::InvalidQuery;
        self.connection.as_ref().ok_or_else(gone)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opened").field(&self.vfs.name).finish()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.connection.take());
    }
}

/// A way to files that SQLite knows by its name as long as this lives.
struct Registered {
    name: CString,
    raw: *mut ffi::sqlite3_vfs,
    slot: *mut Slot,
}

// SAFETY: the pointers are to boxes of our own, which SQLite reads under its own mutex, and the
// slot is a mutex.
unsafe impl Send for Registered {}

impl Registered {
    fn new(store: Box<dyn PageStore>) -> rusqlite::Result<Registered> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("holdup-capture-{number}"))?;
        // SAFETY: null asks for the default one, which lives as long as the program.
        let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()).as_ref() };
        let system = system.ok_or(rusqlite::Error::InvalidQuery)?;
        let slot: *mut Slot = Box::into_raw(Box::new(Mutex::new(Some(store))));
        // The rest, such as the clock and random numbers, is the system's: none of these functions
        // looks into the structure that it is called with.
        let raw = Box::into_raw(Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<OpenFile>() as c_int,
            pNext: ptr::null_mut(),
            zName: name.as_ptr(),
            pAppData: slot.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            ..*system
        }));
        let registered = Registered { name, raw, slot };
        // SAFETY: `raw` and the name in it live until `registered` takes it back.
        match unsafe { ffi::sqlite3_vfs_register(raw, 0) } {
            ffi::SQLITE_OK => Ok(registered),
            code => Err(rusqlite::Error::SqliteFailure(
                ffi::Error::new(code),
                Some("cannot register a way to files".into()),
            )),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: it was registered, or SQLite does not know it and says so.
        unsafe { ffi::sqlite3_vfs_unregister(self.raw) };
        // SAFETY: both were made by `Box::into_raw` and are taken back once; no connection is left.
        drop(unsafe { (Box::from_raw(self.raw), Box::from_raw(self.slot)) });
    }
}

/// What SQLite keeps of an open file: its own part first.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// From `Box::into_raw`, taken back when the file is closed.
    store: *mut Box<dyn PageStore>,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Gives the one file there is. Journals and temporary files are not to be had: they are kept in
/// memory.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    _name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands us `szOsFile` bytes of its own, as aligned as `malloc` makes them.
    let file = unsafe { file.cast::<OpenFile>().as_mut() };
    // SAFETY: ours, with a slot that lives as long as it is registered.
    let slot = unsafe { vfs.as_ref().map(|vfs| vfs.pAppData.cast::<Slot>()) };
    // SAFETY: as above.
    let slot = slot.and_then(|slot| unsafe { slot.as_ref() });
    let (Some(file), Some(slot)) = (file, slot) else {
        return ffi::SQLITE_CANTOPEN;
    };
    file.base.pMethods = ptr::null();
    file.store = ptr::null_mut();
    if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
        return ffi::SQLITE_CANTOPEN;
    }
    let store = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(store) = store else {
        return ffi::SQLITE_CANTOPEN;
    };
    file.store = Box::into_raw(Box::new(store));
    file.base.pMethods = &raw const METHODS;
    // SAFETY: null, or to be written to.
    if let Some(out) = unsafe { out_flags.as_mut() } {
        *out = flags;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_IOERR_DELETE_NOENT
}

/// No other file is there: above all no journal that somebody put beside the capture.
unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    _: *const c_char,
    _: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: SQLite asks for an answer here.
    if let Some(result) = unsafe { result.as_mut() } {
        *result = 0;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    _: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    const NAME: &[u8] = b"capture\0";
    if room < NAME.len() as c_int || out.is_null() {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: there are `room` bytes, which is enough.
    unsafe { ptr::copy_nonoverlapping(NAME.as_ptr().cast(), out, NAME.len()) };
    ffi::SQLITE_OK
}

/// The store of a file that [`open`] opened.
unsafe fn store<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a mut Box<dyn PageStore>> {
    // SAFETY: SQLite calls the methods only with files that were opened, by one thread at a time.
    unsafe { file.cast::<OpenFile>().as_mut()?.store.as_mut() }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as in `store`.
    let file = unsafe { file.cast::<OpenFile>().as_mut() };
    if let Some(file) = file {
        file.base.pMethods = ptr::null();
        let store = std::mem::replace(&mut file.store, ptr::null_mut());
        if !store.is_null() {
            // SAFETY: from `Box::into_raw`, and taken out of the file.
            drop(unsafe { Box::from_raw(store) });
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: SQLite has room for `len` bytes there, which it does not use meanwhile.
    let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
    // SAFETY: called by SQLite with one of our files.
    let Some(store) = (unsafe { store(file) }) else {
        return ffi::SQLITE_IOERR_READ;
    };
    match store.read(buf, offset) {
        Ok(n) if n >= len => ffi::SQLITE_OK,
        Ok(n) => {
            // What is not there reads as zeros, or SQLite would take old bytes for the file's.
            buf.iter_mut().skip(n).for_each(|byte| *byte = 0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buf: *const c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite has `len` bytes there, which nobody writes to meanwhile.
    let buf = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len) };
    // SAFETY: called by SQLite with one of our files.
    let store = unsafe { store(file) };
    code(
        store.map(|store| store.write(buf, offset)),
        ffi::SQLITE_IOERR_WRITE,
    )
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let Ok(size) = u64::try_from(size) else {
        return ffi::SQLITE_IOERR_TRUNCATE;
    };
    // SAFETY: called by SQLite with one of our files.
    let store = unsafe { store(file) };
    code(
        store.map(|store| store.truncate(size)),
        ffi::SQLITE_IOERR_TRUNCATE,
    )
}

/// SQLite asks for this at the end of each transaction, when it has written all pages of it.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: called by SQLite with one of our files.
    let store = unsafe { store(file) };
    code(store.map(|store| store.commit()), ffi::SQLITE_IOERR_FSYNC)
}

fn code(result: Option<io::Result<()>>, failed: c_int) -> c_int {
    match result {
        Some(Ok(())) => ffi::SQLITE_OK,
        Some(Err(error)) if error.kind() == io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        _ => failed,
    }
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: called by SQLite with one of our files, and with a place for the answer.
    let (store, out) = unsafe { (store(file), size.as_mut()) };
    let size = store.and_then(|store| i64::try_from(store.size().ok()?).ok());
    match (size, out) {
        (Some(size), Some(out)) => {
            *out = size;
            ffi::SQLITE_OK
        }
        _ => ffi::SQLITE_IOERR_FSTAT,
    }
}

/// Nobody else works on our pages: how they and other programs keep out of each other's way is the
/// store's own.
unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: SQLite asks for an answer here.
    if let Some(result) = unsafe { result.as_mut() } {
        *result = 0;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    super::pages::PAGE as c_int
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}
