//! The life of processes: several at once, forks, libraries that come and go, namespaces,
//! replaced executables, ids that are given out again.

use super::check_modes::every_wait;
use super::fixture::{Profile, Running, Variant};
use super::forks::summed_up;
use super::live_recording::{
    Outcome, Recorded, Recording, WRITTEN, ensure, no_complaints, sound, unknown,
};
use super::privilege;
use super::report::is_in;
use super::truth::{Truth, slowdown};
use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starting a program.
const STARTED: Duration = Duration::from_secs(20);

/// What holdup exits with where it saw no runtime.
const NO_RUNTIME: i32 = 3;

type Test = fn() -> Outcome;
type Missing = fn() -> Option<String>;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test, Missing); 15] = [
        (
            "forked_processes_are_followed",
            followed,
            privilege::missing,
        ),
        ("children_beyond_all_rows", offspring, privilege::missing),
        ("a_command_and_its_children", command, privilege::missing),
        ("a_parent_that_leaves", left, privilege::missing),
        ("a_command_that_ends_at_once", short, privilege::missing),
        (
            "forked_processes_are_left_alone",
            not_followed,
            privilege::missing,
        ),
        ("libraries_come_and_go", libraries, privilege::missing),
        ("a_target_that_is_killed", killed, privilege::missing),
        ("several_by_id", several_by_id, privilege::missing),
        ("several_by_name", several_by_name, privilege::missing),
        (
            "one_name_of_a_function_that_jumped",
            jumped,
            privilege::missing,
        ),
        (
            "the_line_of_a_function_that_jumped",
            jumped_at,
            privilege::missing,
        ),
        ("in_other_namespaces", namespaces, missing_unshare),
        ("a_replaced_executable", replaced, privilege::missing),
        (
            "an_id_that_is_given_out_again",
            reused,
            privilege::missing_root,
        ),
    ];
    trials
        .into_iter()
        .map(|(name, trial, missing)| {
            Trial::ignorable_test(format!("life::{name}"), move || {
                privilege::unless_skipped(missing(), trial)
            })
        })
        .collect()
}

fn together(fixture: &mut Running, lines: usize) -> Result<Truth, String> {
    let mut truth = fixture.truth()?;
    for _ in 1..lines {
        truth.sites.extend(fixture.truth()?.sites);
    }
    Ok(truth)
}

/// A function whose last act is a jump has one site, whether its wait was there before the recording or
/// began in it: else two recordings of one process differ.
fn jumped() -> Outcome {
    let recorded = jumping(Variant::DEFAULT)?;
    sound(&recorded.report)
}

/// Its line is that of its jump, which is on no stack.
fn jumped_at() -> Outcome {
    let with_lines = Variant {
        profile: Profile::Lines,
        ..Variant::DEFAULT
    };
    let recorded = jumping(with_lines)?;
    let line = recorded.report.sites.iter().find_map(|site| site.line);
    ensure(line.is_some(), || "it has no line".into())
}

fn jumping(variant: Variant) -> Result<Recorded, Failed> {
    let mut fixture = variant.start("jump")?;
    let pid = fixture.pid().to_string();
    fixture.go()?;
    let truth = fixture.truth()?;
    let recorded = Recording::start(&["-p", &pid, "-d", "2s"])?.end()?;
    fixture.finish()?;
    let sites = recorded.report.sites.iter();
    let blocked: Vec<&str> = sites
        .filter(|site| site.state == "blocked")
        .map(|site| &*site.function)
        .collect();
    let wanted = &truth.open.first().ok_or("nothing is open")?.function;
    let is_one = matches!(&blocked[..], [one] if is_in(one, wanted));
    ensure(is_one, || format!("{wanted} is told as {blocked:?}"))?;
    Ok(recorded)
}

/// All of a fork's waits are found, the first ones too, and all of a child that executes a
/// program; each in a process of its own.
fn followed() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("family")?;
    let pid = fixture.pid();
    let recording = Recording::start(&["-p", &pid.to_string(), "--follow"])?;
    fixture.go()?;
    let truth = together(&mut fixture, 3)?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    family(&recorded, &truth, pid)
}

/// With few rows, later children are summed up with ended ones: none of their waits is missing, and the
/// rows say with how many.
fn offspring() -> Outcome {
    const ROWS: usize = 8;
    const CHILDREN: usize = 60;
    let mut fixture = Variant::DEFAULT.start("offspring")?;
    let pid = fixture.pid().to_string();
    let recording = Recording::start_with(&["-p", &pid, "--follow"], |command| {
        command.env("HOLDUP_TEST_LIMITS", format!("processes={ROWS}"));
    })?;
    fixture.go()?;
    let truth = together(&mut fixture, CHILDREN + 1)?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    let calls: u64 = truth.sites.iter().map(|site| site.calls).sum();
    let truth: u64 = truth.sites.iter().map(|site| site.waits).sum();
    let report = &recorded.report;
    let sites = report.sites.iter();
    let sites = sites.filter(|site| is_in(&site.function, "block_by_sleep_in_fork"));
    let found: u64 = sites.clone().map(|site| site.waits).sum();
    let slept: u64 = sites
        .filter(|site| site.cause == "sleep")
        .map(|site| site.waits)
        .sum();
    // A new process may also wait for its memory there, and that before it counts its waits.
    ensure(slept == calls && (slept..=found).contains(&truth), || {
        format!(
            "{slept} of {calls} sleeps in {found} of {truth} waits; {:?}\n{}",
            report.losses,
            unknown(report)
        )
    })?;
    let rows = report.targets.len();
    let summed = summed_up(&report.targets);
    ensure(rows + summed == CHILDREN + 1 && summed > 0, || {
        format!(
            "{rows} rows with {summed} more: {:?}; {:?}",
            report.targets, report.losses
        )
    })
}

fn family(recorded: &Recorded, truth: &Truth, pid: u32) -> Outcome {
    no_complaints(every_wait(&recorded.report, truth))?;
    sound(&recorded.report)?;
    let forked = recorded.pid_of("block_by_sleep_in_fork")?;
    let child = recorded.pid_of("block_by_sleep_in_child")?;
    let parent = recorded.pid_of("block_by_sleep")?;
    ensure(
        parent == pid && forked != pid && child != pid && child != forked,
        || format!("{parent}, {forked} and {child} are the processes of {pid}"),
    )?;
    ensure(recorded.pids() == [pid, forked, child], || {
        format!("{:?}", recorded.report.targets)
    })?;
    for target in recorded.report.targets.iter().skip(1) {
        ensure(target.parent == Some(pid) && target.ended.is_some(), || {
            format!("{target:?}")
        })?;
        ensure(
            recorded
                .text
                .contains(&format!("blockers ({})", target.pid)),
            || recorded.text.clone(),
        )?;
    }
    let own = format!("blockers ({child});");
    ensure(
        recorded.folded.lines().any(|line| line.starts_with(&own)),
        || recorded.folded.clone(),
    )?;
    ensure(recorded.report.target.earlier.is_empty(), || {
        "the target executed nothing".into()
    })
}

/// The same of a command that is started, and recorded to the end of its last child.
fn command() -> Outcome {
    let dir = tempfile::tempdir()?;
    let program = Variant::DEFAULT.build()?;
    // The shell forks, and ends while its child goes on.
    let script = "exec 3<&0; \"$0\" family \"$1\" <&3 3<&- & exit 0";
    let arguments = ["--follow", "--", "sh", "-c", script];
    let mut recording = Recording::start_with(&arguments, |command| {
        command.arg(&program).arg(dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    })?;
    let mut output = recording.holdup.stdout()?;
    let mut input = recording.holdup.stdin()?;
    let ready = output.find("`ready`", STARTED, |line| line.starts_with("ready "))?;
    let pid: u32 = ready.trim_start_matches("ready ").parse()?;
    std::io::Write::write_all(&mut input, b"go\n")?;
    let mut truths = Vec::new();
    for _ in 0..3 {
        let line = output.find("ground truth", WRITTEN, |line| line.starts_with('{'))?;
        truths.push(serde_json::from_str::<Truth>(&line)?);
    }
    drop(input);
    let recorded = recording.end()?;
    for truth in &truths {
        no_complaints(every_wait(&recorded.report, truth))?;
    }
    let parent = recorded.pid_of("block_by_sleep")?;
    ensure(parent == pid && recorded.pids().len() == 4, || {
        format!("{pid}: {:?}", recorded.report.targets)
    })
}

/// A process that ends right after it forked does not end the recording, also where the news of the fork
/// is behind more of its waits than are taken in at once: the child is recorded to its own end.
fn left() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("leaves")?;
    let pid = fixture.pid();
    let mut output = fixture.take_output()?;
    let recording = Recording::start(&["-p", &pid.to_string(), "--follow"])?;
    recording.holdup.signal(Signal::STOP)?;
    fixture.go()?;
    fixture.finish()?;
    recording.holdup.signal(Signal::CONT)?;
    let truth = output.truth()?;
    let recorded = recording.end()?;
    no_complaints(every_wait(&recorded.report, &truth))?;
    ensure(recorded.pids().len() == 2, || {
        format!("{pid}: {:?}", recorded.report.targets)
    })
}

/// That we held the command until the recording had begun is no wait of its own, also where its main
/// thread ends before the first interval does.
fn short() -> Outcome {
    let recorded = Recording::start(&["--", "sleep", "0.2"])?.end_with(NO_RUNTIME)?;
    let report = &recorded.report;
    let without_stack = report.sites.iter().filter(|site| site.stack.is_empty());
    ensure(without_stack.count() == 0, || unknown(report))?;
    let waits: u64 = report.sites.iter().map(|site| site.waits).sum();
    ensure(waits > 0, || "its sleep is missing".into())
}

fn not_followed() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("family")?;
    let pid = fixture.pid();
    let recording = Recording::start(&["-p", &pid.to_string()])?;
    fixture.go()?;
    together(&mut fixture, 2)?;
    let own = fixture.truth()?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    no_complaints(every_wait(&recorded.report, &own))?;
    sound(&recorded.report)?;
    for function in ["block_by_sleep_in_fork", "block_by_sleep_in_child"] {
        ensure(recorded.pid_of(function).is_err(), || {
            format!("{function} was recorded, and nobody asked for it")
        })?;
    }
    ensure(recorded.pids() == [pid], || {
        format!("{:?}", recorded.pids())
    })
}

/// All waits in a library are found from the first one on. Of the library that is then mapped at
/// its place those are missing whose stacks were walked before the news of it, and each is
/// counted; not one goes to the first library.
fn libraries() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("libraries")?;
    let recording = Recording::start(&["-p", &fixture.pid().to_string()])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    let report = &recorded.report;
    let found = |name: &str| -> u64 {
        let sites = report.sites.iter().filter(|site| site.state == "blocked");
        sites
            .filter(|site| site.stack.iter().any(|frame| frame.function == name))
            .map(|site| site.waits)
            .sum()
    };
    for site in &truth.sites {
        let (found, lost) = (found(&site.function), report.losses.truncated);
        let may_lose = site.function == "block_in_second_library";
        let at_most = 2 * slowdown();
        let whole =
            found == site.waits || may_lose && lost <= at_most && found + lost == site.waits;
        ensure(whole, || {
            format!(
                "{}: {found} of {} waits, {:?}\n{}",
                site.function,
                site.waits,
                report.losses,
                unknown(report)
            )
        })?;
    }
    Ok(())
}

fn both(recorded: &Recorded, fixtures: [(u32, Truth); 2]) -> Outcome {
    sound(&recorded.report)?;
    for (pid, truth) in fixtures {
        no_complaints(every_wait(&recorded.of(pid), &truth))?;
        let target = recorded.report.targets.iter().find(|t| t.pid == pid);
        ensure(target.is_some_and(|target| target.ended.is_some()), || {
            format!("{pid} ended, but {target:?}")
        })?;
        let runtimes = recorded.of(pid).runtimes.len();
        ensure(runtimes == 1, || format!("{runtimes} runtimes of {pid}"))?;
    }
    Ok(())
}

/// Two processes that do the same are two processes, and the recording ends with the second.
fn several_by_id() -> Outcome {
    let mut first = Variant::DEFAULT.start("exit-midway")?;
    let mut second = Variant::DEFAULT.start("exit-midway")?;
    let pids = [first.pid(), second.pid()];
    let recording = Recording::start(&["-p", &format!("{},{}", pids[0], pids[1])])?;
    first.go()?;
    let first_truth = first.truth()?;
    first.finish()?;
    second.go()?;
    let second_truth = second.truth()?;
    second.finish()?;
    let recorded = recording.end()?;
    ensure(recorded.pids() == pids, || format!("{:?}", recorded.pids()))?;
    both(&recorded, [(pids[0], first_truth), (pids[1], second_truth)])
}

fn several_by_name() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // A name that no other process on this machine has.
    let name = format!("blockers-{}", std::process::id());
    let program = dir.path().join(&name);
    fs::copy(Variant::DEFAULT.build()?, &program)?;
    let start = || {
        let mut command = Command::new(&program);
        command.arg("exit-midway").arg(dir.path());
        Running::start(command)
    };
    let (mut first, mut second) = (start()?, start()?);
    let recording = Recording::start(&["-n", &name])?;
    first.go()?;
    second.go()?;
    let fixtures = [
        (first.pid(), first.truth()?),
        (second.pid(), second.truth()?),
    ];
    first.finish()?;
    second.finish()?;
    both(&recording.stop()?, fixtures)
}

/// A guest of the kernel matrix has no programs but ours.
fn missing_unshare() -> Option<String> {
    let found = Command::new("unshare").arg("--help").output();
    let missing = found.is_err().then(|| "no unshare(1) here".into());
    privilege::missing_root().or(missing)
}

/// In namespaces of its own a process has another id than here: here it is named by ours.
fn namespaces() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Command::new("unshare");
    command
        // Pid, fork, mount, user, root inside: in the words that busybox has for them, too.
        .args(["-p", "-f", "-m", "-U", "-r"])
        // The first process of the namespace, which has to wait for all others when it ends, is
        // the shell.
        .args(["sh", "-c", "\"$0\" exit-midway \"$1\"; exit $?"])
        .arg(Variant::DEFAULT.build()?)
        .arg(dir.path());
    let mut fixture = Running::start(command)?;
    let child = |pid: u32| -> Result<u32, Failed> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(children.trim().parse()?)
    };
    let pid = child(child(fixture.pid())?)?;
    let recording = Recording::start(&["-p", &pid.to_string()])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    fixture.finish()?;
    let recorded = recording.end()?;
    no_complaints(every_wait(&recorded.report, &truth))?;
    sound(&recorded.report)?;
    ensure(recorded.pids() == [pid], || {
        format!("{:?}", recorded.pids())
    })
}

/// What runs is what is recorded, whatever has its name by now.
fn replaced() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let program = dir.path().join("blockers");
    fs::copy(Variant::DEFAULT.build()?, &program)?;
    let mut command = Command::new(&program);
    command.arg("exit-midway").arg(dir.path());
    let mut fixture = Running::start(command)?;
    let other = dir.path().join("other");
    fs::copy(std::env::current_exe()?, &other)?;
    fs::rename(&other, &program)?;
    let recording = Recording::start(&["-p", &fixture.pid().to_string()])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    fixture.finish()?;
    let recorded = recording.end()?;
    no_complaints(every_wait(&recorded.report, &truth))?;
    sound(&recorded.report)
}

/// The report says which signal ended the target, which is nobody's child here; and of the other,
/// that it exited.
fn killed() -> Outcome {
    let killed = Variant::DEFAULT.start("exit-midway")?;
    let mut other = Variant::DEFAULT.start("exit-midway")?;
    let recording = Recording::start(&["-p", &format!("{},{}", killed.pid(), other.pid())])?;
    // Waited for at once: from then on the kernel may not tell any more.
    let older = !tells_after_wait();
    killed.kill()?;
    other.go()?;
    other.truth()?;
    other.finish()?;
    let recorded = recording.end()?;
    let ends: Vec<_> = recorded
        .report
        .targets
        .iter()
        .map(|target| target.ended.as_deref().unwrap_or("not"))
        .collect();
    let right = ends == ["killed by SIGKILL", "exited"];
    ensure(right || older && !ends.contains(&"not"), || {
        format!("they ended: {ends:?}")
    })
}

/// Whether this kernel's pidfds tell how a process ended that was waited for (Linux 6.15).
fn tells_after_wait() -> bool {
    holdup::host::KernelBtf::load().is_ok_and(|btf| btf.has_function("pidfs_exit"))
}

/// A process that ended is not another one that was given its id.
fn reused() -> Outcome {
    let mut first = Variant::DEFAULT.start("exit-midway")?;
    let mut other = Variant::DEFAULT.start("exit-midway")?;
    let pid = first.pid();
    let recording = Recording::start(&["-p", &format!("{pid},{}", other.pid())])?;
    first.go()?;
    let truth = first.truth()?;
    first.finish()?;
    let mut second = with_id(pid)?;
    second.go()?;
    second.truth()?;
    second.finish()?;
    other.go()?;
    other.truth()?;
    other.finish()?;
    let recorded = recording.end()?;
    // The second one did the very same.
    no_complaints(every_wait(&recorded.of(pid), &truth))?;
    let target = &recorded.report.target;
    ensure(target.pid == pid && target.ended.is_some(), || {
        format!("{target:?}")
    })
}

/// Starts the fixture until it has this id: on a busy machine another process may be first.
fn with_id(pid: u32) -> Result<Running, String> {
    let dir: PathBuf = env!("CARGO_TARGET_TMPDIR").into();
    let program = Variant::DEFAULT.build()?;
    let deadline = Instant::now() + STARTED;
    while Instant::now() < deadline {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
            .map_err(|error| format!("ids cannot be chosen: {error}"))?;
        let mut command = Command::new(&program);
        command.arg("exit-midway").arg(&dir);
        let running = Running::start(command)?;
        if running.pid() == pid {
            return Ok(running);
        }
    }
    Err(format!("nobody was given the id {pid}"))
}
