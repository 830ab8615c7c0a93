//! Threads of processes that join a recording.

use super::Collector;
use crate::collect::ledger::AtStart;
use crate::decode::{Activity, Snapshot};
use crate::recording::ThreadId;
use anyhow::Result;

impl Collector {
    /// Takes in processes that are meant and have begun since, with what their threads do now.
    pub(super) fn join_new(&mut self) -> Result<()> {
        let joined = self.targets.join_new(&mut self.kernel)?;
        if joined.is_empty() {
            return Ok(());
        }
        for process in joined
            .iter()
            .filter_map(|id| self.targets.processes().get(*id))
        {
            tracing::info!("process {} joins the recording", process.pid);
        }
        self.snapshots.clear();
        self.kernel.snapshot()?;
        self.receive();
        let mut theirs: Vec<Snapshot> = std::mem::take(&mut self.snapshots);
        theirs.retain(|snapshot| {
            let thread = self.targets.thread(snapshot.thread);
            thread.is_some_and(|thread| joined.contains(&thread.process))
        });
        for snapshot in &theirs {
            if let (Some(thread), Some(doing)) =
                (self.targets.thread(snapshot.thread), at_start(snapshot))
            {
                self.found(thread, doing);
            }
        }
        let processes = self.targets.processes();
        let outcomes = self
            .stacks
            .initial()
            .walk_more(theirs, &self.kernel, processes);
        self.losses.walked_at_start(&outcomes);
        Ok(())
    }

    fn found(&mut self, thread: ThreadId, doing: AtStart) {
        if let Some(process) = self.targets.processes().get(thread.process) {
            self.interval.threads.found_at(thread, doing, process.start);
        }
    }
}

/// What a thread does when the recording of its process begins; none where it has no user stack, and is
/// about to end.
pub(super) fn at_start(snapshot: &Snapshot) -> Option<AtStart> {
    match snapshot.activity {
        Activity::Running => Some(AtStart::Running),
        Activity::Runnable => Some(AtStart::Runnable),
        Activity::Waiting { regs: Some(_), .. } => Some(AtStart::Waiting),
        Activity::Waiting { regs: None, .. } => None,
    }
}
