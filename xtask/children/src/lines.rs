//! The lines that a child writes.

use crate::{Error, Result, interrupt};
use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(10);

/// Lines of a pipe, read by a thread of their own: the child can write on when nobody asks for
/// them.
#[derive(Debug)]
pub struct Lines {
    receiver: Receiver<(Instant, String)>,
    seen: Vec<String>,
}

impl Lines {
    pub(crate) fn read(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(io::Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                // Where nobody listens any more the child must still be able to write.
                let _ = sender.send((Instant::now(), line));
            }
        });
        Lines {
            receiver,
            seen: Vec::new(),
        }
    }

    /// The next line, without its end, and when it was read; `None` after the last one.
    ///
    /// # Errors
    /// None came within `timeout`, or Ctrl-C did.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<(Instant, String)>> {
        let deadline = Instant::now() + timeout;
        loop {
            interrupt::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left.min(POLL)) {
                Ok((at, line)) => {
                    self.seen.push(line.clone());
                    return Ok(Some((at, line)));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(Error::new(format!("no line within {timeout:?}")));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// The next line for which `wanted` holds; the ones before it are passed over.
    ///
    /// # Errors
    /// There was none within `timeout` or before the end; the message quotes all lines so far.
    pub fn find(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        Ok(self.find_at(what, timeout, wanted)?.1)
    }

    /// As [`Lines::find`], and when the line was read.
    pub(crate) fn find_at(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Instant, String)> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next(left) {
                Ok(Some((at, line))) if wanted(&line) => return Ok((at, line)),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let text = format!("it ended without a {what}; {}", self.transcript());
                    return Err(Error::new(text));
                }
                Err(_) if !interrupt::requested() => {
                    let text = format!("no {what} within {timeout:?}; {}", self.transcript());
                    return Err(Error::new(text));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to the end of the pipe, which has to be near, and returns what was left.
    pub fn drain(&mut self, timeout: Duration) -> Vec<String> {
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let rest: Vec<String> =
            std::iter::from_fn(|| Some(self.receiver.recv_timeout(left()).ok()?.1)).collect();
        self.seen.extend_from_slice(&rest);
        rest
    }

    /// All lines so far, for messages.
    #[must_use]
    pub fn transcript(&self) -> String {
        format!("it said:\n    {}", self.seen.join("\n    "))
    }
}
