//! The last minutes of every worker, slice by slice.
//!
//! Single waits say when a thread waited. What is in sums only (short waits, idle parks) and what a
//! thread ran is known for an interval: it is spread over what the single waits leave of it.

use super::causes::cause_of;
use super::concurrency::blocked_until;
use super::stack_facts::{WaitRole, class_of};
use crate::cause::{Cause, CauseClassifier};
use crate::recording::{Interval, OpenWait, ProcessId, StackId, Tables, ThreadId, ThreadTimes};
use crate::report::{Lane, SLICE, Slice};
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Flavor, State};
use crate::units::{Nanos, Pid, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Slices that are kept of a thread: five minutes.
const KEPT: usize = 1_200;
/// Threads that are kept at once.
const MOST_THREADS: usize = 1_024;
/// A thread that was not seen for so many slices has no lane any more: ten seconds.
const GONE: u64 = 40;

/// What is kept of one thread.
#[derive(Clone, Debug)]
struct Track {
    /// The number of the first slice.
    first: u64,
    slices: VecDeque<Slice>,
    /// As what it worked when it waited last; none where it was no worker.
    works: Option<Flavor>,
    /// The runtime that it had entered then, where that is known.
    runtime: Option<(ProcessId, RuntimeHandle)>,
    /// Its times in the last interval.
    last: Slice,
}

/// The last minutes of the workers.
#[derive(Clone, Debug, Default)]
pub struct History {
    tracks: BTreeMap<ThreadId, Track>,
    causes: HashMap<StackId, Cause>,
    /// The last interval.
    last: (Timestamp, Timestamp),
    /// From when to when workers were blocked in it.
    blocked: Vec<(ThreadId, Timestamp, Timestamp)>,
}

/// A stretch of one thread in one state.
#[derive(Clone, Copy, Debug)]
struct Piece {
    state: State,
    cause: Option<Cause>,
    from: Timestamp,
    to: Timestamp,
}

/// What one thread did in one interval.
#[derive(Default)]
struct Story {
    pieces: Vec<Piece>,
    /// Off-CPU by the sums and the open waits.
    off_cpu: BTreeMap<(State, Option<Cause>), Nanos>,
    /// As what any of its waits shows it; none where none tells.
    works: Option<Option<Flavor>>,
    /// The runtime that it had entered in such a wait.
    runtime: Option<(ProcessId, RuntimeHandle)>,
}

impl History {
    /// Adds the interval that follows.
    pub fn add(&mut self, tables: &Tables, interval: &Interval) {
        let mut stories = self.stories(tables, interval);
        self.last = (interval.start, interval.end);
        self.blocked.clear();
        for times in &interval.threads {
            let story = stories.remove(&times.thread).unwrap_or_default();
            if self.tracks.len() >= MOST_THREADS && !self.tracks.contains_key(&times.thread) {
                continue;
            }
            let number = slice_of(interval.start);
            let track = self.tracks.entry(times.thread).or_insert_with(|| Track {
                first: number,
                slices: VecDeque::new(),
                works: None,
                runtime: None,
                last: Slice::default(),
            });
            track.works = story.works.unwrap_or(track.works);
            track.runtime = story.runtime.or(track.runtime);
            if track.works.is_some() {
                let blocked = story.pieces.iter().filter(|p| p.state == State::Blocked);
                let blocked = blocked.map(|piece| (times.thread, piece.from, piece.to));
                self.blocked.extend(blocked);
            }
            track.add(interval, times, story);
        }
        let now = slice_of(interval.end);
        self.tracks
            .retain(|_, track| track.end().saturating_add(GONE) > now);
    }

    fn stories(&mut self, tables: &Tables, interval: &Interval) -> HashMap<ThreadId, Story> {
        let mut stories: HashMap<ThreadId, Story> = HashMap::new();
        for sum in &interval.sums {
            let key = self.key(tables, sum.stack);
            let story = stories.entry(sum.thread).or_default();
            story.saw(tables, sum.stack);
            *story.off_cpu.entry(key).or_default() += sum.blocked;
        }
        let still: HashSet<(ThreadId, Timestamp)> = interval
            .open_waits
            .iter()
            .map(|open| (open.thread, open.since))
            .collect();
        for wait in &interval.carried {
            // One that has not ended is in no sum.
            if still.contains(&(wait.thread, wait.since)) {
                continue;
            }
            let key = self.key(tables, wait.stack);
            let story = stories.entry(wait.thread).or_default();
            let before = blocked_until(wait, interval.start) - wait.since;
            if let Some(time) = story.off_cpu.get_mut(&key) {
                *time = time.saturating_sub(before);
            }
        }
        for wait in &interval.waits {
            let (state, cause) = self.key(tables, wait.stack);
            let story = stories.entry(wait.thread).or_default();
            story.saw(tables, wait.stack);
            let woken = wait.wakeup.min(wait.end);
            story.put(interval, (state, cause), wait.start, woken);
            story.put(interval, (State::Runnable, None), woken, wait.end);
        }
        for open in &interval.open_waits {
            let key = self.key(tables, open.stack);
            let story = stories.entry(open.thread).or_default();
            story.saw(tables, open.stack);
            story.open(interval, key, open);
        }
        stories
    }

    fn key(&mut self, tables: &Tables, id: StackId) -> (State, Option<Cause>) {
        let (state, _) = class_of(tables, id);
        if state != State::Blocked {
            return (state, None);
        }
        let judge = || {
            let stack = tables.stack(id)?;
            Some(cause_of(&mut CauseClassifier::default(), stack).cause)
        };
        let cause = self.causes.entry(id);
        let cause = cause.or_insert_with(|| judge().unwrap_or(Cause::Other));
        (state, Some(*cause))
    }

    /// The lanes of those that are workers, by process and thread. `runtime_of` tells the runtime for
    /// which a thread works.
    #[must_use]
    pub fn lanes(
        &self,
        tables: &Tables,
        runtime_of: impl Fn(ThreadId) -> Option<String>,
    ) -> Vec<Lane> {
        let workers = self
            .tracks
            .iter()
            .filter(|(_, track)| track.works.is_some());
        workers
            .map(|(&thread, track)| Lane {
                pid: pid(tables, thread),
                tid: thread.tid,
                name: tables.thread_name(thread).to_owned(),
                runtime: runtime_of(thread),
                first: track.first,
                slices: track.slices.iter().copied().collect(),
            })
            .collect()
    }

    /// The threads that work, or worked last, as `flavor` in the process with this id.
    pub(super) fn workers(&self, tables: &Tables, of: Pid, flavor: Flavor) -> BTreeSet<ThreadId> {
        let tracks = self.tracks.iter();
        tracks
            .filter(|(thread, track)| track.works == Some(flavor) && pid(tables, **thread) == of)
            .map(|(thread, _)| *thread)
            .collect()
    }

    /// The runtime that a thread had entered, where that is known.
    pub(super) fn runtime_of(&self, thread: ThreadId) -> Option<(ProcessId, RuntimeHandle)> {
        self.tracks.get(&thread)?.runtime
    }

    /// For how long in the last interval all workers of a runtime were blocked at once: of the runtime for
    /// which that was longest. Threads of which no runtime is known are taken together by process and kind.
    #[must_use]
    pub fn starved(&self) -> Nanos {
        let mut runtimes: HashMap<_, BTreeSet<ThreadId>> = HashMap::new();
        for (thread, track) in &self.tracks {
            if let Some(flavor) = track.works {
                let home = (thread.process, flavor, track.runtime);
                runtimes.entry(home).or_default().insert(*thread);
            }
        }
        let length = (self.last.1 - self.last.0).0 as f64;
        let shares = runtimes
            .values()
            .map(|workers| self.shares(workers, workers.len()).1);
        Nanos((shares.fold(0.0, f64::max) * length) as u64)
    }

    /// Of the last interval: the share of the time of `workers` workers in which any of these threads
    /// was blocked, and the share of the interval in which as many were at once.
    pub(super) fn shares(&self, threads: &BTreeSet<ThreadId>, workers: usize) -> (f64, f64) {
        let length = self.last.1 - self.last.0;
        let mut blocked = Nanos::ZERO;
        for thread in threads {
            if let Some(track) = self
                .tracks
                .get(thread)
                .filter(|track| track.works.is_some())
            {
                blocked += track.last.time(State::Blocked);
            }
        }
        let mut steps: Vec<(Timestamp, i32)> = Vec::new();
        for (thread, from, to) in &self.blocked {
            if threads.contains(thread) {
                steps.extend([(*from, 1), (*to, -1)]);
            }
        }
        // An end before a begin at the same instant: nothing lies between the two.
        steps.sort_unstable();
        let (mut at_once, mut since, mut starved) = (0_i32, Timestamp(0), Nanos::ZERO);
        let all = i32::try_from(workers.max(1)).unwrap_or(i32::MAX);
        for (at, step) in steps {
            if at_once >= all {
                starved += at - since;
            }
            at_once += step;
            since = at;
        }
        let whole = Nanos(length.0.saturating_mul(workers.max(1) as u64));
        (
            blocked.share_of(whole).min(1.0),
            starved.share_of(length).min(1.0),
        )
    }
}

/// The process id of a thread.
pub(super) fn pid(tables: &Tables, thread: ThreadId) -> Pid {
    tables
        .process(thread.process)
        .map_or(Pid(0), |process| process.pid)
}

impl Story {
    fn saw(&mut self, tables: &Tables, id: StackId) {
        let role = WaitRole::of(tables, id);
        let works = match role {
            WaitRole::MULTI_THREAD => Some(Flavor::MultiThread),
            WaitRole::CURRENT_THREAD => Some(Flavor::CurrentThread),
            // Where nothing is known, what it was before still holds.
            WaitRole::Unknown => return,
            _ => None,
        };
        self.works = Some(works.or_else(|| self.works.flatten()));
        if works.is_some()
            && let Some(stack) = tables.stack(id)
        {
            let runtime = stack.runtime.map(|handle| (stack.process, handle));
            self.runtime = runtime.or(self.runtime);
        }
    }

    fn put(
        &mut self,
        interval: &Interval,
        (state, cause): (State, Option<Cause>),
        from: Timestamp,
        to: Timestamp,
    ) {
        let (from, to) = (from.max(interval.start), to.min(interval.end));
        if from < to {
            self.pieces.push(Piece {
                state,
                cause,
                from,
                to,
            });
        }
    }

    fn open(&mut self, interval: &Interval, key: (State, Option<Cause>), open: &OpenWait) {
        let woken = blocked_until(open, interval.end);
        let from = open.since.max(interval.start);
        *self.off_cpu.entry(key).or_default() += woken - from;
        self.put(interval, key, open.since, woken);
        self.put(interval, (State::Runnable, None), woken, interval.end);
    }

    /// What the pieces do not tell of the times of the interval.
    fn rest(&self, times: &ThreadTimes) -> Vec<(State, Option<Cause>, Nanos)> {
        let told = |state: State, cause: Option<Cause>| -> Nanos {
            let own = self.pieces.iter();
            let own = own.filter(|piece| piece.state == state && piece.cause == cause);
            own.map(|piece| piece.to - piece.from).sum()
        };
        let known: Nanos = self.off_cpu.values().copied().sum();
        let mut rest = vec![
            (State::Running, None, times.running),
            (
                State::Runnable,
                None,
                times.runnable.saturating_sub(told(State::Runnable, None)),
            ),
            (State::Unknown, None, times.blocked.saturating_sub(known)),
        ];
        rest.extend(self.off_cpu.iter().map(|(&(state, cause), time)| {
            (state, cause, time.saturating_sub(told(state, cause)))
        }));
        rest.retain(|(.., time)| *time > Nanos::ZERO);
        rest
    }
}

impl Track {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.slices.len() as u64)
    }

    fn add(&mut self, interval: &Interval, times: &ThreadTimes, story: Story) {
        // A thread that began in the interval lived for its last part.
        let until = times.until.min(interval.end);
        let from = Timestamp(until.0.saturating_sub(times.lived.0)).max(interval.start);
        let rest = story.rest(times);
        let mut told: BTreeMap<u64, Nanos> = BTreeMap::new();
        self.last = Slice::default();
        for piece in &story.pieces {
            for (number, time) in parts(piece.from, piece.to) {
                self.put(number, piece.state, time, piece.cause);
                *told.entry(number).or_default() += time;
            }
        }
        let free: Vec<(u64, Nanos)> = parts(from, until)
            .map(|(number, time)| {
                let told = told.get(&number).copied().unwrap_or_default();
                (number, time.saturating_sub(told))
            })
            .collect();
        let room: Nanos = free.iter().map(|(_, time)| *time).sum();
        for (state, cause, time) in rest {
            for &(number, free) in &free {
                let part = Nanos((time.0 as f64 * free.share_of(room)) as u64);
                self.put(number, state, part, cause);
            }
        }
        while self.slices.len() > KEPT {
            self.slices.pop_front();
            self.first += 1;
        }
    }

    fn put(&mut self, number: u64, state: State, time: Nanos, cause: Option<Cause>) {
        self.last.add(state, time, cause);
        let Some(index) = number.checked_sub(self.first) else {
            return;
        };
        let Some(index) = usize::try_from(index).ok().filter(|index| {
            // Time does not jump: an interval is seconds long.
            *index < self.slices.len() + KEPT
        }) else {
            return;
        };
        while self.slices.len() <= index {
            self.slices.push_back(Slice::default());
        }
        if let Some(slice) = self.slices.get_mut(index) {
            slice.add(state, time, cause);
        }
    }
}

fn slice_of(time: Timestamp) -> u64 {
    time.0 / SLICE.0
}

/// The parts of a time by slice.
fn parts(from: Timestamp, to: Timestamp) -> impl Iterator<Item = (u64, Nanos)> {
    (slice_of(from)..=slice_of(to)).filter_map(move |number| {
        let begin = Timestamp(number.saturating_mul(SLICE.0));
        let end = Timestamp(begin.0.saturating_add(SLICE.0));
        let part = to.min(end) - from.max(begin);
        (part > Nanos::ZERO).then_some((number, part))
    })
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
