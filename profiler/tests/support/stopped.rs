//! A process that was stopped from outside: a state of its own, and nobody's fault.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::is_in;
use super::truth::slowdown;

/// For how long the fixture has itself stopped.
const STOPPED: u64 = 700_000_000;
/// One of its sleeps, in which it was stopped once.
const SLEEP: u64 = 200_000_000;

pub(crate) fn by_signal(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let most = STOPPED + 150_000_000 * slowdown();
    match &report.stopped[..] {
        [held] if held.by == "signal" => {
            if !(STOPPED - 50_000_000..=most).contains(&held.longest_ns) {
                complaints.push(format!(
                    "stopped for {}, in truth {}",
                    ms(held.longest_ns),
                    ms(STOPPED)
                ));
            }
            // The two workers and the first thread.
            if held.threads < 3 {
                complaints.push(format!("{} threads were stopped", held.threads));
            }
        }
        other => complaints.push(format!("stopped: {other:?}")),
    }
    let states = report
        .runtimes
        .iter()
        .filter_map(|runtime| runtime.states.get("stopped"));
    let in_state: u64 = states.sum();
    if in_state < STOPPED {
        complaints.push(format!(
            "the workers were {} in state stopped",
            ms(in_state)
        ));
    }
    let sites = report.sites.iter();
    let sleeps: Vec<_> = sites
        .filter(|site| is_in(&site.function, "block_by_stopped_sleep"))
        .collect();
    if sleeps.is_empty() {
        complaints.push("the sleeps have no site".into());
    }
    for site in sleeps {
        if site.max_ns > SLEEP + 40_000_000 * slowdown() {
            let longest = ms(site.max_ns);
            complaints.push(format!("a sleep of 200 ms was told as one of {longest}"));
        }
    }
    if let Some(poll) = report
        .long_polls
        .iter()
        .find(|poll| poll.longest.length_ns > SLEEP + 40_000_000 * slowdown())
    {
        let longest = ms(poll.longest.length_ns);
        complaints.push(format!("the stop is in a poll of {longest}"));
    }
    complaints
}
