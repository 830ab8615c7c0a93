//! Recording with holdup, as a user does.

use super::super::report::Report;
use crate::process;
use anyhow::{Result, bail};
use children::{Child, Stream};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// No check takes so long; a recording that nobody ends is over then.
const LONGEST: &str = "120s";
/// How long attaching may take, and writing the reports.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where recordings go, and by which holdup.
pub(super) struct Recorder<'a> {
    pub(super) holdup: &'a Path,
    pub(super) folder: PathBuf,
}

/// A recording that goes on.
pub(super) struct Recording {
    child: Child,
    report: PathBuf,
}

impl Recorder<'_> {
    fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    fn command(&self) -> Command {
        let mut command = process::detached(self.holdup);
        command
            .args(["record", "-d", LONGEST, "--force", "-o"])
            .arg(self.report())
            .arg("-o")
            .arg(self.folder.join("report.txt"));
        command
    }

    /// Attaches to a process. Recorded is what happens after this has returned.
    pub(super) fn attach(&self, pid: u32) -> Result<Recording> {
        let mut command = self.command();
        command.arg("-p").arg(pid.to_string()).stdout(Stdio::null());
        let mut child = Child::start("holdup", &mut command, Stream::Stderr)?;
        child.find_line("recording …", PATIENCE, |line| {
            line.starts_with("recording ")
        })?;
        Ok(Recording {
            child,
            report: self.report(),
        })
    }

    /// Records a program from its first instruction to its end.
    pub(super) fn launch(
        &self,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<ExitStatus> {
        let mut command = self.command();
        command.arg("--").arg(program).args(arguments);
        // Where Python looks for the package, which other programs do not ask for.
        command.env("PYTHONPATH", self.folder.join("unpacked"));
        // Programs ask for files of the user's; these have none.
        command.env("HOME", &self.folder).current_dir(&self.folder);
        let log = std::fs::File::create(self.folder.join("output.txt"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = Child::spawn("holdup", &mut command)?;
        Ok(child.wait(PATIENCE * 3)?)
    }

    /// What the last recording said.
    pub(super) fn read(&self) -> Result<Report> {
        Report::read(&self.report())
    }
}

impl Recording {
    /// Ends it, and reads what it said.
    pub(super) fn end(mut self) -> Result<Report> {
        self.child.interrupt()?;
        let status = self.child.wait(PATIENCE)?;
        if !status.success() {
            let said = self.child.remaining_lines().join(" ");
            bail!("holdup ended with {status}: {said}");
        }
        Report::read(&self.report)
    }
}
