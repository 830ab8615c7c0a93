//! What holdup may do on the host, and what it leaves behind: rights given up while it records,
//! rights with which files are written, and nothing attached once it was killed.

use super::fixture::{Running, Variant};
use super::privilege;
use super::record::{ATTACHED, until_recording};
use children::{Child, Lines};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ENDED: Duration = Duration::from_secs(60);
/// Reading all of a program's code, in a debug build on a machine that is not busy.
const READ: Duration = Duration::from_secs(3);
/// The kernel frees programs after a grace period.
const FREED: Duration = Duration::from_secs(30);

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_KILL: u64 = 1 << 5;
const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_SYSLOG: u64 = 1 << 34;
const CAP_BPF: u64 = 1 << 39;
const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;

/// What is left while a process is recorded.
const RECORDING: u64 =
    CAP_DAC_READ_SEARCH | CAP_SYS_PTRACE | CAP_SYSLOG | CAP_BPF | CAP_CHECKPOINT_RESTORE;

/// A user who is somebody else.
const OTHER: u32 = 65534;
/// A third one.
const THIRD: u32 = 65533;

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// The trials; they ask for root.
pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test); 7] = [
        ("every_thread_gives_up_its_rights", every_thread),
        ("new_code_is_read_with_what_is_left", new_code),
        ("a_command_keeps_all_its_rights", command_keeps),
        ("a_command_of_another_user_is_ended", command_ends),
        ("files_are_written_with_the_least_rights", files),
        ("killed_it_leaves_nothing_attached", killed),
        ("a_planted_link_is_not_followed", planted_link),
    ];
    trials
        .into_iter()
        .map(|(name, trial)| {
            Trial::ignorable_test(format!("safety::{name}"), move || {
                privilege::unless_skipped(privilege::missing_root(), trial)
            })
        })
        .collect()
}

/// A recording that has said that it records.
struct Recording {
    holdup: Child,
    messages: Lines,
}

impl Recording {
    fn start(configure: impl FnOnce(&mut Command)) -> Result<Recording, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command
            .arg("record")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
            command.env_remove(name);
        }
        configure(&mut command);
        let mut holdup = Child::spawn("holdup", &mut command)?;
        let mut messages = holdup.stderr()?;
        until_recording(&mut messages)?;
        Ok(Recording { holdup, messages })
    }

    fn of(fixture: &Running) -> Result<Recording, String> {
        let pid = fixture.pid().to_string();
        Recording::start(|command| {
            command.args(["-p", &pid]);
        })
    }

    fn stop(self) -> Result<String, String> {
        self.holdup.interrupt()?;
        self.end()
    }

    /// What it said, after it ended well.
    fn end(mut self) -> Result<String, String> {
        let status = self.holdup.wait(ENDED)?;
        self.messages.drain(Duration::from_secs(1));
        let said = self.messages.transcript();
        if status.success() {
            Ok(said)
        } else {
            Err(format!("holdup ended with {status}; {said}"))
        }
    }
}

/// One thread's rights, out of `/proc/PID/task/TID/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    sets: [u64; 5],
    no_new_privileges: bool,
    file_uid: u32,
}

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

impl Rights {
    fn parse(status: &str) -> Result<Rights, String> {
        let field = |key: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
            line.ok_or_else(|| format!("no {key} in {status}"))
        };
        let mut sets = [0; 5];
        for (set, key) in sets.iter_mut().zip(SETS) {
            *set = u64::from_str_radix(field(key)?, 16).map_err(|error| error.to_string())?;
        }
        let file_uid = field("Uid")?.split('\t').nth(3).unwrap_or_default();
        Ok(Rights {
            sets,
            no_new_privileges: field("NoNewPrivs")? == "1",
            file_uid: file_uid.parse().map_err(|_| "no fourth id".to_owned())?,
        })
    }

    fn of(pid: u32) -> Result<Vec<Rights>, String> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        tasks
            .map(|task| {
                let path = task
                    .map_err(|error| error.to_string())?
                    .path()
                    .join("status");
                let status = fs::read_to_string(path).map_err(|error| error.to_string())?;
                Rights::parse(&status)
            })
            .collect()
    }

    /// Root's, when nothing but `kept` is left.
    fn only(kept: u64) -> Rights {
        Rights {
            sets: [0, kept, kept, kept, 0],
            no_new_privileges: true,
            file_uid: 0,
        }
    }
}

/// Complains of every thread that has other rights.
fn expect_rights(recording: &Recording, expected: &Rights) -> Outcome {
    let all = Rights::of(recording.holdup.id())?;
    if all.len() < 2 {
        return Err(format!("holdup has {} threads only: what is tested?", all.len()).into());
    }
    match all.iter().find(|rights| *rights != expected) {
        None => Ok(()),
        Some(other) => Err(format!("a thread has\n{other:x?}, expected\n{expected:x?}").into()),
    }
}

fn every_thread() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("exit-midway")?;
    let recording = Recording::of(&fixture)?;
    expect_rights(&recording, &Rights::only(RECORDING))?;
    fixture.go()?;
    fixture.truth()?;
    recording.end()?;
    fixture.finish()?;
    Ok(())
}

/// After an exec there is new code to open and a new table to make: of another user's process,
/// out of a program that nobody else may read and that has no name any more.
fn new_code() -> Outcome {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("blockers");
    fs::copy(Variant::DEFAULT.build()?, &program)?;
    for path in [dir.path(), &program] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
        chown(path, Some(OTHER), Some(OTHER))?;
    }
    let report = dir.path().join("report.json");
    let begun = Instant::now();
    let script = "exec \"$0\" hostile .";
    let mut recording = Recording::start(|command| {
        command
            .env("SUDO_UID", OTHER.to_string())
            .env("SUDO_GID", OTHER.to_string());
        command
            .arg("-o")
            .arg(&report)
            .args(["--", "sh", "-c", script])
            .arg(&program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    })?;
    let began = begun.elapsed();
    let mut output = recording.holdup.stdout()?;
    let mut input = recording.holdup.stdin()?;
    output.find("`ready`", ATTACHED, |line| line.starts_with("ready "))?;
    fs::remove_file(&program)?;
    let rights = Rights::only(RECORDING | CAP_KILL).with_files_of(true);
    expect_rights(&recording, &rights)?;
    // Until the new code has been read. Reading the shell's took a part of what it took to begin.
    thread::sleep(READ.max(2 * began));
    input.write_all(b"go\n")?;
    output.find("ground truth", ENDED, |line| line.starts_with('{'))?;
    drop(input);
    recording.end()?;
    let report = fs::read_to_string(&report)?;
    for function in ["blockers::hostile::play", "do_nanosleep"] {
        if !report.contains(function) {
            return Err(format!("no {function} in the report").into());
        }
    }
    Ok(())
}

/// A command runs with what we have, or with what the user who called `sudo` has, and can gain
/// privileges as ever.
fn command_keeps() -> Outcome {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777))?;
    let own = Rights::parse(&fs::read_to_string("/proc/self/status")?)?;
    for sudo in [false, true] {
        let file = dir.path().join(format!("status-{sudo}"));
        // As the shell does not wait for ever if nobody stops it.
        let script = "cat /proc/self/status > \"$0\"; sleep 60";
        let recording = Recording::start(|command| {
            if sudo {
                command
                    .env("SUDO_UID", OTHER.to_string())
                    .env("SUDO_GID", OTHER.to_string());
            }
            command.args(["--", "sh", "-c", script]).arg(&file);
        })?;
        let status = wait_for("the command's status", || {
            let status = fs::read_to_string(&file).ok()?;
            status.contains("NoNewPrivs").then_some(status)
        })?;
        expect_rights(
            &recording,
            &Rights::only(RECORDING | CAP_KILL).with_files_of(sudo),
        )?;
        recording.holdup.interrupt()?;
        let mut expected = own.clone();
        if sudo {
            expected.sets = [own.sets[0], 0, 0, own.sets[3], 0];
            expected.file_uid = OTHER;
        }
        let found = Rights::parse(&status)?;
        if found != expected {
            return Err(format!("sudo {sudo}: it has\n{found:x?}, expected\n{expected:x?}").into());
        }
    }
    Ok(())
}

impl Rights {
    fn with_files_of(self, user: bool) -> Rights {
        let file_uid = if user { OTHER } else { self.file_uid };
        Rights { file_uid, ..self }
    }
}

fn command_ends() -> Outcome {
    let recording = Recording::start(|command| {
        command
            .env("SUDO_UID", OTHER.to_string())
            .env("SUDO_GID", OTHER.to_string());
        command.args(["-d", "300ms", "--", "sleep", "60"]);
    })?;
    let Recording {
        mut holdup,
        mut messages,
    } = recording;
    let ended = messages.find("`ended sleep`", ENDED, |line| {
        line.starts_with("ended sleep ")
    })?;
    // It holds no tokio, which is told at the end.
    holdup.wait(ENDED)?;
    if ended.contains("killed by SIGTERM") {
        Ok(())
    } else {
        Err(ended.into())
    }
}

/// A place to write to, what it takes, and what has to be at it before.
struct Place {
    name: &'static str,
    owner: u32,
    mode: u32,
    /// The owner of a file to replace.
    old: Option<u32>,
    /// Whether the user who calls `sudo` may write there. Nothing is kept for it.
    under_sudo: bool,
    /// Capabilities kept for it by root itself.
    as_root: u64,
}

const PLACES: [Place; 5] = [
    Place {
        name: "the user's own directory",
        owner: OTHER,
        mode: 0o700,
        old: None,
        under_sudo: true,
        as_root: CAP_FOWNER | CAP_DAC_OVERRIDE,
    },
    Place {
        name: "root's directory",
        owner: 0,
        mode: 0o700,
        old: None,
        under_sudo: false,
        as_root: 0,
    },
    Place {
        name: "a directory like /tmp",
        owner: 0,
        mode: 0o1777,
        old: None,
        under_sudo: true,
        as_root: 0,
    },
    Place {
        name: "somebody's file in a directory like /tmp",
        owner: 0,
        mode: 0o1777,
        old: Some(THIRD),
        under_sudo: false,
        as_root: 0,
    },
    Place {
        name: "a third one's directory",
        owner: THIRD,
        mode: 0o700,
        old: None,
        under_sudo: false,
        as_root: CAP_FOWNER | CAP_DAC_OVERRIDE,
    },
];

/// Every place that who asked may write to is written to, by the least that it takes, and the file
/// belongs to who asked. All others are refused before the recording.
fn files() -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let pid = fixture.pid().to_string();
    let mut wrong = Vec::new();
    for place in &PLACES {
        for sudo in [false, true] {
            let dir = tempfile::tempdir()?;
            fs::set_permissions(dir.path(), PermissionsExt::from_mode(place.mode))?;
            let path = dir.path().join("report.json");
            if let Some(old) = place.old {
                fs::write(&path, "old")?;
                chown(&path, Some(old), Some(old))?;
            }
            chown(dir.path(), Some(place.owner), Some(place.owner))?;
            let recording = Recording::start(|command| {
                if sudo {
                    command
                        .env("SUDO_UID", OTHER.to_string())
                        .env("SUDO_GID", OTHER.to_string());
                }
                command.args(["--force", "-p", &pid, "-o"]).arg(&path);
            });
            let described = format!("{}, sudo {sudo}", place.name);
            if sudo && !place.under_sudo {
                let refused = |error: &String| error.contains("cannot write ");
                if recording.err().is_none_or(|error| !refused(&error)) {
                    wrong.push(format!("{described}: it is not refused"));
                }
                let left = fs::read_dir(dir.path())?.count();
                if left != usize::from(place.old.is_some()) {
                    wrong.push(format!("{described}: there are {left} files"));
                }
                continue;
            }
            let recording = recording?;
            let kept = if sudo { 0 } else { place.as_root };
            let expected = Rights::only(RECORDING | kept).with_files_of(sudo);
            let rights = expect_rights(&recording, &expected);
            let ended = recording.stop();
            wrong.extend(
                rights
                    .err()
                    .map(|failed| format!("{described}: {}", failed.message().unwrap_or_default())),
            );
            wrong.extend(ended.err().map(|error| format!("{described}: {error}")));
            let owner = fs::metadata(&path).map(|file| file.uid());
            if owner.as_ref().ok() != Some(&if sudo { OTHER } else { 0 }) {
                wrong.push(format!("{described}: owner {owner:?}"));
            }
            let left: Vec<_> = fs::read_dir(dir.path())?
                .flatten()
                .map(|e| e.file_name())
                .collect();
            if left != ["report.json"] {
                wrong.push(format!("{described}: there are {left:?}"));
            }
        }
    }
    drop(fixture);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

/// The ids under which the kernel knows a process's open BPF objects of one kind.
pub(crate) fn open_ids(pid: u32, key: &str) -> Result<BTreeSet<u32>, String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fdinfo")).map_err(|error| error.to_string())?;
    let texts = fds
        .flatten()
        .filter_map(|fd| fs::read_to_string(fd.path()).ok());
    let ids = texts.flat_map(|text| {
        let of_key = |line: &str| line.strip_prefix(key)?.trim().parse().ok();
        text.lines().filter_map(of_key).collect::<Vec<u32>>()
    });
    Ok(ids.collect())
}

/// What a process has loaded into the kernel: programs, maps and links.
pub(crate) fn ids_of(pid: u32) -> Result<[BTreeSet<u32>; 3], String> {
    let [programs, maps, links] = ["prog_id:", "map_id:", "link_id:"].map(|key| open_ids(pid, key));
    Ok([programs?, maps?, links?])
}

/// Waits until none of them is left.
pub(crate) fn are_gone(ids: &[BTreeSet<u32>; 3]) -> Result<(), String> {
    wait_for("the end of all its programs", || {
        let held = loaded().ok()?;
        let mut pairs = ids.iter().zip(&held);
        let left = pairs.any(|(ids, held)| !ids.is_disjoint(held));
        (!left).then_some(())
    })
}

/// The ids of all that the kernel holds.
pub(crate) fn loaded() -> Result<[BTreeSet<u32>; 3], String> {
    let programs = aya::programs::loaded_programs()
        .map(|program| program.map(|program| program.id()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("programs: {error}"))?;
    let maps = aya::maps::loaded_maps()
        .map(|map| map.map(|map| map.id()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("maps: {error}"))?;
    let links = aya::programs::loaded_links()
        .map(|link| link.map(|link| link.id()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("links: {error}"))?;
    Ok([programs, maps, links])
}

/// Nobody can clean up after a SIGKILL: what is attached has to go with the descriptors.
fn killed() -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let recording = Recording::of(&fixture)?;
    let Recording {
        mut holdup,
        messages: _messages,
    } = recording;
    let ours = ids_of(holdup.id())?;
    let held = loaded()?;
    for ((ours, held), least) in ours.iter().zip(&held).zip([5, 8, 4]) {
        if ours.len() < least || !ours.is_subset(held) {
            return Err(format!("its ids are {ours:?}, the kernel has {held:?}").into());
        }
    }
    holdup.kill()?;
    holdup.wait(ENDED)?;
    let gone = are_gone(&ours);
    drop(fixture);
    Ok(gone?)
}

/// A target that maps a file and then plants a link to a file of root's under its name.
fn planted_link() -> Outcome {
    let dir = tempfile::tempdir()?;
    let secret = dir.path().join("secret");
    let path = dir.path().join("blockers");
    fs::write(&secret, "root:$6$secret")?;
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600))?;
    fs::copy(Variant::DEFAULT.build()?, &path)?;
    let mut command = Command::new(&path);
    command.arg("exit-midway").arg(dir.path());
    let mut fixture = Running::start(command)?;
    fs::remove_file(&path)?;
    std::os::unix::fs::symlink(&secret, &path)?;
    let opened_before = fs::metadata(&secret)?.atime_nsec();
    let report = dir.path().join("report.json");
    let pid = fixture.pid().to_string();
    let recording = Recording::start(|command| {
        command.args(["-p", &pid, "-o"]).arg(&report);
    })?;
    let open: Vec<_> = fs::read_dir(format!("/proc/{}/fd", recording.holdup.id()))?
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .collect();
    fixture.go()?;
    fixture.truth()?;
    recording.end()?;
    fixture.finish()?;
    if open.contains(&secret) || fs::metadata(&secret)?.atime_nsec() != opened_before {
        return Err("it opened the file behind the link".into());
    }
    let text = fs::read_to_string(&report)?;
    if !text.contains("block_by_sleep") || text.contains("$6$secret") {
        return Err("the names are not those of the program that runs".into());
    }
    Ok(())
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + FREED;
    loop {
        match look() {
            Some(found) => return Ok(found),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            None => return Err(format!("no {what} within {FREED:?}")),
        }
    }
}
