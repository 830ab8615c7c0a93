//! `holdup record` where nobody is left to look at it: its terminal goes away, a service manager ends it,
//! or it ends by itself at a stall.

use super::check_modes::every_wait;
use super::fixture::{Running, Variant};
use super::live_recording::{Outcome, Recording, WRITTEN, ensure, no_complaints, sound};
use super::privilege;
use super::report::{Report, is_in};
use super::safety::wait_for;
use super::terminal::{Terminal, is_gone, missing_tmux};
use super::truth::{Truth, slowdown};
use children::Child;
use libtest_mimic::{Failed, Trial};
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The report in every form that is looked at.
const FILES: [&str; 3] = ["report.json", "report.txt", "report.folded"];
/// A shell that goes on when its terminal has gone, and whose programs are told of it all the same.
const OUTLIVES: &str = "trap : HUP";
/// What holdup takes after a stall before it ends.
const AFTER_STALL: Duration = Duration::from_secs(2);

type Test = fn() -> Outcome;
type Missing = fn() -> Option<String>;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test, Missing); 8] = [
        ("a_terminal_that_goes_away", terminal, missing_tmux),
        (
            "a_terminal_that_goes_away_from_redirected_output",
            redirected,
            missing_tmux,
        ),
        ("a_terminal_that_goes_away_under_nohup", nohup, missing_tmux),
        ("a_terminal_that_goes_away_unheard", unheard, missing_tmux),
        ("a_service_that_is_stopped", service, || None),
        ("until_a_stall", stall, || None),
        ("until_a_stall_that_does_not_end", endless, || None),
        ("until_a_stall_that_does_not_come", no_stall, || None),
    ];
    trials
        .into_iter()
        .map(|(name, trial, missing)| {
            Trial::ignorable_test(format!("unattended::{name}"), move || {
                privilege::unless_skipped(privilege::missing().or_else(missing), trial)
            })
        })
        .collect()
}

/// The words of a recording, with the files of its report in `dir`.
fn arguments(pid: u32, dir: &Path) -> Vec<String> {
    let mut words = vec!["record".to_owned(), "-p".to_owned(), pid.to_string()];
    for name in FILES {
        words.extend(["-o".to_owned(), dir.join(name).display().to_string()]);
    }
    words
}

/// A recording on a terminal. `how` is given `holdup` and its arguments, and says how it is called.
fn on_terminal(
    of: &Running,
    before: &str,
    how: impl FnOnce(&str) -> String,
) -> Result<Terminal, String> {
    Terminal::start(before, (100, 30), |dir| {
        let words = arguments(of.pid(), Path::new(dir)).join(" ");
        how(&format!("\"{}\" {words}", env!("CARGO_BIN_EXE_holdup")))
    })
}

/// The reports in `dir` are whole, and have every wait of that truth.
fn are_written(dir: &Path, truth: &Truth) -> Outcome {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let report = Report::parse(&read(FILES[0])?)?;
    no_complaints(every_wait(&report, truth))?;
    sound(&report)?;
    ensure(report.target.tokio.present, || {
        format!("{:?}", report.target)
    })?;
    for name in &FILES[1..] {
        let text = read(name)?;
        for site in &truth.sites {
            ensure(
                text.contains(&site.function) && text.ends_with('\n'),
                || format!("{} in {name}: {text}", site.function),
            )?;
        }
    }
    Ok(())
}

/// Until it has said that it records, in a file.
fn until_said(path: &Path) -> Result<(), String> {
    wait_for("recording", || {
        let text = fs::read_to_string(path).ok()?;
        let begun = |line: &str| line.starts_with("recording ");
        text.lines().any(begun).then_some(())
    })
}

/// A window that is closed ends the recording, and the files are written.
fn terminal() -> Outcome {
    let code = closed_in_the_middle(
        |holdup| holdup.to_owned(),
        |terminal| terminal.until_it_has("recording blockers").map(|_| ()),
    )?;
    ensure(is_for_no_terminal(&code), || format!("exit {code}"))
}

/// That what was for the terminal itself has no place to go to any more is no failure.
fn is_for_no_terminal(code: &str) -> bool {
    code.trim() == "0"
}

/// As [`terminal`], with nothing that was for the terminal: that is success.
fn redirected() -> Outcome {
    let code = closed_in_the_middle(
        |holdup| format!("{holdup} > out 2> said"),
        |terminal| until_said(&terminal.path("said")),
    )?;
    ensure(code == "0", || format!("exit {code}"))
}

fn closed_in_the_middle(
    how: impl FnOnce(&str) -> String,
    begun: impl FnOnce(&Terminal) -> Result<(), String>,
) -> Result<String, Failed> {
    let mut fixture = Variant::DEFAULT.start("queued")?;
    let terminal = on_terminal(&fixture, OUTLIVES, how)?;
    begun(&terminal)?;
    fixture.go()?;
    let truth = fixture.truth()?;
    let pid = terminal.pid()?;
    terminal.close()?;
    // The fixture goes on, so that nothing else ends it.
    is_gone(pid)?;
    let code = terminal.file("rc")?.trim().to_owned();
    fixture.finish()?;
    are_written(terminal.path("").as_path(), &truth)?;
    Ok(code)
}

/// Under nohup(1) the recording outlives its terminal, and has what comes afterwards.
fn nohup() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("queued")?;
    let terminal = on_terminal(&fixture, OUTLIVES, |holdup| format!("nohup {holdup}"))?;
    // Where nohup puts what would have been on the terminal.
    let output = terminal.path("nohup.out");
    until_said(&output)?;
    let pid = terminal.pid()?;
    terminal.close()?;
    fixture.go()?;
    let truth = fixture.truth()?;
    kill_process(pid, Signal::TERM).map_err(|errno| errno.to_string())?;
    is_gone(pid)?;
    let code = terminal.file("rc")?;
    fixture.finish()?;
    are_written(terminal.path("").as_path(), &truth)?;
    let output = fs::read_to_string(output)?;
    let is_there = |site: &str| output.contains(site);
    let all = truth.sites.iter().all(|site| is_there(&site.function));
    ensure(code.trim() == "0" && all, || {
        format!("exit {code}: {output}")
    })
}

/// As [`nohup`], where only the signal is ignored: all that was for the terminal has no place to go to, and
/// does not keep the files from being written when the target ends.
fn unheard() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("queued")?;
    let terminal = on_terminal(&fixture, "trap '' HUP", |holdup| holdup.to_owned())?;
    terminal.until_it_has("recording blockers")?;
    let pid = terminal.pid()?;
    terminal.close()?;
    fixture.go()?;
    let truth = fixture.truth()?;
    fixture.finish()?;
    is_gone(pid)?;
    let code = terminal.file("rc")?;
    ensure(is_for_no_terminal(&code), || format!("exit {code}"))?;
    are_written(terminal.path("").as_path(), &truth)
}

/// As a service manager has it: no terminal, a session of its own, hardly any environment, another folder,
/// both outputs in files, and SIGTERM at the end.
fn service() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("queued")?;
    let dir = tempfile::tempdir()?;
    let [out, said] = ["out", "said"].map(|name| dir.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(arguments(fixture.pid(), dir.path()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&said)?);
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let mut holdup = Child::spawn("holdup", &mut command)?;
    until_said(&said)?;
    fixture.go()?;
    let truth = fixture.truth()?;
    holdup.signal(Signal::TERM)?;
    let status = holdup.wait(WRITTEN)?;
    fixture.finish()?;
    let (out, said) = (fs::read_to_string(out)?, fs::read_to_string(said)?);
    ensure(status.code() == Some(0), || format!("{status}: {said}"))?;
    are_written(dir.path(), &truth)?;
    for site in &truth.sites {
        ensure(out.contains(&site.function), || out.clone())?;
    }
    // Nothing that only a terminal understands, and each file is named.
    let is_plain = |text: &str| !text.contains(['\x1b', '\r']);
    let are_named = FILES.iter().all(|name| said.contains(name));
    ensure(is_plain(&out) && is_plain(&said) && are_named, || {
        format!("{said}\n{out}")
    })
}

/// A stall ends the recording a little after it; what was before it and right after it is in the report.
fn stall() -> Outcome {
    // What the fixture lets pass before it.
    const BEFORE: Duration = Duration::from_secs(1);
    let mut fixture = Variant::DEFAULT.start("one-stall")?;
    let begun = Instant::now();
    let recording =
        Recording::start(&["-p", &fixture.pid().to_string(), "--until-stall", "200ms"])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    let told = begun.elapsed();
    // The fixture goes on, so that nothing else ends it.
    let recorded = recording.end()?;
    fixture.finish()?;
    let report = &recorded.report;
    no_complaints(every_wait(report, &truth))?;
    sound(report)?;
    let mut truths = truth.sites.iter();
    let stall = truths.find(|site| site.function == "block_for_a_stall");
    let stall = stall.ok_or("the fixture has not stalled")?;
    let mut sites = report.sites.iter();
    let site = sites.find(|site| is_in(&site.function, &stall.function) && site.state == "blocked");
    let site = site.ok_or("the stall has no site")?;
    // By so much a sleep is shorter for the scheduler, which sees it begin a moment after its timer.
    let least = stall.least_ns - stall.least_ns / 50;
    ensure(
        site.cause == "sleep" && (least..=stall.max_ns).contains(&site.max_ns),
        || format!("{stall:?}, but {}", site.describe()),
    )?;
    let lasted = Duration::from_nanos(report.duration_ns);
    let late = Duration::from_secs(10 * slowdown());
    ensure(
        lasted >= BEFORE + AFTER_STALL && lasted <= told + AFTER_STALL + late,
        || format!("{lasted:?}, and the stall was over before {told:?}"),
    )?;
    let said = recorded.said;
    ensure(said.contains("a worker stood still for "), || said.clone())
}

/// A worker that does not come out of its poll any more is a stall, too, and so is one that was in it before.
fn endless() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("stuck-parking-lot")?;
    let recording =
        Recording::start(&["-p", &fixture.pid().to_string(), "--until-stall", "200ms"])?;
    let recorded = recording.end()?;
    fixture.go()?;
    fixture.finish()?;
    sound(&recorded.report)?;
    let mut open = recorded.report.open_waits.iter();
    let stuck = open.find(|open| is_in(&open.function, "stuck_by_parking_lot"));
    ensure(stuck.is_some_and(|open| open.state == "blocked"), || {
        format!("{:?}", recorded.report.open_waits)
    })
}

/// Shorter ones do not end it, however many: somebody has to.
fn no_stall() -> Outcome {
    // The fixture blocks for 40 ms at a time; another program on the machine may add some.
    let mut fixture = Variant::DEFAULT.start("queued")?;
    let mut recording =
        Recording::start(&["-p", &fixture.pid().to_string(), "--until-stall", "400ms"])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    // Longer than it would take to end.
    sleep(AFTER_STALL * 2);
    let ended = recording.holdup.ended()?;
    ensure(ended.is_none(), || format!("it ended: {ended:?}"))?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    no_complaints(every_wait(&recorded.report, &truth))?;
    sound(&recorded.report)?;
    let said = recorded.said;
    ensure(!said.contains("stood still"), || said.clone())
}
