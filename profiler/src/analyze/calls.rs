//! Time inside system calls: threads that were on a CPU all the while, as in a read of what is in
//! the page cache. It is a part of the time in state `running`, and of no wait.

use super::call::call;
use super::causes::Causes;
use super::location::{Location, location, task};
use super::object_groups::{MAX_OBJECTS, ObjectSum, shorten, sum_objects};
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, class_of, most, object, part, whole_stack};
use super::whole::Whole;
use crate::cause::{ADVICE, Advice, Cause};
use crate::recording::{ObjectId, ObjectKind, ProcessId, StackId, WaitObject};
use crate::report::{CallObject, CallSite, CpuPart};
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    process: ProcessId,
    part: CpuPart,
    runtime: Option<RuntimeIndex>,
    location: Location,
}

#[derive(Default)]
struct SiteCalls {
    calls: u64,
    total: Nanos,
    wall: Nanos,
    max: Nanos,
    /// By stack and object: calls and time.
    of: BTreeMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
}

/// All sites of long system calls, most time first; those in polls before the others.
pub(super) fn call_sites(whole: &Whole<'_>, runtimes: &Runtimes, causes: &Causes) -> Vec<CallSite> {
    let mut sites: HashMap<Key, SiteCalls> = HashMap::new();
    for sum in whole.totals.calls.values() {
        let Some(stack) = whole.tables.stack(sum.stack) else {
            continue;
        };
        let (state, role) = class_of(whole.tables, sum.stack);
        let key = Key {
            process: sum.thread.process,
            part: part(state, role),
            runtime: runtimes.of_wait(sum.thread, WaitRole::new(state, role)),
            location: location(stack),
        };
        let site = sites.entry(key).or_default();
        site.calls = site.calls.saturating_add(sum.calls);
        site.total += sum.on_cpu;
        site.wall += sum.wall;
        site.max = site.max.max(sum.max);
        let of = site.of.entry((sum.stack, sum.object)).or_default();
        of.0 = of.0.saturating_add(sum.calls);
        of.1 += sum.on_cpu;
    }
    let mut sites: Vec<CallSite> = sites
        .into_iter()
        .map(|(key, calls)| site(whole, causes, key, &calls))
        .collect();
    sites.sort_by(|a, b| order(a).cmp(&order(b)));
    sites
}

/// By part, and in each by time, most first; then by whatever makes it a total order.
fn order(site: &CallSite) -> impl Ord {
    (
        site.part,
        Reverse(site.total_ns),
        site.line,
        site.pid,
        &site.function,
        &site.file,
        &site.wait,
        &site.runtime,
    )
}

/// What is said of the calls of a site.
#[derive(Default)]
struct Words {
    causes: BTreeMap<Cause, Nanos>,
    tasks: BTreeMap<Arc<str>, Nanos>,
    texts: BTreeMap<String, Nanos>,
    evidence: Vec<String>,
}

impl Words {
    fn of(
        whole: &Whole<'_>,
        causes: &Causes,
        calls: &[((StackId, Option<ObjectId>), Nanos)],
    ) -> Words {
        let mut words = Words::default();
        for &((id, object_id), time) in calls {
            let Some(stack) = whole.tables.stack(id) else {
                continue;
            };
            words.add_evidence(stack.class.rule.0);
            let object = object(whole.tables, object_id);
            let (cause, rule) = cause(causes, id, object);
            words.add_evidence(rule);
            *words.causes.entry(cause).or_default() += time;
            *words.texts.entry(call(stack, object)).or_default() += time;
            if let Some(task) = task(stack) {
                *words.tasks.entry(task).or_default() += time;
            }
        }
        words
    }

    fn add_evidence(&mut self, rule: &str) {
        if !self.evidence.iter().any(|known| known == rule) {
            self.evidence.push(rule.to_owned());
        }
    }
}

fn site(whole: &Whole<'_>, causes: &Causes, key: Key, site: &SiteCalls) -> CallSite {
    let mut calls: Vec<_> = site.of.iter().map(|(of, (_, time))| (*of, *time)).collect();
    calls.sort_by_key(|(of, time)| (Reverse(*time), *of));
    let words = Words::of(whole, causes, &calls);
    let cause = most(words.causes).unwrap_or(Cause::Other);
    let advice = calls
        .iter()
        .filter_map(|((id, _), _)| causes.get(*id))
        .find(|finding| finding.cause == cause)
        .and_then(|finding| finding.advice)
        .or_else(|| general_advice(cause))
        // What is said of memory is about waits for it.
        .filter(|_| key.part == CpuPart::Poll && cause != Cause::Memory)
        .map(|advice| advice.suggestion);
    let worst = calls
        .first()
        .and_then(|((id, _), _)| whole.tables.stack(*id));
    let (objects, more_objects) = objects(whole, site);
    CallSite {
        function: key.location.function,
        file: key.location.file,
        line: key.location.line,
        task: most(words.tasks),
        pid: whole.pid(key.process),
        runtime: key.runtime.map(RuntimeIndex::id),
        part: key.part,
        wait: key.location.wait.to_string(),
        cause,
        call: most(words.texts).unwrap_or_default(),
        objects,
        more_objects,
        advice,
        evidence: words.evidence,
        calls: site.calls,
        total_ns: site.total,
        max_ns: site.max,
        wall_ns: site.wall,
        stack: worst.map(whole_stack).unwrap_or_default(),
        truncated: worst.and_then(|stack| stack.truncated),
    }
}

/// What is said of a cause where the function called tells nothing more.
fn general_advice(cause: Cause) -> Option<&'static Advice> {
    ADVICE
        .iter()
        .find(|line| line.cause == cause && line.called.is_empty() && line.rules.is_empty())
}

/// What the rules say of a call; where they say nothing, its object does. (Of a wait the kernel's
/// own stack tells; a call that has returned has none.)
fn cause(causes: &Causes, id: StackId, object: Option<&WaitObject>) -> (Cause, &'static str) {
    let finding = causes.get(id);
    let (cause, rule) = finding.map_or((Cause::Other, "no-cause"), |f| (f.cause, f.rule));
    if cause != Cause::Other {
        return (cause, rule);
    }
    match object.map(|object| object.object.kind) {
        Some(ObjectKind::Path) => (Cause::FileIo, "object-is-file"),
        Some(ObjectKind::Socket) => (Cause::Network, "object-is-socket"),
        Some(ObjectKind::Pipe) => (Cause::Pipe, "object-is-pipe"),
        _ => (cause, rule),
    }
}

/// The objects with the most time, and how many more there are.
fn objects(whole: &Whole<'_>, site: &SiteCalls) -> (Vec<CallObject>, u64) {
    let calls = site.of.iter();
    let mut all = sum_objects(whole.tables, calls.map(|((_, id), sum)| (*id, *sum)));
    let more = shorten(&mut all, MAX_OBJECTS, |object| object.many);
    let named = all.into_iter().map(|object: ObjectSum| CallObject {
        kind: object.kind,
        name: object.name,
        calls: object.number,
        total_ns: object.total,
    });
    (named.collect(), more)
}
