//! Events of the next interval that arrive while one is being closed.

use crate::decode::{Event, ThreadKey, ThreadState};

/// What belongs to the next interval.
#[derive(Debug, Default)]
pub(super) struct NextInterval {
    /// Its number, while the interval before it is being closed.
    number: Option<u32>,
    events: Vec<Event>,
    /// Threads that have ended since the cut, and what they were at it.
    at_cut: Vec<(ThreadKey, ThreadState)>,
}

impl NextInterval {
    /// From now on events of the interval with this number are kept back.
    pub(super) fn begin(&mut self, number: u32) {
        self.number = Some(number);
    }

    /// Gives an event back, unless it is of the next interval.
    pub(super) fn keep_back(&mut self, event: Event) -> Option<Event> {
        let (Some(next), Some(of)) = (self.number, cut_of(&event)) else {
            return Some(event);
        };
        // Numbers may wrap around.
        if of.wrapping_sub(next) > u32::MAX / 2 {
            return Some(event);
        }
        if let Event::ThreadEnd(end) = &event
            && let Some(at_cut) = end.at_cut
        {
            self.at_cut.push((end.thread, at_cut));
        }
        self.events.push(event);
        None
    }

    /// Threads that have ended since the cut, and what they were at it. They are in no table.
    pub(super) fn ended_since(&self) -> &[(ThreadKey, ThreadState)] {
        &self.at_cut
    }

    /// The interval is closed: hands out what was kept back.
    pub(super) fn end(&mut self) -> Vec<Event> {
        self.number = None;
        self.at_cut.clear();
        std::mem::take(&mut self.events)
    }
}

/// The number of the interval in which an event came; none of an event that is the same in all.
fn cut_of(event: &Event) -> Option<u32> {
    match event {
        Event::Wait(wait) => Some(wait.cut),
        Event::ThreadEnd(end) => Some(end.cut),
        Event::Call(call) => Some(call.cut),
        Event::Panic(panic) => Some(panic.cut),
        Event::Sample(sample) => Some(sample.cut),
        Event::Stack(_)
        | Event::Exec(_)
        | Event::Snapshot(_)
        | Event::Fork(_)
        | Event::Object(_)
        | Event::ChildExec(_)
        | Event::DriverGap(_)
        | Event::RawStack(_)
        | Event::UnmappedStack(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Exec, PanicSeen};
    use crate::units::{Pid, Tid, Timestamp};

    fn panic(cut: u32) -> Event {
        Event::Panic(PanicSeen {
            thread: ThreadKey {
                pid: Pid(1),
                tid: Tid(2),
            },
            time: Timestamp(3),
            stack: None,
            task_id: None,
            cut,
        })
    }

    #[test]
    fn events_wait_for_their_interval() {
        let mut next = NextInterval::default();
        assert!(
            next.keep_back(panic(9)).is_some(),
            "nothing is being closed"
        );
        next.begin(5);
        assert!(next.keep_back(panic(4)).is_some());
        assert!(next.keep_back(panic(5)).is_none());
        assert!(next.keep_back(panic(6)).is_none());
        let exec = Event::Exec(Exec {
            pid: Pid(1),
            time: Timestamp(3),
        });
        assert!(next.keep_back(exec).is_some(), "of no interval");
        assert_eq!(next.end(), [panic(5), panic(6)]);
        assert!(next.keep_back(panic(5)).is_some());
        assert!(next.end().is_empty());
        // Around the end of the numbers.
        next.begin(0);
        assert!(next.keep_back(panic(u32::MAX)).is_some());
        assert!(next.keep_back(panic(0)).is_none());
    }
}
