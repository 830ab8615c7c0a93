//! What it takes to sum up a long recording: a test of its own, since it looks at the memory of
//! its whole process.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::Analyzer;
use holdup::recording::{Interval, ObjectId, StackId, Wait, WaitSum};
use holdup::units::{Nanos, Timestamp};
use recordings::builder::{Builder, MS, SEC, US, WORKER, app, at, park, stack, under_worker};
use std::collections::BTreeMap;
use std::time::Duration;

const INTERVALS: u64 = 100;
const WAITS: u64 = 10_000;
const THREADS: u64 = 20;
const STACKS: u64 = 200;
const OBJECTS: u64 = 500;

/// The most memory that this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// The CPU time of this thread: others may keep the machine busy.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let running = times.split(' ').next().and_then(|time| time.parse().ok());
    Duration::from_nanos(running.expect("nanoseconds"))
}

/// A service of 20 threads: 10,000 waits in each second, each by a task of its own.
fn service() -> Builder {
    let mut b = Builder::new("/srv/claims_api", SEC);
    b.stack(park());
    for n in 1..STACKS {
        let mut frames = vec![at(app("claims_api::store::load"), "src/store.rs", n as u32)];
        frames.extend((0..30).map(|depth| app(&format!("claims_api::api::f{n}_{depth}"))));
        let state = holdup::runtime::State::Blocked;
        b.stack(stack(state, WORKER, "task-poll", under_worker(frames)));
    }
    for n in 0..OBJECTS {
        let name = format!("tcp 10.0.0.1:{} -> 10.0.0.5:5432", 30_000 + n);
        b.object(holdup::recording::ObjectKind::Socket, &name, Some(9));
        b.waker(1, n as u32 % 40, "tokio-rt-worker");
    }
    for tid in 0..THREADS {
        b.thread(tid as u32, "tokio-rt-worker", 100 * MS, 0);
    }
    b
}

fn interval(b: &Builder, number: u64) -> Interval {
    let start = b.header.start.0 + number * SEC;
    let mut interval = Interval {
        start: Timestamp(start),
        end: Timestamp(start + SEC),
        threads: b.interval.threads.clone(),
        ..Interval::default()
    };
    let mut sums = BTreeMap::new();
    for n in 0..WAITS {
        let (tid, round) = (n % THREADS, n / THREADS);
        let (stack, object) = (1 + (n * 7 + number) % (STACKS - 1), (n * 11) % OBJECTS);
        let from = start + round * (SEC / (WAITS / THREADS));
        let blocked = 200 * US + (n * 7_919 + number * 31) % (1_500 * US);
        let wait = Wait {
            thread: b.id(tid as u32),
            stack: StackId(stack as u32),
            object: Some(ObjectId(object as u32)),
            start: Timestamp(from),
            wakeup: Timestamp(from + blocked),
            end: Timestamp(from + blocked + 5 * US),
            waker: Some(holdup::recording::WakerId(n as u32 % 40)),
            waker_stack: Some(StackId((1 + n % 50) as u32)),
            task_id: Some(number * WAITS + n),
        };
        let key = (wait.thread, wait.stack, wait.object);
        let sum: &mut WaitSum = sums.entry(key).or_insert_with(|| WaitSum {
            thread: wait.thread,
            stack: wait.stack,
            object: wait.object,
            waits: 0,
            blocked: Nanos::ZERO,
            runqueue: Nanos::ZERO,
            max: Nanos::ZERO,
            histogram: vec![0; 40],
        });
        sum.waits += 1;
        sum.blocked += Nanos(blocked);
        sum.runqueue += Nanos(5 * US);
        sum.max = sum.max.max(Nanos(blocked));
        sum.histogram[blocked.ilog2() as usize] += 1;
        interval.waits.push(wait);
    }
    interval.waits.sort_by_key(|wait| wait.end);
    interval.sums = sums.into_values().collect();
    interval
}

#[test]
fn a_million_waits_take_little() {
    let b = service();
    let mut analyzer = Analyzer::new(&b.header);
    drop(interval(&b, 0));
    let before = peak();
    let mut adding = Duration::ZERO;
    for number in 0..INTERVALS {
        let interval = interval(&b, number);
        let begin = cpu_time();
        analyzer.add(&b.tables, interval);
        adding += cpu_time() - begin;
    }
    let added = peak();
    let begin = cpu_time();
    let report = analyzer.report(&b.header, &b.tables);
    let reporting = cpu_time() - begin;
    let reported = peak();
    println!(
        "{} waits: added in {adding:?} of CPU time, reported in {reporting:?}; {} MiB more when added, {} MiB \
         more in the report",
        INTERVALS * WAITS,
        added - before,
        reported - added
    );
    let waits: u64 = report.sites.iter().map(|site| site.waits).sum();
    assert_eq!(waits, INTERVALS * WAITS);
    assert_eq!(report.losses.timeline, 0);
    assert!(reported - before <= 60, "{} MiB", reported - before);
    assert!(adding < Duration::from_secs(10), "{adding:?}");
    assert!(reporting < Duration::from_secs(3), "{reporting:?}");
}
