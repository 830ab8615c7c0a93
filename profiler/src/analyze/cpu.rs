//! Threads on a CPU: where they were, and the polls that took too long.

use super::location::{location, task};
use super::role_times::{Class, verdict_of};
use super::runtimes::Runtimes;
use super::sites::whole_stack;
use super::stacks::total_of;
use crate::recording::{LongPoll, PollEvidence, Recording, StackEntry, StackId};
use crate::report::{CpuPart, CpuSite, LongPollSite, LongestPoll, StackTotal};
use crate::runtime::{Role, State};
use crate::units::{Nanos, Tid};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(super) fn entry(recording: &Recording, id: StackId) -> Option<&StackEntry> {
    recording.stacks.get(usize::try_from(id.0).ok()?)
}

/// What a thread does that is on a CPU with this stack.
pub(super) fn part(state: State, role: Role) -> CpuPart {
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
    /// Of these, inside system calls.
    in_calls: u64,
    stacks: BTreeMap<StackId, u64>,
    tasks: BTreeMap<Arc<str>, u64>,
}

impl Gathered {
    /// The stack with most samples.
    fn stack<'a>(&self, recording: &'a Recording) -> Option<&'a StackEntry> {
        let most = self
            .stacks
            .iter()
            .max_by_key(|(id, samples)| (**samples, Reverse(**id)));
        most.and_then(|(id, _)| entry(recording, *id))
    }

    /// The task with most samples.
    fn task(&self) -> Option<Arc<str>> {
        self.tasks
            .iter()
            .max_by_key(|(name, samples)| (**samples, Reverse(*name)))
            .map(|(name, _)| name.clone())
    }
}

/// Where threads were on a CPU, most samples first: a function is one place, and its line the one
/// with most samples.
pub(super) fn cpu_sites(recording: &Recording) -> Vec<CpuSite> {
    type Key = (CpuPart, Arc<str>, Option<Arc<str>>);
    let mut sites: HashMap<Key, Gathered> = HashMap::new();
    for total in &recording.samples {
        let Some(stack) = entry(recording, total.stack) else {
            continue;
        };
        let part = part(stack.verdict.state, stack.verdict.role);
        let place = location(stack);
        let site = sites.entry((part, place.function, place.file)).or_default();
        site.samples = site.samples.saturating_add(total.samples);
        if stack.syscall.is_some() {
            site.in_calls = site.in_calls.saturating_add(total.samples);
        }
        *site.stacks.entry(total.stack).or_default() += total.samples;
        if let Some(task) = task(stack) {
            *site.tasks.entry(task).or_default() += total.samples;
        }
    }
    let mut sites: Vec<CpuSite> = sites
        .into_iter()
        .map(|((part, function, file), gathered)| {
            let stack = gathered.stack(recording);
            CpuSite {
                function,
                file,
                line: stack.and_then(|stack| location(stack).line),
                task: gathered.task(),
                pid: recording.target.pid,
                part,
                samples: gathered.samples,
                cpu_ns: time(recording, gathered.samples),
                in_calls_ns: time(recording, gathered.in_calls),
                stack: stack.map(whole_stack).unwrap_or_default(),
                truncated: stack.and_then(|stack| stack.truncated),
            }
        })
        .collect();
    sites.sort_by(order);
    sites
}

/// Most samples first.
pub(super) fn order(a: &CpuSite, b: &CpuSite) -> Ordering {
    let order = |site: &CpuSite| (Reverse(site.samples), site.part, site.line);
    order(a)
        .cmp(&order(b))
        .then_with(|| a.function.cmp(&b.function))
        .then_with(|| a.file.cmp(&b.file))
        .then_with(|| a.pid.cmp(&b.pid))
}

/// The polls that took a CPU for too long, by task, most time first. Where a poll was when it was
/// first seen is chance: the place is that of the longest.
pub(super) fn long_polls(recording: &Recording, runtimes: &Runtimes) -> Vec<LongPollSite> {
    let mut sites: HashMap<(Option<String>, Arc<str>), Vec<&LongPoll>> = HashMap::new();
    for poll in &recording.long_polls {
        let Some(stack) = entry(recording, poll.stack) else {
            continue;
        };
        let runtime = runtime_of(recording, runtimes, poll.tid, poll.stack);
        let name = task(stack).unwrap_or_else(|| location(stack).function);
        sites.entry((runtime, name)).or_default().push(poll);
    }
    let mut sites: Vec<LongPollSite> = sites
        .into_iter()
        .filter_map(|((runtime, _), polls)| long_poll_site(recording, runtime, &polls))
        .collect();
    sites.sort_by(long_poll_order);
    sites
}

/// Most time first.
pub(super) fn long_poll_order(a: &LongPollSite, b: &LongPollSite) -> Ordering {
    let order = |site: &LongPollSite| (Reverse(site.total_ns), site.longest.at_ns, site.line);
    order(a)
        .cmp(&order(b))
        .then_with(|| a.function.cmp(&b.function))
        .then_with(|| a.task.cmp(&b.task))
        .then_with(|| a.pid.cmp(&b.pid))
}

fn long_poll_site(
    recording: &Recording,
    runtime: Option<String>,
    polls: &[&LongPoll],
) -> Option<LongPollSite> {
    let longest = polls
        .iter()
        .max_by_key(|poll| (poll.on_cpu, Reverse(poll.first)))?;
    let evidence: BTreeSet<PollEvidence> = polls.iter().map(|poll| poll.evidence).collect();
    let stack = entry(recording, longest.stack)?;
    let place = location(stack);
    Some(LongPollSite {
        function: place.function,
        file: place.file,
        line: place.line,
        task: task(stack),
        pid: recording.target.pid,
        runtime,
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
        stack: whole_stack(stack),
    })
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
                ..total_of(recording.target.pid, runtime, stack)
            })
        })
        .collect()
}
