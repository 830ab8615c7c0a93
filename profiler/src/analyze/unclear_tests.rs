use super::tests::runtime;
use super::*;
use crate::recording::TokioFacts;
use crate::report::StateTimes;
use crate::runtime::Role;
use crate::runtime::tokio::{Certainty, MissingContext, NoContext};
use crate::units::Tid;

/// Of a process with a tokio that is known in part, and one thread.
struct Partly {
    process: Process,
    runtimes: Vec<RuntimeReport>,
    unjudged: Unjudged,
    thread: &'static str,
}

impl Partly {
    /// Of a thread whose time is unknown for `unknown` of 100.
    fn new(tokio: TokioFacts, unknown: u64) -> Partly {
        Partly {
            process: Process {
                tokio,
                ..Process::unknown(Pid(1))
            },
            runtimes: Vec::new(),
            unjudged: Unjudged::new(&[], Pid(1), (Nanos(unknown), Nanos(100))),
            thread: "work",
        }
    }

    fn verdict(&self) -> Verdict {
        let thread = ThreadReport {
            tid: Tid(1),
            pid: Pid(1),
            name: self.thread.to_owned(),
            role: Role::None,
            runtime: None,
            lived_ns: Nanos(100),
            waits: 0,
            states: StateTimes::new(),
            in_calls_ns: None,
        };
        verdicts(&Findings {
            processes: &[self.process.clone(), Process::unknown(Pid(2))],
            unjudged: &self.unjudged,
            runtimes: &self.runtimes,
            sites: &[],
            long_polls: &[],
            pools: &[],
            length: Nanos::ZERO,
            threads: &[thread],
            cpu_shares: &BTreeMap::new(),
            throttling: &[],
        })
        .0
    }
}

fn tokio() -> TokioFacts {
    TokioFacts {
        present: true,
        ..TokioFacts::default()
    }
}

fn contradicted() -> TokioFacts {
    TokioFacts {
        context: Certainty::Contradicted { stacks: 1 },
        ..tokio()
    }
}

fn missing() -> TokioFacts {
    TokioFacts {
        without_context: vec![MissingContext {
            module: "app".to_owned(),
            reason: NoContext::UnknownArrangement,
        }],
        ..tokio()
    }
}

#[test]
fn there_is_no_runtime_only_where_nothing_looks_like_tokio() {
    let reason = |facts, unknown| match Partly::new(facts, unknown).verdict() {
        Verdict::Unclear {
            runtime: None,
            reason,
            ..
        } => reason,
        other => panic!("{other:?}"),
    };
    let none = Partly::new(TokioFacts::default(), 100);
    assert_eq!(none.verdict(), Verdict::NoRuntime);
    let by_name = Partly {
        thread: "tokio-rt-worker",
        ..none
    };
    assert!(matches!(by_name.verdict(), Verdict::Unclear { .. }));
    let old = TokioFacts {
        not_understood: Some("0.2.25".to_owned()),
        ..missing()
    };
    assert_eq!(reason(tokio(), 0), UnclearReason::NoWorkerSeen);
    assert_eq!(reason(tokio(), 90), UnclearReason::UnknownTime);
    assert_eq!(reason(missing(), 0), UnclearReason::NoWorkerSeen);
    assert_eq!(reason(missing(), 90), UnclearReason::ContextMissing);
    assert_eq!(
        reason(contradicted(), 90),
        UnclearReason::ContextContradicted
    );
    assert_eq!(reason(old, 0), UnclearReason::NotUnderstood);
}

#[test]
fn what_a_contradiction_left_unknown_counts_against_the_best() {
    let of = |facts, unknown, states: &[(State, u64)]| {
        Partly {
            runtimes: vec![runtime("rt0", 1, states, 0)],
            ..Partly::new(facts, unknown)
        }
        .verdict()
    };
    let idle = [(State::Idle, 100)];
    let healthy = |verdict| matches!(verdict, Verdict::Healthy { .. });
    let unclear = |verdict| {
        matches!(
            verdict,
            Verdict::Unclear {
                runtime: Some(_),
                ..
            }
        )
    };
    assert!(unclear(of(contradicted(), 5, &idle)));
    assert!(unclear(of(missing(), 5, &idle)));
    let old = TokioFacts {
        not_understood: Some("0.2.25".to_owned()),
        ..tokio()
    };
    assert!(unclear(of(old, 5, &idle)));
    assert!(healthy(of(contradicted(), 4, &idle)));
    // What is understood is known not to be a worker.
    assert!(healthy(of(tokio(), 90, &idle)));
    // What is worse than unclear stays.
    let blocked = [(State::Blocked, 50), (State::Idle, 50)];
    assert!(matches!(
        of(contradicted(), 90, &blocked),
        Verdict::WorkersBlocked { .. }
    ));
}

#[test]
fn a_healthy_process_does_not_hide_another() {
    let mut partly = Partly::new(tokio(), 90);
    let mut other = runtime("rt0", 1, &[(State::Idle, 100)], 0);
    other.pid = Pid(2);
    partly.runtimes = vec![other];
    assert!(matches!(
        partly.verdict(),
        Verdict::Unclear {
            runtime: None,
            pid: Pid(1),
            ..
        }
    ));
    partly.unjudged = Unjudged::new(&[], Pid(1), (Nanos(4), Nanos(100)));
    assert!(matches!(partly.verdict(), Verdict::Healthy { .. }));
}

#[test]
fn samples_that_could_not_be_judged_count_against_the_best() {
    let of = |unknown| {
        Partly {
            runtimes: vec![runtime(
                "rt0",
                1,
                &[(State::Running, 50), (State::Idle, 50)],
                0,
            )],
            unjudged: Unjudged::new(&[("rt0", unknown)], Pid(1), (Nanos(0), Nanos(100))),
            ..Partly::new(tokio(), 0)
        }
        .verdict()
    };
    assert!(matches!(of(0.09), Verdict::Healthy { .. }));
    assert!(matches!(
        of(0.2),
        Verdict::Unclear { share, reason: UnclearReason::UnknownTime, .. }
            if (share - 0.1).abs() < 1e-9
    ));
}
