//! Code that a worker calls outside every poll: wakers and hooks. A worker that waits in one is held up.

use super::check::{self, Complaints, ms};
use super::fixture::{Profile, Variant};
use super::record::{Ending, Recorded};
use super::report::is_in;
use super::run::{Check, Run};
use libtest_mimic::Trial;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let named: [(&str, Check); 5] = [
        ("accounting", check::accounting),
        ("sites", |recorded| {
            check::recall(&recorded.report, &recorded.truth)
        }),
        ("times", check::times),
        ("no_false_alarms", |recorded| {
            check::false_alarms(&recorded.report, &recorded.truth)
        }),
        ("told", told),
    ];
    let stripped: [(&str, Check); 2] = [("accounting", check::accounting), ("times", in_all)];
    let mut trials = Vec::new();
    for mode in ["callbacks", "callbacks-current-thread"] {
        for profile in [Profile::Release, Profile::FatLto, Profile::Stripped] {
            let variant = Variant {
                profile,
                ..Variant::DEFAULT
            };
            let checks: &[(&str, Check)] = match profile {
                Profile::Release => &named,
                _ => &stripped,
            };
            let group = format!("{mode}-{}", variant.name());
            trials.extend(Run::new(variant, mode, Ending::Stays).trials(&group, checks));
        }
    }
    trials
}

/// No verdict without it, and each wait is a stall of its own.
fn told(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, in_all(recorded));
    let longest = recorded.truth.sites.iter().map(|site| site.max_ns).max();
    let longest = longest.unwrap_or_default();
    let polls = report.runtimes.iter().map(|runtime| &runtime.polls);
    let told = polls.map(|polls| polls.longest_blocked_ns).max();
    let told = told.unwrap_or_default();
    if told.abs_diff(longest) > (longest / 20).max(1_000_000) {
        complaints.push(format!(
            "the longest stall is {}, in truth {}",
            ms(told),
            ms(longest)
        ));
    }
    for function in ["block_in_waker", "block_in_hook"] {
        let mut sites = report.sites.iter();
        let Some(site) = sites.find(|site| is_in(&site.function, function)) else {
            continue;
        };
        let by_callback = site.evidence.iter().any(|rule| rule.ends_with("-callback"));
        if site.cause != "sleep" || !by_callback || site.task.is_some() {
            complaints.push(format!("{function}: {}", site.describe()));
        }
    }
    complaints
}

/// Where functions have no names, or were inlined: all of it together.
fn in_all(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let kind = report.verdict.kind.as_str();
    if ["healthy", "unclear", "no_runtime"].contains(&kind) {
        complaints.push(format!("the verdict is {kind}"));
    }
    let blocked = report.sites.iter().filter(|site| site.state == "blocked");
    let blocked: u64 = blocked.map(|site| site.total_ns).sum();
    let truth: u64 = recorded.truth.sites.iter().map(|s| s.blocked_ns()).sum();
    // By the program's clock a wait ends when its thread has a CPU again.
    let runnable = report
        .runtimes
        .iter()
        .filter_map(|of| of.states.get("runnable"));
    let runnable: u64 = runnable.sum();
    let margin = truth / 20;
    if blocked > truth + margin || blocked + runnable + margin < truth {
        complaints.push(format!("{} blocked, in truth {}", ms(blocked), ms(truth)));
    }
    complaints
}
