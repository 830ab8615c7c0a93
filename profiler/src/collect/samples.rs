//! Threads on a CPU: samples summed up by stack, and put together to polls.

use crate::recording::{LongPoll, PollEvidence, SampleTotal, Sampling, StackEntry, StackId};
use crate::runtime::tokio::TlsState;
use crate::runtime::{Role, State};
use crate::symbolize::Frame;
use crate::units::{Nanos, Tid, Timestamp};
use profiler_common::record::{NO_TICK, SampleRecord};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Distinct stacks of samples that are kept; what goes beyond them is counted as lost.
const MAX_STACKS: usize = 1 << 16;

/// Long polls that are kept, likewise: at 10 ms each, twenty minutes of one CPU.
const MAX_POLLS: usize = 1 << 17;

/// All samples so far.
#[derive(Debug, Default)]
pub(super) struct Samples {
    totals: HashMap<(Tid, StackId), u64>,
    stacks: HashMap<u64, StackId>,
    /// By process and core: the last tick seen.
    ticks: HashMap<(u32, u64), u32>,
    /// Processes in which a tick went backwards: it is none.
    doubted: HashSet<u32>,
    /// Polls by their tick.
    ticked: Polls,
    /// The same samples, for the case that the tick is not one.
    untrusted: Polls,
    /// Polls of samples without a tick.
    tickless: Polls,
    lost: u64,
}

/// One sample, as far as polls are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) tid: Tid,
    pub(super) stack: StackId,
    pub(super) time: Timestamp,
    pub(super) record: SampleRecord,
}

impl Samples {
    /// The stack that was sampled before with the same functions and lines, or a new one out of
    /// `make`. (Every instruction of a loop is a stack of its own, by address.) None where there is
    /// no `room` for another one.
    pub(super) fn stack(
        &mut self,
        identity: &impl Hash,
        frames: Vec<Frame>,
        room: bool,
        make: impl FnOnce(Vec<Frame>) -> StackId,
    ) -> Option<StackId> {
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        for frame in &frames {
            (&frame.function, frame.line, frame.inlined).hash(&mut hasher);
        }
        let key = hasher.finish();
        if let Some(id) = self.stacks.get(&key) {
            return Some(*id);
        }
        if !room || self.stacks.len() >= MAX_STACKS {
            self.lost += 1;
            return None;
        }
        let id = make(frames);
        self.stacks.insert(key, id);
        Some(id)
    }

    /// Adds a sample. `entry` is its stack, `tls_state` what tokio's thread-local state said.
    pub(super) fn add(
        &mut self,
        sample: Sample,
        entry: &StackEntry,
        tls_state: TlsState,
        sampling: Sampling,
    ) {
        *self.totals.entry((sample.tid, sample.stack)).or_default() += 1;
        let record = &sample.record;
        let long = sampling.long_poll;
        let same_stack = same_poll(record, entry);
        if record.tick == NO_TICK || tls_state != TlsState::WorkerPoll {
            self.tickless.see(sample, same_stack, long);
            return;
        }
        // A core's tick is 32 bits wide and counts up, around its end too.
        let tick = record.tick as u32;
        let core = (record.header.tgid, record.core);
        let before = self.ticks.insert(core, tick).unwrap_or(tick);
        if tick.wrapping_sub(before) > u32::MAX / 2 {
            self.doubted.insert(record.header.tgid);
        }
        let mut hasher = DefaultHasher::new();
        (record.core, tick, record.task_id).hash(&mut hasher);
        self.ticked.see(sample, Some(hasher.finish()), long);
        self.untrusted.see(sample, same_stack, long);
    }

    /// Samples and polls that were not kept.
    pub(super) fn lost(&self) -> u64 {
        let tracked = if self.doubted.is_empty() {
            &self.ticked
        } else {
            &self.untrusted
        };
        self.lost + tracked.lost + self.tickless.lost
    }

    /// What has become of them.
    pub(super) fn finish(self, long_poll: Nanos) -> (Vec<SampleTotal>, Vec<LongPoll>) {
        let mut totals: Vec<SampleTotal> = self
            .totals
            .into_iter()
            .map(|((tid, stack), samples)| SampleTotal {
                tid,
                stack,
                samples,
            })
            .collect();
        totals.sort_unstable_by_key(|total| (total.tid, total.stack));
        let doubted = self.doubted;
        for pid in &doubted {
            tracing::warn!(
                "process {pid}: the worker's tick is not where its tokio should have it"
            );
        }
        let (tick, stack) = (PollEvidence::Tick, PollEvidence::Stack);
        let mut polls = self
            .ticked
            .finish(tick, long_poll, |pid| !doubted.contains(&pid));
        polls.extend(
            self.untrusted
                .finish(stack, long_poll, |pid| doubted.contains(&pid)),
        );
        polls.extend(self.tickless.finish(stack, long_poll, |_| true));
        polls.sort_unstable_by_key(|poll| (poll.first, poll.tid));
        (totals, polls)
    }
}

/// What the samples of one poll have in common, as far as their stacks tell; none outside a poll.
fn same_poll(record: &SampleRecord, entry: &StackEntry) -> Option<u64> {
    if entry.verdict.state != State::Blocked || !matches!(entry.verdict.role, Role::Worker(_)) {
        return None;
    }
    let task = usize::try_from(entry.verdict.task_frame?).ok()?;
    let mut hasher = DefaultHasher::new();
    (record.waits, record.task_id).hash(&mut hasher);
    for frame in entry.frames.iter().skip(task) {
        frame.function.hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Samples in a row of the same poll, by thread.
#[derive(Debug, Default)]
struct Polls {
    open: HashMap<Tid, Open>,
    done: Vec<Open>,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    key: u64,
    first: Sample,
    last: Sample,
    samples: u64,
}

impl Open {
    fn on_cpu(&self) -> Nanos {
        Nanos(
            self.last
                .record
                .on_cpu
                .saturating_sub(self.first.record.on_cpu),
        )
    }
}

impl Polls {
    /// Takes a sample in; without a key the thread is in no poll.
    fn see(&mut self, sample: Sample, key: Option<u64>, long: Nanos) {
        let open = self.open.get_mut(&sample.tid);
        if let Some(open) = open
            && key == Some(open.key)
        {
            open.last = sample;
            open.samples += 1;
            return;
        }
        let ended = match key {
            None => self.open.remove(&sample.tid),
            Some(key) => self.open.insert(
                sample.tid,
                Open {
                    key,
                    first: sample,
                    last: sample,
                    samples: 1,
                },
            ),
        };
        if let Some(ended) = ended {
            self.keep(ended, long);
        }
    }

    fn keep(&mut self, ended: Open, long: Nanos) {
        if ended.samples < 2 || ended.on_cpu() < long {
            return;
        }
        if self.done.len() >= MAX_POLLS {
            self.lost += 1;
            return;
        }
        self.done.push(ended);
    }

    /// Those of the processes that count.
    fn finish(
        mut self,
        evidence: PollEvidence,
        long: Nanos,
        counts: impl Fn(u32) -> bool,
    ) -> Vec<LongPoll> {
        for (_, open) in std::mem::take(&mut self.open) {
            self.keep(open, long);
        }
        self.done
            .iter()
            .filter(|poll| counts(poll.first.record.header.tgid))
            .map(|poll| LongPoll {
                tid: poll.first.tid,
                stack: poll.first.stack,
                task_id: (poll.first.record.task_id != 0).then_some(poll.first.record.task_id),
                first: poll.first.time,
                last: poll.last.time,
                on_cpu: poll.on_cpu(),
                samples: poll.samples,
                evidence,
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
