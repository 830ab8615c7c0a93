//! Where the time of threads went, interval by interval, within bounds.

use crate::recording::Interval;
use crate::report::{Activity, ThreadActivity};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Threads of all intervals together, at most: some 10 MB.
const MOST: usize = 1 << 18;

/// One entry an interval. When there are too many, each two become one.
#[derive(Clone, Debug)]
pub(super) struct Activities {
    most: usize,
    /// Intervals that make an entry.
    each: usize,
    /// Intervals in the last entry.
    last: usize,
    entries: Arc<Vec<Activity>>,
}

impl Default for Activities {
    fn default() -> Activities {
        Activities::within(MOST)
    }
}

impl Activities {
    fn within(most: usize) -> Activities {
        Activities {
            most,
            each: 1,
            last: 0,
            entries: Arc::default(),
        }
    }

    pub(super) fn add(&mut self, interval: &Interval) {
        let mut threads: Vec<ThreadActivity> = interval
            .threads
            .iter()
            .map(|times| ThreadActivity {
                thread: times.thread,
                running: times.running,
                runnable: times.runnable,
                off_cpu: times.blocked,
            })
            .collect();
        threads.sort_by_key(|activity| activity.thread);
        let activity = Activity {
            start: interval.start,
            end: interval.end,
            threads,
        };
        let entries = Arc::make_mut(&mut self.entries);
        match entries.last_mut().filter(|_| self.last < self.each) {
            Some(last) => {
                merge(last, activity);
                self.last += 1;
            }
            None => {
                entries.push(activity);
                self.last = 1;
            }
        }
        let threads: usize = entries.iter().map(|entry| entry.threads.len()).sum();
        if threads > self.most && entries.len() > 1 {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let entries = Arc::make_mut(&mut self.entries);
        let is_odd = entries.len() % 2 == 1;
        let mut halved: Vec<Activity> = Vec::with_capacity(entries.len() / 2 + 1);
        for (index, entry) in std::mem::take(entries).into_iter().enumerate() {
            match halved.last_mut().filter(|_| index % 2 == 1) {
                Some(last) => merge(last, entry),
                None => halved.push(entry),
            }
        }
        *entries = halved;
        // Of an odd number the last one stands alone, and has room for more.
        self.last += if is_odd { 0 } else { self.each };
        self.each *= 2;
    }

    /// What is known, one after another.
    pub(super) fn entries(&self) -> Arc<Vec<Activity>> {
        Arc::clone(&self.entries)
    }
}

fn merge(into: &mut Activity, more: Activity) {
    into.end = into.end.max(more.end);
    let known = std::mem::take(&mut into.threads);
    let mut threads: BTreeMap<_, ThreadActivity> = known
        .into_iter()
        .map(|activity| (activity.thread, activity))
        .collect();
    for activity in more.threads {
        match threads.get_mut(&activity.thread) {
            Some(known) => known.add(&activity),
            None => {
                threads.insert(activity.thread, activity);
            }
        }
    }
    into.threads = threads.into_values().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{ProcessId, ThreadId, ThreadTimes};
    use crate::units::{Nanos, Tid, Timestamp};

    fn interval(number: u64, tids: std::ops::Range<u32>) -> Interval {
        let threads = tids.map(|tid| ThreadTimes {
            thread: ThreadId {
                process: ProcessId(0),
                tid: Tid(tid),
            },
            lived: Nanos(100),
            until: Timestamp(0),
            running: Nanos(10),
            runnable: Nanos(20),
            blocked: Nanos(70),
            waits: 0,
            in_calls: Nanos::ZERO,
        });
        Interval {
            start: Timestamp(number * 100),
            end: Timestamp((number + 1) * 100),
            threads: threads.collect(),
            ..Interval::default()
        }
    }

    fn shown(activities: &Activities) -> Vec<(u64, u64, usize, u64)> {
        let of = |entry: &Activity| {
            let running = entry.threads.iter().map(|activity| activity.running.0);
            let (start, end) = (entry.start.0, entry.end.0);
            (start, end, entry.threads.len(), running.sum())
        };
        activities.entries.iter().map(of).collect()
    }

    #[test]
    fn each_interval_is_an_entry() {
        let mut activities = Activities::default();
        activities.add(&interval(0, 0..2));
        activities.add(&interval(1, 1..4));
        assert_eq!(shown(&activities), [(0, 100, 2, 20), (100, 200, 3, 30)]);
    }

    /// However long a recording is, all of its time is there, in entries of equal length but for the last.
    #[test]
    fn two_become_one_where_there_are_too_many() {
        let mut activities = Activities::within(10);
        for number in 0..9 {
            activities.add(&interval(number, 0..3));
        }
        let expected = [(0, 400, 3, 120), (400, 800, 3, 120), (800, 900, 3, 30)];
        assert_eq!(shown(&activities), expected);
        for number in 9..13 {
            activities.add(&interval(number, 0..3));
        }
        let expected = [(0, 800, 3, 240), (800, 1_300, 3, 150)];
        assert_eq!(shown(&activities), expected);
        activities.add(&interval(13, 0..20));
        assert_eq!(
            activities.entries.last().map(|entry| entry.end.0),
            Some(1_400)
        );
    }
}
