//! The ways in which a package is made to block, and what is checked then.

mod daemon;
mod gil;
mod idle;
mod places;
mod recording;
mod slow;
mod truth;

use super::fetch::{self, Fetched};
use super::list::{Check, Expect, Package};
use super::outcome::{Checked, Seen};
use super::report::Report;
use anyhow::Result;
use recording::Recorder;
use std::path::{Path, PathBuf};
use std::time::Duration;
use truth::Truth;

/// How far a sum may be from the truth: a part of it, and so much for each wait (the scheduler of a
/// busy machine; what the program did between two clock readings).
const PART: f64 = 0.05;
const EACH: Duration = Duration::from_millis(5);
/// How much of the truth may be told as something else.
const ELSEWHERE: f64 = 0.03;
/// Where a runtime's I/O driver waits.
const EPOLL: &[&str] = &["epoll_wait", "epoll_pwait", "epoll_pwait2"];
/// The share of unknown waits that is allowed.
const UNKNOWN: f64 = 0.01;

/// A package that was fetched, while it is checked.
struct Subject<'a> {
    package: &'a Package,
    /// What was unpacked.
    folder: PathBuf,
    /// The file with tokio in it.
    binary: PathBuf,
    recorder: Recorder<'a>,
}

/// Fetches a package, and checks what holdup says of it.
///
/// # Errors
/// Something went wrong that says nothing about holdup.
pub(super) fn check(package: &Package, holdup: &Path) -> Result<Checked> {
    let folder = match fetch::package(package)? {
        Fetched::Here(folder) => folder,
        Fetched::Skipped(reason) => return Ok(Checked::Skipped(reason)),
    };
    let subject = Subject {
        package,
        binary: folder.join(&package.binary),
        folder,
        recorder: Recorder {
            holdup,
            folder: fetch::folder(&package.name),
        },
    };
    let mut checked = match &package.check {
        Check::Gil {
            setup,
            call,
            speaks,
            after,
            expect,
        } => {
            let after = after.map(Duration::from_millis);
            gil::check(&subject, [setup, call], *speaks, after, *expect)
        }
        Check::SlowFiles { .. } | Check::Serve { .. } => slow::check(&subject),
        Check::Daemon { .. } => daemon::check(&subject),
        Check::Idle {
            arguments,
            environment,
            files,
        } => idle::check(&subject, arguments, environment, files),
        Check::NoTokio { arguments } => no_tokio(&subject, arguments),
    };
    if let Ok(Checked::Seen(seen)) = &mut checked {
        seen.rustc = fetch::rustc(&subject.binary);
    }
    checked
}

/// A program without tokio: holdup says so, by its exit code.
fn no_tokio(subject: &Subject<'_>, arguments: &[String]) -> Result<Checked> {
    fetch::make_executable(&subject.binary)?;
    let mut seen = Seen {
        truth: "nothing: no tokio in it".to_owned(),
        ..Seen::default()
    };
    let code = subject.recorder.launch(&subject.binary, arguments)?.code();
    seen.said = format!("exit {}", code.unwrap_or(-1));
    if code != Some(3) {
        seen.wrong.push("expected 3".to_owned());
    }
    Ok(Checked::Seen(seen))
}

/// What holdup said, against the truth.
fn judge(package: &Package, report: &Report, truth: &Truth<'_>, what: &str) -> Seen {
    let (total, count) = (truth.total(), truth.waits.len());
    let waits = report.waits(truth.state, truth.calls);
    let mut wrong = Vec::new();
    let slack = total.mul_f64(PART) + EACH * u32::try_from(count).unwrap_or(u32::MAX);
    if waits.total.abs_diff(total) > slack {
        wrong.push(format!("{} for {:.2?}", truth.state.name(), waits.total));
    }
    let far = truth.longest().mul_f64(PART) + EACH;
    // A poll holds its worker up, not a wait: where Python is waited for in pieces, it has many.
    let in_pieces = !truth.single && truth.state == Expect::Blocked;
    let longest = match in_pieces {
        true => report.longest_poll(),
        false => waits.longest,
    };
    if (truth.single || in_pieces) && longest.abs_diff(truth.longest()) > far {
        wrong.push(format!("the longest was {:.0?}", truth.longest()));
    }
    elsewhere(report, truth, &mut wrong);
    let besides = besides(report, truth, &mut wrong);
    verdict(report, truth, &mut wrong);
    let unknown = unknown(package, report, truth.without_main, &mut wrong);
    let also = truth
        .besides
        .map(|also| format!("; for {} ms or longer {}", also.at_least, also.what));
    Seen {
        rustc: None,
        tokio: tokio_version(report),
        truth: format!(
            "{count} {what}, {total:.2?} in all{}",
            also.unwrap_or_default()
        ),
        said: format!(
            "{}: {} {:.2?} ({}), longest {:.0?}{besides}{}",
            shown(report.verdict()),
            truth.state.name(),
            waits.total,
            report.runtimes_line(),
            longest,
            gap(package)
        ),
        unknown: Some(unknown),
        wrong,
    }
}

/// What is told of these waits as something that they are not.
fn elsewhere(report: &Report, truth: &Truth<'_>, wrong: &mut Vec<String>) {
    let most = truth.total().mul_f64(ELSEWHERE) + EACH;
    // What a thread that is not tokio's does besides is its own affair.
    let others = Expect::ALL.into_iter().filter(|other| {
        *other != truth.state && (*other != Expect::Other || truth.state == Expect::Other)
    });
    let others = others.map(|other| (other.name(), report.waits(other, truth.calls)));
    for (name, waits) in others.chain([("unknown", report.unknown_waits(truth.calls))]) {
        if waits.total > most {
            wrong.push(format!("{name} for {:.2?}", waits.total));
        }
    }
    // No package here waits for events within a task: that is a park which was misjudged.
    let parks = report.waits(Expect::Blocked, EPOLL).total;
    if parks > EACH {
        wrong.push(format!("parked workers blocked for {parks:.2?}"));
    }
}

/// What was said of that for which workers waited besides.
fn besides(report: &Report, truth: &Truth<'_>, wrong: &mut Vec<String>) -> String {
    let Some(besides) = truth.besides else {
        return String::new();
    };
    let calls: Vec<_> = besides.calls.iter().map(String::as_str).collect();
    let waits = report.waits(Expect::Blocked, &calls);
    let least = Duration::from_millis(besides.at_least);
    if waits.total + least.mul_f64(PART) + EACH < least {
        wrong.push(format!("blocked besides for {:.2?} only", waits.total));
    }
    format!(", and blocked {:.2?}", waits.total)
}

/// The verdict must be the one that follows from the truth, and what it says to fix first one of these waits.
fn verdict(report: &Report, truth: &Truth<'_>, wrong: &mut Vec<String>) {
    let workers: Vec<u64> = report
        .runtimes
        .iter()
        .map(|runtime| runtime.workers)
        .collect();
    match truth.verdict(&workers) {
        Some(verdict) => expect_verdict(report, verdict, wrong),
        None => wrong.push("which verdict is true does not follow".to_owned()),
    }
    let calls = truth.calls_to_fix();
    if !calls.is_empty() && !report.fixes_first(&calls) {
        wrong.push(format!("to fix first is a wait in {}", calls.join(" or ")));
    }
}

fn expect_verdict(report: &Report, verdict: &str, wrong: &mut Vec<String>) {
    if report.verdict() != verdict {
        wrong.push(format!("the verdict is {}", shown(verdict)));
    }
}

/// A verdict of the JSON report as the text report has it.
fn shown(verdict: &str) -> String {
    verdict.replace('_', " ").to_uppercase()
}

fn tokio_version(report: &Report) -> Option<String> {
    report.processes.first()?.tokio_version.clone()
}

/// The share of unknown waits, which must be small.
fn unknown(package: &Package, report: &Report, without_main: bool, wrong: &mut Vec<String>) -> f64 {
    let share = report.unknown_share(without_main);
    if share > package.gap.as_ref().map_or(UNKNOWN, |gap| gap.at_most) {
        wrong.push("too much is unknown".to_owned());
    }
    share
}

/// What is known to stay unknown.
fn gap(package: &Package) -> String {
    let gap = package.gap.as_ref();
    gap.map_or_else(String::new, |gap| format!("; unknown: {}", gap.because))
}
