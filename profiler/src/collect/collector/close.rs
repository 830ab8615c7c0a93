//! The end of an interval: from what has come in of it to an [`Interval`].

use super::Collector;
use super::intake::Naming;
use super::looked::Looked;
use crate::bpf::{Counter, Counters, Cut};
use crate::collect::ledger::Stretch;
use crate::collect::lost::Counted;
use crate::collect::sums::Key;
use crate::decode::{Phase, SumKey, ThreadState};
use crate::process::deadline;
use crate::recording::{Interval, Losses, OpenWait, ThreadId, WaitSum};
use crate::units::Timestamp;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How often the ring buffer is looked into once more for threads that have just ended.
const ENDING_TRIES: u32 = 5;
const ENDING_GAP: Duration = Duration::from_micros(100);

/// Whether the recording goes on after an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Goes,
    Ends,
}

impl Collector {
    /// Ends the interval under way.
    pub(super) fn close(&mut self, looked: &Looked, after: After) -> Result<Interval> {
        let cut = self.kernel.cut()?;
        self.next.begin(cut.number);
        let states = self.states_at(&cut);
        self.settle(&cut)?;
        self.take_sums(&cut)?;
        let mut moved = looked.moved.clone();
        let counters = self.kernel.counters()?;
        moved.extend(self.moved_and_lost(&counters, after)?);
        let no_waits = self.settle_first_waits();
        let stretch = self.interval.threads.cut(cut.time, states, &moved);
        let interval = self.build(&cut, &counters, &stretch, &no_waits, looked, after)?;
        if after == After::Goes {
            self.kernel.forget_ended(&cut)?;
            self.forget_numbers()?;
        }
        self.began = Instant::now();
        for event in self.next.end() {
            self.take(event);
        }
        Ok(interval)
    }

    /// What every thread was at the cut. Takes in all that arrived before it.
    fn states_at(&mut self, cut: &Cut) -> Vec<(ThreadId, ThreadState)> {
        let mut states: HashMap<ThreadId, ThreadState> = HashMap::new();
        // Another thread may have the id of one that has ended.
        let mut ended = Vec::new();
        for (thread, at_cut) in self.kernel.threads_at(cut) {
            if let Some(thread) = self.processes.thread(thread) {
                if let Phase::Ended(_) = at_cut.phase {
                    ended.push((thread, at_cut));
                } else {
                    states.insert(thread, at_cut);
                }
            }
        }
        let has_ended: HashSet<ThreadId> = ended.iter().map(|(thread, _)| *thread).collect();
        // Threads that have left the table since are in the ring buffer, unless another CPU has
        // reserved room before them and is still at work.
        for _ in 0..ENDING_TRIES {
            self.receive();
            for (thread, state) in self.next.ended_since() {
                if let Some(thread) = self.processes.thread(*thread) {
                    states.entry(thread).or_insert(*state);
                }
            }
            let mut living = self.interval.threads.living();
            if living.all(|thread| states.contains_key(&thread) || has_ended.contains(&thread)) {
                break;
            }
            std::thread::sleep(ENDING_GAP);
        }
        ended.extend(states);
        ended
    }

    /// Threads that have switched since the recording began and found no place in the kernel side's
    /// table. Nobody is asked where there can be no more of them than the last time.
    fn moved_and_lost(&mut self, counters: &Counters, after: After) -> Result<HashSet<ThreadId>> {
        let full = counters.get(Counter::ThreadTableFull);
        let before = std::mem::replace(&mut self.without_place, full);
        if full == before || after == After::Ends || !self.interval.threads.has_unmoved() {
            return Ok(HashSet::new());
        }
        self.snapshots.clear();
        self.kernel.snapshot()?;
        self.receive();
        Ok(self.moved())
    }

    /// Threads that have switched between the beginning of the recording and the last snapshot.
    pub(super) fn moved(&self) -> HashSet<ThreadId> {
        let moved = self.snapshots.iter().filter(|s| self.initial.has_moved(s));
        moved
            .filter_map(|snapshot| self.processes.thread(snapshot.thread))
            .collect()
    }

    /// Gives a name to every stack that the interval may have.
    fn settle(&mut self, cut: &Cut) -> Result<()> {
        let waited_for = self.pending.waits_for();
        for process in self.processes.living_mut() {
            process.exec |= waited_for.contains(&process.pid);
        }
        self.follow_mappings()?;
        self.name_new(Naming::All)?;
        // Nobody knows more of these by now.
        let rest = self.pending.give_up(cut.time).into_iter();
        self.unnamed.extend(rest.map(super::intake::Unnamed::Stack));
        self.name_new(Naming::All)
    }

    /// Takes the sums of all waits that ended before the cut out of the kernel's tables.
    pub(super) fn take_sums(&mut self, cut: &Cut) -> Result<()> {
        let Collector {
            kernel,
            processes,
            interval,
            ..
        } = self;
        kernel.take_sums(cut, |key: SumKey, sum| {
            if let Some(thread) = processes.thread(key.thread) {
                interval.sums.add(Key::new(thread, &key), &sum);
            }
        })?;
        self.drained = Instant::now();
        Ok(())
    }

    /// Makes both sides forget stacks and objects that were not seen for long, so that there is room
    /// for others.
    fn forget_numbers(&mut self) -> Result<()> {
        let (mut stacks, mut objects) = (HashSet::new(), HashSet::new());
        for entry in self.kernel.live_threads() {
            if let Phase::Waiting(wait) = entry.state.phase {
                stacks.extend(wait.stack.number());
            }
            stacks.extend(entry.waker_stack);
            objects.extend(entry.last_object);
        }
        let evicted = self.stacks.end_interval(&stacks);
        self.kernel.forget_stacks(&evicted.numbers)?;
        if evicted.forget_parks {
            self.kernel.forget_parks()?;
        }
        let evicted = self.objects.end_interval(&objects);
        self.kernel.forget_objects(&evicted.numbers)
    }

    fn build(
        &mut self,
        cut: &Cut,
        counters: &Counters,
        stretch: &Stretch,
        no_waits: &HashSet<ThreadId>,
        looked: &Looked,
        after: After,
    ) -> Result<Interval> {
        let sums = self.wait_sums(stretch);
        let waits = self.waits(stretch, no_waits);
        let open_waits = self.open_waits(stretch, looked);
        let calls = self.call_sums(stretch);
        let panics = self.panic_sums(stretch);
        let (samples, long_polls) = self.samples(stretch, after);
        self.name_threads(stretch, after);
        self.publish_processes();
        let processes = self.processes.iter_mut();
        let throttling = processes
            .filter_map(|process| Some((process.id, process.take_throttling()?)))
            .collect();
        let classified = self.classified(&sums, counters.get(Counter::ParksKnown));
        let losses = self.losses(counters, stretch, &sums, after);
        let start = self.last_cut;
        self.last_cut = self.end_of(cut, after);
        let carried = std::mem::replace(&mut self.open, without_holders(&open_waits));
        Ok(Interval {
            start,
            end: self.last_cut,
            threads: stretch.threads.clone(),
            sums,
            waits,
            carried,
            open_waits,
            samples,
            long_polls,
            calls,
            panics,
            throttling,
            classified,
            losses,
        })
    }

    /// When the interval ends. We learn of the end of a target a moment after it.
    fn end_of(&mut self, cut: &Cut, after: After) -> Timestamp {
        let last = self.interval.last_end();
        let last = last.filter(|_| after == After::Ends && self.all_ended());
        last.map_or(cut.time, |last| last.min(cut.time))
            .max(self.last_cut)
    }

    fn losses(
        &mut self,
        counters: &Counters,
        stretch: &Stretch,
        sums: &[WaitSum],
        after: After,
    ) -> Losses {
        for times in &stretch.threads {
            self.losses.finished(times.waits);
        }
        for sum in sums {
            self.losses.summed(sum.waits);
        }
        self.losses.truncated(self.pending.take_truncated());
        self.losses.take(&Counted {
            counters,
            left_out: self.interval.left_out(),
            stacks_left_out: self.stacks.left_out(),
            samples_left_out: self.stacks.samples_left_out(),
            unresolved: self.frames.unresolved(),
            functions_by_code: self.modules.functions_by_code(),
            stacks_by_frame_pointers: self.stacks.by_pointers(),
            rows_full: self.modules.rows_full(),
            modules_left_out: self.modules.left_out(),
            lines_left_out: self.modules.lines_left_out() + self.frames.left_out().lines,
            names_left_out: self.frames.left_out().names,
            reads_given_up: deadline::given_up(),
            unfinished_cuts: self.kernel.unfinished_cuts(),
            shadow: self.shadow.outcome(),
            ended: after == After::Ends,
        })
    }
}

/// The waits that the next interval begins with.
fn without_holders(open_waits: &[OpenWait]) -> Vec<OpenWait> {
    let bare = |open: &OpenWait| OpenWait {
        object: None,
        holder: None,
        ..open.clone()
    };
    open_waits.iter().map(bare).collect()
}
