use super::super::testing::process;
use super::*;
use crate::report::{GroupedBy, PollTimes, RuntimeKind, UnclearReason};

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
    within(Nanos(1_000 * MS), runtimes, throttling)
}

fn within(
    length: Nanos,
    runtimes: &[RuntimeReport],
    throttling: Option<&ThrottlingReport>,
) -> Verdict {
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
        length,
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
fn a_runtime_that_lived_for_a_moment_has_no_shares() {
    let states = [
        (State::Runnable, 270_000),
        (State::Idle, 30_000),
        (State::Running, 362_000),
    ];
    let mut short = runtime("rt1", 1, &states, 0);
    short.blocked_at_once = vec![Nanos(600_000), Nanos(62_000)];
    let healthy = runtime("rt0", 2, &[(State::Idle, 2_000 * MS)], 0);
    let of = |length| within(Nanos(length), &[short.clone(), healthy.clone()], None);
    assert!(matches!(of(3_000 * MS), Verdict::Healthy { .. }));
    assert!(matches!(of(10 * MS), Verdict::CpuStarved { .. }));
    // However short it lived: nobody wants to wait for so long.
    let mut slow = short.clone();
    slow.long_poll_max_ns = LONG_POLL_LONGEST;
    let of = within(Nanos(100_000 * MS), &[slow, healthy], None);
    assert!(matches!(of, Verdict::LongPolls { .. }));
}

#[test]
fn the_gravest_runtime_decides() {
    let healthy = runtime("rt0", 4, &[(State::Idle, 4_000 * MS)], 0);
    let blocked = [(State::Blocked, 10 * MS), (State::Idle, 90 * MS)];
    let blocked = runtime("rt1", 1, &blocked, 0);
    let Verdict::WorkersBlocked { runtime, .. } = verdict(&[healthy, blocked]) else {
        panic!("rt1 was blocked for 10 % of its time");
    };
    assert_eq!(runtime, "rt1");
}

#[test]
fn shares_tell_the_rest() {
    let of = |states: &[(State, u64)]| {
        let states: Vec<_> = states.iter().map(|(s, time)| (*s, time * MS)).collect();
        verdict(&[runtime("rt0", 2, &states, 0)])
    };
    let starved = of(&[(State::Runnable, 10), (State::Running, 90)]);
    assert!(matches!(starved, Verdict::CpuStarved { .. }));
    let unclear = of(&[(State::Unknown, 5), (State::Running, 95)]);
    assert!(matches!(unclear, Verdict::Unclear { .. }));
    let outside = of(&[(State::Runtime, 10), (State::Running, 5), (State::Idle, 85)]);
    let Verdict::Unclear { reason, .. } = outside else {
        panic!("{outside:?}");
    };
    assert_eq!(reason, UnclearReason::OutsidePolls);
    let little = of(&[(State::Runtime, 9), (State::Idle, 91)]);
    assert!(matches!(little, Verdict::Healthy { .. }));
    let bound = of(&[(State::Running, 80), (State::Idle, 20)]);
    assert!(matches!(bound, Verdict::CpuBound { .. }));
    let healthy = of(&[(State::Running, 20), (State::Idle, 80)]);
    assert!(matches!(healthy, Verdict::Healthy { .. }));
    assert_eq!(verdict(&[]), Verdict::NothingSeen);
}
