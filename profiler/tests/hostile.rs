//! Targets whose owner wants holdup's memory, its time, its words or its rights. Each is recorded
//! in a control group with a limit, and within a time: the report is there, holds what else there
//! was, and tells what it lacks.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail.

#[path = "hostile_support/beside.rs"]
mod beside;
#[path = "hostile_support/capable.rs"]
mod capable;
#[path = "hostile_support/cgroup.rs"]
mod cgroup;
#[path = "support/fixture.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod fixture;
mod hostile_support;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[path = "hostile_support/squatters.rs"]
mod squatters;
#[path = "hostile_support/sudo.rs"]
mod sudo;
#[path = "hostile_support/targets.rs"]
mod targets;
#[path = "support/truth.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod truth;

use cgroup::Cgroup;
use children::{Child, Lines};
use fixture::{Running, Variant};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What holdup may have at most, whatever it records.
const MAX_PEAK: u64 = 400 << 20;
/// What it is asked for.
const ASKED: Duration = Duration::from_secs(2);
/// How much later than asked it may begin, or end.
const LATE: Duration = Duration::from_secs(2);

type Build = fn(&Path) -> Vec<PathBuf>;

/// An honest program, and what is hostile.
struct Case {
    name: &'static str,
    /// Libraries that it loads.
    build: Build,
    /// A process that is recorded beside it, with its children.
    beside: Option<beside::Start>,
    /// Options of the recording.
    with: &'static [&'static str],
    /// What the report, or standard error, has to say of it.
    told: &'static str,
}

impl Case {
    const fn library(name: &'static str, build: Build, told: &'static str) -> Case {
        Case {
            name,
            build,
            beside: None,
            with: &[],
            told,
        }
    }

    const fn beside(name: &'static str, start: beside::Start, told: &'static str) -> Case {
        Case {
            name,
            build: |_| Vec::new(),
            beside: Some(start),
            with: &["--follow"],
            told,
        }
    }
}

/// What the honest program does.
const HONEST: &str = "block_by";

const CASES: &[Case] = &[
    Case::library("constants_that_are_a_hole", targets::hole_in_rodata, HONEST),
    Case::library("symbols_that_are_a_hole", targets::hole_in_symtab, HONEST),
    Case::library(
        "a_hole_where_it_is_read",
        targets::honest_hole,
        "MiB more than may be read of all modules",
    ),
    Case::library(
        "lines_that_unpack_to_all_memory",
        targets::packed_lines,
        "more than may be unpacked: source lines are missing",
    ),
    Case::library(
        "lines_that_take_all_memory",
        targets::lines,
        "takes too much memory: source lines are missing",
    ),
    Case::library("names_that_grow_without_end", targets::names, HONEST),
    Case::library(
        "rows_that_take_all_memory",
        targets::rows,
        "more unwinding information than may be read",
    ),
    Case::library("debug_information_in_a_fifo", targets::linked, HONEST),
    Case::beside("stacks_in_userfaultfd", beside::userfaultfd, HONEST),
    Case::beside("stacks_in_fuse", beside::fuse, "does not answer"),
    Case::beside("stacks_that_are_served_slowly", beside::slow_fuse, HONEST),
    Case {
        with: &["--panics"],
        ..Case::beside(
            "panics_in_a_library_that_is_not_served",
            beside::library_in_fuse,
            "its file system (fuse) is served by a program",
        )
    },
    Case::beside("setuid_programs", beside::setuid_programs, HONEST),
    Case::beside("forks_without_end", beside::forks, HONEST),
    Case::beside("mappings_without_end", beside::churn, HONEST),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Recordings side by side would make each other late; whoever asks for it gets it.
    arguments.test_threads.get_or_insert(1);
    let mut trials: Vec<Trial> = CASES.iter().map(trial).collect();
    trials.push(Trial::ignorable_test("a_forged_build_id", || {
        privilege::unless_skipped(privilege::missing_root(), forged_build_id)
    }));
    trials.push(Trial::ignorable_test("sudo_for_holdup_alone", || {
        let missing = privilege::missing_root().or_else(sudo::missing);
        privilege::unless_skipped(missing, sudo::trial)
    }));
    trials.push(Trial::ignorable_test("file_capabilities", || {
        let missing = privilege::missing_root().or_else(capable::missing);
        privilege::unless_skipped(missing, capable::trial)
    }));
    trials.push(Trial::ignorable_test("processes_of_the_same_name", || {
        privilege::unless_skipped(privilege::missing_root(), squatters::trial)
    }));
    trials.push(Trial::ignorable_test("namespaces_of_its_own", || {
        privilege::unless_skipped(privilege::missing_root(), namespaces)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case) -> Trial {
    Trial::ignorable_test(case.name, || {
        let missing = privilege::missing_root().or_else(Cgroup::missing);
        privilege::unless_skipped(missing, || {
            // What else goes on on the machine may come between two clocks, so what is late once has
            // to be late the second time, too. It counts as flaky where it is not.
            if let Late::Yes(how) = recorded(case)? {
                println!("recorded again, because of: {how}");
                if let Late::Yes(how) = recorded(case)? {
                    return Err(how.into());
                }
            }
            Ok(())
        })
    })
}

/// Whether a recording began or ended too late, and how.
enum Late {
    No,
    Yes(String),
}

fn recorded(case: &Case) -> Result<Late, Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let libraries = (case.build)(dir.path());
    let preload: Vec<String> = libraries
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut command = Command::new(Variant::DEFAULT.build()?);
    command.arg("scenarios").arg(dir.path());
    command.env("LD_PRELOAD", preload.join(":"));
    let mut fixture = Running::start(command)?;
    // Ended when it is dropped.
    let beside = case.beside.map(|start| start(dir.path())).transpose()?;

    let cgroup = Cgroup::new(1 << 30)?;
    let report = dir.path().join("report.json");
    let pid = fixture.pid().to_string();
    let mut command = cgroup.command(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "--color", "never", "-d", "2s", "-p", &pid, "-o"])
        .arg(&report)
        .args(
            beside
                .iter()
                .flat_map(|other| ["-p".to_owned(), other.id().to_string()]),
        )
        .args(case.with)
        .env_remove("HOLDUP_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let asked = Instant::now();
    let mut holdup = Child::spawn("holdup", &mut command)?;
    let watch = cgroup.watch();
    let mut messages = holdup.stderr()?;
    begun(&mut messages)?;
    let began = Instant::now();
    fixture.go()?;
    let status = holdup.wait(Duration::from_secs(60))?;
    let (begin, took) = (began - asked, began.elapsed());
    let peak = watch.peak();
    messages.drain(Duration::from_secs(1));
    let said = messages.transcript();
    let figures = format!(
        "begun after {begin:?}, ended after {took:?}, {} MiB",
        peak >> 20
    );
    let mut wrong = Vec::new();
    if !status.success() {
        return Err(format!("holdup ended with {status}; {said}").into());
    }
    if peak > MAX_PEAK {
        wrong.push(format!("it took {} MiB", peak >> 20));
    }
    let text = std::fs::read_to_string(&report)?;
    if !text.contains(HONEST) {
        wrong.push("the report lacks what else the program did".to_owned());
    }
    if !text.contains(case.told) && !said.contains(case.told) {
        wrong.push(format!("nobody tells {:?}; {said}", case.told));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    let late = LATE * u32::try_from(truth::slowdown())?;
    if begin > late || took > ASKED + late {
        return Ok(Late::Yes(figures));
    }
    println!("{figures}");
    Ok(Late::No)
}

/// Records `target`, does `go` once the recording goes on, and waits for its end. How it ended, and what it
/// said.
fn record(
    target: &[&str],
    report: &Path,
    go: impl FnOnce() -> Result<(), String>,
) -> Result<(ExitStatus, String), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "--color", "never"])
        .args(target)
        .arg("-o")
        .arg(report)
        .env_remove("HOLDUP_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut holdup = Child::spawn("holdup", &mut command)?;
    let mut messages = holdup.stderr()?;
    begun(&mut messages)?;
    go()?;
    let status = holdup.wait(Duration::from_secs(60))?;
    messages.drain(Duration::from_secs(1));
    Ok((status, messages.transcript()))
}

/// Waits until the recording goes on.
fn begun(messages: &mut Lines) -> Result<(), Failed> {
    messages.find(
        "line that begins with `recording `",
        Duration::from_secs(30),
        |line| line.starts_with("recording "),
    )?;
    Ok(())
}

/// A program that is process 1 of its own `/proc`, as another user sees it.
fn namespaces() -> Result<(), Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--mount-proc",
            "--fork",
        ])
        .arg("--kill-child")
        .arg(Variant::DEFAULT.build()?)
        .arg("scenarios")
        .arg(dir.path());
    let mut fixture = Running::start(command)?;
    let outer = fixture.pid();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    let report = dir.path().join("report.json");
    let target = ["-d", "2s", "-p", children.trim()];
    let (status, said) = record(&target, &report, || fixture.go())?;
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    match status.success() && text.contains(HONEST) {
        true => Ok(()),
        false => Err(format!("{status}; {said}").into()),
    }
}

/// A program of the same build ID, recorded beside another, keeps its words to itself.
fn forged_build_id() -> Result<(), Failed> {
    const HONEST: &[u8] = b"block_by_sleep";
    const FORGED: &[u8] = b"forged_by_evil";
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let honest = Variant::DEFAULT.build()?;
    let forged = dir.path().join("forged");
    let mut bytes = std::fs::read(&honest)?;
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, HONEST).collect();
    for at in places {
        bytes[at..at + HONEST.len()].copy_from_slice(FORGED);
    }
    std::fs::write(&forged, bytes)?;
    std::fs::set_permissions(&forged, std::fs::metadata(&honest)?.permissions())?;
    let start = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("scenarios").arg(dir.path());
        Running::start(command)
    };
    let (mut evil, mut victim) = (start(&forged)?, start(&honest)?);
    let report = dir.path().join("report.json");
    let pids = [evil.pid(), victim.pid()].map(|pid| pid.to_string());
    let target = ["-d", "6s", "-p", &pids[0], "-p", &pids[1]];
    let (status, said) = record(&target, &report, || evil.go().and_then(|()| victim.go()))?;
    if !status.success() {
        return Err(format!("holdup ended with {status}; {said}").into());
    }
    let text = std::fs::read_to_string(&report)?;
    let both = [HONEST, FORGED].map(|name| memchr::memmem::find(text.as_bytes(), name).is_some());
    if both == [true, true] {
        Ok(())
    } else {
        Err(format!("the honest and the forged name are there: {both:?}").into())
    }
}
