//! What has come in of the interval under way.

use super::bounds::Bounds;
use super::calls::{CallCollector, PanicCollector};
use super::ledger::ThreadLedger;
use super::polls::PollCollector;
use super::samples::SampleCollector;
use super::sums::IntervalSums;
use super::wait_buffer::{BufferedWait, WaitBuffer};
use super::wakers::WakerTable;
use crate::decode::{self, ThreadEnd, WaitSeen};
use crate::recording::{
    DriverGap, ObjectId, OpenWait, ProcessId, SHORT_WAITS_PER_SAMPLE, ThreadId, Waker,
};
use crate::units::Timestamp;

const _: () = assert!(SHORT_WAITS_PER_SAMPLE == decode::SHORT_WAITS_PER_SAMPLE);

/// An interval with so many waits or sums ends early, where nobody asked for its end yet.
const ENOUGH: usize = 1 << 17;

/// Gaps of I/O drivers that an interval has at most: those of dozens of drivers at their shortest.
const MAX_DRIVER_GAPS: usize = 1 << 15;

/// The collectors of an interval.
#[derive(Debug)]
pub(super) struct IntervalBuffer {
    pub(super) threads: ThreadLedger,
    pub(super) sums: IntervalSums,
    pub(super) waits: WaitBuffer,
    pub(super) samples: SampleCollector,
    pub(super) polls: PollCollector,
    pub(super) calls: CallCollector,
    pub(super) panics: PanicCollector,
    /// At most [`MAX_DRIVER_GAPS`].
    pub(super) driver_gaps: Vec<DriverGap>,
    /// Those beyond.
    driver_gaps_left_out: u64,
    wakers: WakerTable,
    /// The waits that were open when it began.
    carried: Vec<OpenWait>,
    last_end: Option<Timestamp>,
}

/// What found no room, of the recording so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) threads: u64,
    pub(super) sums: u64,
    pub(super) waits: u64,
    pub(super) samples: u64,
    pub(super) calls: u64,
    pub(super) panics: u64,
    pub(super) wakers: u64,
    pub(super) driver_gaps: u64,
}

impl IntervalBuffer {
    /// One of which `polls` are put together.
    pub(super) fn new(bounds: &Bounds, polls: PollCollector) -> IntervalBuffer {
        IntervalBuffer {
            threads: ThreadLedger::new(bounds.ended),
            sums: IntervalSums::new(bounds.sums),
            waits: WaitBuffer::new(bounds.waits),
            samples: SampleCollector::default(),
            polls,
            calls: CallCollector::default(),
            panics: PanicCollector::default(),
            driver_gaps: Vec::new(),
            driver_gaps_left_out: 0,
            wakers: WakerTable::new(bounds.wakers),
            carried: Vec::new(),
            last_end: None,
        }
    }

    /// Takes a wait in. `wakers` are all those that the recording has.
    pub(super) fn wait(
        &mut self,
        thread: ThreadId,
        wait: &WaitSeen,
        object: Option<ObjectId>,
        wakers: &mut Vec<Waker>,
    ) {
        let waker_stack = match &wait.waker {
            decode::Waker::Thread { stack, .. } => *stack,
            decode::Waker::Interrupt | decode::Waker::Unseen => None,
        };
        self.waits.add(BufferedWait {
            thread,
            stack: wait.stack,
            object,
            start: wait.start,
            wakeup: wait.wakeup.unwrap_or(wait.end),
            end: wait.end,
            waker: self.wakers.id(&wait.waker, wakers),
            waker_stack,
            task_id: wait.task_id,
            clock: wait.clock,
        });
    }

    /// Takes a gap of an I/O driver in.
    pub(super) fn driver_gap(&mut self, gap: DriverGap) {
        if self.driver_gaps.len() < MAX_DRIVER_GAPS {
            self.driver_gaps.push(gap);
        } else {
            self.driver_gaps_left_out += 1;
        }
    }

    /// Takes the end of a thread in.
    pub(super) fn thread_end(&mut self, thread: ThreadId, end: &ThreadEnd) {
        self.last_end = self.last_end.max(Some(end.time));
        self.threads.ended(thread, end.time, &end.times);
        self.polls.leaves(thread);
    }

    /// Takes the end of a process in, whose threads have ended before.
    pub(super) fn process_ended(&mut self, process: ProcessId) {
        self.threads.process_ended(process);
    }

    /// Hands out the waits that were open when the interval began. The next one begins with `open`.
    pub(super) fn carry(&mut self, open: Vec<OpenWait>) -> Vec<OpenWait> {
        std::mem::replace(&mut self.carried, open)
    }

    /// When the last thread ended, if one did.
    pub(super) const fn last_end(&self) -> Option<Timestamp> {
        self.last_end
    }

    /// Whether there is so much of it that the interval should end.
    pub(super) fn is_filling_up(&self) -> bool {
        self.waits.len() >= ENOUGH || self.sums.len() >= ENOUGH
    }

    /// What found no room.
    pub(super) const fn left_out(&self) -> LeftOut {
        LeftOut {
            threads: self.threads.folded(),
            sums: self.sums.left_out(),
            waits: self.waits.left_out(),
            samples: self.polls.lost(),
            calls: self.calls.left_out(),
            panics: self.panics.left_out(),
            wakers: self.wakers.left_out(),
            driver_gaps: self.driver_gaps_left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::{Nanos, Tid};

    #[test]
    fn gaps_of_drivers_beyond_those_that_are_kept_are_counted() {
        let mut buffer = IntervalBuffer::new(
            &Bounds::new(&crate::limits::Limits::default()),
            PollCollector::new(Nanos(1), Nanos(1)),
        );
        let gap = |from: u64| DriverGap {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(1),
            },
            from: Timestamp(from),
            to: Timestamp(from + 1),
        };
        (0..MAX_DRIVER_GAPS as u64 + 3).for_each(|from| buffer.driver_gap(gap(2 * from)));
        assert_eq!(buffer.driver_gaps.len(), MAX_DRIVER_GAPS);
        assert_eq!(buffer.left_out().driver_gaps, 3);
    }
}
