//! The life of the targets during a recording: what they map, fork, and when they end.

use super::Targets;
use crate::bpf::{MappingEvent, ProcessEntry, Programs, process_entry};
use crate::collect::address_map::AddressMap;
use crate::collect::traced_process::{Program, TracedProcess};
use crate::decode::{Fork, TableVersion};
use crate::recording::ProcessId;
use anyhow::Result;
use profiler_common::row::Mapping;

impl Targets {
    /// Takes a new process in, which the kernel side watches already.
    pub(in crate::collect) fn on_fork(&mut self, kernel: &mut Programs, fork: &Fork) {
        let parent = self.processes.by_pid(fork.parent);
        let parent = parent.and_then(|parent| self.processes.get(parent));
        let next = parent.and_then(|parent| self.processes.next(&parent.facts.exe));
        let (Some(id), Some(parent)) = (next, parent) else {
            self.left_out.processes += 1;
            if let Err(error) = kernel.forget_process(fork.index, fork.child) {
                tracing::debug!("process {} cannot be let go: {error}", fork.child);
            }
            return;
        };
        let mut child = parent.child(id, fork.index, fork.child, fork.time);
        child.pin();
        self.processes.push(child);
    }

    /// Notes new code; the process if the map that we have of it is wrong now.
    pub(super) fn on_mapped(&mut self, event: &MappingEvent) -> Option<ProcessId> {
        let (pid, time, range) = match event {
            MappingEvent::Mapped { pid, time, range } => (*pid, *time, range),
            MappingEvent::Forked { pid } => {
                if let Some(joining) = &mut self.joining {
                    joining.on_forked(*pid);
                }
                return None;
            }
            MappingEvent::Lost => {
                for process in self.processes.living_mut() {
                    process.new_code = true;
                }
                if let Some(joining) = &mut self.joining {
                    joining.on_lost();
                }
                return None;
            }
        };
        let process = self.processes.by_pid(pid);
        let process = process.and_then(|id| self.processes.get_mut(id));
        let Some(process) = process.filter(|process| !process.is_released()) else {
            if let Some(joining) = &mut self.joining {
                joining.on_mapped(pid);
            }
            return None;
        };
        if time < process.read_at {
            return None;
        }
        let id = process.id;
        process.new_code = true;
        tracing::debug!(pid = pid.0, "mapped code: {range:?}");
        let wrong = self.maps.mapped(process.table_version, range, time);
        wrong.then_some(id)
    }

    /// Reads the mappings of all processes that may have new ones.
    pub(in crate::collect) fn follow_mappings(&mut self, kernel: &mut Programs) -> Result<()> {
        let wanted = self.processes.living().filter(|p| p.wants_look());
        let wanted: Vec<ProcessId> = wanted.map(|process| process.id).collect();
        wanted.into_iter().try_for_each(|id| self.look(kernel, id))
    }

    pub(super) fn look(&mut self, kernel: &mut Programs, id: ProcessId) -> Result<()> {
        let Some(process) = self.processes.get_mut(id) else {
            return Ok(());
        };
        // An exec after this makes void what is read below.
        let exec_count = kernel.exec_count(process.index)?;
        process.exec = false;
        let program = if exec_count == process.exec_count {
            Program::Same
        } else {
            process.became_another();
            Program::New
        };
        // It may have ended meanwhile: then there is nothing more to know.
        let Some((map, mappings)) = process.look(&mut self.modules, kernel.tables()) else {
            return Ok(());
        };
        process.exec_count = exec_count;
        let (version, start) = (process.table_version, process.start);
        tracing::debug!(
            pid = process.pid.0,
            ?program,
            mappings = mappings.len(),
            "read the mappings again"
        );
        let shares = start != self.start && self.is_shared(id);
        if program == Program::Same {
            self.maps.confirm(version, &map);
        }
        let known = program == Program::Same && !shares && *self.maps.get(version) == map;
        let framed = self.processes.get_mut(id).filter(|_| known);
        if framed.is_some_and(|process| process.made_code(&mappings)) {
            self.replace(kernel, id, map, mappings, None)?;
            return self.publish(kernel, id);
        }
        if known {
            if let Some(process) = self.processes.get_mut(id) {
                process.found_nothing_new(&self.modules, &map);
            }
            // The kernel side may have been told that it knows nothing.
            return self.publish(kernel, id);
        }
        self.replace(kernel, id, map, mappings, Some(program))?;
        self.publish(kernel, id)
    }

    /// Whether a process walks by the table of its parent.
    fn is_shared(&self, id: ProcessId) -> bool {
        let table = |process: &TracedProcess| process.table.map(|table| table.number);
        let own = self.processes.get(id).and_then(table);
        let mut others = self.processes.living().filter(|other| other.id != id);
        own.is_some() && others.any(|other| table(other) == own)
    }

    /// Makes a new version of a process's mapping table.
    pub(super) fn install(
        &mut self,
        kernel: &mut Programs,
        id: ProcessId,
        map: AddressMap,
        mappings: Vec<Mapping>,
        program: Program,
    ) -> Result<()> {
        self.replace(kernel, id, map, mappings, Some(program))
    }

    /// Gives the kernel side another mapping table of a process. `found` is whether the look found
    /// another program or the one that was known; none where only code made at run time changed, of
    /// which there is nothing to learn.
    fn replace(
        &mut self,
        kernel: &mut Programs,
        id: ProcessId,
        map: AddressMap,
        mappings: Vec<Mapping>,
        found: Option<Program>,
    ) -> Result<()> {
        let table = match kernel.tables().install(&mappings) {
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
        self.left_out.mappings_beyond(beyond);
        let current = self.processes.living().map(|process| process.table_version);
        let current: Vec<TableVersion> = current.collect();
        let Some(process) = self.processes.get_mut(id) else {
            return Ok(());
        };
        if let Some(program) = found {
            process.found(&self.modules, &map, program);
        }
        process.table_version = self.maps.add(map, &current);
        process.mappings = mappings;
        let old = process.table.replace(table);
        if let Some(old) = old {
            // Before it counts as given up, the process must walk by the new one.
            self.publish(kernel, id)?;
            let in_use = kernel.tables_in_use()?;
            kernel.tables().retire(old.number, &in_use);
        }
        Ok(())
    }

    /// Tells the kernel side what it needs to know of a process.
    fn publish(&self, kernel: &mut Programs, id: ProcessId) -> Result<()> {
        match self.entry(id) {
            Some((index, entry)) => kernel.describe(index, entry),
            None => Ok(()),
        }
    }

    /// Tells the kernel side that what it knows of a process's mappings is wrong.
    pub(super) fn invalidate_table(&self, kernel: &mut Programs, id: ProcessId) -> Result<()> {
        let Some((index, mut entry)) = self.entry(id) else {
            return Ok(());
        };
        (entry.mappings, entry.table_version) = (0, 0);
        kernel.describe(index, entry)
    }

    pub(super) fn entry(&self, id: ProcessId) -> Option<(u32, ProcessEntry)> {
        let process = self.processes.get(id)?;
        let (version, contexts) = (process.table_version.0, &process.contexts);
        let (table, start) = (process.table?, process.start);
        let mut entry = process_entry(process.pid, table, version, start);
        entry.contexts = contexts.places;
        [
            entry.worker_below_fs,
            entry.current_thread_below_fs,
            entry.budget_below_fs,
            entry.handle_below_fs,
        ] = contexts.variables_below_fs;
        entry.exec_count = process.exec_count;
        entry.address_epoch = process.address_epoch;
        entry.follow = self.options.follow.into();
        Some((process.index, entry))
    }

    /// Gives up the places of processes that have ended, and says which they are.
    pub(in crate::collect) fn release(&mut self, kernel: &mut Programs) -> Result<Vec<ProcessId>> {
        let mut released = Vec::new();
        for process in self.processes.living_mut() {
            if !process.has_ended() || !process.release() {
                continue;
            }
            kernel.forget_process(process.index, process.pid)?;
            released.push(process.id);
            if let Some(table) = process.table {
                let in_use = kernel.tables_in_use()?;
                kernel.tables().retire(table.number, &in_use);
            }
        }
        self.processes.forget_released();
        Ok(released)
    }
}
