//! Intervals as they come, and the report of them all.

use super::blocking_pool::blocking_pools;
use super::by_thread::ByThread;
use super::calls::call_sites;
use super::causes::Causes;
use super::circles::deadlocks;
use super::concurrency::Concurrency;
use super::cpu::cpu_sites;
use super::detail::Details;
use super::filter::Lists;
use super::full_pool::is_full;
use super::harms::Harms;
use super::homes::{Homes, MultiThread};
use super::open_waits::open_waits;
use super::panics::panics;
use super::polls::long_polls;
use super::pool_jobs::PoolJobs;
use super::role_times::{self, RoleTimes};
use super::runtimes::{Evidence, RuntimeIndex, Runtimes};
use super::sites::sites;
use super::so_far::{SoFar, so_far};
use super::stack_facts::class_of;
use super::stacks::{cpu_stacks, stacks, woken_stacks};
use super::stopped::Stops;
use super::tasks::{cause_totals, tasks};
use super::thread_times::BalancedTimes;
use super::throttling;
use super::time::rfc3339;
#[cfg(test)]
use super::totals::Bounds;
use super::totals::Totals;
use super::unjudged::Unjudged;
use super::verdict::{Findings, verdicts};
use super::whole::Whole;
use crate::recording::{Header, Interval, Losses, OpenWait, Process, StackId, Tables, ThreadId};
use crate::report::{CpuUse, Detail, Filter, Keep, Report, ThreadReport};
use crate::runtime::State;
use crate::units::{Nanos, Pid, Tid, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Version of the report's format, see [`Report::schema`].
const SCHEMA: u32 = 2;

/// Sums intervals up. What it keeps has bounds, however many intervals there are: times and waits
/// are summed by thread, stack and object, and what needs single waits is computed as they come.
///
/// The states of each thread sum to its life exactly; see [`Report::clamped_ns`] for recordings
/// in which they cannot. Times of a runtime are those of its threads while they were workers:
/// waits belong to a role each, and time on the CPU is split between a thread's roles by the
/// number of their waits.
#[derive(Clone, Debug)]
pub struct Analyzer {
    /// The first instant of the first interval and the last one of the last; none before any came.
    range: Option<(Timestamp, Timestamp)>,
    totals: Totals,
    concurrency: Concurrency,
    /// The runtimes of threads whose waits were swept over.
    settled: BTreeMap<ThreadId, MultiThread>,
    pool_jobs: PoolJobs,
    stops: Stops,
    /// Waits that had begun before the first interval.
    carried: Vec<OpenWait>,
    /// Waits that had not ended when the last interval did.
    open_waits: Vec<OpenWait>,
    /// Single waits and polls, where they are kept.
    details: Option<Details>,
    /// The sums of each thread, where threads are to be chosen.
    by_thread: Option<ByThread>,
}

impl Analyzer {
    /// One that has seen nothing of a recording yet.
    #[must_use]
    pub fn new(header: &Header) -> Analyzer {
        Analyzer {
            range: None,
            totals: Totals::default(),
            concurrency: Concurrency::new(header.min_block),
            settled: BTreeMap::new(),
            pool_jobs: PoolJobs::default(),
            stops: Stops::default(),
            carried: Vec::new(),
            open_waits: Vec::new(),
            details: None,
            by_thread: None,
        }
    }

    /// Keeps single waits, from the next interval on, for [`Report::detail`]. Call it before any
    /// interval comes.
    pub fn keep(&mut self, keep: Keep) {
        self.details = keep.anything().then(|| Details::new(keep));
    }

    /// Keeps what [`Analyzer::filtered`] needs for `filter`, from the next interval on. Call it before any
    /// interval comes.
    pub fn keep_for(&mut self, filter: &Filter) {
        self.by_thread = filter.is_of_threads().then(ByThread::default);
    }

    /// The same with room for few waits that are not swept over.
    #[cfg(test)]
    pub(super) fn keeping(mut self, waits: usize) -> Analyzer {
        self.concurrency.keep(waits);
        self
    }

    /// The same with small tables.
    #[cfg(test)]
    pub(super) fn within(mut self, bounds: Bounds) -> Analyzer {
        self.totals = Totals::within(bounds);
        self
    }

    /// Adds the interval that comes after those added so far.
    pub fn add(&mut self, tables: &Tables, interval: Interval) {
        self.take(tables, &interval);
        self.open_waits = interval.open_waits;
    }

    /// As [`Analyzer::add`]. What is left of the interval is of no use, but can be freed by the thread
    /// that made it, which is cheaper than by another one.
    pub fn add_from(&mut self, tables: &Tables, interval: &mut Interval) {
        self.take(tables, interval);
        std::mem::swap(&mut self.open_waits, &mut interval.open_waits);
    }

    /// As [`Analyzer::add`], of an interval that is needed elsewhere, too.
    pub fn merge(&mut self, tables: &Tables, interval: &Interval) {
        self.take(tables, interval);
        self.open_waits.clone_from(&interval.open_waits);
    }

    /// Adds everything but the open waits.
    fn take(&mut self, tables: &Tables, interval: &Interval) {
        if self.range.is_none() {
            self.carried.clone_from(&interval.carried);
            self.concurrency.begin(interval.start);
        }
        let start = self.range.map_or(interval.start, |(start, _)| start);
        self.range = Some((start, interval.end));
        self.totals.add(tables, interval);
        self.concurrency.add(tables, interval);
        self.pool_jobs.add(tables, interval);
        self.stops.add(tables, interval, start);
        if let Some(details) = &mut self.details {
            details.add(interval);
        }
        if let Some(by_thread) = &mut self.by_thread {
            by_thread.add(tables, interval);
        }
        if self.concurrency.is_full() {
            let waits = self.totals.waits.iter();
            let waits = waits.map(|(&(thread, stack), times)| (thread, stack, times.blocked));
            let mut homes = Homes::of(tables, &self.totals, waits);
            homes.keep(&self.settled);
            self.concurrency.fold(tables, &homes);
            self.settled.extend(homes.settled());
        }
    }

    /// What was found in all intervals added so far: less than a report, and cheaper.
    #[must_use]
    pub fn so_far(&self, tables: &Tables) -> SoFar {
        so_far(tables, &self.totals)
    }

    /// The report of all intervals added so far. More can be added after it.
    #[must_use]
    pub fn report(&self, header: &Header, tables: &Tables) -> Report {
        self.report_and(header, tables, |_, _| ()).0
    }

    /// The same, and with the lists of what `filter` chooses, for which [`Analyzer::keep_for`] was called.
    #[must_use]
    pub fn filtered(&self, header: &Header, tables: &Tables, filter: &Filter) -> (Report, Report) {
        self.report_and(header, tables, |lists, whole| {
            let mut chosen = whole.clone();
            lists.choose(filter, &mut chosen);
            chosen
        })
    }

    /// The report, and what `then` makes of it.
    fn report_and<T>(
        &self,
        header: &Header,
        tables: &Tables,
        then: impl FnOnce(&Lists<'_>, &Report) -> T,
    ) -> (Report, T) {
        let (start, end) = self.range.unwrap_or((header.start, header.start));
        let whole = Whole::new(
            (header, tables),
            &self.totals,
            (start, &self.carried),
            (end, &self.open_waits),
        );
        let role_times = role_times::times(&whole);
        let balanced = balanced(&whole, &role_times);
        let mut homes = Homes::of(tables, &self.totals, whole.seen());
        homes.keep(&self.settled);
        let concurrent = self.concurrency.finish(tables, &homes);
        let runtimes = Evidence {
            whole: &whole,
            balanced: &balanced,
            role_times: &role_times,
            concurrent: &concurrent,
            homes: &homes,
        }
        .runtimes();
        let lines = self.pool_jobs.lines(&whole);
        let mut pools = blocking_pools(&whole, &balanced, &role_times, (&concurrent, &lines));
        for pool in &mut pools {
            let mut processes = tables.processes.iter();
            let process = processes.find(|process| process.pid == pool.pid);
            pool.was_full = process.is_some_and(|process| is_full(pool, process, whole.length()));
        }
        let threads = threads(&whole, &balanced, &runtimes);
        let causes = Causes::of(tables, &self.open_waits);
        let stacks = stacks(&whole, &runtimes, &causes);
        let woken_stacks = woken_stacks(&whole, &runtimes, &causes);
        let cpu_stacks = cpu_stacks(&whole, &runtimes);
        let detail = self.detail(&whole, &runtimes, &causes, (&balanced, &threads));
        let harms = Harms::of(&whole, &concurrent, &runtimes, &causes);
        let sites = sites(&whole, &runtimes, &causes, &harms);
        let tasks = tasks(&whole, &runtimes, &harms);
        let long_polls = long_polls(&whole, &runtimes);
        let call_sites = call_sites(&whole, &runtimes, &causes);
        let throttling = throttling::throttling(&whole);
        let (verdict, findings) = verdicts(&Findings {
            processes: &tables.processes,
            unjudged: &Unjudged::of(&whole, &balanced, &runtimes),
            runtimes: &runtimes.reports,
            sites: &sites,
            long_polls: &long_polls,
            pools: &pools,
            length: whole.length(),
            threads: &threads,
            cpu_shares: &cpu_shares(&whole, &balanced),
            throttling: &throttling,
        });
        let target = tables.processes.first();
        let open_waits = open_waits(&whole, &causes);
        let report = Report {
            schema: SCHEMA,
            tool: header.tool.clone(),
            host: header.host.clone(),
            target: target.cloned().unwrap_or_else(|| Process::unknown(Pid(0))),
            targets: tables.processes.clone(),
            started_at: rfc3339(header.started_at + (start - header.start).0 as f64 / 1e9),
            duration_ns: whole.length(),
            part: None,
            filter: None,
            min_block_ns: header.min_block,
            long_poll_ns: header.long_poll,
            throttling: throttling::told(&verdict, &runtimes.reports, throttling),
            verdict,
            conditions: Vec::new(),
            findings,
            runtimes: runtimes.reports.clone(),
            pools,
            threads,
            sites,
            causes: cause_totals(&whole, &causes),
            tasks,
            deadlocks: deadlocks(&open_waits),
            open_waits,
            cpu_sites: cpu_sites(&whole),
            long_polls,
            calls_measured: header.calls_measured,
            call_sites,
            panics: panics(&whole),
            cpu: cpu_use(&whole, &balanced),
            stopped: self.stops.told(&whole),
            classified: self.totals.classified,
            losses: self.losses(tables),
            clamped_ns: balanced.iter().map(|times| times.clamped).sum(),
            stacks,
            cpu_stacks,
            woken_stacks,
            detail,
        };
        let lists = Lists {
            whole: &whole,
            runtimes: &runtimes,
            causes: &causes,
            harms: &harms,
            carried: &self.carried,
            by_thread: self.by_thread.as_ref(),
        };
        let more = then(&lists, &report);
        (report, more)
    }

    fn detail(
        &self,
        whole: &Whole<'_>,
        runtimes: &Runtimes,
        causes: &Causes,
        (balanced, threads): (&[BalancedTimes], &[ThreadReport]),
    ) -> Option<Detail> {
        let details = self.details.as_ref()?;
        let reports: BTreeMap<(Pid, Tid), &ThreadReport> = threads
            .iter()
            .map(|thread| ((thread.pid, thread.tid), thread))
            .collect();
        let threads: Vec<(ThreadId, &ThreadReport)> = balanced
            .iter()
            .filter_map(|times| {
                let key = (whole.pid(times.thread.process), times.thread.tid);
                Some((times.thread, *reports.get(&key)?))
            })
            .collect();
        Some(details.finish(whole, runtimes, causes, &threads))
    }

    fn losses(&self, tables: &Tables) -> Losses {
        // Where there is no sign of tokio there is no state to be known.
        let has_tokio = |stack: StackId| {
            let process = tables
                .stack(stack)
                .and_then(|stack| tables.process(stack.process));
            process.is_none_or(|process| process.tokio.present)
        };
        let unknown = |(stack, _): &(&StackId, _)| {
            class_of(tables, **stack).0 == State::Unknown && has_tokio(**stack)
        };
        let stacks = self.totals.stacks.iter().filter(unknown);
        let mut losses = self.totals.losses.clone();
        losses.unknown_waits = stacks.map(|(_, waits)| waits.times.waits).sum();
        losses
    }
}

fn balanced(whole: &Whole<'_>, role_times: &BTreeMap<ThreadId, RoleTimes>) -> Vec<BalancedTimes> {
    let threads = whole.totals.threads.iter();
    threads
        .map(|(&thread, sums)| {
            let times = role_times.get(&thread).cloned().unwrap_or_default();
            BalancedTimes::balance(thread, sums, times)
        })
        .collect()
}

/// Every thread, most blocked first.
fn threads(
    whole: &Whole<'_>,
    balanced: &[BalancedTimes],
    runtimes: &Runtimes,
) -> Vec<ThreadReport> {
    let mut threads: Vec<ThreadReport> = balanced
        .iter()
        .zip(whole.totals.threads.values())
        .map(|(times, sums)| ThreadReport {
            tid: times.thread.tid,
            pid: whole.pid(times.thread.process),
            name: whole.tables.thread_name(times.thread).to_owned(),
            role: times.times.main_role(),
            runtime: runtimes.of_thread(times.thread).map(RuntimeIndex::id),
            lived_ns: sums.lived,
            waits: sums.waits,
            states: times.states(),
            in_calls_ns: whole.header.calls_measured.then_some(times.in_calls),
        })
        .collect();
    threads.sort_by_key(|thread| {
        let blocked = thread.states.get(&State::Blocked).copied();
        (Reverse(blocked.unwrap_or_default()), thread.tid)
    });
    threads
}

/// Of all processes.
fn cpu_use(whole: &Whole<'_>, balanced: &[BalancedTimes]) -> CpuUse {
    let running = balanced.iter().map(|times| times.running).sum();
    CpuUse {
        running_ns: running,
        runnable_ns: balanced.iter().map(|times| times.runnable).sum(),
        share: cpu_share(whole, running),
    }
}

/// Of each process.
fn cpu_shares(whole: &Whole<'_>, balanced: &[BalancedTimes]) -> BTreeMap<Pid, f64> {
    let mut running: BTreeMap<Pid, Nanos> = BTreeMap::new();
    for times in balanced {
        *running.entry(whole.pid(times.thread.process)).or_default() += times.running;
    }
    let shares = running.into_iter();
    shares
        .map(|(pid, time)| (pid, cpu_share(whole, time)))
        .collect()
}

/// `running` as a share of the time of all CPUs of the machine.
fn cpu_share(whole: &Whole<'_>, running: Nanos) -> f64 {
    let cpus = whole.header.host.cpus.into();
    running.share_of(Nanos(whole.length().0.saturating_mul(cpus)))
}
