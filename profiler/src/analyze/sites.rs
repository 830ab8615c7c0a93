//! Sites: where in the code threads waited, and who ended the waits.

use super::call::call;
use super::causes::Findings;
use super::location::{Location, location, task, waker_location};
use super::object_groups::groups;
use super::quantile::Durations;
use super::role_times::verdict_of;
use crate::cause::Cause;
use crate::recording::{
    Object, ObjectId, OpenWait, Recording, StackEntry, StackId, WaitObject, Waker,
};
use crate::report::{
    ObjectTotal, OpenWaitReport, Site, TASK_IDS, TaskIdTotal, TaskTotal, WakerTotal,
};
use crate::runtime::{Role, State};
use crate::symbolize::Frame;
use crate::units::{Nanos, Pid, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Objects of one site that a report names.
pub(super) const MAX_OBJECTS: usize = 16;

/// Whether waits in `state` have sites. A parked thread, or one that is not tokio's, waits
/// where it should; their stacks are in the flamegraph if somebody asks for them.
pub(super) const fn has_site(state: State) -> bool {
    match state {
        State::Blocked | State::Runtime | State::HandedOff | State::Pool | State::Unknown => true,
        State::Running | State::Runnable | State::Idle | State::Other => false,
    }
}

/// Kernel frames before user frames, leaf first.
pub(super) fn whole_stack(stack: &StackEntry) -> Vec<Frame> {
    stack.kernel.iter().chain(&stack.frames).cloned().collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    state: State,
    role: Role,
    location: Location,
}

#[derive(Default)]
struct Gathered {
    waits: u64,
    total: Nanos,
    max: Nanos,
    runqueue: Nanos,
    durations: Durations,
    stacks: BTreeMap<StackId, Nanos>,
    /// By stack and object, none being waits whose object is not known: waits and time.
    objects: BTreeMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
    wakers: HashMap<WakerKey, u64>,
    task_ids: HashMap<u64, (u64, Nanos)>,
}

impl Gathered {
    fn add_object(&mut self, stack: StackId, object: Option<ObjectId>, waits: u64, time: Nanos) {
        let sum = self.objects.entry((stack, object)).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += time;
    }
}

/// What makes wakers the same to a reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct WakerKey {
    pid: Pid,
    thread: String,
    function: Option<Arc<str>>,
    file: Option<Arc<str>>,
    line: Option<u32>,
    call: Option<Arc<str>>,
}

impl WakerKey {
    fn of(recording: &Recording, waker: &Waker) -> WakerKey {
        let location = waker
            .stack
            .and_then(|id| recording.stacks.get(usize::try_from(id.0).ok()?))
            .filter(|stack| !stack.frames.is_empty())
            .map(waker_location);
        let (function, file, line, call) = match location {
            Some(location) => (
                Some(location.function),
                location.file,
                location.line,
                Some(location.wait),
            ),
            None => (None, None, None, None),
        };
        WakerKey {
            pid: waker.pid,
            thread: waker.name.to_string(),
            function,
            file,
            line,
            call,
        }
    }
}

/// All sites: by state, and each state's by time, longest first.
pub(super) fn sites(recording: &Recording, findings: &Findings) -> Vec<Site> {
    let mut keys: Vec<Key> = Vec::new();
    let by_stack = sites_of_stacks(recording, &mut keys);
    let site_of = |id: StackId| -> Option<usize> {
        usize::try_from(id.0)
            .ok()
            .and_then(|index| by_stack.get(index).copied())
            .flatten()
    };
    let mut gathered: Vec<Gathered> = keys.iter().map(|_| Gathered::default()).collect();

    for total in &recording.totals {
        let Some(site) = site_of(total.stack).and_then(|site| gathered.get_mut(site)) else {
            continue;
        };
        site.waits = site.waits.saturating_add(total.waits);
        site.total += total.blocked;
        site.runqueue += total.runqueue;
        site.max = site.max.max(total.max);
        site.durations.add_histogram(&total.histogram);
        *site.stacks.entry(total.stack).or_default() += total.blocked;
        site.add_object(total.stack, total.object, total.waits, total.blocked);
    }
    for open in &recording.open_waits {
        let Some(site) = site_of(open.stack).and_then(|site| gathered.get_mut(site)) else {
            continue;
        };
        let lasted = recording.end - open.since;
        site.waits = site.waits.saturating_add(1);
        site.total += lasted;
        site.max = site.max.max(lasted);
        site.durations.add_open(lasted);
        *site.stacks.entry(open.stack).or_default() += lasted;
        site.add_object(open.stack, open.began_for, 1, lasted);
    }
    for wait in &recording.waits {
        let Some(site) = site_of(wait.stack).and_then(|site| gathered.get_mut(site)) else {
            continue;
        };
        site.durations
            .add_exact(wait.wakeup.min(wait.end) - wait.start);
        if let Some(waker) = &wait.waker {
            let key = WakerKey::of(recording, waker);
            *site.wakers.entry(key).or_default() += 1;
        }
        if let Some(id) = wait.task_id {
            let (waits, total) = site.task_ids.entry(id).or_default();
            *waits += 1;
            *total += wait.wakeup.min(wait.end) - wait.start;
        }
    }

    let mut sites: Vec<Site> = keys
        .into_iter()
        .zip(gathered)
        .filter(|(_, gathered)| gathered.waits > 0)
        .map(|(key, gathered)| site(recording, findings, key, gathered))
        .collect();
    sites.sort_by(order);
    sites
}

/// By state, and in each by time, longest first; then by whatever makes it a total order.
pub(super) fn order(a: &Site, b: &Site) -> std::cmp::Ordering {
    let order = |site: &Site| (site.state, Reverse(site.total_ns), site.line, site.role);
    order(a)
        .cmp(&order(b))
        .then_with(|| a.function.cmp(&b.function))
        .then_with(|| a.file.cmp(&b.file))
        .then_with(|| a.wait.cmp(&b.wait))
        .then_with(|| a.pid.cmp(&b.pid))
}

/// For each stack the index of its site in `keys`, which this fills.
fn sites_of_stacks(recording: &Recording, keys: &mut Vec<Key>) -> Vec<Option<usize>> {
    let mut indices: HashMap<Key, usize> = HashMap::new();
    recording
        .stacks
        .iter()
        .map(|stack| {
            has_site(stack.verdict.state).then(|| {
                let key = Key {
                    state: stack.verdict.state,
                    role: stack.verdict.role,
                    location: location(stack),
                };
                *indices.entry(key.clone()).or_insert_with(|| {
                    keys.push(key);
                    keys.len() - 1
                })
            })
        })
        .collect()
}

fn site(recording: &Recording, findings: &Findings, key: Key, gathered: Gathered) -> Site {
    let mut objects = objects(recording, &gathered);
    let mut object_groups = groups(&objects);
    let more_objects = shorten(&mut objects);
    let more_groups = shorten(&mut object_groups);
    let call = longest_call(recording, &gathered);
    let mut stacks: Vec<(Reverse<Nanos>, StackId)> = gathered
        .stacks
        .into_iter()
        .map(|(id, time)| (Reverse(time), id))
        .collect();
    stacks.sort_unstable();
    let entry = |id: StackId| {
        usize::try_from(id.0)
            .ok()
            .and_then(|i| recording.stacks.get(i))
    };
    let mut evidence: Vec<String> = Vec::new();
    for rule in stacks.iter().filter_map(|&(_, id)| entry(id)) {
        let rule = rule.verdict.rule.0;
        if !evidence.iter().any(|known| known == rule) {
            evidence.push(rule.to_owned());
        }
    }
    let (cause, by_cause) = causes(findings, &stacks);
    evidence.extend(by_cause);
    let advice = stacks
        .iter()
        .filter_map(|&(_, id)| findings.get(id))
        .find(|finding| finding.cause == cause)
        .and_then(|finding| finding.advice)
        // Elsewhere the wait is allowed, or not the application's.
        .filter(|_| key.state == State::Blocked)
        .map(|advice| advice.suggestion);
    let tasks = tasks(
        stacks
            .iter()
            .filter_map(|&(time, id)| Some((entry(id)?, time.0))),
    );
    let worst = stacks.first().and_then(|&(_, id)| entry(id));
    let mut wakers: Vec<(WakerKey, u64)> = gathered.wakers.into_iter().collect();
    wakers.sort_by(|(a, a_waits), (b, b_waits)| b_waits.cmp(a_waits).then_with(|| a.cmp(b)));
    let wakers = wakers
        .into_iter()
        .map(|(key, waits)| WakerTotal {
            thread: key.thread,
            pid: key.pid,
            function: key.function,
            file: key.file,
            line: key.line,
            call: key.call,
            waits,
        })
        .collect();
    let mut task_ids: Vec<TaskIdTotal> = gathered
        .task_ids
        .into_iter()
        .map(|(id, (waits, total_ns))| TaskIdTotal {
            id,
            waits,
            total_ns,
        })
        .collect();
    task_ids.sort_by_key(|task| (Reverse(task.total_ns), task.id));
    task_ids.truncate(TASK_IDS);
    let [p50, p99] = gathered.durations.quantiles([0.50, 0.99], gathered.max);
    Site {
        function: key.location.function,
        file: key.location.file,
        line: key.location.line,
        pid: recording.target.pid,
        inlined_into: key.location.host.is_some(),
        task: tasks.first().map(|task| task.function.clone()),
        tasks,
        task_ids,
        state: key.state,
        role: key.role,
        wait: key.location.wait.to_string(),
        cause,
        call,
        objects,
        more_objects,
        object_groups,
        more_groups,
        advice,
        evidence,
        waits: gathered.waits,
        total_ns: gathered.total,
        max_ns: gathered.max,
        p50_ns: p50,
        p99_ns: p99,
        runqueue_ns: gathered.runqueue,
        wakers,
        stack: worst.map(whole_stack).unwrap_or_default(),
        truncated: worst.and_then(|stack| stack.truncated),
    }
}

/// The cause with the most time, and the rules that found any of them; `stacks` are the longest
/// first.
fn causes(findings: &Findings, stacks: &[(Reverse<Nanos>, StackId)]) -> (Cause, Vec<String>) {
    let mut sums: BTreeMap<Cause, Nanos> = BTreeMap::new();
    let mut rules: Vec<String> = Vec::new();
    for (time, id) in stacks {
        let Some(finding) = findings.get(*id) else {
            continue;
        };
        *sums.entry(finding.cause).or_default() += time.0;
        if !rules.iter().any(|known| known == finding.rule) {
            rules.push(finding.rule.to_owned());
        }
    }
    let cause = sums
        .into_iter()
        .max_by_key(|(cause, time)| (*time, Reverse(*cause)))
        .map_or(Cause::Other, |(cause, _)| cause);
    (cause, rules)
}

fn object(recording: &Recording, id: Option<ObjectId>) -> Option<&WaitObject> {
    let index = usize::try_from(id?.0).ok()?;
    recording.objects.get(index)
}

/// The call with the most time.
fn longest_call(recording: &Recording, gathered: &Gathered) -> String {
    let mut sums: BTreeMap<String, Nanos> = BTreeMap::new();
    // The longest alone decide; the others would only cost their texts.
    let mut longest: Vec<_> = gathered.objects.iter().collect();
    longest.sort_by_key(|(key, (_, time))| (Reverse(*time), **key));
    for ((stack, id), (_, time)) in longest.into_iter().take(4 * MAX_OBJECTS) {
        let stack = usize::try_from(stack.0)
            .ok()
            .and_then(|index| recording.stacks.get(index));
        if let Some(stack) = stack {
            *sums.entry(call(stack, object(recording, *id))).or_default() += *time;
        }
    }
    sums.into_iter()
        .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
        .map_or_else(String::new, |(call, _)| call)
}

/// Leaves what a report names; how many more there are.
fn shorten<T>(all: &mut Vec<T>) -> u64 {
    let more = all.len().saturating_sub(MAX_OBJECTS) as u64;
    all.truncate(MAX_OBJECTS);
    more
}

/// The objects, the one with the most time first.
fn objects(recording: &Recording, gathered: &Gathered) -> Vec<ObjectTotal> {
    let mut sums: HashMap<&Object, (u64, Nanos)> = HashMap::new();
    for ((_, id), (waits, time)) in &gathered.objects {
        if let Some(object) = object(recording, *id) {
            let sum = sums.entry(&object.object).or_default();
            sum.0 = sum.0.saturating_add(*waits);
            sum.1 += *time;
        }
    }
    let mut all: Vec<ObjectTotal> = sums
        .into_iter()
        .map(|(object, (waits, total_ns))| ObjectTotal {
            kind: object.kind,
            name: object.name.clone(),
            waits,
            total_ns,
        })
        .collect();
    all.sort_by(|a, b| {
        b.total_ns
            .cmp(&a.total_ns)
            .then_with(|| a.kind.cmp(&b.kind))
            .then_with(|| a.name.cmp(&b.name))
    });
    all
}

fn tasks<'a>(stacks: impl Iterator<Item = (&'a StackEntry, Nanos)>) -> Vec<TaskTotal> {
    let mut sums: BTreeMap<Arc<str>, Nanos> = BTreeMap::new();
    for (stack, time) in stacks {
        if let Some(function) = task(stack) {
            *sums.entry(function).or_default() += time;
        }
    }
    let mut tasks: Vec<TaskTotal> = sums
        .into_iter()
        .map(|(function, total_ns)| TaskTotal { function, total_ns })
        .collect();
    // The sort is stable: of equals the first by name stays first.
    tasks.sort_by_key(|task| Reverse(task.total_ns));
    tasks
}

/// How many threads wait for the object of `open`.
fn waiters(recording: &Recording, open: &OpenWait) -> u32 {
    let Some(object) = &open.object else { return 0 };
    let same = |other: &&OpenWait| other.object.as_ref() == Some(object);
    let count = recording.open_waits.iter().filter(same).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The open waits that have a site, longest first.
pub(super) fn open_waits(recording: &Recording, findings: &Findings) -> Vec<OpenWaitReport> {
    let name_of = |tid: Tid| {
        recording
            .threads
            .iter()
            .find(|thread| thread.tid == tid)
            .map_or_else(String::new, |thread| thread.name.clone())
    };
    let mut waits: Vec<OpenWaitReport> = recording
        .open_waits
        .iter()
        .filter_map(|open| {
            let (state, _) = verdict_of(recording, open.stack);
            if !has_site(state) {
                return None;
            }
            let index = usize::try_from(open.stack.0).ok()?;
            let stack = recording.stacks.get(index);
            Some(OpenWaitReport {
                tid: open.tid,
                pid: recording.target.pid,
                name: name_of(open.tid),
                function: stack.map_or_else(|| Arc::from("[no stack]"), |s| location(s).function),
                state,
                cause: findings
                    .get(open.stack)
                    .map_or(Cause::Other, |finding| finding.cause),
                call: stack.map_or_else(String::new, |stack| {
                    call(stack, object(recording, open.began_for))
                }),
                since_ns: recording.end - open.since,
                before_recording: open.before_recording,
                // What /proc tells at the end is fresher, but it does not tell of everything.
                object: open.object.clone().or_else(|| {
                    object(recording, open.began_for).map(|known| known.object.clone())
                }),
                holder: open.holder.clone(),
                waiters: waiters(recording, open),
                task_id: open.task_id,
                stack: stack.map(whole_stack).unwrap_or_default(),
            })
        })
        .collect();
    waits.sort_by_key(open_order);
    waits
}

/// Longest first.
pub(super) fn open_order(wait: &OpenWaitReport) -> impl Ord + use<> {
    (Reverse(wait.since_ns), wait.tid)
}
