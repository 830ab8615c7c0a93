//! The course of a recording.

use super::early::Early;
use super::finish::{self, Closing};
use super::gather::{Gathered, Unnamed};
use super::modules::{AddressMap, Modules};
use super::tail_calls::Code;
use crate::bpf::{Kernel, monotonic, process_entry};
use crate::host::KernelBtf;
use crate::model::{Recording, Sampling};
use crate::process::{CpuQuota, Target};
use crate::units::{Nanos, Svma, Timestamp};
use anyhow::{Context, Result};
use profiler_common::map::{ADVICE_IDLE, AggregateKey};
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
    swept_ends: usize,
    finished_sums: finish::Sums,
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
        let mut kernel = Kernel::load(types, options.min_block)?;
        kernel.attach(options.sample_period)?;
        let mut modules = Modules::default();
        let (map, mappings) = modules
            .update(target, kernel.tables())
            .with_context(|| format!("cannot read the mappings of process {}", target.pid()))?;
        let mut gathered = Gathered::default();
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
            swept_ends: 0,
            finished_sums: finish::Sums::default(),
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
        })
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
            ..
        } = self;
        let none = AddressMap::default();
        early.name(gathered, maps.get(&1).unwrap_or(&none), modules);
        for seen in new.drain(..) {
            let map = maps.get(&seen.generation()).unwrap_or(&none);
            match seen {
                Unnamed::Stack(seen) => {
                    let stack = gathered.stack(&seen, map, modules, code);
                    if stack.idle {
                        kernel.advise(stack.number, ADVICE_IDLE)?;
                    }
                }
                Unnamed::Sample(seen) => {
                    if let Some(sampling) = sampling(*options) {
                        gathered.sample(&seen, map, modules, sampling);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a new generation of the mapping table.
    fn install(&mut self, target: &Target, map: AddressMap, mappings: Vec<Mapping>) -> Result<()> {
        let known = self.kernel.tables().install(PROCESS, &mappings)?;
        if mappings.len() > known as usize {
            tracing::warn!("{} mappings more than fit", mappings.len() - known as usize);
        }
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
        if self.gathered.ended.len() == self.swept_ends {
            return Ok(());
        }
        let ended: HashSet<u32> = self
            .gathered
            .ended
            .get(self.swept_ends..)
            .map_or_else(HashSet::new, |ended| {
                ended.iter().map(|end| end.header.tid).collect()
            });
        self.swept_ends = self.gathered.ended.len();
        let keys: Vec<(AggregateKey, _)> = self
            .kernel
            .aggregates()?
            .into_iter()
            .filter(|(key, _)| ended.contains(&key.tid))
            .collect();
        for (key, sums) in keys {
            self.kernel.forget(&key)?;
            self.finished_sums.add(&key, &sums);
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
