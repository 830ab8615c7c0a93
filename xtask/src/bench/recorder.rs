//! holdup, and the tool that it is compared with, recording a process.

use super::{Bench, proc};
use anyhow::{Context as _, Result, bail};
use children::interrupt;
use children::{Child, Stream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where Debian's libbpf-tools puts it.
pub(crate) const OFFCPUTIME: &str = "/usr/sbin/offcputime";

const ATTACH: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(60);

/// Longer than any measurement: recorders are stopped by SIGINT.
const LONG: &str = "3600";

/// A recorder that has attached its programs.
#[derive(Debug)]
pub(super) struct Recorder {
    child: Child,
    /// From its start until it recorded.
    pub(super) ready_after: Duration,
    /// Where its report goes; nobody reads it.
    _dir: tempfile::TempDir,
}

impl Recorder {
    /// Starts holdup and waits until it says that it records.
    pub(super) fn holdup(bench: &Bench, target: u32) -> Result<Recorder> {
        Recorder::holdup_with(bench, target, &[])
    }

    /// As [`Recorder::holdup`], with arguments of its own.
    pub(super) fn holdup_with(bench: &Bench, target: u32, args: &[&str]) -> Result<Recorder> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(&bench.holdup);
        command
            .args(["record", "-p", &target.to_string(), "-d", LONG, "-o"])
            .arg(dir.path().join("report.json"))
            .args(args)
            .args(&bench.recorder_args)
            .env("NO_COLOR", "1")
            .stdout(Stdio::null());
        let mut child = Child::start("holdup", &mut command, Stream::Stderr)?;
        let what = "line that says that it records";
        let (ready_after, _) = child.find_line(what, ATTACH, says_that_it_records)?;
        Ok(Recorder {
            child,
            ready_after,
            _dir: dir,
        })
    }

    /// Starts offcputime and waits until it holds a link: it says nothing before its end.
    pub(super) fn offcputime(target: u32) -> Result<Recorder> {
        let mut command = Command::new(OFFCPUTIME);
        command
            .args(["-p", &target.to_string(), LONG])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Instant::now();
        let mut child = Child::start("offcputime", &mut command, None)?;
        while started.elapsed() < ATTACH {
            interrupt::check()?;
            if let Some(status) = child.ended()? {
                bail!("offcputime ended too early: {status}");
            }
            if proc::has_bpf_link(child.id()).unwrap_or(false) {
                return Ok(Recorder {
                    child,
                    ready_after: started.elapsed(),
                    _dir: tempfile::tempdir()?,
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("offcputime did not attach anything")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the recording as Ctrl-C would.
    pub(super) fn stop(mut self) -> Result<()> {
        self.child.interrupt()?;
        let status = self.child.wait(END)?;
        if !status.success() {
            let said = self.child.remaining_lines().join("\n");
            bail!("the recorder ended with {status}: {said}");
        }
        Ok(())
    }
}

/// Whether it is the line by which holdup says that it has attached its programs.
pub(super) fn says_that_it_records(line: &str) -> bool {
    line.starts_with("recording ")
}

/// Whether offcputime is there, or why the comparison is left out.
pub(super) fn offcputime_is_there() -> Result<()> {
    let path = Path::new(OFFCPUTIME);
    let found = path
        .try_exists()
        .with_context(|| format!("cannot look for {OFFCPUTIME}"))?;
    if !found {
        bail!("there is no {OFFCPUTIME}; to compare: apt-get install libbpf-tools");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_recording_are_no_sign_of_it() {
        assert!(says_that_it_records(
            "recording pid 7 (claims_api), Ctrl-C to stop"
        ));
        assert!(!says_that_it_records(
            "holdup: cannot start recording pid 7"
        ));
        assert!(!says_that_it_records("recordings are in /tmp"));
    }
}
