//! What a filter chooses of the sums: the same lists, made of a part of them.

use super::by_thread::ByThread;
use super::calls::call_sites;
use super::causes::Causes;
use super::circles::deadlocks;
use super::cpu::cpu_sites;
use super::harms::Harms;
use super::location::{location, task};
use super::open_waits::open_waits;
use super::panics::panics;
use super::polls::long_polls;
use super::runtimes::Runtimes;
use super::site_key::SiteKey;
use super::sites::sites;
use super::stack_facts::WaitRole;
use super::stacks::{cpu_stacks, stacks, woken_stacks};
use super::tasks::{cause_totals, tasks};
use super::totals::Totals;
use super::whole::Whole;
use crate::cause::Cause;
use crate::recording::{OpenWait, Stack, StackId, ThreadId};
use crate::report::{Detail, DetailStack, DetailThread, Filter, LongPollSite, Report, Site};
use crate::units::{Nanos, Pid, Tid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What the lists of a report are made of.
pub(super) struct Lists<'a> {
    pub(super) whole: &'a Whole<'a>,
    pub(super) runtimes: &'a Runtimes,
    pub(super) causes: &'a Causes,
    pub(super) harms: &'a Harms,
    /// Waits that had begun before the first interval.
    pub(super) carried: &'a [OpenWait],
    /// The sums of each thread; needed where the filter chooses threads.
    pub(super) by_thread: Option<&'a ByThread>,
}

impl Lists<'_> {
    /// Makes the lists of `report` anew, of what the filter chooses alone.
    pub(super) fn choose(&self, filter: &Filter, report: &mut Report) {
        let choice = Choice::new(self, filter);
        let totals = choice.totals(self.by_thread);
        let chosen = |waits: &[OpenWait]| -> Vec<OpenWait> {
            let waits = waits.iter();
            let waits = waits.filter(|wait| choice.takes_wait(wait.thread, wait.stack));
            waits.cloned().collect()
        };
        let (carried, open) = (chosen(self.carried), chosen(self.whole.open_waits));
        let whole = self.whole;
        let part = Whole::new(
            (whole.header, whole.tables),
            &totals,
            (whole.start, &carried),
            (whole.end, &open),
        );
        let sites = sites(&part, self.runtimes, self.causes, self.harms);
        let polls = long_polls(&part, self.runtimes);
        name_again(report, &sites, &polls);
        report.sites = sites;
        report.long_polls = polls;
        report.causes = cause_totals(&part, self.causes);
        report.tasks = tasks(&part, self.runtimes, self.harms);
        report.open_waits = open_waits(&part, self.causes);
        report.deadlocks = deadlocks(&report.open_waits);
        report.cpu_sites = cpu_sites(&part);
        report.call_sites = call_sites(&part, self.runtimes, self.causes);
        report.panics = panics(&part);
        report.stacks = stacks(&part, self.runtimes, self.causes);
        report.cpu_stacks = cpu_stacks(&part, self.runtimes);
        report.woken_stacks = woken_stacks(&part, self.runtimes, self.causes);
        let active: BTreeSet<(Pid, Tid)> = part
            .seen()
            .map(|(thread, ..)| thread)
            .chain(totals.polls.keys().map(|(thread, _)| *thread))
            .map(|thread| (whole.pid(thread.process), thread.tid))
            .collect();
        report.threads.retain(|thread| {
            let runtime = thread.runtime.as_deref();
            filter.takes_thread(thread.tid, &thread.name)
                && filter.takes_runtime(runtime.and_then(|id| named(self.runtimes, id)))
                && (!filter.is_of_places() || active.contains(&(thread.pid, thread.tid)))
        });
        report
            .runtimes
            .retain(|runtime| filter.takes_runtime(Some((&runtime.id, &runtime.thread_name))));
        if let Some(detail) = &mut report.detail {
            let sums = &mut detail.sums;
            sums.retain(|sum| choice.takes_wait(sum.thread, sum.stack));
            choose_singles(detail, filter, |id| named(self.runtimes, id));
        }
        let left_out = self.by_thread.map_or(0, ByThread::left_out);
        report.losses.by_cause.sums_left_out += left_out;
        report.losses.stacks += left_out;
        report.filter = Some(filter.clone());
    }
}

/// A runtime's id and the name of its threads.
fn named<'a>(runtimes: &'a Runtimes, id: &str) -> Option<(&'a str, &'a str)> {
    let mut reports = runtimes.reports.iter();
    let report = reports.find(|report| report.id == id)?;
    Some((&report.id, &report.thread_name))
}

/// Lets the verdicts name their sites in the new lists; none where it is not in them.
fn name_again(report: &mut Report, sites: &[Site], polls: &[LongPollSite]) {
    let Report {
        verdict, findings, ..
    } = report;
    let all = findings.iter_mut().map(|finding| &mut finding.verdict);
    for verdict in all.chain([verdict]) {
        if let Some(site) = verdict.site_mut() {
            let old = site.and_then(|index| report.sites.get(index));
            *site = old.and_then(|old| sites.iter().position(|new| is_same_site(old, new)));
        } else if let Some(polls_of) = verdict.poll_site_mut() {
            let old = polls_of.and_then(|index| report.long_polls.get(index));
            *polls_of = old.and_then(|old| polls.iter().position(|new| is_same_task(old, new)));
        }
    }
}

fn is_same_site(a: &Site, b: &Site) -> bool {
    (a.pid, a.state, a.role, a.line) == (b.pid, b.state, b.role, b.line)
        && (&a.function, &a.file) == (&b.function, &b.file)
}

fn is_same_task(a: &LongPollSite, b: &LongPollSite) -> bool {
    (a.pid, &a.runtime, &a.task) == (b.pid, &b.runtime, &b.task)
        && (a.task.is_some() || a.function == b.function)
}

/// What is chosen, by thread and stack.
struct Choice<'a> {
    lists: &'a Lists<'a>,
    filter: &'a Filter,
    threads: BTreeMap<ThreadId, bool>,
    /// By their index: whether task and site are chosen, and whether the cause is as well.
    places: Vec<(bool, bool)>,
    /// Stacks at sites no wait of which was long enough.
    short: BTreeSet<StackId>,
}

impl<'a> Choice<'a> {
    fn new(lists: &'a Lists<'a>, filter: &'a Filter) -> Choice<'a> {
        let tables = lists.whole.tables;
        let threads = lists.whole.totals.threads.keys();
        let threads = threads.map(|&thread| {
            let name = tables.thread_name(thread);
            (thread, filter.takes_thread(thread.tid, name))
        });
        let places = tables.stacks.iter().enumerate().map(|(index, stack)| {
            let cause = u32::try_from(index).ok().and_then(|index| {
                let finding = lists.causes.get(StackId(index))?;
                Some(finding.cause)
            });
            let here = takes_stack(filter, stack);
            (here, here && filter.takes_cause(cause))
        });
        let mut choice = Choice {
            threads: threads.collect(),
            places: places.collect(),
            short: BTreeSet::new(),
            lists,
            filter,
        };
        choice.short = choice.short();
        choice
    }

    /// Stacks at sites no chosen wait of which was long enough.
    fn short(&self) -> BTreeSet<StackId> {
        let mut longest: HashMap<Result<SiteKey, StackId>, (Nanos, Vec<StackId>)> = HashMap::new();
        if self.filter.min_ns == Nanos::ZERO {
            return BTreeSet::new();
        }
        for (thread, id, times) in self.lists.whole.waits() {
            if self.takes_wait(thread, id) {
                let key = SiteKey::of(self.lists.whole.tables, id).ok_or(id);
                let (max, stacks) = longest.entry(key).or_default();
                *max = (*max).max(times.max);
                stacks.push(id);
            }
        }
        let short = longest.into_values();
        let short = short.filter(|(max, _)| *max < self.filter.min_ns);
        short.flat_map(|(_, stacks)| stacks).collect()
    }

    /// Whether whatever a thread did with a stack is chosen, leaving causes aside.
    fn takes(&self, thread: ThreadId, stack: StackId) -> bool {
        self.takes_thread(thread, stack) && self.place(stack).0
    }

    /// Whether waits of a thread with a stack are chosen.
    fn takes_wait(&self, thread: ThreadId, stack: StackId) -> bool {
        self.takes_thread(thread, stack) && self.takes_wait_with(stack)
    }

    fn takes_wait_with(&self, stack: StackId) -> bool {
        self.place(stack).1 && !self.short.contains(&stack)
    }

    /// What cannot be told of a stack that is not there is not chosen, where it is asked for.
    fn place(&self, stack: StackId) -> (bool, bool) {
        let unknown = !self.filter.is_of_places();
        let known = self.places.get(stack.index()).copied();
        known.unwrap_or((unknown, unknown))
    }

    fn takes_thread(&self, thread: ThreadId, stack: StackId) -> bool {
        let known = self.threads.get(&thread).copied();
        if !known.unwrap_or(self.filter.thread.is_empty()) {
            return false;
        }
        if self.filter.runtime.is_empty() {
            return true;
        }
        let role = WaitRole::of(self.lists.whole.tables, stack);
        let runtime = self.lists.runtimes.of_wait(thread, role);
        let report = runtime.and_then(|index| self.lists.runtimes.report(index));
        let runtime = report.map(|report| (&*report.id, &*report.thread_name));
        self.filter.takes_runtime(runtime)
    }

    /// The sums of what is chosen.
    fn totals(&self, by_thread: Option<&ByThread>) -> Totals {
        let all = self.lists.whole.totals;
        let min = self.filter.min_ns;
        let mut totals = Totals::default();
        totals.threads.clone_from(&all.threads);
        totals.throttling.clone_from(&all.throttling);
        let waits = all.waits.iter();
        let waits = waits.filter(|((thread, stack), _)| self.takes_wait(*thread, *stack));
        totals.waits = waits.map(|(key, times)| (*key, *times)).collect();
        if self.filter.cause.is_empty() {
            let samples = all.samples.iter();
            let samples = samples.filter(|((thread, stack), _)| self.takes(*thread, *stack));
            totals.samples = samples.map(|(key, samples)| (*key, *samples)).collect();
            let panics = all.panics.iter();
            let panics = panics.filter(|((thread, stack), _)| self.takes(*thread, *stack));
            totals.panics = panics.map(|(key, sum)| (*key, *sum)).collect();
        }
        let caused = |thread: &ThreadId, stack: &StackId| {
            self.takes_thread(*thread, *stack) && self.place(*stack).1
        };
        let polls = all.polls.iter();
        let polls = polls.filter(|((thread, stack), polls)| {
            caused(thread, stack) && polls.longest.length() >= min
        });
        totals.polls = polls.map(|(key, polls)| (*key, polls.clone())).collect();
        let calls = all.calls.iter();
        let calls =
            calls.filter(|((thread, stack, _), call)| caused(thread, stack) && call.max >= min);
        totals.calls = calls.map(|(key, call)| (*key, *call)).collect();
        match by_thread {
            Some(by_thread) => {
                by_thread.add_to(&mut totals, |thread, stack| self.takes_wait(thread, stack))
            }
            None => totals.add_stacks(all, |stack| self.takes_wait_with(stack)),
        }
        totals
    }
}

/// Whether task and site of a stack are chosen.
fn takes_stack(filter: &Filter, stack: &Stack) -> bool {
    if filter.task.is_empty() && filter.site.is_empty() {
        return true;
    }
    let place = location(stack);
    filter.takes_task(task(stack).as_deref())
        && filter.takes_site(&place.function, place.file.as_deref().zip(place.line))
}

/// Leaves of single waits and polls those that `filter` chooses, and of threads those that have any.
/// `runtime` tells id and name of the threads of a runtime.
pub(super) fn choose_singles<'a>(
    detail: &mut Detail,
    filter: &Filter,
    runtime: impl Fn(&str) -> Option<(&'a str, &'a str)>,
) {
    let Detail {
        threads, stacks, ..
    } = &*detail;
    let takes_thread = |thread: &DetailThread, tid: Tid| {
        let runtime = thread.runtime.as_deref().and_then(&runtime);
        filter.takes_thread(tid, &thread.name) && filter.takes_runtime(runtime)
    };
    let chosen = threads
        .iter()
        .filter(|(id, thread)| takes_thread(thread, id.tid));
    let chosen: BTreeSet<ThreadId> = chosen.map(|(id, _)| *id).collect();
    let cause_and_place = |stack: &DetailStack, cause: Option<Cause>| {
        filter.takes_task(stack.task.as_deref())
            && filter.takes_site(&stack.function, stack.file.as_deref().zip(stack.line))
            && filter.takes_cause(cause)
    };
    let places = stacks
        .iter()
        .filter(|(_, stack)| cause_and_place(stack, stack.cause));
    let places: BTreeSet<StackId> = places.map(|(id, _)| *id).collect();
    let takes = |thread: ThreadId, stack: StackId, length: Nanos| {
        let known = places.contains(&stack) || !filter.is_of_places();
        length >= filter.min_ns && known && chosen.contains(&thread)
    };
    let waits = detail.waits.iter().copied();
    let waits = waits.filter(|wait| takes(wait.thread, wait.stack, wait.blocked()));
    let waits = waits.collect();
    let polls = detail.polls.iter().copied();
    let polls = polls.filter(|poll| takes(poll.thread, poll.stack, poll.length()));
    let polls = polls.collect();
    let open = detail.open.iter().copied();
    let open = open.filter(|wait| takes(wait.thread, wait.stack, wait.end - wait.start));
    let open: Vec<_> = open.collect();
    (detail.waits, detail.polls, detail.open) = (Arc::new(waits), Arc::new(polls), open);
    let active: BTreeSet<ThreadId> = detail
        .waits
        .iter()
        .chain(&detail.open)
        .map(|wait| wait.thread)
        .chain(detail.polls.iter().map(|poll| poll.thread))
        .chain(detail.sums.iter().map(|sum| sum.thread))
        .collect();
    detail
        .threads
        .retain(|id, _| chosen.contains(id) && (!filter.is_of_places() || active.contains(id)));
}

/// As it is written while a recording goes on, when nobody knows yet which runtimes there will be.
pub fn choose_from(detail: &mut Detail, filter: &Filter) {
    choose_singles(detail, filter, |_| None);
}
