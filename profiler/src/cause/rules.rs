//! The rules: tried in order, the first that holds decides. So the most specific stand first:
//! what the program asked for (a name, a join, a message) before what that was made of (a
//! futex), and what the kernel did before what the system call is usually for.

use super::kind::Cause;
use super::tags::FunctionTags;

/// A demand on the system call.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// Any, or none.
    Any,
    /// None: the thread was outside every system call.
    Outside,
    /// One of these numbers.
    Of(&'static [u32]),
}

/// A demand on one argument: after the mask, one of the values. Does not hold where the
/// arguments were not recorded.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Which one, from 0.
    pub index: usize,
    /// Bits that count.
    pub mask: u64,
    /// What they may be.
    pub values: &'static [u64],
}

/// One rule. It holds if all of its demands do.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name; reports carry it as evidence.
    pub name: &'static str,
    /// What it says.
    pub cause: Cause,
    /// Why it is right.
    pub why: &'static str,
    /// The system call.
    pub calls: Calls,
    /// Its arguments.
    pub argument: Option<Argument>,
    /// Any of these tags must be there; none: no demand.
    pub any: FunctionTags,
    /// All of these tags must be there.
    pub all: FunctionTags,
}

/// Groups of system calls.
#[rustfmt::skip]
mod call {
    use crate::arch::syscalls;

    pub(super) const FUTEX: &[u32] = &syscalls(["futex", "futex_waitv", "futex_wait"]);
    pub(super) const FUTEX_OP: &[u32] = &syscalls(["futex"]);
    pub(super) const FLOCK: &[u32] = &syscalls(["flock"]);
    pub(super) const FCNTL: &[u32] = &syscalls(["fcntl"]);
    pub(super) const SYNC: &[u32] = &syscalls([
        "fsync", "fdatasync", "sync", "msync", "sync_file_range", "syncfs",
    ]);
    pub(super) const SLEEP: &[u32] = &syscalls(["nanosleep", "clock_nanosleep"]);
    /// With no descriptors they sleep.
    pub(super) const POLL: &[u32] = &syscalls(["poll", "ppoll"]);
    pub(super) const READY: &[u32] = &syscalls([
        "poll", "select", "pselect6", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2",
        "io_uring_enter",
    ]);
    pub(super) const SOCKET: &[u32] = &syscalls([
        "connect", "accept", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "accept4",
        "recvmmsg", "sendmmsg",
    ]);
    /// What takes any descriptor.
    pub(super) const STREAM: &[u32] = &syscalls([
        "read", "write", "readv", "writev", "sendfile", "splice", "tee", "vmsplice", "close",
        "ioctl",
    ]);
    /// What writes to any descriptor.
    pub(super) const WRITE: &[u32] = &syscalls(["write", "writev"]);
    /// What reads from any descriptor.
    pub(super) const READ: &[u32] = &syscalls(["read", "readv"]);
    /// What only files have.
    pub(super) const FILE: &[u32] = &syscalls([
        "open", "stat", "fstat", "lstat", "lseek", "pread64", "pwrite64", "access", "truncate",
        "ftruncate", "getdents", "rename", "mkdir", "rmdir", "creat", "link", "unlink", "symlink",
        "readlink", "chmod", "fchmod", "chown", "fchown", "lchown", "utime", "mknod", "statfs",
        "fstatfs", "readahead", "setxattr", "lsetxattr", "fsetxattr", "getxattr", "lgetxattr",
        "fgetxattr", "listxattr", "llistxattr", "flistxattr", "removexattr", "lremovexattr",
        "fremovexattr", "io_setup", "io_destroy", "io_getevents", "io_submit", "getdents64",
        "fadvise64", "utimes", "openat", "mkdirat", "mknodat", "fchownat", "futimesat",
        "newfstatat", "unlinkat", "renameat", "linkat", "symlinkat", "readlinkat", "fchmodat",
        "faccessat", "utimensat", "fallocate", "preadv", "pwritev", "name_to_handle_at",
        "open_by_handle_at", "renameat2", "copy_file_range", "preadv2", "pwritev2", "statx",
        "openat2", "faccessat2", "fchmodat2",
    ]);
    pub(super) const WAIT: &[u32] = &syscalls(["wait4", "waitid"]);
    pub(super) const FORK: &[u32] = &syscalls(["clone", "fork", "vfork", "clone3"]);
    pub(super) const MEMORY: &[u32] = &syscalls([
        "mmap", "mprotect", "munmap", "brk", "mremap", "madvise", "mlock", "munlock", "mlockall",
        "munlockall", "mlock2", "process_madvise",
    ]);
    pub(super) const SEMAPHORE: &[u32] = &syscalls(["semop", "semtimedop"]);
    pub(super) const MESSAGE: &[u32] = &syscalls([
        "msgsnd", "msgrcv", "mq_timedsend", "mq_timedreceive",
    ]);
    pub(super) const SIGNAL: &[u32] = &syscalls(["pause", "rt_sigtimedwait", "rt_sigsuspend"]);
}

/// What blocks in std's own primitives: a futex, or with other systems' locks nothing else.
const FUTEX: Calls = Calls::Of(call::FUTEX);

/// A mutex, of std or parking_lot as tokio was built.
const MUTEX: FunctionTags = FunctionTags::STD_MUTEX.and(FunctionTags::PARKING_LOT);

const fn rule(name: &'static str, cause: Cause, calls: Calls) -> Rule {
    Rule {
        name,
        cause,
        why: "",
        calls,
        argument: None,
        any: FunctionTags::NONE,
        all: FunctionTags::NONE,
    }
}

impl Rule {
    const fn any(mut self, tags: FunctionTags) -> Rule {
        self.any = tags;
        self
    }
    const fn all(mut self, tags: FunctionTags) -> Rule {
        self.all = tags;
        self
    }
    const fn argument(mut self, index: usize, mask: u64, values: &'static [u64]) -> Rule {
        self.argument = Some(Argument {
            index,
            mask,
            values,
        });
        self
    }
    const fn because(mut self, why: &'static str) -> Rule {
        self.why = why;
        self
    }
}

/// All rules, in the order in which they are tried.
pub const RULES: &[Rule] = &[
    rule("stopped", Cause::Other, Calls::Any)
        .any(FunctionTags::K_STOPPED)
        .because(
            "a signal, the freezer or a debugger holds the thread; the program waits for nothing",
        ),
    rule("memory-reclaim", Cause::Memory, Calls::Any)
        .any(FunctionTags::K_RECLAIM)
        .because(
            "the kernel frees memory before it can give any: whatever the thread asked for, it \
             waits for memory (mm/vmscan.c, mm/memcontrol.c)",
        ),
    rule("swap-in", Cause::Memory, Calls::Any)
        .any(FunctionTags::K_SWAP)
        .because("a page of the program's own comes back from swap (mm/memory.c, do_swap_page)"),
    rule("mmap-lock", Cause::Memory, Calls::Any)
        .all(FunctionTags::K_RWSEM.and(FunctionTags::K_MM))
        .because(
            "another thread changes the address space (mmap, munmap, brk), whose lock a page \
             fault needs too (mm/mmap_lock.h)",
        ),
    rule("page-fault-file", Cause::PageFault, Calls::Outside)
        .all(FunctionTags::K_FAULT.and(FunctionTags::K_FILE))
        .because(
            "a page of a mapped file is read from its file system (mm/filemap.c, filemap_fault)",
        ),
    rule("page-fault", Cause::PageFault, Calls::Outside)
        .any(FunctionTags::K_FAULT)
        .because("outside of any system call, in the page fault's handler"),
    rule("page-fault-in-call", Cause::PageFault, Calls::Any)
        .any(FunctionTags::K_FAULT)
        .because(
            "the kernel copies from or to memory of the program whose page must be read first",
        ),
    rule("getaddrinfo", Cause::Dns, Calls::Any)
        .any(FunctionTags::DNS)
        .because(
            "below the resolver every wait is a part of the resolution: files, sockets, locks",
        ),
    rule("child-process", Cause::ChildProcess, Calls::Any)
        .any(FunctionTags::CHILD)
        .because(
            "std's process functions wait for the child's exec, its output and its end \
             (std/src/sys/process/unix)",
        ),
    rule("wait4", Cause::ChildProcess, Calls::Of(call::WAIT))
        .because("wait4 and waitid wait for a child (kernel/exit.c)"),
    rule("vfork", Cause::ChildProcess, Calls::Of(call::FORK)).because(
        "a parent that forks sharing its memory waits until the child calls exec \
             (kernel/fork.c, wait_for_vfork_done)",
    ),
    rule("gil", Cause::Gil, Calls::Any)
        .any(FunctionTags::GIL)
        .because(
            "CPython gives its global interpreter lock to one thread at a time, and takes it only \
             where a function that takes it is on the stack (Python/ceval_gil.c)",
        ),
    rule("runtime-shutdown", Cause::ThreadJoin, FUTEX)
        .any(FunctionTags::TOKIO_SHUTDOWN)
        .because(
            "a runtime that is dropped waits for its blocking pool (tokio's \
             runtime/blocking/shutdown.rs)",
        ),
    rule("thread-join", Cause::ThreadJoin, FUTEX)
        .any(FunctionTags::JOIN)
        .because("a join waits for the thread's end (pthread_join, std::thread::JoinHandle)"),
    rule("channel", Cause::Channel, FUTEX)
        .any(FunctionTags::CHANNEL)
        .because("a synchronous channel that is empty or full parks the thread"),
    rule("barrier", Cause::Condvar, FUTEX)
        .any(FunctionTags::BARRIER)
        .because("a barrier waits on its condition variable for the other threads"),
    rule("stdio-lock", Cause::Stdio, FUTEX)
        .any(FunctionTags::STDIO)
        .because(
            "standard output has one lock for the whole process, which a writer holds until its \
             reader has taken what it wrote (std/src/io/stdio.rs)",
        ),
    rule("tokio-blocking-pool", Cause::Lock, FUTEX)
        .any(MUTEX)
        .all(FunctionTags::TOKIO_POOL)
        .because("the queue of tokio's blocking pool has one lock (runtime/blocking/pool.rs)"),
    rule("tokio-injection-queue", Cause::Lock, FUTEX)
        .any(MUTEX)
        .all(FunctionTags::TOKIO_INJECT)
        .because(
            "the queue of tasks that are woken outside of the workers has one lock (tokio's \
             runtime/scheduler/inject)",
        ),
    rule("tokio-timer", Cause::Lock, FUTEX)
        .any(MUTEX)
        .all(FunctionTags::TOKIO_TIMER)
        .because("tokio's timers have one lock for a runtime (runtime/time)"),
    rule("std-mutex", Cause::Lock, FUTEX)
        .any(FunctionTags::STD_MUTEX)
        .because("std's Mutex, held by another thread (std/src/sys/sync/mutex/futex.rs)"),
    rule("std-rwlock", Cause::Lock, FUTEX)
        .any(FunctionTags::STD_RWLOCK)
        .because("std's RwLock, held by other threads (std/src/sys/sync/rwlock/futex.rs)"),
    rule("parking-lot", Cause::Lock, FUTEX)
        .any(FunctionTags::PARKING_LOT)
        .because("a lock of parking_lot, held by another thread (raw_mutex.rs, lock_slow)"),
    rule("pthread-lock", Cause::Lock, FUTEX)
        .any(FunctionTags::PTHREAD_LOCK)
        .because("a lock of libc, held by another thread (C code: allocator, loader, a library)"),
    rule("rayon-pool", Cause::Condvar, FUTEX)
        .any(FunctionTags::RAYON_POOL)
        .because(
            "a thread of rayon's pool sleeps until there is work for it, or until others have done \
             theirs (rayon-core's sleep/mod.rs, registry.rs)",
        ),
    rule("rayon", Cause::ThreadJoin, FUTEX)
        .any(FunctionTags::RAYON)
        .because("a thread outside of rayon's pool waits until the pool has done its work"),
    rule("block-on", Cause::NestedBlockOn, FUTEX)
        .any(FunctionTags::BLOCK_ON)
        .because(
            "an executor's block_on parks the thread, or waits on a condition variable, until its \
             future is woken (futures-executor/src/local_pool.rs, pollster, tokio's \
             runtime/park.rs)",
        ),
    rule(
        "block-on-driver",
        Cause::NestedBlockOn,
        Calls::Of(call::READY),
    )
    .any(FunctionTags::BLOCK_ON)
    .because("an executor's block_on waits in its I/O driver until its future is woken"),
    rule("once", Cause::Lock, FUTEX)
        .any(FunctionTags::ONCE)
        .because(
            "a Once, OnceLock or LazyLock that another thread initializes \
             (std/src/sys/sync/once/futex.rs)",
        ),
    rule("condvar", Cause::Condvar, FUTEX)
        .any(FunctionTags::CONDVAR)
        .because("a condition variable (std, parking_lot, pthread)"),
    rule("thread-park", Cause::Condvar, FUTEX)
        .any(FunctionTags::PARK)
        .because("the thread parked itself until another one unparks it"),
    rule("futex-park", Cause::Condvar, Calls::Of(call::FUTEX_OP))
        .argument(2, 0xffff_ffff, &[0xffff_ffff])
        .because(
            "the futex word is expected to be -1, std's mark of a parked thread \
             (std/src/sys/sync/thread_parking/futex.rs, PARKED): thread::park, a channel or a \
             block_on whose frames were inlined or have no names",
        ),
    rule("futex-pi", Cause::Lock, Calls::Of(call::FUTEX_OP))
        .argument(1, 0x7f, &[6, 13])
        .because("FUTEX_LOCK_PI: a lock with priority inheritance"),
    rule("futex-requeue", Cause::Condvar, Calls::Of(call::FUTEX_OP))
        .argument(1, 0x7f, &[11])
        .because("FUTEX_WAIT_REQUEUE_PI: only condition variables use it"),
    rule("futex-shared", Cause::ThreadJoin, Calls::Of(call::FUTEX_OP))
        .argument(1, 0xff, &[0, 9])
        .because(
            "a futex that is not private to the process: the kernel wakes such a one at the end \
             of a thread (CLONE_CHILD_CLEARTID), for which pthread_join waits; std's and \
             parking_lot's locks are all private",
        ),
    rule("futex-contended", Cause::Lock, Calls::Of(call::FUTEX_OP))
        .argument(2, 0xffff_ffff, &[2])
        .because(
            "the futex word is expected to be 2, the mark of a mutex for which somebody waits, of std \
             (std/src/sys/sync/mutex/futex.rs, CONTENDED) and of libc (lowlevellock.h)",
        ),
    rule("futex-rwlock", Cause::Lock, Calls::Of(call::FUTEX_OP))
        .argument(2, 0xc000_0000, &[0x4000_0000, 0x8000_0000, 0xc000_0000])
        .because(
            "the futex word is expected to have a mark of std's RwLock for threads that wait \
             (std/src/sys/sync/rwlock/futex.rs, READERS_WAITING and WRITERS_WAITING)",
        ),
    rule("futex", Cause::Futex, FUTEX).because(
        "a futex of unknown use: neither a name nor the expected word tells more",
    ),
    rule("flock", Cause::FileLock, Calls::Of(call::FLOCK)).because("flock waits for a file lock"),
    rule("fcntl-lock", Cause::FileLock, Calls::Of(call::FCNTL))
        .argument(1, u64::MAX, &[7, 38])
        .because("F_SETLKW and F_OFD_SETLKW wait for a lock on a range of a file"),
    rule("file-lock", Cause::FileLock, Calls::Any)
        .any(FunctionTags::K_FILE_LOCK)
        .because("the kernel waits for a lock on a file (fs/locks.c)"),
    rule("sqlite-busy", Cause::FileLock, Calls::Of(call::SLEEP))
        .any(FunctionTags::SQLITE_BUSY)
        .because(
            "another connection holds SQLite's lock on the database file: its busy handler asks \
             again and again, and sleeps in between (main.c, sqliteDefaultBusyCallback)",
        ),
    rule("sleep", Cause::Sleep, Calls::Of(call::SLEEP))
        .because("nanosleep and clock_nanosleep do nothing but sleep"),
    rule("poll-sleep", Cause::Sleep, Calls::Of(call::POLL))
        .argument(1, u64::MAX, &[0])
        .because("a poll of no descriptor is a sleep"),
    rule("fsync", Cause::FileIo, Calls::Of(call::SYNC))
        .because("fsync and its like wait until the disk has it"),
    rule("sync-write", Cause::FileIo, Calls::Any)
        .any(FunctionTags::K_SYNC)
        .because(
            "the kernel syncs a file on its own: O_SYNC, or the file system does so at this call",
        ),
    rule("dirty-throttle", Cause::FileIo, Calls::Any)
        .any(FunctionTags::K_DIRTY)
        .because(
            "too many pages are dirty: whoever writes more is made to wait for the disk \
             (mm/page-writeback.c, balance_dirty_pages)",
        ),
    rule("stdio-write", Cause::Stdio, Calls::Of(call::STREAM))
        .any(FunctionTags::STDIO)
        .because("writes to standard output or error, and waits for whoever reads that"),
    rule("stdio-descriptor", Cause::Stdio, Calls::Of(call::WRITE))
        .argument(0, u64::MAX, &[1, 2])
        .because("descriptors 1 and 2 are standard output and error, whoever writes to them"),
    rule("stdin-read", Cause::Stdio, Calls::Of(call::READ))
        .argument(0, u64::MAX, &[0])
        .any(FunctionTags::K_PIPE)
        .because("descriptor 0 is standard input, whoever reads it"),
    rule("pipe", Cause::Pipe, Calls::Any)
        .any(FunctionTags::K_PIPE)
        .because("the kernel waits for the other end of a pipe or FIFO (fs/pipe.c)"),
    rule("event-loop", Cause::Poll, Calls::Of(call::READY))
        .any(FunctionTags::EVENT_LOOP)
        .because("the event loop of libuv, libev, libevent or GLib has nothing to do just now"),
    rule("poll", Cause::Poll, Calls::Of(call::READY)).because("waits for readiness of descriptors"),
    rule("socket-call", Cause::Network, Calls::Of(call::SOCKET))
        .because("only sockets have this system call"),
    rule("socket", Cause::Network, Calls::Any)
        .any(FunctionTags::K_SOCKET)
        .because("the kernel waits in a protocol of the network"),
    rule("terminal", Cause::Other, Calls::Any)
        .any(FunctionTags::K_TTY)
        .because("reads from or writes to a terminal"),
    rule("event-descriptor", Cause::Other, Calls::Any)
        .any(FunctionTags::K_EVENT)
        .because("reads an eventfd, a timerfd, a signalfd or inotify"),
    rule("memory-call", Cause::Memory, Calls::Of(call::MEMORY))
        .because("changes the address space, and waits for its lock or for other CPUs"),
    rule("file-call", Cause::FileIo, Calls::Of(call::FILE))
        .because("only files and directories have this system call"),
    rule("file", Cause::FileIo, Calls::Any)
        .any(FunctionTags::K_FILE)
        .because("the kernel waits in a file system, the page cache or a block device"),
    rule("std-pipe", Cause::Pipe, Calls::Of(call::STREAM))
        .any(FunctionTags::PIPES)
        .because("the kernel's stack does not tell, but std::io::pipe made the call"),
    rule("std-net", Cause::Network, Calls::Of(call::STREAM))
        .any(FunctionTags::SOCKETS)
        .because(
            "the kernel's stack does not tell, but std::net or std::os::unix::net made the call",
        ),
    rule("std-fs", Cause::FileIo, Calls::Of(call::STREAM))
        .any(FunctionTags::FILES)
        .because("the kernel's stack does not tell, but std::fs made the call"),
    rule("semaphore", Cause::Lock, Calls::Of(call::SEMAPHORE)).because("System V semaphores"),
    rule("message-queue", Cause::Channel, Calls::Of(call::MESSAGE))
        .because("System V and POSIX message queues"),
    rule("signal", Cause::Other, Calls::Of(call::SIGNAL)).because("waits for a signal"),
    rule("library-sleep", Cause::Sleep, Calls::Any)
        .any(FunctionTags::SLEEP)
        .because("a sleep function made of another system call"),
];

/// The rule of a wait on which no rule holds.
pub(super) const NO_RULE: &str = "no-cause";
