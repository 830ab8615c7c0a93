//! A child process.

use crate::{Error, Lines, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait looks whether it is over.
const POLL: Duration = Duration::from_millis(10);
/// How long a child may take to end after SIGTERM, until SIGKILL.
const GRACE: Duration = Duration::from_secs(8);

/// A process that was started here. It ends at the latest when this is dropped: by SIGKILL after
/// [`Child::spawn`]; else by the end of its standard input and SIGTERM, and by SIGKILL where that
/// does not help.
#[derive(Debug)]
pub struct Child {
    name: String,
    child: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: Option<Lines>,
    started: Instant,
    status: Option<ExitStatus>,
    leads_group: bool,
    grace: Duration,
}

/// A stream of a child that is read line by line. The others stay as the command has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Child {
    /// Starts a process that is killed when this is dropped. Its streams stay as the command has
    /// them.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Child> {
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            Error::new(format!("{name} cannot be started: {error} ({program})"))
        })?;
        Ok(Child {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            lines: None,
            started,
            status: None,
            leads_group: false,
            grace: Duration::ZERO,
        })
    }

    /// Starts a process in a process group of its own: Ctrl-C in the terminal is not for it.
    /// Its standard input is a pipe that closes at the latest when this program ends, however.
    /// The lines of `stream` are for [`Child::read_line`] and its kin.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        name: &str,
        command: &mut Command,
        stream: impl Into<Option<Stream>>,
    ) -> Result<Child> {
        let stream = stream.into();
        match stream {
            Some(Stream::Stdout) => command.stdout(Stdio::piped()),
            Some(Stream::Stderr) => command.stderr(Stdio::piped()),
            None => command,
        };
        let mut child = Child::spawn(name, command.process_group(0).stdin(Stdio::piped()))?;
        child.leads_group = true;
        child.grace = GRACE;
        child.lines = stream.map(|stream| child.lines(stream)).transpose()?;
        Ok(child)
    }

    /// Starts a process that may use the terminal: it can ask for a password, and Ctrl-C
    /// reaches it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_in_foreground(name: &str, command: &mut Command) -> Result<Child> {
        let mut child = Child::spawn(name, command)?;
        child.grace = GRACE;
        Ok(child)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of its standard output, if the command has made it a pipe.
    ///
    /// # Errors
    /// It is no pipe, or was taken before.
    pub fn stdout(&mut self) -> Result<Lines> {
        self.lines(Stream::Stdout)
    }

    /// The lines of its standard error, if the command has made it a pipe.
    ///
    /// # Errors
    /// It is no pipe, or was taken before.
    pub fn stderr(&mut self) -> Result<Lines> {
        self.lines(Stream::Stderr)
    }

    fn lines(&mut self, stream: Stream) -> Result<Lines> {
        let lines = match stream {
            Stream::Stdout => self.child.stdout.take().map(Lines::read),
            Stream::Stderr => self.child.stderr.take().map(Lines::read),
        };
        lines.ok_or_else(|| Error::new(format!("{stream:?} of {} is no pipe", self.name)))
    }

    /// Its standard input, if the command has made it a pipe.
    ///
    /// # Errors
    /// It is no pipe, or was taken before.
    pub fn stdin(&mut self) -> Result<ChildStdin> {
        let stdin = self.stdin.take();
        stdin.ok_or_else(|| Error::new(format!("standard input of {} is no pipe", self.name)))
    }

    /// The next line that it writes, without the line end, and how long after its start.
    ///
    /// # Errors
    /// It ends without another line, is silent for longer than `timeout`, or Ctrl-C came.
    pub fn read_line(&mut self, timeout: Duration) -> Result<(Duration, String)> {
        if let Some((at, line)) = self.next(timeout)? {
            return Ok((at - self.started, line));
        }
        let status = self.wait(GRACE)?;
        Err(Error::new(format!(
            "{} ended too early: {status}",
            self.name
        )))
    }

    /// The next line that it writes, without the line end; `None` after the last one.
    ///
    /// # Errors
    /// It is silent for longer than `timeout`, or Ctrl-C came.
    pub fn next_line(&mut self, timeout: Duration) -> Result<Option<String>> {
        Ok(self.next(timeout)?.map(|(_, line)| line))
    }

    /// The next line that it writes for which `wanted` holds, without the line end, and how long
    /// after its start; the ones before it are passed over.
    ///
    /// # Errors
    /// There was none within `timeout` or before its end, or Ctrl-C came; the message quotes what
    /// it wrote.
    pub fn find_line(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Duration, String)> {
        let found = self.read()?.find_at(what, timeout, wanted);
        match found {
            Ok((at, line)) => Ok((at - self.started, line)),
            Err(error) => {
                let ended = self.ended()?;
                let ended = ended.map_or_else(String::new, |status| format!(" ended: {status}"));
                Err(Error::new(format!("{}{ended}: {error}", self.name)))
            }
        }
    }

    fn read(&mut self) -> Result<&mut Lines> {
        let none = || Error::new(format!("nobody reads what {} says", self.name));
        self.lines.as_mut().ok_or_else(none)
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<(Instant, String)>> {
        let next = self.read()?.next(timeout);
        next.map_err(|error| Error::new(format!("{}: {error}", self.name)))
    }

    /// All that it has written and that was not read yet. Waits for the stream's end.
    #[must_use]
    pub fn remaining_lines(&mut self) -> Vec<String> {
        let lines = self.lines.as_mut();
        lines.map(|lines| lines.drain(GRACE)).unwrap_or_default()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// It does not read any more.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let written = match &mut self.stdin {
            Some(stdin) => writeln!(stdin, "{line}"),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|error| Error::new(format!("{} takes no input: {error}", self.name)))
    }

    /// Sends it a signal, and its process group if it leads one. It is no error if it is gone.
    ///
    /// # Errors
    /// The kernel refuses to.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Once reaped, its number may belong to another process.
        if self.status.is_some() {
            return Ok(());
        }
        let pid = Pid::from_child(&self.child);
        let sent = if self.leads_group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        };
        match sent {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::new(format!(
                "{} cannot be sent {signal:?}: {error}",
                self.name
            ))),
        }
    }

    /// Sends it the signal of a Ctrl-C.
    ///
    /// # Errors
    /// As [`Child::signal`].
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Ends it by SIGKILL, which it cannot handle.
    ///
    /// # Errors
    /// As [`Child::signal`].
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        self.status = status
            .map_err(|error| Error::new(format!("{} cannot be waited for: {error}", self.name)))?;
        Ok(self.status)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// It runs on for longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(format!(
                    "{} (pid {}) did not end within {timeout:?}",
                    self.name,
                    self.id()
                )));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let ended = !self.grace.is_zero()
            && self.signal(Signal::TERM).is_ok()
            && self.wait(self.grace).is_ok();
        if !ended {
            let _ = self.signal(Signal::KILL);
            // What runs as another user cannot be killed from here, and may take its time.
            let _ = self.wait(GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Result<Child> {
        let mut command = Command::new("sh");
        Child::start("sh", command.args(["-c", script]), Stream::Stdout)
    }

    #[test]
    fn lines_go_both_ways() -> Result<()> {
        let mut child = shell("read a; echo got $a; echo more")?;
        child.write_line("it")?;
        assert_eq!(child.read_line(TIMEOUT)?.1, "got it");
        assert!(child.wait(TIMEOUT)?.success());
        assert_eq!(child.remaining_lines(), ["more"]);
        Ok(())
    }

    #[test]
    fn a_line_is_found_among_others() -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b; echo c"]);
        let mut child = Child::spawn("sh", command.stdout(Stdio::piped()))?;
        let mut lines = child.stdout()?;
        assert_eq!(lines.find("b", TIMEOUT, |line| line == "b")?, "b");
        let missing = lines.find("d", TIMEOUT, |line| line == "d");
        let text = missing.unwrap_err().to_string();
        assert_eq!(text, "it ended without a d; it said:\n    a\n    b\n    c");
        assert!(child.stderr().is_err());
        Ok(())
    }

    #[test]
    fn a_line_of_a_child_is_found_or_missed_with_all_that_it_said() -> Result<()> {
        let mut child = shell("echo a; echo b; exec sleep 600")?;
        let (after, line) = child.find_line("b", TIMEOUT, |line| line == "b")?;
        assert!(line == "b" && after < TIMEOUT, "{line} {after:?}");
        let missing = child.find_line("c", Duration::from_millis(50), |line| line == "c");
        let text = missing.unwrap_err().to_string();
        assert_eq!(text, "sh: no c within 50ms; it said:\n    a\n    b");
        Ok(())
    }

    #[test]
    fn a_silent_child_is_an_error() -> Result<()> {
        let text = shell("exec sleep 600")?
            .read_line(Duration::from_millis(50))
            .unwrap_err()
            .to_string();
        assert_eq!(text, "sh: no line within 50ms");
        Ok(())
    }

    #[test]
    fn an_early_end_is_an_error_with_the_status() -> Result<()> {
        let error = shell("exit 7")?.read_line(TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("exit status: 7"), "{error}");
        Ok(())
    }

    #[test]
    fn a_dropped_child_and_its_own_children_are_gone() -> Result<()> {
        let mut child = shell("sleep 600 & echo $!; wait")?;
        let line = child.read_line(TIMEOUT)?.1;
        drop(child);
        wait_until_gone(line.parse().expect("a pid"));
        Ok(())
    }

    #[test]
    fn a_spawned_child_that_ignores_signals_is_gone_when_dropped() -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM INT; echo ready; exec sleep 600"]);
        let mut child = Child::spawn("sh", command.stdout(Stdio::piped()))?;
        let mut lines = child.stdout()?;
        lines.find("ready", TIMEOUT, |line| line == "ready")?;
        let pid = child.id();
        drop(child);
        wait_until_gone(pid.try_into().expect("a pid"));
        Ok(())
    }

    fn wait_until_gone(number: i32) {
        let pid = Pid::from_raw(number).expect("a pid");
        let deadline = Instant::now() + TIMEOUT;
        // Whoever adopts it has to reap it first.
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(number) {
            assert!(Instant::now() < deadline, "pid {number} is still there");
            thread::sleep(POLL);
        }
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
    }
}
