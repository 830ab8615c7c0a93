//! What single functions are to tokio: the vocabulary of the rules, as a table of patterns over
//! normalised paths.
//!
//! Pattern syntax: `{a|b|}` is any of the alternatives (an empty one may be left out), a final
//! `$` demands the whole path, a final `*` allows any continuation of the last word; otherwise a
//! pattern covers the path itself and everything below it (`x::f` covers `x::f::{closure}`).
//! Where an impl's type is optional (`{Harness::|}`), the short names of line tables lack it.

use std::collections::HashMap;
use std::ops::{BitOr, BitOrAssign};
use std::sync::LazyLock;

/// A set of roles that one function may play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Markers(u32);

impl Markers {
    /// Polls a task, or drops it at shutdown. One of these survives in every build with symbols
    /// (the task's vtable points to it).
    pub const TASK: Markers = Markers(1);
    /// `block_in_place`: the worker's core was handed to another thread.
    pub const BLOCK_IN_PLACE: Markers = Markers(1 << 1);
    /// The condvar on which `block_on` waits when it has nothing to poll.
    pub const THREAD_PARK: Markers = Markers(1 << 2);
    /// The I/O, time, signal and process drivers.
    pub const DRIVER: Markers = Markers(1 << 3);
    /// A `multi_thread` worker's park.
    pub const WORKER_PARK: Markers = Markers(1 << 4);
    /// A `multi_thread` worker's run loop.
    pub const WORKER: Markers = Markers(1 << 5);
    /// A `current_thread` runtime's park.
    pub const SINGLE_PARK: Markers = Markers(1 << 6);
    /// A `current_thread` runtime's run loop.
    pub const SINGLE: Markers = Markers(1 << 7);
    /// A `LocalSet`'s run loop.
    pub const LOCAL_SET: Markers = Markers(1 << 8);
    /// `block_on` of a runtime, a handle or a blocking call (`blocking_recv`).
    pub const BLOCK_ON: Markers = Markers(1 << 9);
    /// A blocking-pool thread's run loop.
    pub const POOL: Markers = Markers(1 << 10);
    /// The end of a runtime, on the thread that ends it.
    pub const SHUTDOWN: Markers = Markers(1 << 11);
    /// std's entry of a thread that may be the pool's, as far as is known: it calls a task's poll
    /// or waits, with nothing between. Not in the table: [`super::Classifier`] finds it.
    pub const THREAD_ENTRY: Markers = Markers(1 << 14);
    /// Code that lies between a park and its system call and does nothing but wait.
    pub const WAITS: Markers = Markers(1 << 12);
    /// Runs wakers: what is called from here is not the park's own wait.
    pub const WAKES: Markers = Markers(1 << 13);

    /// Whether any of `other` is in this set.
    #[must_use]
    pub const fn any(self, other: Markers) -> bool {
        self.0 & other.0 != 0
    }

    /// All of `sets` together.
    #[must_use]
    pub const fn of(sets: &[Markers]) -> Markers {
        let (mut all, mut i) = (Markers(0), 0);
        while i < sets.len() {
            all = all.and(sets[i]);
            i += 1;
        }
        all
    }

    /// Whether nothing is in this set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set and `other`.
    #[must_use]
    pub const fn and(self, other: Markers) -> Markers {
        Markers(self.0 | other.0)
    }
}

impl BitOr for Markers {
    type Output = Markers;
    fn bitor(self, other: Markers) -> Markers {
        self.and(other)
    }
}

impl BitOrAssign for Markers {
    fn bitor_assign(&mut self, other: Markers) {
        *self = self.and(other);
    }
}

/// Paths by what they are. Names of 1.20: `thread_pool`, `basic_scheduler`, `park::thread`,
/// `enter`, `io::driver`, `time::driver`. `multi_thread_alt`: 1.33 to 1.39, unstable.
const TABLE: &[(Markers, &[&str])] = &[
    (
        Markers::TASK,
        &[
            "tokio::runtime::task::raw::{RawTask::|}{poll|shutdown}",
            "tokio::runtime::task::harness::{Harness::|}{poll|poll_inner|poll_future|shutdown|complete}",
            "tokio::runtime::task::core::{Core::|CoreStage::|}poll",
        ],
    ),
    (
        Markers::BLOCK_IN_PLACE,
        &[
            "tokio::runtime::{scheduler::multi_thread|scheduler::multi_thread_alt|thread_pool}::worker::block_in_place",
            "tokio::runtime::scheduler::block_in_place::block_in_place",
            "tokio::task::{blocking::|}block_in_place",
            "tokio::runtime::context::{runtime_mt::|}exit_runtime",
            "tokio::runtime::enter::exit",
        ],
    ),
    (
        Markers::THREAD_PARK.and(Markers::WAITS),
        &[
            "tokio::{runtime::park|park::thread}::{Inner::|ParkThread::|CachedParkThread::|}{park|park_timeout}",
        ],
    ),
    (
        Markers::DRIVER.and(Markers::WAITS),
        &[
            "tokio::runtime::driver::{Driver::|IoStack::|TimeDriver::|}{park|park_timeout}",
            "tokio::runtime::{io|time|signal|process}::{driver::|}{Driver::|}{park|park_timeout|park_internal|park_thread_timeout|turn}",
            "tokio::{io|time}::driver::{Driver::|}{park|park_timeout|park_internal|park_thread_timeout|turn}",
            "tokio::signal::unix::driver::{Driver::|}{park|park_timeout}",
            "tokio::process::{imp|unix}::driver::{Driver::|}{park|park_timeout}",
            "tokio::park::either::{Either::|}{park|park_timeout}",
        ],
    ),
    (
        Markers::WORKER_PARK.and(Markers::WAITS),
        &[
            "tokio::runtime::{scheduler::multi_thread|scheduler::multi_thread_alt|thread_pool}::worker::{Context::|Worker::|}{park|park_yield|park_timeout|park_internal|do_park|poll_driver}",
            "tokio::runtime::{scheduler::multi_thread|scheduler::multi_thread_alt|thread_pool}::park::{Parker::|Inner::|}{park|park_timeout|park_driver|park_condvar}",
        ],
    ),
    (
        Markers::WORKER,
        &[
            "tokio::runtime::{scheduler::multi_thread|scheduler::multi_thread_alt|thread_pool}::worker::{Context::|Worker::|}{run|run_task|maintenance}",
            "tokio::runtime::{scheduler::multi_thread|thread_pool}::worker::Launch::launch::{closure}",
        ],
    ),
    (
        Markers::SINGLE_PARK.and(Markers::WAITS),
        &[
            "tokio::runtime::{scheduler::current_thread|basic_scheduler}::{Context::|}{park|park_yield|park_internal}",
        ],
    ),
    (
        Markers::SINGLE.and(Markers::WAITS),
        &[
            "tokio::runtime::{scheduler::current_thread|basic_scheduler}::{Context::|CoreGuard::|CurrentThread::|BasicScheduler::|}{run_task|block_on|shutdown|shutdown2|drop}",
        ],
    ),
    (
        Markers::LOCAL_SET,
        &[
            "tokio::task::local::{LocalSet::|RunUntil::|}{poll|tick|with|run_until}",
            "tokio::task::local::LocalSet::{with_if_possible|drop}",
        ],
    ),
    (
        Markers::BLOCK_ON.and(Markers::WAITS),
        &[
            "tokio::{runtime::park|park::thread}::{CachedParkThread::|}block_on",
            "tokio::runtime::context::blocking::{BlockingRegionGuard::|}{block_on|block_on_timeout}",
            "tokio::runtime::enter::{Enter::|}{block_on|block_on_timeout}",
            "tokio::future::block_on::block_on",
            "tokio::runtime::{runtime::|}{Runtime::|}{block_on|block_on_inner}",
            "tokio::runtime::handle::{Handle::|}{block_on|block_on_inner}",
            "tokio::runtime::local_runtime::runtime::{LocalRuntime::|}{block_on|block_on_inner}",
            "tokio::runtime::scheduler::{multi_thread|multi_thread_alt}::{MultiThread::|}block_on",
            "tokio::runtime::thread_pool::{ThreadPool::|}block_on",
        ],
    ),
    (
        Markers::POOL,
        &[
            "tokio::runtime::blocking::pool::{Inner::|}run$",
            "tokio::runtime::blocking::pool::{LockedImpl::|InnerImpl::|}run_worker",
            "tokio::runtime::blocking::sharded::{ShardedImpl::|}run_worker",
            "tokio::runtime::blocking::pool::{Spawner::|}spawn_thread::{closure}",
            "{std::sys::backtrace|std::sys_common::backtrace}::__rust_begin_short_backtrace<tokio::runtime::blocking::pool::Spawner::spawn_thread*",
        ],
    ),
    (
        Markers::SHUTDOWN,
        &[
            "core::ptr::drop_in_place<tokio::runtime::{runtime::Runtime|Runtime|blocking::pool::BlockingPool}>",
            "tokio::runtime::{runtime::|}{Runtime::|}{drop|shutdown_timeout|shutdown_background}",
            "core::ptr::drop_in_place<tokio::runtime::local_runtime::runtime::LocalRuntime>",
            "tokio::runtime::local_runtime::runtime::{LocalRuntime::|}{drop|shutdown_timeout|shutdown_background}",
            "tokio::runtime::blocking::pool::{BlockingPool::|}{shutdown|drop}",
            "tokio::runtime::blocking::shutdown::{Receiver::|}wait",
        ],
    ),
    (
        Markers::WAITS,
        &[
            "{mio|tokio::loom|tokio::runtime::context|tokio::runtime::enter|tokio::macros::scoped_tls}",
            "tokio::runtime::{io|time|signal|process|driver|park}",
            "tokio::{io::driver|time::driver|signal|process|park|util}",
            // Wrappers and closures between a scheduler's park and its driver.
            "tokio::runtime::{scheduler::current_thread|basic_scheduler}",
            "tokio::runtime::{scheduler::multi_thread|scheduler::multi_thread_alt|thread_pool}::{worker|park}::{closure}",
            "std::sys::{sync::condvar|pal::unix::sync::condvar|locks::condvar}",
            "std::sys::{unix::|pal::unix::|}{futex|locks::futex_condvar|locks::pthread_condvar}",
            "std::{sys_common::condvar|sync::condvar|sync::poison::condvar|sync::nonpoison::condvar}",
            "std::thread::local::{LocalKey::|}{with|try_with}",
            "{parking_lot::condvar|parking_lot_core}",
        ],
    ),
];

/// Words of a path that tell that wakers run here, or that a lock is contended: the wait is not
/// the park's own.
const WAKING_WORDS: &[&str] = &[
    "process_at_time",
    "process_at_sharded_time",
    "wake",
    "wake_all",
    "wake0",
    "wake_by_ref",
    "wake_by_val",
    "WakeList",
    "mutex",
    "Mutex",
    "rwlock",
    "RwLock",
    "once",
    "Once",
];

/// Beginnings of C functions, without leading underscores, that a park's system call may go
/// through (glibc, musl). `syscall` is what std calls for a futex.
const WAITING_C: &[&str] = &[
    "syscall",
    "internal_syscall_cancel",
    "epoll_wait",
    "epoll_pwait",
    "futex_",
    "pthread_cond_",
    "timedwait",
    "cp_end",
];

/// [`TABLE`], expanded once.
static EXPANDED: LazyLock<Table> = LazyLock::new(Table::new);

/// What the function with this normalised path is.
pub(super) fn look_up(path: &str) -> Markers {
    EXPANDED.look_up(path)
}

/// The table, ready to look paths up.
#[derive(Debug)]
struct Table {
    /// Whole paths, and heads of paths that end at `::`.
    whole: HashMap<String, Markers>,
    heads: HashMap<String, Markers>,
    prefixes: Vec<(String, Markers)>,
}

impl Table {
    fn new() -> Table {
        let mut table = Table {
            whole: HashMap::new(),
            heads: HashMap::new(),
            prefixes: Vec::new(),
        };
        for (markers, patterns) in TABLE {
            for path in patterns.iter().flat_map(|p| expand(p)) {
                if let Some(whole) = path.strip_suffix('$') {
                    *table.whole.entry(whole.to_owned()).or_default() |= *markers;
                } else if let Some(prefix) = path.strip_suffix('*') {
                    table.prefixes.push((prefix.to_owned(), *markers));
                } else {
                    *table.heads.entry(path).or_default() |= *markers;
                }
            }
        }
        table
    }

    fn look_up(&self, path: &str) -> Markers {
        let mut found = self.whole.get(path).copied().unwrap_or_default();
        for (at, _) in path.match_indices("::") {
            if let Some(m) = path.get(..at).and_then(|head| self.heads.get(head)) {
                found |= *m;
            }
        }
        if let Some(m) = self.heads.get(path) {
            found |= *m;
        }
        for (prefix, m) in &self.prefixes {
            if path.starts_with(prefix.as_str()) {
                found |= *m;
            }
        }
        if !path.contains("::") {
            let c = path
                .trim_start_matches('_')
                .trim_start_matches("GI_")
                .trim_start_matches('_');
            if WAITING_C.iter().any(|w| c.starts_with(w)) {
                found |= Markers::WAITS;
            }
        } else if path.split("::").any(|word| WAKING_WORDS.contains(&word)) {
            found |= Markers::WAKES;
        }
        found
    }
}

/// All paths that a pattern with `{a|b}` alternatives stands for. `{closure}` is no alternative:
/// braces without `|` stand for themselves.
fn expand(pattern: &str) -> Vec<String> {
    let choice = pattern.match_indices('{').find_map(|(open, _)| {
        let close = open + pattern.get(open..)?.find('}')?;
        let inner = pattern.get(open + 1..close)?;
        inner.contains('|').then_some((open, close, inner))
    });
    let Some((open, close, inner)) = choice else {
        return vec![pattern.to_owned()];
    };
    let (head, tail) = (
        pattern.get(..open).unwrap_or(""),
        pattern.get(close + 1..).unwrap_or(""),
    );
    let tails = expand(tail);
    inner
        .split('|')
        .flat_map(|word| tails.iter().map(move |t| format!("{head}{word}{t}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_expand_and_closures_stay() {
        assert_eq!(
            expand("a::{b|c::|}d::{closure}"),
            ["a::bd::{closure}", "a::c::d::{closure}", "a::d::{closure}"]
        );
        assert_eq!(expand("x$"), ["x$"]);
    }

    #[test]
    fn a_pattern_ends_at_a_word_boundary() {
        let poll = "tokio::runtime::task::raw::poll";
        assert!(look_up(poll).any(Markers::TASK));
        assert!(look_up(&format!("{poll}::{{closure}}")).any(Markers::TASK));
        assert!(!look_up(&format!("{poll}_something")).any(Markers::TASK));
    }

    #[test]
    fn calls_into_the_runtime_from_a_task_are_not_its_loops() {
        let loops =
            Markers::WORKER | Markers::SINGLE | Markers::POOL | Markers::LOCAL_SET | Markers::TASK;
        for path in [
            // spawn_blocking makes a thread: the caller is not a pool thread.
            "tokio::runtime::blocking::pool::Spawner::spawn_thread",
            "tokio::runtime::blocking::pool::Spawner::spawn_task",
            "tokio::runtime::scheduler::multi_thread::worker::schedule_task",
            "tokio::runtime::scheduler::current_thread::Handle::spawn",
            "tokio::runtime::scheduler::current_thread::schedule",
            "tokio::task::local::LocalSet::spawn_local",
            "tokio::runtime::task::raw::try_read_output",
        ] {
            assert!(!look_up(path).any(loops), "{path}");
        }
    }

    #[test]
    fn a_contended_lock_is_not_a_park() {
        for path in [
            "std::sys::sync::mutex::futex::Mutex::lock_contended",
            "parking_lot::raw_mutex::RawMutex::lock_slow",
            "std::thread::functions::park",
            "std::thread::functions::sleep",
            "read",
            "clock_nanosleep",
            "pthread_mutex_lock",
        ] {
            let m = look_up(path);
            assert!(!m.any(Markers::WAITS) || m.any(Markers::WAKES), "{path}");
        }
        for path in [
            "std::sys::sync::condvar::futex::Condvar::wait",
            "parking_lot::condvar::Condvar::wait_until_internal",
            "parking_lot_core::parking_lot::park",
            "mio::poll::Poll::poll",
            "epoll_wait",
            "syscall",
            "__futex_abstimed_wait_common64",
            "__GI___pthread_cond_wait",
        ] {
            let m = look_up(path);
            assert!(m.any(Markers::WAITS) && !m.any(Markers::WAKES), "{path}");
        }
    }
}
