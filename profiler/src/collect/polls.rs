//! Polls: waits and samples put together to the calls of a task's `poll` that they were in.
//!
//! One turn of a worker's loop is known by the core's tick and the task's id. Where there is no
//! tick, only samples with no wait between them are put together, if they are in the same task
//! function: a task that yields looks the same from one poll to the next. Python's lock is the exception:
//! who waits for it wakes up every five milliseconds, and waits on.

use super::python_lock;
use crate::decode::PollClock;
use crate::recording::{Poll, PollEvidence, ProcessId, Stack, StackId, ThreadId};
use crate::runtime::tokio::is_in_callback;
use crate::runtime::{Queued, Role, State};
use crate::units::{Addr, Nanos, Timestamp};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Polls of an interval that are kept; what goes beyond them is counted as lost. At 10 ms each,
/// twenty minutes of one CPU.
const MAX_POLLS: usize = 1 << 17;

/// Samples of an interval that are kept to be put together; what goes beyond them is counted as lost.
const MAX_SAMPLES: usize = 1 << 17;

/// Cores of workers whose ticks are kept at once.
const MAX_CORES: usize = 1 << 12;

/// How often a process's tick may stay the same over a park before it is taken for something else.
/// A wait whose record was lost looks the same.
const STUCK: u32 = 16;

/// Who waits for Python's lock runs for no longer between two looks at it.
const GIL_LOOK: Nanos = Nanos(1_000_000);

/// What a thread did when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waited, and has come to run again.
    Waited {
        /// Up to the wakeup.
        blocked: Nanos,
        /// From there on.
        runqueue: Nanos,
    },
    /// It ran.
    Ran,
}

/// A thread as a wait or a sample shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) thread: ThreadId,
    pub(super) stack: StackId,
    /// The switch-out, or the sample.
    pub(super) start: Timestamp,
    /// The switch-in, or the sample.
    pub(super) end: Timestamp,
    /// Where it was in its polls, at the end.
    pub(super) clock: PollClock,
    /// The task that it polled, where that is known.
    pub(super) task_id: Option<u64>,
    pub(super) doing: Doing,
}

impl Observation {
    /// The same; where tokio's thread-local state is not trusted, without what that says.
    fn trusting(self, trusts_tls: bool) -> Observation {
        Observation {
            clock: PollClock {
                tick: self.clock.tick.filter(|_| trusts_tls),
                queued: self.clock.queued.filter(|_| trusts_tls),
                ..self.clock
            },
            task_id: self.task_id.filter(|_| trusts_tls),
            ..self
        }
    }
}

/// What was observed, and which poll it is of; none outside any.
#[derive(Clone, Copy, Debug)]
struct Placed {
    observed: Observation,
    poll: Option<PollKeys>,
    /// Whether it waited for Python's lock.
    takes_gil: bool,
}

/// The core's tick, and the task.
type TickKey = (u32, Option<u64>);

/// Waits of the thread before it, the task, and a hash of the task's functions.
type StackKey = (u32, Option<u64>, Option<u64>);

/// The one of [`PollKeys`] that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Tick(TickKey),
    Stack(StackKey),
}

/// What identifies a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PollKeys {
    /// By the tick; none where there is none.
    tick: Option<TickKey>,
    /// By the stack; none where it does not say.
    stack: Option<StackKey>,
}

impl PollKeys {
    /// As [`PollCollector::keys`].
    #[cfg(test)]
    fn of(
        stack: &Stack,
        doing: Doing,
        clock: &PollClock,
        task_id: Option<u64>,
    ) -> Option<PollKeys> {
        let functions = || stack.class.task_frame.map(|task| functions(stack, task));
        PollKeys::with(stack, doing, clock, task_id, functions)
    }

    /// `functions` gives a hash of the task's functions on the stack.
    fn with(
        stack: &Stack,
        doing: Doing,
        clock: &PollClock,
        task_id: Option<u64>,
        functions: impl FnOnce() -> Option<u64>,
    ) -> Option<PollKeys> {
        let class = &stack.class;
        if class.state != State::Blocked || !matches!(class.role, Role::Worker(_)) {
            return None;
        }
        if is_in_callback(class) {
            // Each is a stall of its own: the worker may park between two of them without a tick.
            let waited = doing != Doing::Ran;
            let stack = waited.then_some((clock.waits, None, None));
            return Some(PollKeys { tick: None, stack });
        }
        let tick = clock.tick.map(|tick| (tick, task_id));
        let functions = functions();
        // A wait is in some poll, whichever.
        let tells = functions.is_some() || task_id.is_some() || doing != Doing::Ran;
        let stack = tells.then_some((clock.waits, task_id, functions));
        Some(PollKeys { tick, stack })
    }
}

/// A hash of the functions from the frame `task` on.
fn functions(stack: &Stack, task: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    let frames = stack.frames.iter();
    for frame in frames.skip(usize::try_from(task).unwrap_or(usize::MAX)) {
        frame.function.hash(&mut hasher);
    }
    hasher.finish()
}

/// The polls that go on, and what was seen since they were last looked at.
#[derive(Debug)]
pub(super) struct PollCollector {
    long: Nanos,
    /// A shorter wait is not seen by itself.
    min_block: Nanos,
    seen: Vec<Placed>,
    /// Samples among them.
    samples: usize,
    /// Threads that have ended, or are parked: their polls are over.
    out_of_polls: Vec<ThreadId>,
    open: HashMap<ThreadId, Open>,
    ticks: Ticks,
    /// By stack: its task's frame, and a hash of the functions from there on. The names of some forty
    /// frames are not to be read again for each wait.
    functions: HashMap<StackId, (u32, u64)>,
    /// By stack, whether Python's lock is being taken on it: looked at where there is no tick.
    takes_gil: HashMap<StackId, bool>,
    lost: u64,
}

/// A poll that goes on.
#[derive(Clone, Copy, Debug)]
struct Open {
    key: Key,
    start: Instant,
    /// The last that was seen of it.
    end: Instant,
    task_id: Option<u64>,
    /// What waited for the worker at its first wait.
    queued: Option<Queued>,
    waits: u64,
    samples: u64,
    /// The longest wait.
    longest: Option<(Nanos, StackId)>,
    first_sample: Option<StackId>,
    /// Where it waited for Python's lock, if that is the last that was seen of it.
    takes_gil: Option<StackId>,
    /// Whether a sample is the first that was seen of it…
    starts_in_sample: bool,
    /// …and whether one is the last.
    ends_in_sample: bool,
}

/// Where the time of a thread had gone at an instant.
#[derive(Clone, Copy, Debug)]
struct Instant {
    time: Timestamp,
    running: Nanos,
    runnable: Nanos,
    blocked: Nanos,
    waits: u32,
}

impl Observation {
    fn starts(&self) -> Instant {
        let (blocked, runqueue) = match self.doing {
            Doing::Waited { blocked, runqueue } => (blocked, runqueue),
            Doing::Ran => (Nanos::ZERO, Nanos::ZERO),
        };
        Instant {
            time: self.start,
            running: self.clock.running,
            runnable: self.clock.runnable.saturating_sub(runqueue),
            blocked: self.clock.blocked.saturating_sub(blocked),
            waits: self.clock.waits,
        }
    }

    fn ends(&self) -> Instant {
        let waited = matches!(self.doing, Doing::Waited { .. });
        Instant {
            time: self.end,
            running: self.clock.running,
            runnable: self.clock.runnable,
            blocked: self.clock.blocked,
            waits: self.clock.waits.wrapping_add(waited.into()),
        }
    }
}

impl PollCollector {
    /// Polls of at least `long` are kept; waits shorter than `min_block` are not seen one by one.
    pub(super) fn new(long: Nanos, min_block: Nanos) -> PollCollector {
        PollCollector {
            long,
            min_block,
            seen: Vec::new(),
            samples: 0,
            out_of_polls: Vec::new(),
            open: HashMap::new(),
            ticks: Ticks::default(),
            functions: HashMap::new(),
            takes_gil: HashMap::new(),
            lost: 0,
        }
    }

    /// Which poll a thread with `stack` was in.
    fn keys(&mut self, observed: &Observation, stack: &Stack) -> Option<PollKeys> {
        let known = &mut self.functions;
        let Observation {
            doing,
            clock,
            task_id,
            ..
        } = observed;
        PollKeys::with(stack, *doing, clock, *task_id, || {
            let task = stack.class.task_frame?;
            match known.get(&observed.stack) {
                // The stack may have been classified anew.
                Some((of, hash)) if *of == task => Some(*hash),
                _ => {
                    let hash = functions(stack, task);
                    known.insert(observed.stack, (task, hash));
                    Some(hash)
                }
            }
        })
    }

    /// Notes a thread that was seen with `stack`, in any order within an interval. `trusts_tls` says
    /// whether tokio's thread-local state counts for it.
    pub(super) fn see(&mut self, observed: Observation, stack: &Stack, trusts_tls: bool) {
        if observed.doing == Doing::Ran {
            if self.samples >= MAX_SAMPLES {
                self.lost += 1;
                return;
            }
            self.samples += 1;
        }
        let observed = observed.trusting(trusts_tls);
        let poll = self.keys(&observed, stack);
        let by_stack = poll.is_some_and(|keys| keys.tick.is_none());
        let takes_gil = by_stack && observed.doing != Doing::Ran && {
            let known = self.takes_gil.entry(observed.stack);
            *known.or_insert_with(|| python_lock::is_taken_in(&stack.frames))
        };
        self.seen.push(Placed {
            observed,
            poll,
            takes_gil,
        });
    }

    /// A thread has ended, or is parked when the interval ends: its poll is over. Parks are not seen one by
    /// one, so that a thread's last poll would go on until it is seen in another one.
    pub(super) fn leaves(&mut self, thread: ThreadId) {
        self.out_of_polls.push(thread);
    }

    /// Samples and polls that were not kept, of the recording so far.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes out the polls that are over: an interval ends. When the recording does, all are.
    pub(super) fn take(&mut self, recording_ends: bool) -> Vec<Poll> {
        let mut seen = std::mem::take(&mut self.seen);
        self.samples = 0;
        // They are large: only their keys are moved about.
        seen.sort_by_cached_key(|Placed { observed, .. }| (observed.start, observed.end));
        for placed in &seen {
            self.ticks.check(placed);
        }
        let mut polls = Vec::new();
        for placed in &seen {
            self.advance(placed, &mut polls);
        }
        let mut over = std::mem::take(&mut self.out_of_polls);
        if recording_ends {
            over.extend(self.open.keys());
        }
        for thread in over {
            if let Some(open) = self.open.remove(&thread) {
                self.keep(thread, &open, &mut polls);
            }
        }
        polls.sort_unstable_by_key(|poll| (poll.start, poll.thread));
        polls
    }

    fn advance(&mut self, placed: &Placed, polls: &mut Vec<Poll>) {
        let thread = placed.observed.thread;
        // Waits are many, and their clocks are right.
        let open = match placed.observed.doing {
            Doing::Ran => self.open.get(&thread),
            Doing::Waited { .. } => None,
        };
        let brought_forward = open.and_then(|open| open.bring_forward(placed));
        let placed = brought_forward.as_ref().unwrap_or(placed);
        let observed = &placed.observed;
        let key = self.ticks.key(placed);
        if let Some(open) = self.open.get_mut(&thread)
            && (key == Some(open.key) || open.waits_on(placed, key))
        {
            if !open.has_parked_before(observed, self.min_block) {
                open.add(placed);
                return;
            }
            if matches!(open.key, Key::Tick(_)) {
                self.ticks.stuck(thread.process);
            }
        }
        let before = match key {
            Some(key) => self.open.insert(thread, Open::new(placed, key)),
            None => self.open.remove(&thread),
        };
        if let Some(before) = before {
            self.keep(thread, &before, polls);
        }
    }

    fn keep(&mut self, thread: ThreadId, open: &Open, polls: &mut Vec<Poll>) {
        let poll = open.poll(thread);
        // One sample has no length, and where it stands is chance.
        if poll.waits == 0 && poll.samples < 2 || poll.length() < self.long {
            return;
        }
        if polls.len() < MAX_POLLS {
            polls.push(poll);
        } else {
            self.lost += 1;
        }
    }
}

impl Open {
    fn new(placed: &Placed, key: Key) -> Open {
        let observed = &placed.observed;
        let mut open = Open {
            key,
            start: observed.starts(),
            end: observed.starts(),
            task_id: observed.task_id,
            queued: None,
            waits: 0,
            samples: 0,
            longest: None,
            first_sample: None,
            takes_gil: None,
            starts_in_sample: observed.doing == Doing::Ran,
            ends_in_sample: false,
        };
        open.add(placed);
        open
    }

    /// Where the kernel side missed that the thread came to run, a sample's clock stands still at the
    /// wait before it, which was told later. Gives such a sample the clock that it would have.
    fn bring_forward(&self, placed: &Placed) -> Option<Placed> {
        let mut placed = *placed;
        let (seen, end) = (&mut placed.observed, &self.end);
        // Numbers of waits may wrap around.
        let is_behind = seen.clock.waits.wrapping_sub(end.waits) > u32::MAX / 2;
        if seen.start < end.time || !is_behind {
            return None;
        }
        seen.clock = PollClock {
            waits: end.waits,
            running: end.running + (seen.start - end.time),
            runnable: end.runnable,
            blocked: end.blocked,
            ..seen.clock
        };
        if let Some(stack) = placed.poll.as_mut().and_then(|keys| keys.stack.as_mut()) {
            stack.0 = end.waits;
        }
        Some(placed)
    }

    /// Whether the thread was parked after what was seen of the poll last. Waits in between that
    /// were not seen are each shorter than `min_block`, unless one was a park.
    fn has_parked_before(&self, next: &Observation, min_block: Nanos) -> bool {
        let next = next.starts();
        let unseen = next.waits.wrapping_sub(self.end.waits);
        let blocked = next.blocked.saturating_sub(self.end.blocked);
        blocked.0 > min_block.0.saturating_mul(unseen.into())
    }

    /// Whether it goes on to wait for Python's lock, where no tick tells.
    fn waits_on(&self, next: &Placed, key: Option<Key>) -> bool {
        let is_by_stack = |key: Key| matches!(key, Key::Stack(_));
        let starts = next.observed.starts();
        is_by_stack(self.key)
            && key.is_some_and(is_by_stack)
            && next.takes_gil
            && self.takes_gil == Some(next.observed.stack)
            && self.task_id == next.observed.task_id
            && starts.running.saturating_sub(self.end.running) < GIL_LOOK
    }

    fn add(&mut self, placed: &Placed) {
        let observed = &placed.observed;
        self.takes_gil = placed.takes_gil.then_some(observed.stack);
        self.ends_in_sample = observed.doing == Doing::Ran;
        match observed.doing {
            Doing::Waited { blocked, .. } => {
                self.waits += 1;
                self.queued = self.queued.or(observed.clock.queued);
                if self.longest.is_none_or(|(longest, _)| blocked > longest) {
                    self.longest = Some((blocked, observed.stack));
                }
            }
            Doing::Ran => {
                self.samples += 1;
                self.first_sample.get_or_insert(observed.stack);
            }
        }
        self.end = observed.ends();
    }

    fn poll(&self, thread: ThreadId) -> Poll {
        let (start, end) = (&self.start, &self.end);
        let blocked = end.blocked.saturating_sub(start.blocked);
        let mut runqueue = end.runnable.saturating_sub(start.runnable);
        let mut running = end.running.saturating_sub(start.running);
        // Where the kernel side missed that the thread came to run, it makes up for that when the thread
        // leaves its CPU: the clock of a sample before that lacks the time, though it shows that the thread
        // runs.
        let (length, known) = (end.time - start.time, blocked + runqueue + running);
        if self.ends_in_sample {
            running += length.saturating_sub(known);
        }
        if self.starts_in_sample {
            let before = known.saturating_sub(length);
            let ran = before.min(running);
            running = running.saturating_sub(ran);
            runqueue = runqueue.saturating_sub(before.saturating_sub(ran));
        }
        let longest = self.longest.map(|(_, stack)| stack);
        let stack = if running > blocked {
            self.first_sample.or(longest)
        } else {
            longest.or(self.first_sample)
        };
        Poll {
            thread,
            // There is one of them: nothing is made of nothing.
            stack: stack.unwrap_or(StackId(0)),
            task_id: self.task_id,
            start: start.time,
            end: end.time,
            blocked,
            runqueue,
            running,
            waits: self.waits,
            samples: self.samples,
            queued: self.queued,
            evidence: match self.key {
                Key::Tick(_) => PollEvidence::Tick,
                Key::Stack(_) => PollEvidence::Stack,
            },
        }
    }
}

/// Whether the ticks are what they should be.
#[derive(Debug, Default)]
struct Ticks {
    /// By process and core: the last tick seen, and of which thread.
    last: HashMap<(ProcessId, Option<Addr>), (u32, ThreadId)>,
    /// How often one has stayed the same over a park.
    stuck: HashMap<ProcessId, u32>,
    /// Processes in which it is something else.
    doubted: HashSet<ProcessId>,
}

impl Ticks {
    /// Looks whether a tick goes backwards within one thread: then it is none.
    fn check(&mut self, placed: &Placed) {
        let observed = &placed.observed;
        let Some(tick) = observed
            .clock
            .tick
            .filter(|_| placed.poll.is_some_and(|keys| keys.tick.is_some()))
        else {
            return;
        };
        if self.last.len() >= MAX_CORES {
            self.last.clear();
        }
        let process = observed.thread.process;
        let now = (tick, observed.thread);
        let core = (process, observed.clock.core);
        let (before, thread) = self.last.insert(core, now).unwrap_or(now);
        // Where a runtime is dropped and made anew, another core may be at the same address.
        let same_core = thread == observed.thread;
        // It is 32 bits wide and counts up, around its end too.
        if same_core && tick.wrapping_sub(before) > u32::MAX / 2 {
            self.doubt(process);
        }
    }

    fn stuck(&mut self, process: ProcessId) {
        let stuck = self.stuck.entry(process).or_default();
        *stuck += 1;
        if *stuck >= STUCK {
            self.doubt(process);
        }
    }

    fn doubt(&mut self, process: ProcessId) {
        if self.doubted.insert(process) {
            tracing::warn!(
                "the worker's tick of process {} of the recording is not where its tokio should \
                 have it",
                process.0
            );
        }
    }

    /// Which poll a thread was in, and how that is known.
    fn key(&self, placed: &Placed) -> Option<Key> {
        let keys = placed.poll?;
        let observed = &placed.observed;
        let trusted = !self.doubted.contains(&observed.thread.process);
        let by_tick = keys.tick.filter(|_| trusted);
        by_tick.map(Key::Tick).or(keys.stack.map(Key::Stack))
    }
}

#[cfg(test)]
#[path = "polls_tests.rs"]
mod tests;
