//! Values of the kernel side's maps: threads, sums of waits, and what it is told of stacks.

use super::ids::{ObjectNumber, StackNumber, ThreadKey, WaitStack, tick};
use crate::units::{Nanos, Pid, Tid, Timestamp};
use profiler_common::map::{
    ALL_FRAMES, Aggregate, AggregateKey, HISTOGRAM_BUCKETS, PHASE_BLOCKED, PHASE_DEAD,
    PHASE_RUNNABLE, PHASE_RUNNING, POLICY_RECORD, POLICY_SUM_ONLY, POLICY_SUM_ONLY_IF_TLS, Stack,
    Thread, ThreadState as RawState, ThreadTimes as RawTimes,
};
use profiler_common::park;

/// Where a thread's time went in finished stretches. With the stretch under way they make up the
/// time for which the thread has lived in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadTimes {
    /// When its life in the recording began: the recording's start, or its birth.
    pub first_seen: Timestamp,
    /// On a CPU.
    pub running: Nanos,
    /// Wanting a CPU: preempted, or woken and not yet running.
    pub runnable: Nanos,
    /// Off-CPU, from the switch-out to the wakeup.
    pub blocked: Nanos,
    /// Waits behind `blocked`.
    pub waits: u64,
    /// The part of `running` inside system calls that are measured and have returned.
    pub in_calls: Nanos,
}

impl From<RawTimes> for ThreadTimes {
    fn from(raw: RawTimes) -> ThreadTimes {
        ThreadTimes {
            first_seen: Timestamp(raw.first_seen),
            running: Nanos(raw.running),
            runnable: Nanos(raw.runnable),
            blocked: Nanos(raw.blocked),
            waits: raw.waits,
            in_calls: Nanos(raw.in_calls),
        }
    }
}

/// What a thread does, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On a CPU.
    Running(Timestamp),
    /// Off-CPU, yet wants one.
    Runnable(Timestamp),
    /// It waits.
    Waiting(OpenWait),
    /// It ended then, and its record found no room in the ring buffer.
    Ended(Timestamp),
}

/// A wait that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWait {
    /// The switch-out.
    pub since: Timestamp,
    /// The wakeup, where there was one: it waits for a CPU since.
    pub woken: Option<Timestamp>,
    /// Its stack.
    pub stack: WaitStack,
    /// What it is for, where that is known.
    pub object: Option<ObjectNumber>,
    /// Id of the task being polled, if tokio's thread-local state has it.
    pub task_id: Option<u64>,
    /// As [`PollClock::tick`](super::PollClock::tick).
    pub tick: Option<u32>,
}

/// What a thread was at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// What it did.
    pub phase: Phase,
    /// Its finished stretches.
    pub times: ThreadTimes,
}

impl ThreadState {
    /// None where the thread was not there yet.
    #[must_use]
    pub fn of(raw: &RawState) -> Option<ThreadState> {
        let since = Timestamp(raw.since);
        let phase = match raw.phase {
            PHASE_RUNNING => Phase::Running(since),
            PHASE_RUNNABLE => Phase::Runnable(since),
            PHASE_BLOCKED => Phase::Waiting(OpenWait {
                since,
                woken: (raw.wakeup >= raw.since).then_some(Timestamp(raw.wakeup)),
                stack: WaitStack::new(raw.stack),
                object: ObjectNumber::new(raw.object),
                task_id: (raw.task_id != 0).then_some(raw.task_id),
                tick: tick(raw.tick),
            }),
            PHASE_DEAD => Phase::Ended(since),
            _ => return None,
        };
        Some(ThreadState {
            phase,
            times: raw.times.into(),
        })
    }
}

/// An entry of the thread table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEntry {
    /// The thread.
    pub thread: ThreadKey,
    /// What it is just now.
    pub state: ThreadState,
    /// The object of its last wait, whether or not it goes on. The kernel side takes an object that
    /// a thread waits for again for one that was sent.
    pub last_object: Option<ObjectNumber>,
    /// The stack of the thread that woke it last, where that was walked.
    pub waker_stack: Option<StackNumber>,
}

impl ThreadEntry {
    /// None for a free entry, and for one that is neither free nor valid: another CPU may be
    /// writing it.
    #[must_use]
    pub fn of(raw: &Thread) -> Option<ThreadEntry> {
        let state = ThreadState::of(&raw.state())?;
        let tid = Tid(if raw.phase == PHASE_DEAD {
            raw.ended_tid
        } else {
            raw.tid
        });
        (tid != Tid(0)).then_some(ThreadEntry {
            thread: ThreadKey {
                pid: Pid(raw.tgid),
                tid,
            },
            state,
            last_object: ObjectNumber::new(raw.object),
            waker_stack: StackNumber::new(raw.waker_stack),
        })
    }
}

/// What a sum of waits is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SumKey {
    /// The thread.
    pub thread: ThreadKey,
    /// The stack.
    pub stack: WaitStack,
    /// What was waited for, where it is known.
    pub object: Option<ObjectNumber>,
}

impl From<&AggregateKey> for SumKey {
    fn from(raw: &AggregateKey) -> SumKey {
        SumKey {
            thread: ThreadKey {
                pid: Pid(raw.tgid),
                tid: Tid(raw.tid),
            },
            stack: WaitStack::new(raw.stack),
            object: ObjectNumber::new(raw.object),
        }
    }
}

/// Finished waits, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub waits: u64,
    /// Switch-out to wakeup.
    pub blocked: Nanos,
    /// Wakeup to switch-in.
    pub runqueue: Nanos,
    /// Longest blocked part.
    pub max: Nanos,
    /// Blocked parts by the logarithm (base 2) of their nanoseconds. Those of parks that the
    /// kernel side knew again are not counted.
    pub histogram: [u32; HISTOGRAM_BUCKETS],
}

impl Default for Sum {
    fn default() -> Sum {
        Sum {
            waits: 0,
            blocked: Nanos::ZERO,
            runqueue: Nanos::ZERO,
            max: Nanos::ZERO,
            histogram: [0; HISTOGRAM_BUCKETS],
        }
    }
}

impl Sum {
    /// One wait.
    #[must_use]
    pub fn one(blocked: Nanos, runqueue: Nanos) -> Sum {
        let mut one = Sum {
            waits: 1,
            blocked,
            runqueue,
            max: blocked,
            ..Sum::default()
        };
        let bucket = (blocked.0.max(1).ilog2() as usize).min(HISTOGRAM_BUCKETS - 1);
        if let Some(count) = one.histogram.get_mut(bucket) {
            *count = 1;
        }
        one
    }

    /// Adds `more`.
    pub fn add(&mut self, more: &Sum) {
        self.waits = self.waits.saturating_add(more.waits);
        self.blocked += more.blocked;
        self.runqueue += more.runqueue;
        self.max = self.max.max(more.max);
        for (sum, more) in self.histogram.iter_mut().zip(more.histogram) {
            *sum = sum.saturating_add(more);
        }
    }
}

impl From<&Aggregate> for Sum {
    fn from(raw: &Aggregate) -> Sum {
        Sum {
            waits: raw.waits,
            blocked: Nanos(raw.blocked),
            runqueue: Nanos(raw.runqueue),
            max: Nanos(raw.max),
            histogram: raw.histogram,
        }
    }
}

impl From<&park::Sums> for Sum {
    fn from(raw: &park::Sums) -> Sum {
        Sum {
            waits: raw.waits,
            blocked: Nanos(raw.blocked),
            runqueue: Nanos(raw.runqueue),
            max: Nanos(raw.max),
            ..Sum::default()
        }
    }
}

/// What the kernel side is to do with waits of one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackPolicy {
    /// Record them one by one: nothing is known of it yet, or it is no idle park.
    #[default]
    Record,
    /// It is an idle park: sums are enough.
    SumOnly {
        /// So many of the innermost frames prove that, whatever the others are; none: all are
        /// needed.
        decisive_frames: Option<u32>,
    },
    /// As `SumOnly`, by the word of tokio's thread-local state.
    SumOnlyIfTls,
}

impl StackPolicy {
    /// As the kernel side's map has it.
    #[must_use]
    pub fn raw(self) -> Stack {
        let (policy, frames) = match self {
            StackPolicy::Record => (POLICY_RECORD, 0),
            StackPolicy::SumOnly { decisive_frames } => {
                (POLICY_SUM_ONLY, decisive_frames.unwrap_or(ALL_FRAMES))
            }
            StackPolicy::SumOnlyIfTls => (POLICY_SUM_ONLY_IF_TLS, ALL_FRAMES),
        };
        Stack {
            policy,
            reserved: 0,
            frames,
        }
    }
}

/// What the sums of a remembered park are of, and its waits.
#[must_use]
pub fn park_sum(raw: &park::Sums) -> (SumKey, Sum) {
    let key = SumKey {
        thread: ThreadKey {
            pid: Pid(raw.tgid),
            tid: Tid(raw.tid),
        },
        stack: WaitStack::new(raw.stack),
        object: None,
    };
    (key, Sum::from(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Thread {
        Thread {
            tid: 8,
            tgid: 7,
            phase: PHASE_BLOCKED,
            since: 100,
            wakeup: 50,
            stack: 40,
            task_id: 5,
            object: 6,
            waker_stack: 9,
            tick: 3,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    #[test]
    fn a_thread_does_one_thing() {
        let free = Thread { tid: 0, ..raw() };
        assert_eq!(ThreadEntry::of(&free), None);
        let entry = ThreadEntry::of(&raw()).expect("a thread");
        let thread = ThreadKey {
            pid: Pid(7),
            tid: Tid(8),
        };
        assert_eq!(entry.thread, thread);
        assert_eq!(entry.last_object, ObjectNumber::new(6));
        assert_eq!(entry.waker_stack, StackNumber::new(9));
        let wait = OpenWait {
            since: Timestamp(100),
            woken: None,
            stack: WaitStack::new(40),
            object: ObjectNumber::new(6),
            task_id: Some(5),
            tick: Some(2),
        };
        assert_eq!(entry.state.phase, Phase::Waiting(wait));
        let woken = ThreadEntry::of(&Thread {
            wakeup: 100,
            ..raw()
        });
        let wait = OpenWait {
            woken: Some(Timestamp(100)),
            ..wait
        };
        let phase = woken.map(|entry| entry.state.phase);
        assert_eq!(phase, Some(Phase::Waiting(wait)));
        for (number, phase) in [
            (PHASE_RUNNING, Some(Phase::Running(Timestamp(100)))),
            (PHASE_RUNNABLE, Some(Phase::Runnable(Timestamp(100)))),
            (0, None),
            (u32::MAX, None),
        ] {
            let raw = Thread {
                phase: number,
                ..raw()
            };
            let entry = ThreadEntry::of(&raw);
            assert_eq!(entry.map(|entry| entry.state.phase), phase);
        }
        let dead = Thread {
            phase: PHASE_DEAD,
            tid: 0,
            ended_tid: 8,
            ..raw()
        };
        let entry = ThreadEntry::of(&dead).expect("a thread");
        assert_eq!(entry.thread, thread);
        assert_eq!(entry.state.phase, Phase::Ended(Timestamp(100)));
    }

    #[test]
    fn sums_add_up() {
        let mut sum = Sum::one(Nanos(5), Nanos(1));
        sum.add(&Sum::one(Nanos(4), Nanos(2)));
        sum.add(&Sum::one(Nanos(0), Nanos(0)));
        sum.add(&Sum::one(Nanos(u64::MAX), Nanos(0)));
        assert_eq!((sum.waits, sum.runqueue), (4, Nanos(3)));
        assert_eq!((sum.blocked, sum.max), (Nanos(u64::MAX), Nanos(u64::MAX)));
        assert_eq!((sum.histogram[0], sum.histogram[2]), (1, 2));
        assert_eq!(sum.histogram[HISTOGRAM_BUCKETS - 1], 1);
    }

    #[test]
    fn a_policy_is_the_kernel_side_s() {
        let raw = |policy: StackPolicy| (policy.raw().policy, policy.raw().frames);
        assert_eq!(raw(StackPolicy::Record), (POLICY_RECORD, 0));
        let sum_only = |decisive_frames| StackPolicy::SumOnly { decisive_frames };
        assert_eq!(raw(sum_only(Some(3))), (POLICY_SUM_ONLY, 3));
        assert_eq!(raw(sum_only(None)), (POLICY_SUM_ONLY, ALL_FRAMES));
        let if_tls = (POLICY_SUM_ONLY_IF_TLS, ALL_FRAMES);
        assert_eq!(raw(StackPolicy::SumOnlyIfTls), if_tls);
    }
}
