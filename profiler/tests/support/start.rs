//! How soon after its start holdup records.
//!
//! Others may be at work on this machine, so that holdup is started with a real-time priority, by which it waits for
//! no CPU, and the best of several tries counts. What is promised is promised of an optimised build on a machine
//! that is otherwise idle: `HOLDUP_MEASURED` names one, and then that is the limit. The tests' own build has half as
//! much again, and a machine that is slower takes longer.

use super::fixture::{Running, Variant};
use super::intervals::slowness;
use super::privilege;
use super::record::{spawn_record, until_recording};
use libtest_mimic::{Failed, Trial};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// From the start to recording, of a small program.
const SMALL: Duration = Duration::from_millis(200);
/// The same with [`MAPPED`] of libraries.
const LARGE: Duration = Duration::from_millis(500);
/// Bytes of libraries that make a target a large one.
const MAPPED: u64 = 150 << 20;
/// How often it is started, at most.
const TRIES: usize = 12;
/// Of the priorities of sched(7), the lowest but for a few.
const PRIORITY: libc::c_int = 10;
/// For the files to be written.
const WRITTEN: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 2] = [
        ("start::a_small_program", small),
        ("start::with_large_libraries", large),
    ];
    let trial = |(name, run): (&str, Test)| {
        Trial::ignorable_test(name, move || {
            privilege::unless_skipped(privilege::missing(), run)
        })
    };
    tests.into_iter().map(trial).collect()
}

/// The program, and how many times longer than is promised it may take.
fn measured() -> (OsString, f64) {
    match std::env::var_os("HOLDUP_MEASURED") {
        Some(program) => (program, 1.0),
        None => (env!("CARGO_BIN_EXE_holdup").into(), 1.5 * slowness()),
    }
}

/// A scheduling policy of this thread, and of what it starts.
struct RealTime;

impl RealTime {
    /// Without the right to it all goes on as it is.
    fn set(policy: libc::c_int, priority: libc::c_int) {
        let parameters = libc::sched_param {
            sched_priority: priority,
        };
        // SAFETY: the pointer is to a value of ours, which the call only reads; 0 is this thread.
        unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    }

    fn begin() -> RealTime {
        RealTime::set(libc::SCHED_RR, PRIORITY);
        RealTime
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        RealTime::set(libc::SCHED_OTHER, 0);
    }
}

/// How long holdup took until it recorded.
fn start(program: &OsStr, pid: u32) -> Result<Duration, String> {
    let mut command = Command::new(program);
    command.args(["record", "-p", &pid.to_string()]);
    let real_time = RealTime::begin();
    let begun = Instant::now();
    let (mut holdup, mut messages) = spawn_record(&mut command)?;
    until_recording(&mut messages)?;
    let took = begun.elapsed();
    drop(real_time);
    holdup.interrupt()?;
    let status = holdup.wait(WRITTEN)?;
    if !matches!(status.code(), Some(0 | 3)) {
        let said = messages.transcript();
        return Err(format!("holdup ended with {status}; {said}"));
    }
    Ok(took)
}

fn within(what: &str, pid: u32, promised: Duration) -> Outcome {
    let (program, times) = measured();
    let limit = promised.mul_f64(times);
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        best = best.min(start(&program, pid)?);
        if best <= limit {
            break;
        }
    }
    println!("{what}: recording begins {best:.0?} after the start, {limit:.0?} is the limit");
    // It loads and attaches programs, which takes the kernel longer than this.
    if best < Duration::from_millis(10) {
        return Err(format!("{best:?} is too good to be true").into());
    }
    match best <= limit {
        true => Ok(()),
        false => Err(format!("recording begins {best:?} after the start").into()),
    }
}

fn small() -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let outcome = within("a small program", fixture.pid(), SMALL);
    fixture.kill()?;
    outcome
}

/// A library that comes with every toolchain and is large enough: LLVM's, or where that is a part of it the
/// compiler's own.
fn library() -> Result<PathBuf, String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("no rustc: {error}"))?;
    let sysroot = String::from_utf8_lossy(&output.stdout).into_owned();
    let lib = Path::new(sysroot.trim()).join("lib");
    let files = std::fs::read_dir(&lib).map_err(|error| format!("{}: {error}", lib.display()))?;
    let large = files.flatten().filter_map(|file| {
        let size = file.metadata().ok()?.len();
        let is_library = file.file_name().to_string_lossy().contains(".so");
        (is_library && size >= MAPPED / 2).then(|| (file.file_name(), file.path()))
    });
    // `libLLVM` comes before `librustc_driver`, which needs it.
    let first = large.min().map(|(_, path)| path);
    first.ok_or_else(|| format!("there is no large library in {}", lib.display()))
}

/// The bytes of all files that are mapped to be executed, each once.
fn mapped(pid: u32) -> Result<u64, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|e| e.to_string())?;
    let code = maps.lines().filter(|line| line.contains(" r-xp "));
    let mut files: Vec<&str> = code
        .filter_map(|line| line.find('/').and_then(|at| line.get(at..)))
        .collect();
    files.sort_unstable();
    files.dedup();
    let sizes = files.iter().filter_map(|file| std::fs::metadata(file).ok());
    Ok(sizes.map(|metadata| metadata.len()).sum())
}

fn large() -> Outcome {
    let library = library()?;
    // Into the page cache: what a disk takes is the disk's.
    std::fs::read(&library)?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Command::new(Variant::DEFAULT.build()?);
    command
        .arg("scenarios")
        .arg(dir.path())
        .env("LD_PRELOAD", &library)
        .env(
            "LD_LIBRARY_PATH",
            library.parent().unwrap_or(Path::new("/")),
        );
    let fixture = Running::start(command)?;
    let bytes = mapped(fixture.pid())?;
    let outcome = match bytes >= MAPPED {
        // More is mapped than the promise is made for: a byte of it may take as long as one of those.
        true => {
            let more = (LARGE - SMALL).mul_f64(bytes as f64 / MAPPED as f64);
            let what = format!("{} MiB mapped", bytes >> 20);
            within(&what, fixture.pid(), SMALL + more)
        }
        false => Err(format!("only {} MiB are mapped, and not 150", bytes >> 20).into()),
    };
    fixture.kill()?;
    outcome
}
