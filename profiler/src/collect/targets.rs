//! The targets: the processes that are recorded, what they map and fork, and when they end.
//!
//! Programs, mappings and the kernel side's tables of them change together, so they have one owner.

mod join;
mod process_events;

use super::address_map::AddressMap;
use super::frames::CodeOf;
use super::joining::Joining;
use super::maps::Maps;
use super::modules::Modules;
use super::panic_probes;
use super::processes::ProcessList;
use super::stack_table::Owner;
use super::traced_process::{Program, TracedProcess};
use crate::bpf::{MappingEvents, Programs, Tables};
use crate::decode::{StackSeen, ThreadKey};
use crate::process::{Selection, Target};
use crate::recording::{ProcessId, ThreadId};
use crate::symbolize::Symbolizer;
use crate::units::{Addr, Pid, Svma, Timestamp};
use anyhow::{Context, Result};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What is done about the targets.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetOptions {
    /// Whether processes that they fork are recorded too.
    pub(super) follow: bool,
    /// Whether their panics are counted.
    pub(super) panics: bool,
    /// So many processes have rows of their own.
    pub(super) apart: usize,
}

/// All processes that are or were recorded, and the code that they map.
#[derive(Debug)]
pub(super) struct Targets {
    options: TargetOptions,
    /// When the recording began.
    start: Timestamp,
    processes: ProcessList,
    modules: Modules,
    maps: Maps,
    /// None where the kernel does not report mappings: then stacks that leave the known ones
    /// must.
    mapping_events: Option<MappingEvents>,
    /// Which processes join; none where none does.
    joining: Option<Joining>,
    left_out: TargetsLeftOut,
}

/// What of the targets could not be recorded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetsLeftOut {
    /// Processes of which nothing is recorded: forked ones, and those that are meant and found no room.
    pub(super) processes: u64,
    /// Executable mappings that found no room, as many as there were at once.
    pub(super) mappings: u64,
}

impl TargetsLeftOut {
    /// So many executable mappings of a process find no room now.
    fn mappings_beyond(&mut self, count: u64) {
        self.mappings = self.mappings.max(count);
    }
}

impl Targets {
    /// None yet. Mapping events are listened to from now on, so that nothing mapped while the code
    /// is read goes unnoticed.
    pub(super) fn new(options: TargetOptions, joining: Selection) -> Targets {
        let mapping_events = MappingEvents::open()
            .map_err(|error| tracing::info!("no mapping events: {error:#}"))
            .ok();
        let is_told = mapping_events.is_some();
        let joining = (!joining.is_empty()).then(|| Joining::new(joining, is_told));
        Targets {
            options,
            joining,
            start: Timestamp(0),
            processes: ProcessList::new(options.apart),
            modules: Modules::default(),
            maps: Maps::default(),
            mapping_events,
            left_out: TargetsLeftOut::default(),
        }
    }

    /// Reads the code of a process that is to be [added](Targets::add), which then takes a moment only.
    pub(super) fn read_ahead(
        &mut self,
        target: &Target,
        tables: &mut Tables,
        symbolizer: &mut Symbolizer,
    ) {
        // Where that fails, it fails again then.
        if let Ok((map, _)) = self.modules.update(target, tables) {
            self.warm_up(&map, symbolizer);
        }
    }

    /// Reads the tables by which the code in `map` gets its names: not while an exec may want our
    /// attention, since reading a symbol table takes long.
    fn warm_up(&self, map: &AddressMap, symbolizer: &mut Symbolizer) {
        for module in map.modules().filter_map(|module| self.modules.get(module)) {
            let is_new = symbolizer.open(&module.source);
            if let Some(facts) = module.facts.as_ref().filter(|_| is_new) {
                let text = facts.executable.first();
                let middle = text.map_or(0, |text| text.svma.0 + text.memsz / 2);
                symbolizer.warm_up(&module.source, Svma(middle));
            }
        }
    }

    /// Adds a process, and reads its code.
    pub(super) fn add(
        &mut self,
        index: u32,
        target: &Arc<Target>,
        kernel: &mut Programs,
        symbolizer: &mut Symbolizer,
    ) -> Result<()> {
        let exe = String::from_utf8_lossy(target.exe());
        let id = self.processes.next(&exe).context("too many processes")?;
        let mut process = TracedProcess::new(id, index, Arc::clone(target));
        process.exec_count = kernel.exec_count(index)?;
        let (map, mappings) = process
            .look(&mut self.modules, kernel.tables())
            .with_context(|| format!("cannot read the mappings of process {}", target.pid()))?;
        self.warm_up(&map, symbolizer);
        self.processes.push(process);
        let probed = self.options.panics.then(|| map.clone());
        self.install(kernel, id, map, mappings, Program::Same)?;
        if let (Some(map), Some(process)) = (probed, self.processes.get_mut(id)) {
            panic_probes::attach(process, &map, &self.modules, kernel);
        }
        Ok(())
    }

    /// Lets the kernel side record all processes from `start` on.
    pub(super) fn begin(&mut self, kernel: &mut Programs, start: Timestamp) -> Result<()> {
        self.start = start;
        for process in self.processes.iter_mut() {
            process.start = start;
        }
        let all: Vec<_> = self.processes.living().map(|process| process.id).collect();
        for id in all {
            if let Some((index, entry)) = self.entry(id) {
                let start = kernel.watch(index, entry)?;
                if let Some(process) = self.processes.get_mut(id) {
                    process.start = start;
                }
            }
        }
        Ok(())
    }

    /// The processes.
    pub(super) const fn processes(&self) -> &ProcessList {
        &self.processes
    }

    /// The processes, to be changed.
    pub(super) const fn processes_mut(&mut self) -> &mut ProcessList {
        &mut self.processes
    }

    /// The thread that the kernel calls so now; none of a process that is not recorded.
    pub(super) fn thread(&self, key: ThreadKey) -> Option<ThreadId> {
        self.processes.thread(key)
    }

    /// The files behind their code.
    pub(super) const fn modules(&self) -> &Modules {
        &self.modules
    }

    /// What was mapped when.
    pub(super) const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// What could not be recorded so far.
    pub(super) const fn left_out(&self) -> TargetsLeftOut {
        self.left_out
    }

    /// Whether all have ended. Asks the kernel.
    pub(super) fn all_ended(&mut self) -> bool {
        // Not short-circuited: each has its end noted.
        let ended = self.processes.living_mut().map(TracedProcess::has_ended);
        ended.filter(|ended| !ended).count() == 0
    }

    /// Whether the end of all has been noted, and none can join.
    pub(super) fn are_over(&self) -> bool {
        self.joining.is_none() && self.processes.living().all(TracedProcess::is_ended)
    }

    /// Whether one is being loaded, so that naming its stacks must wait.
    pub(super) fn any_loading(&self) -> bool {
        self.processes.living().any(TracedProcess::is_loading)
    }

    /// Whether one has mapped code that has not been looked at, or one that may join has.
    pub(super) fn any_new_code(&self) -> bool {
        let joins = self.joining.as_ref().is_some_and(Joining::is_due);
        joins || self.processes.living().any(TracedProcess::has_new_code)
    }

    /// Changes what is known of the process that has this pid.
    pub(super) fn with_process(&mut self, pid: Pid, change: impl FnOnce(&mut TracedProcess)) {
        let process = self.processes.by_pid(pid);
        if let Some(process) = process.and_then(|id| self.processes.get_mut(id)) {
            change(process);
        }
    }

    /// Says so of all panic probes that came too late for some panics.
    pub(super) fn note_late_panic_probes(&mut self) {
        if self.options.panics {
            for process in self.processes.iter_mut() {
                panic_probes::note_late(&mut process.facts, process.joined.is_some());
            }
        }
    }

    /// Reads what a process calls the code that it made at run time, where some of these addresses are
    /// in such code and have no name.
    pub(super) fn name_made_code(&mut self, process: ProcessId, addresses: &[Addr]) {
        if let Some(process) = self.processes.get_mut(process) {
            process.name_made_code(addresses);
        }
    }

    /// What the addresses of a stack mean, and whose it is: of the last process of this id, as far
    /// as its memory is the one that was walked.
    pub(super) fn code_of(&self, stack: &StackSeen) -> Option<(CodeOf<'_>, Owner)> {
        let process = self.processes.by_pid(stack.thread.pid)?;
        let process = self.processes.get(process)?;
        let code = CodeOf {
            map: self.maps.get(stack.table_version),
            modules: &self.modules,
            process: process.id,
            made: Some(&process.made),
            memory: Some(&process.code),
        };
        Some((code, process.owner()))
    }

    /// How many frames of a stack, from the leaf on, may be named by the mappings that it was walked
    /// by. Where it is not all, new mappings are read first, if there are any.
    pub(super) fn valid_prefix_len(
        &mut self,
        kernel: &mut Programs,
        stack: &StackSeen,
    ) -> Result<usize> {
        let valid = self.known_prefix_len(stack);
        let process = self.processes.by_pid(stack.thread.pid);
        let process = process.and_then(|id| self.processes.get(id));
        match process.filter(|process| process.has_new_code()) {
            Some(process) if valid < stack.user.len() => {
                // Mostly a library has come back to where it was.
                let id = process.id;
                self.look(kernel, id)?;
                Ok(self.known_prefix_len(stack))
            }
            _ => Ok(valid),
        }
    }

    fn known_prefix_len(&self, stack: &StackSeen) -> usize {
        self.maps
            .valid_prefix_len(stack.table_version, stack.time, &stack.user)
    }

    /// A descriptor that becomes readable when mapping events are to be received.
    pub(super) fn mapping_fd(&self) -> io::Result<OwnedFd> {
        use rustix::event::epoll;
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = self.mapping_events.iter();
        for event in events.flat_map(MappingEvents::descriptors) {
            // Nobody asks which one it was.
            let data = epoll::EventData::new_u64(0);
            epoll::add(&all, event, data, epoll::EventFlags::IN)?;
        }
        Ok(all)
    }

    /// Takes in what the kernel reported of mappings.
    pub(super) fn receive_mappings(&mut self, kernel: &mut Programs) {
        if let Some(mut events) = self.mapping_events.take() {
            let mut stale = Vec::new();
            events.drain(|event| stale.extend(self.on_mapped(&event)));
            self.mapping_events = Some(events);
            for id in stale {
                // Until its mappings have been read, its stacks are copied and not walked.
                if let Err(error) = self.invalidate_table(kernel, id) {
                    tracing::debug!("a mapping table stays: {error:#}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_without_room_count_as_many_as_there_were_at_once() {
        let mut left_out = TargetsLeftOut::default();
        for beyond in [0, 5, 4] {
            left_out.mappings_beyond(beyond);
        }
        assert_eq!(left_out.mappings, 5);
    }
}
