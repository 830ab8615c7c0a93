//! The main finding of a recording.

use super::books::sum;
use super::report::{RuntimeKind, RuntimeReport, Site, ThreadReport};
use crate::tokio_rt::{Flavor, Role, State};
use crate::units::Nanos;
use serde::Serialize;
use std::cmp::Reverse;

/// A runtime is wedged if at the end all workers had been in one wait each for this long. A slow
/// disk or peer may block all of them for a moment; a second without any task is an outage.
const WEDGED: Nanos = Nanos(1_000_000_000);
/// A runtime is starved if no task could run for this share of the recording…
const STARVED_SHARE: f64 = 0.01;
/// …or for this long at a stretch: a delay that a user of a service begins to notice.
const STARVED_LONGEST: Nanos = Nanos(10_000_000);
/// Workers count as blocked if they were for this share of their time…
const BLOCKED_SHARE: f64 = 0.01;
/// …or one of them for this long in one wait: a hundred times the 100 µs that tokio's
/// authors allow between two `.await`s.
const BLOCKED_LONGEST: Nanos = Nanos(10_000_000);
/// Workers lack CPUs if they waited for one for this share of their time.
const CPU_STARVED_SHARE: f64 = 0.10;
/// Above this share of unknown time, nothing good may be said.
const UNCLEAR_SHARE: f64 = 0.05;
/// Workers are busy computing if they ran for this share of their time.
const CPU_BOUND_SHARE: f64 = 0.80;

/// The main finding: the gravest that holds for any runtime, in the order of the variants. Among
/// runtimes with the same finding the one with the most blocked time is named.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// When the recording ended, all workers had been blocked in one wait each for at least a
    /// second: a deadlock, or waits for something that does not come.
    Wedged {
        /// The runtime's id.
        runtime: String,
        /// Its workers.
        workers: u32,
        /// For how long none of them had moved.
        total_ns: Nanos,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// All of several workers were blocked at once, for at least 1 % of the recording or 10 ms
    /// at a stretch: no task could run.
    Starved {
        /// The runtime's id.
        runtime: String,
        /// Its workers, at least two.
        workers: u32,
        /// Time in which all were blocked.
        total_ns: Nanos,
        /// The longest stretch of it.
        longest_ns: Nanos,
        /// `total_ns` as a share of the recording, 0 to 1.
        share: f64,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// Workers were blocked for at least 1 % of their time or 10 ms in one wait.
    WorkersBlocked {
        /// The runtime's id.
        runtime: String,
        /// Its workers. With one, no task could run meanwhile.
        workers: u32,
        /// Time of all workers in which they were blocked.
        total_ns: Nanos,
        /// The longest wait.
        longest_ns: Nanos,
        /// `total_ns` as a share of the workers' time, 0 to 1.
        share: f64,
        /// Index in [`Report::sites`](super::Report::sites) of the worst site.
        site: Option<usize>,
    },
    /// Workers waited for a CPU for at least 10 % of their time.
    CpuStarved {
        /// The runtime's id.
        runtime: String,
        /// The share, 0 to 1.
        share: f64,
    },
    /// For at least 5 % of the workers' time the state is unknown, so that nothing can be said.
    Unclear {
        /// The runtime's id.
        runtime: String,
        /// The share, 0 to 1.
        share: f64,
    },
    /// Workers were on a CPU for at least 80 % of their time; not a finding of blocking, but the
    /// reason why tasks may wait.
    CpuBound {
        /// The runtime's id.
        runtime: String,
        /// The share, 0 to 1.
        share: f64,
    },
    /// None of the above.
    Healthy {
        /// Id of the runtime with the most blocked time.
        runtime: String,
        /// Share of its workers' time in which they were blocked, below 0.01.
        share: f64,
        /// The longest wait, below 10 ms.
        longest_ns: Nanos,
    },
    /// Threads were seen, but none of them served a tokio runtime.
    NoRuntime,
    /// Not even a thread was seen.
    NothingSeen,
}

impl Verdict {
    /// The verdict on what the other parts of a report say.
    pub(super) fn of(
        runtimes: &[RuntimeReport],
        sites: &[Site],
        threads: &[ThreadReport],
    ) -> Verdict {
        let gravest = runtimes
            .iter()
            .map(|runtime| {
                (
                    Verdict::of_runtime(runtime, sites),
                    state(runtime, State::Blocked),
                )
            })
            .min_by_key(|(verdict, blocked)| (verdict.gravity(), Reverse(*blocked)));
        match gravest {
            Some((verdict, _)) => verdict,
            None if threads.is_empty() => Verdict::NothingSeen,
            None => Verdict::NoRuntime,
        }
    }

    fn of_runtime(runtime: &RuntimeReport, sites: &[Site]) -> Verdict {
        let id = || runtime.id.clone();
        let whole = sum(&runtime.states);
        let share = |of: State| state(runtime, of).share_of(whole);
        let flavor = match runtime.kind {
            RuntimeKind::MultiThread => Flavor::MultiThread,
            RuntimeKind::CurrentThread => Flavor::CurrentThread,
        };
        let of_runtime =
            |site: &Site| site.state == State::Blocked && site.role == Role::Worker(flavor);
        // Sites are sorted, so that the first is the worst.
        let site = sites.iter().position(of_runtime);
        let longest_ns = sites
            .iter()
            .filter(|site| of_runtime(site))
            .map(|site| site.max_ns)
            .max()
            .unwrap_or_default();
        let recording: Nanos = runtime.blocked_at_once.iter().copied().sum();
        let starved = runtime.starved_ns.share_of(recording);
        if runtime.wedged_ns >= WEDGED {
            Verdict::Wedged {
                runtime: id(),
                workers: runtime.workers,
                total_ns: runtime.wedged_ns,
                site,
            }
        } else if runtime.workers > 1
            && (starved >= STARVED_SHARE || runtime.starved_max_ns >= STARVED_LONGEST)
        {
            Verdict::Starved {
                runtime: id(),
                workers: runtime.workers,
                total_ns: runtime.starved_ns,
                longest_ns: runtime.starved_max_ns,
                share: starved,
                site,
            }
        } else if share(State::Blocked) >= BLOCKED_SHARE || longest_ns >= BLOCKED_LONGEST {
            Verdict::WorkersBlocked {
                runtime: id(),
                workers: runtime.workers,
                total_ns: state(runtime, State::Blocked),
                longest_ns,
                share: share(State::Blocked),
                site,
            }
        } else if share(State::Runnable) >= CPU_STARVED_SHARE {
            Verdict::CpuStarved {
                runtime: id(),
                share: share(State::Runnable),
            }
        } else if share(State::Unknown) >= UNCLEAR_SHARE {
            Verdict::Unclear {
                runtime: id(),
                share: share(State::Unknown),
            }
        } else if share(State::Running) >= CPU_BOUND_SHARE {
            Verdict::CpuBound {
                runtime: id(),
                share: share(State::Running),
            }
        } else {
            Verdict::Healthy {
                runtime: id(),
                share: share(State::Blocked),
                longest_ns,
            }
        }
    }

    const fn gravity(&self) -> u8 {
        match self {
            Verdict::Wedged { .. } => 0,
            Verdict::Starved { .. } => 1,
            Verdict::WorkersBlocked { .. } => 2,
            Verdict::CpuStarved { .. } => 3,
            Verdict::Unclear { .. } => 4,
            Verdict::CpuBound { .. } => 5,
            Verdict::Healthy { .. } => 6,
            Verdict::NoRuntime => 7,
            Verdict::NothingSeen => 8,
        }
    }
}

fn state(runtime: &RuntimeReport, state: State) -> Nanos {
    runtime.states.get(&state).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A runtime over one second.
    fn runtime(id: &str, workers: u32, states: &[(State, u64)], starved: u64) -> RuntimeReport {
        let mut at_once = vec![Nanos::ZERO; workers as usize + 1];
        at_once[0] = Nanos(1_000 * MS - starved);
        at_once[workers as usize] = Nanos(starved);
        RuntimeReport {
            id: id.to_owned(),
            kind: RuntimeKind::MultiThread,
            workers,
            states: states.iter().map(|&(s, t)| (s, Nanos(t))).collect(),
            starved_ns: Nanos(starved),
            starved_max_ns: Nanos(starved / 2),
            wedged_ns: Nanos::ZERO,
            blocked_at_once: at_once,
        }
    }

    fn verdict(runtimes: &[RuntimeReport]) -> Verdict {
        Verdict::of(runtimes, &[], &[])
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
