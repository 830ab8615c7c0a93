//! `holdup` on a terminal, which a test looks at, types into and takes away.

use super::truth::slowdown;
use rustix::process::{Pid, test_kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// For what is awaited on the screen.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn missing_tmux() -> Option<String> {
    let found = Command::new("tmux").arg("-V").output();
    let found = found.is_ok_and(|output| output.status.success());
    (!found).then(|| "tmux is not installed".into())
}

/// A terminal with `holdup` on it. Dropped, it is gone with everything in it.
pub(crate) struct Terminal {
    socket: String,
    dir: tempfile::TempDir,
}

impl Terminal {
    /// `before` is what the shell around it does first, in the terminal's folder. `command` is told the terminal's folder; it has no
    /// single quotes, and becomes `holdup` without a fork.
    pub(crate) fn start(
        before: &str,
        size: (u32, u32),
        command: impl FnOnce(&str) -> String,
    ) -> Result<Terminal, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal {
            socket: format!("holdup-test-{}-{count}", std::process::id()),
            dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
                .map_err(|error| format!("no folder: {error}"))?,
        };
        let dir = terminal.dir.path().display().to_string();
        let command = command(&dir);
        let script = format!(
            "cd {dir}\n{before}\nexport NO_COLOR=1 LC_ALL=C.UTF-8\n\
             sh -c 'echo $$ > {dir}/new && mv {dir}/new {dir}/pid; exec {command}'\n\
             echo $? > {dir}/rc; stty -a > {dir}/stty; echo over; read _\n"
        );
        let path = terminal.dir.path().join("script");
        std::fs::write(&path, script).map_err(|error| error.to_string())?;
        let (width, height) = (size.0.to_string(), size.1.to_string());
        // The terminal's own shell is another one, as a user's is: when the terminal goes, the kernel tells
        // that shell, and everything else on it once that has ended.
        let run = format!("sh {}; :", path.display());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, &run])?;
        Ok(terminal)
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> Result<Output, String> {
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
    pub(crate) fn screen(&self) -> Result<String, String> {
        let output = self.tmux(&["capture-pane", "-p"])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String, String> {
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

    pub(crate) fn until_it_has(&self, text: &str) -> Result<String, String> {
        self.until(text, |screen| screen.contains(text))
    }

    pub(crate) fn press(&self, key: &str) -> Result<(), String> {
        self.tmux(&["send-keys", key]).map(|_| ())
    }

    pub(crate) fn file(&self, name: &str) -> Result<String, String> {
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

    /// Where its files are.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Somebody closes its window.
    pub(crate) fn close(&self) -> Result<(), String> {
        self.tmux(&["kill-server"]).map(|_| ())
    }

    /// `holdup`'s process.
    pub(crate) fn pid(&self) -> Result<Pid, String> {
        let text = self.file("pid")?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| format!("no pid: {text}"))
    }

    /// It ended with this code, and gave the terminal back as it was.
    pub(crate) fn is_over(&self, code: &str) -> Result<String, String> {
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

/// Waits until `holdup`'s process is no more.
pub(crate) fn is_gone(pid: Pid) -> Result<(), String> {
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
