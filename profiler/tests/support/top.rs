//! `holdup top` on a terminal: keys, sizes, targets that end, signals, a terminal that goes away.

use super::fixture::{Running, Variant};
use super::privilege;
use super::terminal::{Terminal, is_gone, missing_tmux};
use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// The function in which the fixture is blocked 900 times a second.
const BUSY: &str = "block_in_service";

/// The function in which the fixture hangs.
const STUCK: &str = "stuck_by_parking_lot";

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 12] = [
        ("top::keys_and_sizes", keys_and_sizes),
        ("top::sorting_scrolling_and_spans", sorting),
        ("top::what_was_seen_is_saved", saved),
        ("top::a_capture_of_the_callers", saved_for_the_caller),
        ("top::it_costs_little", cost),
        ("top::a_service_that_is_restarted", restarted),
        ("top::what_is_no_terminal", no_terminal),
        ("top::a_target_that_ends", target_ends),
        ("top::several_processes", several),
        ("top::signals", signals),
        ("top::a_terminal_that_goes_away", terminal_goes),
        (
            "top::a_terminal_that_goes_away_under_nohup",
            terminal_goes_under_nohup,
        ),
    ];
    let trial = |(name, run): (&str, Test)| {
        Trial::ignorable_test(name, move || {
            privilege::unless_skipped(privilege::missing().or_else(missing_tmux), run)
        })
    };
    tests.into_iter().map(trial).collect()
}

/// A terminal with `holdup top -p PIDS` on it. `before` is what the shell around it does first.
fn top(before: &str, pids: &str, size: (u32, u32)) -> Result<Terminal, String> {
    top_of(before, &format!("-p {pids}"), size)
}

/// With these targets, in the words of the command line.
fn top_of(before: &str, targets: &str, size: (u32, u32)) -> Result<Terminal, String> {
    let holdup = env!("CARGO_BIN_EXE_holdup");
    Terminal::start(before, size, |dir| {
        format!("\"{holdup}\" top {targets} -o {dir}/seen.json")
    })
}

fn stuck() -> Result<Running, String> {
    Variant::DEFAULT.start("stuck-parking-lot")
}

/// Lets it go on, and so come to its end.
fn end(mut fixture: Running) -> Result<(), String> {
    fixture.go()?;
    fixture.finish()
}

fn keys_and_sizes() -> Outcome {
    let fixture = stuck()?;
    let terminal = top("", &fixture.pid().to_string(), (100, 30))?;
    let screen = terminal.until("its site and its lanes", |screen| {
        screen.contains(STUCK) && screen.contains("LLLL") && screen.contains("blocked 100 %")
    })?;
    if !screen
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("holdup WEDGED blockers ("))
    {
        return Err(format!("the first line: {screen}").into());
    }
    terminal.press("Enter")?;
    terminal.until("a stack", |screen| {
        screen.contains("STACK") && screen.contains("task")
    })?;
    terminal.press("Escape")?;
    terminal.until_it_has("WORKERS")?;
    terminal.press("/")?;
    terminal.press("nowhere")?;
    terminal.until_it_has("no site has \"nowhere\"")?;
    terminal.press("Escape")?;
    terminal.until_it_has(STUCK)?;
    terminal.press("?")?;
    terminal.until_it_has("end the recording and print its report")?;
    terminal.press("?")?;
    for (width, height) in [
        ("60", "24"),
        ("300", "100"),
        ("30", "8"),
        ("200", "50"),
        ("100", "30"),
    ] {
        terminal.tmux(&["resize-window", "-x", width, "-y", height])?;
        let (columns, rows) = (width.parse().unwrap_or(0), height.parse().unwrap_or(0));
        terminal.until(&format!("{width} x {height}"), |screen| {
            let fits = screen.lines().count() <= rows;
            let last = screen.lines().nth(rows - 1).unwrap_or_default();
            let said = if rows < 10 { "at least 40 x 10" } else { STUCK };
            let keys = last.starts_with("q quit") && (columns < 200 || last.contains("zoom"));
            fits && screen.contains(said) && (keys || rows < 10)
        })?;
    }
    terminal.press("p")?;
    terminal.until_it_has("PAUSED")?;
    terminal.press("s")?;
    terminal.until_it_has("saved ")?;
    let saved: Value = serde_json::from_str(&terminal.file("seen.json")?)
        .map_err(|error| format!("what was saved: {error}"))?;
    if saved["schema"] != 2 || saved["verdict"]["kind"] != "wedged" {
        return Err(format!("what was saved: {}", saved["verdict"]).into());
    }
    terminal.press("p")?;
    terminal.press("q")?;
    terminal.is_over("0")?;
    let report = terminal.tmux(&["capture-pane", "-p", "-S", "-"])?;
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    if !report.contains("\nWEDGED ") || report.contains("q quit") {
        return Err(format!("the report: {report}").into());
    }
    Ok(end(fixture)?)
}

/// What `holdup report` says of a capture, as JSON.
fn report_of(capture: &Path) -> Result<Value, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["report", "-f", "json"])
        .arg(capture)
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The end of what was saved is no end that is missing.
    if !output.status.success() || said.contains("the end of the recording") {
        return Err(format!("holdup report: {said}"));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// Waits and time of each site.
fn site_sums(report: &Value) -> Vec<(String, u64, u64)> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let sites = report["sites"].as_array().into_iter().flatten();
    let sums = sites.map(|site| {
        let place = format!("{} {} {}", site["function"], site["state"], site["line"]);
        (place, number(&site["waits"]), number(&site["total_ns"]))
    });
    let mut sums: Vec<_> = sums.collect();
    sums.sort();
    sums
}

/// The capture and the report that are saved by one key are of the same intervals: their sums are the same, to
/// the nanosecond. A second key replaces them by what has come since.
fn saved() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("steady")?;
    fixture.go()?;
    let terminal = top("", &fixture.pid().to_string(), (160, 40))?;
    terminal.until_it_has(BUSY)?;
    let mut waits = Vec::new();
    for _ in 0..2 {
        terminal.press("s")?;
        let screen = terminal.until("what was saved", |screen| {
            screen.contains("saved ") && screen.contains("seen.json")
        })?;
        if !screen.contains("seen.holdup (") || screen.contains(", the last ") {
            return Err(format!("the capture is named, and has everything: {screen}").into());
        }
        let seen: Value = serde_json::from_str(&terminal.file("seen.json")?)
            .map_err(|error| format!("what was saved: {error}"))?;
        let capture = report_of(&terminal.path("seen.holdup"))?;
        let (of_screen, of_capture) = (site_sums(&seen), site_sums(&capture));
        if of_screen != of_capture || seen["duration_ns"] != capture["duration_ns"] {
            return Err(format!("the report has {of_screen:?}, the capture {of_capture:?}").into());
        }
        let busy = of_capture.iter().filter(|(site, ..)| site.contains(BUSY));
        waits.push(busy.map(|(_, waits, _)| waits).sum::<u64>());
        // Any key takes the message away.
        terminal.press("j")?;
        terminal.until("no message", |screen| !screen.contains("saved "))?;
        // An interval is a second.
        thread::sleep(Duration::from_secs(2));
    }
    terminal.press("q")?;
    terminal.is_over("0")?;
    fixture.kill()?;
    match waits[..] {
        [first, second] if first > 0 && second > first => Ok(()),
        _ => Err(format!("waits that were saved: {waits:?}").into()),
    }
}

/// Without an option: what `s` saves has the name that is said, belongs to who called `sudo`, and is there
/// even where `q` follows at once.
fn saved_for_the_caller() -> Outcome {
    if let Some(reason) = privilege::missing_root() {
        return Err(reason.into());
    }
    const CALLER: u32 = 65_534;
    let before = format!(
        "chown {CALLER}:{CALLER} . && export SUDO_UID={CALLER} SUDO_GID={CALLER} SUDO_USER=nobody"
    );
    let fixture = stuck()?;
    let pid = fixture.pid();
    let holdup = env!("CARGO_BIN_EXE_holdup");
    let command = format!("\"{holdup}\" top -p {pid}");
    let terminal = Terminal::start(&before, (160, 40), |_| command)?;
    terminal.until_it_has(STUCK)?;
    let captures = || -> Result<Vec<PathBuf>, String> {
        let files = std::fs::read_dir(terminal.path("")).map_err(|error| error.to_string())?;
        let paths = files.flatten().map(|file| file.path());
        let is_capture = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "holdup");
        Ok(paths.filter(is_capture).collect())
    };
    if !captures()?.is_empty() {
        return Err("there is a capture before anybody wanted one".into());
    }
    terminal.press("s")?;
    terminal.press("q")?;
    terminal.is_over("0")?;
    let screen = terminal.tmux(&["capture-pane", "-p", "-J", "-S", "-"])?;
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    let captures = captures()?;
    let [capture] = &captures[..] else {
        return Err(format!("captures: {captures:?}; {screen}").into());
    };
    let name = capture.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with(&format!("holdup-{pid}-")) || !screen.contains(&format!("saved {name} ("))
    {
        return Err(format!("{name} is not said: {screen}").into());
    }
    let metadata = std::fs::metadata(capture)?;
    if metadata.uid() != CALLER || metadata.gid() != CALLER {
        return Err(format!("it belongs to {}", metadata.uid()).into());
    }
    let report = report_of(capture)?;
    if report["verdict"]["kind"] != "wedged" {
        return Err(format!("what was saved: {}", report["verdict"]).into());
    }
    Ok(end(fixture)?)
}

/// For how long the cost is measured.
const MEASURED: Duration = Duration::from_secs(8);
/// Of a CPU, at most.
const COST: f64 = 0.02;
/// How often, at most. Whoever else is at work takes caches away, and CPU time grows.
const TRIES: usize = 3;

/// CPU time of a process so far, in seconds; see proc(5).
fn cpu_time(pid: Pid) -> Result<f64, String> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15, in hundredths of a second (`USER_HZ`).
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

/// The share of a CPU that `top` takes while it watches, all in all: recording, the screen, and the capture that
/// it keeps.
fn share(pids: &str, shows: &str) -> Result<f64, String> {
    let terminal = top("", pids, (120, 40))?;
    terminal.until_it_has(shows)?;
    let pid = terminal.pid()?;
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        let before = cpu_time(pid)?;
        thread::sleep(MEASURED);
        least = least.min((cpu_time(pid)? - before) / MEASURED.as_secs_f64());
        if least <= COST {
            break;
        }
    }
    terminal.press("q")?;
    terminal.is_over("0")?;
    Ok(least)
}

/// Of twenty threads that rest, and of as many that wait 900 times a second.
fn cost() -> Outcome {
    let mut complaints = Vec::new();
    for (mode, shows) in [("resting", "WORKERS"), ("steady", BUSY)] {
        let mut fixture = Variant::DEFAULT.start(mode)?;
        fixture.go()?;
        let share = share(&fixture.pid().to_string(), shows);
        fixture.kill()?;
        let share = share?;
        println!("top takes {:.2} % of a CPU for {mode}", 100.0 * share);
        // Nothing at all would be a process that is not holdup.
        if !(share > 0.0 && share <= COST) {
            complaints.push(format!("{mode}: {:.2} % of a CPU", 100.0 * share));
        }
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n").into()),
    }
}

/// The first line of the sites.
fn first_site(screen: &str) -> &str {
    let mut lines = screen
        .lines()
        .skip_while(|line| !line.contains("BLOCKED IN"));
    lines.nth(1).unwrap_or_default()
}

/// Each column by its key, the whole list by the arrows, and every span of time.
fn sorting() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("held")?;
    fixture.go()?;
    fixture.truth()?;
    let terminal = top("", &fixture.pid().to_string(), (120, 40))?;
    terminal.until("its sites", |screen| {
        first_site(screen).contains("block_by_held_") && screen.contains("HARM*")
    })?;
    for (key, column) in [
        ("t", "TIME*"),
        ("w", "WAITS*"),
        ("l", "LONGEST*"),
        ("h", "HARM*"),
    ] {
        terminal.press(key)?;
        terminal.until_it_has(column)?;
    }
    // The next one is chosen, and shown.
    let sites = |screen: &str| -> Vec<String> {
        let lines = screen
            .lines()
            .skip_while(|line| !line.contains("BLOCKED IN"));
        let lines = lines.skip(1).take_while(|line| !line.trim().is_empty());
        lines.map(str::to_owned).collect()
    };
    let chosen = |screen: &str| sites(screen).iter().position(|line| line.starts_with('>'));
    terminal.until("the first one chosen", |screen| chosen(screen) == Some(0))?;
    terminal.press("Down")?;
    terminal.until("the second one chosen", |screen| chosen(screen) == Some(1))?;
    terminal.press("G")?;
    terminal.until("the last one chosen", |screen| {
        chosen(screen).is_some_and(|at| at > 1 && at + 1 == sites(screen).len())
    })?;
    terminal.press("Home")?;
    terminal.until("the first one chosen again", |screen| {
        chosen(screen) == Some(0)
    })?;
    terminal.press("-")?;
    terminal.until_it_has("a cell is 500 ms")?;
    terminal.press("+")?;
    terminal.until_it_has("a cell is 250 ms")?;
    // By way of 15 s and 60 s.
    for _ in 0..3 {
        terminal.press("r")?;
    }
    terminal.until_it_has("since the start")?;
    // A filter that was typed stays, until it is taken away.
    terminal.press("/")?;
    terminal.press("held_child")?;
    terminal.press("Enter")?;
    terminal.until("one site only", |screen| {
        sites(screen).len() == 1 && first_site(screen).contains("block_by_held_child")
    })?;
    terminal.press("q")?;
    terminal.is_over("0")?;
    Ok(fixture.finish()?)
}

/// The next life of a service joins, and the terminal stays.
fn restarted() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let name = format!("top-{}", std::process::id());
    let program = dir.path().join(&name);
    std::fs::copy(Variant::DEFAULT.build()?, &program)?;
    let start = || {
        let mut command = Command::new(&program);
        command.arg("stuck-parking-lot").arg(dir.path());
        Running::start(command)
    };
    let first = start()?;
    let terminal = top_of("", &format!("-n {name}"), (120, 40))?;
    terminal.until_it_has(STUCK)?;
    first.kill()?;
    let second = start()?;
    terminal.until("both lives", |screen| {
        screen.contains("2 processes") && screen.contains(&format!("({})", second.pid()))
    })?;
    terminal.press("s")?;
    terminal.until_it_has("saved ")?;
    let saved: Value = serde_json::from_str(&terminal.file("seen.json")?)
        .map_err(|error| format!("what was saved: {error}"))?;
    let lives = saved["processes"].as_array().map_or(0, Vec::len);
    terminal.press("q")?;
    terminal.is_over("0")?;
    end(second)?;
    match lives {
        2 => Ok(()),
        lives => Err(format!("{lives} lives: {}", saved["processes"]).into()),
    }
}

/// It says so, what to do instead, and leaves the terminal alone.
fn no_terminal() -> Outcome {
    let fixture = stuck()?;
    let pid = fixture.pid().to_string();
    let piped = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["top", "-p", &pid])
        .output()?;
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    let terminal = top("export TERM=dumb", &pid, (100, 30))?;
    let screen = terminal.is_over("1");
    end(fixture)?;
    let screen = screen?;
    let instead = format!("record -d 10s -p {pid}");
    for (told, why) in [(&said, "standard output is none"), (&screen, "TERM=dumb")] {
        if !told.contains(why) || !told.contains(&instead) {
            return Err(format!("no {why:?} in {told}").into());
        }
    }
    match piped.status.code() {
        Some(1) => Ok(()),
        code => Err(format!("exit {code:?}").into()),
    }
}

/// The view stays until a key.
fn target_ends() -> Outcome {
    let fixture = stuck()?;
    let terminal = top("", &fixture.pid().to_string(), (80, 24))?;
    terminal.until_it_has(STUCK)?;
    fixture.kill()?;
    terminal.until_it_has("ended: killed by SIGKILL")?;
    terminal.press("Enter")?;
    terminal.until_it_has("STACK")?;
    terminal.press("s")?;
    terminal.until_it_has("saved ")?;
    terminal.press("C-c")?;
    terminal.is_over("0")?;
    Ok(())
}

fn several() -> Outcome {
    let (one, other) = (stuck()?, stuck()?);
    let pids = format!("{},{}", one.pid(), other.pid());
    let terminal = top("", &pids, (120, 40))?;
    terminal.until("both", |screen| {
        let named = |pid: u32| screen.contains(&format!("blockers ({pid})"));
        screen.contains("2 processes")
            && screen.contains("rt0 blockers (")
            && screen.contains("rt1 blockers (")
            && named(one.pid())
            && named(other.pid())
    })?;
    one.kill()?;
    // The other one is still watched.
    thread::sleep(Duration::from_millis(1_500));
    let screen = terminal.screen()?;
    if screen.contains("ended:") {
        return Err(format!("it is not over: {screen}").into());
    }
    other.kill()?;
    terminal.until_it_has("ended: ")?;
    terminal.press("q")?;
    terminal.is_over("0")?;
    Ok(())
}

fn signals() -> Outcome {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let fixture = stuck()?;
        let terminal = top("", &fixture.pid().to_string(), (100, 30))?;
        terminal.until_it_has(STUCK)?;
        kill_process(terminal.pid()?, signal).map_err(|errno| errno.to_string())?;
        terminal
            .is_over("0")
            .map_err(|error| format!("{signal:?}: {error}"))?;
        end(fixture)?;
    }
    Ok(())
}

/// Nothing is left of it.
fn terminal_goes() -> Outcome {
    let fixture = stuck()?;
    let terminal = top("", &fixture.pid().to_string(), (100, 30))?;
    terminal.until_it_has(STUCK)?;
    let pid = terminal.pid()?;
    terminal.close()?;
    is_gone(pid)?;
    Ok(end(fixture)?)
}

/// Nobody says so: the report has no place to go to.
fn terminal_goes_under_nohup() -> Outcome {
    let fixture = stuck()?;
    let terminal = top("trap '' HUP", &fixture.pid().to_string(), (100, 30))?;
    terminal.until_it_has(STUCK)?;
    let pid = terminal.pid()?;
    terminal.close()?;
    is_gone(pid)?;
    let rc = terminal.file("rc")?;
    end(fixture)?;
    if rc.trim() == "1" {
        Ok(())
    } else {
        Err(format!("exit {rc}").into())
    }
}
