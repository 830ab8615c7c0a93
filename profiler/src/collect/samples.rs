//! Threads on a CPU: samples summed up by stack, and put together to polls.

use crate::recording::{
    LongPoll, PollEvidence, ProcessId, SampleSum, Sampling, Stack, StackId, ThreadId,
};
use crate::runtime::tokio::TlsState;
use crate::runtime::{Role, State};
use crate::units::{Addr, Nanos, Timestamp};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Long polls of an interval that are kept; what goes beyond them is counted as lost. At 10 ms each,
/// twenty minutes of one CPU.
const MAX_POLLS: usize = 1 << 17;

/// Cores of workers whose ticks are kept at once.
const MAX_CORES: usize = 1 << 12;

/// The samples of an interval, and the polls that go on.
#[derive(Debug, Default)]
pub(super) struct SampleCollector {
    sums: HashMap<(ThreadId, StackId), u64>,
    /// By process and core: the last tick seen, and of which thread.
    ticks: HashMap<(ProcessId, Option<Addr>), (u32, ThreadId)>,
    /// Processes in which a tick went backwards within one thread: it is none.
    doubted: HashSet<ProcessId>,
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
    pub(super) thread: ThreadId,
    pub(super) stack: StackId,
    pub(super) time: Timestamp,
    /// CPU time of the thread so far.
    pub(super) on_cpu: Nanos,
    /// Waits of the thread so far.
    pub(super) waits: u64,
    pub(super) task_id: Option<u64>,
    pub(super) core: Option<Addr>,
    pub(super) tick: Option<u32>,
}

impl SampleCollector {
    /// Adds a sample. `stack` is its stack, `tls_state` what tokio's thread-local state said.
    pub(super) fn add(
        &mut self,
        sample: Sample,
        stack: &Stack,
        tls_state: TlsState,
        sampling: Sampling,
    ) {
        *self.sums.entry((sample.thread, sample.stack)).or_default() += 1;
        let long = sampling.long_poll;
        let same_stack = same_poll(&sample, stack);
        let tick = sample.tick.filter(|_| tls_state == TlsState::WorkerPoll);
        let Some(tick) = tick else {
            self.tickless.see(sample, same_stack, long);
            return;
        };
        // A core's tick is 32 bits wide and counts up, around its end too.
        let process = sample.thread.process;
        if self.ticks.len() >= MAX_CORES {
            self.ticks.clear();
        }
        let core = (process, sample.core);
        let now = (tick, sample.thread);
        let (before, thread) = self.ticks.insert(core, now).unwrap_or(now);
        // Where a runtime is dropped and made anew, another core may be at the same address.
        let same_core = thread == sample.thread;
        let backwards = tick.wrapping_sub(before) > u32::MAX / 2;
        if same_core && backwards && self.doubted.insert(process) {
            tracing::warn!(
                "the worker's tick of process {} of the recording is not where its tokio should \
                 have it",
                process.0
            );
        }
        let mut hasher = DefaultHasher::new();
        (sample.core, tick, sample.task_id).hash(&mut hasher);
        self.ticked.see(sample, Some(hasher.finish()), long);
        self.untrusted.see(sample, same_stack, long);
    }

    /// A thread has ended, and its poll with it.
    pub(super) fn thread_ended(&mut self, thread: ThreadId, long_poll: Nanos) {
        for polls in [&mut self.ticked, &mut self.untrusted, &mut self.tickless] {
            polls.end(thread, long_poll);
        }
    }

    /// Polls that were not kept, of the recording so far.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Ends all polls that go on: the recording is over.
    pub(super) fn end_polls(&mut self, long_poll: Nanos) {
        for polls in [&mut self.ticked, &mut self.untrusted, &mut self.tickless] {
            polls.end_all(long_poll);
        }
    }

    /// Takes the sums out, and the polls that were found to be over: an interval ends.
    pub(super) fn take(&mut self) -> (Vec<SampleSum>, Vec<LongPoll>) {
        let sums = std::mem::take(&mut self.sums).into_iter();
        let mut sums: Vec<SampleSum> = sums
            .map(|((thread, stack), samples)| SampleSum {
                thread,
                stack,
                samples,
            })
            .collect();
        sums.sort_unstable_by_key(|sum| (sum.thread, sum.stack));
        let doubted = &self.doubted;
        let trusts = |process: ProcessId| !doubted.contains(&process);
        let (tick, stack) = (PollEvidence::Tick, PollEvidence::Stack);
        let mut polls = Vec::new();
        self.lost += self.ticked.take(tick, trusts, &mut polls);
        self.lost += self
            .untrusted
            .take(stack, |process| !trusts(process), &mut polls);
        self.lost += self.tickless.take(stack, |_| true, &mut polls);
        polls.sort_unstable_by_key(|poll| (poll.first, poll.thread));
        (sums, polls)
    }
}

/// What the samples of one poll have in common, as far as their stacks tell; none outside a poll.
fn same_poll(sample: &Sample, stack: &Stack) -> Option<u64> {
    let class = &stack.class;
    if class.state != State::Blocked || !matches!(class.role, Role::Worker(_)) {
        return None;
    }
    let task = usize::try_from(class.task_frame?).ok()?;
    let mut hasher = DefaultHasher::new();
    (sample.waits, sample.task_id).hash(&mut hasher);
    for frame in stack.frames.iter().skip(task) {
        frame.function.hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Samples in a row of the same poll, by thread.
#[derive(Debug, Default)]
struct Polls {
    open: HashMap<ThreadId, Open>,
    /// Those that are over, since an interval ended last.
    done: Vec<Open>,
    /// Those beyond them.
    lost: HashMap<ProcessId, u64>,
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
        self.last.on_cpu.saturating_sub(self.first.on_cpu)
    }
}

impl Polls {
    /// Takes a sample in; without a key the thread is in no poll.
    fn see(&mut self, sample: Sample, key: Option<u64>, long: Nanos) {
        let open = self.open.get_mut(&sample.thread);
        if let Some(open) = open
            && key == Some(open.key)
        {
            open.last = sample;
            open.samples += 1;
            return;
        }
        let ended = match key {
            None => self.open.remove(&sample.thread),
            Some(key) => self.open.insert(
                sample.thread,
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

    fn end(&mut self, thread: ThreadId, long: Nanos) {
        if let Some(ended) = self.open.remove(&thread) {
            self.keep(ended, long);
        }
    }

    fn end_all(&mut self, long: Nanos) {
        for (_, ended) in std::mem::take(&mut self.open) {
            self.keep(ended, long);
        }
    }

    fn keep(&mut self, ended: Open, long: Nanos) {
        if ended.samples < 2 || ended.on_cpu() < long {
            return;
        }
        if self.done.len() < MAX_POLLS {
            self.done.push(ended);
        } else {
            *self.lost.entry(ended.first.thread.process).or_default() += 1;
        }
    }

    /// Takes out those that are over, of the processes that count. How many of them were lost.
    fn take(
        &mut self,
        evidence: PollEvidence,
        counts: impl Fn(ProcessId) -> bool,
        into: &mut Vec<LongPoll>,
    ) -> u64 {
        let done = std::mem::take(&mut self.done).into_iter();
        into.extend(
            done.filter(|poll| counts(poll.first.thread.process))
                .map(|poll| LongPoll {
                    thread: poll.first.thread,
                    stack: poll.first.stack,
                    task_id: poll.first.task_id,
                    first: poll.first.time,
                    last: poll.last.time,
                    on_cpu: poll.on_cpu(),
                    samples: poll.samples,
                    evidence,
                }),
        );
        let lost = std::mem::take(&mut self.lost).into_iter();
        lost.filter(|(process, _)| counts(*process))
            .map(|(_, lost)| lost)
            .sum()
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
