//! Recordings on machines that run out of memory or of disk: what was written is sound, and nothing stays in
//! the kernel.

use super::cgroup::Cgroup;
use super::fixture::{Running, Variant};
use super::privilege;
use super::record::{spawn_record, until_recording};
use super::safety::{are_gone, ids_of, loaded};
use children::{Child, Lines};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;
type Missing = fn() -> Option<String>;

const ENDED: Duration = Duration::from_secs(60);
/// More than a recording takes.
const ROOMY: u64 = 600 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test, Missing); 4] = [
        ("killed_for_memory", killed, no_cgroup),
        ("too_little_memory_to_begin_with", too_little, no_cgroup),
        (
            "a_full_disk_in_every_form",
            full_disk,
            privilege::missing_root,
        ),
        (
            "a_disk_with_room_for_some",
            small_disk,
            privilege::missing_root,
        ),
    ];
    let trials = trials.into_iter();
    trials
        .map(|(name, trial, missing)| {
            Trial::ignorable_test(format!("scarce::{name}"), move || {
                privilege::unless_skipped(missing(), trial)
            })
        })
        .collect()
}

fn no_cgroup() -> Option<String> {
    privilege::missing_root().or_else(Cgroup::missing)
}

/// A recording in a control group.
struct Recording {
    holdup: Child,
    messages: Lines,
}

impl Recording {
    fn start(cgroup: &Cgroup, fixture: &Running, outputs: &[PathBuf]) -> Result<Recording, String> {
        let mut command = cgroup.command(env!("CARGO_BIN_EXE_holdup"));
        command.args(["record", "-p", &fixture.pid().to_string()]);
        for output in outputs {
            command.arg("-o").arg(output);
        }
        let (holdup, messages) = spawn_record(&mut command)?;
        Ok(Recording { holdup, messages })
    }

    /// How it ended, and what it said.
    fn end(&mut self) -> Result<(ExitStatus, String), String> {
        let status = self.holdup.wait(ENDED)?;
        self.messages.drain(Duration::from_secs(1));
        Ok((status, self.messages.transcript().to_string()))
    }
}

/// `holdup report`, which has to understand the capture.
fn opens(capture: &Path) -> Result<serde_json::Value, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .arg("report")
        .arg(capture)
        .args(["-f", "json"])
        .output()?;
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {output:?}").into())
}

/// The kernel ends it in the middle, as it does where a machine or a container has no memory left: the
/// capture is there but for the last moment.
fn killed() -> Outcome {
    let cgroup = Cgroup::new(ROOMY)?;
    let dir = tempfile::tempdir()?;
    let (capture, json) = (dir.path().join("x.holdup"), dir.path().join("x.json"));
    let mut fixture = Variant::DEFAULT.start("scenarios")?;
    let mut recording = Recording::start(&cgroup, &fixture, &[capture.clone(), json.clone()])?;
    until_recording(&mut recording.messages)?;
    fixture.go()?;
    fixture.truth()?;
    // Until that is in the capture, which is written once a second.
    sleep(Duration::from_millis(2500));
    let pid = recording.holdup.id();
    let ids = ids_of(pid).unwrap_or_default();
    // The one that the kernel takes first.
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000")?;
    // Keeps what it reads, as it looks for the end of the first line.
    let mut hog = cgroup.command("sh");
    hog.args(["-c", "head -c 4000000000 /dev/zero | tail -n 1"]);
    let mut hog = Child::spawn("what takes all memory", hog.stdout(Stdio::null()))?;
    let (status, said) = recording.end()?;
    let hogged = hog.wait(ENDED)?;
    if status.signal() != Some(libc::SIGKILL) {
        return Err(format!("it ended with {status}, the other one with {hogged}: {said}").into());
    }
    if ids.iter().any(BTreeSet::is_empty) {
        return Err(format!("it had {ids:?} in the kernel: what is tested?").into());
    }
    are_gone(&ids)?;
    if json.exists() || fs::read_dir(dir.path())?.count() != 1 {
        return Err("there is more than the capture".into());
    }
    let report = opens(&capture)?;
    let text = report.to_string();
    match text.contains("block_by_sleep") && report["duration_ns"].as_u64() > Some(1_000_000_000) {
        true => Ok(()),
        false => Err(format!("the capture has {text}").into()),
    }
}

/// With whatever is too little it ends soon: killed, or with words. Nothing is left of it.
fn too_little() -> Outcome {
    let mut failed = 0;
    for limit in [8 << 20, 24 << 20, 40 << 20, 56 << 20, 80 << 20] {
        let cgroup = Cgroup::new(limit)?;
        let dir = tempfile::tempdir()?;
        let json = dir.path().join("x.json");
        let fixture = Variant::DEFAULT.start("scenarios")?;
        let before = loaded()?;
        let mut recording = Recording::start(&cgroup, &fixture, std::slice::from_ref(&json))?;
        if until_recording(&mut recording.messages).is_ok() {
            recording.holdup.interrupt()?;
        }
        let (status, said) = recording.end()?;
        println!("{} MiB: {status}", limit >> 20);
        let is_sound = match status.code() {
            Some(0) => {
                serde_json::from_slice::<serde_json::Value>(&fs::read(&json)?)?;
                true
            }
            Some(1) => !said.contains("panicked") && !json.exists(),
            Some(_) => false,
            None => status.signal() == Some(libc::SIGKILL) && !json.exists(),
        };
        failed += u32::from(!status.success());
        if !is_sound {
            return Err(format!("{limit} bytes: {status}, {said}").into());
        }
        // Nobody else's that came meanwhile are counted: those of other tests have no holdup behind them.
        let after = loaded()?;
        let new: Vec<BTreeSet<u32>> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        if let Ok(new) = <[BTreeSet<u32>; 3]>::try_from(new) {
            are_gone(&new)?;
        }
    }
    // Otherwise nothing was tried.
    match failed > 0 {
        true => Ok(()),
        false => Err("8 MiB were enough".into()),
    }
}

/// A file system of its own, gone with the value.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Result<Small, Failed> {
        fs::create_dir(at)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()?;
        match mounted.status.success() {
            true => Ok(Small(at.to_owned())),
            false => Err(format!("{mounted:?}").into()),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Every form of a report, by how its file's name ends.
fn forms() -> Vec<&'static str> {
    let forms = holdup::render::Format::ALL.iter();
    forms.map(|form| form.extension()).collect()
}

/// Those that are written at the end: what is written all the while takes all the room.
fn late_forms() -> Vec<&'static str> {
    let forms = forms().into_iter();
    forms.filter(|form| *form != "ndjson").collect()
}

/// Records once into all these forms, in a roomy place and in a small one. Returns the exit code and what was
/// said.
fn record_into(forms: &[&str], places: &[&Path]) -> Result<(Option<i32>, String), Failed> {
    let mut fixture = Variant::DEFAULT.start("scenarios")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command.args([
        "record",
        "--fail-if",
        "stall>1h",
        "-p",
        &fixture.pid().to_string(),
    ]);
    for form in forms {
        for place in places {
            command.arg("-o").arg(place.join(format!("x.{form}")));
        }
    }
    let (mut holdup, mut messages) = spawn_record(&mut command)?;
    until_recording(&mut messages)?;
    fixture.go()?;
    fixture.truth()?;
    holdup.interrupt()?;
    let status = holdup.wait(ENDED)?;
    messages.drain(Duration::from_secs(1));
    Ok((status.code(), messages.transcript().to_string()))
}

/// Each file is whole, or not there and named.
fn compare(forms: &[&str], roomy: &Path, small: &Path, said: &str) -> Result<usize, Failed> {
    let mut there = 0;
    for form in forms {
        let name = format!("x.{form}");
        let whole =
            fs::read(roomy.join(&name)).map_err(|error| format!("{name}: {error}; {said}"))?;
        match fs::read(small.join(&name)) {
            Ok(bytes) if bytes == whole => there += 1,
            Ok(bytes) => {
                let (has, of) = (bytes.len(), whole.len());
                return Err(format!("{name} has {has} bytes of {of}").into());
            }
            Err(_) => {
                let path = small.join(&name).display().to_string();
                let told = said
                    .lines()
                    .any(|line| line.contains(&path) && line.contains("No space left on device"));
                if !told {
                    return Err(format!("nobody tells of {name}: {said}").into());
                }
            }
        }
    }
    if fs::read_dir(small)?.count() != there {
        return Err(format!("something is left in {}", small.display()).into());
    }
    Ok(there)
}

fn full_disk() -> Outcome {
    // An empty file takes no room, the first byte takes it all. What is smaller than a page is the first of
    // its kind.
    fills("4k", &forms(), 0..=1)
}

fn small_disk() -> Outcome {
    let forms = late_forms();
    fills("96k", &forms, 1..=forms.len() - 1)
}

/// A disk of this size fills up, with so many of these forms on it.
fn fills(size: &str, forms: &[&str], room_for: RangeInclusive<usize>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let roomy = tempfile::tempdir()?;
    let small = Small::mount(&dir.path().join("small"), size)?;
    let (code, said) = record_into(forms, &[roomy.path(), &small.0])?;
    let there = compare(forms, roomy.path(), &small.0, &said)?;
    match code == Some(1) && room_for.contains(&there) {
        true => Ok(()),
        false => Err(format!("{code:?}, {there} files: {said}").into()),
    }
}
