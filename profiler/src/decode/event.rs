//! What the kernel side reports, in types that have no invalid values.

use super::ids::{ObjectNumber, StackNumber, TableVersion, ThreadKey, ThreadName, WaitStack};
use super::thread::{ThreadState, ThreadTimes};
use crate::runtime::tokio::{RuntimeHandle, TlsState};
use crate::runtime::{Queued, StoppedBy};
use crate::units::{Addr, Nanos, Pid, Timestamp};
use crate::unwind::{Regs, Truncation};

/// One thing that the kernel side reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stack seen for the first time.
    Stack(Box<StackSeen>),
    /// A finished wait.
    Wait(WaitSeen),
    /// The end of a thread.
    ThreadEnd(Box<ThreadEnd>),
    /// A process executed another program.
    Exec(Exec),
    /// A thread as the task iterator found it.
    Snapshot(Box<Snapshot>),
    /// A fork of a process that is followed.
    Fork(Fork),
    /// Something that is waited for, seen for the first time.
    Object(Box<ObjectSeen>),
    /// A child process executed a program.
    ChildExec(ChildExec),
    /// A long system call that has returned.
    Call(CallSeen),
    /// The start of a panic.
    Panic(PanicSeen),
    /// For some time nobody waited for the events of an I/O driver.
    DriverGap(DriverGap),
    /// A thread on a CPU.
    Sample(Box<SampleSeen>),
    /// A piece of a raw copy of a stack.
    RawStack(Box<RawPiece>),
    /// A piece of a raw copy of a stack that could not be walked, because code ran that userspace
    /// is yet to learn of. Its [`StackSeen`] follows.
    UnmappedStack(Box<RawPiece>),
}

/// Whose stack it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StackKind {
    /// Of a thread that begins to wait.
    OffCpu,
    /// Of a thread that ends the wait of another one; without kernel frames.
    Waker,
    /// Of a thread on a CPU.
    Sample,
    /// Of a thread that returns from a long system call; without kernel frames.
    Syscall,
    /// Of a thread that panics; without kernel frames.
    Panic,
    /// Of a thread that something stopped from outside.
    Stopped(StoppedBy),
}

/// The system call in which a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syscall {
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// A stack, not named yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSeen {
    /// The thread that had it first.
    pub thread: ThreadKey,
    /// The thread's name.
    pub name: ThreadName,
    /// When it was taken.
    pub time: Timestamp,
    /// Its number; none for a sample's, which is in no table of the kernel side.
    pub number: Option<StackNumber>,
    /// Whose stack it is.
    pub kind: StackKind,
    /// The system call the thread was in; none outside any (a page fault).
    pub syscall: Option<Syscall>,
    /// Why the walk ended early, if it did.
    pub truncated: Option<Truncation>,
    /// The mappings that the walk used.
    pub table_version: TableVersion,
    /// What tokio's thread-local state said.
    pub tls_state: TlsState,
    /// The runtime that the thread had entered, where it begins to wait and that is known.
    pub runtime: Option<RuntimeHandle>,
    /// Whether a raw copy of it went before, see [`Event::UnmappedStack`]. It is of this wait
    /// alone then.
    pub raw: bool,
    /// Frames that were passed by frame pointers alone: they are as good as the code that set them.
    pub pointer_steps: u32,
    /// User addresses, leaf first.
    pub user: Vec<Addr>,
    /// Kernel addresses, leaf first.
    pub kernel: Vec<Addr>,
}

/// One wait of at least `--min-block` whose stack is not known to be an idle park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitSeen {
    /// The thread.
    pub thread: ThreadKey,
    /// The switch-out.
    pub start: Timestamp,
    /// The wakeup; none where nothing shows it.
    pub wakeup: Option<Timestamp>,
    /// The switch-in.
    pub end: Timestamp,
    /// The stack.
    pub stack: WaitStack,
    /// Id of the task being polled, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
    /// What was waited for, where it is known.
    pub object: Option<ObjectNumber>,
    /// Who made the wakeup.
    pub waker: Waker,
    /// Where the thread was when the wait ended.
    pub clock: PollClock,
    /// How many cuts had been made when it ended: it belongs to that interval.
    pub cut: u32,
}

/// Where a thread is in its polls, and where its time in the recording went so far: by the
/// differences of two of these in one poll the poll has its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollClock {
    /// What tells workers of a runtime apart: the address of the core of the worker that polls;
    /// none outside a worker.
    pub core: Option<Addr>,
    /// The core's tick, which changes between turns of the worker's loop and wraps around; none
    /// where it is not known.
    pub tick: Option<u32>,
    /// What waited for the worker when it began to wait itself; none for a sample, and where it is
    /// not known.
    pub queued: Option<Queued>,
    /// Waits before this one, or so far (wrapping).
    pub waits: u32,
    /// On a CPU.
    pub running: Nanos,
    /// Wanting a CPU.
    pub runnable: Nanos,
    /// Off-CPU, up to wakeups.
    pub blocked: Nanos,
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waker {
    /// A thread of any process.
    Thread {
        /// The thread.
        thread: ThreadKey,
        /// Its name.
        name: ThreadName,
        /// Its stack at the wakeup, where its process is recorded.
        stack: Option<StackNumber>,
    },
    /// An interrupt (a timer, a device, the network): the thread that it interrupted has nothing
    /// to do with it.
    Interrupt,
    /// No wakeup was seen; the scheduler may have told its time.
    Unseen,
}

/// A thread ended, or gave up its entry in the thread table at an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEnd {
    /// The thread.
    pub thread: ThreadKey,
    /// When it ended.
    pub time: Timestamp,
    /// Where its time went.
    pub times: ThreadTimes,
    /// Its name.
    pub name: ThreadName,
    /// As [`WaitSeen::cut`].
    pub cut: u32,
    /// What it was at that cut; none where it was not there yet.
    pub at_cut: Option<ThreadState>,
}

/// A target process executed another program: all mappings are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The process.
    pub pid: Pid,
    /// When.
    pub time: Timestamp,
}

/// A watched process forked, and the new process is watched too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The new process.
    pub child: Pid,
    /// The process that forked.
    pub parent: Pid,
    /// When.
    pub time: Timestamp,
    /// Index of the new process's entry on the kernel side.
    pub index: u32,
}

/// A thread as the task iterator found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The thread.
    pub thread: ThreadKey,
    /// When the iterator passed by.
    pub time: Timestamp,
    /// What it was doing.
    pub activity: Activity,
    /// Switches so far: a thread that switched since has moved on.
    pub switches: u64,
    /// Its name.
    pub name: ThreadName,
}

/// What a thread was doing at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It was on a CPU.
    Running,
    /// It wanted one, or was being woken.
    Runnable,
    /// It waited.
    Waiting {
        /// Its registers in user mode; none where there are none.
        regs: Option<Regs>,
        /// FS base, below which the thread's own variables are.
        fs: Addr,
        /// The system call that it waits in.
        syscall: Option<Syscall>,
        /// By what it was stopped, if that is why it waits.
        stopped: Option<StoppedBy>,
    },
}

/// What a wait waits for, seen for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSeen {
    /// The thread that waits.
    pub thread: ThreadKey,
    /// The number by which waits name it.
    pub number: ObjectNumber,
    /// What it is.
    pub object: RawObject,
    /// The descriptor, where the wait was for one.
    pub fd: Option<u32>,
    /// Whether some of it could not be read, or its text was cut off.
    pub partial: bool,
}

/// An object as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawObject {
    /// An open file of any sort.
    File {
        /// Its inode number.
        inode: u64,
        /// `st_mode`.
        mode: u32,
        /// Magic number of the file system.
        magic: u64,
        /// The parts of its path, the last one first, each with a terminating zero.
        parts: Vec<u8>,
    },
    /// A socket.
    Socket(RawSocket),
    /// A futex, by its address.
    Futex(Addr),
    /// A time that has to come.
    Timer(Nanos),
    /// A child process by its id in the target's namespace; none: any child.
    Child(Option<u32>),
    /// A path that the program named.
    Path(Vec<u8>),
    /// So many descriptors.
    Poll(u64),
    /// Memory that was touched, by its address.
    Memory(Addr),
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSocket {
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// Its own port.
    pub own_port: u16,
    /// The peer's port; 0 where it is not connected.
    pub peer_port: u16,
    /// Its own address in network order; the first 4 bytes of an IPv4 one. Of a Unix socket the
    /// first 8 bytes are its inode number.
    pub own: [u8; 16],
    /// The peer's address, likewise.
    pub peer: [u8; 16],
    /// The path of a Unix socket, an abstract one with a leading zero.
    pub path: Vec<u8>,
}

/// A child of a target process executed a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildExec {
    /// The target process.
    pub parent: Pid,
    /// The child's id in its own pid namespace.
    pub child: u32,
    /// Name of the program.
    pub name: ThreadName,
}

/// A system call in which a thread was on a CPU for at least `--min-block`, at its return. Its
/// number and arguments are with its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSeen {
    /// The thread.
    pub thread: ThreadKey,
    /// Its entry.
    pub start: Timestamp,
    /// Its return.
    pub end: Timestamp,
    /// Time on a CPU in between: without waits, and without waiting for a CPU.
    pub on_cpu: Nanos,
    /// The stack; none where there was no room for it.
    pub stack: Option<StackNumber>,
    /// As [`WaitSeen::task_id`].
    pub task_id: Option<u64>,
    /// What it was for, where it is known.
    pub object: Option<ObjectNumber>,
    /// As [`WaitSeen::cut`].
    pub cut: u32,
}

/// A thread began to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanicSeen {
    /// The thread.
    pub thread: ThreadKey,
    /// When.
    pub time: Timestamp,
    /// The stack; none where there was no room for it.
    pub stack: Option<StackNumber>,
    /// As [`WaitSeen::task_id`].
    pub task_id: Option<u64>,
    /// As [`WaitSeen::cut`].
    pub cut: u32,
}

/// A time in which no thread waited for the events of an epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverGap {
    /// The thread that waits for them again, or was the last one that did.
    pub thread: ThreadKey,
    /// When the last one came to run.
    pub from: Timestamp,
    /// When this one began to wait; none where nobody does yet.
    pub to: Option<Timestamp>,
}

/// A thread that was on a CPU at a tick of the sampling clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleSeen {
    /// Where the thread was.
    pub clock: PollClock,
    /// Id of the task being polled, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
    /// The stack, with its thread and time.
    pub stack: StackSeen,
    /// As [`WaitSeen::cut`].
    pub cut: u32,
}

/// A piece of a raw copy of a stack. Pieces of one copy come one after another in the order of
/// their addresses; other records may lie between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPiece {
    /// The thread.
    pub thread: ThreadKey,
    /// When the stack was walked: with the thread it names the copy.
    pub time: Timestamp,
    /// The number by which waits name the stack.
    pub number: Option<StackNumber>,
    /// The registers with which the stack is to be walked.
    pub regs: Regs,
    /// Address of `memory`.
    pub address: Addr,
    /// Which mappings were in use.
    pub table_version: TableVersion,
    /// Execs of the process so far.
    pub exec_count: u32,
    /// Whether it is the last piece.
    pub last: bool,
    /// The bytes there; none where the memory could not be read.
    pub memory: Vec<u8>,
}
