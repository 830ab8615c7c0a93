//! What is seen of a recording while it goes on: the numbers of the progress line, the first stall, which
//! processes come and go, and the report of so far, where somebody wants one.

use super::interrupt::WantsReport;
use super::lives::Lives;
use crate::analyze::{Analyzer, History, SoFar, longest_stall};
use crate::recording::{Interval, Tables};
use crate::report::Report;
use crate::units::{Nanos, Pid};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How much before the first stall is kept.
const BEFORE: Nanos = Nanos(30_000_000_000);

/// Between the recorder, which sees the intervals, and the verb, which says what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Seen>);

/// What is looked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Whether anybody looks at the numbers.
    pub(crate) numbers: bool,
    /// How long a stall is that ends the recording.
    pub(crate) until_stall: Option<Nanos>,
    /// With how many processes the recording begins, where it is told which come and go.
    pub(crate) lives: Option<usize>,
    /// Whether somebody wants a report.
    pub(crate) report: WantsReport,
}

#[derive(Debug)]
struct Seen {
    wanted: Wanted,
    so_far: Mutex<SoFar>,
    starved: Mutex<Starved>,
    stall: Mutex<Option<Nanos>>,
    lives: Mutex<Lives>,
    news: Mutex<VecDeque<News>>,
    changed: Notify,
}

/// For how long all workers of a runtime were blocked at once, so far.
#[derive(Debug, Default)]
struct Starved {
    workers: History,
    time: Nanos,
}

/// Something that is told at once.
#[derive(Debug)]
pub(crate) enum News {
    /// Processes came or went.
    Lives(Vec<String>),
    /// The report that was wanted.
    Report(Box<Report>),
    /// The first stall that is long enough, and its length so far.
    Stall(Nanos),
}

impl Observer {
    pub(crate) fn new(wanted: Wanted) -> Observer {
        let lives = Lives::new(wanted.lives.unwrap_or_default());
        Observer(Arc::new(Seen {
            wanted,
            so_far: Mutex::default(),
            starved: Mutex::default(),
            stall: Mutex::default(),
            lives: Mutex::new(lives),
            news: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    fn tell(&self, news: News) {
        lock(&self.0.news).push_back(news);
        self.0.changed.notify_one();
    }

    /// Waits for something that is to be told.
    pub(crate) async fn news(&self) -> News {
        loop {
            let first = lock(&self.0.news).pop_front();
            match first {
                Some(news) => return news,
                None => self.0.changed.notified().await,
            }
        }
    }

    /// Looks at an interval that `analyzer` has.
    pub(crate) fn see(&self, tables: &Tables, interval: &Interval) {
        if self.0.wanted.lives.is_some() {
            let lines = lock(&self.0.lives).see(&tables.processes);
            if !lines.is_empty() {
                self.tell(News::Lives(lines));
            }
        }
        if self.0.wanted.numbers {
            let mut starved = lock(&self.0.starved);
            starved.workers.add(tables, interval);
            let new = starved.workers.starved();
            starved.time += new;
        }
        let Some(limit) = self.0.wanted.until_stall else {
            return;
        };
        let stall = longest_stall(tables, interval).filter(|stall| *stall >= limit);
        if let Some(stall) = stall {
            let mut first = lock(&self.0.stall);
            if first.is_none() {
                *first = Some(stall);
                self.tell(News::Stall(stall));
            }
        }
    }

    /// Whether a report of so far is wanted; asked once for each.
    pub(crate) fn wants_report(&self) -> bool {
        self.0.wanted.report.take()
    }

    /// Set as long as a report is wanted.
    pub(crate) fn report_flag(&self) -> Arc<AtomicBool> {
        self.0.wanted.report.flag()
    }

    /// Takes the report that was wanted.
    pub(crate) fn take_report(&self, report: Report) {
        self.tell(News::Report(Box::new(report)));
    }

    /// Takes over what the analyzer found so far.
    pub(crate) fn count(&self, tables: &Tables, analyzer: &Analyzer) {
        if self.0.wanted.numbers {
            *lock(&self.0.so_far) = analyzer.so_far(tables);
        }
    }

    /// For how long all workers of a runtime were blocked at once so far.
    pub(crate) fn starved(&self) -> Nanos {
        lock(&self.0.starved).time
    }

    /// What was found so far.
    pub(crate) fn so_far(&self) -> SoFar {
        lock(&self.0.so_far).clone()
    }

    /// Whether the end of a process was told.
    pub(crate) fn told_end(&self, pid: Pid) -> bool {
        self.0.wanted.lives.is_some() && lock(&self.0.lives).told_end(pid)
    }

    /// The last intervals, to be kept until there is a stall; none where nobody waits for one.
    pub(crate) fn ring(&self) -> Option<Ring> {
        self.0.wanted.until_stall.map(|_| Ring::default())
    }
}

/// What is in there, whatever became of who held it: every change is complete in itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last intervals.
#[derive(Debug, Default)]
pub(crate) struct Ring(VecDeque<Interval>);

impl Ring {
    pub(crate) fn push(&mut self, interval: Interval) {
        let end = interval.end;
        self.0.push_back(interval);
        while self.0.front().is_some_and(|first| end - first.end > BEFORE) {
            self.0.pop_front();
        }
    }

    /// All of them, the first one first.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = &Interval> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Timestamp;

    #[test]
    fn the_ring_forgets_what_is_long_ago() {
        let mut ring = Ring::default();
        for second in 0..100_u64 {
            ring.push(Interval {
                start: Timestamp(second * 1_000_000_000),
                end: Timestamp((second + 1) * 1_000_000_000),
                ..Interval::default()
            });
        }
        let starts: Vec<u64> = ring
            .intervals()
            .map(|i| i.start.0 / 1_000_000_000)
            .collect();
        assert_eq!(starts, (69..100).collect::<Vec<_>>());
    }
}
