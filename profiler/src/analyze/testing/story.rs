//! A made-up program for tests, of which every instant is known: it can be cut into intervals
//! anywhere.

use super::{app, histogram, library, process, recording, stack};
use crate::recording::{
    CallSum, Interval, Object, ObjectId, ObjectKind, OpenWait, PanicSum, Poll, PollEvidence,
    ProcessId, Recording, SampleSum, Sampling, StackId, ThreadId, ThreadTimes, Throttling, Wait,
    WaitObject, WaitSum, Waker, WakerId,
};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use std::collections::BTreeMap;

/// A small generator of pseudo-random numbers (xorshift64*), so that a failure can be repeated.
pub(in crate::analyze) struct Random(u64);

impl Random {
    pub(in crate::analyze) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(in crate::analyze) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

/// One wait, in time since the start.
#[derive(Clone, Copy, Debug)]
pub(in crate::analyze) struct Told {
    pub(in crate::analyze) thread: ThreadId,
    pub(in crate::analyze) stack: StackId,
    pub(in crate::analyze) object: Option<ObjectId>,
    pub(in crate::analyze) start: u64,
    pub(in crate::analyze) wakeup: u64,
    pub(in crate::analyze) end: u64,
    pub(in crate::analyze) waker: Option<WakerId>,
    pub(in crate::analyze) task_id: Option<u64>,
}

/// What happened. A thread runs when it does not wait, from the start to the end.
pub(in crate::analyze) struct Story {
    pub(in crate::analyze) base: Recording,
    pub(in crate::analyze) length: u64,
    pub(in crate::analyze) threads: Vec<ThreadId>,
    /// Of each thread one after another.
    pub(in crate::analyze) waits: Vec<Told>,
    /// When a sample was taken, of whom and where.
    pub(in crate::analyze) samples: Vec<(u64, ThreadId, StackId)>,
}

const ROLES: [(State, Role); 7] = [
    (State::Blocked, Role::Worker(Flavor::MultiThread)),
    (State::Idle, Role::Worker(Flavor::MultiThread)),
    (State::HandedOff, Role::Worker(Flavor::MultiThread)),
    (State::Blocked, Role::Worker(Flavor::CurrentThread)),
    (State::Pool, Role::PoolThread),
    (State::Runtime, Role::None),
    (State::Other, Role::None),
];

impl Story {
    /// Two processes with some threads and every kind of stack.
    pub(in crate::analyze) fn random(seed: u64, min_block: u64) -> Story {
        let mut random = Random::new(seed);
        let mut story = Story::new(1_000 + random.below(1_000_000), min_block);
        let stacks = story.base.tables.stacks.len() as u64;
        let threads = 1 + random.below(6) as u32;
        for tid in 0..threads {
            let thread = thread(u32::from(random.below(4) == 0), 10 + tid);
            story.threads.push(thread);
            let mut at = random.below(story.length / 4);
            while at < story.length {
                let scale = [5, 50, 500][random.below(3) as usize];
                let long = 1 + random.below(story.length / scale);
                let wakeup = at + long;
                let end = wakeup + random.below(3) * random.below(100);
                let stack = random.below(stacks / 2) * 2 + u64::from(thread.process.0);
                story.waits.push(Told {
                    thread,
                    stack: StackId(stack as u32),
                    object: (random.below(2) == 0).then(|| ObjectId(random.below(3) as u32)),
                    start: at,
                    wakeup,
                    end,
                    waker: (random.below(3) > 0).then(|| WakerId(random.below(3) as u32)),
                    task_id: (random.below(3) > 0).then(|| random.below(20)),
                });
                if random.below(5) == 0 {
                    story.samples.push((end, thread, StackId(stack as u32)));
                }
                at = end + 1 + random.below(story.length / 20);
            }
        }
        story
    }

    pub(in crate::analyze) fn new(length: u64, min_block: u64) -> Story {
        let mut base = recording(length);
        base.intervals.clear();
        base.header.min_block = Nanos(min_block);
        base.header.panics_counted = true;
        base.header.calls_measured = true;
        base.header.sampling = Some(Sampling { period: Nanos(10) });
        base.tables.processes.push(process(2));
        for (line, (state, role)) in (1..).zip(ROLES) {
            for of in 0..2 {
                let frames = vec![library("std::x"), app("app::f", line)];
                let mut stack = stack(frames, state, role, Some(1));
                stack.process = ProcessId(of);
                stack.syscall = Some(if line % 2 == 0 { 232 } else { 0 });
                base.tables.stacks.push(stack);
            }
        }
        for n in 0..3 {
            base.tables.objects.push(WaitObject {
                object: Object {
                    kind: ObjectKind::Path,
                    name: format!("/var/lib/{n}"),
                },
                fd: None,
                many: 1,
            });
            base.tables.wakers.push(Waker {
                pid: Pid(1),
                tid: Tid(n),
                name: format!("waker-{n}").into(),
            });
        }
        Story {
            base,
            length,
            threads: Vec::new(),
            waits: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// The recording of it with intervals that end at each of `cuts`, in order.
    pub(in crate::analyze) fn cut(&self, cuts: &[u64]) -> Recording {
        let mut recording = self.base.clone();
        let ends = cuts.iter().copied().chain([self.length]);
        let mut from = 0;
        for to in ends {
            recording.intervals.push(self.interval(from, to));
            from = to;
        }
        recording
    }

    fn time(&self, since_start: u64) -> Timestamp {
        Timestamp(self.base.header.start.0 + since_start)
    }

    fn interval(&self, from: u64, to: u64) -> Interval {
        let mut interval = Interval {
            start: self.time(from),
            end: self.time(to),
            carried: self.open_at(from),
            open_waits: self.open_at(to),
            ..Interval::default()
        };
        for &thread in &self.threads {
            interval.threads.push(self.times(thread, from, to));
        }
        // What happened at the very start is in the first interval.
        let in_it = |at: u64| at <= to && (at > from || from == 0);
        let mut ended: Vec<&Told> = self.waits.iter().filter(|wait| in_it(wait.end)).collect();
        ended.sort_by_key(|wait| wait.end);
        let mut sums = BTreeMap::new();
        for wait in ended {
            sum(&mut sums, wait);
            let idle = self.base.tables.stacks[wait.stack.index()].class.state == State::Idle;
            if !idle && Nanos(wait.wakeup - wait.start) >= self.base.header.min_block {
                interval.waits.push(Wait {
                    thread: wait.thread,
                    stack: wait.stack,
                    object: wait.object,
                    start: self.time(wait.start),
                    wakeup: self.time(wait.wakeup),
                    end: self.time(wait.end),
                    waker: wait.waker,
                    waker_stack: wait.waker.map(|_| StackId(0)),
                    task_id: wait.task_id,
                });
            }
        }
        interval.sums = sums.into_values().collect();
        for &(at, thread, stack) in self.samples.iter().filter(|(at, ..)| in_it(*at)) {
            self.add_sample(&mut interval, at, thread, stack);
        }
        interval.losses.walked = to - from;
        interval.losses.by_cause.too_deep = 2 * (to - from);
        interval.classified.by_symbols = to - from;
        interval.classified.agreed = to.min(7);
        let throttling = Throttling {
            group: "/a".to_owned(),
            periods: to - from,
            throttled_periods: 0,
            throttled: Nanos(to - from),
        };
        interval.throttling.push((ProcessId(1), throttling));
        interval
    }

    /// A sample, and at the same time a long poll, a long call and a panic.
    fn add_sample(&self, interval: &mut Interval, at: u64, thread: ThreadId, stack: StackId) {
        interval.samples.push(SampleSum {
            thread,
            stack,
            samples: 1 + at % 3,
        });
        let length = 1 + at % 1_000;
        interval.polls.push(Poll {
            thread,
            stack,
            task_id: Some(at),
            start: self.time(at),
            end: Timestamp(self.time(at).0 + length),
            blocked: Nanos(0),
            runqueue: Nanos(length / 3),
            running: Nanos(length - length / 3),
            waits: 0,
            samples: 2,
            queued: None,
            evidence: [PollEvidence::Tick, PollEvidence::Stack][(at % 2) as usize],
        });
        interval.calls.push(CallSum {
            thread,
            stack,
            object: Some(ObjectId((at % 3) as u32)),
            calls: 1,
            on_cpu: Nanos(at % 100),
            wall: Nanos(at % 200),
            max: Nanos(at % 100),
        });
        interval.panics.push(PanicSum {
            thread,
            stack,
            panics: 1,
            last: self.time(at),
            task_id: Some(at),
        });
    }

    fn open_at(&self, at: u64) -> Vec<OpenWait> {
        let open = |wait: &&Told| wait.start < at && at < wait.end;
        let waits = self.waits.iter().filter(open);
        waits
            .map(|wait| OpenWait {
                thread: wait.thread,
                stack: wait.stack,
                began_for: wait.object,
                since: self.time(wait.start),
                woken: (wait.wakeup <= at).then(|| self.time(wait.wakeup)),
                before_recording: false,
                object: None,
                holder: None,
                task_id: wait.task_id,
            })
            .collect()
    }

    fn times(&self, thread: ThreadId, from: u64, to: u64) -> ThreadTimes {
        let part = |start: u64, end: u64| end.min(to).saturating_sub(start.max(from));
        let (mut blocked, mut runnable, mut waits) = (0, 0, 0);
        for wait in self.waits.iter().filter(|wait| wait.thread == thread) {
            blocked += part(wait.start, wait.wakeup);
            runnable += part(wait.wakeup, wait.end);
            waits += u64::from(wait.end <= to && wait.end > from);
        }
        ThreadTimes {
            thread,
            lived: Nanos(to - from),
            until: Timestamp(to),
            running: Nanos(to - from - blocked - runnable),
            runnable: Nanos(runnable),
            blocked: Nanos(blocked),
            waits,
            in_calls: Nanos::ZERO,
        }
    }
}

/// A thread of one of the processes.
pub(in crate::analyze) fn thread(process: u32, tid: u32) -> ThreadId {
    ThreadId {
        process: ProcessId(process),
        tid: Tid(tid),
    }
}

type Sums = BTreeMap<(ThreadId, StackId, Option<ObjectId>), WaitSum>;

fn sum(sums: &mut Sums, wait: &Told) {
    let blocked = Nanos(wait.wakeup - wait.start);
    let new = || WaitSum {
        thread: wait.thread,
        stack: wait.stack,
        object: wait.object,
        waits: 0,
        blocked: Nanos::ZERO,
        runqueue: Nanos::ZERO,
        max: Nanos::ZERO,
        histogram: histogram(&[]),
    };
    let key = (wait.thread, wait.stack, wait.object);
    let sum = sums.entry(key).or_insert_with(new);
    sum.waits += 1;
    sum.blocked += blocked;
    sum.runqueue += Nanos(wait.end - wait.wakeup);
    sum.max = sum.max.max(blocked);
    for (all, one) in sum.histogram.iter_mut().zip(histogram(&[blocked.0])) {
        *all += one;
    }
}
