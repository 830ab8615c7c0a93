//! The polls that took long, by task.

use super::location::{location, task};
use super::runtimes::{RuntimeIndex, Runtimes};
use super::stack_facts::{WaitRole, whole_stack};
use super::totals::PollSums;
use super::whole::Whole;
use crate::recording::{Poll, PollEvidence, ProcessId};
use crate::report::{LongPollSite, LongestPoll, PollTimes};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The long polls of all tasks, most time first. The place is that of the longest poll.
pub(super) fn long_polls(whole: &Whole<'_>, runtimes: &Runtimes) -> Vec<LongPollSite> {
    type Key = (ProcessId, Option<RuntimeIndex>, Arc<str>);
    let mut sites: HashMap<Key, Vec<&PollSums>> = HashMap::new();
    for (&(thread, id), polls) in &whole.totals.polls {
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
    sites.sort_by(|a, b| order(a).cmp(&order(b)));
    sites
}

/// Most time first.
fn order(site: &LongPollSite) -> impl Ord {
    (
        Reverse(site.times.total_ns),
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
    polls: &[&PollSums],
) -> Option<LongPollSite> {
    let longest = polls
        .iter()
        .map(|polls| &polls.longest)
        .max_by_key(|poll| (poll.length(), Reverse(poll.start)))?;
    let evidence = polls.iter().flat_map(|polls| &polls.evidence);
    let evidence: BTreeSet<PollEvidence> = evidence.copied().collect();
    let mut times = PollTimes::default();
    polls.iter().for_each(|polls| times.merge(&polls.polls));
    let stack = whole.tables.stack(longest.stack)?;
    let place = location(stack);
    Some(LongPollSite {
        function: place.function,
        file: place.file,
        line: place.line,
        task: task(stack),
        pid: whole.pid(longest.thread.process),
        runtime: runtime.map(RuntimeIndex::id),
        times,
        longest: the_longest(whole, longest),
        evidence: evidence.into_iter().collect(),
        stack: whole_stack(stack),
    })
}

fn the_longest(whole: &Whole<'_>, poll: &Poll) -> LongestPoll {
    LongestPoll {
        tid: poll.thread.tid,
        task_id: poll.task_id,
        // One that was under way at the start began with it.
        at_ns: poll.start.max(whole.start) - whole.start,
        length_ns: poll.length(),
        blocked_ns: poll.blocked,
        runqueue_ns: poll.runqueue,
        on_cpu_ns: poll.running,
        waits: poll.waits,
        samples: poll.samples,
    }
}
