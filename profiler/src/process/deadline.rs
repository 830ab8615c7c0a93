//! Reads that may never end.
//!
//! A target's memory and files can be served by the target itself: by FUSE, by userfaultfd, by a
//! network file system whose server is gone. The kernel then waits for as long as that pleases
//! whoever serves. So the target's memory, and what takes the lock of its mappings, is read by a
//! child ([`read`]), and its files by a thread ([`within`]), which are left behind when it takes too
//! long. A child is no hindrance to our end; a thread may be. But its memory every user can serve,
//! and files that root may open only whom root lets (FUSE's `allow_other`).
//!
//! All that is waited for counts, in vain or not: see [`account`].

use super::device::Device;
use super::mapping::Mapping;
use super::procmap;
use super::reader::{
    self, Answer, IN_LINE, MOST_IN_LINE, ReaderProcess, Request, StatWords, stat_words, wants_cpu,
};
use super::stamp::FileStamp;
use crate::units::Pid;
use rustix::fs::{AtFlags, OFlags, StatxFlags};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

mod account;

use account::Accounts;

/// How long whoever serves memory may be waited for; one who is waited for again and again, in
/// sum. A page that was swapped out is there within some hundredths of a second.
const FOR_MEMORY: Duration = Duration::from_millis(600);

/// The same of files. A disk that is asked much takes some tenths of a second.
const FOR_FILES: Duration = Duration::from_millis(1500);

/// Threads that may be left behind, and children.
const MAX_LEFT_BEHIND: usize = 256;

/// What the threads have on their stacks is small.
const STACK: usize = 512 << 10;

/// Children that are kept for the next who asks.
const MAX_IDLE: usize = 4;

/// What a file system of any use gives in a second, in bytes. For so much it is not waited for.
const LEAST_RATE: u64 = 20 << 20;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// A file system.
    Files(Device),
    /// Whoever serves a process's memory, or holds the lock of its mappings.
    Memory(Pid),
    /// Whoever serves the names of files as a process sees them.
    Names(Pid),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Files(Device { major, minor }) => write!(f, "the file system {major}:{minor}"),
            Server::Memory(pid) => write!(f, "whoever serves the memory of process {pid}"),
            Server::Names(pid) => write!(f, "whoever serves the files of process {pid}"),
        }
    }
}

#[derive(Debug)]
struct State {
    memory: Accounts,
    files: Accounts,
    /// The threads that still wait, by thread id, and for whom.
    threads: HashMap<i32, Server>,
    /// The children that still wait.
    children: Vec<(Server, ReaderProcess)>,
    /// Those that may be asked.
    idle: Vec<ReaderProcess>,
    given_up: u64,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    Mutex::new(State {
        memory: Accounts::new(FOR_MEMORY),
        files: Accounts::new(FOR_FILES),
        threads: HashMap::new(),
        children: Vec::new(),
        idle: Vec::new(),
        given_up: 0,
    })
});

/// The state, whatever became of a thread that held it: every change of it is complete in itself.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn accounts(&mut self, server: Server) -> &mut Accounts {
        match server {
            Server::Files(_) | Server::Names(_) => &mut self.files,
            Server::Memory(_) => &mut self.memory,
        }
    }

    /// How long `server` may be waited for now.
    fn patience(&mut self, server: Server) -> io::Result<Duration> {
        self.children.retain(|(_, child)| !child.has_ended());
        let waiting = self.threads.len() + self.children.len();
        let is_waited_for = self.threads.values().any(|one| *one == server)
            || self.children.iter().any(|(one, _)| *one == server);
        let patience = self.accounts(server).patience(server);
        match patience {
            Some(patience) if !is_waited_for && waiting < MAX_LEFT_BEHIND => Ok(patience),
            _ => {
                self.given_up += 1;
                Err(timed_out())
            }
        }
    }

    /// Ends a child that waits for nobody. It is buried by who asks next.
    fn end(&mut self, child: ReaderProcess) {
        child.end();
        self.children.push((Server::Memory(Pid(0)), child));
    }

    fn in_vain(&mut self, server: Server, patience: Duration) {
        self.accounts(server).in_vain(server, patience);
        self.given_up += 1;
        tracing::warn!("{server} does not answer in time: it is hardly read any more");
    }
}

/// Does something for which `server` may be waited for, as long as its account allows, in a thread. A
/// thread that a hostile server holds cannot be ended: what any user may serve is for [`read`] and
/// its like.
///
/// # Errors
/// `TimedOut` where it takes longer, or `server` was waited for in vain before; those of starting
/// a thread.
pub fn within<T: Send + 'static>(
    server: Server,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    within_expected(server, Duration::ZERO, act)
}

/// As [`within`], of what takes so long if all is well.
fn within_expected<T: Send + 'static>(
    server: Server,
    expected: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let patience = state().patience(server)?;
    let (tell, told) = mpsc::sync_channel(1);
    let (send, receive) = mpsc::sync_channel(1);
    let _handle = std::thread::Builder::new()
        .name("holdup-read".into())
        .stack_size(STACK)
        .spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            let answer = Reply {
                tid,
                send: Some(send),
            };
            // Who asks waits for this, and for the result only so long.
            let _ = tell.send(tid);
            let begun = Instant::now();
            if let Some(send) = &answer.send {
                let result = act();
                let _ = send.send((result, begun.elapsed()));
            }
        })?;
    let tid = told.recv().map_err(io::Error::other)?;
    let stat = || format!("/proc/self/task/{tid}/stat");
    let mut received = receive.recv_timeout(patience);
    for _ in 0..MOST_IN_LINE.div_duration_f32(IN_LINE) as u32 {
        if !matches!(received, Err(mpsc::RecvTimeoutError::Timeout)) || !wants_cpu(&stat()) {
            break;
        }
        received = receive.recv_timeout(IN_LINE);
    }
    let received = match received {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let mut state = state();
            // It may have come to its end at this very moment.
            match receive.try_recv() {
                Err(mpsc::TryRecvError::Empty) => {
                    state.threads.insert(tid, server);
                    state.in_vain(server, patience);
                    return Err(timed_out());
                }
                other => other.ok(),
            }
        }
        other => other.ok(),
    };
    let (result, took) = received.ok_or_else(panicked)?;
    let took = took.saturating_sub(expected);
    state().accounts(server).took(server, took);
    Ok(result)
}

/// A thread's way to who asked. Dropped, by a panic too, the thread is not left behind any more.
struct Reply<T> {
    tid: i32,
    send: Option<mpsc::SyncSender<T>>,
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        // First, so that nobody who holds the state takes this thread for one that still waits.
        self.send = None;
        state().threads.remove(&self.tid);
    }
}

/// Reads a file of a process's directory below `/proc` that is its memory, or takes the lock of
/// its mappings (`mem`, `maps`, `cmdline`). Returns how many bytes there were from `offset` on, up
/// to the length of `into`.
///
/// # Errors
/// `TimedOut` where whoever serves the memory does not answer; those of reading, and of starting a
/// child.
pub fn read(pid: Pid, file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    for chunk in into.chunks_mut(reader::ROOM) {
        let (offset, len) = (offset.saturating_add(filled as u64), chunk.len());
        let answer = ask(pid, Request::Read { offset, len }, file.as_fd(), chunk);
        match answer.and_then(|answer| answer.result) {
            Ok(read) => {
                filled += read;
                if read < len {
                    break;
                }
            }
            Err(error) if filled == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(filled)
}

/// As [`read`], all of a file that has no length beforehand.
///
/// # Errors
/// As [`read`].
pub fn read_to_end(pid: Pid, file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let filled = content.len();
        content.resize(filled + FIRST.max(filled).min(reader::ROOM), 0);
        let room = content.get_mut(filled..).unwrap_or_default();
        let wanted = room.len();
        let read = read(pid, file, room, filled as u64)?;
        content.truncate(filled + read);
        if read < wanted {
            return Ok(content);
        }
    }
}

/// The executable mappings of the process whose `maps` this is, by address.
///
/// # Errors
/// As [`read`], and those of a kernel that has no such query.
pub(super) fn code_mappings(pid: Pid, maps: &File) -> io::Result<Vec<Mapping>> {
    let (mut all, mut from) = (Vec::new(), 0);
    let mut room = vec![0; reader::ROOM];
    loop {
        let answer = ask(pid, Request::Code { from }, maps.as_fd(), &mut room)?;
        let written = room.get(..answer.result?).unwrap_or_default();
        match procmap::read(written, &mut all) {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

/// What is read first of such a file. Most are shorter.
const FIRST: usize = 16 << 10;

/// Opens a file below a process's directory below `/proc`, for which the lock of its mappings is
/// taken (`map_files/…`).
///
/// # Errors
/// As [`read`], and those of opening.
pub(super) fn open(pid: Pid, dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<File> {
    let name = &CString::new(name)?;
    let answer = ask(pid, Request::Open { name, flags }, dir, &mut [])?;
    answer.result?;
    answer.file.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// As [`open`], what statx(2) says of a file.
///
/// # Errors
/// As [`read`].
pub(super) fn stat(pid: Pid, dir: BorrowedFd<'_>, name: &str) -> io::Result<StatWords> {
    let (name, mut words) = (CString::new(name)?, StatWords::default());
    let bytes = bytemuck::bytes_of_mut(&mut words);
    ask(pid, Request::Stat { name: &name }, dir, bytes)?.result?;
    Ok(words)
}

fn ask(
    pid: Pid,
    request: Request<'_>,
    with: BorrowedFd<'_>,
    into: &mut [u8],
) -> io::Result<Answer> {
    let server = Server::Memory(pid);
    let (patience, idle) = {
        let mut state = state();
        (state.patience(server)?, state.idle.pop())
    };
    let mut child = match idle {
        Some(child) => child,
        None => ReaderProcess::start()?,
    };
    let answer = child.ask(request, with, patience, into);
    let mut state = state();
    match &answer {
        Ok(answer) => {
            state.accounts(server).took(server, answer.took);
            if state.idle.len() < MAX_IDLE {
                state.idle.push(child);
            } else {
                state.end(child);
            }
        }
        Err(error) => {
            child.end();
            state.children.push((server, child));
            if error.kind() == io::ErrorKind::TimedOut {
                state.in_vain(server, patience);
            }
        }
    }
    answer
}

/// Ends the children that may be asked. The next ones have the rights that this process has then.
pub(crate) fn end_children() {
    let mut state = state();
    for child in std::mem::take(&mut state.idle) {
        state.end(child);
    }
}

/// A file that is read by [`within`], where anybody but the kernel may serve it.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    /// None where it is on a disk of the machine's.
    server: Option<Server>,
    stamp: FileStamp,
    len: u64,
}

impl Reader {
    /// Reads `file` so. Its file system is not asked for anything yet.
    ///
    /// # Errors
    /// Those of statx(2) and of duplicating the descriptor.
    pub fn of(file: &File) -> io::Result<Reader> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?;
        let device = Device {
            major: stat.stx_dev_major,
            minor: stat.stx_dev_minor,
        };
        Ok(Reader {
            file: Arc::new(file.try_clone()?),
            // File systems without a block device have 0: those of networks, FUSE, and overlays
            // of whatever is below.
            server: (device.major == 0).then_some(Server::Files(device)),
            stamp: FileStamp(stat_words(&stat)),
            len: stat.stx_size,
        })
    }

    /// What changes when the file is written to, as it was when this began.
    pub(super) const fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Who serves the file; none where it is on a disk of the machine's.
    pub(super) const fn server(&self) -> Option<Server> {
        self.server
    }

    /// The file's length when this began, in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads what there is from `offset` on, up to the length of `into`.
    ///
    /// # Errors
    /// As [`within`], and those of reading.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(server) = self.server else {
            return self.file.read_at(into, offset);
        };
        let (file, mut bytes) = (Arc::clone(&self.file), vec![0; into.len()]);
        let read = move || file.read_at(&mut bytes, offset).map(|read| (bytes, read));
        let expected = Duration::from_nanos(into.len() as u64 * 1_000_000_000 / LEAST_RATE);
        let (bytes, read) = within_expected(server, expected, read)??;
        if let (Some(into), Some(bytes)) = (into.get_mut(..read), bytes.get(..read)) {
            into.copy_from_slice(bytes);
        }
        Ok(read)
    }

    /// Reads from `offset` on until `into` is full or the file ends. Returns how many bytes there
    /// were.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub fn read_full(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.read_at(room, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// As [`Reader::read_at`]; `UnexpectedEof` where the file ends before.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_full(into, offset)? < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn panicked() -> io::Error {
    io::Error::other("a reader panicked")
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "whoever serves it does not answer")
}

/// How many reads were given up.
#[must_use]
pub fn given_up() -> u64 {
    state().given_up
}

/// The threads of this process that wait in vain, by thread id. They are within the kernel, and
/// handle the signals that they got before they do anything else.
pub(crate) fn left_behind() -> HashSet<i32> {
    state().threads.keys().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use std::io::{Read, Write};

    /// Nobody else's in this process.
    fn server(number: u32) -> Server {
        Server::Memory(Pid(u32::MAX - number))
    }

    #[test]
    fn what_ends_in_time_has_its_result() {
        assert_eq!(within(server(0), || 42).expect("in time"), 42);
        // Without the hook, which may take longer for its backtrace than there is patience.
        let panicked = within(server(0), || -> i32 {
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        assert_ne!(
            panicked.expect_err("nothing").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(within(server(0), || 43).expect("again"), 43);
    }

    /// Whether nobody is left behind, soon.
    fn all_ended() -> bool {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            left_behind().is_empty()
        })
    }

    #[test]
    fn a_child_reads_opens_and_tells() {
        let own = Pid(std::process::id());
        let dir = File::open("/proc/self").expect("opens");
        let memory = open(own, dir.as_fd(), "mem", OFlags::RDONLY).expect("opens");
        let words: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        let mut copy = vec![0; words.len()];
        let read = |into: &mut [u8], at| read(own, &memory, into, at);
        let at = words.as_ptr() as u64;
        assert_eq!(read(&mut copy, at).expect("it is there"), words.len());
        assert!(copy == words);
        read(&mut copy, 0).expect_err("nothing is mapped");
        let maps = File::open("/proc/self/maps").expect("opens");
        let maps = String::from_utf8_lossy(&read_to_end(own, &maps).expect("reads")).into_owned();
        assert!(maps.contains("[vdso]"), "{maps}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "five5").expect("writes");
        let name = file.path().to_str().expect("text");
        assert_eq!(stat(own, dir.as_fd(), name).expect("tells")[0], 5);
        let error = stat(own, dir.as_fd(), "no-such-file").expect_err("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Of another process's, so that this one's own reads go on.
    #[test]
    fn a_child_that_waits_is_left_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let root = File::open(dir.path()).expect("opens");
        let (begun, before) = (Instant::now(), given_up());
        // Nobody writes into it.
        for _ in 0..3 {
            let opened = open(Pid(u32::MAX - 100), root.as_fd(), "fifo", OFlags::RDONLY);
            assert_eq!(opened.expect_err("in vain").kind(), io::ErrorKind::TimedOut);
        }
        assert!(begun.elapsed() < 2 * FOR_MEMORY, "{:?}", begun.elapsed());
        assert!(given_up() >= before + 3);
        let other = open(Pid(u32::MAX - 101), root.as_fd(), ".", OFlags::RDONLY);
        other.expect("another's is opened");
    }

    #[test]
    fn who_does_not_answer_is_left_behind_and_not_asked_again() {
        for (number, panics) in [(1, false), (2, true)] {
            let (mut reader, mut writer) = io::pipe().expect("a pipe");
            let before = given_up();
            let read = move || {
                let mut byte = [0];
                let read = reader.read_exact(&mut byte);
                assert!(!panics, "on purpose");
                read
            };
            let error = within(server(number), read).expect_err("too long");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(left_behind().len(), 1);
            let error = within(server(number), || 1).expect_err("not asked");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(given_up() >= before + 2);
            assert_eq!(within(server(9), || 2).expect("another"), 2);
            // Served after all, it ends.
            writer.write_all(b"x").expect("it waits");
            assert!(all_ended(), "{:?} are still there", left_behind());
        }
    }
}
