//! Threads on a CPU: where they were, and the polls that took too long.

use super::place::{Place, place, task};
use super::recording::{LongPoll, PollEvidence, Recording, StackEntry, StackId};
use super::report::{CpuPart, CpuSite, LongestPoll, LongPollSite, StackTotal};
use super::runtimes::Runtimes;
use super::sites::whole_stack;
use super::tally::{Class, verdict_of};
use crate::tokio_rt::{Role, State};
use crate::units::{Nanos, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

fn entry(recording: &Recording, id: StackId) -> Option<&StackEntry> {
    recording.stacks.get(usize::try_from(id.0).ok()?)
}

/// What a thread does that is on a CPU with this stack.
fn part(state: State, role: Role) -> CpuPart {
    match (state, role) {
        (State::Blocked, Role::BlockOn) => CpuPart::BlockOn,
        (State::Blocked, _) => CpuPart::Poll,
        (State::HandedOff, _) => CpuPart::BlockInPlace,
        (State::Pool, _) => CpuPart::BlockingPool,
        (State::Runtime | State::Idle, _) => CpuPart::Runtime,
        (State::Other, _) => CpuPart::Other,
        (State::Unknown | State::Running | State::Runnable, _) => CpuPart::Unknown,
    }
}

/// The CPU time that `samples` stand for.
fn time(recording: &Recording, samples: u64) -> Nanos {
    let period = recording.sampling.map_or(0, |sampling| sampling.period.0);
    Nanos(period.saturating_mul(samples))
}

#[derive(Default)]
struct Gathered {
    samples: u64,
    stacks: BTreeMap<StackId, u64>,
    tasks: BTreeMap<Arc<str>, u64>,
}

/// Where threads were on a CPU, most samples first.
pub(super) fn cpu_sites(recording: &Recording) -> Vec<CpuSite> {
    let mut sites: HashMap<(CpuPart, Place), Gathered> = HashMap::new();
    for total in &recording.samples {
        let Some(stack) = entry(recording, total.stack) else {
            continue;
        };
        let part = part(stack.verdict.state, stack.verdict.role);
        let site = sites.entry((part, place(stack))).or_default();
        site.samples = site.samples.saturating_add(total.samples);
        *site.stacks.entry(total.stack).or_default() += total.samples;
        if let Some(task) = task(stack) {
            *site.tasks.entry(task).or_default() += total.samples;
        }
    }
    let mut sites: Vec<CpuSite> = sites
        .into_iter()
        .map(|((part, place), gathered)| {
            let most = |(id, samples): (&StackId, &u64)| (*samples, Reverse(*id));
            let stack = gathered
                .stacks
                .iter()
                .max_by_key(|entry| most(*entry))
                .and_then(|(id, _)| entry(recording, *id));
            let task = gathered
                .tasks
                .iter()
                .max_by_key(|(name, samples)| (**samples, Reverse(*name)))
                .map(|(name, _)| name.clone());
            CpuSite {
                function: place.function,
                file: place.file,
                line: place.line,
                task,
                part,
                samples: gathered.samples,
                cpu_ns: time(recording, gathered.samples),
                stack: stack.map(whole_stack).unwrap_or_default(),
                truncated: stack.and_then(|stack| stack.truncated),
            }
        })
        .collect();
    sites.sort_by(|a, b| {
        let order = |site: &CpuSite| (Reverse(site.samples), site.part, site.line);
        order(a)
            .cmp(&order(b))
            .then_with(|| a.function.cmp(&b.function))
            .then_with(|| a.file.cmp(&b.file))
    });
    sites
}

/// The polls that took a CPU for too long, by task, most time first.
pub(super) fn long_polls(recording: &Recording, runtimes: &Runtimes) -> Vec<LongPollSite> {
    #[derive(PartialEq, Eq, Hash)]
    struct Key {
        runtime: Option<String>,
        task: Option<Arc<str>>,
        place: Place,
    }
    let mut sites: HashMap<Key, Vec<&LongPoll>> = HashMap::new();
    for poll in &recording.long_polls {
        let Some(stack) = entry(recording, poll.stack) else {
            continue;
        };
        let key = Key {
            runtime: runtime_of(recording, runtimes, poll.tid, poll.stack),
            task: task(stack),
            place: place(stack),
        };
        sites.entry(key).or_default().push(poll);
    }
    let mut sites: Vec<LongPollSite> = sites
        .into_iter()
        .filter_map(|(key, polls)| {
            let longest = polls
                .iter()
                .max_by_key(|poll| (poll.on_cpu, Reverse(poll.first)))?;
            let evidence: BTreeSet<PollEvidence> =
                polls.iter().map(|poll| poll.evidence).collect();
            Some(LongPollSite {
                function: key.place.function,
                file: key.place.file,
                line: key.place.line,
                task: key.task,
                runtime: key.runtime,
                polls: polls.len() as u64,
                total_ns: polls.iter().map(|poll| poll.on_cpu).sum(),
                longest: LongestPoll {
                    tid: longest.tid,
                    task_id: longest.task_id,
                    at_ns: longest.first - recording.start,
                    on_cpu_ns: longest.on_cpu,
                    samples: longest.samples,
                },
                evidence: evidence.into_iter().collect(),
                stack: entry(recording, longest.stack)
                    .map(whole_stack)
                    .unwrap_or_default(),
            })
        })
        .collect();
    sites.sort_by(|a, b| {
        let order = |site: &LongPollSite| (Reverse(site.total_ns), site.longest.at_ns, site.line);
        order(a)
            .cmp(&order(b))
            .then_with(|| a.function.cmp(&b.function))
            .then_with(|| a.task.cmp(&b.task))
    });
    sites
}

fn runtime_of(
    recording: &Recording,
    runtimes: &Runtimes,
    tid: Tid,
    stack: StackId,
) -> Option<String> {
    let (state, role) = verdict_of(recording, stack);
    runtimes
        .of_wait(tid, Class::of(state, role))
        .map(str::to_owned)
}

/// Sampled stacks with their CPU time, for flamegraphs, in the order of the recording's stacks.
pub(super) fn cpu_stacks(recording: &Recording, runtimes: &Runtimes) -> Vec<StackTotal> {
    let mut sums: BTreeMap<(Option<String>, StackId), u64> = BTreeMap::new();
    for total in &recording.samples {
        let runtime = runtime_of(recording, runtimes, total.tid, total.stack);
        let sum = sums.entry((runtime, total.stack)).or_default();
        *sum = sum.saturating_add(total.samples);
    }
    sums.into_iter()
        .filter_map(|((runtime, id), samples)| {
            let stack = entry(recording, id)?;
            Some(StackTotal {
                state: State::Running,
                waits: 0,
                blocked: time(recording, samples),
                runqueue: Nanos::ZERO,
                ..StackTotal::of(runtime, stack)
            })
        })
        .collect()
}
