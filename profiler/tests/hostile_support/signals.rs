//! Whoever has enough of a recording, or only wants a look, does not wait for memory that nobody
//! serves.

use crate::beside;
use crate::fixture::{Running, Variant};
use crate::honest;
use crate::live_recording::{Recording, ensure, no_complaints};
use crate::report::Report;
use crate::truth::slowdown;
use children::Child;
use libtest_mimic::Failed;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// From a signal, or a command's start, to the end.
const SOON: Duration = Duration::from_secs(2);
/// After that it hangs.
const HANGS: Duration = Duration::from_secs(30);
/// Between two presses of Ctrl-C: sooner, the second counts as the same one.
const AGAIN: Duration = Duration::from_millis(350);
/// From the start to a Ctrl-C that comes before the recording: the target is being read then.
const EARLY: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(400)];

/// How long something took that has to take no longer than [`SOON`].
struct Took(&'static str, Duration);

/// By each way in which memory can be served, or not.
pub(crate) fn trial() -> Result<(), Failed> {
    for (name, start) in [
        ("fuse", beside::fuse as beside::Start),
        ("userfaultfd", beside::userfaultfd),
    ] {
        for (what, look) in [
            ("one signal", one_signal as Look),
            ("two signals", two_signals),
            ("an early signal", early_signal),
            ("commands", commands),
        ] {
            let named = |error: Failed| -> Failed {
                format!("{name}, {what}: {}", error.message().unwrap_or_default()).into()
            };
            // What is late once has to be late the second time, too, as in the other trials.
            let late = once(start, look).map_err(named)?;
            if late.is_empty() {
                continue;
            }
            println!("once more, because of: {}", late.join("; "));
            let late = once(start, look).map_err(named)?;
            ensure(late.is_empty(), || format!("{name}: {}", late.join("; ")))?;
        }
    }
    Ok(())
}

type Look = fn(&mut Running, u32) -> Result<Vec<Took>, Failed>;

/// What was late with a process that is stalled, beside one that is not.
fn once(start: beside::Start, look: Look) -> Result<Vec<String>, Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut honest = honest::start(&Variant::DEFAULT.build()?, dir.path())?;
    // Ended when it is dropped.
    let stalled = start(dir.path())?;
    let took = look(&mut honest, stalled.id())?;
    let most = SOON * u32::try_from(slowdown())?;
    let late = took.into_iter().filter(|Took(_, time)| *time > most);
    Ok(late
        .map(|Took(what, time)| format!("{what} took {time:?}"))
        .collect())
}

/// The report is written, has both, and lacks nothing of the honest one's.
fn one_signal(honest: &mut Running, stalled: u32) -> Result<Vec<Took>, Failed> {
    let pid = honest.pid();
    let mut recording = Recording::start(&["-p", &format!("{pid},{stalled}")])?;
    honest.go()?;
    let truth = honest.truth()?;
    let signalled = Instant::now();
    recording.holdup.interrupt()?;
    recording.holdup.wait(HANGS)?;
    let took = signalled.elapsed();
    let recorded = recording.end()?;
    ensure(recorded.pids() == [pid, stalled], || {
        format!("{:?} of {pid} and {stalled}", recorded.pids())
    })?;
    no_complaints(honest::compared(&recorded.report, pid, truth, 0).waits)?;
    // Its threads stand in calls all the time: what there is of them are waits that are open.
    let losses = &recorded.report.losses;
    ensure(losses.cause("unreadable") > 0, || {
        format!("no stack was unreadable: {losses:?}")
    })?;
    Ok(vec![Took("the end after a Ctrl-C", took)])
}

/// The second one ends it at once: without a report, or with a whole one.
fn two_signals(honest: &mut Running, stalled: u32) -> Result<Vec<Took>, Failed> {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report.json");
    let mut command = record(&format!("{},{stalled}", honest.pid()), &report);
    let mut holdup = Child::spawn("holdup", &mut command)?;
    let mut messages = holdup.stderr()?;
    crate::record::until_recording(&mut messages)?;
    honest.go()?;
    honest.truth()?;
    let signalled = Instant::now();
    holdup.interrupt()?;
    std::thread::sleep(AGAIN);
    holdup.interrupt()?;
    let status = holdup.wait(HANGS)?;
    let took = signalled.elapsed();
    let is_whole = is_whole(&report)?;
    let expected = match is_whole {
        true => [Some(0), Some(130)],
        false => [Some(130), Some(130)],
    };
    ensure(expected.contains(&status.code()), || {
        messages.drain(Duration::from_secs(1));
        let said = messages.transcript();
        format!("{status}, a report: {is_whole}; {said}")
    })?;
    Ok(vec![Took("the end after two Ctrl-C", took)])
}

/// One that comes while the stacks of before the recording are read.
fn early_signal(honest: &mut Running, stalled: u32) -> Result<Vec<Took>, Failed> {
    let mut took = Vec::new();
    for early in EARLY {
        let dir = tempfile::tempdir()?;
        let report = dir.path().join("report.json");
        let mut command = record(&format!("{},{stalled}", honest.pid()), &report);
        let mut holdup = Child::spawn("holdup", &mut command)?;
        std::thread::sleep(early);
        let signalled = Instant::now();
        holdup.interrupt()?;
        holdup.wait(HANGS)?;
        took.push(Took("the end after an early Ctrl-C", signalled.elapsed()));
        is_whole(&report)?;
    }
    Ok(took)
}

/// Commands that look at it, at another, or at all.
fn commands(honest: &mut Running, stalled: u32) -> Result<Vec<Took>, Failed> {
    let (pid, stalled) = (honest.pid().to_string(), stalled.to_string());
    let both = format!("{pid},{stalled}");
    let mut took = Vec::new();
    // What has no tokio is told by its exit code.
    for (what, args, code) in [
        (
            "check of the stalled one",
            &["check", "-p", &stalled][..],
            3,
        ),
        ("check beside it", &["check", "-p", &pid], 0),
        ("list", &["list"], 0),
        ("dump of the stalled one", &["dump", "-p", &stalled], 3),
        ("dump of both", &["dump", "-p", &both], 0),
        ("dump beside it", &["dump", "-p", &pid], 0),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command.args(args).env_remove("HOLDUP_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let begun = Instant::now();
        let mut holdup = Child::spawn("holdup", command.stderr(Stdio::piped()))?;
        let mut streams = [holdup.stdout()?, holdup.stderr()?];
        let status: ExitStatus = holdup.wait(HANGS)?;
        took.push(Took(what, begun.elapsed()));
        let said = streams.each_mut().map(|lines| {
            lines.drain(Duration::from_secs(1));
            lines.transcript()
        });
        ensure(status.code() == Some(code), || {
            format!("{what}: {status}; {}", said.join("\n"))
        })?;
        // Whoever is no subject of it is not in it, and nobody else is left out.
        let about_honest =
            args.contains(&"list") || args.contains(&&*pid) || args.contains(&&*both);
        ensure(said[0].contains(&pid) == about_honest, || {
            format!("{what}: {}", said.join("\n"))
        })?;
    }
    Ok(took)
}

fn record(pids: &str, report: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "--color", "never", "-p", pids, "-o"])
        .arg(report)
        .env_remove("HOLDUP_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Whether a report is there; it is never there in part.
fn is_whole(report: &Path) -> Result<bool, Failed> {
    match std::fs::read_to_string(report) {
        Ok(text) => {
            Report::parse(&text)?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
