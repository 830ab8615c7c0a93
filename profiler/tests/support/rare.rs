//! What services in public bug reports did, and what a report must say of it.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::{Report, Site, is_in};
use super::truth::slowdown;

fn blocked_in<'a>(report: &'a Report, function: &str) -> Option<&'a Site> {
    let mut sites = report.sites.iter();
    sites.find(|site| site.state == "blocked" && is_in(&site.function, function))
}

/// Of twelve idle seconds one poll of 350 ms: small in every share, and told all the same.
pub(crate) fn stall(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let kind = report.verdict.kind.as_str();
    if kind == "healthy" || kind == "unclear" {
        complaints.push(format!("the verdict is {kind}"));
    }
    let truth: Option<u64> = recorded.truth.sites.iter().map(|site| site.max_ns).max();
    let truth = truth.unwrap_or_default();
    let told = report
        .runtimes
        .iter()
        .map(|runtime| runtime.polls.longest_blocked_ns);
    let told = told.max().unwrap_or_default();
    if told.abs_diff(truth) > (truth / 20).max(1_000_000) {
        complaints.push(format!(
            "the longest poll is {}, in truth {}",
            ms(told),
            ms(truth)
        ));
    }
    complaints
}

/// Who writes to standard error waits for the reader of the pipe, the others for whoever writes: one
/// cause, with the reader's name.
pub(crate) fn slow_reader(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let Some(site) = blocked_in(report, "write_a_log_line") else {
        return vec!["nobody was blocked in write_a_log_line".into()];
    };
    if site.cause != "stdio" {
        complaints.push(format!("the cause is {}, not stdio", site.cause));
    }
    let advice = site.advice.as_ref().map_or("", |advice| &*advice.text);
    if !advice.contains("non_blocking") {
        complaints.push(format!("the advice is {advice:?}"));
    }
    // The reader of the pipe is the same program. The threads that write have other names.
    if !site.wakers.iter().any(|waker| waker.thread == "blockers") {
        complaints.push(format!("the reader ended no wait: {:?}", site.wakers));
    }
    complaints
}

/// Waits that are too short to be recorded one by one: a sample tells who ends them.
pub(crate) fn short_holder(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let Some(site) = blocked_in(report, "take_for_a_moment") else {
        return vec!["nobody was blocked in take_for_a_moment".into()];
    };
    let known: u64 = site.wakers.iter().map(|waker| waker.waits).sum();
    // One in 32 of a few thousand: five standard deviations are a third of it.
    if known * 3 < site.waits || known > site.waits * 2 || site.waits * slowdown() < 500 {
        complaints.push(format!(
            "the wakers of {known} of {} waits are known",
            site.waits
        ));
    }
    let holder = site.wakers.iter().filter(|waker| {
        let function = waker.function.as_deref().unwrap_or("");
        waker.thread == "short-holder" && is_in(function, "hold_for_a_moment")
    });
    let by_holder: u64 = holder.map(|waker| waker.waits).sum();
    // The workers wake each other too, and the more the longer their queue at the lock.
    if by_holder * 10 < known * 2 {
        complaints.push(format!(
            "the holder ended {by_holder} of {known} waits: {:?}",
            site.wakers
        ));
    }
    complaints
}

/// Each time the only worker blocks, four tasks are behind it, and one of them in the LIFO slot.
pub(crate) fn queued(recorded: &Recorded) -> Complaints {
    queued_with(recorded, 10)
}

/// Likewise in a `current_thread` runtime, which has no LIFO slot.
pub(crate) fn queued_on_one_thread(recorded: &Recorded) -> Complaints {
    queued_with(recorded, 0)
}

fn queued_with(recorded: &Recorded, polls_with_lifo: u64) -> Complaints {
    let site = blocked_in(&recorded.report, "block_with_tasks_behind");
    let Some(queued) = site.and_then(|site| site.queued.as_ref()) else {
        return vec![format!("what was queued is not known: {site:?}")];
    };
    let is = (
        queued.polls,
        queued.polls_with_lifo,
        queued.tasks,
        queued.most,
    );
    match is == (10, polls_with_lifo, 40, 4) {
        true => Complaints::new(),
        false => vec![format!("{queued:?}, in truth 10 polls with 4 tasks each")],
    }
}
