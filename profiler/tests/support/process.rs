//! Child processes that cannot outlive their test, and lines read from them with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A child that is killed, by its pid, when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Reaped {
    child: Child,
    what: String,
}

/// Lines of a pipe, read by a thread of their own.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: Receiver<String>,
    /// All lines so far, for messages.
    pub(crate) seen: Vec<String>,
}

impl Reaped {
    pub(crate) fn spawn(command: &mut Command, what: &str) -> Result<Reaped, String> {
        let child = command
            .spawn()
            .map_err(|error| format!("{what} cannot be started: {error}"))?;
        Ok(Reaped {
            child,
            what: what.to_owned(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output as lines.
    pub(crate) fn stdout(&mut self) -> Result<Lines, String> {
        let pipe = self
            .child
            .stdout
            .take()
            .ok_or("standard output is not a pipe")?;
        Ok(Lines::read(pipe))
    }

    /// The child's standard error as lines.
    pub(crate) fn stderr(&mut self) -> Result<Lines, String> {
        let pipe = self
            .child
            .stderr
            .take()
            .ok_or("standard error is not a pipe")?;
        Ok(Lines::read(pipe))
    }

    pub(crate) fn stdin(&mut self) -> Result<ChildStdin, String> {
        self.child
            .stdin
            .take()
            .ok_or_else(|| "standard input is not a pipe".to_owned())
    }

    /// Sends the signal of a Ctrl-C.
    pub(crate) fn interrupt(&self) -> Result<(), String> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)
            .map_err(|error| format!("{} cannot be interrupted: {error}", self.what))
    }

    /// Ends it as nobody can handle.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child
            .kill()
            .map_err(|error| format!("{} cannot be killed: {error}", self.what))
    }

    /// Waits for the end, at most until `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Ok(None) => return Err(format!("{} did not end within {timeout:?}", self.what)),
                Err(error) => return Err(format!("{} cannot be waited for: {error}", self.what)),
            }
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines {
            receiver,
            seen: Vec::new(),
        }
    }

    /// The next line for which `wanted` holds; others are kept in `seen` and passed over.
    pub(crate) fn find(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "no {what} within {timeout:?}; {}",
                        self.transcript()
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("it ended without a {what}; {}", self.transcript()));
                }
            }
        }
    }

    /// Reads up to the end of the pipe, which has to be near.
    pub(crate) fn drain(&mut self, timeout: Duration) {
        let _ = self.find("end", timeout, |_| false);
    }

    pub(crate) fn transcript(&self) -> String {
        format!("it said:\n    {}", self.seen.join("\n    "))
    }
}
