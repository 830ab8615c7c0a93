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
/// Workers that were held for this share of their time have lost more by it than by all else.
const STOPPED_SHARE: f64 = 0.50;
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
        // Where workers are held up, that is what to mend first, and the pool is told beside it.
        Some(full) if gravity(&gravest.verdict) > gravity(&full) => Weighed {
            cost: Nanos::ZERO,
            verdict: full,
        },
        _ => gravest,
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
    if runtime.workers > 1
        && (starved >= STARVED_SHARE || runtime.starved_max_ns >= STARVED_LONGEST)
    {
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
    let share = |of: State| time(of).share_of(whole);
    let throttled = findings.throttled(runtime.pid);
    let is_throttled = throttled.is_some_and(|share| share >= THROTTLED_SHARE);
    let (runnable, running) = (time(State::Runnable), time(State::Running));
    let lacks_cpu = share(State::Runnable) >= CPU_STARVED_SHARE || is_throttled;
    // Waiting in line for a CPU while running more than that is what a busy machine does.
    let dominates = lacks_cpu && (runnable > running || is_throttled);
    let is_blocked = share(State::Blocked) >= BLOCKED_SHARE || longest_ns >= BLOCKED_LONGEST;
    let is_held = runtime.long_poll_ns.share_of(whole) >= LONG_POLL_SHARE
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
    if unknown >= UNCLEAR_SHARE {
        Verdict::Unclear {
            runtime: Some(id),
            pid: runtime.pid,
            share: unknown,
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
        _ => return (own, UnclearReason::UnknownTime),
    };
    // Where a tokio cannot be looked into, threads of which nothing is known may be its workers.
    let strangers = unjudged.strangers(runtime.pid).unknown.share_of(whole);
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
mod tests {
    use super::super::testing::process;
    use super::*;
    use crate::report::{GroupedBy, PollTimes, RuntimeKind};

    const MS: u64 = 1_000_000;

    /// A runtime over one second.
    pub(super) fn runtime(
        id: &str,
        workers: u32,
        states: &[(State, u64)],
        starved: u64,
    ) -> RuntimeReport {
        let mut at_once = vec![Nanos::ZERO; workers as usize + 1];
        at_once[0] = Nanos(1_000 * MS - starved);
        at_once[workers as usize] = Nanos(starved);
        RuntimeReport {
            id: id.to_owned(),
            pid: Pid(1),
            kind: RuntimeKind::MultiThread,
            workers,
            thread_name: String::new(),
            grouped_by: GroupedBy::Handle,
            threads: workers,
            from_ns: Nanos::ZERO,
            to_ns: Nanos(1_000 * MS),
            states: states.iter().map(|&(s, t)| (s, Nanos(t))).collect(),
            in_calls_ns: None,
            starved_ns: Nanos(starved),
            starved_max_ns: Nanos(starved / 2),
            starved_stretches: Vec::new(),
            wedged_ns: Nanos::ZERO,
            blocked_at_once: at_once,
            driver_ns: None,
            unattended_ns: None,
            unattended: Vec::new(),
            polls: PollTimes::default(),
            long_polls: 0,
            long_poll_ns: Nanos::ZERO,
            long_poll_max_ns: Nanos::ZERO,
        }
    }

    fn under(runtimes: &[RuntimeReport], throttling: Option<&ThrottlingReport>) -> Verdict {
        let throttling: Vec<(Pid, ThrottlingReport)> = throttling
            .map(|throttling| (Pid(1), throttling.clone()))
            .into_iter()
            .collect();
        super::verdicts(&Findings {
            processes: &[process(1)],
            unjudged: &Unjudged::default(),
            runtimes,
            sites: &[],
            long_polls: &[],
            pools: &[],
            length: Nanos::ZERO,
            threads: &[],
            cpu_shares: &BTreeMap::new(),
            throttling: &throttling,
        })
        .0
    }

    fn verdict(runtimes: &[RuntimeReport]) -> Verdict {
        under(runtimes, None)
    }

    #[test]
    fn who_is_held_from_outside_for_most_of_the_time_is_stopped_whatever_else_there_is() {
        let of = |stopped: u64| {
            let rest = [(State::Blocked, (1_000 - stopped) * MS)];
            let states = [[(State::Stopped, stopped * MS)], rest].concat();
            verdict(&[runtime("rt0", 2, &states, 400 * MS)])
        };
        assert!(matches!(of(500), Verdict::Stopped { .. }), "{:?}", of(500));
        assert!(matches!(of(499), Verdict::Starved { .. }), "{:?}", of(499));
    }

    #[test]
    fn a_hog_blocked_workers_and_too_few_cpus_are_told_apart() {
        let of = |blocked: u64, running: u64, runnable: u64, long_polls: u64| {
            let states = [
                (State::Blocked, blocked * MS),
                (State::Running, running * MS),
                (State::Runnable, runnable * MS),
                (State::Idle, (2_000 - blocked - running - runnable) * MS),
            ];
            let mut runtime = runtime("rt0", 2, &states, 0);
            runtime.long_poll_ns = Nanos(long_polls * MS);
            runtime.long_poll_max_ns = Nanos(20 * MS);
            verdict(&[runtime])
        };
        assert!(matches!(of(0, 900, 300, 800), Verdict::LongPolls { .. }));
        assert!(matches!(of(0, 900, 300, 0), Verdict::CpuStarved { .. }));
        assert!(matches!(of(0, 400, 1_300, 300), Verdict::CpuStarved { .. }));
        assert!(matches!(
            of(500, 100, 50, 0),
            Verdict::WorkersBlocked { .. }
        ));
        // All at once: what took most is named.
        assert!(matches!(
            of(500, 400, 300, 100),
            Verdict::WorkersBlocked { .. }
        ));
        assert!(matches!(of(100, 900, 300, 800), Verdict::LongPolls { .. }));
        assert!(matches!(of(100, 400, 1_300, 0), Verdict::CpuStarved { .. }));
        // Below its share a long poll is a finding only if it is very long.
        assert!(matches!(of(0, 100, 0, 19), Verdict::Healthy { .. }));
    }

    #[test]
    fn one_very_long_poll_is_enough() {
        let mut runtime = runtime("rt0", 40, &[(State::Idle, 40_000 * MS)], 0);
        runtime.long_poll_ns = LONG_POLL_LONGEST;
        runtime.long_poll_max_ns = LONG_POLL_LONGEST;
        assert!(matches!(verdict(&[runtime]), Verdict::LongPolls { .. }));
    }

    #[test]
    fn a_quota_that_is_used_up_is_a_lack_of_cpus() {
        let quota = |throttled_periods| ThrottlingReport {
            group: "/a".to_owned(),
            periods: 100,
            throttled_periods,
            throttled_ns: Nanos(MS),
        };
        let states = [(State::Running, 100 * MS), (State::Idle, 900 * MS)];
        let of = |periods| under(&[runtime("rt0", 1, &states, 0)], Some(&quota(periods)));
        assert!(matches!(
            of(10),
            Verdict::CpuStarved { throttled: Some(share), .. } if (share - 0.1).abs() < 1e-9
        ));
        assert!(matches!(of(9), Verdict::Healthy { .. }));
    }

    #[test]
    fn all_workers_blocked_is_starved() {
        let states = [(State::Blocked, 50 * MS), (State::Idle, 3_950 * MS)];
        assert!(matches!(
            verdict(&[runtime("rt0", 4, &states, 12 * MS)]),
            Verdict::Starved { workers: 4, share, .. } if (share - 0.012).abs() < 1e-9
        ));
        assert!(matches!(
            verdict(&[runtime("rt0", 4, &states, 9 * MS)]),
            Verdict::WorkersBlocked { .. }
        ));
    }

    #[test]
    fn workers_that_do_not_move_any_more_are_wedged() {
        let states = [(State::Blocked, 1_000 * MS), (State::Idle, MS)];
        let mut wedged = runtime("rt0", 1, &states, 0);
        wedged.wedged_ns = Nanos(999 * MS);
        assert!(matches!(
            verdict(&[wedged.clone()]),
            Verdict::WorkersBlocked { .. }
        ));
        wedged.wedged_ns = Nanos(1_000 * MS);
        let starved = runtime("rt1", 4, &states, 12 * MS);
        assert!(matches!(
            verdict(&[starved, wedged]),
            Verdict::Wedged { workers: 1, .. }
        ));
    }

    #[test]
    fn one_worker_is_blocked_and_not_starved() {
        let states = [(State::Blocked, 500 * MS), (State::Idle, 500 * MS)];
        assert!(matches!(
            verdict(&[runtime("rt0", 1, &states, 500 * MS)]),
            Verdict::WorkersBlocked { workers: 1, share, .. } if (share - 0.5).abs() < 1e-9
        ));
    }

    #[test]
    fn the_gravest_runtime_decides() {
        let healthy = runtime("rt0", 4, &[(State::Idle, 4_000 * MS)], 0);
        let blocked = runtime("rt1", 1, &[(State::Blocked, MS), (State::Idle, 9 * MS)], 0);
        let Verdict::WorkersBlocked { runtime, .. } = verdict(&[healthy, blocked]) else {
            panic!("rt1 was blocked for 10 % of its time");
        };
        assert_eq!(runtime, "rt1");
    }

    #[test]
    fn shares_tell_the_rest() {
        let of = |states: &[(State, u64)]| verdict(&[runtime("rt0", 2, states, 0)]);
        let starved = of(&[(State::Runnable, 10), (State::Running, 90)]);
        assert!(matches!(starved, Verdict::CpuStarved { .. }));
        let unclear = of(&[(State::Unknown, 5), (State::Running, 95)]);
        assert!(matches!(unclear, Verdict::Unclear { .. }));
        let bound = of(&[(State::Running, 80), (State::Idle, 20)]);
        assert!(matches!(bound, Verdict::CpuBound { .. }));
        let healthy = of(&[(State::Running, 20), (State::Idle, 80)]);
        assert!(matches!(healthy, Verdict::Healthy { .. }));
        assert_eq!(verdict(&[]), Verdict::NothingSeen);
    }
}

#[cfg(test)]
#[path = "unclear_tests.rs"]
mod unclear_tests;
