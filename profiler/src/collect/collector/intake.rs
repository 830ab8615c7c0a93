//! What arrives: events are taken in, and new stacks get their names.

use super::Collector;
use crate::collect::frames::CodeOf;
use crate::collect::panic_probes;
use crate::collect::samples::Sample;
use crate::collect::traced_process::TracedProcess;
use crate::decode::{
    Event, SampleSeen, StackPolicy, StackSeen, ThreadEnd, ThreadKey, ThreadName, WaitSeen,
};
use crate::recording::ThreadId;
use crate::unwind::Truncation;
use anyhow::Result;
use std::time::{Duration, Instant};

/// For how long stacks are named before it is time to look for new mappings again.
const NAMING_BUDGET: Duration = Duration::from_millis(20);

/// Events for which room is kept from one time to the next.
const MAX_ARRIVED: usize = 8192;

/// Stacks kept back at most while a program is loaded.
const MAX_DEFERRED: usize = 8192;

/// What needs the mappings of its time.
#[derive(Debug)]
pub(super) enum Unnamed {
    /// A stack that waits name by number.
    Stack(Box<StackSeen>),
    /// A thread on a CPU.
    Sample(Box<SampleSeen>),
}

impl Unnamed {
    fn stack_mut(&mut self) -> &mut StackSeen {
        match self {
            Unnamed::Stack(seen) => seen,
            Unnamed::Sample(seen) => &mut seen.stack,
        }
    }
}

/// How many of the new stacks are to have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Those for which there is time, and none while a program is being loaded.
    AsTimeAllows,
    /// All: an interval ends.
    All,
}

impl Collector {
    /// Takes all events out of the ring buffers that have arrived by now. New stacks are kept, to be
    /// named.
    pub(super) fn receive(&mut self) {
        self.receive_while(|| true);
    }

    /// As [`Collector::receive`], for as long as `go_on` says so. Whether it ended for that.
    pub(super) fn receive_while(&mut self, go_on: impl FnMut() -> bool) -> bool {
        let mut arrived = std::mem::take(&mut self.arrived);
        let mut undecodable = 0;
        let behind = self.kernel.drain_while(go_on, |event| match event {
            Ok(event) => arrived.push(event),
            Err(error) => {
                tracing::warn!("{error}");
                undecodable += 1;
            }
        });
        self.kernel.flush_log();
        self.losses.undecodable(undecodable);
        for event in arrived.drain(..) {
            self.take(event);
        }
        arrived.shrink_to(MAX_ARRIVED);
        self.arrived = arrived;
        self.receive_mappings();
        self.processes.living_mut().for_each(TracedProcess::pin);
        behind
    }

    pub(super) fn receive_mappings(&mut self) {
        if let Some(mut events) = self.mapping_events.take() {
            let mut stale = Vec::new();
            events.drain(|event| stale.extend(self.on_mapped(&event)));
            self.mapping_events = Some(events);
            for id in stale {
                // Until its mappings have been read, its stacks are copied and not walked.
                if let Err(error) = self.invalidate_table(id) {
                    tracing::debug!("a mapping table stays: {error:#}");
                }
            }
        }
    }

    /// Takes one event in.
    pub(super) fn take(&mut self, event: Event) {
        let Some(event) = self.next.keep_back(event) else {
            return;
        };
        match event {
            Event::Stack(seen) => {
                self.see(&seen);
                if seen.raw {
                    self.pending.add(seen);
                } else {
                    self.unnamed.push(Unnamed::Stack(seen));
                }
            }
            Event::Sample(seen) => {
                self.see(&seen.stack);
                self.unnamed.push(Unnamed::Sample(seen));
            }
            Event::Wait(wait) => self.wait(&wait),
            Event::ThreadEnd(end) => self.thread_end(&end),
            Event::Exec(exec) => self.with_process(exec.pid, |process| process.exec = true),
            Event::Fork(fork) => self.on_fork(&fork),
            Event::Snapshot(snapshot) => {
                self.name_thread(snapshot.thread, &snapshot.name);
                self.snapshots.push(*snapshot);
            }
            Event::UnmappedStack(piece) => self.pending.add_piece(*piece),
            Event::Object(seen) => self.objects.add(&seen),
            Event::ChildExec(child) => self.objects.child(&child),
            Event::Call(call) => {
                let object = call.object.and_then(|object| self.objects.resolve(object));
                if let Some(thread) = self.processes.thread(call.thread) {
                    self.interval.calls.add(thread, &call, object);
                }
            }
            Event::Panic(panic) => {
                if let Some(thread) = self.processes.thread(panic.thread) {
                    self.interval.panics.add(thread, &panic);
                }
            }
            Event::RawStack(piece) => self.raw_pieces.push(*piece),
        }
    }

    fn with_process(&mut self, pid: crate::units::Pid, change: impl FnOnce(&mut TracedProcess)) {
        let process = self.processes.by_pid(pid);
        if let Some(process) = process.and_then(|id| self.processes.get_mut(id)) {
            change(process);
        }
    }

    /// Notes what a stack tells before it has names.
    fn see(&mut self, seen: &StackSeen) {
        self.name_thread(seen.thread, &seen.name);
        if seen.truncated == Some(Truncation::Unmapped) {
            self.with_process(seen.thread.pid, |process| process.unknown_code = true);
        }
    }

    fn wait(&mut self, wait: &WaitSeen) {
        let object = wait.object.and_then(|object| self.objects.resolve(object));
        if let Some(thread) = self.processes.thread(wait.thread) {
            let wakers = &mut self.tables.wakers;
            self.interval.wait(thread, wait, object, wakers);
        }
    }

    fn thread_end(&mut self, end: &ThreadEnd) {
        if let Some(thread) = self.processes.thread(end.thread) {
            self.interval.thread_end(thread, end);
            self.set_name(thread, &end.name.to_string());
            // The next one of this id has another name.
            self.named.remove(&thread);
        }
    }

    fn name_thread(&mut self, thread: ThreadKey, name: &ThreadName) {
        if let Some(thread) = self.processes.thread(thread)
            && !self.named.contains(&thread)
        {
            self.set_name(thread, &name.to_string());
        }
    }

    pub(super) fn set_name(&mut self, thread: ThreadId, name: &str) {
        let names = &mut self.tables.thread_names;
        if names.get(&thread).is_none_or(|known| **known != *name) {
            names.insert(thread, name.into());
        }
    }

    /// Copies what is known of the processes for whoever reads the recording.
    pub(super) fn publish_processes(&mut self) {
        if self.options.panics {
            for process in self.processes.iter_mut() {
                panic_probes::note_late(&mut process.facts);
            }
        }
        for process in self.processes.iter_mut() {
            process.facts.tokio.context = self.stacks.certainty(process.program);
        }
        for process in self.processes.as_slice() {
            let facts = &process.facts;
            match self.tables.processes.get_mut(process.id.index()) {
                Some(told) if told == facts => {}
                Some(told) => told.clone_from(facts),
                None => self.tables.processes.push(facts.clone()),
            }
        }
    }

    /// Names and classifies new stacks.
    pub(super) fn name_new(&mut self, naming: Naming) -> Result<()> {
        let loading = self.processes.living().any(TracedProcess::is_loading);
        let began = Instant::now();
        let Collector {
            initial,
            stacks,
            frames,
            processes,
            maps,
            modules,
            ..
        } = self;
        initial.name(stacks, frames, processes, maps, modules);
        let walked = self.pending.walk(&self.kernel, &self.processes);
        self.unnamed.extend(walked.into_iter().map(Unnamed::Stack));
        // A program that is being loaded has something more urgent to be asked, and what was asked
        // for names a moment ago need not be asked again now.
        let all = naming == Naming::All;
        if loading && !all && self.unnamed.len() <= MAX_DEFERRED {
            return self.change_policies();
        }
        let mut unnamed = std::mem::take(&mut self.unnamed).into_iter();
        for seen in unnamed.by_ref() {
            self.name(seen)?;
            if !all && began.elapsed() > NAMING_BUDGET {
                break;
            }
        }
        self.unnamed.extend(unnamed);
        if self.unnamed.is_empty() {
            let pieces = &mut self.raw_pieces;
            self.shadow.compare(pieces, &self.maps, &self.modules);
        }
        self.change_policies()
    }

    fn valid_prefix_len(&self, stack: &StackSeen) -> usize {
        self.maps
            .valid_prefix_len(stack.table_version, stack.time, &stack.user)
    }

    /// Names, classifies and keeps a stack.
    fn name(&mut self, mut seen: Unnamed) -> Result<()> {
        if let Unnamed::Stack(seen) = &seen {
            self.shadow.keep(seen);
        }
        let stack = seen.stack_mut();
        let mut sound = self.valid_prefix_len(stack);
        let process = self.processes.by_pid(stack.thread.pid);
        let process = process.filter(|id| {
            let process = self.processes.get(*id);
            process.is_some_and(TracedProcess::has_new_code)
        });
        if sound < stack.user.len()
            && let Some(process) = process
        {
            // Mostly a library has come back to where it was.
            self.look(process)?;
            sound = self.valid_prefix_len(stack);
        }
        if sound < stack.user.len() {
            stack.user.truncate(sound);
            // What the kernel side cut off, it has counted.
            if stack.truncated.is_none() {
                self.losses.truncated(1);
            }
            stack.truncated = Some(Truncation::Unmapped);
        }
        // The last one of this id, as far as its memory is the one that was walked.
        let process = self.processes.by_pid(stack.thread.pid);
        let Some(process) = process.and_then(|id| self.processes.get_mut(id)) else {
            return Ok(());
        };
        if stack.pointer_steps > 0 {
            process.name_made_code(&stack.user);
        }
        let process = &*process;
        let code = CodeOf {
            map: self.maps.get(stack.table_version),
            modules: &self.modules,
            process: process.id,
            made: Some(&process.made),
            memory: Some(&process.code),
        };
        let owner = process.owner();
        match seen {
            Unnamed::Stack(seen) => {
                let id = self.stacks.add(&seen, owner, &code, &mut self.frames);
                let policy = id.map(|id| self.stacks.policy(id));
                if let (Some(number), Some(policy)) = (seen.number, policy)
                    && policy != StackPolicy::Record
                {
                    self.kernel.set_policy(number, policy)?;
                }
            }
            Unnamed::Sample(seen) => {
                let id = self
                    .stacks
                    .add_sample(&seen, owner, &code, &mut self.frames);
                let thread = self.processes.thread(seen.stack.thread);
                if let (Some(id), Some(thread), Some(sampling)) = (id, thread, self.sampling())
                    && let Some(stack) = self.stacks.get(id)
                {
                    let sample = Sample {
                        thread,
                        stack: id,
                        time: seen.stack.time,
                        on_cpu: seen.on_cpu,
                        waits: seen.waits,
                        task_id: seen.task_id,
                        core: seen.core,
                        tick: seen.tick,
                    };
                    let tls_state = seen.stack.tls_state;
                    self.interval
                        .samples
                        .add(sample, stack, tls_state, sampling);
                }
            }
        }
        Ok(())
    }

    /// Tells the kernel side of stacks that came to mean something else.
    fn change_policies(&mut self) -> Result<()> {
        if let Some(policies) = self.stacks.changed_policies() {
            for (number, policy) in policies {
                self.kernel.set_policy(number, policy)?;
            }
            self.kernel.forget_parks()?;
        }
        Ok(())
    }
}
