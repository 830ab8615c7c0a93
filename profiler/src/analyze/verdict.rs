//! The main finding of a recording.

use super::fix_first::worst_site;
use super::full_pool::full_pool;
use super::thread_times::sum;
use super::unjudged::Unjudged;
use crate::recording::Process;
use crate::report::{
    BlockingPool, LongPollSite, ProcessFinding, RuntimeReport, Site, ThreadReport,
    ThrottlingReport, UnclearReason, Verdict,
};
use crate::runtime::State;
use crate::runtime::tokio::is_of_a_worker;
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A runtime is wedged if at the end all workers had been in one wait each for this long. A slow
/// disk or peer may block all of them for a moment; a second without any task is an outage.
const WEDGED: Nanos = Nanos(1_000_000_000);
/// A runtime is starved if no task could run for this share of the recording…
const STARVED_SHARE: f64 = 0.01;
/// …or for this long at a stretch: a delay that a user of a service begins to notice.
const STARVED_LONGEST: Nanos = Nanos(10_000_000);
/// Workers count as blocked if they were for this share of their time…
const BLOCKED_SHARE: f64 = 0.01;
/// …or one of them for this long in one poll: a hundred times the 100 µs that tokio's
/// authors allow between two `.await`s.
const BLOCKED_LONGEST: Nanos = Nanos(10_000_000);
/// Workers lack CPUs if they waited for one for this share of their time.
const CPU_STARVED_SHARE: f64 = 0.10;
/// …or their quota was used up in this share of its periods.
const THROTTLED_SHARE: f64 = 0.10;
/// Tasks hold the CPU if long polls took this share of the workers' time…
const LONG_POLL_SHARE: f64 = 0.01;
/// …or one poll ran for this long: a delay that a user of a service notices.
const LONG_POLL_LONGEST: Nanos = Nanos(100_000_000);
/// Above this share of unknown time, nothing good may be said.
const UNCLEAR_SHARE: f64 = 0.05;
/// From which share of their time on that workers wait in tokio's own code they are not healthy: its locks
/// take microseconds, and what waits for longer is code that it called, of which no name is known.
const OUTSIDE_SHARE: f64 = 0.1;
/// Workers that were held for this share of their time have lost more by it than by all else.
const STOPPED_SHARE: f64 = 0.50;
/// Shares of the time of a runtime's workers say nothing where that time is less than this share of the
/// recording: a runtime that is made for a moment and dropped. What lasts long counts all the same.
const LEAST_TIME: f64 = 0.01;
/// Workers are busy computing if they ran for this share of their time.
const CPU_BOUND_SHARE: f64 = 0.80;

/// What a verdict is made of.
pub(super) struct Findings<'a> {
    pub(super) processes: &'a [Process],
    pub(super) unjudged: &'a Unjudged,
    pub(super) runtimes: &'a [RuntimeReport],
    pub(super) sites: &'a [Site],
    pub(super) long_polls: &'a [LongPollSite],
    pub(super) pools: &'a [BlockingPool],
    /// How long the recording is.
    pub(super) length: Nanos,
    pub(super) threads: &'a [ThreadReport],
    /// CPU time of each process as a share of that of all CPUs.
    pub(super) cpu_shares: &'a BTreeMap<Pid, f64>,
    /// By process, of those that have a quota.
    pub(super) throttling: &'a [(Pid, ThrottlingReport)],
}

impl Findings<'_> {
    /// In which share of its periods the quota of a process was used up.
    fn throttled(&self, pid: Pid) -> Option<f64> {
        let (_, throttling) = self.throttling.iter().find(|(of, _)| *of == pid)?;
        throttled_share(throttling)
    }

    /// Whether the workers lived long enough for shares of their time to mean anything.
    fn is_told_by_shares(&self, runtime: &RuntimeReport) -> bool {
        sum(&runtime.states).0 as f64 >= self.length.0 as f64 * LEAST_TIME
    }

    fn process(&self, pid: Pid) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// Whether a process shows any sign of tokio.
    fn shows_tokio(&self, process: &Process) -> bool {
        let mut threads = self.threads.iter();
        process.tokio.present
            || threads.any(|thread| thread.pid == process.pid && is_of_a_worker(&thread.name))
    }

    /// How much of all CPUs a process used.
    fn cpu_share(&self, pid: Pid) -> f64 {
        self.cpu_shares.get(&pid).copied().unwrap_or_default()
    }

    /// What is to be said of a process with a tokio of which no runtime is known.
    fn of_unknown(&self, process: &Process) -> Verdict {
        let strangers = self.unjudged.strangers(process.pid);
        let share = strangers.unknown.share_of(strangers.lived);
        let tokio = &process.tokio;
        let reason = if tokio.is_contradicted() {
            UnclearReason::ContextContradicted
        } else if tokio.not_understood.is_some() {
            UnclearReason::NotUnderstood
        } else if share < UNCLEAR_SHARE {
            UnclearReason::NoWorkerSeen
        } else if !tokio.without_context.is_empty() {
            UnclearReason::ContextMissing
        } else {
            UnclearReason::UnknownTime
        };
        Verdict::Unclear {
            runtime: None,
            pid: process.pid,
            share,
            reason,
        }
    }
}

/// In which share of its periods a quota was used up.
pub(super) fn throttled_share(throttling: &ThrottlingReport) -> Option<f64> {
    (throttling.periods > 0)
        .then(|| throttling.throttled_periods as f64 / throttling.periods as f64)
}

/// The verdict on what the other parts of a report say, and those on each process.
pub(super) fn verdicts(findings: &Findings<'_>) -> (Verdict, Vec<ProcessFinding>) {
    if findings.threads.is_empty() && findings.runtimes.is_empty() {
        let nothing = |_: &Process| ProcessFinding {
            verdict: Verdict::NothingSeen,
            cpu_share: 0.0,
        };
        let processes = findings.processes.iter().map(nothing);
        return (Verdict::NothingSeen, processes.collect());
    }
    let weighed: Vec<Weighed> = findings
        .processes
        .iter()
        .map(|process| of_process(process, findings))
        .collect();
    let gravest = weighed.iter().min_by_key(|weighed| weighed.order());
    let verdict = gravest.map_or(Verdict::NoRuntime, |weighed| weighed.verdict.clone());
    let processes = findings.processes.iter().zip(weighed);
    let processes = processes.map(|(process, weighed)| ProcessFinding {
        verdict: weighed.verdict,
        cpu_share: findings.cpu_share(process.pid),
    });
    (verdict, processes.collect())
}

/// A verdict with what it weighs.
struct Weighed {
    verdict: Verdict,
    /// The time of workers that what it speaks of costs.
    cost: Nanos,
}

impl Weighed {
    /// What is graver comes first, and of the same gravity what costs more.
    fn order(&self) -> (u8, Reverse<Nanos>) {
        (gravity(&self.verdict), Reverse(self.cost))
    }
}

/// The gravest that holds for a runtime of the process.
fn of_process(process: &Process, findings: &Findings<'_>) -> Weighed {
    let runtimes = findings.runtimes.iter();
    let runtimes = runtimes.filter(|runtime| runtime.pid == process.pid);
    let gravest = runtimes
        .map(|runtime| of_runtime(runtime, findings))
        .min_by_key(Weighed::order);
    let without = || {
        let verdict = if findings.shows_tokio(process) {
            findings.of_unknown(process)
        } else {
            Verdict::NoRuntime
        };
        Weighed {
            verdict,
            cost: Nanos::ZERO,
        }
    };
    let gravest = gravest.unwrap_or_else(without);
    let seen = (findings.pools, findings.sites);
    match full_pool(process, seen, findings.length) {
        // Where workers are held up much, that is what to mend first, and the pool is told beside it.
        Some(full) if gravity(&gravest.verdict) > gravity(&full) || outweighs(&full, &gravest) => {
            Weighed {
                cost: Nanos::ZERO,
                verdict: full,
            }
        }
        _ => gravest,
    }
}

/// Workers that were blocked for this many times less of their time than the pool was full for are what to
/// mend second.
const OUTWEIGHED: f64 = 4.0;

/// Whether a full pool costs more than what workers were blocked for, which was not all at once.
fn outweighs(full: &Verdict, other: &Weighed) -> bool {
    match (full, &other.verdict) {
        (Verdict::PoolFull { share: full, .. }, Verdict::WorkersBlocked { share, .. }) => {
            *full > share * OUTWEIGHED
        }
        _ => false,
    }
}

/// That all workers were blocked at once is the gravest.
fn of_runtime(runtime: &RuntimeReport, findings: &Findings<'_>) -> Weighed {
    let verdict = verdict_of(runtime, findings);
    let cost = match verdict {
        Verdict::Wedged { .. } | Verdict::Starved { .. } | Verdict::WorkersBlocked { .. } => {
            state(runtime, State::Blocked)
        }
        Verdict::LongPolls { total_ns, .. } => total_ns,
        Verdict::CpuStarved { .. } => state(runtime, State::Runnable),
        Verdict::Stopped { .. } => state(runtime, State::Stopped),
        Verdict::Unclear { .. } => state(runtime, State::Unknown),
        _ => Nanos::ZERO,
    };
    Weighed { verdict, cost }
}

fn verdict_of(runtime: &RuntimeReport, findings: &Findings<'_>) -> Verdict {
    let (site, longest_wait) = worst_site(runtime, findings.sites);
    let longest_ns = longest_wait.max(runtime.polls.longest_blocked_ns);
    let recording: Nanos = runtime.blocked_at_once.iter().copied().sum();
    let starved = runtime.starved_ns.share_of(recording);
    if runtime.wedged_ns >= WEDGED {
        return Verdict::Wedged {
            runtime: runtime.id.clone(),
            workers: runtime.workers,
            total_ns: runtime.wedged_ns,
            site,
        };
    }
    let stopped = state(runtime, State::Stopped).share_of(sum(&runtime.states));
    if stopped >= STOPPED_SHARE {
        return Verdict::Stopped {
            runtime: runtime.id.clone(),
            share: stopped,
        };
    }
    let by_share = starved >= STARVED_SHARE && findings.is_told_by_shares(runtime);
    if runtime.workers > 1 && (by_share || runtime.starved_max_ns >= STARVED_LONGEST) {
        return Verdict::Starved {
            runtime: runtime.id.clone(),
            workers: runtime.workers,
            total_ns: runtime.starved_ns,
            longest_ns: runtime.starved_max_ns,
            share: starved,
            cpu_share: cpu_share(runtime, findings),
            site,
        };
    }
    by_most_time(runtime, findings, (site, longest_ns))
}

/// Of blocked workers, long polls and too few CPUs, which may all be there, the one that took most
/// of the workers' time is named.
fn by_most_time(
    runtime: &RuntimeReport,
    findings: &Findings<'_>,
    (site, longest_ns): (Option<usize>, Nanos),
) -> Verdict {
    let whole = sum(&runtime.states);
    let time = |of: State| state(runtime, of);
    let tells = findings.is_told_by_shares(runtime);
    let share = |of: State| time(of).share_of(whole);
    let throttled = findings.throttled(runtime.pid);
    let is_throttled = throttled.is_some_and(|share| share >= THROTTLED_SHARE);
    let (runnable, running) = (time(State::Runnable), time(State::Running));
    let lacks_cpu = tells && share(State::Runnable) >= CPU_STARVED_SHARE || is_throttled;
    // Waiting in line for a CPU while running more than that is what a busy machine does.
    let dominates = lacks_cpu && (runnable > running || is_throttled);
    let is_blocked =
        tells && share(State::Blocked) >= BLOCKED_SHARE || longest_ns >= BLOCKED_LONGEST;
    let is_held = tells && runtime.long_poll_ns.share_of(whole) >= LONG_POLL_SHARE
        || runtime.long_poll_max_ns >= LONG_POLL_LONGEST;
    let blocked = time(State::Blocked);
    let worse_than_blocked =
        (is_held && runtime.long_poll_ns > blocked) || (dominates && runnable > blocked);
    if is_blocked && !worse_than_blocked {
        Verdict::WorkersBlocked {
            runtime: runtime.id.clone(),
            workers: runtime.workers,
            total_ns: blocked,
            longest_ns,
            share: share(State::Blocked),
            cpu_share: cpu_share(runtime, findings),
            site,
        }
    } else if is_held && !dominates {
        let of_runtime = |site: &LongPollSite| {
            site.runtime.as_ref() == Some(&runtime.id)
                && site.times.running_ns > site.times.blocked_ns
        };
        Verdict::LongPolls {
            runtime: runtime.id.clone(),
            polls: runtime.long_polls,
            total_ns: runtime.long_poll_ns,
            longest_ns: runtime.long_poll_max_ns,
            share: runtime.long_poll_ns.share_of(whole),
            site: findings.long_polls.iter().position(of_runtime),
        }
    } else if lacks_cpu {
        Verdict::CpuStarved {
            runtime: runtime.id.clone(),
            share: share(State::Runnable),
            throttled,
        }
    } else {
        by_shares(runtime, findings, longest_ns)
    }
}

/// What the shares of states say where nothing else is to be said.
fn by_shares(runtime: &RuntimeReport, findings: &Findings<'_>, longest_ns: Nanos) -> Verdict {
    let id = runtime.id.clone();
    let whole = sum(&runtime.states);
    let share = |of: State| state(runtime, of).share_of(whole);
    let (unknown, reason) = unknown(runtime, findings, whole);
    let outside = share(State::Runtime);
    let unclear = if unknown >= UNCLEAR_SHARE {
        Some((unknown, reason))
    } else {
        (outside >= OUTSIDE_SHARE).then_some((outside, UnclearReason::OutsidePolls))
    };
    if let Some((share, reason)) = unclear {
        Verdict::Unclear {
            runtime: Some(id),
            pid: runtime.pid,
            share,
            reason,
        }
    } else if share(State::Running) >= CPU_BOUND_SHARE {
        Verdict::CpuBound {
            runtime: id,
            share: share(State::Running),
        }
    } else {
        Verdict::Healthy {
            runtime: id,
            share: share(State::Blocked),
            longest_ns,
            idle_share: share(State::Idle),
        }
    }
}

/// The share of the time of a runtime's threads of which it is not known what they did, and why.
fn unknown(runtime: &RuntimeReport, findings: &Findings<'_>, whole: Nanos) -> (f64, UnclearReason) {
    let share = |of: State| state(runtime, of).share_of(whole);
    let unjudged = findings.unjudged;
    let own = share(State::Unknown) + share(State::Running) * unjudged.cpu_share(&runtime.id);
    let tokio = findings.process(runtime.pid).map(|process| &process.tokio);
    let reason = match tokio {
        Some(tokio) if tokio.is_contradicted() => UnclearReason::ContextContradicted,
        Some(tokio) if tokio.not_understood.is_some() => UnclearReason::NotUnderstood,
        Some(tokio) if !tokio.without_context.is_empty() => UnclearReason::ContextMissing,
        _ => UnclearReason::UnknownTime,
    };
    // Where a tokio cannot be looked into, threads of which nothing is known may be its workers; where a
    // thread's stack is missing it may in any case, or one of the blocking pool.
    let strangers = unjudged.strangers(runtime.pid);
    let strangers = match reason {
        UnclearReason::UnknownTime => strangers.unread,
        _ => strangers.unknown,
    };
    let strangers = strangers.share_of(whole);
    ((own + strangers).min(1.0), reason)
}

/// What is least is told first.
fn gravity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Wedged { .. } => 0,
        Verdict::Starved { .. }
        | Verdict::WorkersBlocked { .. }
        | Verdict::CpuStarved { .. }
        | Verdict::LongPolls { .. }
        | Verdict::Stopped { .. } => 1,
        Verdict::PoolFull { .. } => 2,
        // Little is to be said of a process whose tokio was not seen to do anything.
        Verdict::Unclear {
            runtime: None,
            share,
            ..
        } if *share < UNCLEAR_SHARE => 7,
        // Nothing may be better than it is known.
        Verdict::Unclear { .. } => 3,
        Verdict::CpuBound { .. } => 5,
        Verdict::Healthy { .. } => 6,
        Verdict::NoRuntime => 8,
        Verdict::NothingSeen => 9,
    }
}

/// How much of all CPUs the runtime's own process used.
fn cpu_share(runtime: &RuntimeReport, findings: &Findings<'_>) -> f64 {
    findings.cpu_share(runtime.pid)
}

fn state(runtime: &RuntimeReport, state: State) -> Nanos {
    runtime.states.get(&state).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "unclear_tests.rs"]
mod unclear_tests;
