//! A recording by the `holdup` binary that goes on while a trial does something to its target, and what
//! it left.

use super::record::{spawn_record_with_streams, until_recording};
use super::report::{Report, Site, is_in};
use children::{Child, Lines};
use libtest_mimic::Failed;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Until a report is written.
pub(crate) const WRITTEN: Duration = Duration::from_secs(60);

pub(crate) type Outcome = Result<(), Failed>;

/// A recording that has said that it records.
pub(crate) struct Recording {
    pub(crate) holdup: Child,
    messages: Lines,
    dir: tempfile::TempDir,
}

/// What a recording left.
pub(crate) struct Recorded {
    pub(crate) report: Report,
    pub(crate) folded: String,
    pub(crate) text: String,
    /// What it said meanwhile.
    pub(crate) said: String,
}

impl Recording {
    pub(crate) fn start(target: &[&str]) -> Result<Recording, String> {
        Recording::start_with(target, |_| {})
    }

    pub(crate) fn start_with(
        target: &[&str],
        configure: impl FnOnce(&mut Command),
    ) -> Result<Recording, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command.arg("record");
        for name in ["report.json", "report.folded", "report.txt"] {
            command.arg("-o").arg(dir.path().join(name));
        }
        command.args(target);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        configure(&mut command);
        let (holdup, mut messages) = spawn_record_with_streams(&mut command)?;
        until_recording(&mut messages)?;
        Ok(Recording {
            holdup,
            messages,
            dir,
        })
    }

    pub(crate) fn stop(self) -> Result<Recorded, String> {
        self.holdup.interrupt()?;
        self.end()
    }

    /// Waits for its own end.
    pub(crate) fn end(self) -> Result<Recorded, String> {
        self.end_with(0)
    }

    /// As [`Recording::end`], with another exit code.
    pub(crate) fn end_with(mut self, code: i32) -> Result<Recorded, String> {
        let status = self.holdup.wait(WRITTEN);
        self.messages.drain(Duration::from_secs(1));
        match status {
            Ok(status) if status.code() == Some(code) => {}
            other => return Err(format!("{other:?}; {}", self.messages.transcript())),
        }
        let read = |name: &str| {
            let path = self.dir.path().join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let report = Report::parse(&read("report.json")?)
            .map_err(|error| format!("the report does not have the promised form: {error}"))?;
        Ok(Recorded {
            report,
            folded: read("report.folded")?,
            text: read("report.txt")?,
            said: self.messages.transcript(),
        })
    }
}

impl Recorded {
    /// What the report says of one process.
    pub(crate) fn of(&self, pid: u32) -> Report {
        let mut report = self.report.clone();
        report.sites.retain(|site| site.pid == pid);
        report.threads.retain(|thread| thread.pid == pid);
        report.runtimes.retain(|runtime| runtime.pid == pid);
        report
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.report
            .targets
            .iter()
            .map(|target| target.pid)
            .collect()
    }

    /// The process in which a function blocked.
    pub(crate) fn pid_of(&self, function: &str) -> Result<u32, String> {
        let mut sites = self.report.sites.iter();
        let site = sites.find(|site| is_in(&site.function, function));
        site.map(|site| site.pid)
            .ok_or_else(|| format!("no {function} in the report: {:?}", self.report.losses))
    }
}

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what().into()) }
}

pub(crate) fn no_complaints(complaints: Vec<String>) -> Outcome {
    ensure(complaints.is_empty(), || complaints.join("\n"))
}

/// Each thread's states make up its life, and nothing was lost.
pub(crate) fn sound(report: &Report) -> Outcome {
    states_make_up_lives(report)?;
    let losses = &report.losses;
    nothing_is_lost(report, losses.truncated)
}

/// As [`sound`], of processes that began while others were recorded. A stack that no wait came of, as
/// where an exec has its memory gone, may be cut off; and the wait in which each was found, while it was
/// loaded, may have no stack.
pub(crate) fn sound_with_joined(report: &Report, joined: u64) -> Outcome {
    states_make_up_lives(report)?;
    let without = report.sites.iter().filter(|site| site.stack.is_empty());
    let found_so: u64 = without.map(|site| site.waits).sum();
    let unknown = report.losses.unknown_waits;
    nothing_is_lost(report, unknown.saturating_sub(found_so.min(joined)))
}

fn states_make_up_lives(report: &Report) -> Outcome {
    for thread in &report.threads {
        let sum: u64 = thread.states.values().sum();
        ensure(
            sum.abs_diff(thread.lived_ns) * 1000 <= thread.lived_ns,
            || format!("states do not sum to the life of {thread:?}"),
        )?;
    }
    Ok(())
}

fn nothing_is_lost(report: &Report, cut_off: u64) -> Outcome {
    // Where the kernel starts it, the loader has no unwinding information. While a new program is
    // put in its place, the old one has no stack any more.
    let without_stack = report.sites.iter().filter(|site| {
        let outermost = site.stack.last();
        outermost.is_some_and(|frame| frame.function.starts_with("ld-linux"))
            || (site.state == "unknown"
                && site
                    .stack
                    .iter()
                    .any(|frame| frame.function == "load_elf_binary"))
    });
    let without_stack: u64 = without_stack.map(|site| site.waits).sum();
    let losses = &report.losses;
    ensure(
        cut_off.saturating_sub(without_stack) + losses.lost_events() + losses.stacks == 0,
        || format!("{losses:?}\n{}", unknown(report)),
    )
}

/// The sites of unknown state, for a failure's message.
pub(crate) fn unknown(report: &Report) -> String {
    let sites = report.sites.iter().filter(|site| site.state == "unknown");
    let lines: Vec<String> = sites.map(Site::describe).collect();
    lines.join("\n")
}
