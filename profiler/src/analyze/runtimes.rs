//! The runtimes of the processes.
//!
//! Workers of `multi_thread` runtimes belong together as [`Homes`] says. Each thread of a
//! `current_thread` runtime is a runtime of its own, also where it makes a new one for each call.

use super::concurrency::Concurrent;
use super::driver_gaps::Unattended;
use super::homes::{Homes, MultiThread};
use super::parts::Track;
use super::role_times::{RoleTimes, TimesInRole};
use super::stack_facts::{WaitRole, class_of, most};
use super::sweep::{Span, Sweep};
use super::thread_times::{self, BalancedTimes};
use super::whole::Whole;
use crate::arch::waits_in_epoll;
use crate::recording::{ProcessId, Stack, StackId, ThreadId};
use crate::report::{GroupedBy, PollTimes, RuntimeKind, RuntimeReport, StateTimes, Stretch};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Index of a runtime in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuntimeIndex(usize);

impl RuntimeIndex {
    /// Its id in the report.
    pub(super) fn id(self) -> String {
        format!("rt{}", self.0)
    }
}

/// The runtimes and which thread works for which.
pub(super) struct Runtimes {
    /// In the order of the report.
    pub(super) reports: Vec<RuntimeReport>,
    multi_thread: BTreeMap<MultiThread, RuntimeIndex>,
    homes: Homes,
    current_thread: BTreeMap<ThreadId, RuntimeIndex>,
    workers: BTreeSet<ThreadId>,
}

impl Runtimes {
    /// What is reported of one.
    pub(super) fn report(&self, index: RuntimeIndex) -> Option<&RuntimeReport> {
        self.reports.get(index.0)
    }

    /// The runtime that a thread's wait in a role belongs to.
    pub(super) fn of_wait(&self, thread: ThreadId, role: WaitRole) -> Option<RuntimeIndex> {
        match role {
            WaitRole::CURRENT_THREAD => self.current_thread.get(&thread).copied(),
            WaitRole::Unknown => self.of_thread(thread),
            role => self.multi_thread(self.homes.of_thread(thread), role),
        }
    }

    /// The runtime that waits with a stack belong to, where it does not matter whose they are.
    pub(super) fn of_stack(
        &self,
        id: StackId,
        stack: &Stack,
        role: WaitRole,
    ) -> Option<RuntimeIndex> {
        let home = self.homes.of_stack(stack.process, stack.runtime, id);
        self.multi_thread(home, role)
    }

    fn multi_thread(&self, home: MultiThread, role: WaitRole) -> Option<RuntimeIndex> {
        match role {
            WaitRole::MULTI_THREAD | WaitRole::HandedOff => self.multi_thread.get(&home).copied(),
            WaitRole::Role(_) | WaitRole::Unknown => None,
        }
    }

    /// The threads of each runtime that poll tasks, as they are counted together.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (Track, &RuntimeReport)> {
        let multi_thread = self.multi_thread.iter();
        let multi_thread = multi_thread.map(|(home, index)| (Track::Workers(*home), *index));
        let current_thread = self.current_thread.iter();
        let current_thread =
            current_thread.map(|(thread, index)| (Track::CurrentThread(*thread), *index));
        let tracks = multi_thread.chain(current_thread);
        tracks.filter_map(|(track, index)| Some((track, self.reports.get(index.0)?)))
    }

    /// The runtime that a thread works for, for most of its time.
    pub(super) fn of_thread(&self, thread: ThreadId) -> Option<RuntimeIndex> {
        if self.workers.contains(&thread) {
            let home = self.homes.of_thread(thread);
            self.multi_thread.get(&home).copied()
        } else {
            self.current_thread.get(&thread).copied()
        }
    }
}

/// What runtimes are found from.
pub(super) struct Evidence<'a> {
    pub(super) whole: &'a Whole<'a>,
    pub(super) balanced: &'a [BalancedTimes],
    pub(super) role_times: &'a BTreeMap<ThreadId, RoleTimes>,
    pub(super) concurrent: &'a Concurrent,
    pub(super) homes: &'a Homes,
}

/// A runtime by what makes it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    MultiThread(MultiThread),
    CurrentThread(ThreadId),
}

impl Owner {
    const fn process(self) -> ProcessId {
        match self {
            Owner::MultiThread(runtime) => runtime.process,
            Owner::CurrentThread(thread) => thread.process,
        }
    }
}

/// What the workers of each runtime waited in.
struct WorkerWaits {
    /// For how long in the I/O driver; a runtime of which no worker ever did is not there.
    in_driver: BTreeMap<Owner, Nanos>,
    /// For how long each of those that still waited in a poll, the longest first.
    still_blocked: BTreeMap<Owner, Vec<Nanos>>,
}

impl Evidence<'_> {
    /// Finds the runtimes.
    pub(super) fn runtimes(&self) -> Runtimes {
        let mut found: Vec<(Owner, RuntimeReport)> = Vec::new();
        let waits = WorkerWaits {
            in_driver: self.driver_times(),
            still_blocked: self.still_blocked(),
        };
        for runtime in self.homes.runtimes() {
            let report = self.multi_thread(runtime, &waits);
            found.extend(report.map(|report| (Owner::MultiThread(runtime), report)));
        }
        found.extend(self.current_thread(&waits));
        found.sort_by_key(|(owner, report)| (order(report), owner.process(), *owner));
        let is_worker = |times: &RoleTimes| times.main_role() == Role::Worker(Flavor::MultiThread);
        let times = self.role_times.iter();
        let mut runtimes = Runtimes {
            reports: Vec::new(),
            multi_thread: BTreeMap::new(),
            homes: self.homes.clone(),
            current_thread: BTreeMap::new(),
            workers: times
                .filter(|(_, times)| is_worker(times))
                .map(|(&thread, _)| thread)
                .collect(),
        };
        for (index, (owner, mut report)) in found.into_iter().enumerate() {
            let index = RuntimeIndex(index);
            report.id = index.id();
            match owner {
                Owner::CurrentThread(thread) => runtimes.current_thread.insert(thread, index),
                Owner::MultiThread(runtime) => runtimes.multi_thread.insert(runtime, index),
            };
            runtimes.reports.push(report);
        }
        self.add_long_polls(&mut runtimes);
        runtimes
    }

    /// The threads of a runtime with what they waited in.
    fn threads_of(&self, runtime: MultiThread) -> impl Iterator<Item = (ThreadId, &RoleTimes)> {
        let times = self.role_times.iter();
        times
            .map(|(thread, times)| (*thread, times))
            .filter(move |(thread, _)| self.homes.of_thread(*thread) == runtime)
    }

    fn balanced_of(&self, runtime: MultiThread) -> impl Iterator<Item = &BalancedTimes> {
        let own = move |times: &&BalancedTimes| self.homes.of_thread(times.thread) == runtime;
        self.balanced.iter().filter(own)
    }

    fn add_long_polls(&self, runtimes: &mut Runtimes) {
        for (&(thread, stack), polls) in &self.whole.totals.polls {
            let index = runtimes.of_wait(thread, WaitRole::of(self.whole.tables, stack));
            if let Some(runtime) = index.and_then(|index| runtimes.reports.get_mut(index.0)) {
                runtime.polls.merge(&polls.polls);
                let on_cpu = &polls.on_cpu;
                runtime.long_polls += on_cpu.polls;
                runtime.long_poll_ns += on_cpu.running;
                runtime.long_poll_max_ns = runtime.long_poll_max_ns.max(on_cpu.longest);
            }
        }
    }

    fn multi_thread(&self, runtime: MultiThread, waits: &WorkerWaits) -> Option<RuntimeReport> {
        let mut states = StateTimes::new();
        for times in self.balanced_of(runtime) {
            thread_times::add_all(&mut states, &times.states_as(WaitRole::MULTI_THREAD));
        }
        let distinct = self
            .threads_of(runtime)
            .filter(|(_, times)| times.has(WaitRole::MULTI_THREAD))
            .count();
        if distinct == 0 {
            return None;
        }
        let blocked = self.concurrent.of(Track::Workers(runtime));
        let handed_off = self.concurrent.of(Track::HandedOff(runtime));
        let workers = self
            .worker_count(runtime)
            .min(distinct.saturating_sub(handed_off.peak()))
            .max(blocked.peak())
            .max(1);
        let owner = Owner::MultiThread(runtime);
        let driver = waits.in_driver.get(&owner).copied();
        let pid = self.whole.pid(runtime.process);
        let mut report = report(
            pid,
            RuntimeKind::MultiThread,
            workers,
            states,
            blocked,
            driver,
        );
        unattended(
            &mut report,
            self.concurrent.unattended(Track::Workers(runtime)),
        );
        report.threads = u32::try_from(distinct).unwrap_or(u32::MAX);
        report.grouped_by = self.homes.grouped_by(runtime);
        let threads = self.threads_of(runtime);
        let threads = threads.filter(|(_, times)| times.has(WaitRole::MULTI_THREAD));
        let threads: Vec<ThreadId> = threads.map(|(thread, _)| thread).collect();
        (report.from_ns, report.to_ns) = self.life(&threads);
        report.thread_name = self.name_of_most(threads.into_iter());
        report.wedged_ns = wedged(waits.still_blocked.get(&owner), workers);
        report.in_calls_ns = self.in_calls(self.balanced_of(runtime), WaitRole::MULTI_THREAD);
        Some(report)
    }

    /// How many workers there were at a time.
    ///
    /// A `block_in_place` moves a worker's core to a thread of the blocking pool, so over time more
    /// threads have been workers than there are workers. Threads that were little else count one each;
    /// of the others, the time that they were workers for is summed, and each length of the recording
    /// in it is a worker.
    fn worker_count(&self, runtime: MultiThread) -> usize {
        // A worker begins, and ends, as a thread of the blocking pool.
        let is_steady = |times: &RoleTimes| {
            let of = |role| {
                times
                    .roles
                    .get(&role)
                    .map_or(Nanos::ZERO, TimesInRole::time)
            };
            let elsewhere = of(WaitRole::HandedOff) + of(WaitRole::POOL);
            let known = of(WaitRole::MULTI_THREAD) + elsewhere;
            times.main_wait_role() == Some(WaitRole::MULTI_THREAD) && elsewhere.0 <= known.0 / 10
        };
        let steady = self.threads_of(runtime);
        let steady = steady.filter(|(_, times)| is_steady(times));
        let steady = self.homes.at_once(steady.map(|(thread, _)| thread));
        let shared: Nanos = self
            .balanced_of(runtime)
            .filter(|balanced| !is_steady(&balanced.times))
            .map(|balanced| thread_times::sum(&balanced.states_as(WaitRole::MULTI_THREAD)))
            .sum();
        let shared = shared.share_of(self.whole.length()).round();
        // A share is finite and not negative; a float that is too large becomes the largest integer.
        steady.saturating_add(shared as usize)
    }

    /// The `current_thread` runtimes, each with its thread.
    fn current_thread(&self, waits: &WorkerWaits) -> Vec<(Owner, RuntimeReport)> {
        let balanced: BTreeMap<ThreadId, &BalancedTimes> = self
            .balanced
            .iter()
            .map(|times| (times.thread, times))
            .collect();
        self.role_times
            .iter()
            .filter(|(_, times)| times.has(WaitRole::CURRENT_THREAD))
            .map(|(&thread, times)| {
                // A `LocalSet` parks as the `block_on` does in which it runs.
                let is_local_set = times.has(WaitRole::BLOCK_ON);
                let kind = if is_local_set {
                    RuntimeKind::LocalSet
                } else {
                    RuntimeKind::CurrentThread
                };
                let sweep = self.concurrent.of(Track::CurrentThread(thread));
                let own = balanced.get(&thread).copied();
                let states_as = |role| own.map(|times| times.states_as(role)).unwrap_or_default();
                let mut states = states_as(WaitRole::CURRENT_THREAD);
                if is_local_set {
                    thread_times::add_all(&mut states, &states_as(WaitRole::BLOCK_ON));
                }
                let owner = Owner::CurrentThread(thread);
                let driver = waits.in_driver.get(&owner).copied();
                let pid = self.whole.pid(thread.process);
                let mut report = report(pid, kind, 1, states, sweep, driver);
                let track = Track::CurrentThread(thread);
                unattended(&mut report, self.concurrent.unattended(track));
                (report.from_ns, report.to_ns) = self.life(&[thread]);
                report.thread_name = self.name_of_most(std::iter::once(thread));
                report.wedged_ns = wedged(waits.still_blocked.get(&owner), 1);
                report.in_calls_ns = self.in_calls(own.into_iter(), WaitRole::CURRENT_THREAD);
                (owner, report)
            })
            .collect()
    }

    /// When the first of some threads began and the last one ended, since the start.
    fn life(&self, threads: &[ThreadId]) -> (Nanos, Nanos) {
        let (start, end) = (self.whole.start, self.whole.end);
        let lives = threads.iter().map(|thread| {
            let sums = self.whole.totals.threads.get(thread);
            sums.and_then(|sums| sums.life).unwrap_or((start, end))
        });
        let lives: Vec<_> = lives.collect();
        let from = lives.iter().map(|life| life.0).min().unwrap_or(start);
        let to = lives.iter().map(|life| life.1).max().unwrap_or(end);
        (from - start, to.min(end) - start)
    }

    fn name_of_most(&self, threads: impl Iterator<Item = ThreadId>) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for thread in threads {
            let name = self.whole.tables.thread_name(thread);
            *counts.entry(name).or_default() += 1;
        }
        most(counts).unwrap_or_default().to_owned()
    }

    /// CPU time inside system calls of threads in a role; none where they were not measured. It is
    /// shared out as time on a CPU is.
    fn in_calls<'a>(
        &self,
        times: impl Iterator<Item = &'a BalancedTimes>,
        role: WaitRole,
    ) -> Option<Nanos> {
        let part = |balanced: &BalancedTimes| balanced.times.part(role, balanced.in_calls);
        let measured = self.whole.header.calls_measured;
        measured.then(|| times.map(part).sum())
    }

    /// For how long the workers of each runtime were parked in the I/O driver; a runtime of which
    /// none ever was is not there.
    fn driver_times(&self) -> BTreeMap<Owner, Nanos> {
        let mut times: BTreeMap<Owner, Nanos> = BTreeMap::new();
        for (thread, stack, wait) in self.whole.waits() {
            let Some(stack) = self.whole.tables.stack(stack) else {
                continue;
            };
            let in_driver =
                stack.class.state == State::Idle && stack.syscall.is_some_and(waits_in_epoll);
            if let Some(owner) = self.owner(thread, stack.class.role).filter(|_| in_driver) {
                *times.entry(owner).or_default() += wait.blocked;
            }
        }
        times
    }

    /// For whose runtime a thread in `role` polls tasks.
    fn owner(&self, thread: ThreadId, role: Role) -> Option<Owner> {
        match role {
            Role::Worker(Flavor::MultiThread) => {
                Some(Owner::MultiThread(self.homes.of_thread(thread)))
            }
            Role::Worker(Flavor::CurrentThread) => Some(Owner::CurrentThread(thread)),
            Role::PoolThread | Role::BlockOn | Role::None => None,
        }
    }

    /// For how long the workers of each runtime had been blocked, each in one wait, when the
    /// recording ended; longest first.
    fn still_blocked(&self) -> BTreeMap<Owner, Vec<Nanos>> {
        let mut times: BTreeMap<Owner, Vec<Nanos>> = BTreeMap::new();
        let open = self.whole.still_waiting();
        let open = open.map(|open| (open.thread, open.stack, self.whole.end - open.since));
        for (thread, stack, lasted) in open.chain(self.whole.ended_with_process()) {
            let (state, role) = class_of(self.whole.tables, stack);
            let owner = self.owner(thread, role);
            if let Some(owner) = owner.filter(|_| state == State::Blocked) {
                times.entry(owner).or_default().push(lasted);
            }
        }
        for times in times.values_mut() {
            times.sort_unstable_by_key(|time| Reverse(*time));
        }
        times
    }
}

/// For how long as many as `workers` threads had each been blocked in one wait; zero where there
/// are fewer. `blocked` is the longest first.
fn wedged(blocked: Option<&Vec<Nanos>>, workers: usize) -> Nanos {
    let last = workers.checked_sub(1);
    let wait = last.and_then(|last| blocked?.get(last));
    wait.copied().unwrap_or_default()
}

/// The one with the most workers first.
fn order(report: &RuntimeReport) -> impl Ord + use<> {
    let blocked = report.states.get(&State::Blocked).copied();
    (Reverse(report.workers), report.kind, Reverse(blocked))
}

fn report(
    pid: Pid,
    kind: RuntimeKind,
    workers: usize,
    states: StateTimes,
    blocked: &Sweep,
    driver: Option<Nanos>,
) -> RuntimeReport {
    let blocked_at_once = blocked.at_once(workers);
    let starved = blocked.spans(workers);
    RuntimeReport {
        id: String::new(),
        pid,
        kind,
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
        thread_name: String::new(),
        grouped_by: GroupedBy::Thread,
        threads: u32::try_from(workers).unwrap_or(u32::MAX),
        from_ns: Nanos::ZERO,
        to_ns: Nanos::ZERO,
        states,
        in_calls_ns: None,
        starved_ns: blocked_at_once.last().copied().unwrap_or_default(),
        starved_max_ns: starved.first().map_or(Nanos::ZERO, |span| span.length),
        starved_stretches: starved.iter().map(stretch).collect(),
        wedged_ns: Nanos::ZERO,
        blocked_at_once,
        driver_ns: driver,
        unattended_ns: driver.map(|_| Nanos::ZERO),
        unattended: Vec::new(),
        polls: PollTimes::default(),
        long_polls: 0,
        long_poll_ns: Nanos::ZERO,
        long_poll_max_ns: Nanos::ZERO,
    }
}

/// Notes when workers were blocked while nobody waited for events; nothing of a runtime that was never
/// seen to do so.
fn unattended(report: &mut RuntimeReport, found: Unattended) {
    if report.driver_ns.is_some() || found.total > Nanos::ZERO {
        report.unattended_ns = Some(found.total);
        report.unattended = found.longest.iter().map(stretch).collect();
    }
}

fn stretch(span: &Span) -> Stretch {
    Stretch {
        start_ns: span.start,
        length_ns: span.length,
    }
}
