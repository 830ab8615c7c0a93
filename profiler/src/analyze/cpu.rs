//! Threads on a CPU: where they were, and the polls that took too long.

use super::location::{location, task};
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, most, part, whole_stack};
use super::totals::LongPolls;
use super::whole::Whole;
use crate::recording::{PollEvidence, ProcessId, Stack, StackId};
use crate::report::{CpuPart, CpuSite, LongPollSite, LongestPoll};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Default)]
struct SiteSamples {
    samples: u64,
    /// Of these, inside system calls.
    in_calls: u64,
    stacks: BTreeMap<StackId, u64>,
    tasks: BTreeMap<Arc<str>, u64>,
}

impl SiteSamples {
    /// The stack with most samples.
    fn stack<'a>(&self, whole: &Whole<'a>) -> Option<&'a Stack> {
        most(&self.stacks).and_then(|id| whole.tables.stack(*id))
    }

    /// The task with most samples.
    fn task(&self) -> Option<Arc<str>> {
        most(&self.tasks).cloned()
    }
}

/// Where threads were on a CPU, most samples first: a function is one place, and its line the one
/// with most samples.
pub(super) fn cpu_sites(whole: &Whole<'_>) -> Vec<CpuSite> {
    type Key = (ProcessId, CpuPart, Arc<str>, Option<Arc<str>>);
    let mut sites: HashMap<Key, SiteSamples> = HashMap::new();
    for (&(thread, id), &samples) in &whole.totals.samples {
        let Some(stack) = whole.tables.stack(id) else {
            continue;
        };
        let part = part(stack.class.state, stack.class.role);
        let place = location(stack);
        let key = (thread.process, part, place.function, place.file);
        let site = sites.entry(key).or_default();
        site.samples = site.samples.saturating_add(samples);
        if stack.syscall.is_some() {
            site.in_calls = site.in_calls.saturating_add(samples);
        }
        *site.stacks.entry(id).or_default() += samples;
        if let Some(task) = task(stack) {
            *site.tasks.entry(task).or_default() += samples;
        }
    }
    let mut sites: Vec<CpuSite> = sites
        .into_iter()
        .map(|((process, part, function, file), site)| {
            let stack = site.stack(whole);
            CpuSite {
                function,
                file,
                line: stack.and_then(|stack| location(stack).line),
                task: site.task(),
                pid: whole.pid(process),
                part,
                samples: site.samples,
                cpu_ns: whole.sampled_time(site.samples),
                in_calls_ns: whole.sampled_time(site.in_calls),
                stack: stack.map(whole_stack).unwrap_or_default(),
                truncated: stack.and_then(|stack| stack.truncated),
            }
        })
        .collect();
    sites.sort_by(|a, b| order(a).cmp(&order(b)));
    sites
}

/// Most samples first.
fn order(site: &CpuSite) -> impl Ord {
    (
        Reverse(site.samples),
        site.part,
        site.line,
        &site.function,
        &site.file,
        site.pid,
    )
}

/// The polls that took a CPU for too long, by task, most time first. Where a poll was when it was
/// first seen is chance: the place is that of the longest.
pub(super) fn long_polls(whole: &Whole<'_>, runtimes: &Runtimes) -> Vec<LongPollSite> {
    type Key = (ProcessId, Option<RuntimeIndex>, Arc<str>);
    let mut sites: HashMap<Key, Vec<&LongPolls>> = HashMap::new();
    for (&(thread, id), polls) in &whole.totals.long_polls {
        let Some(stack) = whole.tables.stack(id) else {
            continue;
        };
        let runtime = runtimes.of_wait(thread, WaitRole::of(whole.tables, id));
        let name = task(stack).unwrap_or_else(|| location(stack).function);
        let key = (thread.process, runtime, name);
        sites.entry(key).or_default().push(polls);
    }
    let mut sites: Vec<LongPollSite> = sites
        .into_iter()
        .filter_map(|((_, runtime, _), polls)| long_poll_site(whole, runtime, &polls))
        .collect();
    sites.sort_by(|a, b| long_poll_order(a).cmp(&long_poll_order(b)));
    sites
}

/// Most time first.
fn long_poll_order(site: &LongPollSite) -> impl Ord {
    (
        Reverse(site.total_ns),
        site.longest.at_ns,
        site.line,
        &site.function,
        &site.task,
        site.pid,
    )
}

fn long_poll_site(
    whole: &Whole<'_>,
    runtime: Option<RuntimeIndex>,
    polls: &[&LongPolls],
) -> Option<LongPollSite> {
    let longest = polls
        .iter()
        .map(|polls| &polls.longest)
        .max_by_key(|poll| (poll.on_cpu, Reverse(poll.first)))?;
    let evidence = polls.iter().flat_map(|polls| &polls.evidence);
    let evidence: BTreeSet<PollEvidence> = evidence.copied().collect();
    let stack = whole.tables.stack(longest.stack)?;
    let place = location(stack);
    Some(LongPollSite {
        function: place.function,
        file: place.file,
        line: place.line,
        task: task(stack),
        pid: whole.pid(longest.thread.process),
        runtime: runtime.map(RuntimeIndex::id),
        polls: polls.iter().map(|polls| polls.polls).sum(),
        total_ns: polls.iter().map(|polls| polls.on_cpu).sum(),
        longest: LongestPoll {
            tid: longest.thread.tid,
            task_id: longest.task_id,
            at_ns: longest.first - whole.start,
            on_cpu_ns: longest.on_cpu,
            samples: longest.samples,
        },
        evidence: evidence.into_iter().collect(),
        stack: whole_stack(stack),
    })
}
