//! Waits that had not ended when the recording did.

use super::call::call;
use super::causes::{Causes, by_holder};
use super::location::location;
use super::stack_facts::{class_of, has_site, object, whole_stack};
use super::whole::Whole;
use crate::cause::Cause;
use crate::recording::{Holder, Object, ObjectKind, OpenWait};
use crate::report::OpenWaitReport;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

/// The open waits that have a site, longest first, and those of other threads that hold what such a one waits
/// for, and wait for a thread themselves. One that was woken waits for a CPU only.
pub(super) fn open_waits(whole: &Whole<'_>, causes: &Causes) -> Vec<OpenWaitReport> {
    let holder = |open: &OpenWait| match &open.holder {
        Some(Holder::Thread { tid, .. }) => Some((open.thread.process, *tid)),
        _ => None,
    };
    let holders: HashSet<_> = whole.still_waiting().filter_map(holder).collect();
    // Such a thread may be in a circle.
    let holds_up = |open: &OpenWait| {
        let own = (open.thread.process, open.thread.tid);
        holder(open).is_some() && holders.contains(&own)
    };
    let open = whole.still_waiting();
    let mut waits: Vec<OpenWaitReport> = open
        .filter(|open| has_site(class_of(whole.tables, open.stack).0) || holds_up(open))
        .map(|open| open_wait(whole, causes, open))
        .collect();
    waits.sort_by_key(|wait| (Reverse(wait.since_ns), wait.tid));
    waits
}

fn open_wait(whole: &Whole<'_>, causes: &Causes, open: &OpenWait) -> OpenWaitReport {
    let stack = whole.tables.stack(open.stack);
    let began_for = object(whole.tables, open.began_for);
    let cause = causes.get(open.stack).map(|finding| finding.cause);
    let cause = cause.map(|cause| by_holder(cause, open.holder.as_ref()));
    // What /proc tells at the end is fresher, but it does not tell of everything.
    let object = open.object.as_ref();
    let object = object.or_else(|| began_for.map(|known| &known.object));
    OpenWaitReport {
        tid: open.thread.tid,
        pid: whole.pid(open.thread.process),
        name: whole.tables.thread_name(open.thread).to_owned(),
        function: stack.map_or_else(|| Arc::from("[no stack]"), |s| location(s).function),
        state: class_of(whole.tables, open.stack).0,
        cause: cause.unwrap_or(Cause::Other),
        call: stack.map_or_else(String::new, |stack| call(stack, began_for)),
        since_ns: whole.end - open.since,
        before_recording: open.before_recording,
        object: object.cloned(),
        holder: told_holder(open.holder.as_ref(), cause.unwrap_or(Cause::Other)),
        waiters: waiters(whole, open),
        task_id: open.task_id,
        stack: stack.map(whole_stack).unwrap_or_default(),
    }
}

/// Who holds what a wait is for. That it is not known says nothing where nobody can hold it, as with a
/// message or a future.
pub(super) fn told_holder(holder: Option<&Holder>, cause: Cause) -> Option<Holder> {
    let is_nobodys = matches!(
        cause,
        Cause::Condvar
            | Cause::Futex
            | Cause::Channel
            | Cause::NestedBlockOn
            | Cause::ThreadJoin
            | Cause::Sleep
    );
    let is_unknown = |holder: &&Holder| matches!(holder, Holder::Unknown { .. });
    holder
        .filter(|holder| !(is_nobodys && is_unknown(holder)))
        .cloned()
}

/// How many threads of the process wait for the object of `open`.
fn waiters(whole: &Whole<'_>, open: &OpenWait) -> u32 {
    // Two sleeps are two things.
    let is_one_thing =
        |object: &&Object| !matches!(object.kind, ObjectKind::Timer | ObjectKind::Poll);
    let Some(object) = open.object.as_ref().filter(is_one_thing) else {
        return 0;
    };
    let same = |other: &&OpenWait| {
        other.thread.process == open.thread.process && other.object.as_ref() == Some(object)
    };
    let count = whole.still_waiting().filter(same).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
