//! The intervals of a capture, as they are read: all tables at once, row by row, so that no more than
//! one interval is in memory.

use super::error::{Error, Result};
use super::limits::{MAX_ROWS, MAX_TIME, Sum, at_most};
use super::words::{classified, from_json, histogram, losses, variant};
use crate::recording::{
    CallSum, DriverGap, Interval, ObjectId, OpenWait, PanicSum, Poll, ProcessId, SampleSum,
    StackId, Tables, ThreadId, ThreadTimes, Throttling, Wait, WaitSum, WakerId,
};
use crate::runtime::Queued;
use crate::units::{Nanos, Timestamp};
use rusqlite::{Connection, Row, Statement};

/// What the rows are checked against.
struct Context<'a> {
    start: Timestamp,
    min_block: Nanos,
    tables: &'a Tables,
    threads: &'a [ThreadId],
}

/// Sums of the columns that are read, each of which must not overflow.
#[derive(Debug, Default)]
struct Sums([Sum; 5]);

/// The statements that read the tables.
pub(super) struct Stream<'c> {
    context: Context<'c>,
    intervals: Statement<'c>,
    thread_times: Statement<'c>,
    sums: Statement<'c>,
    waits: Statement<'c>,
    open_waits: Statement<'c>,
    samples: Statement<'c>,
    polls: Statement<'c>,
    driver_gaps: Statement<'c>,
    calls: Statement<'c>,
    panics: Statement<'c>,
}

impl<'c> Stream<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        (start, min_block): (Timestamp, Nanos),
        tables: &'c Tables,
        threads: &'c [ThreadId],
    ) -> Result<Stream<'c>> {
        let all = |table: &str| connection.prepare(&format!("SELECT * FROM {table} ORDER BY id"));
        Ok(Stream {
            context: Context {
                start,
                min_block,
                tables,
                threads,
            },
            intervals: all("intervals")?,
            thread_times: all("thread_times")?,
            sums: all("sums")?,
            waits: all("waits")?,
            open_waits: all("open_waits")?,
            samples: all("samples")?,
            polls: all("polls")?,
            driver_gaps: all("driver_gaps")?,
            calls: all("calls")?,
            panics: all("panics")?,
        })
    }

    /// Hands out the intervals, one after another. Returns the end of the last one.
    pub(super) fn each(&mut self, mut take: impl FnMut(Interval)) -> Result<Timestamp> {
        let context = &self.context;
        let mut thread_times = Rows::of(&mut self.thread_times, context, thread_times)?;
        let mut sums = Rows::of(&mut self.sums, context, wait_sum)?;
        let mut waits = Rows::of(&mut self.waits, context, wait)?;
        let mut open_waits = Rows::of(&mut self.open_waits, context, open_wait)?;
        let mut samples = Rows::of(&mut self.samples, context, sample)?;
        let mut polls = Rows::of(&mut self.polls, context, poll)?;
        let mut gaps = Rows::of(&mut self.driver_gaps, context, driver_gap)?;
        let mut calls = Rows::of(&mut self.calls, context, call)?;
        let mut panics = Rows::of(&mut self.panics, context, panic_sum)?;
        let mut intervals = self.intervals.query([])?;
        let mut last: Option<(i64, Timestamp)> = None;
        while let Some(row) = intervals.next()? {
            let (id, mut interval) = bare_interval(row, context)?;
            if last.is_some_and(|(before, end)| id <= before || interval.start < end) {
                return Err(Error::damaged("intervals that do not follow each other"));
            }
            last = Some((id, interval.end));
            interval.threads = thread_times.take(id)?;
            interval.sums = sums.take(id)?;
            let all = waits.take(id)?.into_iter();
            (interval.short_waits, interval.waits) =
                all.partition(|wait| wait.is_short(context.min_block));
            for (carried, wait) in open_waits.take(id)? {
                match carried {
                    true => interval.carried.push(wait),
                    false => interval.open_waits.push(wait),
                }
            }
            interval.samples = samples.take(id)?;
            interval.polls = polls.take(id)?;
            interval.driver_gaps = gaps.take(id)?;
            interval.calls = calls.take(id)?;
            interval.panics = panics.take(id)?;
            take(interval);
        }
        thread_times.end()?;
        sums.end()?;
        waits.end()?;
        open_waits.end()?;
        samples.end()?;
        polls.end()?;
        gaps.end()?;
        calls.end()?;
        panics.end()?;
        Ok(last.map_or(context.start, |(_, end)| end))
    }
}

type Read<T> = fn(&Row<'_>, &Context<'_>, &mut Sums) -> Result<T>;

/// The rows of one table, of one interval after another.
struct Rows<'s, 'c, T> {
    rows: rusqlite::Rows<'s>,
    context: &'c Context<'c>,
    read: Read<T>,
    sums: Sums,
    last: i64,
    /// Read ahead: its interval and itself.
    next: Option<(i64, T)>,
}

impl<'s, 'c, T> Rows<'s, 'c, T> {
    fn of(
        statement: &'s mut Statement<'_>,
        context: &'c Context<'c>,
        read: Read<T>,
    ) -> Result<Rows<'s, 'c, T>> {
        let mut rows = Rows {
            rows: statement.query([])?,
            context,
            read,
            sums: Sums::default(),
            last: i64::MIN,
            next: None,
        };
        rows.advance()?;
        Ok(rows)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = None;
        if let Some(row) = self.rows.next()? {
            // The first two columns of all of them.
            let (id, interval): (i64, i64) = (row.get(0)?, row.get(1)?);
            if id <= self.last {
                return Err(Error::damaged("rows in no order"));
            }
            self.last = id;
            self.next = Some((interval, (self.read)(row, self.context, &mut self.sums)?));
        }
        Ok(())
    }

    /// Those of an interval.
    fn take(&mut self, interval: i64) -> Result<Vec<T>> {
        let mut taken = Vec::new();
        while let Some((_, row)) = self.next.take_if(|(of, _)| *of == interval) {
            at_most(taken.len() + 1, MAX_ROWS, "rows of one second")?;
            taken.push(row);
            self.advance()?;
        }
        Ok(taken)
    }

    /// Fails where there are rows of no interval.
    fn end(&self) -> Result<()> {
        match self.next {
            None => Ok(()),
            Some(_) => Err(Error::damaged("rows of an interval that is not there")),
        }
    }
}

impl Context<'_> {
    fn time(&self, since_start: i64) -> Result<Timestamp> {
        let time = self.start.0.checked_add_signed(since_start);
        let time = time.filter(|time| *time <= MAX_TIME);
        time.map(Timestamp)
            .ok_or_else(|| Error::damaged("a time that cannot be"))
    }

    fn thread(&self, row: &Row<'_>, column: usize) -> Result<ThreadId> {
        let index: u32 = row.get(column)?;
        let thread = self.threads.get(index as usize).copied();
        thread.ok_or_else(|| Error::damaged("a thread that is not there"))
    }

    fn stack(&self, row: &Row<'_>, column: usize) -> Result<StackId> {
        self.maybe_stack(row, column)?
            .ok_or_else(|| Error::damaged("a stack that is not there"))
    }

    fn maybe_stack(&self, row: &Row<'_>, column: usize) -> Result<Option<StackId>> {
        index(row, column, self.tables.stacks.len()).map(|index| index.map(StackId))
    }

    fn object(&self, row: &Row<'_>, column: usize) -> Result<Option<ObjectId>> {
        index(row, column, self.tables.objects.len()).map(|index| index.map(ObjectId))
    }

    fn waker(&self, row: &Row<'_>, column: usize) -> Result<Option<WakerId>> {
        index(row, column, self.tables.wakers.len()).map(|index| index.map(WakerId))
    }
}

/// An index into a table of `len` rows, where there is one.
fn index(row: &Row<'_>, column: usize, len: usize) -> Result<Option<u32>> {
    let index: Option<u32> = row.get(column)?;
    match index {
        Some(index) if index as usize >= len => Err(Error::damaged("a name that is not there")),
        index => Ok(index),
    }
}

impl Sums {
    /// A count; `place` is the sum that it goes into.
    fn count(&mut self, place: usize, row: &Row<'_>, column: usize) -> Result<u64> {
        let number: i64 = row.get(column)?;
        match self.0.get_mut(place) {
            Some(sum) => sum.add(number),
            None => Err(Error::damaged("a column too many")),
        }
    }

    /// A length of time.
    fn nanos(&mut self, place: usize, row: &Row<'_>, column: usize) -> Result<Nanos> {
        self.count(place, row, column).map(Nanos)
    }
}

fn task(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
    let task: Option<i64> = row.get(column)?;
    Ok(task.map(i64::cast_unsigned))
}

/// An interval without its rows.
fn bare_interval(row: &Row<'_>, context: &Context<'_>) -> Result<(i64, Interval)> {
    let text = |column: usize| {
        let value = row.get_ref(column)?;
        value
            .as_str()
            .map_err(|error| Error::damaged(error.to_string()))
    };
    let throttling: Vec<(ProcessId, Throttling)> = from_json(text(5)?)?;
    let processes = context.tables.processes.len();
    if throttling
        .iter()
        .any(|(process, _)| process.index() >= processes)
    {
        return Err(Error::damaged("a process that is not there"));
    }
    let interval = Interval {
        start: context.time(row.get(1)?)?,
        end: context.time(row.get(2)?)?,
        losses: losses(text(3)?)?,
        classified: classified(text(4)?)?,
        throttling,
        ..Interval::default()
    };
    if interval.end < interval.start || interval.start < context.start {
        return Err(Error::damaged("an interval that cannot be"));
    }
    Ok((row.get(0)?, interval))
}

fn thread_times(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<ThreadTimes> {
    Ok(ThreadTimes {
        thread: context.thread(row, 2)?,
        lived: sums.nanos(0, row, 3)?,
        until: context.time(row.get(4)?)?,
        running: sums.nanos(1, row, 5)?,
        runnable: sums.nanos(2, row, 6)?,
        blocked: sums.nanos(3, row, 7)?,
        waits: sums.count(4, row, 8)?,
        in_calls: sums.nanos(1, row, 9)?,
    })
}

fn wait_sum(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<WaitSum> {
    let histogram = row.get_ref(9)?;
    let histogram = histogram
        .as_str()
        .map_err(|error| Error::damaged(error.to_string()))?;
    Ok(WaitSum {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        object: context.object(row, 4)?,
        waits: sums.count(0, row, 5)?,
        blocked: sums.nanos(1, row, 6)?,
        runqueue: sums.nanos(2, row, 7)?,
        max: sums.nanos(3, row, 8)?,
        histogram: self::histogram(histogram)?,
    })
}

fn wait(row: &Row<'_>, context: &Context<'_>, _: &mut Sums) -> Result<Wait> {
    Ok(Wait {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        object: context.object(row, 4)?,
        start: context.time(row.get(5)?)?,
        wakeup: context.time(row.get(6)?)?,
        end: context.time(row.get(7)?)?,
        waker: context.waker(row, 8)?,
        waker_stack: context.maybe_stack(row, 9)?,
        task_id: task(row, 10)?,
    })
}

/// With whether it goes on from the interval before.
fn open_wait(row: &Row<'_>, context: &Context<'_>, _: &mut Sums) -> Result<(bool, OpenWait)> {
    let woken: Option<i64> = row.get(7)?;
    let (object, holder): (Option<String>, Option<String>) = (row.get(9)?, row.get(10)?);
    let wait = OpenWait {
        thread: context.thread(row, 3)?,
        stack: context.stack(row, 4)?,
        began_for: context.object(row, 5)?,
        since: context.time(row.get(6)?)?,
        woken: woken.map(|woken| context.time(woken)).transpose()?,
        before_recording: row.get(8)?,
        object: object.map(|text| from_json(&text)).transpose()?,
        holder: holder.map(|text| from_json(&text)).transpose()?,
        task_id: task(row, 11)?,
    };
    Ok((row.get(2)?, wait))
}

fn sample(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<SampleSum> {
    Ok(SampleSum {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        samples: sums.count(0, row, 4)?,
    })
}

fn poll(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<Poll> {
    let evidence = row.get_ref(14)?;
    let evidence = evidence
        .as_str()
        .map_err(|error| Error::damaged(error.to_string()))?;
    Ok(Poll {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        task_id: task(row, 4)?,
        start: context.time(row.get(5)?)?,
        end: context.time(row.get(6)?)?,
        blocked: sums.nanos(0, row, 7)?,
        runqueue: sums.nanos(1, row, 8)?,
        running: sums.nanos(2, row, 9)?,
        waits: sums.count(3, row, 10)?,
        samples: sums.count(4, row, 11)?,
        queued: queued(row.get(12)?, row.get(13)?)?,
        evidence: variant(evidence)?,
    })
}

fn queued(in_queue: Option<u32>, in_slot: Option<bool>) -> Result<Option<Queued>> {
    match (in_queue, in_slot) {
        (Some(in_queue), Some(in_slot)) => Ok(Some(Queued { in_slot, in_queue })),
        (None, None) => Ok(None),
        _ => Err(Error::damaged("half of what waited for a worker")),
    }
}

fn driver_gap(row: &Row<'_>, context: &Context<'_>, _: &mut Sums) -> Result<DriverGap> {
    Ok(DriverGap {
        thread: context.thread(row, 2)?,
        from: context.time(row.get(3)?)?,
        to: context.time(row.get(4)?)?,
    })
}

fn call(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<CallSum> {
    Ok(CallSum {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        object: context.object(row, 4)?,
        calls: sums.count(0, row, 5)?,
        on_cpu: sums.nanos(1, row, 6)?,
        wall: sums.nanos(2, row, 7)?,
        max: sums.nanos(3, row, 8)?,
    })
}

fn panic_sum(row: &Row<'_>, context: &Context<'_>, sums: &mut Sums) -> Result<PanicSum> {
    Ok(PanicSum {
        thread: context.thread(row, 2)?,
        stack: context.stack(row, 3)?,
        panics: sums.count(0, row, 4)?,
        last: context.time(row.get(5)?)?,
        task_id: task(row, 6)?,
    })
}
