//! Processes that end with the value that stands for them.

use crate::{interrupt, process};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(10);
/// How long a process may take to end after SIGTERM, until SIGKILL.
const GRACE: Duration = Duration::from_secs(8);

/// A process that was started here. Dropped, it gets the end of its standard input and SIGTERM,
/// and SIGKILL where that does not help.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    started: Instant,
    leads_group: bool,
}

/// Which of a child's streams is read line by line. The other one stays as the command has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// None.
    Nothing,
}

impl Child {
    /// Starts a process in a process group of its own: Ctrl-C in the terminal is not for it.
    /// Its standard input is a pipe that closes at the latest when this program ends, however.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command, lines: Lines) -> Result<Child> {
        command.process_group(0).stdin(Stdio::piped());
        Child::spawn(name, command, lines, true)
    }

    /// Starts a process that may use the terminal: it can ask for a password, and Ctrl-C
    /// reaches it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_in_foreground(name: &str, command: &mut Command) -> Result<Child> {
        Child::spawn(name, command, Lines::Nothing, false)
    }

    fn spawn(name: &str, command: &mut Command, lines: Lines, leads_group: bool) -> Result<Child> {
        match lines {
            Lines::Stdout => command.stdout(Stdio::piped()),
            Lines::Stderr => command.stderr(Stdio::piped()),
            Lines::Nothing => command,
        };
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}: `{}`", process::shown(command)))?;
        let (sender, queue) = mpsc::channel();
        let stream: Option<Box<dyn Read + Send>> = match lines {
            Lines::Stdout => child.stdout.take().map(|s| Box::new(s) as _),
            Lines::Stderr => child.stderr.take().map(|s| Box::new(s) as _),
            Lines::Nothing => None,
        };
        if let Some(stream) = stream {
            thread::spawn(move || {
                for line in BufReader::new(stream)
                    .split(b'\n')
                    .map_while(io::Result::ok)
                {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    // Where nobody listens any more the process must still be able to write.
                    let _ = sender.send((Instant::now(), line));
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Child {
            name: name.to_owned(),
            child,
            stdin,
            lines: queue,
            started,
            leads_group,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it writes, without the line end, and how long after its start.
    ///
    /// # Errors
    /// It ends without another line, is silent for longer than `patience`, or Ctrl-C came.
    pub fn read_line(&mut self, patience: Duration) -> Result<(Duration, String)> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            interrupt::check()?;
            match self.lines.recv_timeout(LOOK) {
                Ok((at, line)) => return Ok((at - self.started, line)),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait(GRACE)?;
                    bail!("{} ended too early: {status}", self.name);
                }
            }
        }
        bail!("{} said nothing for {} s", self.name, patience.as_secs())
    }

    /// The next line that it writes, without the line end; `None` after the last one.
    ///
    /// # Errors
    /// It is silent for longer than `patience`, or Ctrl-C came.
    pub fn next_line(&mut self, patience: Duration) -> Result<Option<String>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            interrupt::check()?;
            match self.lines.recv_timeout(LOOK) {
                Ok((_, line)) => return Ok(Some(line)),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        bail!("{} said nothing for {} s", self.name, patience.as_secs())
    }

    /// All that it has written and that was not read yet. Waits for the stream's end.
    #[must_use]
    pub fn remaining_lines(&self) -> Vec<String> {
        let deadline = Instant::now() + GRACE;
        let left = || deadline.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| Some(self.lines.recv_timeout(left()).ok()?.1)).collect()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// It does not read any more.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .context("its standard input is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} takes no input", self.name))
    }

    /// Sends it a signal, and its process group if it leads one. It is no error if it is gone.
    pub fn signal(&mut self, signal: Signal) {
        // Not yet reaped: the number cannot belong to another process.
        let running = matches!(self.child.try_wait(), Ok(None));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (true, Some(pid)) = (running, pid) {
            let _ = if self.leads_group {
                kill_process_group(pid, signal)
            } else {
                kill_process(pid, signal)
            };
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// It runs on for longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} (pid {}) does not end", self.name, self.id());
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.signal(Signal::TERM);
        if self.wait(GRACE).is_err() {
            self.signal(Signal::KILL);
            // What runs as another user cannot be killed from here, and may take its time.
            let _ = self.wait(GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Result<Child> {
        Child::start("sh", Command::new("sh").args(["-c", script]), Lines::Stdout)
    }

    #[test]
    fn lines_go_both_ways() -> Result<()> {
        let mut child = shell("read a; echo got $a; echo more")?;
        child.write_line("it")?;
        assert_eq!(child.read_line(PATIENCE)?.1, "got it");
        assert!(child.wait(PATIENCE)?.success());
        assert_eq!(child.remaining_lines(), ["more"]);
        Ok(())
    }

    #[test]
    fn an_early_end_is_an_error_with_the_status() -> Result<()> {
        let error = shell("exit 7")?
            .read_line(PATIENCE)
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 7"), "{error}");
        Ok(())
    }

    #[test]
    fn a_dropped_child_and_its_own_children_are_gone() -> Result<()> {
        let mut child = shell("sleep 600 & echo $!; wait")?;
        let grandchild: i32 = child.read_line(PATIENCE)?.1.parse()?;
        drop(child);
        let pid = Pid::from_raw(grandchild).context("not a pid")?;
        let deadline = Instant::now() + PATIENCE;
        // Whoever adopts it has to reap it first.
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(grandchild) {
            assert!(Instant::now() < deadline, "pid {grandchild} is still there");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
    }
}
