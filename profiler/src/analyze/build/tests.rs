//! Rules of the summing-up that need a whole recording.

use crate::analyze::build;
use crate::analyze::testing::story::Random;
use crate::analyze::testing::{app, library, recording, runtime, stack, thread};
use crate::recording::{
    DriverGap, Recording, SHORT_WAITS_PER_SAMPLE, SampleSum, Sampling, StackId, Waker, WakerId,
};
use crate::report::{RuntimeKind, Verdict};
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Flavor, Role, State};
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};

const WORKER: Role = Role::Worker(Flavor::MultiThread);
const CURRENT: Role = Role::Worker(Flavor::CurrentThread);

fn blocked(recording: &mut Recording, role: Role) -> StackId {
    let frames = vec![
        library("std::thread::sleep"),
        app("app::site", 7),
        app("app::task", 3),
        runtime("tokio::runtime::task::raw::poll"),
    ];
    recording.push_stack(stack(frames, State::Blocked, role, Some(2)))
}

fn plain(recording: &mut Recording, state: State, role: Role) -> StackId {
    recording.push_stack(stack(vec![library("std::x")], state, role, None))
}

fn nanos<const N: usize>(times: [u64; N]) -> Vec<Nanos> {
    times.into_iter().map(Nanos).collect()
}

#[test]
fn blocked_at_once_sums_to_the_duration() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    for tid in 1..=2 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, stack, 0, 400);
    recording.push_wait(2, stack, 100, 300);
    recording.push_open(2, stack, 900);
    let report = build(&recording);
    let [runtime] = &report.runtimes[..] else {
        panic!("one runtime");
    };
    assert_eq!(runtime.workers, 2);
    assert_eq!(runtime.blocked_at_once, nanos([500, 300, 200]));
    assert_eq!(runtime.starved_ns, Nanos(200));
    assert_eq!(runtime.starved_max_ns, Nanos(200));
    assert_eq!(runtime.states[&State::Blocked], Nanos(700));
}

#[test]
fn the_run_queue_part_of_a_wait_does_not_block() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    recording.push_thread(1);
    recording.push_wait(1, stack, 0, 400);
    recording.interval().waits[0].wakeup.0 -= 150;
    let report = build(&recording);
    assert_eq!(report.runtimes[0].blocked_at_once, nanos([750, 250]));
}

#[test]
fn nobody_waits_for_events_while_a_worker_is_blocked() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    let driver = plain(&mut recording, State::Idle, WORKER);
    recording.tables.stacks[driver.index()].syscall = Some(232);
    for tid in 1..=2 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, stack, 0, 700);
    let without = build(&recording);
    assert_eq!(without.runtimes[0].driver_ns, None, "no driver was seen");
    recording.push_wait(2, driver, 0, 300);
    // What it did after that was hardly anything.
    recording.interval().threads[1].running = Nanos(100);
    // It goes on at the end of one interval, and is told again when it is over.
    for to in [500, 900] {
        let gap = DriverGap {
            thread: thread(2),
            from: Timestamp(1_300),
            to: Timestamp(1_000 + to),
        };
        recording.interval().driver_gaps.push(gap);
    }
    let report = build(&recording);
    let runtime = &report.runtimes[0];
    assert_eq!(runtime.driver_ns, Some(Nanos(300)));
    assert_eq!(runtime.unattended_ns, Some(Nanos(400)));
    let stretch = &runtime.unattended[0];
    assert_eq!(
        (stretch.start_ns, stretch.length_ns),
        (Nanos(300), Nanos(400))
    );
    let [stretch] = &without.runtimes[0].starved_stretches[..] else {
        panic!("one worker, blocked once");
    };
    assert_eq!(
        (stretch.start_ns, stretch.length_ns),
        (Nanos(0), Nanos(700))
    );
}

#[test]
fn a_thread_that_never_waits_is_what_its_samples_say() {
    let mut recording = recording(1_000);
    let idle = plain(&mut recording, State::Idle, WORKER);
    let poll = blocked(&mut recording, WORKER);
    for tid in 1..=2 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, idle, 0, 1_000);
    recording.header.sampling = Some(Sampling { period: Nanos(100) });
    for tid in [1, 2] {
        recording.interval().samples.push(SampleSum {
            thread: thread(tid),
            stack: poll,
            samples: 9,
        });
    }
    let report = build(&recording);
    assert_eq!(report.runtimes[0].workers, 2);
    assert_eq!(report.runtimes[0].states[&State::Running], Nanos(1_000));
    assert_eq!(report.cpu_sites[0].cpu_ns, Nanos(1_800));
    assert_eq!(report.cpu_sites[0].task.as_deref(), Some("app::task"));
}

#[test]
fn only_workers_starve_a_runtime() {
    let mut recording = recording(1_000);
    let pool = plain(&mut recording, State::Pool, Role::PoolThread);
    let idle = plain(&mut recording, State::Idle, WORKER);
    recording.push_thread(1);
    recording.push_thread(2);
    recording.push_wait(1, idle, 0, 1_000);
    recording.push_wait(2, pool, 0, 1_000);
    let report = build(&recording);
    assert_eq!(report.runtimes.len(), 1);
    assert_eq!(report.runtimes[0].blocked_at_once, nanos([1_000, 0]));
    let pool = report.pools.first().expect("a pool thread waited");
    assert_eq!((pool.threads, pool.peak_busy), (1, 1));
    assert_eq!(
        (pool.busy_ns, pool.waiting_ns),
        (Nanos(1_000), Nanos(1_000))
    );
}

#[test]
fn a_core_that_moved_does_not_make_more_workers() {
    // Thread 1 is a worker, enters block_in_place at 400 and is a pool thread from 600 on;
    // thread 2 takes its core at 400. Threads 3 and 4 are workers throughout.
    let mut recording = recording(1_000);
    let idle = plain(&mut recording, State::Idle, WORKER);
    let handed_off = plain(&mut recording, State::HandedOff, WORKER);
    let pool_idle = plain(&mut recording, State::Idle, Role::PoolThread);
    for tid in 1..=4 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, idle, 0, 400);
    recording.push_wait(1, handed_off, 400, 600);
    recording.push_wait(1, pool_idle, 600, 1_000);
    recording.push_wait(2, pool_idle, 0, 400);
    recording.push_wait(2, idle, 400, 1_000);
    recording.push_wait(3, idle, 0, 1_000);
    recording.push_wait(4, idle, 0, 1_000);
    let report = build(&recording);
    let runtime = &report.runtimes[0];
    assert_eq!(runtime.workers, 3);
    assert_eq!(
        runtime.states.values().copied().sum::<Nanos>(),
        Nanos(3_000)
    );
    assert!(!runtime.states.contains_key(&State::HandedOff));
}

#[test]
fn a_rotating_pool_does_not_make_more_workers() {
    // Two cores move through ten threads: no two are handed off at once, so that only the
    // time tells how many workers there are.
    let mut recording = recording(1_000);
    let idle = plain(&mut recording, State::Idle, WORKER);
    let handed_off = plain(&mut recording, State::HandedOff, WORKER);
    let pool_idle = plain(&mut recording, State::Idle, Role::PoolThread);
    for tid in 0..10 {
        recording.push_thread(tid);
        let from = u64::from(tid % 5) * 200;
        if from > 0 {
            recording.push_wait(tid, pool_idle, 0, from);
        }
        recording.push_wait(tid, idle, from, from + 190);
        recording.push_wait(tid, handed_off, from + 190, from + 191 + u64::from(tid / 5));
        recording.push_wait(tid, pool_idle, from + 192, 1_000);
    }
    assert_eq!(build(&recording).runtimes[0].workers, 2);
}

#[test]
fn each_current_thread_runtime_is_one() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, CURRENT);
    let idle = plain(&mut recording, State::Idle, WORKER);
    for tid in 1..=4 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, stack, 0, 100);
    recording.push_wait(2, stack, 0, 300);
    recording.push_wait(3, idle, 0, 1_000);
    recording.push_wait(4, idle, 0, 1_000);
    let report = build(&recording);
    let seen: Vec<_> = report
        .runtimes
        .iter()
        .map(|r| (r.id.as_str(), r.kind, r.workers, r.starved_ns.0))
        .collect();
    assert_eq!(
        seen,
        [
            ("rt0", RuntimeKind::MultiThread, 2, 0),
            ("rt1", RuntimeKind::CurrentThread, 1, 300),
            ("rt2", RuntimeKind::CurrentThread, 1, 100),
        ]
    );
    let of = |tid| report.threads.iter().find(|t| t.tid == Tid(tid)).unwrap();
    assert_eq!(of(2).runtime.as_deref(), Some("rt1"));
    assert_eq!(of(1).runtime.as_deref(), Some("rt2"));
    assert_eq!(of(3).runtime.as_deref(), Some("rt0"));
}

/// Workers of two runtimes wait at one place; one runtime stands still, the other does not.
#[test]
fn each_runtime_has_its_own_waits_of_a_site() {
    let mut recording = recording(2_000_000_000);
    let mut of_runtime = |handle: u64, state: State| {
        let id = match state {
            State::Blocked => blocked(&mut recording, WORKER),
            _ => plain(&mut recording, state, WORKER),
        };
        let stack = recording.tables.stacks.last_mut().expect("just pushed");
        stack.runtime = Some(RuntimeHandle(Addr(handle)));
        id
    };
    let (app, side) = (
        of_runtime(0x1000, State::Blocked),
        of_runtime(0x2000, State::Blocked),
    );
    let idle = of_runtime(0x2000, State::Idle);
    for tid in 1..=4 {
        recording.push_thread(tid);
    }
    recording.push_open(1, app, 0);
    recording.push_open(2, app, 0);
    for tid in [3, 4] {
        recording.push_wait(tid, idle, 0, 1_000_000_000);
        recording.push_wait(tid, side, 1_000_000_000, 1_000_001_000);
        recording.push_wait(tid, idle, 1_000_001_000, 2_000_000_000);
    }
    let report = build(&recording);
    let runtimes: Vec<_> = report
        .runtimes
        .iter()
        .map(|r| (&*r.id, r.workers))
        .collect();
    assert_eq!(runtimes, [("rt0", 2), ("rt1", 2)]);
    let wedged = report.runtimes.iter().map(|r| r.wedged_ns.0);
    assert_eq!(wedged.collect::<Vec<_>>(), [2_000_000_000, 0]);
    let [site] = &report.sites[..] else {
        panic!("one place");
    };
    let shares = site.runtimes.iter();
    let shares: Vec<_> = shares
        .map(|share| (&*share.runtime, share.waits, share.max_ns.0))
        .collect();
    assert_eq!(shares, [("rt0", 2, 2_000_000_000), ("rt1", 2, 1_000)]);
    // By itself the other one is healthy: the long waits are not its.
    recording.interval().open_waits.clear();
    let report = build(&recording);
    assert!(
        matches!(&report.verdict, Verdict::Healthy { longest_ns, .. } if longest_ns.0 == 1_000),
        "{:?}",
        report.verdict
    );
}

/// A thread that runs a `LocalSet` parks in the `block_on` around it.
#[test]
fn parks_of_a_local_set_are_its_own() {
    let mut recording = recording(1_000);
    let poll = blocked(&mut recording, CURRENT);
    let park = plain(&mut recording, State::Idle, Role::BlockOn);
    let idle = plain(&mut recording, State::Idle, WORKER);
    for tid in 1..=2 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, poll, 0, 20);
    recording.push_wait(1, park, 20, 1_000);
    recording.push_wait(2, idle, 0, 1_000);
    let report = build(&recording);
    let local = &report.runtimes[1];
    assert_eq!(local.kind, RuntimeKind::LocalSet);
    assert_eq!(local.states[&State::Blocked], Nanos(20));
    assert_eq!(local.states[&State::Idle], Nanos(980));
}

#[test]
fn sites_group_by_place_and_state() {
    let mut recording = recording(1_000);
    let a = blocked(&mut recording, WORKER);
    let b = blocked(&mut recording, WORKER);
    let pool = {
        let mut stack = recording.tables.stacks[0].clone();
        stack.class.state = State::Pool;
        stack.class.role = Role::PoolThread;
        recording.push_stack(stack)
    };
    let idle = plain(&mut recording, State::Idle, WORKER);
    for tid in 1..=3 {
        recording.push_thread(tid);
    }
    recording.push_wait(1, a, 0, 100);
    recording.push_wait(2, b, 0, 300);
    recording.push_wait(3, pool, 0, 900);
    recording.push_wait(1, idle, 500, 900);
    for n in 0..2 {
        recording.tables.wakers.push(Waker {
            pid: Pid(1),
            tid: Tid(n + 1),
            name: "waker".into(),
        });
        recording.interval().waits[n as usize].waker = Some(WakerId(n));
    }
    let report = build(&recording);
    let [first, second] = &report.sites[..] else {
        panic!("two sites, and none that is idle: {:?}", report.sites);
    };
    assert_eq!((first.state, second.state), (State::Blocked, State::Pool));
    assert_eq!(&*first.function, "app::site");
    assert_eq!(first.task.as_deref(), Some("app::task"));
    assert_eq!(first.wait, "std::thread::sleep");
    assert_eq!(
        (first.waits, first.total_ns, first.max_ns),
        (2, Nanos(400), Nanos(300))
    );
    assert_eq!((first.p50_ns, first.p99_ns), (Nanos(100), Nanos(300)));
    assert_eq!(first.wakers.len(), 1);
    assert_eq!(first.wakers[0].waits, 2);
    assert_eq!(first.stack.len(), 4);
    assert_eq!(
        report.stacks.len(),
        4,
        "idle stacks are kept for flamegraphs"
    );
}

/// A lock that is held for a moment, three times in four by somebody whose waits are all too short to
/// be recorded one by one.
#[test]
fn a_sample_tells_who_ends_short_waits() {
    let mut recording = recording(1_000_000);
    recording.header.min_block = Nanos(1_000);
    let site = blocked(&mut recording, WORKER);
    recording.push_thread(1);
    for (n, name) in [(0, "long"), (1, "short")] {
        recording.tables.wakers.push(Waker {
            pid: Pid(1),
            tid: Tid(n + 7),
            name: name.into(),
        });
    }
    for n in 0..64 {
        recording.push_wait(1, site, n * 3_000, n * 3_000 + 2_000);
        let waits = &mut recording.interval().waits;
        waits.last_mut().expect("pushed").waker = Some(WakerId(0));
    }
    for n in 64..70 {
        recording.push_wait(1, site, n * 3_000, n * 3_000 + 200);
        let interval = recording.interval();
        let mut wait = interval.waits.pop().expect("pushed");
        wait.waker = Some(WakerId(1));
        interval.short_waits.push(wait);
    }
    // The sample is of so many.
    recording.push_wait(1, site, 300_000, 330_000);
    let interval = recording.interval();
    interval.waits.pop();
    interval.sums.last_mut().expect("pushed").waits = 6 * (SHORT_WAITS_PER_SAMPLE - 1);
    let report = build(&recording);
    let [site] = &report.sites[..] else {
        panic!("one site: {:?}", report.sites);
    };
    assert_eq!(site.waits, 64 + 192);
    assert_eq!(site.waits_with_waker, 64 + 192);
    let wakers: Vec<_> = site.wakers.iter().map(|w| (&*w.thread, w.waits)).collect();
    assert_eq!(wakers, [("short", 192), ("long", 64)]);
    // It is no part of the timeline, nor of the single waits.
    let without = {
        recording.interval().short_waits.clear();
        build(&recording)
    };
    assert_eq!(
        without.runtimes[0].blocked_at_once,
        report.runtimes[0].blocked_at_once
    );
    assert_eq!(
        (without.sites[0].p50_ns, without.sites[0].waits),
        (site.p50_ns, site.waits)
    );
}

#[test]
fn open_waits_are_waits() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    let idle = plain(&mut recording, State::Idle, WORKER);
    recording.push_thread(1);
    recording.push_thread(2);
    recording.push_open(1, stack, 250);
    recording.push_open(2, idle, 0);
    let report = build(&recording);
    let [open] = &report.open_waits[..] else {
        panic!("the parked thread is no finding");
    };
    assert_eq!((open.tid, open.since_ns), (Tid(1), Nanos(750)));
    let site = &report.sites[0];
    assert_eq!(
        (site.waits, site.total_ns, site.p50_ns),
        (1, Nanos(750), Nanos(750))
    );
    assert_eq!(report.threads[0].states[&State::Blocked], Nanos(750));
}

#[test]
fn unaccounted_time_is_unknown() {
    let mut recording = recording(1_000);
    recording.push_thread(1);
    recording.interval().threads[0].running = Nanos(300);
    recording.interval().threads[0].blocked = Nanos(700);
    let report = build(&recording);
    assert_eq!(report.threads[0].states[&State::Unknown], Nanos(700));
    assert_eq!(report.verdict, Verdict::NoRuntime);
}

#[test]
fn a_thread_id_used_twice_has_one_life() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    recording.push_thread(1);
    recording.interval().threads[0].lived = Nanos(500);
    recording.push_thread(1);
    recording.interval().threads[1].lived = Nanos(500);
    for thread in &mut recording.interval().threads {
        thread.running = Nanos::ZERO;
    }
    recording.push_wait(1, stack, 0, 800);
    let report = build(&recording);
    assert_eq!(report.threads.len(), 1);
    assert_eq!(report.threads[0].states[&State::Blocked], Nanos(800));
    assert_eq!(report.threads[0].states[&State::Unknown], Nanos(200));
    assert_eq!(report.clamped_ns, Nanos::ZERO);
}

#[test]
fn stacks_that_are_not_there_are_unknown() {
    let mut recording = recording(1_000);
    recording.push_thread(1);
    recording.push_wait(1, StackId(77), 0, 400);
    recording.push_open(1, StackId(78), 900);
    let report = build(&recording);
    assert_eq!(report.threads[0].states[&State::Unknown], Nanos(500));
    assert_eq!(report.stacks.len(), 2);
}

fn random_recording(seed: u64) -> Recording {
    const ROLES: [Role; 5] = [WORKER, CURRENT, Role::PoolThread, Role::BlockOn, Role::None];
    let mut random = Random::new(seed);
    let mut recording = recording(1 + random.below(1_000_000));
    for _ in 0..1 + random.below(12) {
        let state = State::ALL[random.below(9) as usize];
        let role = ROLES[random.below(5) as usize];
        let frames = vec![library("std::x"), app("app::f", random.below(3) as u32)];
        recording.push_stack(stack(frames, state, role, Some(random.below(4) as u32)));
    }
    let length = (recording.interval().end - recording.interval().start).0;
    for tid in 0..random.below(8) as u32 {
        recording.push_thread(tid);
        let mut at = 0;
        while at < length && random.below(20) > 0 {
            let stack = StackId(random.below(14) as u32);
            let to = (at + random.below(length)).min(length);
            if to < length || random.below(2) == 0 {
                recording.push_wait(tid, stack, at, to);
            } else {
                recording.push_open(tid, stack, at);
            }
            at = to + random.below(1 + length / 10);
        }
        let threads = &mut recording.interval().threads;
        let thread = threads.last_mut().expect("just pushed");
        match random.below(4) {
            // Clocks that disagree: the sums go beyond the life, or fall short of it.
            0 => thread.lived = Nanos(random.below(1 + length)),
            1 => thread.running += Nanos(random.below(1_000)),
            2 => {
                thread.runnable = thread.running;
                thread.running = Nanos::ZERO;
            }
            _ => {}
        }
    }
    recording
}

#[test]
fn books_balance_whatever_was_recorded() {
    for seed in 0..2_000 {
        let recording = random_recording(seed);
        let report = build(&recording);
        for thread in &report.threads {
            let sum: Nanos = thread.states.values().copied().sum();
            assert_eq!(sum, thread.lived_ns, "seed {seed}, thread {}", thread.tid);
        }
        for runtime in &report.runtimes {
            let sum: Nanos = runtime.blocked_at_once.iter().copied().sum();
            assert_eq!(sum, report.duration_ns, "seed {seed}, {}", runtime.id);
            assert_eq!(runtime.blocked_at_once.len(), runtime.workers as usize + 1);
            assert!(runtime.workers > 0 && runtime.starved_max_ns <= runtime.starved_ns);
        }
        let in_runtimes: Nanos = report
            .runtimes
            .iter()
            .flat_map(|runtime| runtime.states.values().copied())
            .sum();
        let lived: Nanos = report.threads.iter().map(|thread| thread.lived_ns).sum();
        assert!(
            in_runtimes <= lived,
            "seed {seed}: no time is counted twice"
        );
        for site in &report.sites {
            assert!(
                site.p50_ns <= site.p99_ns && site.p99_ns <= site.max_ns,
                "seed {seed}"
            );
            assert!(site.max_ns <= site.total_ns, "seed {seed}");
        }
    }
}

#[test]
fn clamping_is_counted() {
    let mut recording = recording(1_000);
    let stack = blocked(&mut recording, WORKER);
    recording.push_thread(1);
    recording.push_wait(1, stack, 0, 1_000);
    recording.interval().threads[0].lived = Nanos(990);
    let report = build(&recording);
    assert_eq!(report.clamped_ns, Nanos(10));
    assert_eq!(report.threads[0].states[&State::Blocked], Nanos(990));
}
