//! `holdup top` on a terminal: keys, sizes, targets that end, signals, a terminal that goes away.

use super::fixture::{Running, Variant};
use super::privilege;
use super::truth::slowdown;
use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// For what is awaited on the screen.
const SOON: Duration = Duration::from_secs(20);
/// The function in which the fixture hangs.
const STUCK: &str = "stuck_by_parking_lot";

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 9] = [
        ("top::keys_and_sizes", keys_and_sizes),
        ("top::sorting_scrolling_and_spans", sorting),
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

fn missing_tmux() -> Option<String> {
    let found = Command::new("tmux").arg("-V").output();
    let found = found.is_ok_and(|output| output.status.success());
    (!found).then(|| "tmux is not installed".into())
}

/// A terminal with `holdup top` on it. Dropped, it is gone with everything in it.
struct Terminal {
    socket: String,
    dir: tempfile::TempDir,
}

impl Terminal {
    /// `before` is what the shell around it does first.
    fn start(before: &str, pids: &str, size: (u32, u32)) -> Result<Terminal, String> {
        Terminal::of(before, &format!("-p {pids}"), size)
    }

    /// With these targets, in the words of the command line.
    fn of(before: &str, targets: &str, size: (u32, u32)) -> Result<Terminal, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal {
            socket: format!("holdup-test-{}-{count}", std::process::id()),
            dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
                .map_err(|error| format!("no folder: {error}"))?,
        };
        let dir = terminal.dir.path().display();
        let script = format!(
            "{before}\nexport NO_COLOR=1 LC_ALL=C.UTF-8\n\
             sh -c 'echo $$ > {dir}/new && mv {dir}/new {dir}/pid; \
             exec \"{}\" top {targets} -o {dir}/seen.json'\n\
             echo $? > {dir}/rc; stty -a > {dir}/stty; echo over; read _\n",
            env!("CARGO_BIN_EXE_holdup")
        );
        let path = terminal.dir.path().join("script");
        std::fs::write(&path, script).map_err(|error| error.to_string())?;
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let run = format!("sh {}", path.display());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, &run])?;
        Ok(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Result<Output, String> {
        let output = Command::new("tmux")
            .args(["-L", &self.socket, "-f", "/dev/null"])
            .args(words)
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .map_err(|error| format!("tmux cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("tmux {words:?}: {said}"))
    }

    /// What is on the screen.
    fn screen(&self) -> Result<String, String> {
        let output = self.tmux(&["capture-pane", "-p"])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let screen = self.screen()?;
            if is_so(&screen) {
                return Ok(screen);
            }
            if begun.elapsed() > SOON * u32::try_from(slowdown()).unwrap_or(u32::MAX) {
                return Err(format!("not seen: {what}\n{screen}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_it_has(&self, text: &str) -> Result<String, String> {
        self.until(text, |screen| screen.contains(text))
    }

    fn press(&self, key: &str) -> Result<(), String> {
        self.tmux(&["send-keys", key]).map(|_| ())
    }

    fn file(&self, name: &str) -> Result<String, String> {
        let path = self.dir.path().join(name);
        let begun = Instant::now();
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if !text.is_empty() => return Ok(text),
                Ok(_) => {}
                Err(error) if begun.elapsed() > SOON => {
                    return Err(format!("{}: {error}", path.display()));
                }
                Err(_) => {}
            }
            if begun.elapsed() > SOON {
                return Err(format!("{} stays empty", path.display()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `holdup`'s process.
    fn pid(&self) -> Result<Pid, String> {
        let text = self.file("pid")?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| format!("no pid: {text}"))
    }

    /// It ended with this code, and gave the terminal back as it was.
    fn is_over(&self, code: &str) -> Result<String, String> {
        let screen = self.until_it_has("over")?;
        let rc = self.file("rc")?;
        let stty = self.file("stty")?;
        if rc.trim() != code {
            return Err(format!("exit {rc} and not {code}\n{screen}"));
        }
        let is_set = |flag: &&str| stty.split_whitespace().any(|word| word == *flag);
        if !["icanon", "echo", "opost", "isig"].iter().all(is_set) {
            return Err(format!("the terminal is not as it was: {stty}"));
        }
        Ok(screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
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
    let terminal = Terminal::start("", &fixture.pid().to_string(), (100, 30))?;
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
    let terminal = Terminal::start("", &fixture.pid().to_string(), (120, 40))?;
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
    let terminal = Terminal::of("", &format!("-n {name}"), (120, 40))?;
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
    let terminal = Terminal::start("export TERM=dumb", &pid, (100, 30))?;
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
    let terminal = Terminal::start("", &fixture.pid().to_string(), (80, 24))?;
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
    let terminal = Terminal::start("", &pids, (120, 40))?;
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
        let terminal = Terminal::start("", &fixture.pid().to_string(), (100, 30))?;
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
    let terminal = Terminal::start("", &fixture.pid().to_string(), (100, 30))?;
    terminal.until_it_has(STUCK)?;
    let pid = terminal.pid()?;
    terminal.tmux(&["kill-server"])?;
    is_gone(pid)?;
    Ok(end(fixture)?)
}

/// Nobody says so: the report has no place to go to.
fn terminal_goes_under_nohup() -> Outcome {
    let fixture = stuck()?;
    let terminal = Terminal::start("trap '' HUP", &fixture.pid().to_string(), (100, 30))?;
    terminal.until_it_has(STUCK)?;
    let pid = terminal.pid()?;
    terminal.tmux(&["kill-server"])?;
    is_gone(pid)?;
    let rc = terminal.file("rc")?;
    end(fixture)?;
    if rc.trim() == "1" {
        Ok(())
    } else {
        Err(format!("exit {rc}").into())
    }
}

fn is_gone(pid: Pid) -> Result<(), String> {
    let begun = Instant::now();
    let exe = || std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
    let runs = || exe().is_ok_and(|exe| exe == Path::new(env!("CARGO_BIN_EXE_holdup")));
    while test_kill_process(pid).is_ok() && runs() {
        if begun.elapsed() > SOON {
            return Err(format!("{} goes on", pid.as_raw_nonzero()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
