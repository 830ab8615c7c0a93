//! What holdup said, as far as it is checked.

use super::list::Expect;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The JSON report.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) processes: Vec<Target>,
    verdict: Verdict,
    pub(super) runtimes: Vec<Runtime>,
    threads: Vec<Thread>,
    sites: Vec<Site>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) tokio_version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    kind: String,
    /// Which of the sites is to be fixed first.
    #[serde(default)]
    site: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Runtime {
    pub(super) kind: String,
    pub(super) workers: u64,
    states: BTreeMap<String, u64>,
    polls: Polls,
}

#[derive(Debug, Deserialize)]
struct Polls {
    longest_blocked_ns: u64,
}

#[derive(Debug, Deserialize)]
struct Thread {
    tid: u32,
    pid: u32,
    role: String,
    waits: u64,
    states: BTreeMap<String, u64>,
}

/// Waits with one stack.
#[derive(Debug, Deserialize)]
struct Site {
    state: String,
    role: String,
    call: Option<String>,
    waits: u64,
    total_ns: u64,
    max_ns: u64,
    runqueue_ns: u64,
}

/// Some waits together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) count: u64,
    /// From the start of each wait until the thread ran again, the run queue included.
    pub(super) total: Duration,
    /// The longest, without the run queue.
    pub(super) longest: Duration,
}

impl Site {
    /// Whether its system call is one of `calls` (the first word of it; any where there are none).
    fn is_in(&self, calls: &[&str]) -> bool {
        let call = self.call.as_deref().unwrap_or_default();
        let call = call.split(' ').next().unwrap_or_default();
        calls.is_empty() || calls.contains(&call)
    }
}

impl Report {
    pub(super) fn read(path: &Path) -> Result<Report> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot parse {}", path.display()))
    }

    /// The waits of one kind in some system calls.
    pub(super) fn waits(&self, of: Expect, calls: &[&str]) -> Waits {
        let is = |site: &&Site| site.state == of.state() && of.has_role(&site.role);
        sum(self.sites.iter().filter(is), calls)
    }

    /// The waits of an unknown state in some system calls.
    pub(super) fn unknown_waits(&self, calls: &[&str]) -> Waits {
        let unknown = |site: &&Site| site.state == "unknown";
        sum(self.sites.iter().filter(unknown), calls)
    }

    /// Whether what is to be fixed first are waits in one of these system calls in a poll of a worker.
    pub(super) fn fixes_first(&self, calls: &[&str]) -> bool {
        let site = self.verdict.site.and_then(|index| self.sites.get(index));
        site.is_some_and(|site| {
            let of = Expect::Blocked;
            site.state == of.state() && of.has_role(&site.role) && site.is_in(calls)
        })
    }

    /// The longest poll that was blocked, however many waits it had.
    pub(super) fn longest_poll(&self) -> Duration {
        let runtimes = self.runtimes.iter();
        let longest = runtimes.map(|runtime| runtime.polls.longest_blocked_ns);
        Duration::from_nanos(longest.max().unwrap_or_default())
    }

    /// The verdict, as the JSON report has it.
    pub(super) fn verdict(&self) -> &str {
        &self.verdict.kind
    }

    /// The runtimes, as `multi_thread of 2 workers, 3 current_thread of 1 worker`.
    pub(super) fn runtimes_line(&self) -> String {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        for runtime in &self.runtimes {
            let workers = match runtime.workers {
                1 => "1 worker".to_owned(),
                n => format!("{n} workers"),
            };
            *all.entry(format!("{} of {workers}", runtime.kind))
                .or_default() += 1;
        }
        let each = all.into_iter().map(|(runtime, count)| match count {
            1 => runtime,
            _ => format!("{count} {runtime}"),
        });
        let each: Vec<_> = each.collect();
        if each.is_empty() {
            return "no runtime".to_owned();
        }
        each.join(", ")
    }

    /// The share of all workers' time that is in `state`, from 0 to 1.
    pub(super) fn share(&self, state: &str) -> f64 {
        let of = |wanted: Option<&str>| -> f64 {
            let states = self.runtimes.iter().flat_map(|runtime| &runtime.states);
            let times = states.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
            times
                .map(|(_, ns)| Duration::from_nanos(*ns).as_secs_f64())
                .sum()
        };
        of(Some(state)) / of(None).max(f64::MIN_POSITIVE)
    }

    /// The share of waits whose state is unknown, from 0 to 1: all of those, in the waits of threads
    /// that tokio runs or of which something is unknown. Threads that have nothing to do with tokio
    /// do not make it smaller. `without_main`: the main thread is known to be such a one.
    pub(super) fn unknown_share(&self, without_main: bool) -> f64 {
        let counts = |thread: &&Thread| !(without_main && thread.tid == thread.pid);
        let is_unknown = |thread: &Thread| thread.states.get("unknown").is_some_and(|ns| *ns > 0);
        let threads: Vec<&Thread> = self.threads.iter().filter(counts).collect();
        if !threads.iter().any(|thread| is_unknown(thread)) {
            return 0.0;
        }
        let unknown = self.unknown_waits(&[]).count;
        let all: u64 = threads
            .iter()
            .filter(|thread| thread.role != "none" || is_unknown(thread))
            .map(|thread| thread.waits)
            .sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of waits are far below 2^52"
        )]
        let share = unknown as f64 / all.max(unknown).max(1) as f64;
        share
    }
}

/// Some sites' waits in some system calls together.
fn sum<'a>(sites: impl Iterator<Item = &'a Site>, calls: &[&str]) -> Waits {
    let mut waits = Waits::default();
    for site in sites.filter(|site| site.is_in(calls)) {
        waits.count += site.waits;
        waits.total += Duration::from_nanos(site.total_ns + site.runqueue_ns);
        waits.longest = waits.longest.max(Duration::from_nanos(site.max_ns));
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        serde_json::from_str(text).unwrap()
    }

    const TEXT: &str = r#"{
        "processes": [{"tokio_version": "1.54.1"}], "verdict": {"kind": "blocked", "site": 1},
        "runtimes": [{"kind": "multi_thread", "workers": 2, "states": {}, "polls": {"longest_blocked_ns": 90}}],
        "threads": [
            {"tid": 2, "pid": 1, "role": "worker", "waits": 90, "states": {"blocked": 5}},
            {"tid": 1, "pid": 1, "role": "none", "waits": 10, "states": {"unknown": 5}},
            {"tid": 3, "pid": 1, "role": "none", "waits": 900, "states": {"other": 5}}
        ],
        "sites": [
            {"state": "unknown", "role": "none", "call": null, "waits": 2, "total_ns": 5, "max_ns": 3, "runqueue_ns": 0},
            {"state": "blocked", "role": "worker", "call": "openat /a", "waits": 3, "total_ns": 30, "max_ns": 12, "runqueue_ns": 4},
            {"state": "blocked", "role": "worker", "call": "futex wait", "waits": 1, "total_ns": 70, "max_ns": 70, "runqueue_ns": 0},
            {"state": "blocked", "role": "block-on", "call": "openat /b", "waits": 7, "total_ns": 700, "max_ns": 100, "runqueue_ns": 0}
        ]
    }"#;

    #[test]
    fn waits_are_summed_by_kind_and_call() {
        let waits = report(TEXT).waits(Expect::Blocked, &["openat"]);
        let wanted = Waits {
            count: 3,
            total: Duration::from_nanos(34),
            longest: Duration::from_nanos(12),
        };
        assert_eq!(waits, wanted);
        assert_eq!(report(TEXT).waits(Expect::Blocked, &[]).count, 4);
        assert_eq!(report(TEXT).waits(Expect::BlockOn, &[]).count, 7);
        assert_eq!(report(TEXT).longest_poll(), Duration::from_nanos(90));
    }

    #[test]
    fn what_is_to_be_fixed_first_is_known_by_its_call() {
        assert!(report(TEXT).fixes_first(&["openat"]));
        assert!(!report(TEXT).fixes_first(&["futex"]));
        let outside = TEXT.replace("\"site\": 1", "\"site\": 3");
        assert!(!report(&outside).fixes_first(&["openat"]));
    }

    #[test]
    fn threads_of_others_do_not_make_the_unknown_share_smaller() {
        assert!((report(TEXT).unknown_share(false) - 0.02).abs() < 1e-9);
        assert!(report(TEXT).unknown_share(true).abs() < 1e-9);
    }
}
