//! The end of an interval: from what has come in of it to an [`Interval`].

use super::Collector;
use super::looked::Looked;
use crate::bpf::{Counter, Counters, Cut};
use crate::collect::ledger::Stretch;
use crate::collect::lost::Counted;
use crate::collect::stacks::Naming;
use crate::decode::{Phase, ThreadState};
use crate::process::deadline;
use crate::recording::{Interval, Losses, OpenWait, ThreadId, WaitSum};
use crate::units::Timestamp;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How often the ring buffer is looked into once more for threads and processes that have just ended.
pub(super) const ENDING_TRIES: u32 = 5;
pub(super) const ENDING_GAP: Duration = Duration::from_micros(100);

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
        if after == After::Ends {
            self.interval.sums.give_up_waiting();
        }
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
        self.counters = counters;
        self.clock.begin_interval();
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
            if let Some(thread) = self.targets.thread(thread) {
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
                if let Some(thread) = self.targets.thread(*thread) {
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
        let before = self.counters.get(Counter::ThreadTableFull);
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
        let moved = self.snapshots.iter().filter(|s| self.stacks.has_moved(s));
        moved
            .filter_map(|snapshot| self.targets.thread(snapshot.thread))
            .collect()
    }

    /// Gives a name to every stack that the interval may have.
    fn settle(&mut self, cut: &Cut) -> Result<()> {
        let waited_for = self.stacks.waits_for();
        for process in self.targets.processes_mut().living_mut() {
            process.exec |= waited_for.contains(&process.pid);
        }
        self.targets.follow_mappings(&mut self.kernel)?;
        self.name_new(Naming::All)?;
        self.stacks
            .give_up_waiting(cut.time, &self.kernel, self.targets.processes());
        self.name_new(Naming::All)
    }

    /// Takes the sums of all waits that ended before the cut out of the kernel's tables.
    pub(super) fn take_sums(&mut self, cut: &Cut) -> Result<()> {
        let Collector {
            kernel,
            targets,
            interval,
            ..
        } = self;
        let thread_of = |key| targets.thread(key);
        interval.sums.place_waiting(thread_of);
        kernel.take_sums(cut, |key, sum| interval.sums.take_in(key, sum, thread_of))?;
        self.clock.took_sums();
        self.targets.processes_mut().took_sums();
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
        let min_block = self.options.min_block;
        let all = self.waits(stretch, no_waits);
        let (short_waits, waits) = all.into_iter().partition(|wait| wait.is_short(min_block));
        let open_waits = self.open_waits(stretch, looked);
        let calls = self.call_sums(stretch);
        let panics = self.panic_sums(stretch);
        let samples = self.samples(stretch);
        self.name_threads(stretch, after);
        self.publish_processes();
        let processes = self.targets.processes_mut().iter_mut();
        let throttling = processes
            .filter_map(|process| Some((process.id, process.take_throttling()?)))
            .collect();
        let parks_known = |counters: &Counters| counters.get(Counter::ParksKnown);
        let parks_known = parks_known(counters).saturating_sub(parks_known(&self.counters));
        let classified = self.classified(&sums, parks_known);
        let losses = self.losses(counters, stretch, &sums, after);
        let (start, end) = (self.clock.last_cut(), self.end_of(cut, after));
        self.clock.cut(end);
        let polls = self.polls(stretch, looked, end, after);
        for gap in self.kernel.unattended_drivers(end) {
            self.driver_gap(&gap, Some(end));
        }
        let driver_gaps = std::mem::take(&mut self.interval.driver_gaps);
        let carried = self.interval.carry(without_holders(&open_waits));
        Ok(Interval {
            start,
            end,
            threads: stretch.threads.clone(),
            sums,
            waits,
            short_waits,
            carried,
            open_waits,
            samples,
            polls,
            driver_gaps,
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
        let last = last.filter(|_| after == After::Ends && self.targets.all_ended());
        last.map_or(cut.time, |last| last.min(cut.time))
            .max(self.clock.last_cut())
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
        self.losses.truncated(self.stacks.take_truncated());
        let (stacks, frames) = (self.stacks.table(), self.stacks.frames());
        let modules = self.targets.modules();
        self.losses.take(&Counted {
            counters,
            left_out: self.interval.left_out(),
            targets: self.targets.left_out(),
            stacks_left_out: stacks.left_out(),
            stacks_shortened: stacks.shortened(),
            samples_left_out: stacks.samples_left_out(),
            unresolved: frames.unresolved(),
            functions_by_code: modules.functions_by_code(),
            stacks_by_frame_pointers: stacks.by_pointers(),
            rows_full: modules.rows_full(),
            modules_left_out: modules.left_out(),
            lines_left_out: modules.lines_left_out() + frames.left_out().lines,
            names_left_out: frames.left_out().names,
            reads_given_up: deadline::given_up(),
            unfinished_cuts: self.kernel.unfinished_cuts(),
            shadow: self.stacks.shadow_outcome(),
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
