//! The records of the ring buffer, kernel to userspace.
//!
//! Every record starts with a [`Header`]; its `kind` says which of the structs it is, and its
//! `len` how many bytes the whole record has. Times are `CLOCK_MONOTONIC` nanoseconds.

pub use crate::map::COMM_LEN;

/// [`Header::kind`] of a [`StackRecord`].
pub const KIND_STACK: u32 = 1;
/// [`Header::kind`] of a [`WaitRecord`].
pub const KIND_WAIT: u32 = 2;
/// [`Header::kind`] of a [`ThreadEndRecord`].
pub const KIND_THREAD_END: u32 = 3;
/// [`Header::kind`] of an [`ExecRecord`].
pub const KIND_EXEC: u32 = 4;
/// [`Header::kind`] of a [`SnapshotRecord`].
pub const KIND_SNAPSHOT: u32 = 5;
/// [`Header::kind`] of a [`RawStackRecord`].
pub const KIND_RAW_STACK: u32 = 6;
/// [`Header::kind`] of a [`RawStackRecord`] of a stack that could not be walked, because code ran
/// that userspace is yet to learn of. Its [`StackRecord`] follows.
pub const KIND_UNMAPPED_STACK: u32 = 8;
/// [`Header::kind`] of a [`ForkRecord`].
pub const KIND_FORK: u32 = 9;
/// [`Header::kind`] of a [`SampleRecord`].
pub const KIND_SAMPLE: u32 = 7;

/// Bytes of one raw copy of a stack at most, over all its pieces, but for the rest of the last page.
pub const RAW_STACK_BYTES: u64 = 32 << 10;
/// Bytes of one piece at most; no piece crosses the end of a page.
pub const RAW_PIECE_BYTES: usize = 4096;
/// [`Header::kind`] of an [`ObjectRecord`].
pub const KIND_OBJECT: u32 = 10;
/// [`Header::kind`] of a [`ChildRecord`].
pub const KIND_CHILD: u32 = 11;
/// [`Header::kind`] of a [`CallRecord`].
pub const KIND_CALL: u32 = 12;
/// [`Header::kind`] of a [`PanicRecord`].
pub const KIND_PANIC: u32 = 13;

/// [`Header::kind`] of a [`DriverGapRecord`].
pub const KIND_DRIVER_GAP: u32 = 14;

/// What every record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Header {
    /// One of the `KIND_*` constants.
    pub kind: u32,
    /// Bytes of the record, this header included.
    pub len: u32,
    /// Process id (thread group id) in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
}

/// A stack seen for the first time; followed by `user_frames` and then `kernel_frames`
/// addresses (`u64`), each leaf first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct StackRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When it was taken.
    pub time: u64,
    /// The number by which waits name this stack: a hash of process, system call, tokio's
    /// thread-local state, runtime and frames.
    pub stack: u64,
    /// Number of the system call the thread was in, or -1 outside any (a page fault).
    pub syscall: i64,
    /// The system call's six arguments, unread where `syscall` is -1.
    pub args: [u64; 6],
    /// Address of the handle of the runtime that the thread had entered, or 0: of threads that begin
    /// to wait alone.
    pub runtime: u64,
    /// How the walk of the user stack ended: one of [`crate::row::walk`].
    pub walk: u32,
    /// Generation of the process's mapping table that the walk used.
    pub table_version: u32,
    /// What tokio's thread-local state said, one of [`crate::context::tls_state`].
    pub tls_state: u32,
    /// Whose stack it is, one of [`stack_kind`].
    pub stack_kind: u32,
    /// 1 where the stack is of this wait alone, and a raw copy of it went before: the walk came to
    /// code that userspace is yet to learn of.
    pub raw: u32,
    /// Frames between the innermost and the outermost ones that are not among the user frames. Where
    /// it is not 0, the outer [`KEPT_FRAMES`](crate::stack::KEPT_FRAMES) stand where
    /// [`frame_slot`](crate::stack::frame_slot) puts them.
    pub left_out: u16,
    /// Frames that were passed by frame pointers alone, see [`crate::row::Rule::FRAME_POINTER`].
    pub pointer_steps: u16,
    /// User frames that follow.
    pub user_frames: u32,
    /// Kernel frames that follow the user frames.
    pub kernel_frames: u32,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// [`StackRecord::stack_kind`].
pub mod stack_kind {
    /// Of a thread that begins to wait.
    pub const WAIT: u32 = 0;
    /// Of a thread that ends the wait of another one; without kernel frames, which all are those
    /// of a wakeup.
    pub const WAKER: u32 = 1;
    /// Of a thread that runs, within a [`SampleRecord`](super::SampleRecord).
    pub const SAMPLE: u32 = 2;
    /// Of a thread that returns from a long system call; without kernel frames.
    pub const CALL: u32 = 3;
    /// Of a thread that panics; without kernel frames.
    pub const PANIC: u32 = 4;
    /// Of a thread that a signal stopped (`SIGSTOP` and its like).
    pub const STOPPED_BY_SIGNAL: u32 = 5;
    /// Of a thread that a debugger stopped (`ptrace`).
    pub const STOPPED_BY_DEBUGGER: u32 = 6;
    /// Of a thread that a freezer stopped: that of its control group, or of the whole system.
    pub const STOPPED_BY_FREEZER: u32 = 7;
}

/// A thread that was on a CPU at a tick of the sampling clock; followed by a [`StackRecord`] with
/// its frames, whose `stack` is a hash of them and no entry of the kernel side's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct SampleRecord {
    /// The record's kind, length and thread; the length includes stack and frames.
    pub header: Header,
    /// CPU time of the thread in the recording so far, in nanoseconds.
    pub running: u64,
    /// Likewise: for how long it wanted a CPU and had none.
    pub runnable: u64,
    /// Likewise: for how long it waited.
    pub blocked: u64,
    /// Id of the task being polled, or 0.
    pub task_id: u64,
    /// As [`WaitRecord::core`].
    pub core: u64,
    /// As [`WaitRecord::tick`].
    pub tick: u32,
    /// Waits of the thread so far (wrapping).
    pub waits: u32,
    /// The interval in which it came: see [`crate::map::Thread::cut`].
    pub cut: u32,
    /// No padding.
    pub reserved: u32,
}

/// One wait of at least `--min-block` whose stack is not known to be an idle park, or one of a sample
/// of the shorter ones: see [`SHORT_WAITS_PER_SAMPLE`](crate::map::SHORT_WAITS_PER_SAMPLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct WaitRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// The switch-out.
    pub start: u64,
    /// The wakeup, or 0 where nothing shows it.
    pub wakeup: u64,
    /// The switch-in.
    pub end: u64,
    /// The stack's number, or 0 where there is none (see the loss counters), or
    /// [`STACK_BEFORE`].
    pub stack: u64,
    /// Id of the task being polled, or 0 where tokio's thread-local state is not read or no task
    /// was.
    pub task_id: u64,
    /// Number of the object that was waited for, or 0 where none is known.
    pub object: u64,
    /// Process of the thread that made the wakeup; 0 where none was seen.
    pub waker_tgid: u32,
    /// Thread that made the wakeup, [`WAKER_INTERRUPT`] or [`WAKER_UNSEEN`].
    pub waker_tid: u32,
    /// Name of the thread that made the wakeup.
    pub waker_comm: [u8; COMM_LEN],
    /// Number of the waker's stack, or 0 where it was not walked: see [`stack_kind::WAKER`].
    pub waker_stack: u64,
    /// CPU time of the thread in the recording up to the end of the wait, in nanoseconds.
    pub running: u64,
    /// Likewise: for how long it wanted a CPU and had none, this wait's part included.
    pub runnable: u64,
    /// Likewise: for how long it waited, this wait's part included.
    pub blocked: u64,
    /// Address of the core of the worker that polls, or 0.
    pub core: u64,
    /// The interval in which it came: see [`crate::map::Thread::cut`].
    pub cut: u32,
    /// The tick of the core of the worker that polls, plus one, or 0 where it is not known. It
    /// changes between turns of the worker's loop, and wraps around.
    pub tick: u32,
    /// Waits of the thread before this one (wrapping).
    pub waits: u32,
    /// What waited for the worker when it began to wait itself: see [`crate::scheduler_core::queued`], plus
    /// one; 0 where it is not known.
    pub queued: u32,
}

/// A system call in which a thread was on a CPU for at least `--min-block`, at its return. Its
/// number and arguments are in the record of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct CallRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// Its entry.
    pub start: u64,
    /// Its return.
    pub end: u64,
    /// Nanoseconds on a CPU in between: without waits, and without waiting for a CPU.
    pub on_cpu: u64,
    /// The stack's number, or 0 where there was no room for it.
    pub stack: u64,
    /// As [`WaitRecord::task_id`].
    pub task_id: u64,
    /// Number of its object, or 0 where none is known.
    pub object: u64,
    /// The interval in which it came: see [`crate::map::Thread::cut`].
    pub cut: u32,
    /// No padding.
    pub reserved: u32,
}

/// A thread began to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct PanicRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When.
    pub time: u64,
    /// The stack's number, or 0 where there was no room for it.
    pub stack: u64,
    /// As [`WaitRecord::task_id`].
    pub task_id: u64,
    /// The interval in which it came: see [`crate::map::Thread::cut`].
    pub cut: u32,
    /// No padding.
    pub reserved: u32,
}

/// [`WaitRecord::waker_tid`] of a wakeup made by an interrupt (a timer, a device, the network):
/// the thread that it interrupted has nothing to do with it.
pub const WAKER_INTERRUPT: u32 = u32::MAX;

/// [`WaitRecord::waker_tid`] where no wakeup was seen; the scheduler may have told its time.
pub const WAKER_UNSEEN: u32 = u32::MAX - 1;

/// The `stack` of a wait that began before the recording: its stack is in a [`SnapshotRecord`].
pub const STACK_BEFORE: u64 = 1;

/// A thread ended, or gave up its tls_state in the thread table at an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ThreadEndRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When it ended.
    pub time: u64,
    /// The thread's times up to its end.
    pub times: crate::map::ThreadTimes,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
    /// The interval in which it came: see [`crate::map::Thread::cut`].
    pub cut: u32,
    /// No padding.
    pub reserved: u32,
    /// What the thread was at the start of that interval.
    pub at_cut: crate::map::ThreadState,
}

/// A target process executed another program: all mappings are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ExecRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When.
    pub time: u64,
}

/// For some time no thread waited for the events of an epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct DriverGapRecord {
    /// The record's kind and length, and the thread that waits for them again.
    pub header: Header,
    /// When the last one that did came to run.
    pub from: u64,
    /// When this one began to wait.
    pub to: u64,
}

/// A watched process forked, and the new process is watched too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ForkRecord {
    /// The record's kind and length, and the new process.
    pub header: Header,
    /// When.
    pub time: u64,
    /// The process that forked.
    pub parent: u32,
    /// Index of the new process's entry.
    pub index: u32,
}

/// The registers of a thread that was off-CPU when the task iterator passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct SnapshotRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When the iterator passed by.
    pub time: u64,
    /// User instruction pointer.
    pub ip: u64,
    /// User stack pointer.
    pub sp: u64,
    /// User `rbp`.
    pub bp: u64,
    /// FS base, below which the thread's own variables are.
    pub fs: u64,
    /// The system call's number, or -1.
    pub syscall: i64,
    /// The system call's six arguments.
    pub args: [u64; 6],
    /// The kernel's `task->__state`; 0 is runnable.
    pub task_state: u32,
    /// 1 where the thread was on a CPU: then the registers say nothing.
    pub on_cpu: u32,
    /// Whether it waits or was stopped: one of [`stack_kind`].
    pub stack_kind: u32,
    /// No padding.
    pub reserved: u32,
    /// Voluntary and involuntary switches so far: a thread that switched since has moved on.
    pub switches: u64,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
}

/// [`ObjectRecord::kind`]: an open file of any sort. Numbers: inode, device, mode, magic of the
/// file system. Text: the parts of its path, the last one first, each with a terminating zero.
pub const OBJECT_FILE: u32 = 1;
/// [`ObjectRecord::kind`]: a socket. Numbers: family, type and protocol (16 bits each, from the
/// lowest); own port and peer's port (16 bits each); own address and peer's address (two words
/// each, in network order; of a Unix socket its inode). Text: the path of a Unix socket, an
/// abstract one with a leading zero.
pub const OBJECT_SOCKET: u32 = 2;
/// [`ObjectRecord::kind`]: a futex. Numbers: address, operation.
pub const OBJECT_FUTEX: u32 = 3;
/// [`ObjectRecord::kind`]: a time. Numbers: nanoseconds.
pub const OBJECT_TIMER: u32 = 4;
/// [`ObjectRecord::kind`]: a child process. Numbers: its id in the target's namespace, or -1.
pub const OBJECT_CHILD: u32 = 5;
/// [`ObjectRecord::kind`]: a path that the program named. Text: the path.
pub const OBJECT_PATH: u32 = 6;
/// [`ObjectRecord::kind`]: several descriptors. Numbers: how many.
pub const OBJECT_POLL: u32 = 7;
/// [`ObjectRecord::kind`]: memory that was touched. Numbers: address.
pub const OBJECT_MEMORY: u32 = 8;

/// Bytes of text of one object at most; longer ones are cut off and say so.
pub const MAX_OBJECT_TEXT: usize = 1024;

/// What a wait waits for, seen for the first time; followed by `text` bytes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ObjectRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When it was seen.
    pub time: u64,
    /// The number by which waits name it.
    pub object: u64,
    /// One of the `OBJECT_*` constants.
    pub kind: u32,
    /// The descriptor, or -1 where the wait was for none.
    pub fd: i32,
    /// By kind.
    pub numbers: [u64; 6],
    /// Bytes of text that follow.
    pub text: u32,
    /// 1 where some of it could not be read or the text was cut off.
    pub partial: u32,
}

/// A child of a target process executed a program. The header has the target process and the
/// child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ChildRecord {
    /// The record's kind and length; process id of the parent, process id of the child.
    pub header: Header,
    /// When.
    pub time: u64,
    /// The child's id in its own pid namespace.
    pub pid: u32,
    /// No padding.
    pub reserved: u32,
    /// Name of the program.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<ObjectRecord>() == 16 + 16 + 8 + 48 + 8);
const _: () = assert!(size_of::<ChildRecord>() == 16 + 16 + 16);
/// A piece of a raw copy of a stack, for a walk in userspace; followed by `bytes` bytes. Pieces of
/// one copy come one after another in the order of their addresses, from the same CPU; other
/// records may lie between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct RawStackRecord {
    /// The record's kind, length and thread.
    pub header: Header,
    /// When the stack was walked: the switch-out. With the thread it names the copy.
    pub time: u64,
    /// The number by which waits name the stack.
    pub stack: u64,
    /// User instruction pointer.
    pub ip: u64,
    /// User stack pointer.
    pub sp: u64,
    /// User `rbp`.
    pub bp: u64,
    /// Address of the first byte that follows.
    pub address: u64,
    /// Which mapping table of the process was in use, see [`crate::map::Process::table_version`]; 0
    /// where there was none.
    pub table_version: u32,
    /// Bytes that follow, at most [`RAW_PIECE_BYTES`]; 0 where the memory could not be read.
    pub bytes: u32,
    /// 1 in the last piece.
    pub last: u32,
    /// Execs of the process so far, see [`crate::map::ProcessCounters::exec_count`].
    pub exec_count: u32,
}

const _: () = assert!(size_of::<RawStackRecord>() == 16 + 48 + 16);
const _: () = assert!(size_of::<Header>() == 16);
const _: () = assert!(size_of::<StackRecord>() == 16 + 24 + 48 + 8 + 32 + 16);
const _: () = assert!(size_of::<WaitRecord>() == 16 + 48 + 8 + 16 + 8 + 32 + 16);
const _: () = assert!(size_of::<SampleRecord>() == 16 + 40 + 16);
const _: () = assert!(size_of::<CallRecord>() == 16 + 48 + 8);
const _: () = assert!(size_of::<PanicRecord>() == 16 + 24 + 8);
const _: () = assert!(size_of::<ExecRecord>() == 24);
const _: () = assert!(size_of::<DriverGapRecord>() == 32);
const _: () = assert!(size_of::<ForkRecord>() == 32);
const _: () = assert!(size_of::<SnapshotRecord>() == 16 + 48 + 48 + 16 + 8 + 16);
