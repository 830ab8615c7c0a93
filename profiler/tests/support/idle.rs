//! Programs that hang or are slow although no worker is blocked, and one whose blocked worker keeps the task
//! that it waits for.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::is_in;

/// All threads of the pool are busy, and closures wait in line for one.
pub(crate) fn full_pool(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    if report.verdict.kind != "pool_full" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    let [pool] = report.pools.as_slice() else {
        return vec![format!("the pools are {:?}", report.pools)];
    };
    let Some(truth) = recorded.truth.sites.first() else {
        return vec!["the program tells nothing".into()];
    };
    // Four threads at a time, so all of them for a quarter of the time in closures, less what a thread
    // that is woken waits for a CPU.
    let all = truth.wall_ns / 4;
    if pool.peak_busy != 4 || !(all / 2..=all + all / 10).contains(&pool.peak_ns) {
        complaints.push(format!(
            "{} threads waited at once for {}, in truth 4 for {}",
            pool.peak_busy,
            ms(pool.peak_ns),
            ms(all)
        ));
    }
    // But for the first of each thread, all were in line before.
    let (least, most) = (truth.calls * 9 / 10, truth.calls);
    if pool.closures > most || !(least..=most).contains(&pool.closures_queued) {
        complaints.push(format!(
            "{} closures, {} of them in line; in truth {}",
            pool.closures, pool.closures_queued, truth.calls
        ));
    }
    complaints
}

/// As many closures at once as there are threads, and none in line.
pub(crate) fn busy_pool(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    if report.verdict.kind != "healthy" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    let pools: Vec<_> = report.pools.iter().map(|pool| pool.peak_busy).collect();
    if pools != [4] {
        complaints.push(format!("threads busy at once: {pools:?}"));
    }
    complaints
}

/// Closures that never end have all threads of the pool, and three more wait in line: none is ever taken.
pub(crate) fn stuck_pool(recorded: &Recorded) -> Complaints {
    let verdict = &recorded.report.verdict;
    let found = (verdict.kind.as_str(), verdict.threads, verdict.queued);
    match found == ("pool_full", Some(4), Some(3)) {
        true => Complaints::new(),
        false => vec![format!("the verdict is {verdict:?}")],
    }
}

/// The same, and nothing waits in line.
pub(crate) fn settled_pool(recorded: &Recorded) -> Complaints {
    let verdict = &recorded.report.verdict;
    match verdict.kind == "healthy" && recorded.report.pools.len() == 1 {
        true => Complaints::new(),
        false => vec![format!("the verdict is {verdict:?}")],
    }
}

/// Tasks that wait for each other leave the workers idle, and nobody can tell it from a lack of load: the
/// report says so.
pub(crate) fn async_deadlock(recorded: &Recorded) -> Complaints {
    let verdict = &recorded.report.verdict;
    let idle = verdict.idle_share.unwrap_or_default();
    match verdict.kind == "healthy" && idle > 0.999 {
        true => Complaints::new(),
        false => vec![format!("the verdict is {verdict:?}")],
    }
}

/// The task that a `block_on` waits for is in the LIFO slot of the worker that waits.
pub(crate) fn nested_block_on(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut sites = report.sites.iter();
    let site = sites.find(|site| is_in(&site.function, "block_on_task_behind"));
    let Some(site) = site else {
        return vec!["nobody was blocked in block_on_task_behind".into()];
    };
    let mut complaints = Complaints::new();
    if (site.state.as_str(), site.cause.as_str()) != ("blocked", "nested-block-on") {
        complaints.push(format!("it is {} by {}", site.state, site.cause));
    }
    match &site.queued {
        Some(queued) if (queued.polls, queued.polls_with_lifo, queued.tasks) == (1, 1, 1) => {}
        queued => complaints.push(format!("behind it were {queued:?}")),
    }
    complaints
}
