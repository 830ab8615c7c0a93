//! Signals at each phase of a recording: whatever comes, there is a sound report or none, the exit code
//! says which, and nothing stays in the kernel.

use super::dump::STANDSTILL;
use super::fixture::{Running, Variant};
use super::privilege;
use super::record::{ATTACHED, until_recording};
use super::report::Report;
use super::safety::{are_gone, ids_of, open_ids, wait_for};
use children::{Child, Lines};
use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;

const WRITTEN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Attaching,
    Recording,
    Writing,
}

const PHASES: [(&str, Phase); 3] = [
    ("attaching", Phase::Attaching),
    ("recording", Phase::Recording),
    ("writing", Phase::Writing),
];

const SIGNALS: [(&str, Signal); 5] = [
    ("sigint", Signal::INT),
    ("sigterm", Signal::TERM),
    ("sighup", Signal::HUP),
    ("sigusr1", Signal::USR1),
    ("sigkill", Signal::KILL),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (phase_name, phase) in PHASES {
        for (signal_name, signal) in SIGNALS {
            let name = format!("phases::{signal_name}_while_{phase_name}");
            trials.push(Trial::ignorable_test(name, move || {
                privilege::unless_skipped(privilege::missing(), || signalled(signal, phase))
            }));
        }
    }
    let name = "phases::a_report_of_so_far_knows_who_holds_what";
    trials.push(Trial::ignorable_test(name, || {
        privilege::unless_skipped(privilege::missing(), holders_so_far)
    }));
    trials
}

/// Who waits for whom is known before the end, too: the recording goes on while the service hangs.
fn holders_so_far() -> Outcome {
    let fixture = Variant::DEFAULT.start("deadlock-before")?;
    sleep(STANDSTILL);
    let mut attempt = Attempt::start(&fixture)?;
    until_recording(&mut attempt.messages)?;
    attempt.holdup.signal(Signal::USR1)?;
    let says = |line: &str| line.starts_with("wrote a report of so far: ");
    attempt
        .messages
        .find("word of the report", ATTACHED, says)?;
    let text = fs::read_to_string(attempt.dir.path().join("report.json"))?;
    attempt.holdup.interrupt()?;
    attempt.ends_well()?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let deadlocks = &report["deadlocks"];
    let circle = deadlocks[0]["threads"].as_array().map_or(0, Vec::len);
    if deadlocks.as_array().map(Vec::len) != Some(1) || circle != 2 {
        return Err(format!("{deadlocks:#}, with the verdict {}", report["verdict"]).into());
    }
    Ok(())
}

/// A recording, and where its report will be.
struct Attempt {
    holdup: Child,
    messages: Lines,
    output: Lines,
    dir: tempfile::TempDir,
}

impl Attempt {
    fn start(of: &Running) -> Result<Attempt, Failed> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command
            .args(["record", "-p", &of.pid().to_string(), "-o"])
            .arg(dir.path().join("report.json"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Under nohup it would go on at a SIGHUP, as it should.
        // SAFETY: signal(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut holdup = Child::spawn("holdup", &mut command)?;
        let (messages, output) = (holdup.stderr()?, holdup.stdout()?);
        Ok(Attempt {
            holdup,
            messages,
            output,
            dir,
        })
    }

    /// Before it is, a signal ends it as any program.
    fn until_it_listens(&self) -> Result<(), String> {
        let path = format!("/proc/{}/status", self.holdup.id());
        wait_for("handler of signals", || {
            let status = fs::read_to_string(&path).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            // The last one that is set up.
            (caught & (1 << (libc::SIGUSR1 - 1)) != 0).then_some(())
        })
    }

    /// The report, if there is one, which has to be sound; there is nothing else.
    fn report(&self) -> Result<Option<Report>, Failed> {
        let names: Vec<PathBuf> = fs::read_dir(self.dir.path())?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        match names.as_slice() {
            [] => Ok(None),
            [path] if path.ends_with("report.json") => {
                Ok(Some(Report::parse(&fs::read_to_string(path)?)?))
            }
            other => Err(format!("it left {other:?}").into()),
        }
    }

    fn wait(&mut self) -> Result<ExitStatus, String> {
        let status = self.holdup.wait(WRITTEN);
        self.messages.drain(Duration::from_secs(1));
        self.output.drain(Duration::from_secs(1));
        status.map_err(|error| format!("{error}; {}", self.messages.transcript()))
    }

    /// It ended well, with its report.
    fn ends_well(&mut self) -> Result<Report, Failed> {
        let status = self.wait()?;
        let report = self.report()?;
        match report.filter(|_| status.success()) {
            Some(report) => Ok(report),
            None => Err(format!("{status}; {}", self.messages.transcript()).into()),
        }
    }
}

fn signalled(signal: Signal, phase: Phase) -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let mut attempt = Attempt::start(&fixture)?;
    match phase {
        Phase::Attaching => attempt.until_it_listens()?,
        Phase::Recording => until_recording(&mut attempt.messages)?,
        Phase::Writing => {
            until_recording(&mut attempt.messages)?;
            sleep(Duration::from_millis(300));
            attempt.holdup.interrupt()?;
        }
    }
    if phase == Phase::Attaching && signal == Signal::KILL {
        // In the middle: some of its programs are loaded.
        let pid = attempt.holdup.id();
        wait_for("program of its own", || {
            let ids = open_ids(pid, "prog_id:").ok()?;
            (!ids.is_empty()).then_some(())
        })?;
    }
    let ids = ids_of(attempt.holdup.id()).unwrap_or_default();
    attempt.holdup.signal(signal)?;
    match signal {
        Signal::KILL => {
            let status = attempt.wait()?;
            // It may have been done with the writing.
            let ended = status.code() == Some(0) && phase == Phase::Writing;
            let report = attempt.report()?;
            if status.code().is_some() && !ended || phase != Phase::Writing && report.is_some() {
                return Err(format!("{status}, {:?}", report.is_some()).into());
            }
        }
        Signal::USR1 => reported(&mut attempt, phase)?,
        // One that comes after another ends it at once.
        Signal::INT | Signal::TERM if phase == Phase::Writing => {
            let status = attempt.wait()?;
            let report = attempt.report()?;
            match status.code() {
                Some(130) => {}
                Some(0) if report.is_some() => {}
                other => return Err(format!("{other:?}, {:?}", report.is_some()).into()),
            }
        }
        _ => {
            attempt.ends_well()?;
        }
    }
    drop(fixture);
    Ok(are_gone(&ids)?)
}

/// A report of so far does not end the recording, and the last one takes its place.
fn reported(attempt: &mut Attempt, phase: Phase) -> Outcome {
    if phase == Phase::Writing {
        attempt.ends_well()?;
        return Ok(());
    }
    let begun = Instant::now();
    let says = |line: &str| line.starts_with("wrote a report of so far: ");
    attempt
        .messages
        .find("word of the report", ATTACHED, says)?;
    if phase == Phase::Recording && begun.elapsed() > Duration::from_secs(10) {
        return Err(format!("it took {:?}", begun.elapsed()).into());
    }
    let first = attempt.report()?.ok_or("there is no report of so far")?;
    let is_text = |line: &str| line.contains("blockers");
    attempt
        .output
        .find("report on standard output", ATTACHED, is_text)?;
    if let Some(status) = attempt.holdup.ended()? {
        return Err(format!("it ended: {status}").into());
    }
    sleep(Duration::from_millis(300));
    attempt.holdup.interrupt()?;
    let last = attempt.ends_well()?;
    if last.duration_ns <= first.duration_ns {
        return Err(format!("{} ns after {} ns", last.duration_ns, first.duration_ns).into());
    }
    Ok(())
}
