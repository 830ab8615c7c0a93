//! Time inside system calls: threads that were on a CPU all the while, as in a read of what is in
//! the page cache. It is a part of the time in state `running`, and of no wait.

use super::call::call;
use super::causes::Findings;
use super::cpu::{entry, part};
use super::location::{Location, location, task};
use super::role_times::{Class, verdict_of};
use super::runtimes::Runtimes;
use super::sites::{MAX_OBJECTS, whole_stack};
use crate::cause::{ADVICE, Advice, Cause};
use crate::recording::{Object, ObjectId, ObjectKind, Recording, StackEntry, StackId, WaitObject};
use crate::report::{CallObject, CallSite, CpuPart};
use crate::units::Nanos;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    part: CpuPart,
    runtime: Option<String>,
    location: Location,
}

#[derive(Default)]
struct Gathered {
    calls: u64,
    total: Nanos,
    wall: Nanos,
    max: Nanos,
    /// By stack and object: calls and time.
    of: BTreeMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
}

/// All sites of long system calls, most time first; those in polls before the others.
pub(super) fn call_sites(
    recording: &Recording,
    runtimes: &Runtimes,
    findings: &Findings,
) -> Vec<CallSite> {
    let mut sites: HashMap<Key, Gathered> = HashMap::new();
    for total in &recording.calls {
        let Some(stack) = entry(recording, total.stack) else {
            continue;
        };
        let (state, role) = verdict_of(recording, total.stack);
        let runtime = runtimes.of_wait(total.tid, Class::of(state, role));
        let key = Key {
            part: part(state, role),
            runtime: runtime.map(str::to_owned),
            location: location(stack),
        };
        let site = sites.entry(key).or_default();
        site.calls = site.calls.saturating_add(total.calls);
        site.total += total.on_cpu;
        site.wall += total.wall;
        site.max = site.max.max(total.max);
        let of = site.of.entry((total.stack, total.object)).or_default();
        of.0 = of.0.saturating_add(total.calls);
        of.1 += total.on_cpu;
    }
    let mut sites: Vec<CallSite> = sites
        .into_iter()
        .map(|(key, gathered)| site(recording, findings, key, &gathered))
        .collect();
    sites.sort_by(order);
    sites
}

/// By part, and in each by time, most first; then by whatever makes it a total order.
pub(super) fn order(a: &CallSite, b: &CallSite) -> Ordering {
    let order = |site: &CallSite| (site.part, Reverse(site.total_ns), site.line, site.pid);
    order(a)
        .cmp(&order(b))
        .then_with(|| a.function.cmp(&b.function))
        .then_with(|| a.file.cmp(&b.file))
        .then_with(|| a.wait.cmp(&b.wait))
        .then_with(|| a.runtime.cmp(&b.runtime))
}

fn site(recording: &Recording, findings: &Findings, key: Key, gathered: &Gathered) -> CallSite {
    let mut calls: Vec<_> = gathered.of.iter().collect();
    calls.sort_by_key(|(of, (_, time))| (Reverse(*time), **of));
    let mut causes: BTreeMap<Cause, Nanos> = BTreeMap::new();
    let mut tasks: BTreeMap<Arc<str>, Nanos> = BTreeMap::new();
    let mut texts: BTreeMap<String, Nanos> = BTreeMap::new();
    let mut evidence: Vec<String> = Vec::new();
    let mut told = |rule: &str| {
        if !evidence.iter().any(|known| known == rule) {
            evidence.push(rule.to_owned());
        }
    };
    for ((id, object_id), (_, time)) in &calls {
        let Some(stack) = entry(recording, *id) else {
            continue;
        };
        told(stack.verdict.rule.0);
        let object = object(recording, *object_id);
        let (cause, rule) = cause(findings, *id, object);
        told(rule);
        *causes.entry(cause).or_default() += *time;
        *texts.entry(call(stack, object)).or_default() += *time;
        if let Some(task) = task(stack) {
            *tasks.entry(task).or_default() += *time;
        }
    }
    let cause = most(causes).unwrap_or(Cause::Other);
    let advice = calls
        .iter()
        .filter_map(|((id, _), _)| findings.get(*id))
        .find(|finding| finding.cause == cause)
        .and_then(|finding| finding.advice)
        .or_else(|| general_advice(cause))
        // What is said of memory is about waits for it.
        .filter(|_| key.part == CpuPart::Poll && cause != Cause::Memory)
        .map(|advice| advice.suggestion);
    let worst: Option<&StackEntry> = calls.first().and_then(|((id, _), _)| entry(recording, *id));
    let (objects, more_objects) = objects(recording, gathered);
    CallSite {
        function: key.location.function,
        file: key.location.file,
        line: key.location.line,
        task: most(tasks),
        pid: recording.target.pid,
        runtime: key.runtime,
        part: key.part,
        wait: key.location.wait.to_string(),
        cause,
        call: most(texts).unwrap_or_default(),
        objects,
        more_objects,
        advice,
        evidence,
        calls: gathered.calls,
        total_ns: gathered.total,
        max_ns: gathered.max,
        wall_ns: gathered.wall,
        stack: worst.map(whole_stack).unwrap_or_default(),
        truncated: worst.and_then(|stack| stack.truncated),
    }
}

/// The key with the most time; of equals the first.
fn most<K: Ord>(sums: BTreeMap<K, Nanos>) -> Option<K> {
    sums.into_iter()
        .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
        .map(|(key, _)| key)
}

/// What is said of a cause where the function called tells nothing more.
fn general_advice(cause: Cause) -> Option<&'static Advice> {
    ADVICE
        .iter()
        .find(|line| line.cause == cause && line.called.is_empty() && line.rules.is_empty())
}

/// What the rules say of a call; where they say nothing, its object does. (Of a wait the kernel's
/// own stack tells; a call that has returned has none.)
fn cause(findings: &Findings, id: StackId, object: Option<&WaitObject>) -> (Cause, &'static str) {
    let finding = findings.get(id);
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

fn object(recording: &Recording, id: Option<ObjectId>) -> Option<&WaitObject> {
    recording.objects.get(usize::try_from(id?.0).ok()?)
}

/// The objects with the most time, and how many more there are.
fn objects(recording: &Recording, gathered: &Gathered) -> (Vec<CallObject>, u64) {
    let mut sums: HashMap<&Object, (u64, Nanos)> = HashMap::new();
    for ((_, id), (calls, time)) in &gathered.of {
        if let Some(object) = object(recording, *id) {
            let sum = sums.entry(&object.object).or_default();
            sum.0 = sum.0.saturating_add(*calls);
            sum.1 += *time;
        }
    }
    let mut all: Vec<CallObject> = sums
        .into_iter()
        .map(|(object, (calls, total_ns))| CallObject {
            kind: object.kind,
            name: object.name.clone(),
            calls,
            total_ns,
        })
        .collect();
    all.sort_by(|a, b| {
        b.total_ns
            .cmp(&a.total_ns)
            .then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name)))
    });
    let more = all.len().saturating_sub(MAX_OBJECTS) as u64;
    all.truncate(MAX_OBJECTS);
    (all, more)
}
