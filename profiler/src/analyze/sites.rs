//! Sites: where in the code threads waited.

use super::call::{call, fitting};
use super::causes::{CauseSums, Causes};
use super::harms::Harms;
use super::location::task;
use super::object_groups::{MAX_OBJECTS, groups, shorten, sum_objects};
use super::quantile::Distribution;
use super::runtimes::{RuntimeIndex, Runtimes};
use super::site_key::SiteKey;
use super::stack_facts::{WaitRole, class_of, has_site, most, object, whole_stack};
use super::totals::WaitTimes;
use super::wakers::Wakers;
use super::whole::Whole;
use crate::cause::{Cause, Suggestion};
use crate::recording::{ObjectId, Stack, StackId};
use crate::report::{
    CauseTotal, ObjectTotal, QueuedTasks, RuntimeShare, Site, TASK_IDS, TaskIdTotal, TaskTotal,
};
use crate::runtime::State;
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Default)]
struct SiteWaits {
    times: WaitTimes,
    /// By runtime.
    runtimes: BTreeMap<RuntimeIndex, WaitTimes>,
    durations: Distribution,
    /// Waits and time.
    stacks: BTreeMap<StackId, (u64, Nanos)>,
    /// By stack and object, none being waits whose object is not known: waits and time.
    objects: BTreeMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
    wakers: Wakers,
    queued: QueuedTasks,
    task_ids: HashMap<u64, (u64, Nanos)>,
}

impl SiteWaits {
    fn add(&mut self, stack: StackId, times: WaitTimes) {
        self.times.add(times);
        let sum = self.stacks.entry(stack).or_default();
        sum.0 = sum.0.saturating_add(times.waits);
        sum.1 += times.blocked;
    }

    fn add_object(&mut self, key: (StackId, Option<ObjectId>), waits: u64, time: Nanos) {
        let sum = self.objects.entry(key).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += time;
    }
}

/// The sites of all stacks, being filled.
struct Sites {
    sites: Vec<(SiteKey, SiteWaits)>,
    by_stack: HashMap<StackId, usize>,
}

impl Sites {
    fn get(&mut self, stack: StackId) -> Option<&mut SiteWaits> {
        let index = self.by_stack.get(&stack)?;
        self.sites.get_mut(*index).map(|(_, waits)| waits)
    }
}

/// All sites: by state, and each state's by harm and then by time, most first.
pub(super) fn sites(
    whole: &Whole<'_>,
    runtimes: &Runtimes,
    causes: &Causes,
    harms: &Harms,
) -> Vec<Site> {
    let mut all = sites_of_stacks(whole);
    for (&id, stack) in whole.totals.stacks.iter() {
        let Some(site) = all.get(id) else { continue };
        site.add(id, whole.finished(id));
        site.durations.add(&stack.durations);
        site.wakers.add_others(stack.other_wakers);
        for (task, waits, time) in stack.tasks.iter() {
            let sum = site.task_ids.entry(task).or_default();
            sum.0 += waits;
            sum.1 += time;
        }
    }
    for (key, waits, time) in whole.objects() {
        if let Some(site) = all.get(key.0) {
            site.add_object(key, waits, time);
        }
    }
    for (open, times) in whole.open() {
        if let Some(site) = all.get(open.stack) {
            site.add(open.stack, times);
            site.durations.add_open(times.blocked);
            site.add_object((open.stack, open.began_for), 1, times.blocked);
        }
    }
    for (thread, stack, times) in whole.waits() {
        let role = WaitRole::of(whole.tables, stack);
        let runtime = runtimes.of_wait(thread, role);
        if let (Some(site), Some(runtime)) = (all.get(stack), runtime) {
            site.runtimes.entry(runtime).or_default().add(times);
        }
    }
    for (key, (waits, _)) in whole.totals.wakers.iter() {
        if let (Some(site), Some(waker)) = (all.get(key.stack), whole.tables.waker(key.waker)) {
            site.wakers.add(whole, waker, key.waker_stack, *waits);
        }
    }
    for ((_, stack), polls) in &whole.totals.polls {
        if let Some(site) = all.get(*stack) {
            site.queued.merge(&polls.queued);
        }
    }
    let mut sites: Vec<Site> = all
        .sites
        .into_iter()
        .filter(|(_, site)| site.times.waits > 0)
        .map(|(key, waits)| {
            let harm = harms.of_site(&key);
            Site {
                harm_ns: harm.iter().map(|harm| harm.starved_ns).sum(),
                harm,
                blame: harms.blame(&key),
                ..site(whole, causes, key, waits)
            }
        })
        .collect();
    sites.sort_by(|a, b| order(a).cmp(&order(b)));
    sites
}

/// By state, and in each by harm and then by time, most first; then by whatever makes it a total order.
fn order(site: &Site) -> impl Ord {
    (
        site.state,
        Reverse(site.harm_ns),
        Reverse(site.total_ns),
        site.line,
        site.role,
        &site.function,
        &site.file,
        &site.wait,
        site.pid,
    )
}

/// The sites of the stacks with which threads waited in the range, empty.
fn sites_of_stacks(whole: &Whole<'_>) -> Sites {
    let mut indices: HashMap<SiteKey, usize> = HashMap::new();
    let mut all = Sites {
        sites: Vec::new(),
        by_stack: HashMap::new(),
    };
    let finished = whole.totals.stacks.keys().copied();
    for id in finished.chain(whole.open_waits.iter().map(|open| open.stack)) {
        let (state, _) = class_of(whole.tables, id);
        let Some(key) = SiteKey::of(whole.tables, id).filter(|_| has_site(state)) else {
            continue;
        };
        let index = *indices.entry(key.clone()).or_insert_with(|| {
            all.sites.push((key, SiteWaits::default()));
            all.sites.len() - 1
        });
        all.by_stack.insert(id, index);
    }
    all
}

fn site(whole: &Whole<'_>, causes: &Causes, key: SiteKey, waits: SiteWaits) -> Site {
    let parts = waits.objects.iter().map(|((_, id), sum)| (*id, *sum));
    let mut objects = sum_objects(whole.tables, parts);
    let mut object_groups = groups(&objects);
    let more_objects = shorten(&mut objects, MAX_OBJECTS, |object| object.many);
    let more_groups = shorten(&mut object_groups, MAX_OBJECTS, |_| 1);
    let stacks = waits.stacks.into_iter();
    let mut stacks: Vec<_> = stacks
        .map(|(id, (waits, time))| (Reverse(time), id, waits))
        .collect();
    stacks.sort_unstable();
    let stack = |id: StackId| whole.tables.stack(id);
    let (all_causes, evidence) = causes_of(whole, causes, &stacks);
    let cause = all_causes.first().map_or(Cause::Other, |sum| sum.cause);
    let call = longest_call(whole, causes, &waits.objects, cause);
    // Elsewhere the wait is allowed, or not the application's.
    let advice = (key.state == State::Blocked).then(|| advice(causes, &stacks, cause));
    let with_stack = stacks
        .iter()
        .filter_map(|&(time, id, _)| Some((stack(id)?, time.0)));
    let tasks = tasks(with_stack);
    let worst = stacks.first().and_then(|&(_, id, _)| stack(id));
    let [p50, p99] = waits.durations.quantiles([0.50, 0.99], waits.times.max);
    let objects = objects.into_iter().map(|object| ObjectTotal {
        kind: object.kind,
        name: object.name,
        waits: object.number,
        total_ns: object.total,
    });
    let wakers = waits.wakers.totals(&whole.tables.processes);
    Site {
        // What a sample stands for may be a little more than what it is of.
        waits_with_waker: u64::min(
            wakers.iter().map(|waker| waker.waits).sum(),
            waits.times.waits,
        ),
        function: key.location.function,
        file: key.location.file,
        line: key.location.line,
        pid: whole.pid(key.process),
        inlined_into: key.location.host.is_some(),
        task: tasks.first().map(|task| task.function.clone()),
        tasks,
        task_ids: task_ids(waits.task_ids),
        state: key.state,
        role: key.role,
        runtimes: shares(waits.runtimes),
        wait: fitting(&key.location.wait, &call),
        cause,
        causes: all_causes,
        call,
        objects: objects.collect(),
        more_objects,
        object_groups,
        more_groups,
        advice: advice.flatten(),
        evidence,
        waits: waits.times.waits,
        total_ns: waits.times.blocked,
        max_ns: waits.times.max,
        p50_ns: p50,
        p99_ns: p99,
        runqueue_ns: waits.times.runqueue,
        wakers,
        blame: None,
        queued: (waits.queued.polls > 0).then_some(waits.queued),
        harm: Vec::new(),
        harm_ns: Nanos::ZERO,
        stack: worst.map(whole_stack).unwrap_or_default(),
        truncated: worst.and_then(|stack| stack.truncated),
        pointer_steps: worst.map_or(0, |stack| stack.pointer_steps),
    }
}

fn shares(runtimes: BTreeMap<RuntimeIndex, WaitTimes>) -> Vec<RuntimeShare> {
    let mut shares: Vec<RuntimeShare> = runtimes
        .into_iter()
        .map(|(runtime, times)| RuntimeShare {
            runtime: runtime.id(),
            waits: times.waits,
            total_ns: times.blocked,
            max_ns: times.max,
        })
        .collect();
    shares.sort_by_key(|share| Reverse(share.total_ns));
    shares
}

/// Stacks of a site with their waits, the one with the most time first.
type Stacks = [(Reverse<Nanos>, StackId, u64)];

/// The causes, most time first, and the rules that classified the stacks and found any of the causes.
fn causes_of(
    whole: &Whole<'_>,
    causes: &Causes,
    stacks: &Stacks,
) -> (Vec<CauseTotal>, Vec<String>) {
    let mut rules: Vec<String> = Vec::new();
    let mut add = |rule: &str| {
        if !rules.iter().any(|known| known == rule) {
            rules.push(rule.to_owned());
        }
    };
    let classes = stacks
        .iter()
        .filter_map(|(_, id, _)| whole.tables.stack(*id));
    classes.for_each(|stack| add(stack.class.rule.0));
    let mut by_cause: Vec<String> = Vec::new();
    let mut sums = CauseSums::default();
    for (time, id, waits) in stacks {
        let Some(finding) = causes.get(*id) else {
            continue;
        };
        sums.add(finding.cause, *waits, time.0);
        if !by_cause.iter().any(|known| known == finding.rule) {
            by_cause.push(finding.rule.to_owned());
        }
    }
    rules.extend(by_cause);
    (sums.totals(), rules)
}

/// What to do instead: what is said of the longest stack with `cause`.
fn advice(causes: &Causes, stacks: &Stacks, cause: Cause) -> Option<Suggestion> {
    let findings = stacks.iter().filter_map(|(_, id, _)| causes.get(*id));
    let finding = findings
        .into_iter()
        .find(|finding| finding.cause == cause)?;
    finding.advice.map(|advice| advice.suggestion)
}

/// The call with the most time; of waits for standard output a write, if there was one.
fn longest_call(
    whole: &Whole<'_>,
    causes: &Causes,
    objects: &BTreeMap<(StackId, Option<ObjectId>), (u64, Nanos)>,
    cause: Cause,
) -> String {
    let mut sums: BTreeMap<String, Nanos> = BTreeMap::new();
    // Who waits for the lock of standard output waits for somebody's write: that says more.
    let is_write = |stack: StackId| {
        let finding = causes.get(stack);
        finding.is_some_and(|finding| finding.rule != "stdio-lock")
    };
    let writes = objects.keys().any(|(stack, _)| is_write(*stack));
    let only_writes = cause == Cause::Stdio && writes;
    // The longest alone decide; the others would only cost their texts.
    let mut longest: Vec<_> = objects
        .iter()
        .filter(|((stack, _), _)| !only_writes || is_write(*stack))
        .collect();
    longest.sort_by_key(|(key, (_, time))| (Reverse(*time), **key));
    for ((stack, id), (_, time)) in longest.into_iter().take(4 * MAX_OBJECTS) {
        if let Some(stack) = whole.tables.stack(*stack) {
            let call = call(stack, object(whole.tables, *id));
            *sums.entry(call).or_default() += *time;
        }
    }
    most(sums).unwrap_or_default()
}

fn tasks<'a>(stacks: impl Iterator<Item = (&'a Stack, Nanos)>) -> Vec<TaskTotal> {
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

/// The tasks that waited the longest.
fn task_ids(sums: HashMap<u64, (u64, Nanos)>) -> Vec<TaskIdTotal> {
    let mut task_ids: Vec<TaskIdTotal> = sums
        .into_iter()
        .map(|(id, (waits, total_ns))| TaskIdTotal {
            id,
            waits,
            total_ns,
        })
        .collect();
    task_ids.sort_by_key(|task| (Reverse(task.total_ns), task.id));
    task_ids.truncate(TASK_IDS);
    task_ids
}
