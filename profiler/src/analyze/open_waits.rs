//! Waits that had not ended when the recording did.

use super::call::call;
use super::causes::{Causes, by_holder};
use super::location::location;
use super::stack_facts::{class_of, has_site, object, whole_stack};
use super::whole::Whole;
use crate::cause::Cause;
use crate::recording::{Holder, Object, ObjectKind, OpenWait, ProcessId};
use crate::report::OpenWaitReport;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
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
    let mut waiting: Waiting<'_> = HashMap::new();
    for thing in whole.still_waiting().filter_map(one_thing) {
        *waiting.entry(thing).or_default() += 1;
    }
    let open = whole.still_waiting();
    let mut waits: Vec<OpenWaitReport> = open
        .filter(|open| has_site(class_of(whole.tables, open.stack).0) || holds_up(open))
        .map(|open| open_wait(whole, causes, &waiting, open))
        .collect();
    waits.sort_by_key(|wait| (Reverse(wait.since_ns), wait.tid));
    waits
}

/// How many threads wait for each thing.
type Waiting<'a> = HashMap<(ProcessId, &'a Object), u32>;

/// What a thread waits for, if others may wait for the same: two sleeps are two things.
fn one_thing(open: &OpenWait) -> Option<(ProcessId, &Object)> {
    let object = open.object.as_ref()?;
    let is_one = !matches!(object.kind, ObjectKind::Timer | ObjectKind::Poll);
    is_one.then_some((open.thread.process, object))
}

fn open_wait(
    whole: &Whole<'_>,
    causes: &Causes,
    waiting: &Waiting<'_>,
    open: &OpenWait,
) -> OpenWaitReport {
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
        waiters: one_thing(open).map_or(0, |thing| waiting.get(&thing).copied().unwrap_or(0)),
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
