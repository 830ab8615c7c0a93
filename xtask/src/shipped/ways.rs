//! The ways in which a package is made to block, and what is checked then.

mod gil;
mod idle;
mod recording;
mod slow;

use super::fetch::{self, Fetched};
use super::list::{Check, Expect, Package};
use super::outcome::{Checked, Seen};
use super::report::Report;
use anyhow::Result;
use recording::Recorder;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// What is known to have happened.
#[derive(Clone, Copy, Debug)]
struct Truth<'a> {
    state: Expect,
    /// The system calls in which the threads waited.
    calls: &'a [&'a str],
    count: usize,
    total: Duration,
    longest: Duration,
    /// Whether each of the waits is a single one to the kernel, so that the longest can be compared.
    single: bool,
    /// Whether the main thread is none of tokio's.
    without_main: bool,
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
fn judge(package: &Package, report: &Report, truth: Truth<'_>, what: &str) -> Seen {
    let name = truth.state.state();
    let waits = report.waits(name, truth.calls);
    let mut wrong = Vec::new();
    let slack = truth.total.mul_f64(PART) + EACH * u32::try_from(truth.count).unwrap_or(u32::MAX);
    if waits.total.abs_diff(truth.total) > slack {
        wrong.push(format!("{name} for {:.2?}", waits.total));
    }
    let far = truth.longest.mul_f64(PART) + EACH;
    // A poll holds its worker up, not a wait: where Python is waited for in pieces, it has many.
    let in_pieces = !truth.single && truth.state == Expect::Blocked;
    let longest = match in_pieces {
        true => report.longest_poll(),
        false => waits.longest,
    };
    if (truth.single || in_pieces) && longest.abs_diff(truth.longest) > far {
        wrong.push(format!("the longest was {:.0?}", truth.longest));
    }
    for other in ["blocked", "pool", "other", "unknown"] {
        // What a thread that is not tokio's does besides is its own affair.
        if other == name || (other == "other" && truth.state != Expect::Other) {
            continue;
        }
        let elsewhere = report.waits(other, truth.calls).total;
        if elsewhere > truth.total.mul_f64(ELSEWHERE) + EACH {
            wrong.push(format!("{other} for {elsewhere:.2?}"));
        }
    }
    // No package here waits for events within a task: that is a park which was misjudged.
    let parks = report.waits("blocked", EPOLL).total;
    if parks > EACH {
        wrong.push(format!("parked workers blocked for {parks:.2?}"));
    }
    let unknown = unknown(package, report, truth.without_main, &mut wrong);
    Seen {
        rustc: None,
        tokio: report
            .processes
            .first()
            .and_then(|process| process.tokio_version.clone()),
        truth: format!(
            "{what}: {} of them, {:.2?} in all",
            truth.count, truth.total
        ),
        said: format!(
            "{}: {name} {:.2?} ({}), longest {:.0?}{}",
            report.verdict(),
            waits.total,
            report.runtimes_line(),
            longest,
            gap(package)
        ),
        unknown: Some(unknown),
        wrong,
    }
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
