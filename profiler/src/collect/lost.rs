//! What a recording has lost so far, from everybody who counts some; and what of it is new in an
//! interval.

use super::interval_buffer::LeftOut;
use super::targets::TargetsLeftOut;
use crate::bpf::{Counter, Counters};
use crate::recording::{LossCauses, Losses, ShadowCheck};
use crate::unwind::Truncation;

/// Losses that are counted here, and what was reported of all of them.
#[derive(Debug, Default)]
pub(super) struct LossCounters {
    /// Records that could not be decoded.
    undecodable: u64,
    /// Stacks that were cut off here, not in the kernel.
    truncated: u64,
    /// How the walks of threads ended that waited when the recording began.
    at_start: Vec<Option<Truncation>>,
    /// Finished waits of threads, by the kernel side's own count.
    waits: u64,
    /// Those of them that are in sums.
    summed: u64,
    reported: Losses,
}

/// What others have counted, from the beginning of the recording on.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    /// The kernel side's counters.
    pub(super) counters: &'a Counters,
    /// What found no room in the collectors.
    pub(super) left_out: LeftOut,
    /// What of the targets could not be recorded.
    pub(super) targets: TargetsLeftOut,
    /// Stacks beyond those that are kept.
    pub(super) stacks_left_out: u64,
    /// See [`StackTable::shortened`](super::stack_table::StackTable::shortened).
    pub(super) stacks_shortened: u64,
    /// Samples with such stacks.
    pub(super) samples_left_out: u64,
    /// Distinct frames without a symbol.
    pub(super) unresolved: u64,
    /// Functions that are unwound by what their code does.
    pub(super) functions_by_code: u64,
    pub(super) stacks_by_frame_pointers: u64,
    /// Modules whose rows found no room.
    pub(super) rows_full: u64,
    /// Modules beyond those that are read.
    pub(super) modules_left_out: u64,
    /// Modules whose source lines would cost too much.
    pub(super) lines_left_out: u64,
    /// Modules whose names would cost too much.
    pub(super) names_left_out: u64,
    /// Reads that nobody answered.
    pub(super) reads_given_up: u64,
    /// Cuts that did not wait for a kernel program any longer.
    pub(super) unfinished_cuts: u64,
    /// The shadow check, where there is one.
    pub(super) shadow: Option<ShadowCheck>,
    /// Whether the recording is over: pieces of stacks that have not come by then are lost.
    pub(super) ended: bool,
}

impl LossCounters {
    /// So many records could not be decoded.
    pub(super) fn undecodable(&mut self, records: u64) {
        self.undecodable += records;
    }

    /// How the walks of threads ended that waited when the recording began.
    pub(super) fn walked_at_start(&mut self, outcomes: &[Option<Truncation>]) {
        self.at_start.extend(outcomes);
    }

    /// So many stacks are cut off here, and not in the kernel.
    pub(super) fn truncated(&mut self, stacks: u64) {
        self.truncated += stacks;
    }

    /// Threads have finished this many waits.
    pub(super) fn finished(&mut self, waits: u64) {
        self.waits = self.waits.saturating_add(waits);
    }

    /// Of finished waits so many are in a sum.
    pub(super) fn summed(&mut self, waits: u64) {
        self.summed = self.summed.saturating_add(waits);
    }

    /// What was lost since this was asked before.
    pub(super) fn take(&mut self, counted: &Counted<'_>) -> Losses {
        let now = self.total(counted);
        let new = now.since(&self.reported);
        self.reported = now;
        new
    }

    fn total(&self, counted: &Counted<'_>) -> Losses {
        let of = |counter: Counter| counted.counters.get(counter);
        let left_out = &counted.left_out;
        let cut_off = |why| self.at_start.iter().filter(|at| **at == Some(why)).count() as u64;
        let by_cause = LossCauses {
            missed_switch_ins: of(Counter::MissedSwitchIn),
            missed_switch_outs: of(Counter::MissedSwitchOut),
            thread_table_full: of(Counter::ThreadTableFull),
            waits_of_no_thread: of(Counter::WaitOfNoThread),
            stack_table_full: of(Counter::StackTableFull),
            waker_stack_table_full: of(Counter::WakerStackTableFull),
            aggregate_full: of(Counter::AggregateFull),
            ring_full_stacks: of(Counter::RingFullStack),
            ring_full_waits: of(Counter::RingFullWait),
            ring_full_other: of(Counter::RingFullOther),
            ring_full_copies: of(Counter::RingFullRaw),
            ring_full_samples: of(Counter::RingFullSample),
            samples_left_out: left_out.samples + counted.samples_left_out,
            samples_truncated: of(Counter::SamplesTruncated),
            ring_full_calls: of(Counter::RingFullCall),
            calls_left_out: left_out.calls,
            calls_truncated: of(Counter::LongCallsTruncated),
            ring_full_panics: of(Counter::RingFullPanic),
            panics_left_out: left_out.panics,
            call_stack_table_full: of(Counter::CallStackTableFull),
            undecodable: self.undecodable,
            too_deep: of(Counter::TooDeep) + cut_off(Truncation::TooDeep),
            unmapped: of(Counter::Unmapped) + self.truncated + cut_off(Truncation::Unmapped),
            no_row: of(Counter::NoRow) + cut_off(Truncation::NoRow),
            unsupported: of(Counter::Unsupported) + cut_off(Truncation::Unsupported),
            unreadable: of(Counter::Unreadable) + cut_off(Truncation::Unreadable),
            no_progress: of(Counter::NoProgress) + cut_off(Truncation::NoProgress),
            no_stack: of(Counter::NoStack) + cut_off(Truncation::NoStack),
            too_costly: of(Counter::TooCostly) + cut_off(Truncation::TooCostly),
            mappings_left_out: counted.targets.mappings,
            rows_full: counted.rows_full,
            modules_left_out: counted.modules_left_out,
            lines_left_out: counted.lines_left_out,
            names_left_out: counted.names_left_out,
            reads_given_up: counted.reads_given_up,
            unfinished_cuts: counted.unfinished_cuts,
            stacks_left_out: counted.stacks_left_out,
            stacks_shortened: counted.stacks_shortened,
            threads_left_out: left_out.threads,
            sums_left_out: left_out.sums,
            processes_left_out: of(Counter::ProcessTableFull)
                + of(Counter::RingFullFork)
                + counted.targets.processes,
            wakers_left_out: left_out.wakers,
            driver_gaps_left_out: left_out.driver_gaps,
            timeline_full: left_out.waits,
        };
        Losses {
            events: by_cause.ring_full_waits
                + by_cause.ring_full_stacks
                + by_cause.ring_full_other
                + by_cause.missed_switch_ins
                + by_cause.missed_switch_outs
                + by_cause.processes_left_out
                + by_cause.undecodable,
            stacks: by_cause.stack_table_full
                + by_cause.aggregate_full
                + by_cause.waits_of_no_thread
                + by_cause.sums_left_out,
            truncated: counted.counters.truncated()
                + self.truncated
                + self.at_start.iter().flatten().count() as u64,
            unresolved: counted.unresolved,
            unknown_waits: 0,
            timeline: left_out.waits,
            objects: of(Counter::RingFullObject) + of(Counter::ObjectUnsummed),
            walked: of(Counter::Walks) + self.at_start.len() as u64,
            functions_by_code: counted.functions_by_code,
            stacks_by_frame_pointers: counted.stacks_by_frame_pointers,
            samples: by_cause.ring_full_samples + by_cause.samples_left_out,
            calls: by_cause.ring_full_calls
                + by_cause.calls_left_out
                + by_cause.ring_full_panics
                + by_cause.panics_left_out,
            mistaken_parks: of(Counter::ParksMistaken),
            waits: self.waits,
            summed: self.summed,
            by_cause,
            shadow: counted.shadow.map(|shadow| ShadowCheck {
                copied: of(Counter::RawCopies),
                lost: if counted.ended { shadow.lost } else { 0 },
                ..shadow
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_reported_once() {
        let counters = Counters::default();
        let counted = |waits: u64, ended: bool, lost: u64| Counted {
            counters: &counters,
            left_out: LeftOut {
                waits,
                ..LeftOut::default()
            },
            targets: TargetsLeftOut {
                processes: 2,
                mappings: 5,
            },
            stacks_left_out: 0,
            stacks_shortened: 0,
            samples_left_out: 0,
            unresolved: 0,
            functions_by_code: 0,
            stacks_by_frame_pointers: 0,
            rows_full: 0,
            modules_left_out: 0,
            lines_left_out: 2,
            names_left_out: 1,
            reads_given_up: waits,
            unfinished_cuts: 0,
            shadow: Some(ShadowCheck {
                lost,
                ..ShadowCheck::default()
            }),
            ended,
        };
        let mut losses = LossCounters::default();
        losses.finished(10);
        losses.summed(6);
        losses.summed(2);
        losses.walked_at_start(&[None, Some(Truncation::TooDeep), None]);
        let first = losses.take(&counted(3, false, 9));
        assert_eq!(
            (first.walked, first.truncated),
            (3, 1),
            "those from before count"
        );
        assert_eq!((first.by_cause.too_deep, first.by_cause.no_row), (1, 0));
        assert_eq!((first.waits, first.summed), (10, 8));
        assert_eq!((first.timeline, first.by_cause.timeline_full), (3, 3));
        let of_targets = |losses: &Losses| {
            let causes = losses.by_cause;
            (causes.processes_left_out, causes.mappings_left_out)
        };
        assert_eq!(of_targets(&first), (2, 5));
        let unread = |losses: &Losses| {
            let causes = losses.by_cause;
            (
                causes.lines_left_out,
                causes.names_left_out,
                causes.reads_given_up,
            )
        };
        assert_eq!(unread(&first), (2, 1, 3));
        assert_eq!(
            first.shadow.map(|shadow| shadow.lost),
            Some(0),
            "they may come"
        );
        losses.finished(1);
        losses.undecodable(2);
        let second = losses.take(&counted(3, true, 4));
        assert_eq!((second.waits, second.timeline), (1, 0));
        assert_eq!((second.events, second.by_cause.undecodable), (2, 2));
        assert_eq!(of_targets(&second), (0, 0));
        assert_eq!(unread(&second), (0, 0, 0));
        assert_eq!(second.shadow.map(|shadow| shadow.lost), Some(4));
    }
}
