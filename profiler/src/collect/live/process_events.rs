//! The life of the targets during a recording: what they map, fork, and when they end.

use super::Session;
use crate::bpf::{MappingEvent, process_entry};
use crate::collect::modules::AddressMap;
use crate::collect::traced_process::TracedProcess;
use crate::units::{Pid, Timestamp};
use anyhow::Result;
use profiler_common::map::Process;
use profiler_common::record::ForkRecord;
use profiler_common::row::Mapping;

/// Forked processes that are remembered at most, those that ended included.
const MAX_FOLLOWED: usize = 1024;

impl Session {
    /// Takes a new process in, which the kernel side watches already.
    pub(super) fn adopt(&mut self, fork: &ForkRecord) {
        let (pid, time) = (Pid(fork.header.tgid), Timestamp(fork.time));
        let parent = self.living(Pid(fork.parent));
        let Some(parent) = parent.filter(|_| self.processes.len() < MAX_FOLLOWED) else {
            self.not_followed += 1;
            if let Err(error) = self.kernel.forget_process(fork.index, pid) {
                tracing::debug!("process {pid} cannot be let go: {error}");
            }
            return;
        };
        let child = parent.child(fork.index, pid, time);
        // Of one id, the last one to be born is meant from now on.
        self.processes.push(child);
        if let Some(child) = self.processes.last_mut() {
            child.pin();
        }
    }

    /// The process that has this id now.
    fn living(&self, pid: Pid) -> Option<&TracedProcess> {
        self.processes.iter().rev().find(|known| known.pid == pid)
    }

    /// Notes new code; the number of the process if the map that we have of it is wrong now.
    pub(super) fn mapped(&mut self, event: &MappingEvent) -> Option<usize> {
        let MappingEvent::Mapped { pid, time, range } = event else {
            for process in &mut self.processes {
                process.new_code = true;
            }
            return None;
        };
        let mut known = self.processes.iter_mut().enumerate().rev();
        let (n, process) = known.find(|(_, known)| known.pid == *pid && !known.is_released())?;
        if *time < process.read_at {
            return None;
        }
        process.new_code = true;
        let wrong = self.maps.mapped(process.table_version, range, *time);
        wrong.then_some(n)
    }

    /// Reads the mappings of all processes that may have new ones.
    pub(super) fn follow_mappings(&mut self) -> Result<()> {
        for n in 0..self.processes.len() {
            if self.processes.get(n).is_some_and(TracedProcess::wants_look) {
                self.look(n)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, n: usize) -> Result<()> {
        let Some(process) = self.processes.get_mut(n) else {
            return Ok(());
        };
        // An exec after this makes void what is read below.
        let exec_count = self.kernel.exec_count(process.index)?;
        process.exec = false;
        let exec = exec_count != process.exec_count;
        if exec {
            process.became_another();
        }
        // It may have ended meanwhile: then there is nothing more to know.
        let Some((map, mappings)) = process.look(&mut self.modules, self.kernel.tables()) else {
            return Ok(());
        };
        process.exec_count = exec_count;
        tracing::debug!(
            pid = process.pid.0,
            exec,
            mappings = mappings.len(),
            "read the mappings again"
        );
        let shares = process.start != self.start && self.is_shared(n);
        if !exec && !shares && *self.maps.get(self.table_version_of(n)) == map {
            self.maps.confirm(self.table_version_of(n));
            if let Some(process) = self.processes.get_mut(n) {
                process.found_nothing_new(&self.modules, &map);
            }
            // The kernel side may have been told that it knows nothing.
            self.tell(n, false)?;
            return Ok(());
        }
        self.install(n, map, mappings, exec)?;
        self.tell(n, false)
    }

    fn table_version_of(&self, n: usize) -> u32 {
        self.processes
            .get(n)
            .map_or(0, |process| process.table_version)
    }

    /// Whether a process walks by the table of its parent.
    fn is_shared(&self, n: usize) -> bool {
        let table = |process: &TracedProcess| process.table.map(|table| table.number);
        let own = self.processes.get(n).and_then(table);
        let others = self.processes.iter().enumerate();
        own.is_some()
            && others
                .filter(|(other, _)| *other != n)
                .any(|(_, p)| table(p) == own)
    }

    /// Makes a new table_version of a process's mapping table.
    pub(super) fn install(
        &mut self,
        n: usize,
        map: AddressMap,
        mappings: Vec<Mapping>,
        exec: bool,
    ) -> Result<()> {
        let table = match self.kernel.tables().install(&mappings) {
            Ok(table) => table,
            Err(error) => {
                // The old one stays; what it does not know is truncated, and counted.
                tracing::warn!("the new mappings have no place: {error:#}");
                return Ok(());
            }
        };
        let beyond = mappings.len().saturating_sub(table.mappings as usize) as u64;
        if beyond > 0 {
            tracing::warn!("{beyond} mappings more than fit");
        }
        self.mappings_left_out = self.mappings_left_out.max(beyond);
        let current: Vec<u32> = self.processes.iter().map(|p| p.table_version).collect();
        let Some(process) = self.processes.get_mut(n) else {
            return Ok(());
        };
        if exec || !map.contains(self.maps.get(process.table_version)) {
            process.address_epoch = process.address_epoch.wrapping_add(1);
        }
        process.found(&self.modules, &map);
        process.table_version = self.maps.add(map, &current);
        process.mappings = mappings;
        let old = process.table.replace(table);
        if let Some(old) = old {
            // Before it counts as given up, the process must walk by the new one.
            self.tell(n, false)?;
            let in_use = self.kernel.tables_in_use()?;
            self.kernel.tables().retire(old.number, &in_use);
        }
        Ok(())
    }

    /// Tells the kernel side what it needs to know of a process; `first` begins its recording.
    pub(super) fn tell(&mut self, n: usize, first: bool) -> Result<()> {
        let Some((index, entry)) = self.entry(n) else {
            return Ok(());
        };
        if first {
            self.kernel.watch(index, entry)
        } else {
            self.kernel.describe(index, entry)
        }
    }

    /// Tells the kernel side that what it knows of a process's mappings is wrong.
    pub(super) fn tell_no_table(&mut self, n: usize) -> Result<()> {
        let Some((index, mut entry)) = self.entry(n) else {
            return Ok(());
        };
        (entry.mappings, entry.table_version) = (0, 0);
        self.kernel.describe(index, entry)
    }

    fn entry(&self, n: usize) -> Option<(u32, Process)> {
        let process = self.processes.get(n)?;
        let (table_version, contexts) = (process.table_version, &process.contexts);
        let (table, start) = (process.table?, process.start);
        let mut entry = process_entry(process.pid, table, table_version, start, contexts);
        entry.exec_count = process.exec_count;
        entry.address_epoch = process.address_epoch;
        entry.follow = self.options.follow.into();
        Some((process.index, entry))
    }

    /// Gives up the places of processes that have ended.
    pub(super) fn release(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if process.is_released() || !process.has_ended() || !process.release() {
                continue;
            }
            self.kernel.forget_process(process.index, process.pid)?;
            if let Some(table) = process.table {
                let in_use = self.kernel.tables_in_use()?;
                self.kernel.tables().retire(table.number, &in_use);
            }
        }
        Ok(())
    }
}
