//! The losses of a recording, from everybody who counts some.

use super::gather::Gathered;
use super::modules::Modules;
use crate::bpf::Programs;
use crate::counted::counted;
use crate::recording::{LossCauses, Losses, ShadowCheck, WaitTotal};
use crate::runtime::State;
use anyhow::Result;
use profiler_common::counter::Counter;

/// Where losses were counted.
pub(super) struct Lost<'a> {
    pub(super) kernel: &'a Programs,
    pub(super) modules: &'a Modules,
    pub(super) gathered: &'a Gathered,
    pub(super) totals: &'a [WaitTotal],
    /// By the books of all threads.
    pub(super) waits: u64,
    pub(super) sums_left_out: u64,
    pub(super) mappings_left_out: u64,
    pub(super) samples_left_out: u64,
    pub(super) shadow: Option<ShadowCheck>,
    /// Forked processes of which nothing was recorded.
    pub(super) not_followed: u64,
}

impl Lost<'_> {
    /// All of them.
    ///
    /// # Errors
    /// Where the kernel refuses to tell its counters.
    pub(super) fn losses(&self) -> Result<Losses> {
        let counters = self.kernel.counters()?;
        for counter in Counter::ALL {
            tracing::debug!("{}: {}", counter.name(), counters.get(*counter));
        }
        let by_code = self.modules.functions_by_code();
        if by_code > 0 {
            let functions = counted(by_code, "function", "functions");
            tracing::info!("{functions} without unwinding information, unwound by their code");
        }
        let gathered = self.gathered;
        let of = |counter: Counter| counters.get(counter);
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
            samples_left_out: self.samples_left_out,
            samples_truncated: of(Counter::SamplesTruncated),
            ring_full_calls: of(Counter::RingFullCall),
            calls_left_out: gathered.calls.left_out,
            calls_truncated: of(Counter::LongCallsTruncated),
            ring_full_panics: of(Counter::RingFullPanic),
            panics_left_out: gathered.panics.left_out,
            call_stack_table_full: of(Counter::CallStackTableFull),
            undecodable: gathered.undecodable,
            too_deep: of(Counter::TooDeep),
            unmapped: of(Counter::Unmapped) + gathered.truncated,
            no_row: of(Counter::NoRow),
            unsupported: of(Counter::Unsupported),
            unreadable: of(Counter::Unreadable),
            no_progress: of(Counter::NoProgress),
            no_stack: of(Counter::NoStack),
            mappings_left_out: self.mappings_left_out,
            rows_full: self.modules.rows_full(),
            modules_left_out: self.modules.left_out(),
            stacks_left_out: gathered.stacks_left_out,
            threads_left_out: gathered.ended.left_out(),
            sums_left_out: self.sums_left_out,
            processes_left_out: of(Counter::ProcessTableFull) + self.not_followed,
            wakers_left_out: gathered.wakers_left_out,
            timeline_full: gathered.timeline.lost(),
        };
        let unknown = |total: &&WaitTotal| {
            gathered
                .stacks
                .get(total.stack)
                .is_none_or(|stack| stack.verdict.state == State::Unknown)
        };
        Ok(Losses {
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
            truncated: counters.truncated() + gathered.truncated,
            unresolved: gathered.symbolizer.unresolved(),
            unknown_waits: self
                .totals
                .iter()
                .filter(unknown)
                .map(|total| total.waits)
                .sum(),
            timeline: gathered.timeline.lost(),
            objects: of(Counter::RingFullObject)
                + of(Counter::ObjectUnsummed)
                + gathered.objects.lost,
            walked: of(Counter::Walks),
            functions_by_code: self.modules.functions_by_code(),
            samples: by_cause.ring_full_samples + by_cause.samples_left_out,
            calls: by_cause.ring_full_calls
                + by_cause.calls_left_out
                + by_cause.ring_full_panics
                + by_cause.panics_left_out,
            mistaken_parks: of(Counter::ParksMistaken),
            waits: self.waits,
            summed: self.totals.iter().map(|total| total.waits).sum(),
            by_cause,
            shadow: self.shadow.map(|shadow| ShadowCheck {
                copied: of(Counter::RawCopies),
                ..shadow
            }),
        })
    }
}
