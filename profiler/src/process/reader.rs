//! A process that reads for this one, and can be left behind.
//!
//! A thread cannot: whoever waits for a FUSE server that has taken a request and does not answer
//! is out of reach even of SIGKILL, and as long as one thread waits so, its process does not end,
//! nor does the kernel close its descriptors. So what an ordinary user may serve is read by a
//! child, which has no descriptors but a socket and what it is sent. It is a fork without `exec`,
//! which makes system calls only.

use super::procmap;
use super::signals::{self, Blocked};
use super::stat::parse_stat;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

/// Who is waited for in line for a CPU has not been asked yet: on a busy host that takes longer than any
/// answer. So it is waited for longer, by so much each time, and so long in all.
pub(super) const IN_LINE: Duration = Duration::from_millis(50);
pub(super) const MOST_IN_LINE: Duration = Duration::from_secs(2);

/// Whether a thread runs, or wants to: whether it waits for nobody. `stat` is its file below `/proc`.
pub(super) fn wants_cpu(stat: &str) -> bool {
    let content = std::fs::read(stat).unwrap_or_default();
    parse_stat(&content).is_some_and(|stat| stat.state == b'R')
}

/// Bytes that one request may read.
pub(super) const ROOM: usize = 256 << 10;

/// What the child is to do with the descriptor that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// Read so many bytes, at most [`ROOM`], or as many as there are.
    Read { offset: u64, len: usize },
    /// Open a file below the directory with these flags, as openat(2).
    Open { name: &'a CStr, flags: OFlags },
    /// The executable mappings from an address on, of the process whose `maps` the descriptor is, see
    /// [`procmap`].
    Code { from: u64 },
    /// What statx(2) says of a file below the directory, without asking who serves it.
    Stat { name: &'a CStr },
}

const READ: u64 = 0;
const OPEN: u64 = 1;
const STAT: u64 = 2;
const CODE: u64 = 3;

/// What the child answers.
#[derive(Debug)]
pub(super) struct Answer {
    /// Bytes that were read, or what else the system call says.
    pub(super) result: io::Result<usize>,
    /// The file that was opened.
    pub(super) file: Option<File>,
    /// How long the system call took.
    pub(super) took: Duration,
}

/// Words of a request: what, and two numbers. Of an answer: the result, and nanoseconds.
type Words = [u64; 3];

/// Memory that parent and child share.
#[derive(Debug)]
struct Room(NonNull<u8>);

// SAFETY: whoever holds the value holds the mapping, and only one thread at a time.
unsafe impl Send for Room {}

impl Room {
    fn new() -> io::Result<Room> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let at =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), ROOM, rights, MapFlags::SHARED)? };
        NonNull::new(at.cast())
            .map(Room)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Copies as much as fits out of the beginning.
    fn copy_to(&self, into: &mut [u8]) {
        // SAFETY: the mapping has so many bytes, and the child does not write while it is not
        // asked. What it wrote are bytes, whatever they are.
        unsafe {
            ptr::copy_nonoverlapping(self.0.as_ptr(), into.as_mut_ptr(), into.len().min(ROOM));
        }
    }

    fn copy_from(&mut self, bytes: &[u8]) {
        // SAFETY: as above.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr(), bytes.len().min(ROOM));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody has a reference into it. A failure
        // leaves it mapped.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), ROOM) };
    }
}

/// The child. It ends when this process ends or drops the value, unless it waits for somebody.
#[derive(Debug)]
pub(super) struct ReaderProcess {
    pid: Pid,
    socket: OwnedFd,
    room: Room,
}

impl ReaderProcess {
    /// Forks.
    ///
    /// # Errors
    /// Those of fork(2), socketpair(2) and mmap(2).
    pub(super) fn start() -> io::Result<ReaderProcess> {
        let (socket, its) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let room = Room::new()?;
        let signals = Blocked::all();
        // SAFETY: the child has this thread only. It makes system calls and takes no locks, and
        // does not return from here.
        match unsafe { libc::fork() } {
            -1 => {
                let error = io::Error::last_os_error();
                drop(signals);
                Err(error)
            }
            0 => {
                // All stay blocked: Ctrl-C goes to the whole group, and the report is to come.
                std::mem::forget(signals);
                let keep = its.as_raw_fd();
                signals::close_range(0, keep - 1);
                signals::close_range(keep + 1, RawFd::MAX);
                let _ = rustix::thread::set_name(c"holdup-read");
                serve(its.as_fd(), room.0);
                // SAFETY: ends this process, without the parent's buffers and handlers.
                unsafe { libc::_exit(0) }
            }
            pid => {
                drop(signals);
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
                Ok(ReaderProcess { pid, socket, room })
            }
        }
    }

    /// Asks, and waits for an answer for so long. What was read is in `into`.
    ///
    /// # Errors
    /// `TimedOut` where there is no answer; then the child cannot be asked any more. Those of the
    /// socket.
    pub(super) fn ask(
        &mut self,
        request: Request<'_>,
        with: BorrowedFd<'_>,
        patience: Duration,
        into: &mut [u8],
    ) -> io::Result<Answer> {
        let words: Words = match request {
            Request::Read { offset, len } => [READ, offset, len.min(ROOM) as u64],
            Request::Open { name, flags } => {
                self.room.copy_from(name.to_bytes_with_nul());
                [OPEN, flags.bits().into(), 0]
            }
            Request::Code { from } => [CODE, from, 0],
            Request::Stat { name } => {
                self.room.copy_from(name.to_bytes_with_nul());
                [STAT, 0, 0]
            }
        };
        send(self.socket.as_fd(), &words, Some(with))?;
        self.await_answer(patience)?;
        let (words, file) = receive(self.socket.as_fd())?.ok_or(io::ErrorKind::BrokenPipe)?;
        let [result, took, _] = words;
        let result = match i32::try_from(result.cast_signed()) {
            Ok(error) if error < 0 => Err(Errno::from_raw_os_error(-error).into()),
            _ => Ok(usize::try_from(result).unwrap_or(0)),
        };
        if let Ok(len) = &result {
            self.room.copy_to(into.get_mut(..*len).unwrap_or_default());
        }
        Ok(Answer {
            result,
            file: file.map(File::from),
            took: Duration::from_nanos(took),
        })
    }

    fn await_answer(&self, patience: Duration) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut until = Instant::now() + patience;
        let last = until + MOST_IN_LINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                Ok(0) if until < last && wants_cpu(&self.stat()) => until += IN_LINE,
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn stat(&self) -> String {
        format!("/proc/{}/stat", self.pid.as_raw_nonzero())
    }

    /// Whether it has ended since it was told to; then it is buried.
    pub(super) fn has_ended(&self) -> bool {
        // Anything but "not yet" is an end.
        !matches!(
            rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG),
            Ok(None)
        )
    }

    /// Tells it to end. It does where it does not wait, or as soon as it is served.
    pub(super) fn end(&self) {
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}

/// In the child: does what it is asked until nobody asks any more.
fn serve(socket: BorrowedFd<'_>, room: NonNull<u8>) {
    while let Ok(Some((words, Some(with)))) = receive(socket) {
        let (begun, before) = (now(), waits());
        let (result, opened) = act(&words, &with, room);
        // Who did not wait was at most kept from a CPU, which is nobody's doing here.
        let took = match waits() == before {
            true => 0,
            false => now().saturating_sub(begun),
        };
        let result = match result {
            Ok(len) => len as u64,
            Err(errno) => i64::from(-errno.raw_os_error()).cast_unsigned(),
        };
        let opened = opened.as_ref().map(OwnedFd::as_fd);
        if send(socket, &[result, took, 0], opened).is_err() {
            return;
        }
    }
}

fn act(
    &[what, first, second]: &Words,
    with: &OwnedFd,
    room: NonNull<u8>,
) -> (Result<usize, Errno>, Option<OwnedFd>) {
    // SAFETY: the room is mapped as long as this process lives, and the parent does not touch it
    // until it has the answer.
    let bytes = unsafe { std::slice::from_raw_parts_mut(room.as_ptr(), ROOM) };
    if what == READ {
        let len = usize::try_from(second).unwrap_or(0);
        return (
            read_full(with, bytes.get_mut(..len).unwrap_or_default(), first),
            None,
        );
    }
    if what == CODE {
        return (procmap::write(with, first, bytes), None);
    }
    let Ok(name) = CStr::from_bytes_until_nul(bytes) else {
        return (Err(Errno::NAMETOOLONG), None);
    };
    if what == OPEN {
        let flags = OFlags::from_bits_retain(first as u32) | OFlags::CLOEXEC;
        return match rustix::fs::openat(with, name, flags, Mode::empty()) {
            Ok(file) => (Ok(0), Some(file)),
            Err(errno) => (Err(errno), None),
        };
    }
    let stat = rustix::fs::statx(
        with,
        name,
        AtFlags::STATX_DONT_SYNC,
        StatxFlags::BASIC_STATS,
    );
    let words = match stat {
        Ok(stat) => stat_words(&stat),
        Err(errno) => return (Err(errno), None),
    };
    let words = bytemuck::bytes_of(&words);
    if let Some(into) = bytes.get_mut(..words.len()) {
        into.copy_from_slice(words);
    }
    (Ok(words.len()), None)
}

/// Reads until `into` is full or nothing more comes. What came before an error counts.
fn read_full(file: &OwnedFd, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::pread(file, room, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) if filled == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(filled)
}

/// What is told of a file: its length, when it was written, and when it was changed, in seconds
/// and nanoseconds.
pub(super) type StatWords = [u64; 5];

/// The length of a file and its times.
pub(super) fn stat_words(stat: &Statx) -> StatWords {
    [
        stat.stx_size,
        stat.stx_mtime.tv_sec.cast_unsigned(),
        stat.stx_mtime.tv_nsec.into(),
        stat.stx_ctime.tv_sec.cast_unsigned(),
        stat.stx_ctime.tv_nsec.into(),
    ]
}

/// How often this process has waited for anything.
fn waits() -> libc::c_long {
    // SAFETY: a structure of integers, of which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it is written to while the call lasts.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage.ru_nvcsw
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn send(socket: BorrowedFd<'_>, words: &Words, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let with = with.map(|with| [with]);
    if let Some(with) = &with {
        control.push(SendAncillaryMessage::ScmRights(with));
    }
    let bytes = [IoSlice::new(bytemuck::bytes_of(words))];
    rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// None where the other side is gone, or says what nobody understands.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Words, Option<OwnedFd>)>> {
    let mut words: Words = [0; 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let bytes = bytemuck::bytes_of_mut(&mut words);
    let whole = bytes.len();
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((received.bytes == whole).then_some((words, file)))
}
