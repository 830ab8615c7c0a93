//! A fixture recorded by the `holdup` binary.

use super::fixture::Variant;
use super::report::Report;
use super::truth::Truth;
use children::{Child, Lines};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Loading the programs and reading all unwinding information, on a busy machine.
pub(crate) const ATTACHED: Duration = Duration::from_secs(60);
/// From the interrupt to the written files.
const WRITTEN: Duration = Duration::from_secs(60);
/// For how long a wait that never ends is watched.
pub(crate) const OPEN_FOR: Duration = Duration::from_millis(1200);

/// What is compared: two accounts of the same run.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) variant: Variant,
    pub(crate) pid: u32,
    /// Of all programs that the process was, together.
    pub(crate) truth: Truth,
    pub(crate) report: Report,
    /// The folded stacks.
    pub(crate) folded: String,
    /// Threads that lived from before the recording until after it, and the CPU time that the
    /// kernel gave each of them meanwhile.
    pub(crate) throughout: BTreeMap<u32, u64>,
    /// Time that the host (of a virtual machine) and interrupts took from all CPUs meanwhile, at
    /// most: a thread is on a CPU then, but the scheduler's accounting leaves it out.
    pub(crate) stolen_ns: u64,
}

/// How a run of the fixture comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It stays until the recording is over.
    Stays,
    /// It stays, with waits that never end.
    Wedged,
    /// It ends by itself, and so does the recording.
    Exits,
    /// It executes another program, which stays.
    Execs,
}

/// How `holdup` is called beyond what every recording has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) args: &'static [&'static str],
    /// `HOLDUP_TEST_LIMITS`: tables made small.
    pub(crate) limits: &'static str,
}

/// Waits until `holdup` says that its recording has begun.
pub(crate) fn until_recording(messages: &mut Lines) -> Result<(), String> {
    let begins = |line: &str| line.starts_with("recording ");
    messages.find("line that begins with `recording `", ATTACHED, begins)?;
    Ok(())
}

/// Starts a command that records, and what it says on standard error. It has no other streams.
pub(crate) fn spawn_record(command: &mut Command) -> Result<(Child, Lines), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    spawn_record_with_streams(command)
}

/// As [`spawn_record`], with whatever streams it has.
pub(crate) fn spawn_record_with_streams(command: &mut Command) -> Result<(Child, Lines), String> {
    command.env("NO_COLOR", "1").stderr(Stdio::piped());
    let mut holdup = Child::spawn("holdup", command)?;
    let messages = holdup.stderr()?;
    Ok((holdup, messages))
}

/// Runs the fixture in a mode while `holdup` records it.
pub(crate) fn record(variant: Variant, mode: &str, ending: Ending) -> Result<Recorded, String> {
    record_with(variant, mode, ending, Extra::default())
}

/// As [`record`].
pub(crate) fn record_with(
    variant: Variant,
    mode: &str,
    ending: Ending,
    extra: Extra,
) -> Result<Recorded, String> {
    let mut fixture = variant.start(mode)?;
    let pid = fixture.pid();
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let json = dir.path().join("report.json");
    let folded = dir.path().join("report.folded");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "-p", &pid.to_string(), "-o"])
        .arg(&json)
        .arg("-o")
        .arg(&folded)
        .args(extra.args);
    if !extra.limits.is_empty() {
        command.env("HOLDUP_TEST_LIMITS", extra.limits);
    }
    let (mut holdup, mut messages) = spawn_record(&mut command)?;
    until_recording(&mut messages)?;
    let (before, stolen_before) = (cpu_times(pid), stolen());
    fixture.go()?;
    let mut truth = fixture.truth()?;
    if ending == Ending::Execs {
        truth.sites.extend(fixture.truth()?.sites);
    }
    if ending == Ending::Wedged {
        thread::sleep(OPEN_FOR);
    }
    let (after, stolen_after) = (cpu_times(pid), stolen());
    if ending != Ending::Exits {
        holdup.interrupt()?;
    }
    finish(&mut holdup, &mut messages, !extra.limits.is_empty())?;
    // The runtime lets idle threads of its pool end after ten seconds: also while holdup ends.
    let still = cpu_times(pid);
    fixture.finish()?;
    let report = read(&json)?;
    let report = Report::parse(&report)
        .map_err(|error| format!("the report does not have the promised form: {error}"))?;
    let throughout = before
        .into_iter()
        .filter(|(tid, _)| still.contains_key(tid))
        .filter_map(|(tid, cpu)| Some((tid, after.get(&tid)?.saturating_sub(cpu))))
        .collect();
    Ok(Recorded {
        variant,
        pid,
        truth,
        report,
        folded: read(&folded)?,
        throughout,
        stolen_ns: stolen_after.saturating_sub(stolen_before) + STOLEN_UNIT * cpus(),
    })
}

/// `may_see_nothing`: with tables too small the runtime may not show (exit 3).
fn finish(holdup: &mut Child, messages: &mut Lines, may_see_nothing: bool) -> Result<(), String> {
    let status = holdup.wait(WRITTEN);
    messages.drain(Duration::from_secs(1));
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) if may_see_nothing && status.code() == Some(3) => Ok(()),
        Ok(status) => Err(format!(
            "holdup ended with {status}; {}",
            messages.transcript()
        )),
        Err(error) => Err(format!("{error}; {}", messages.transcript())),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The unit of `/proc/stat`, `USER_HZ`, in nanoseconds.
const STOLEN_UNIT: u64 = 10_000_000;

fn cpus() -> u64 {
    thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

/// What `/proc/stat` has under irq, softirq and steal, over all CPUs, in nanoseconds.
fn stolen() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpu = text.lines().next().unwrap_or_default();
    let ticks: u64 = cpu
        .split_ascii_whitespace()
        .skip(6)
        .take(3)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks * STOLEN_UNIT
}

/// CPU time of each thread so far, by the scheduler's own accounting.
fn cpu_times(pid: u32) -> BTreeMap<u32, u64> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeMap::new();
    };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let cpu = text.split_ascii_whitespace().next()?.parse().ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, cpu))
        })
        .collect()
}
