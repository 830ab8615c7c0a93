//! The runtimes of the process, and its blocking pool.
//!
//! All workers of `multi_thread` runtimes form one runtime: stacks do not tell several apart.
//! Each thread of a `current_thread` runtime is a runtime of its own.

use super::role_times::{Class, RoleTimes, verdict_of};
use super::sweep::{Interval, Sweep, intervals};
use super::thread_times::{self, ThreadTimes};
use crate::recording::{Recording, StackId};
use crate::report::{BlockingPool, RuntimeKind, RuntimeReport, StateTimes, Stretch};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Pid, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The runtimes and which thread works for which.
pub(super) struct Runtimes {
    /// In the order of the report.
    pub(super) reports: Vec<RuntimeReport>,
    multi_thread: Option<String>,
    current_thread: BTreeMap<Tid, String>,
    workers: BTreeSet<Tid>,
}

impl Runtimes {
    /// The runtime that a thread's wait of `class` belongs to.
    pub(super) fn of_wait(&self, tid: Tid, class: Class) -> Option<&str> {
        match class {
            Class::Role(Role::Worker(Flavor::MultiThread)) | Class::HandedOff => {
                self.multi_thread.as_deref()
            }
            Class::Role(Role::Worker(Flavor::CurrentThread)) => self.current(tid),
            Class::Role(Role::PoolThread | Role::BlockOn | Role::None) => None,
            Class::Unknown => self.of_thread(tid),
        }
    }

    /// The runtime that a thread works for, for most of its time.
    pub(super) fn of_thread(&self, tid: Tid) -> Option<&str> {
        if self.workers.contains(&tid) {
            self.multi_thread.as_deref()
        } else {
            self.current(tid)
        }
    }

    fn current(&self, tid: Tid) -> Option<&str> {
        self.current_thread.get(&tid).map(String::as_str)
    }
}

/// Finds the runtimes.
pub(super) fn runtimes(
    recording: &Recording,
    books: &[ThreadTimes],
    role_times: &BTreeMap<Tid, RoleTimes>,
) -> Runtimes {
    let mut found: Vec<(Option<Tid>, RuntimeReport)> = Vec::new();
    found.extend(multi_thread(recording, books, role_times).map(|report| (None, report)));
    found.extend(
        current_thread(recording, books, role_times).map(|(tid, report)| (Some(tid), report)),
    );
    found.sort_by_key(|(tid, report)| (order(report), *tid));
    let mut runtimes = Runtimes {
        reports: Vec::new(),
        multi_thread: None,
        current_thread: BTreeMap::new(),
        workers: role_times
            .iter()
            .filter(|(_, times)| times.main_role() == Role::Worker(Flavor::MultiThread))
            .map(|(&tid, _)| tid)
            .collect(),
    };
    for (index, (tid, mut report)) in found.into_iter().enumerate() {
        report.id = format!("rt{index}");
        match tid {
            Some(tid) => {
                runtimes.current_thread.insert(tid, report.id.clone());
            }
            None => runtimes.multi_thread = Some(report.id.clone()),
        }
        runtimes.reports.push(report);
    }
    add_long_polls(recording, &mut runtimes);
    runtimes
}

/// The one with the most workers first.
pub(super) fn order(report: &RuntimeReport) -> impl Ord + use<> {
    let blocked = report.states.get(&State::Blocked).copied();
    (Reverse(report.workers), report.kind, Reverse(blocked))
}

fn add_long_polls(recording: &Recording, runtimes: &mut Runtimes) {
    for poll in &recording.long_polls {
        let (state, role) = verdict_of(recording, poll.stack);
        let id = runtimes
            .of_wait(poll.tid, Class::of(state, role))
            .map(str::to_owned);
        let runtime = runtimes
            .reports
            .iter_mut()
            .find(|runtime| Some(&runtime.id) == id.as_ref());
        if let Some(runtime) = runtime {
            runtime.long_polls += 1;
            runtime.long_poll_ns += poll.on_cpu;
            runtime.long_poll_max_ns = runtime.long_poll_max_ns.max(poll.on_cpu);
        }
    }
}

fn multi_thread(
    recording: &Recording,
    books: &[ThreadTimes],
    role_times: &BTreeMap<Tid, RoleTimes>,
) -> Option<RuntimeReport> {
    let mut states = StateTimes::new();
    for books in books {
        thread_times::add_all(&mut states, &books.states_as(Class::MULTI_THREAD));
    }
    let distinct = role_times
        .values()
        .filter(|times| times.has(Class::MULTI_THREAD))
        .count();
    if distinct == 0 {
        return None;
    }
    let blocked = sweep(recording, |_, state, role| {
        state == State::Blocked && role == Role::Worker(Flavor::MultiThread)
    });
    let handed_off = sweep(recording, |tid, state, _| {
        let was_worker = |times: &RoleTimes| times.has(Class::MULTI_THREAD);
        state == State::HandedOff && role_times.get(&tid).is_some_and(was_worker)
    });
    let workers = worker_count(recording, books, role_times)
        .min(distinct.saturating_sub(handed_off.peak()))
        .max(blocked.peak())
        .max(1);
    let of_worker = |_: Tid, role: Role| role == Role::Worker(Flavor::MultiThread);
    let driver = driver_time(recording, of_worker);
    let kind = RuntimeKind::MultiThread;
    let mut report = report(
        recording.target.pid,
        kind,
        workers,
        states,
        &blocked,
        driver,
    );
    report.wedged_ns = wedged(recording, workers, of_worker);
    report.in_calls_ns = in_calls(recording, books, Class::MULTI_THREAD);
    Some(report)
}

/// How many workers there were at a time.
///
/// A `block_in_place` moves a worker's core to a thread of the blocking pool, so over time more
/// threads have been workers than there are workers. Threads that were nothing else count one
/// each; of the others, the time that they were workers for is summed, and each length of the
/// recording in it is a worker.
fn worker_count(
    recording: &Recording,
    books: &[ThreadTimes],
    role_times: &BTreeMap<Tid, RoleTimes>,
) -> usize {
    let is_steady = |times: &RoleTimes| {
        times.main_class() == Some(Class::MULTI_THREAD)
            && !times.has(Class::HandedOff)
            && !times.has(Class::POOL)
    };
    let steady = role_times.values().filter(|times| is_steady(times)).count();
    let shared: Nanos = books
        .iter()
        .filter(|books| !is_steady(&books.times))
        .map(|books| thread_times::sum(&books.states_as(Class::MULTI_THREAD)))
        .sum();
    let shared = shared.share_of(recording.end - recording.start).round();
    // A share is finite and not negative; a float that is too large becomes the largest integer.
    steady.saturating_add(shared as usize)
}

/// The `current_thread` runtimes, each with its thread.
fn current_thread<'a>(
    recording: &'a Recording,
    books: &'a [ThreadTimes],
    role_times: &'a BTreeMap<Tid, RoleTimes>,
) -> impl Iterator<Item = (Tid, RuntimeReport)> + 'a {
    let mut blocked: BTreeMap<Tid, Vec<Interval>> = BTreeMap::new();
    for interval in intervals(recording, |_, state, role| {
        state == State::Blocked && role == Role::Worker(Flavor::CurrentThread)
    }) {
        blocked.entry(interval.tid).or_default().push(interval);
    }
    let books: BTreeMap<Tid, &ThreadTimes> = books.iter().map(|books| (books.tid, books)).collect();
    role_times
        .iter()
        .filter(|(_, times)| times.has(Class::CURRENT_THREAD))
        .map(move |(&tid, _)| {
            let intervals = blocked.remove(&tid).unwrap_or_default();
            let sweep = Sweep::new(intervals, recording.start, recording.end);
            let states = books
                .get(&tid)
                .map(|books| books.states_as(Class::CURRENT_THREAD))
                .unwrap_or_default();
            let of_thread =
                |of: Tid, role: Role| of == tid && role == Role::Worker(Flavor::CurrentThread);
            let driver = driver_time(recording, of_thread);
            let kind = RuntimeKind::CurrentThread;
            let pid = recording.target.pid;
            let mut report = report(pid, kind, 1, states, &sweep, driver);
            report.wedged_ns = wedged(recording, 1, of_thread);
            let own = books.get(&tid).map(|books| (*books).clone());
            report.in_calls_ns = in_calls(recording, own.as_slice(), Class::CURRENT_THREAD);
            (tid, report)
        })
}

/// CPU time inside system calls of threads while they were of `class`; none where they were not
/// measured. It is shared out as time on a CPU is.
fn in_calls(recording: &Recording, books: &[ThreadTimes], class: Class) -> Option<Nanos> {
    let part = |books: &ThreadTimes| books.times.part(class, books.in_calls);
    let measured = recording.calls_measured;
    measured.then(|| books.iter().map(part).sum())
}

/// Stretches of starvation that are listed for each runtime.
const STRETCHES: usize = 10;

fn report(
    pid: Pid,
    kind: RuntimeKind,
    workers: usize,
    states: StateTimes,
    blocked: &Sweep,
    driver: Option<Nanos>,
) -> RuntimeReport {
    let blocked_at_once = blocked.at_once(workers);
    let any: Nanos = blocked_at_once.iter().skip(1).copied().sum();
    let starved = blocked.spans(workers);
    RuntimeReport {
        id: String::new(),
        pid,
        kind,
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
        states,
        in_calls_ns: None,
        starved_ns: blocked_at_once.last().copied().unwrap_or_default(),
        starved_max_ns: starved.first().map_or(Nanos::ZERO, |span| span.length),
        starved_stretches: starved
            .iter()
            .take(STRETCHES)
            .map(|span| Stretch {
                start_ns: span.start,
                length_ns: span.length,
            })
            .collect(),
        wedged_ns: Nanos::ZERO,
        blocked_at_once,
        driver_ns: driver,
        // One worker at a time is in the driver: of the time in which any was blocked, it can have
        // covered no more than it was there for.
        blocked_without_driver_ns: driver.map(|driver| any.saturating_sub(driver)),
        long_polls: 0,
        long_poll_ns: Nanos::ZERO,
        long_poll_max_ns: Nanos::ZERO,
    }
}

/// `epoll_wait`, `epoll_pwait` and `epoll_pwait2` on x86_64, in one of which the I/O driver parks.
const EPOLL: [u32; 3] = [232, 281, 441];

/// For how long threads were parked in the I/O driver; none where none ever was.
fn driver_time(recording: &Recording, wanted: impl Fn(Tid, Role) -> bool) -> Option<Nanos> {
    let is_driver = |tid: Tid, id: StackId| {
        let stack = usize::try_from(id.0)
            .ok()
            .and_then(|i| recording.stacks.get(i));
        stack.is_some_and(|stack| {
            stack.verdict.state == State::Idle
                && stack.syscall.is_some_and(|number| EPOLL.contains(&number))
                && wanted(tid, stack.verdict.role)
        })
    };
    let finished = recording
        .totals
        .iter()
        .filter(|total| is_driver(total.tid, total.stack))
        .map(|total| total.blocked);
    let open = recording
        .open_waits
        .iter()
        .filter(|open| is_driver(open.tid, open.stack))
        .map(|open| recording.end - open.since);
    finished.chain(open).reduce(|sum, time| sum + time)
}

/// For how long as many threads as there are workers had each been blocked in one wait when the
/// recording ended; zero where there are fewer.
fn wedged(recording: &Recording, workers: usize, wanted: impl Fn(Tid, Role) -> bool) -> Nanos {
    let mut open: Vec<Nanos> = recording
        .open_waits
        .iter()
        .filter(|open| {
            let (state, role) = verdict_of(recording, open.stack);
            state == State::Blocked && wanted(open.tid, role)
        })
        .map(|open| recording.end - open.since)
        .collect();
    open.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
    let last = workers.checked_sub(1).and_then(|last| open.get(last));
    last.copied().unwrap_or_default()
}

fn sweep(recording: &Recording, wanted: impl Fn(Tid, State, Role) -> bool) -> Sweep {
    Sweep::new(intervals(recording, wanted), recording.start, recording.end)
}

/// The times in which threads of the blocking pool waited inside closures.
pub(super) fn pool_intervals(recording: &Recording) -> Vec<Interval> {
    intervals(recording, |_, state, _| state == State::Pool)
}

/// The blocking pool, where any of its threads waited.
pub(super) fn blocking_pool(
    recording: &Recording,
    books: &[ThreadTimes],
    role_times: &BTreeMap<Tid, RoleTimes>,
) -> Option<BlockingPool> {
    let threads = role_times
        .values()
        .filter(|times| times.has(Class::POOL))
        .count();
    if threads == 0 {
        return None;
    }
    let mut states = StateTimes::new();
    for books in books {
        thread_times::add_all(&mut states, &books.states_as(Class::POOL));
    }
    let time = |state: State| states.get(&state).copied().unwrap_or_default();
    let peak = Sweep::new(pool_intervals(recording), recording.start, recording.end).peak();
    let busy = time(State::Pool) + time(State::Running) + time(State::Runnable);
    Some(BlockingPool {
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        busy_ns: busy,
        waiting_ns: time(State::Pool),
        peak_busy: u32::try_from(peak).unwrap_or(u32::MAX),
        waiting_share: time(State::Pool).share_of(busy),
        near_default_limit: threads >= NEAR_LIMIT,
    })
}

/// Threads from which on a pool is near tokio's default limit: 80 % of 512
/// (`Builder::max_blocking_threads`).
const NEAR_LIMIT: usize = 512 * 8 / 10;
