//! A service of 20 threads: 10,000 waits in each second, each by a task of its own.

use super::builder::{Builder, MS, SEC, US, WORKER, app, at, park, stack, under_worker};
use holdup::recording::{Interval, ObjectId, StackId, Wait, WaitSum};
use holdup::units::{Nanos, Timestamp};
use std::collections::BTreeMap;

pub const WAITS: u64 = 10_000;
const THREADS: u64 = 20;
const STACKS: u64 = 200;
const OBJECTS: u64 = 500;

/// Its tables, and a thread's times of one second.
pub fn service() -> Builder {
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

/// One second of it.
pub fn interval(b: &Builder, number: u64) -> Interval {
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
