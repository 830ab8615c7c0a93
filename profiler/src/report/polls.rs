//! Polls that took long.

use crate::recording::{Poll, PollEvidence};
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid, Tid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Entries of [`PollTimes::histogram`].
pub const POLL_BUCKETS: usize = 16;

/// Polls of at least the length that was asked for, with their parts. Each part is exact between
/// the first and the last wait or sample of a poll, so that the lengths are at least these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PollTimes {
    /// How many.
    pub polls: u64,
    /// Their lengths together.
    pub total_ns: Nanos,
    /// The part in which threads waited.
    pub blocked_ns: Nanos,
    /// The part in which they wanted a CPU and had none.
    pub runqueue_ns: Nanos,
    /// The part in which they ran.
    pub running_ns: Nanos,
    /// The length of the longest.
    pub longest_ns: Nanos,
    /// That of the longest in which the thread waited for at least half of the time.
    pub longest_blocked_ns: Nanos,
    /// How many by length: entry `i` counts those of `[2^i, 2^(i+1))` milliseconds, entry 0 also
    /// shorter ones, the last entry also longer ones. At most [`POLL_BUCKETS`] entries; those after
    /// the longest poll are left out.
    pub histogram: Vec<u64>,
}

impl PollTimes {
    /// Counts a poll in.
    pub fn add(&mut self, poll: &Poll) {
        let length = poll.length();
        self.polls += 1;
        self.total_ns += length;
        self.blocked_ns += poll.blocked;
        self.runqueue_ns += poll.runqueue;
        self.running_ns += poll.running;
        self.longest_ns = self.longest_ns.max(length);
        if poll.is_blocked() {
            self.longest_blocked_ns = self.longest_blocked_ns.max(length);
        }
        self.count(bucket_of(length), 1);
    }

    /// Counts others in.
    pub fn merge(&mut self, more: &PollTimes) {
        self.polls = self.polls.saturating_add(more.polls);
        self.total_ns += more.total_ns;
        self.blocked_ns += more.blocked_ns;
        self.runqueue_ns += more.runqueue_ns;
        self.running_ns += more.running_ns;
        self.longest_ns = self.longest_ns.max(more.longest_ns);
        self.longest_blocked_ns = self.longest_blocked_ns.max(more.longest_blocked_ns);
        for (bucket, polls) in more.histogram.iter().enumerate() {
            self.count(bucket, *polls);
        }
    }

    fn count(&mut self, bucket: usize, polls: u64) {
        if self.histogram.len() <= bucket {
            self.histogram.resize(bucket + 1, 0);
        }
        if let Some(count) = self.histogram.get_mut(bucket) {
            *count = count.saturating_add(polls);
        }
    }
}

fn bucket_of(length: Nanos) -> usize {
    let log2 = (length.0 / 1_000_000).checked_ilog2().unwrap_or(0);
    usize::try_from(log2).map_or(POLL_BUCKETS - 1, |log2| log2.min(POLL_BUCKETS - 1))
}

/// The long polls of one task.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LongPollSite {
    /// The innermost frame of the application in the longest part of the longest one, as
    /// [`Site::function`](super::Site::function).
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the polled task.
    pub task: Option<Arc<str>>,
    /// The process.
    pub pid: Pid,
    /// The runtime's id.
    pub runtime: Option<String>,
    /// The polls.
    #[serde(flatten)]
    pub times: PollTimes,
    /// The longest.
    pub longest: LongestPoll,
    /// How waits and samples were found to be of one poll.
    pub evidence: Vec<PollEvidence>,
    /// The stack of the longest part of the longest poll.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
}

/// A poll that took long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LongestPoll {
    /// The thread.
    pub tid: Tid,
    /// tokio's id of the task, where it is known.
    pub task_id: Option<u64>,
    /// Its start, from the recording's.
    pub at_ns: Nanos,
    /// Its length, at least.
    pub length_ns: Nanos,
    /// The part in which the thread waited.
    pub blocked_ns: Nanos,
    /// The part in which it wanted a CPU and had none.
    pub runqueue_ns: Nanos,
    /// The part in which it ran.
    pub on_cpu_ns: Nanos,
    /// Waits in it that were recorded one by one.
    pub waits: u64,
    /// Samples in it.
    pub samples: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{ProcessId, StackId, ThreadId};
    use crate::units::Timestamp;

    const MS: u64 = 1_000_000;

    fn poll(ms: u64, blocked: u64) -> Poll {
        Poll {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(1),
            },
            stack: StackId(0),
            task_id: None,
            start: Timestamp(5),
            end: Timestamp(5 + ms * MS),
            blocked: Nanos(blocked * MS),
            runqueue: Nanos(0),
            running: Nanos((ms - blocked) * MS),
            waits: 1,
            samples: 0,
            queued: None,
            evidence: PollEvidence::Tick,
        }
    }

    #[test]
    fn polls_are_counted_by_length() {
        let mut times = PollTimes::default();
        for (ms, blocked) in [(0, 0), (1, 1), (10, 9), (15, 1), (100_000, 0)] {
            times.add(&poll(ms, blocked));
        }
        assert_eq!(times.polls, 5);
        assert_eq!(times.longest_ns, Nanos(100_000 * MS));
        assert_eq!(times.longest_blocked_ns, Nanos(10 * MS));
        assert_eq!(times.histogram.len(), POLL_BUCKETS);
        let counts = [0, 3, POLL_BUCKETS - 1].map(|bucket| times.histogram[bucket]);
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(times.total_ns, times.blocked_ns + times.running_ns);
        let mut twice = times.clone();
        twice.merge(&times);
        assert_eq!(twice.polls, 10);
        assert_eq!(twice.histogram.iter().sum::<u64>(), 10);
        assert_eq!(twice.longest_ns, times.longest_ns);
    }
}
