//! Processes that join a recording.

use super::Targets;
use crate::bpf::{MappingTable, Programs, process_entry};
use crate::collect::traced_process::TracedProcess;
use crate::process::{ProcDir, Target, TargetError};
use crate::recording::ProcessId;
use crate::units::{Pid, Timestamp};
use anyhow::Result;
use std::sync::Arc;
use std::time::Instant;

impl Targets {
    /// Takes in the processes that are meant and have begun since, or have become what is meant. The
    /// kernel side records them from now on.
    pub(in crate::collect) fn join_new(&mut self, kernel: &mut Programs) -> Result<Vec<ProcessId>> {
        let Some(joining) = &mut self.joining else {
            return Ok(Vec::new());
        };
        let processes = &self.processes;
        let is_recorded = |pid: Pid| {
            let process = processes.by_pid(pid).and_then(|id| processes.get(id));
            process.is_some_and(|process| !process.is_ended())
        };
        let mut joined = Vec::new();
        for pid in joining.take(is_recorded) {
            joined.extend(self.join(kernel, pid)?);
        }
        Ok(joined)
    }

    /// Takes one in; none where that cannot be.
    fn join(&mut self, kernel: &mut Programs, pid: Pid) -> Result<Option<ProcessId>> {
        let before = self.processes.by_pid(pid);
        let before = before.and_then(|id| self.processes.get(id));
        if before.is_some_and(|before| !before.is_released()) {
            // One of this id has just ended, and has its place yet.
            self.ask_again(pid);
            return Ok(None);
        }
        // Whatever it maps from here on is told.
        let Some((id, index)) = self.room_for(kernel, pid)? else {
            return Ok(None);
        };
        let nothing = MappingTable {
            number: 0,
            mappings: 0,
        };
        let mut entry = process_entry(pid, nothing, 0, Timestamp(0));
        entry.follow = self.options.follow.into();
        let Some(start) = kernel.watch_claimed(index, entry)? else {
            self.without_room(pid);
            return Ok(None);
        };
        // Only now, so that no exec after this goes unnoticed.
        let target = match Target::open(pid) {
            Ok(target) => Arc::new(target),
            Err(error) => {
                kernel.forget_process(index, pid)?;
                self.cannot_join(pid, &error);
                return Ok(None);
            }
        };
        let mut process = TracedProcess::new(id, index, target);
        process.start = start;
        process.joined = Some(Instant::now());
        process.exec = true;
        self.processes.push(process);
        self.look(kernel, id)?;
        Ok(Some(id))
    }

    /// A free row and a free place on the kernel side.
    fn room_for(&mut self, kernel: &mut Programs, pid: Pid) -> Result<Option<(ProcessId, u32)>> {
        let exe = ProcDir::open(pid).and_then(|dir| dir.read_link("exe"));
        let exe = exe.unwrap_or_default();
        let Some(id) = self.processes.next(&String::from_utf8_lossy(&exe)) else {
            self.without_room(pid);
            return Ok(None);
        };
        let index = kernel.claim_process(pid)?;
        if index.is_none() {
            self.without_room(pid);
        }
        Ok(index.map(|index| (id, index)))
    }

    fn without_room(&mut self, pid: Pid) {
        if self
            .joining
            .as_mut()
            .is_some_and(|joining| joining.no_room(pid))
        {
            tracing::warn!("there is no room for process {pid}: it is not recorded");
            self.left_out.processes += 1;
        }
    }

    fn ask_again(&mut self, pid: Pid) {
        if let Some(joining) = &mut self.joining {
            joining.ask_again(pid);
        }
    }

    fn cannot_join(&mut self, pid: Pid, error: &TargetError) {
        match error {
            // It ended meanwhile.
            TargetError::Gone(_) | TargetError::Zombie { .. } => {}
            error => {
                tracing::warn!("process {pid} is not recorded: {error}");
                if let Some(joining) = &mut self.joining {
                    joining.refuse(pid);
                }
            }
        }
    }
}
