//! Targets whose owner wants holdup's memory, its time, its words or its rights. Each is recorded
//! in a control group with a limit, and within a time: the report is there, holds what else there
//! was, and tells what it lacks.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail.

#[path = "hostile_support/cgroup.rs"]
mod cgroup;
#[path = "support/fixture.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod fixture;
mod hostile_support;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
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
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What holdup may have at most, whatever it records.
const MAX_PEAK: u64 = 400 << 20;
/// What it is asked for.
const ASKED: Duration = Duration::from_secs(2);
/// How much later than asked it may begin, or end.
const LATE: Duration = Duration::from_secs(2);

type Build = fn(&Path) -> Vec<PathBuf>;

/// A program that loads hostile libraries.
struct Case {
    name: &'static str,
    build: Build,
    /// What the report, or standard error, has to say of it.
    told: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "constants_that_are_a_hole",
        build: targets::hole_in_rodata,
        told: "block_by",
    },
    Case {
        name: "symbols_that_are_a_hole",
        build: targets::hole_in_symtab,
        told: "block_by",
    },
    Case {
        name: "a_hole_where_it_is_read",
        build: targets::honest_hole,
        told: "MiB more than may be read of all modules",
    },
    Case {
        name: "lines_that_unpack_to_all_memory",
        build: targets::packed_lines,
        told: "more than may be unpacked: source lines are missing",
    },
    Case {
        name: "lines_that_take_all_memory",
        build: targets::lines,
        told: "takes too much memory: source lines are missing",
    },
    Case {
        name: "names_that_grow_without_end",
        build: targets::names,
        told: "block_by",
    },
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

    let cgroup = Cgroup::new(1 << 30)?;
    let report = dir.path().join("report.json");
    let pid = fixture.pid().to_string();
    let mut command = cgroup.command(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "--color", "never", "-d", "2s", "-p", &pid, "-o"])
        .arg(&report)
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
    if !text.contains("block_by") {
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

/// Waits until the recording goes on.
fn begun(messages: &mut Lines) -> Result<(), Failed> {
    messages.find(
        "line that begins with `recording `",
        Duration::from_secs(30),
        |line| line.starts_with("recording "),
    )?;
    Ok(())
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "-d", "6s", "-p", &evil.pid().to_string()])
        .args(["-p", &victim.pid().to_string(), "-o"])
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut holdup = Child::spawn("holdup", &mut command)?;
    let mut messages = holdup.stderr()?;
    begun(&mut messages)?;
    evil.go()?;
    victim.go()?;
    let status = holdup.wait(Duration::from_secs(60))?;
    if !status.success() {
        messages.drain(Duration::from_secs(1));
        return Err(format!("holdup ended with {status}; {}", messages.transcript()).into());
    }
    let text = std::fs::read_to_string(&report)?;
    let both = [HONEST, FORGED].map(|name| memchr::memmem::find(text.as_bytes(), name).is_some());
    if both == [true, true] {
        Ok(())
    } else {
        Err(format!("the honest and the forged name are there: {both:?}").into())
    }
}
