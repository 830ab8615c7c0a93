//! Rows of a capture, as they are written.

use super::news::{News, StackChange};
use super::schema::BY_INTERVAL;
use super::words::{bits, classified_json, histogram_json, json, losses_json, number, word};
use crate::recording::{
    CallSum, DriverGap, Interval, OpenWait, PanicSum, Poll, Process, SampleSum, Stack, ThreadId,
    ThreadTimes, Wait, WaitObject, WaitSum, Waker,
};
use crate::runtime::Classification;
use crate::symbolize::{Frame, FrameRef};
use crate::units::Timestamp;
use rusqlite::{Connection, Result, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Writes rows, and knows which there are.
#[derive(Debug)]
pub(super) struct Rows {
    start: Timestamp,
    threads: HashMap<ThreadId, u32>,
    /// By where they are in memory: equal frames are one there. Each is kept, so that no other comes
    /// to the same place.
    frames: HashMap<*const Frame, (FrameRef, u32)>,
    /// The last ids, as in [`BY_INTERVAL`].
    last: [i64; BY_INTERVAL.len()],
}

// SAFETY: the pointers are only compared, and what they point to is shared between threads anyway.
unsafe impl Send for Rows {}

/// Positions in [`BY_INTERVAL`].
mod at {
    pub(super) const THREAD_TIMES: usize = 0;
    pub(super) const SUMS: usize = 1;
    pub(super) const WAITS: usize = 2;
    pub(super) const OPEN_WAITS: usize = 3;
    pub(super) const SAMPLES: usize = 4;
    pub(super) const POLLS: usize = 5;
    pub(super) const CALLS: usize = 6;
    pub(super) const PANICS: usize = 7;
    pub(super) const DRIVER_GAPS: usize = 8;
}

impl Rows {
    pub(super) fn new(start: Timestamp) -> Rows {
        Rows {
            start,
            threads: HashMap::new(),
            frames: HashMap::new(),
            last: [0; BY_INTERVAL.len()],
        }
    }

    /// The ids of the last rows, as in [`BY_INTERVAL`].
    pub(super) const fn last(&self) -> [i64; BY_INTERVAL.len()] {
        self.last
    }

    /// A time as the capture has it: since the beginning of the recording, which something may have
    /// begun before.
    fn time(&self, time: Timestamp) -> i64 {
        time.0.wrapping_sub(self.start.0).cast_signed()
    }

    fn next(&mut self, table: usize) -> i64 {
        match self.last.get_mut(table) {
            Some(last) => {
                *last += 1;
                *last
            }
            None => 0,
        }
    }

    /// Writes what is new in the tables of names.
    pub(super) fn news(&mut self, db: &Connection, news: &News) -> Result<()> {
        for (id, process) in &news.processes {
            process_row(db, *id, process)?;
        }
        for (thread, name) in &news.names {
            self.name(db, *thread, name)?;
        }
        for (id, stack) in &news.stacks {
            self.stack(db, *id, stack)?;
        }
        for (id, change) in &news.changed_stacks {
            self.stack_change(db, *id, change)?;
        }
        for (id, object) in &news.objects {
            object_row(db, *id, object)?;
        }
        for (id, waker) in &news.wakers {
            waker_row(db, *id, waker)?;
        }
        Ok(())
    }

    fn name(&mut self, db: &Connection, thread: ThreadId, name: &Arc<str>) -> Result<()> {
        let id = self.thread(db, thread)?;
        let mut update = db.prepare_cached("UPDATE threads SET name = ?2 WHERE id = ?1")?;
        update.execute(params![id, &**name])?;
        Ok(())
    }

    /// The id of a thread, which gets a row where it has none.
    fn thread(&mut self, db: &Connection, thread: ThreadId) -> Result<u32> {
        let next = self.threads.len() as u32;
        let Entry::Vacant(entry) = self.threads.entry(thread) else {
            return Ok(self.threads.get(&thread).copied().unwrap_or_default());
        };
        let mut insert = db.prepare_cached("INSERT INTO threads VALUES (?1, ?2, ?3, NULL)")?;
        insert.execute([next, thread.process.0, thread.tid.0])?;
        Ok(*entry.insert(next))
    }

    fn stack(&mut self, db: &Connection, id: u32, stack: &Stack) -> Result<()> {
        let Stack {
            process,
            frames,
            kernel,
            truncated,
            pointer_steps,
            syscall,
            args,
            runtime,
            stopped_by,
            class,
        } = stack;
        let Classification {
            state,
            role,
            rule,
            frame,
            task_frame,
        } = class;
        let (frames, kernel) = (self.frames(db, frames)?, self.frames(db, kernel)?);
        let mut insert = db.prepare_cached(
            "INSERT INTO stacks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        insert.execute(params![
            id,
            process.0,
            state.name(),
            role.name(),
            rule.0,
            frame,
            task_frame,
            frames,
            kernel,
            truncated.map(|why| word(&why)),
            pointer_steps,
            syscall,
            args.map(|args| json(&args)),
            runtime.map(|runtime| bits(runtime.0.0)),
            stopped_by.map(|by| word(&by)),
        ])?;
        Ok(())
    }

    fn stack_change(&mut self, db: &Connection, id: u32, change: &StackChange) -> Result<()> {
        let Classification {
            state,
            role,
            rule,
            frame,
            task_frame,
        } = change.class;
        let kernel = self.frames(db, &change.kernel)?;
        let mut update = db.prepare_cached(
            "UPDATE stacks SET state = ?2, role = ?3, rule = ?4, deciding_frame = ?5, \
             task_frame = ?6, kernel_frames = ?7 WHERE id = ?1",
        )?;
        update.execute(params![
            id,
            state.name(),
            role.name(),
            rule.0,
            frame,
            task_frame,
            kernel
        ])?;
        Ok(())
    }

    /// The ids of frames as JSON text; new ones get their rows.
    fn frames(&mut self, db: &Connection, frames: &[FrameRef]) -> Result<String> {
        let mut ids = Vec::with_capacity(frames.len());
        for frame in frames {
            let next = self.frames.len() as u32;
            let id = match self.frames.entry(Arc::as_ptr(frame)) {
                Entry::Occupied(entry) => entry.get().1,
                Entry::Vacant(entry) => {
                    frame_row(db, next, frame)?;
                    entry.insert((Arc::clone(frame), next)).1
                }
            };
            ids.push(id);
        }
        Ok(json(&ids))
    }

    /// Writes an interval.
    pub(super) fn interval(&mut self, db: &Connection, id: i64, interval: &Interval) -> Result<()> {
        let Interval {
            start,
            end,
            threads,
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
        } = interval;
        let mut insert =
            db.prepare_cached("INSERT INTO intervals VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        insert.execute(params![
            id,
            self.time(*start),
            self.time(*end),
            losses_json(losses),
            classified_json(classified),
            json(throttling),
        ])?;
        for times in threads {
            self.thread_times(db, id, times)?;
        }
        for sum in sums {
            self.sum(db, id, sum)?;
        }
        // They lie in the same table: their length tells them apart.
        for wait in waits.iter().chain(short_waits) {
            self.wait(db, id, wait)?;
        }
        for wait in carried {
            self.open_wait(db, id, true, wait)?;
        }
        for wait in open_waits {
            self.open_wait(db, id, false, wait)?;
        }
        for sample in samples {
            self.sample(db, id, sample)?;
        }
        for poll in polls {
            self.poll(db, id, poll)?;
        }
        for gap in driver_gaps {
            self.driver_gap(db, id, gap)?;
        }
        for call in calls {
            self.call(db, id, call)?;
        }
        for panic in panics {
            self.panic(db, id, panic)?;
        }
        Ok(())
    }

    fn thread_times(&mut self, db: &Connection, interval: i64, times: &ThreadTimes) -> Result<()> {
        let ThreadTimes {
            thread,
            lived,
            until,
            running,
            runnable,
            blocked,
            waits,
            in_calls,
        } = times;
        let (id, thread) = (self.next(at::THREAD_TIMES), self.thread(db, *thread)?);
        let mut insert = db.prepare_cached(
            "INSERT INTO thread_times VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute(params![
            id,
            interval,
            thread,
            number(lived.0),
            self.time(*until),
            number(running.0),
            number(runnable.0),
            number(blocked.0),
            number(*waits),
            number(in_calls.0),
        ])?;
        Ok(())
    }

    fn sum(&mut self, db: &Connection, interval: i64, sum: &WaitSum) -> Result<()> {
        let WaitSum {
            thread,
            stack,
            object,
            waits,
            blocked,
            runqueue,
            max,
            histogram,
        } = sum;
        let (id, thread) = (self.next(at::SUMS), self.thread(db, *thread)?);
        let mut insert =
            db.prepare_cached("INSERT INTO sums VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
        insert.execute(params![
            id,
            interval,
            thread,
            stack.0,
            object.map(|object| object.0),
            number(*waits),
            number(blocked.0),
            number(runqueue.0),
            number(max.0),
            histogram_json(histogram),
        ])?;
        Ok(())
    }

    fn wait(&mut self, db: &Connection, interval: i64, wait: &Wait) -> Result<()> {
        let Wait {
            thread,
            stack,
            object,
            start,
            wakeup,
            end,
            waker,
            waker_stack,
            task_id,
        } = *wait;
        let (id, thread) = (self.next(at::WAITS), self.thread(db, thread)?);
        let mut insert = db.prepare_cached(
            "INSERT INTO waits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        insert.execute(params![
            id,
            interval,
            thread,
            stack.0,
            object.map(|object| object.0),
            self.time(start),
            self.time(wakeup),
            self.time(end),
            waker.map(|waker| waker.0),
            waker_stack.map(|stack| stack.0),
            task_id.map(bits),
        ])?;
        Ok(())
    }

    fn open_wait(
        &mut self,
        db: &Connection,
        interval: i64,
        carried: bool,
        wait: &OpenWait,
    ) -> Result<()> {
        let OpenWait {
            thread,
            stack,
            began_for,
            since,
            woken,
            before_recording,
            object,
            holder,
            task_id,
        } = wait;
        let (id, thread) = (self.next(at::OPEN_WAITS), self.thread(db, *thread)?);
        let mut insert = db.prepare_cached(
            "INSERT INTO open_waits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        insert.execute(params![
            id,
            interval,
            carried,
            thread,
            stack.0,
            began_for.map(|object| object.0),
            self.time(*since),
            woken.map(|woken| self.time(woken)),
            before_recording,
            object.as_ref().map(json),
            holder.as_ref().map(json),
            task_id.map(bits),
        ])?;
        Ok(())
    }

    fn sample(&mut self, db: &Connection, interval: i64, sample: &SampleSum) -> Result<()> {
        let SampleSum {
            thread,
            stack,
            samples,
        } = *sample;
        let (id, thread) = (self.next(at::SAMPLES), self.thread(db, thread)?);
        let mut insert = db.prepare_cached("INSERT INTO samples VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![id, interval, thread, stack.0, number(samples)])?;
        Ok(())
    }

    fn poll(&mut self, db: &Connection, interval: i64, poll: &Poll) -> Result<()> {
        let Poll {
            thread,
            stack,
            task_id,
            start,
            end,
            blocked,
            runqueue,
            running,
            waits,
            samples,
            queued,
            evidence,
        } = *poll;
        let (id, thread) = (self.next(at::POLLS), self.thread(db, thread)?);
        let mut insert = db.prepare_cached(
            "INSERT INTO polls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        insert.execute(params![
            id,
            interval,
            thread,
            stack.0,
            task_id.map(bits),
            self.time(start),
            self.time(end),
            number(blocked.0),
            number(runqueue.0),
            number(running.0),
            number(waits),
            number(samples),
            queued.map(|queued| queued.in_queue),
            queued.map(|queued| queued.in_slot),
            word(&evidence),
        ])?;
        Ok(())
    }

    fn driver_gap(&mut self, db: &Connection, interval: i64, gap: &DriverGap) -> Result<()> {
        let DriverGap { thread, from, to } = *gap;
        let (id, thread) = (self.next(at::DRIVER_GAPS), self.thread(db, thread)?);
        let mut insert =
            db.prepare_cached("INSERT INTO driver_gaps VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![
            id,
            interval,
            thread,
            self.time(from),
            self.time(to)
        ])?;
        Ok(())
    }

    fn call(&mut self, db: &Connection, interval: i64, call: &CallSum) -> Result<()> {
        let CallSum {
            thread,
            stack,
            object,
            calls,
            on_cpu,
            wall,
            max,
        } = *call;
        let (id, thread) = (self.next(at::CALLS), self.thread(db, thread)?);
        let mut insert =
            db.prepare_cached("INSERT INTO calls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
        insert.execute(params![
            id,
            interval,
            thread,
            stack.0,
            object.map(|object| object.0),
            number(calls),
            number(on_cpu.0),
            number(wall.0),
            number(max.0),
        ])?;
        Ok(())
    }

    fn panic(&mut self, db: &Connection, interval: i64, panic: &PanicSum) -> Result<()> {
        let PanicSum {
            thread,
            stack,
            panics,
            last,
            task_id,
        } = *panic;
        let (id, thread) = (self.next(at::PANICS), self.thread(db, thread)?);
        let mut insert =
            db.prepare_cached("INSERT INTO panics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        insert.execute(params![
            id,
            interval,
            thread,
            stack.0,
            number(panics),
            self.time(last),
            task_id.map(bits),
        ])?;
        Ok(())
    }
}

fn process_row(db: &Connection, id: u32, process: &Process) -> Result<()> {
    let Process {
        pid,
        exe,
        build_id,
        cmdline,
        tokio_version,
        tokio,
        parent,
        earlier,
        ended,
        has_symbols,
        has_lines,
        panic_probes,
    } = process;
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO processes \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute(params![
        id,
        pid.0,
        exe,
        build_id,
        json(cmdline),
        tokio_version,
        json(tokio),
        parent.map(|parent| parent.0),
        json(earlier),
        ended,
        has_symbols,
        has_lines,
        panic_probes.as_ref().map(json),
    ])?;
    Ok(())
}

fn frame_row(db: &Connection, id: u32, frame: &Frame) -> Result<()> {
    let Frame {
        function,
        space,
        naming,
        origin,
        inlined,
        file,
        line,
        module,
        address,
        start,
        place,
    } = frame;
    let mut insert = db.prepare_cached(
        "INSERT INTO frames VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute(params![
        id,
        &**function,
        file.as_deref(),
        line,
        module.as_deref(),
        word(space),
        word(naming),
        word(origin),
        inlined,
        bits(address.0),
        start.map(|start| bits(start.0)),
        place.as_ref().map(|place| &*place.build_id),
        place.as_ref().map(|place| bits(place.svma.0)),
    ])?;
    Ok(())
}

fn object_row(db: &Connection, id: u32, object: &WaitObject) -> Result<()> {
    let WaitObject { object, fd, many } = object;
    let mut insert =
        db.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![id, object.kind.name(), object.name, fd, many])?;
    Ok(())
}

fn waker_row(db: &Connection, id: u32, waker: &Waker) -> Result<()> {
    let Waker { pid, tid, name } = waker;
    let mut insert = db.prepare_cached("INSERT INTO wakers VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![id, pid.0, tid.0, &**name])?;
    Ok(())
}
