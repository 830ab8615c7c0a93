//! Threads of the blocking pool by where they began, for programs without names.
//!
//! std starts each thread in a function that the compiler makes for that thread's closure alone.
//! Every worker is a job of the blocking pool; so the stack of a worker, which tokio's
//! thread-local state knows for one, shows the function in which all threads of the pool begin. A
//! runtime of one thread has no such worker: there the function is known once it was seen both
//! in a task outside any runtime, and in a wait with a time limit outside any task.

use super::classify::{is_libc, is_library};
use super::tls_state::TlsState;
use crate::arch::syscall;
use crate::runtime::{Classification, Role, RuleName, State};
use crate::symbolize::{Frame, FrameRef, Space};
use crate::units::Svma;
use std::collections::HashSet;
use std::sync::Arc;

const FUTEX: u32 = syscall("futex");
/// Its commands that wait for a word (`include/uapi/linux/futex.h`).
const FUTEX_COMMAND: u64 = 0x7f;
const FUTEX_WAIT: u64 = 0;
const FUTEX_WAIT_BITSET: u64 = 9;

/// A stack, and what was seen with it.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Leaf first, as for [`super::Classifier::classify`].
    pub frames: &'a [FrameRef],
    /// Whether its outer end is missing.
    pub truncated: bool,
    /// The system call and its arguments, where there is one.
    pub call: Option<(u32, Option<[u64; 6]>)>,
    /// What tokio's thread-local state said.
    pub tls_state: TlsState,
}

impl Observation<'_> {
    /// The system call.
    pub(super) fn syscall(&self) -> Option<u32> {
        self.call.map(|(number, _)| number)
    }

    /// Whether the thread waits for a futex with a time limit, as a pool thread without work does
    /// until its keep-alive ends (tokio's `blocking/pool.rs`).
    fn waits_with_limit(&self) -> bool {
        let Some((FUTEX, Some([_, operation, _, limit, ..]))) = self.call else {
            return false;
        };
        let command = operation & FUTEX_COMMAND;
        (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) && limit != 0
    }

    /// Physical frames of the program, the outermost first.
    fn outermost_first(&self) -> impl Iterator<Item = &Frame> {
        let physical = |frame: &&Frame| !frame.inlined && frame.space == Space::User;
        self.frames.iter().rev().map(AsRef::as_ref).filter(physical)
    }
}

/// The rule by which a thread is of no tokio, since it never entered the one whose thread-local state was
/// read.
const FOREIGN: &str = "context-foreign";

/// Whether that rule says so of a stack.
#[must_use]
pub fn says_foreign(class: &Classification) -> bool {
    class.rule.0 == FOREIGN
}

/// The function that std made for a thread's closure: its module and its start.
type Start = (Arc<str>, Svma);

/// What was learned of a program's threads.
#[derive(Debug, Default)]
pub struct PoolThreads {
    /// Where workers began.
    workers: HashSet<Start>,
    /// Where threads began that were seen in a task outside any runtime.
    jobs: HashSet<Start>,
    /// Where threads began that were seen to wait with a time limit outside any task.
    loops: HashSet<Start>,
    /// The modules in which threads of the runtime begin: that of the thread-local state.
    homes: HashSet<Arc<str>>,
}

impl PoolThreads {
    /// Learns from the stack of a thread that waits. True if that was news.
    pub fn learn(&mut self, seen: &Observation<'_>) -> bool {
        if seen.truncated
            || matches!(
                seen.tls_state,
                TlsState::Unknown | TlsState::Foreign | TlsState::Inconsistent
            )
        {
            return false;
        }
        let mut outside = seen.outermost_first().skip_while(|frame| is_libc(frame));
        let home = outside.next().and_then(|frame| frame.module.clone());
        let news = home.is_some_and(|home| self.homes.insert(home));
        let starts = match seen.tls_state {
            TlsState::WorkerPoll | TlsState::WorkerParked => &mut self.workers,
            TlsState::PoolJob => &mut self.jobs,
            TlsState::Entered if seen.waits_with_limit() => &mut self.loops,
            _ => return news,
        };
        start(seen).is_some_and(|start| starts.insert(start)) || news
    }

    /// What the stack means, where `verdict`, by the frames' names, does not say. Only for a
    /// program whose thread-local state counts.
    #[must_use]
    pub fn judge(&self, verdict: Classification, seen: &Observation<'_>) -> Classification {
        if !matches!(verdict.state, State::Unknown | State::Other) || seen.truncated {
            return verdict;
        }
        let says = |state, role, rule| Classification {
            state,
            role,
            rule: RuleName(rule),
            ..verdict
        };
        match seen.tls_state {
            TlsState::Foreign if verdict.state == State::Unknown && self.is_at_home(seen) => {
                says(State::Other, Role::None, FOREIGN)
            }
            TlsState::PoolJob if self.is_pool_thread(seen) => {
                says(State::Pool, Role::PoolThread, "context-pool-job")
            }
            TlsState::Entered if self.is_pool_thread(seen) && seen.waits_with_limit() => {
                says(State::Idle, Role::PoolThread, "context-pool-idle")
            }
            TlsState::Entered if self.is_pool_thread(seen) => {
                says(State::Runtime, Role::PoolThread, "context-pool-hook")
            }
            _ => verdict,
        }
    }

    fn is_pool_thread(&self, seen: &Observation<'_>) -> bool {
        start(seen).is_some_and(|start| {
            self.workers.contains(&start)
                || self.jobs.contains(&start) && self.loops.contains(&start)
        })
    }

    /// Whether all that has no name is of the module whose thread-local state was read. A library
    /// may have a tokio of its own, with a state of its own.
    fn is_at_home(&self, seen: &Observation<'_>) -> bool {
        let of_home = |frame: &Frame| {
            let module = frame.module.as_ref();
            module.is_some_and(|module| self.homes.contains(module))
        };
        let mut frames = seen.outermost_first().peekable();
        frames.peek().is_some()
            && frames.all(|frame| frame.naming.is_name() || is_library(frame) || of_home(frame))
    }
}

/// Where a thread began, by its outermost frames: those of the C library, std's own start, and
/// then the function made for its closure.
fn start(seen: &Observation<'_>) -> Option<Start> {
    let mut frames = seen.outermost_first().peekable();
    let mut of_libc = 0;
    while frames.next_if(|frame| is_libc(frame)).is_some() {
        of_libc += 1;
    }
    // Where the C library is linked into the program its frames are not told apart, but there are
    // two as well: the one that made the thread, and its start (`clone` and `start` in musl,
    // `clone3` and `start_thread` in glibc).
    let linked_in = (of_libc == 0).then(|| [frames.next(), frames.next()]);
    let std = frames.next()?;
    let made = frames.next()?;
    let module = made.module.clone()?;
    let of_module = |frame: &Option<&Frame>| {
        frame.is_some_and(|frame| frame.module.as_ref() == Some(&module) && frame.start.is_some())
    };
    let together = linked_in.is_none_or(|linked_in| linked_in.iter().all(of_module));
    let whole = together && std.module.as_ref() == Some(&module);
    whole.then_some((module, made.start?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::{Naming, Origin};

    /// Frames of a stripped program, leaf first: `libc`, or the start of a function.
    fn stack(functions: &[u64]) -> Vec<FrameRef> {
        let frame = |start: &u64| {
            let (module, naming) = match start {
                0 => ("libc.so.6", Naming::Offset),
                _ => ("app", Naming::FunctionStart),
            };
            Frame {
                naming,
                module: Some(module.into()),
                start: (*start != 0).then_some(Svma(*start)),
                ..Frame::named("nameless", Origin::Unknown)
            }
        };
        functions.iter().map(frame).map(Into::into).collect()
    }

    const UNKNOWN: Classification = Classification {
        state: State::Unknown,
        role: Role::None,
        rule: RuleName("unnamed-frames"),
        frame: None,
        task_frame: None,
    };
    /// A wait for a word with a time limit, and one without.
    const LIMITED: Option<(u32, Option<[u64; 6]>)> = Some((FUTEX, Some([1, 137, 0, 1, 0, 0])));
    const UNLIMITED: Option<(u32, Option<[u64; 6]>)> = Some((FUTEX, Some([1, 128, 2, 0, 0, 0])));
    const READ: Option<(u32, Option<[u64; 6]>)> = Some((0, Some([1, 2, 3, 4, 5, 6])));

    const LIBC: u64 = 0;
    const STD: u64 = 0x100;
    /// The function made for the pool's threads, and for another thread.
    const POOL: u64 = 0x200;
    const OTHER: u64 = 0x300;

    fn seen(
        frames: &[FrameRef],
        call: Option<(u32, Option<[u64; 6]>)>,
        tls_state: TlsState,
    ) -> Observation<'_> {
        Observation {
            frames,
            truncated: false,
            call,
            tls_state,
        }
    }

    fn says(pool: &PoolThreads, seen: &Observation<'_>) -> (State, &'static str) {
        let verdict = pool.judge(UNKNOWN, seen);
        (verdict.state, verdict.rule.0)
    }

    #[test]
    fn a_worker_shows_where_all_threads_of_the_pool_begin() {
        let worker = stack(&[LIBC, 0x900, 0x800, 0x700, POOL, STD, LIBC, LIBC]);
        let closure = stack(&[LIBC, 0xa00, 0x710, POOL, STD, LIBC, LIBC]);
        let idle = stack(&[LIBC, 0xb00, POOL, STD, LIBC, LIBC]);
        let by_hand = stack(&[LIBC, 0xb00, OTHER, STD, LIBC, LIBC]);
        let job = seen(&closure, READ, TlsState::PoolJob);
        let parked = seen(&idle, LIMITED, TlsState::Entered);
        let nothing = (State::Unknown, "unnamed-frames");

        let mut pool = PoolThreads::default();
        assert_eq!(says(&pool, &job), nothing);
        assert!(pool.learn(&seen(&worker, READ, TlsState::WorkerPoll)));
        assert!(!pool.learn(&seen(&worker, READ, TlsState::WorkerPoll)));
        assert_eq!(says(&pool, &job), (State::Pool, "context-pool-job"));
        assert_eq!(says(&pool, &parked), (State::Idle, "context-pool-idle"));
        let hook = seen(&idle, UNLIMITED, TlsState::Entered);
        assert_eq!(says(&pool, &hook), (State::Runtime, "context-pool-hook"));

        // Another thread, and one that is seen in part.
        for tls_state in [TlsState::PoolJob, TlsState::Entered] {
            assert_eq!(says(&pool, &seen(&by_hand, LIMITED, tls_state)), nothing);
            let cut = Observation {
                truncated: true,
                ..seen(&closure, LIMITED, tls_state)
            };
            assert_eq!(says(&pool, &cut), nothing);
        }
        // Where it began says nothing of where it is.
        for tls_state in [TlsState::Outside, TlsState::Unknown, TlsState::WorkerPoll] {
            assert_eq!(says(&pool, &seen(&closure, LIMITED, tls_state)), nothing);
        }
        let named = Classification {
            state: State::Blocked,
            ..UNKNOWN
        };
        assert_eq!(pool.judge(named, &job), named);
    }

    #[test]
    fn without_workers_it_takes_a_job_and_a_park() {
        let closure = stack(&[LIBC, 0xa00, 0x710, POOL, STD, LIBC]);
        let idle = stack(&[LIBC, 0xb00, POOL, STD, LIBC]);
        let job = seen(&closure, READ, TlsState::PoolJob);
        let mut pool = PoolThreads::default();
        pool.learn(&job);
        assert_eq!(says(&pool, &job).0, State::Unknown);
        pool.learn(&seen(&idle, UNLIMITED, TlsState::Entered));
        assert_eq!(says(&pool, &job).0, State::Unknown);
        assert!(pool.learn(&seen(&idle, LIMITED, TlsState::Entered)));
        assert_eq!(says(&pool, &job).0, State::Pool);
    }

    /// A program into which its C library is linked, as musl's mostly is.
    #[test]
    fn a_c_library_that_is_linked_in_has_two_frames() {
        const CLONE: u64 = 0x10;
        const START: u64 = 0x20;
        let worker = stack(&[0x900, 0x800, POOL, STD, START, CLONE]);
        let closure = stack(&[0x910, POOL, STD, START, CLONE]);
        let by_hand = stack(&[0x910, OTHER, STD, START, CLONE]);
        let mut pool = PoolThreads::default();
        pool.learn(&seen(&worker, READ, TlsState::WorkerPoll));
        let job = |frames| seen(frames, READ, TlsState::PoolJob);
        assert_eq!(says(&pool, &job(&closure)).0, State::Pool);
        assert_eq!(says(&pool, &job(&by_hand)).0, State::Unknown);
    }

    /// One whose outermost frame is none of a C library that is known.
    #[test]
    fn a_start_that_cannot_be_told_teaches_nothing() {
        let worker = stack(&[0x900, 0x800, POOL, STD, 0x10]);
        let closure = stack(&[0x900, OTHER, STD, 0x10]);
        let mut pool = PoolThreads::default();
        pool.learn(&seen(&worker, READ, TlsState::WorkerPoll));
        let job = seen(&closure, READ, TlsState::PoolJob);
        assert_eq!(says(&pool, &job).0, State::Unknown);
    }

    #[test]
    fn threads_without_a_runtime_are_foreign_unless_a_library_has_its_own() {
        let worker = stack(&[LIBC, 0x900, POOL, STD, LIBC]);
        let mut thread = stack(&[LIBC, 0x900, OTHER, STD, LIBC]);
        let mut pool = PoolThreads::default();
        let foreign = |pool: &PoolThreads, frames: &[FrameRef]| {
            says(pool, &seen(frames, READ, TlsState::Foreign)).0
        };
        assert_eq!(foreign(&pool, &thread), State::Unknown);
        pool.learn(&seen(&worker, READ, TlsState::WorkerParked));
        assert_eq!(foreign(&pool, &thread), State::Other);
        assert_eq!(foreign(&pool, &[]), State::Unknown);
        std::sync::Arc::make_mut(&mut thread[1]).module = Some("libplugin.so".into());
        assert_eq!(foreign(&pool, &thread), State::Unknown);
    }
}
