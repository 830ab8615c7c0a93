//! Processes without tokio beside one that has it: a shell and what it started, mostly.

use super::page::Page;
use crate::recording::Process;
use crate::report::Report;
use crate::units::Pid;

/// Whether a process has tokio, by its files or by what its threads did.
pub(super) fn has_tokio(report: &Report, process: &Process) -> bool {
    let mut runtimes = report.runtimes.iter();
    process.tokio.present || runtimes.any(|runtime| runtime.pid == process.pid)
}

/// The process that the report is about: the first with tokio, else the first.
pub(super) fn main_process(report: &Report) -> &Process {
    let mut targets = report.targets.iter();
    targets
        .find(|process| has_tokio(report, process))
        .unwrap_or(&report.target)
}

impl Page<'_> {
    /// Whether lists are cut, as they are unless everything is asked for.
    pub(super) fn cuts_lists(&self) -> bool {
        self.options.max_sites != usize::MAX
    }

    /// Whether what a process did is left out: it has no tokio, another one has, and not everything is
    /// asked for. The line of all such processes says so.
    pub(super) fn leaves_out(&self, pid: Pid) -> bool {
        if !self.cuts_lists() {
            return false;
        }
        let report = self.report;
        let of_pid = |process: &&Process| process.pid == pid;
        let process = report.targets.iter().find(of_pid);
        process.is_some_and(|process| !has_tokio(report, process))
            && report
                .targets
                .iter()
                .any(|process| has_tokio(report, process))
    }
}
