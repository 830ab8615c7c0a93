//! Targets by what they have in common: a service that is restarted, and deployed anew, is one
//! recording; a unit, a control group and a container are found by every verb.

use super::check_modes::every_wait;
use super::fixture::{Running, Variant};
use super::live_recording::{Recording, ensure, no_complaints, sound_with_joined};
use super::privilege;
use super::truth::{Truth, slowdown};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;
type Missing = fn() -> Option<String>;

/// From an exec to the recording of what it executed.
const JOINS: Duration = Duration::from_millis(100);
/// What our own clocks are off by: an end is looked for every so often.
const LATE: Duration = Duration::from_millis(40);
/// From its start to its first request. Of a program that has ended before it could be read once, which in
/// an emulated guest takes a tenth of a second, nothing is known that it has loaded since.
const IDLE: Duration = Duration::from_millis(30);
/// For how long a service is down.
const DOWN: Duration = Duration::from_millis(700);
const LIVES: usize = 3;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test, Missing); 3] = [
        ("a_service_by_name", by_name, privilege::missing),
        ("a_unit_and_its_next_life", by_unit, missing_groups),
        ("every_verb_knows_groups", every_verb, missing_groups),
    ];
    trials
        .into_iter()
        .map(|(name, trial, missing)| {
            Trial::ignorable_test(format!("restarts::{name}"), move || {
                privilege::unless_skipped(missing(), trial)
            })
        })
        .collect()
}

/// One life of a service.
struct Life {
    pid: u32,
    truth: Truth,
    /// From before its start to after its end.
    length: Duration,
}

fn live(mut command: Command, dir: &Path) -> Result<Life, String> {
    command.arg("exit-midway").arg(dir);
    let begun = Instant::now();
    let mut running = Running::start(command)?;
    sleep(IDLE * slowdown() as u32);
    running.go()?;
    let (pid, truth) = (running.pid(), running.truth()?);
    running.finish()?;
    Ok(Life {
        pid,
        truth,
        length: begun.elapsed(),
    })
}

/// Whether that says of a process that it exited. Before Linux 6.15 nobody can tell how one ended that was
/// waited for a moment ago.
fn is_exited(ended: &str) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    let kernel = (numbers.next(), numbers.next());
    ended == "exited" || ended == "ended" && kernel < (Some(6), Some(15))
}

/// Three lives of a service are one report, each with its own part, each from within 100 ms of its
/// exec; the last one is another file under the same name.
fn by_name() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // A name that no other process on this machine has.
    let name = format!("lives-{}", std::process::id());
    let program = dir.path().join(&name);
    let built = Variant::DEFAULT.build()?;
    fs::copy(&built, &program)?;
    let mut command = Command::new(&program);
    command.arg("exit-midway").arg(dir.path());
    let mut first = Running::start(command)?;
    let recording = Recording::start(&["-n", &name])?;
    first.go()?;
    let mut lives = vec![Life {
        pid: first.pid(),
        truth: first.truth()?,
        length: Duration::ZERO,
    }];
    first.finish()?;
    for life in 1..LIVES {
        sleep(DOWN);
        if life + 1 == LIVES {
            let next = dir.path().join("next");
            fs::copy(&built, &next)?;
            fs::rename(&next, &program)?;
        }
        lives.push(live(Command::new(&program), dir.path())?);
    }
    // Nothing is left, and it goes on.
    sleep(DOWN * slowdown().min(4) as u32);
    let recorded = recording.stop()?;
    let pids: Vec<u32> = lives.iter().map(|life| life.pid).collect();
    ensure(recorded.pids() == pids, || {
        format!("{pids:?} lived: {:?}; {}", recorded.pids(), recorded.said)
    })?;
    sound_with_joined(&recorded.report, LIVES as u64 - 1)?;
    for life in &lives {
        let report = recorded.of(life.pid);
        no_complaints(every_wait(&report, &life.truth))?;
        let target = report.targets.iter().find(|target| target.pid == life.pid);
        ensure(
            target.is_some_and(|target| {
                target.ended.as_deref().is_some_and(is_exited) && target.earlier.is_empty()
            }),
            || format!("{target:?}"),
        )?;
        ensure(report.runtimes.len() == 1, || {
            format!("{:?}", report.runtimes)
        })?;
        let main = report.threads.iter().find(|thread| thread.tid == life.pid);
        let lived = main.map_or(0, |main| main.lived_ns);
        let least = life
            .length
            .saturating_sub((JOINS + LATE) * slowdown() as u32);
        ensure(u128::from(lived) >= least.as_nanos(), || {
            format!("of {:?} only {lived} ns are known", life.length)
        })?;
    }
    for (what, times) in [("joins the recording", LIVES - 1), ("exited", LIVES)] {
        let lines = recorded.said.lines().filter(|line| {
            let said = line.contains(what)
                || what == "exited" && line.contains("ended") && is_exited("ended");
            line.contains(&name) && said
        });
        let told = lines.count();
        // The last line of an end says that the next one joins.
        ensure(told >= times, || {
            format!("{what} is told {told} times: {}", recorded.said)
        })?;
    }
    Ok(())
}

/// A control group as systemd and container engines make them: a unit, and in it a container. Removed
/// with the value.
struct Groups {
    unit: PathBuf,
    container: PathBuf,
    name: String,
    id: String,
}

fn parent() -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    match root.join("cgroup.controllers").exists() {
        true => root.to_owned(),
        false => root.join("pids"),
    }
}

fn missing_groups() -> Option<String> {
    let made = || Groups::new().err();
    privilege::missing_root()
        .or_else(|| made().map(|error| format!("no control group can be made: {error}")))
}

impl Groups {
    fn new() -> std::io::Result<Groups> {
        let name = format!("holdup-test-{}", std::process::id());
        let id = format!("{:064x}", u64::from(std::process::id()) + 0xfeed_0000_0000);
        let id = format!("{}{}", &id[50..], &id[..50]);
        let unit = parent().join(format!("{name}.service"));
        let container = unit.join(format!("docker-{id}.scope"));
        fs::create_dir_all(&container)?;
        Ok(Groups {
            unit,
            container,
            name,
            id,
        })
    }

    fn command(group: &Path, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(group.join("cgroup.procs"))
            .arg(program);
        command
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in [&self.container, &self.unit] {
            // Busy until the kernel has buried the last process.
            for _ in 0..200 {
                if fs::remove_dir(group).is_ok() || !group.exists() {
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
    }
}

/// What joins a unit is recorded, whatever it is called; what is beside it is not.
fn by_unit() -> Outcome {
    let groups = Groups::new()?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let built = Variant::DEFAULT.build()?;
    let mut command = Groups::command(&groups.unit, &built);
    command.arg("exit-midway").arg(dir.path());
    let mut first = Running::start(command)?;
    let beside = Variant::DEFAULT.start("exit-midway")?;
    let recording = Recording::start(&["--unit", &groups.name])?;
    first.go()?;
    let (first_pid, first_truth) = (first.pid(), first.truth()?);
    first.finish()?;
    let next = live(Groups::command(&groups.container, &built), dir.path())?;
    let recorded = recording.stop()?;
    drop(beside);
    ensure(recorded.pids() == [first_pid, next.pid], || {
        format!("{first_pid} and {}: {:?}", next.pid, recorded.pids())
    })?;
    no_complaints(every_wait(&recorded.of(first_pid), &first_truth))?;
    no_complaints(every_wait(&recorded.of(next.pid), &next.truth))
}

fn holdup(args: &[&str]) -> Result<(Option<i32>, String, String), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(args)
        .output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    ))
}

/// The unit, the group and the container are the same process for all of them; an empty group says so.
fn every_verb() -> Outcome {
    let groups = Groups::new()?;
    let path = groups.unit.display().to_string();
    let (code, _, error) = holdup(&["record", "--cgroup", &path])?;
    ensure(code == Some(1) && error.contains("is empty"), || {
        error.clone()
    })?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Groups::command(&groups.container, &Variant::DEFAULT.build()?);
    command.arg("exit-midway").arg(dir.path());
    let running = Running::start(command)?;
    let pid = running.pid();
    let short = &groups.id[..12];
    for target in [
        ["--unit", &groups.name],
        ["--cgroup", &path],
        ["--container", short],
        ["--container", &groups.id[..6]],
    ] {
        for verb in ["list", "dump", "check"] {
            let (code, output, error) = holdup(&[&[verb, "-f", "json"][..], &target].concat())?;
            let seen: Value = serde_json::from_str(&output)
                .map_err(|_| format!("{verb} {target:?}: {code:?} {error}"))?;
            let seen = match verb {
                "check" => &seen["target"]["pid"],
                _ => &seen["processes"][0]["pid"],
            };
            ensure(code == Some(0) && *seen == pid, || {
                format!("{verb} {target:?}: {code:?}, {output}, {error}")
            })?;
        }
        let (code, output, error) =
            holdup(&[&["record", "-d", "200ms", "-f", "json"][..], &target].concat())?;
        let seen: Value = serde_json::from_str(&output)
            .map_err(|_| format!("record {target:?}: {code:?} {error}"))?;
        ensure(
            code == Some(0) && seen["processes"][0]["pid"] == pid,
            || format!("record {target:?}: {code:?} {error}"),
        )?;
    }
    let (code, _, error) = holdup(&["dump", "--unit", &format!("{}x", groups.name)])?;
    let meant = format!("try: holdup dump --unit {}.service", groups.name);
    ensure(code == Some(1) && error.contains(&meant), || error.clone())?;
    let (code, output, _) = holdup(&["list", "--container", short, "-f", "json"])?;
    ensure(code == Some(0) && output.contains(short), || output.clone())
}
