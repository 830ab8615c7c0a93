//! The course of a recording.

use super::early::Early;
use super::finish::{self, Closing};
use super::gather::{Bounds, Gathered, Unnamed};
use super::modules::{AddressMap, Modules};
use super::open::{self, Found};
use super::shadow::Shadow;
use super::tail_calls::Code;
use crate::bpf::{Kernel, KernelThread, LoadOptions, monotonic, process_entry};
use crate::host::KernelBtf;
use crate::limits::Limits;
use crate::model::{Recording, Sampling, StackEntry};
use crate::process::{CpuQuota, Target};
use crate::tokio_rt::State;
use crate::units::{Nanos, Svma, Tid, Timestamp};
use anyhow::{Context, Result};
use profiler_common::map::{ADVICE_RECORD, AggregateKey, PHASE_BLOCKED};
use profiler_common::record::{STACK_BEFORE, SnapshotRecord};
use profiler_common::row::Mapping;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

/// How often [`Session::tick`] wants to be called. The ring buffer holds what 100,000 waits a
/// second bring in this time many times over.
pub const TICK: Duration = Duration::from_millis(25);

/// Between two looks at the mappings of a target that runs code we do not know, such as that of
/// a JIT: it grows from the first to the second, so that such a target does not cost us a core.
const RESCAN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(2));

/// Between two sweeps of the sums of ended threads.
const SWEEP: Duration = Duration::from_secs(1);

/// Address maps kept: a target that maps and unmaps code for ever must not fill our memory.
const KEPT_MAPS: u32 = 16;

/// The one process of a session, as the kernel side counts them.
const PROCESS: u32 = 0;

/// What a recording is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Waits of at least this length go into the timeline one by one.
    pub min_block: Nanos,
    /// CPU time between two samples of a thread on a CPU; none for no samples.
    pub sample_period: Option<Nanos>,
    /// Polls that take a CPU for so long are listed.
    pub long_poll: Nanos,
    /// Whether the target is held at its start: no thread of it waits for anything yet.
    pub launched: bool,
    /// One stack in so many is walked a second time, by framehop; 0 for none.
    pub shadow_every: u32,
}

/// A recording under way. Dropping it detaches from the kernel.
#[derive(Debug)]
pub struct Session {
    kernel: Kernel,
    modules: Modules,
    gathered: Gathered,
    early: Early,
    /// The mappings by generation: stacks name the one that their walk used.
    maps: HashMap<u32, AddressMap>,
    mappings: Vec<Mapping>,
    generation: u32,
    start: Timestamp,
    started_at: SystemTime,
    options: Options,
    execs: u64,
    rescanned: Instant,
    rescan_after: Duration,
    swept: Instant,
    finished_sums: finish::Sums,
    /// Executable mappings that found no room, as many as there were at once.
    mappings_left_out: u64,
    shadow: Shadow,
    /// Stacks that have arrived and have no names yet.
    new: Vec<Unnamed>,
    code: Code,
    /// What the CPU quota had done before.
    quota: Option<CpuQuota>,
}

impl Session {
    /// Loads and attaches the programs, reads the target's code, and begins to record.
    ///
    /// # Errors
    /// Where the kernel refuses, or the target cannot be read.
    pub fn start(target: &Target, types: &KernelBtf, options: Options) -> Result<Session> {
        let limits = Limits::from_env();
        let bounds = Bounds::new(&limits);
        let load = LoadOptions {
            min_block: options.min_block,
            shadow_every: options.shadow_every,
            limits,
        };
        let mut kernel = Kernel::load_with(types, &load)?;
        kernel.attach(options.sample_period)?;
        let mut modules = Modules::default();
        let (map, mappings) = modules
            .update(target, kernel.tables())
            .with_context(|| format!("cannot read the mappings of process {}", target.pid()))?;
        let mut gathered = Gathered::new(bounds);
        for module in modules.iter() {
            gathered.symbolizer.open(&module.source);
            if let Some(facts) = &module.facts {
                // Reading a symbol table takes long: not while an exec may want our attention.
                let text = facts.executable.first();
                let middle = text.map_or(0, |text| text.svma.0 + text.memsz / 2);
                gathered.symbolizer.warm_up(&module.source, Svma(middle));
            }
        }
        let now = Instant::now();
        let mut session = Session {
            kernel,
            modules,
            gathered,
            early: Early::default(),
            maps: HashMap::new(),
            mappings: Vec::new(),
            generation: 0,
            start: monotonic(),
            started_at: SystemTime::now(),
            options,
            execs: 0,
            rescanned: now,
            rescan_after: RESCAN.0,
            swept: now,
            finished_sums: finish::Sums::default(),
            mappings_left_out: 0,
            shadow: Shadow::new(options.shadow_every),
            new: Vec::new(),
            code: Code::open(target),
            quota: CpuQuota::read(target),
        };
        session.install(target, map, mappings)?;
        if !options.launched {
            session.kernel.snapshot()?;
            session.receive();
            let snapshots = std::mem::take(&mut session.gathered.snapshots);
            session.early = Early::walk(snapshots, &session.kernel, target, &session.mappings);
        }
        Ok(session)
    }

    /// Whether any module of the target holds tokio.
    #[must_use]
    pub fn sees_tokio(&self) -> bool {
        self.modules
            .iter()
            .any(|m| m.facts.as_ref().is_some_and(|facts| facts.tokio.present))
    }

    /// A descriptor that becomes readable when [`Session::tick`] should not wait.
    ///
    /// # Errors
    /// Where descriptors are used up.
    pub fn attention(&self) -> io::Result<OwnedFd> {
        self.kernel.attention()
    }

    /// Takes in what has arrived, and follows the target's mappings. To be called every [`TICK`].
    ///
    /// # Errors
    /// Where the kernel refuses to be read. A target that has ended is no error.
    pub fn tick(&mut self, target: &Target) -> Result<()> {
        // New mappings first: until the kernel side has them, it cannot walk through them.
        self.receive();
        let exec = self.gathered.execs != self.execs;
        let unknown = self.gathered.unmapped_seen && self.rescanned.elapsed() >= self.rescan_after;
        if exec || unknown {
            self.rescan(target, exec)?;
        }
        self.drain()?;
        if self.swept.elapsed() >= SWEEP {
            self.sweep()?;
        }
        Ok(())
    }

    /// Ends the recording and closes the books. `ended` says how the target ended, if it did.
    ///
    /// # Errors
    /// Where the kernel refuses to be read.
    pub fn finish(mut self, target: &Target, ended: Option<String>) -> Result<Recording> {
        let mut moved = HashSet::new();
        let mut found = HashMap::new();
        if ended.is_none() {
            found = self.look_into_open_waits(target)?;
            let snapshots = self.gathered.snapshots.iter();
            let gone = snapshots.filter(|snapshot| self.early.has_moved(snapshot));
            moved.extend(gone.map(|snapshot| Tid(snapshot.header.tid)));
        }
        let end = self.kernel.stop()?;
        self.drain()?;
        finish::recording(Closing {
            kernel: &self.kernel,
            modules: &self.modules,
            gathered: self.gathered,
            early: &self.early,
            sums: self.finished_sums,
            target,
            ended,
            started_at: self.started_at,
            start: self.start,
            end,
            min_block: self.options.min_block,
            launched: self.options.launched,
            sampling: sampling(self.options),
            quota: self.quota,
            mappings_left_out: self.mappings_left_out,
            shadow: self.shadow.outcome(),
            found,
            moved,
        })
    }

    /// Looks what threads wait for now, but for those that are idle; and since when they wait, or
    /// none where that was before the recording and no switch of the thread was seen.
    fn look_into_open_waits(
        &mut self,
        target: &Target,
    ) -> Result<HashMap<Tid, (Option<Timestamp>, Found)>> {
        self.drain()?;
        self.gathered.snapshots.clear();
        self.kernel.snapshot()?;
        self.drain()?;
        let mut threads: HashMap<Tid, KernelThread> = HashMap::new();
        for thread in self.kernel.threads()? {
            threads.insert(Tid(thread.tid), thread);
        }
        let entry = |tid: Tid| -> Option<&StackEntry> {
            let id = match threads.get(&tid).map(|thread| thread.stack) {
                None | Some(STACK_BEFORE) => self.early.stack(tid),
                Some(number) => self.gathered.by_number(number),
            };
            self.gathered.stacks.get(id?.0 as usize)
        };
        let waits = |snapshot: &SnapshotRecord| {
            let tid = Tid(snapshot.header.tid);
            let still = threads.get(&tid).is_none_or(|thread| {
                thread.phase == PHASE_BLOCKED
                    && thread.since <= snapshot.time
                    && thread.wakeup < thread.since
            });
            let idle = entry(tid).is_some_and(|stack| stack.verdict.state == State::Idle);
            snapshot.on_cpu == 0 && still && !idle
        };
        let mut snapshots = self.gathered.snapshots.clone();
        snapshots.retain(waits);
        let frames = |tid: Tid| entry(tid).map_or(&[][..], |stack| stack.frames.as_slice());
        let found = open::look(target, &snapshots, frames);
        let since = |tid: &Tid| threads.get(tid).map(|thread| Timestamp(thread.since));
        Ok(found
            .into_iter()
            .map(|(tid, found)| (tid, (since(&tid), found)))
            .collect())
    }

    /// Takes the events out of the ring buffer; new stacks are kept back.
    fn receive(&mut self) {
        let Session {
            kernel,
            gathered,
            new,
            ..
        } = self;
        kernel.drain(|event| new.extend(gathered.take(event)));
        kernel.flush_log();
    }

    /// Takes the events in, and names and judges new stacks.
    fn drain(&mut self) -> Result<()> {
        self.receive();
        let Session {
            kernel,
            gathered,
            maps,
            modules,
            early,
            new,
            options,
            code,
            shadow,
            ..
        } = self;
        let none = AddressMap::default();
        early.name(gathered, maps.get(&1).unwrap_or(&none), modules);
        for seen in new.drain(..) {
            let map = maps.get(&seen.generation()).unwrap_or(&none);
            match seen {
                Unnamed::Stack(seen) => {
                    shadow.keep(&seen);
                    let advice = gathered.stack(&seen, map, modules, code);
                    if advice != ADVICE_RECORD {
                        kernel.advise(seen.record.stack, advice)?;
                    }
                }
                Unnamed::Sample(seen) => {
                    if let Some(sampling) = sampling(*options) {
                        gathered.sample(&seen, map, modules, sampling);
                    }
                }
            }
        }
        shadow.compare(&mut gathered.raw_pieces, maps, modules);
        if let Some(advice) = gathered.changed_advice() {
            for (stack, advice) in advice {
                kernel.advise(stack, advice)?;
            }
            kernel.forget_parks()?;
        }
        Ok(())
    }

    /// Makes a new generation of the mapping table.
    fn install(&mut self, target: &Target, map: AddressMap, mappings: Vec<Mapping>) -> Result<()> {
        let known = self.kernel.tables().install(PROCESS, &mappings)?;
        let beyond = mappings.len().saturating_sub(known as usize) as u64;
        if beyond > 0 {
            tracing::warn!("{beyond} mappings more than fit");
        }
        self.mappings_left_out = self.mappings_left_out.max(beyond);
        self.generation += 1;
        if self.generation == 1 {
            self.start = monotonic();
        }
        let exe = self
            .modules
            .of_exe(target)
            .and_then(|exe| exe.facts.as_ref());
        let context = exe.and_then(|facts| facts.context);
        let entry = process_entry(target.pid(), known, self.generation, self.start, context);
        self.kernel.watch(PROCESS, entry)?;
        self.maps.insert(self.generation, map);
        // A walk under way may still use the one before; what comes later than that is unnamed.
        let oldest = self.generation.saturating_sub(KEPT_MAPS);
        self.maps.retain(|generation, _| *generation > oldest);
        self.mappings = mappings;
        Ok(())
    }

    fn rescan(&mut self, target: &Target, exec: bool) -> Result<()> {
        self.execs = self.gathered.execs;
        self.gathered.unmapped_seen = false;
        self.rescanned = Instant::now();
        // The target may have ended meanwhile: then there is nothing more to know.
        let (map, mappings) = match self.modules.update(target, self.kernel.tables()) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(exec, "the mappings cannot be read: {error}");
                return Ok(());
            }
        };
        if exec {
            self.code = Code::open(target);
        }
        tracing::debug!(exec, mappings = mappings.len(), "read the mappings again");
        if !exec && self.maps.get(&self.generation) == Some(&map) {
            self.rescan_after = (self.rescan_after * 2).min(RESCAN.1);
            return Ok(());
        }
        self.rescan_after = RESCAN.0;
        self.install(target, map, mappings)
    }

    /// Takes the sums of ended threads out of the kernel's map, so that it keeps room.
    fn sweep(&mut self) -> Result<()> {
        self.swept = Instant::now();
        let ended = self.gathered.ended.take_new();
        if ended.is_empty() {
            return Ok(());
        }
        let keys: Vec<(AggregateKey, _)> = self
            .kernel
            .aggregates()?
            .into_iter()
            .filter(|(key, _)| ended.contains(&key.tid))
            .collect();
        for (key, sums) in keys {
            self.kernel.forget(&key)?;
            // Without its books a sum has no thread.
            let most = if self.gathered.ended.has(Tid(key.tid)) {
                self.gathered.bounds.sums
            } else {
                0
            };
            self.finished_sums.add_bounded(&key, &sums, most);
        }
        Ok(())
    }
}

fn sampling(options: Options) -> Option<Sampling> {
    Some(Sampling {
        period: options.sample_period?,
        long_poll: options.long_poll,
    })
}
