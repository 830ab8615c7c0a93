use super::*;
use crate::analyze::testing::{app, recording, runtime, stack, thread};
use crate::analyze::{Trends, build};
use crate::recording::Recording;
use crate::report::Report;
use crate::runtime::Role;

const MS: u64 = 1_000_000;
const WORKER: Role = Role::Worker(Flavor::MultiThread);

/// Two workers for a second: one is blocked from 100 ms to 850 ms, the other from 600 ms on.
fn two_workers() -> Recording {
    let mut recording = recording(1_000 * MS);
    let blocked = stack(
        vec![app("a::b", 1), runtime("poll")],
        State::Blocked,
        WORKER,
        Some(0),
    );
    let idle = stack(vec![runtime("park")], State::Idle, WORKER, None);
    let blocked = recording.push_stack(blocked);
    let idle = recording.push_stack(idle);
    for tid in [11, 12] {
        recording.push_thread(tid);
    }
    recording.push_wait(11, blocked, 100 * MS, 850 * MS);
    recording.push_wait(12, idle, 0, 400 * MS);
    // Parks are in the sums only.
    let interval = recording.intervals.last_mut().expect("one");
    interval.waits.retain(|wait| wait.stack == blocked);
    recording.push_open(12, blocked, 600 * MS);
    recording
}

fn seen(recording: &Recording) -> (History, Trends, Report) {
    let mut history = History::default();
    let mut trends = Trends::default();
    let mut report = build(recording);
    for interval in &recording.intervals {
        history.add(&recording.tables, interval);
        trends.see(&recording.tables, &history, &mut report);
        trends.tick(&history);
    }
    (history, trends, report)
}

#[test]
fn slices_have_what_single_waits_say_and_the_rest_is_spread() {
    let recording = two_workers();
    let (history, trends, _) = seen(&recording);
    let lanes = history.lanes(&recording.tables, |thread| trends.runtime_of(thread));
    assert_eq!(lanes.len(), 2);
    let near = |time: Nanos, ms: u64| time.0.abs_diff(ms * MS) < MS;
    let first = &lanes[0];
    assert_eq!(
        (first.tid, first.runtime.as_deref()),
        (thread(11).tid, Some("rt0"))
    );
    let slices = first.slices.iter().take(4);
    let blocked: Vec<u64> = slices
        .map(|slice| slice.time(State::Blocked).0 / MS)
        .collect();
    assert_eq!(blocked, [149, 250, 250, 100]);
    let second = &lanes[1];
    let whole = second.between(second.first, 100);
    assert!(near(whole.time(State::Blocked), 400), "{whole:?}");
    assert!(near(whole.time(State::Idle), 400), "{whole:?}");
    assert!(near(whole.time(State::Running), 200), "{whole:?}");
    assert_eq!(second.slices[0].time(State::Blocked), Nanos::ZERO);
    assert_eq!(second.slices[3].state(), Some(State::Blocked));
}

#[test]
fn trends_say_what_was_blocked_and_when_all_were() {
    let recording = two_workers();
    let (_, trends, report) = seen(&recording);
    let trend = &trends.of(&[0])[0];
    assert_eq!(report.runtimes[0].starved_ns, Nanos(250 * MS));
    let close = |share: f64, to: f64| (share - to).abs() < 0.01;
    assert!(close(trend.starved[0], 0.25), "{trend:?}");
    assert!(close(trend.blocked[0], 0.575), "{trend:?}");
}

#[test]
fn an_interval_cut_in_two_is_the_same_time() {
    let mut recording = two_workers();
    let whole = recording.intervals[0].clone();
    // The same once more, as the interval that follows; the open wait is carried into it.
    let length = whole.end - whole.start;
    let mut next = whole.clone();
    next.carried.clone_from(&whole.open_waits);
    next.start = whole.end;
    next.end = Timestamp(whole.end.0 + length.0);
    next.waits.clear();
    next.sums.clear();
    for times in &mut next.threads {
        times.until = next.end;
        (times.running, times.blocked) = if times.thread == thread(12) {
            (Nanos::ZERO, length)
        } else {
            (length, Nanos::ZERO)
        };
    }
    recording.intervals.push(next);
    let (history, trends, _) = seen(&recording);
    let lanes = history.lanes(&recording.tables, |thread| trends.runtime_of(thread));
    let second = lanes[1].between(0, u64::from(u32::MAX));
    assert_eq!(second.time(State::Blocked).0 / MS, 1_400);
    let first = lanes[0].between(0, u64::from(u32::MAX));
    assert_eq!(first.time(State::Running).0.div_ceil(MS), 1_250);
    assert_eq!(trends.of(&[0])[0].blocked.len(), 2);
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut recording = two_workers();
    let interval = recording.intervals.pop().expect("one");
    let mut history = History::default();
    let mut trends = Trends::default();
    for second in 0..400 {
        let mut next = interval.clone();
        next.waits.clear();
        next.open_waits.clear();
        next.start = Timestamp(interval.start.0 + second * 1_000 * MS);
        next.end = Timestamp(next.start.0 + 1_000 * MS);
        for times in &mut next.threads {
            times.until = next.end;
        }
        history.add(&recording.tables, &next);
    }
    let lanes = history.lanes(&recording.tables, |thread| trends.runtime_of(thread));
    assert_eq!(lanes[0].slices.len(), KEPT);
    // Nobody is seen any more.
    let last = Timestamp(interval.start.0 + 500_000 * MS);
    let gone = Interval {
        start: last,
        end: last,
        ..Interval::default()
    };
    history.add(&recording.tables, &gone);
    assert_eq!(
        history.lanes(&recording.tables, |thread| trends.runtime_of(thread)),
        []
    );
    trends.tick(&history);
    assert_eq!(trends.of(&[0]), []);
}
