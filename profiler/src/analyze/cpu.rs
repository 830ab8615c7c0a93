//! Threads on a CPU: where they were.

use super::location::{location, task};
use super::stack_facts::{most, part, whole_stack};
use super::whole::Whole;
use crate::recording::{ProcessId, Stack, StackId};
use crate::report::{CpuPart, CpuSite};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
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
