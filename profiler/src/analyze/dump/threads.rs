//! One row a thread.

use super::Looked;
use crate::analyze::call;
use crate::analyze::causes::{by_holder, by_object, cause_of};
use crate::analyze::location::{location, task};
use crate::analyze::open_waits::told_holder;
use crate::analyze::stack_facts::{object, whole_stack};
use crate::arch::{Subject, subject};
use crate::cause::{Cause, CauseClassifier};
use crate::recording::{
    Interval, Object, ObjectKind, OpenWait, ProcessId, SampleSum, Stack, StackId, Tables, ThreadId,
    ThreadTimes, WaitObject, WaitSum,
};
use crate::report::dump::DumpThread;
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Role, State};
use crate::units::{Nanos, Pid, Tid};
use std::collections::{BTreeMap, HashMap};

/// A thread as it is told, and what places it.
pub(super) struct Row {
    pub(super) thread: ThreadId,
    pub(super) told: DumpThread,
    /// The runtime that it had entered.
    pub(super) handle: Option<RuntimeHandle>,
}

/// What is known of the threads of an interval, by thread.
struct Known<'a> {
    looked: &'a Looked<'a>,
    open: HashMap<ThreadId, &'a OpenWait>,
    /// The stack with most samples.
    sampled: HashMap<ThreadId, &'a SampleSum>,
    /// The stack in which it waited the longest.
    waited: HashMap<ThreadId, &'a WaitSum>,
    /// How many wait for an object.
    waiters: HashMap<(ProcessId, &'a Object), u32>,
}

/// Every thread that lives at the end of the interval.
pub(super) fn threads(looked: &Looked<'_>) -> Vec<Row> {
    let known = Known::of(looked);
    let mut causes = CauseClassifier::default();
    let interval = looked.interval;
    let living = interval
        .threads
        .iter()
        .filter(|times| lives(times, interval));
    living.map(|times| known.row(times, &mut causes)).collect()
}

/// Those that are summed up with others have the id 0.
fn lives(times: &ThreadTimes, interval: &Interval) -> bool {
    times.until >= interval.end && times.thread.tid != Tid(0)
}

impl<'a> Known<'a> {
    fn of(looked: &'a Looked<'a>) -> Known<'a> {
        let interval = looked.interval;
        let mut sampled: HashMap<ThreadId, &SampleSum> = HashMap::new();
        for sum in &interval.samples {
            let most = sampled.entry(sum.thread).or_insert(sum);
            if sum.samples > most.samples {
                *most = sum;
            }
        }
        let mut waited: HashMap<ThreadId, &WaitSum> = HashMap::new();
        for sum in &interval.sums {
            let longest = waited.entry(sum.thread).or_insert(sum);
            if sum.blocked > longest.blocked {
                *longest = sum;
            }
        }
        let still = interval
            .open_waits
            .iter()
            .filter(|open| open.woken.is_none());
        let mut waiters = HashMap::new();
        for open in still {
            // Two sleeps are two things.
            if let Some(object) = &open.object
                && !matches!(object.kind, ObjectKind::Timer | ObjectKind::Poll)
            {
                *waiters.entry((open.thread.process, object)).or_default() += 1;
            }
        }
        let open = interval.open_waits.iter();
        Known {
            looked,
            open: open.map(|open| (open.thread, open)).collect(),
            sampled,
            waited,
            waiters,
        }
    }

    fn tables(&self) -> &'a Tables {
        self.looked.tables
    }

    fn row(&self, times: &ThreadTimes, causes: &mut CauseClassifier) -> Row {
        let thread = times.thread;
        match self.open.get(&thread) {
            Some(open) if open.woken.is_none() => self.waiting(open, causes),
            Some(open) => {
                let woken = open.woken.map(|woken| self.looked.interval.end - woken);
                let stack = self.tables().stack(open.stack);
                self.at(thread, State::Runnable, woken, stack)
            }
            None => {
                // It is on a CPU or wants one: the time it ran for says which. Or it waits, and there was no
                // time to read its stack.
                let state = if times.blocked > Nanos::ZERO {
                    State::Unknown
                } else if times.runnable > times.running {
                    State::Runnable
                } else {
                    State::Running
                };
                let stack = self.sampled.get(&thread).map(|sum| sum.stack);
                let stack = stack.and_then(|id| self.tables().stack(id));
                let mut row = self.at(thread, state, None, stack);
                if stack.is_none() {
                    self.place(&mut row, self.waited.get(&thread).map(|sum| sum.stack));
                }
                row
            }
        }
    }

    fn waiting(&self, open: &OpenWait, causes: &mut CauseClassifier) -> Row {
        let end = self.looked.interval.end;
        let stack = self.tables().stack(open.stack);
        let state = stack.map_or(State::Unknown, |stack| stack.class.state);
        let asleep = self.looked.asleep.get(&open.thread).copied();
        let since = (end - open.since).max(asleep.unwrap_or_default());
        let is_known = open.before_recording || asleep.is_some();
        let mut row = self.at(open.thread, state, is_known.then_some(since), stack);
        let began_for = object(self.tables(), open.began_for);
        let found = open.object.as_ref();
        let told = &mut row.told;
        told.at_least = true;
        told.unmoved = open.before_recording;
        told.task_id = open.task_id;
        told.object = found
            .or_else(|| began_for.map(|known| &known.object))
            .cloned();
        told.holder.clone_from(&open.holder);
        let waiters = found.and_then(|object| self.waiters.get(&(open.thread.process, object)));
        told.waiters = waiters.copied().unwrap_or_default();
        if let Some(stack) = stack {
            let has_cause = !matches!(state, State::Idle | State::Stopped);
            let cause = has_cause.then(|| cause_of(causes, stack).cause);
            let cause = cause.map(|cause| by_object(cause, found));
            told.cause = cause.map(|cause| by_holder(cause, open.holder.as_ref()));
            let known = told.cause.unwrap_or(Cause::Other);
            told.holder = told_holder(open.holder.as_ref(), known);
            let telling = found.filter(|object| object.kind != ObjectKind::Timer);
            let found = telling.map(|object| WaitObject {
                object: object.clone(),
                fd: descriptor(stack),
                many: 1,
            });
            told.call = call::call(stack, found.as_ref().or(began_for));
        }
        if state == State::Blocked {
            row.told.queued = self.looked.queued.get(&open.thread).copied();
        }
        row
    }

    /// A thread in a state, with what its stack says.
    fn at(
        &self,
        thread: ThreadId,
        state: State,
        since: Option<Nanos>,
        stack: Option<&Stack>,
    ) -> Row {
        let place = stack.filter(|stack| !stack.frames.is_empty()).map(location);
        let wait = place.as_ref().map(|place| place.wait.clone());
        let (function, file, line) = place.map_or((None, None, None), |place| {
            (Some(place.function), place.file, place.line)
        });
        let process = self.tables().process(thread.process);
        let told = DumpThread {
            tid: thread.tid,
            pid: process.map_or(Pid(0), |process| process.pid),
            name: self.tables().thread_name(thread).to_owned(),
            role: stack.map_or(Role::None, |stack| stack.class.role),
            runtime: None,
            state,
            since_ns: since,
            at_least: false,
            unmoved: false,
            stopped_by: stack.and_then(|stack| stack.stopped_by),
            function,
            file,
            line,
            wait,
            task: stack.and_then(task),
            task_id: None,
            cause: None,
            call: String::new(),
            object: None,
            holder: None,
            waiters: 0,
            waits_for: Vec::new(),
            queued: None,
            stack: stack.map(whole_stack).unwrap_or_default(),
            truncated: stack.and_then(|stack| stack.truncated),
        };
        Row {
            thread,
            told,
            handle: stack.and_then(|stack| stack.runtime),
        }
    }

    /// Says of a thread whose stack is not known what it was when it waited.
    fn place(&self, row: &mut Row, waited: Option<StackId>) {
        if let Some(stack) = waited.and_then(|id| self.tables().stack(id)) {
            row.told.role = stack.class.role;
            row.handle = stack.runtime;
        }
    }
}

/// The descriptor that a system call was given, where it is one of those.
fn descriptor(stack: &Stack) -> Option<u32> {
    let is_given = subject(stack.syscall?) == Subject::Descriptor;
    let fd = stack.args.filter(|_| is_given)?.first().copied()?;
    u32::try_from(fd).ok()
}

/// Rows by thread.
pub(super) fn by_thread(rows: &[Row]) -> BTreeMap<ThreadId, &Row> {
    rows.iter().map(|row| (row.thread, row)).collect()
}
