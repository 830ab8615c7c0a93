//! What to do instead: one table, the most specific line first.

use super::kind::Cause;
use schemars::JsonSchema;
use serde::Serialize;

/// A line of the table: given where the cause is right and, if it names any, one of the
/// functions was called (or one of the rules decided).
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// For which cause.
    pub cause: Cause,
    /// Patterns over normalised paths, as in the rules; empty: any.
    pub called: &'static [&'static str],
    /// Names of rules; empty: any.
    pub rules: &'static [&'static str],
    /// What to do, in one line.
    pub suggestion: Suggestion,
}

/// What a reader is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Suggestion {
    /// One line.
    pub text: &'static str,
    /// Where it is documented.
    pub url: &'static str,
}

impl Advice {
    /// Whether this line is for such a wait; `called` says whether a function that fits a
    /// pattern was called.
    pub(super) fn fits(&self, cause: Cause, rule: &str, called: impl Fn(&str) -> bool) -> bool {
        self.cause == cause
            && (self.rules.is_empty() || self.rules.contains(&rule))
            && (self.called.is_empty() || self.called.iter().any(|pattern| called(pattern)))
    }
}

const fn advice(
    cause: Cause,
    called: &'static [&'static str],
    text: &'static str,
    url: &'static str,
) -> Advice {
    Advice {
        cause,
        called,
        rules: &[],
        suggestion: Suggestion { text, url },
    }
}

const fn by_rule(
    cause: Cause,
    rules: &'static [&'static str],
    text: &'static str,
    url: &'static str,
) -> Advice {
    Advice {
        cause,
        called: &[],
        rules,
        suggestion: Suggestion { text, url },
    }
}

const SPAWN_BLOCKING: &str = "https://docs.rs/tokio/latest/tokio/task/fn.spawn_blocking.html";
const TOKIO_FS: &str = "https://docs.rs/tokio/latest/tokio/fs/index.html";
const TOKIO_NET: &str = "https://docs.rs/tokio/latest/tokio/net/index.html";
const TOKIO_MUTEX: &str =
    "https://docs.rs/tokio/latest/tokio/sync/struct.Mutex.html#which-kind-of-mutex-should-you-use";

/// Database drivers that block, and how their functions are called.
const SQLITE: &[&str] = &["rusqlite::*", "sqlite3_*", "sqlite3*"];
const POSTGRES: &[&str] = &["postgres::*", "PQ*", "pq_*"];
const DIESEL: &[&str] = &["diesel::*"];
const POOLED: &[&str] = &["r2d2::*", "r2d2_*"];
const OTHER_DB: &[&str] = &[
    "mysql::*",
    "redis::connection::*",
    "redis::Connection::*",
    "rocksdb::*",
    "librocksdb_sys::*",
    "sled::*",
    "redb::*",
    "oracle::*",
    "odbc_api::*",
    "mysql_*",
];
const BLOCKING_HTTP: &[&str] = &["reqwest::blocking::*"];
const OTHER_HTTP: &[&str] = &[
    "ureq::*",
    "minreq::*",
    "attohttpc::*",
    "curl::*",
    "isahc::*",
];

/// A driver's wait is a wait of any of these causes.
macro_rules! for_driver {
    ($cause:expr) => {
        [
            advice(
                $cause,
                SQLITE,
                "SQLite is synchronous: run the query in `tokio::task::spawn_blocking`, or use `tokio-rusqlite` or `sqlx`",
                SPAWN_BLOCKING,
            ),
            advice(
                $cause,
                POSTGRES,
                "`postgres` blocks the thread: use `tokio-postgres` (the same interface, async) or `sqlx`",
                "https://docs.rs/tokio-postgres",
            ),
            advice(
                $cause,
                DIESEL,
                "diesel is synchronous: use `diesel-async`, or run the query in `spawn_blocking` (deadpool-diesel's `interact`)",
                "https://docs.rs/diesel-async",
            ),
            advice(
                $cause,
                POOLED,
                "`r2d2` blocks until a connection is free: use an async pool (deadpool, bb8), or take the connection in `spawn_blocking`",
                "https://docs.rs/deadpool",
            ),
            advice(
                $cause,
                OTHER_DB,
                "this database driver blocks the thread: use its async interface, or call it in `tokio::task::spawn_blocking`",
                SPAWN_BLOCKING,
            ),
            advice(
                $cause,
                BLOCKING_HTTP,
                "`reqwest::blocking` blocks the thread: use the async `reqwest::Client` and `.await`",
                "https://docs.rs/reqwest/latest/reqwest/struct.Client.html",
            ),
            advice(
                $cause,
                OTHER_HTTP,
                "this HTTP client blocks the thread: use an async one (reqwest, hyper), or call it in `spawn_blocking`",
                "https://docs.rs/reqwest/latest/reqwest/struct.Client.html",
            ),
        ]
    };
}

const FILE_DRIVERS: [Advice; 7] = for_driver!(Cause::FileIo);
const LOCK_FILE_DRIVERS: [Advice; 7] = for_driver!(Cause::FileLock);
const SLEEP_DRIVERS: [Advice; 7] = for_driver!(Cause::Sleep);
const NET_DRIVERS: [Advice; 7] = for_driver!(Cause::Network);
const POLL_DRIVERS: [Advice; 7] = for_driver!(Cause::Poll);
const CONDVAR_DRIVERS: [Advice; 7] = for_driver!(Cause::Condvar);
const BLOCK_ON_DRIVERS: [Advice; 7] = for_driver!(Cause::NestedBlockOn);
const CHANNEL_DRIVERS: [Advice; 7] = for_driver!(Cause::Channel);

const DRIVERS: &[&[Advice]] = &[
    &FILE_DRIVERS,
    &LOCK_FILE_DRIVERS,
    &SLEEP_DRIVERS,
    &NET_DRIVERS,
    &POLL_DRIVERS,
    &CONDVAR_DRIVERS,
    &BLOCK_ON_DRIVERS,
    &CHANNEL_DRIVERS,
];

/// The lines that are about no driver.
const GENERAL: &[Advice] = &[
    // Files.
    by_rule(
        Cause::FileIo,
        &["fsync", "sync-write"],
        "syncing waits for the disk: `tokio::fs::File::sync_all().await`, in batches, or on a thread of its own",
        "https://docs.rs/tokio/latest/tokio/fs/struct.File.html#method.sync_all",
    ),
    by_rule(
        Cause::FileIo,
        &["dirty-throttle"],
        "the disk does not keep up with what is written: write less or slower, and from `spawn_blocking`",
        SPAWN_BLOCKING,
    ),
    advice(
        Cause::FileIo,
        &["std::fs::read"],
        "use `tokio::fs::read(path).await`, or `spawn_blocking` around several file operations",
        "https://docs.rs/tokio/latest/tokio/fs/fn.read.html",
    ),
    advice(
        Cause::FileIo,
        &["std::fs::read_to_string"],
        "use `tokio::fs::read_to_string(path).await`, or `spawn_blocking` around several file operations",
        "https://docs.rs/tokio/latest/tokio/fs/fn.read_to_string.html",
    ),
    advice(
        Cause::FileIo,
        &["std::fs::write"],
        "use `tokio::fs::write(path, data).await`, or `spawn_blocking` around several file operations",
        "https://docs.rs/tokio/latest/tokio/fs/fn.write.html",
    ),
    advice(
        Cause::FileIo,
        &["std::fs::copy"],
        "use `tokio::fs::copy(from, to).await`",
        "https://docs.rs/tokio/latest/tokio/fs/fn.copy.html",
    ),
    advice(
        Cause::FileIo,
        &["std::fs::read_dir", "std::fs::ReadDir::*", "walkdir::*"],
        "use `tokio::fs::read_dir(path).await`, or walk the directory in `spawn_blocking`",
        "https://docs.rs/tokio/latest/tokio/fs/fn.read_dir.html",
    ),
    advice(
        Cause::FileIo,
        &[
            "std::fs::File::open*",
            "std::fs::OpenOptions::*",
            "std::fs::File::create*",
        ],
        "use `tokio::fs::File` or `tokio::fs::OpenOptions`, or open in `spawn_blocking`",
        "https://docs.rs/tokio/latest/tokio/fs/struct.File.html",
    ),
    advice(
        Cause::FileIo,
        &["memmap2::*", "memmap::*"],
        "a mapped file reads from the disk when it is touched: work on it in `spawn_blocking`",
        SPAWN_BLOCKING,
    ),
    advice(
        Cause::FileIo,
        &[],
        "use `tokio::fs`, or `tokio::task::spawn_blocking` around the whole file operation",
        TOKIO_FS,
    ),
    advice(
        Cause::FileLock,
        &[],
        "wait for the file lock in `spawn_blocking`, or try it (`try_lock`) with `tokio::time::sleep` in between",
        SPAWN_BLOCKING,
    ),
    by_rule(
        Cause::PageFault,
        &["page-fault"],
        "memory is touched for the first time, as a new thread's stack is, or its address space is being changed: short of memory (memory.high), or many mmap and munmap calls",
        "https://docs.kernel.org/admin-guide/mm/concepts.html",
    ),
    advice(
        Cause::PageFault,
        &[],
        "memory of a mapped file is read from disk when touched: touch it in `spawn_blocking`, or read it with `tokio::fs`",
        SPAWN_BLOCKING,
    ),
    by_rule(
        Cause::Memory,
        &["memory-reclaim"],
        "the machine or the cgroup is short of memory: raise the limit (memory.high, memory.max) or use less",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory",
    ),
    by_rule(
        Cause::Memory,
        &["swap-in"],
        "the process's own memory was swapped out: give it more memory, or less swap (memory.swap.max)",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory",
    ),
    advice(
        Cause::Memory,
        &[],
        "mmap, munmap and brk of other threads hold the address space's lock: use an allocator that returns memory less often, and map in few large pieces",
        "https://docs.kernel.org/mm/process_addrs.html",
    ),
    // Sockets and pipes.
    advice(
        Cause::Network,
        &["std::net::*TcpStream::connect*"],
        "use `tokio::net::TcpStream::connect(addr).await`",
        "https://docs.rs/tokio/latest/tokio/net/struct.TcpStream.html#method.connect",
    ),
    advice(
        Cause::Network,
        &["std::net::*TcpListener::*"],
        "use `tokio::net::TcpListener` and `accept().await`",
        "https://docs.rs/tokio/latest/tokio/net/struct.TcpListener.html",
    ),
    // One line for all: their functions have the same code, and may be one to the linker.
    advice(
        Cause::Network,
        &[
            "std::net::*TcpStream::*",
            "std::net::*UdpSocket::*",
            "std::os::unix::net::*",
            "std::sys::*net::*",
        ],
        "use the socket of the same name in `tokio::net` (`TcpStream`, `UdpSocket`, `UnixStream`) and `.await` its reads and writes",
        TOKIO_NET,
    ),
    advice(
        Cause::Network,
        &[],
        "use tokio's sockets or an async client; a library that can only block belongs in `spawn_blocking`",
        TOKIO_NET,
    ),
    by_rule(
        Cause::Stdio,
        &["stdin-read"],
        "standard input waits for whoever writes to it: read it in a thread of its own that sends what it reads through a channel",
        "https://docs.rs/tokio/latest/tokio/io/struct.Stdin.html",
    ),
    advice(
        Cause::Stdio,
        &[],
        "standard output blocks when its reader is slow, and everybody else who logs with it: log through a thread of its own (`tracing_appender::non_blocking`)",
        "https://docs.rs/tracing-appender/latest/tracing_appender/non_blocking/index.html",
    ),
    advice(
        Cause::Gil,
        &[],
        "another thread runs Python: give the lock up around work that needs no Python (PyO3's `Python::detach`, before 0.26 `allow_threads`), and take it in `spawn_blocking`",
        "https://pyo3.rs/latest/parallelism.html",
    ),
    advice(
        Cause::Pipe,
        &["std::fs::*"],
        "opening or reading a FIFO waits for its other end: use `tokio::net::unix::pipe`",
        "https://docs.rs/tokio/latest/tokio/net/unix/pipe/index.html",
    ),
    advice(
        Cause::Pipe,
        &[],
        "use `tokio::net::unix::pipe`, or `tokio::process` for the output of a child",
        "https://docs.rs/tokio/latest/tokio/net/unix/pipe/index.html",
    ),
    by_rule(
        Cause::Poll,
        &["event-loop"],
        "another library's event loop runs on this thread: poll no task there, but on the workers of a runtime",
        "https://docs.rs/tokio/latest/tokio/runtime/index.html",
    ),
    advice(
        Cause::Poll,
        &[],
        "let tokio poll: `tokio::io::unix::AsyncFd` for a descriptor of your own, or `spawn_blocking` around the library",
        "https://docs.rs/tokio/latest/tokio/io/unix/struct.AsyncFd.html",
    ),
    advice(
        Cause::Dns,
        &[],
        "`ToSocketAddrs` calls getaddrinfo, which blocks: use `tokio::net::lookup_host(name).await`",
        "https://docs.rs/tokio/latest/tokio/net/fn.lookup_host.html",
    ),
    // Time.
    advice(
        Cause::Sleep,
        &[],
        "use `tokio::time::sleep(duration).await` instead of `std::thread::sleep`",
        "https://docs.rs/tokio/latest/tokio/time/fn.sleep.html",
    ),
    // Other threads.
    by_rule(
        Cause::Lock,
        &["tokio-blocking-pool"],
        "many tasks call `spawn_blocking` at once (tokio::fs does so for each operation): do more in one closure",
        SPAWN_BLOCKING,
    ),
    by_rule(
        Cause::Lock,
        &["tokio-injection-queue"],
        "tasks are spawned or woken from outside of the workers very often: spawn from inside the runtime, and wake in batches",
        "https://docs.rs/tokio/latest/tokio/runtime/index.html#multi-threaded-runtime-behavior-at-the-time-of-writing",
    ),
    by_rule(
        Cause::Lock,
        &["tokio-timer"],
        "timers are set and cancelled very often: one deadline for a whole request instead of one for each step",
        "https://docs.rs/tokio/latest/tokio/time/index.html",
    ),
    advice(
        Cause::Lock,
        &["parking_lot::raw_rwlock::*", "lock_api::rwlock::*"],
        "hold the RwLock for less: no slow work under it; `tokio::sync::RwLock` if it must be held across an `.await`",
        "https://docs.rs/tokio/latest/tokio/sync/struct.RwLock.html",
    ),
    by_rule(
        Cause::Lock,
        &["std-rwlock"],
        "hold the RwLock for less: no slow work under it; `tokio::sync::RwLock` if it must be held across an `.await`",
        "https://docs.rs/tokio/latest/tokio/sync/struct.RwLock.html",
    ),
    by_rule(
        Cause::Lock,
        &["once"],
        "another thread initializes this cell: initialize it before the runtime starts, or use `tokio::sync::OnceCell`",
        "https://docs.rs/tokio/latest/tokio/sync/struct.OnceCell.html",
    ),
    by_rule(
        Cause::Lock,
        &["pthread-lock"],
        "a lock inside C code (allocator, loader, a library): call that library in `spawn_blocking`, or less from many threads",
        SPAWN_BLOCKING,
    ),
    by_rule(
        Cause::Lock,
        &["std-mutex", "parking-lot"],
        "hold the mutex for less: no I/O or slow work under it; `tokio::sync::Mutex` if it must be held across an `.await`",
        TOKIO_MUTEX,
    ),
    advice(
        Cause::Lock,
        &[],
        "another thread holds this lock: do no slow work under it; `tokio::sync::Mutex` if it must be held across an `.await`",
        TOKIO_MUTEX,
    ),
    advice(
        Cause::Futex,
        &[],
        "no name on the stack tells what this futex is (a lock, a condition variable, a channel, a nested `block_on`): record a build with symbols and line tables",
        "https://doc.rust-lang.org/cargo/reference/profiles.html#debug",
    ),
    by_rule(
        Cause::Condvar,
        &["barrier"],
        "use `tokio::sync::Barrier` and `wait().await`",
        "https://docs.rs/tokio/latest/tokio/sync/struct.Barrier.html",
    ),
    by_rule(
        Cause::Condvar,
        &["thread-park", "futex-park"],
        "a parked worker polls nothing: use `tokio::sync::Notify` (with `tokio::time::timeout`) instead of `thread::park`",
        "https://docs.rs/tokio/latest/tokio/sync/struct.Notify.html",
    ),
    by_rule(
        Cause::Condvar,
        &["rayon-pool"],
        "a thread of rayon's pool waits for the others of it: run no runtime and no task there, and get results from rayon by `tokio::sync::oneshot`",
        "https://docs.rs/tokio/latest/tokio/task/index.html#cpu-bound-tasks-and-blocking-code",
    ),
    advice(
        Cause::Condvar,
        &[],
        "use `tokio::sync::Notify` or `tokio::sync::watch` instead of a Condvar",
        "https://docs.rs/tokio/latest/tokio/sync/struct.Notify.html",
    ),
    advice(
        Cause::Channel,
        &["*send*"],
        "a full synchronous channel blocks its sender: use `tokio::sync::mpsc` and `send(value).await`",
        "https://docs.rs/tokio/latest/tokio/sync/mpsc/index.html",
    ),
    advice(
        Cause::Channel,
        &["flume::*"],
        "use `recv_async().await` and `send_async().await` of flume",
        "https://docs.rs/flume/latest/flume/struct.Receiver.html#method.recv_async",
    ),
    advice(
        Cause::Channel,
        &[],
        "`recv()` blocks the thread: use `tokio::sync::mpsc` and `recv().await`",
        "https://docs.rs/tokio/latest/tokio/sync/mpsc/index.html",
    ),
    advice(
        Cause::NestedBlockOn,
        &[],
        "`.await` the future instead of `block_on` inside a task; from synchronous code use `tokio::task::block_in_place` with `Handle::block_on`",
        "https://docs.rs/tokio/latest/tokio/runtime/struct.Handle.html#method.block_on",
    ),
    by_rule(
        Cause::ThreadJoin,
        &["runtime-shutdown"],
        "dropping a runtime waits for its `spawn_blocking` closures: use `shutdown_background` or `shutdown_timeout`, and do not make a runtime for each call",
        "https://docs.rs/tokio/latest/tokio/runtime/struct.Runtime.html#shutdown",
    ),
    by_rule(
        Cause::ThreadJoin,
        &["rayon"],
        "hand the work to rayon with `rayon::spawn` and get its result by `tokio::sync::oneshot`",
        "https://docs.rs/tokio/latest/tokio/task/index.html#cpu-bound-tasks-and-blocking-code",
    ),
    advice(
        Cause::ThreadJoin,
        &[],
        "`JoinHandle::join` blocks until the thread ends: start the work with `spawn_blocking` and `.await` its handle",
        SPAWN_BLOCKING,
    ),
    advice(
        Cause::ChildProcess,
        &[
            "std::process::Command::output",
            "std::process::Child::wait_with_output",
        ],
        "use `tokio::process::Command` and `output().await`",
        "https://docs.rs/tokio/latest/tokio/process/struct.Command.html#method.output",
    ),
    advice(
        Cause::ChildProcess,
        &["std::process::Command::status"],
        "use `tokio::process::Command` and `status().await`",
        "https://docs.rs/tokio/latest/tokio/process/struct.Command.html#method.status",
    ),
    advice(
        Cause::ChildProcess,
        &[],
        "use `tokio::process::Command` and `child.wait().await`",
        "https://docs.rs/tokio/latest/tokio/process/struct.Child.html#method.wait",
    ),
];

/// The whole table, in the order in which it is read: drivers before what they are made of.
pub const ADVICE: &Table = &Table(());

/// [`ADVICE`].
#[derive(Clone, Copy, Debug)]
pub struct Table(());

impl Table {
    /// Every line.
    pub fn iter(&self) -> impl Iterator<Item = &'static Advice> {
        DRIVERS.iter().copied().flatten().chain(GENERAL)
    }
}
