//! The course of a recording.

mod process_events;

use super::finish::{self, Closing};
use super::gather::{Bounds, Gathered, Unnamed};
use super::initial_waits::InitialWaits;
use super::maps::Maps;
use super::modules::Modules;
use super::open_waits::{self, Found};
use super::panic_probes::PanicProbes;
use super::pending::Pending;
use super::shadow::Shadow;
use super::sums::{Sums, Thread};
use super::traced_process::TracedProcess;
use crate::bpf::{LoadOptions, MappingEvents, Programs, ThreadEntry, monotonic};
use crate::error::Error;
use crate::host::KernelBtf;
use crate::limits::Limits;
use crate::process::Target;
use crate::recording::{Recording, Sampling, StackEntry};
use crate::runtime::State;
use crate::units::{Nanos, Pid, Svma, Tid, Timestamp};
use anyhow::{Context, Result};
use profiler_common::map::{AggregateKey, MAX_PROCESSES, PHASE_BLOCKED, POLICY_RECORD};
use profiler_common::record::{STACK_BEFORE, SnapshotRecord};
use profiler_common::row::walk;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often [`Session::tick`] wants to be called. The ring buffer holds what 100,000 waits a
/// second bring in this time many times over.
pub const TICK: Duration = Duration::from_millis(25);

/// Between two sweeps of the sums of ended threads.
const SWEEP: Duration = Duration::from_secs(1);

/// For how long stacks are named before it is time to look for news again.
const NAMING: Duration = Duration::from_millis(20);

/// Stacks kept back at most while a program is loaded.
const MAX_DEFERRED: usize = 8192;

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
    /// Whether processes that the targets fork are recorded too.
    pub follow: bool,
    /// One stack in so many is walked a second time, by framehop; 0 for none.
    pub shadow_every: u32,
    /// Whether time inside system calls is measured.
    pub calls: bool,
    /// Whether panics are counted.
    pub panics: bool,
}

/// A recording under way. Dropping it detaches from the kernel.
#[derive(Debug)]
pub struct Session {
    kernel: Programs,
    /// None where the kernel does not tell of mappings: then stacks that leave the known ones
    /// must.
    mapping_events: Option<MappingEvents>,
    modules: Modules,
    gathered: Gathered,
    early: InitialWaits,
    processes: Vec<TracedProcess>,
    maps: Maps,
    start: Timestamp,
    started_at: SystemTime,
    options: Options,
    swept: Instant,
    finished_sums: Sums,
    /// Executable mappings that found no room, as many as there were at once.
    mappings_left_out: u64,
    shadow: Shadow,
    /// Stacks that have arrived and have no names yet.
    new: Vec<Unnamed>,
    /// Stacks that wait for mappings to be read.
    pending: Pending,
    /// None where panics are not to be counted.
    panics: Option<PanicProbes>,
    /// Forked processes that could not be remembered.
    not_followed: u64,
}

impl Session {
    /// Loads and attaches the programs, reads the targets' code, and begins to record.
    ///
    /// # Errors
    /// Where the kernel refuses, there are too many targets, or one cannot be read.
    pub fn start(targets: &[Arc<Target>], types: &KernelBtf, options: Options) -> Result<Session> {
        if targets.len() > MAX_PROCESSES {
            return Err(Error::new(format!(
                "{} processes at once: {MAX_PROCESSES} can be recorded",
                targets.len()
            ))
            .into());
        }
        let limits = Limits::from_env();
        let bounds = Bounds::new(&limits);
        let load = LoadOptions {
            min_block: options.min_block,
            shadow_every: options.shadow_every,
            limits,
        };
        let mut kernel = Programs::load_with(types, &load)?;
        kernel.attach(options.sample_period, options.calls)?;
        // First of all, so that nothing mapped from now on goes unnoticed.
        let mapping_events = MappingEvents::open()
            .map_err(|error| tracing::info!("no news of mappings: {error:#}"))
            .ok();
        let mut session = Session {
            kernel,
            mapping_events,
            modules: Modules::default(),
            gathered: Gathered::new(bounds),
            early: InitialWaits::default(),
            processes: Vec::new(),
            maps: Maps::default(),
            start: monotonic(),
            started_at: SystemTime::now(),
            options,
            swept: Instant::now(),
            finished_sums: Sums::default(),
            mappings_left_out: 0,
            shadow: Shadow::new(options.shadow_every),
            new: Vec::new(),
            pending: Pending::default(),
            panics: options.panics.then(PanicProbes::default),
            not_followed: 0,
        };
        for (index, target) in (0..).zip(targets) {
            session.read(index, target)?;
        }
        session.begin()?;
        Ok(session)
    }

    /// Reads a target's code.
    fn read(&mut self, index: u32, target: &Arc<Target>) -> Result<()> {
        let mut process = TracedProcess::new(index, Arc::clone(target));
        process.exec_count = self.kernel.exec_count(index)?;
        let (map, mappings) = process
            .look(&mut self.modules, self.kernel.tables())
            .with_context(|| format!("cannot read the mappings of process {}", target.pid()))?;
        for module in map.modules().filter_map(|module| self.modules.get(module)) {
            self.gathered.symbolizer.open(&module.source);
            if let Some(facts) = &module.facts {
                // Reading a symbol table takes long: not while an exec may want our attention.
                let text = facts.executable.first();
                let middle = text.map_or(0, |text| text.svma.0 + text.memsz / 2);
                let middle = Svma(middle);
                self.gathered.symbolizer.warm_up(&module.source, middle);
            }
        }
        self.processes.push(process);
        let last = self.processes.len() - 1;
        let probed = self.panics.is_some().then(|| map.clone());
        self.install(last, map, mappings, false)?;
        let process = self.processes.get(last);
        if let (Some(panics), Some(map), Some(process)) = (&mut self.panics, probed, process) {
            panics.attach(process, &map, &self.modules, &mut self.kernel);
        }
        Ok(())
    }

    /// Lets the kernel side record: all processes, and only then what they fork, so that no
    /// place is given away that a target is to have.
    fn begin(&mut self) -> Result<()> {
        self.start = monotonic();
        for n in 0..self.processes.len() {
            if let Some(process) = self.processes.get_mut(n) {
                process.start = self.start;
            }
            self.tell(n, true)?;
        }
        if !self.options.launched {
            self.kernel.snapshot()?;
            self.receive();
            let snapshots = std::mem::take(&mut self.gathered.snapshots);
            self.early = InitialWaits::walk(snapshots, &self.kernel, &self.processes);
        }
        Ok(())
    }

    /// Whether any module of a target holds tokio.
    #[must_use]
    pub fn sees_tokio(&self) -> bool {
        self.modules.iter().any(|module| module.tokio.present)
    }

    /// Whether no process is left to record.
    #[must_use]
    pub fn all_ended(&mut self) -> bool {
        // Not short-circuited: each has its end noted.
        let alive = self.processes.iter_mut().filter(|p| !p.is_released());
        alive.filter_map(|p| (!p.has_ended()).then_some(())).count() == 0
            && self.gathered.forks.is_empty()
    }

    /// A descriptor that becomes readable when [`Session::tick`] should not wait, because an
    /// event of the kernel programs asks for attention.
    #[must_use]
    pub fn attention(&self) -> BorrowedFd<'_> {
        self.kernel.attention()
    }

    /// A descriptor that becomes readable when [`Session::hears_of_code`] is to be asked.
    ///
    /// # Errors
    /// Where descriptors are used up.
    pub fn mapping_news(&self) -> io::Result<OwnedFd> {
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

    /// Takes in what the kernel told of mappings; whether a target mapped code, so that
    /// [`Session::tick`] should not wait. Mostly it did not: the kernel tells of the threads and
    /// processes that begin and end anywhere, too.
    pub fn hears_of_code(&mut self) -> bool {
        self.receive_mappings();
        self.processes.iter().any(TracedProcess::has_new_code)
    }

    /// Takes in what has arrived, and follows the targets' mappings and children. To be called
    /// every [`TICK`].
    ///
    /// # Errors
    /// Where the kernel refuses to be read. A target that has ended is no error.
    pub fn tick(&mut self) -> Result<()> {
        // New mappings first: until the kernel side has them, it cannot walk through them.
        self.receive();
        self.follow_mappings()?;
        self.drain()?;
        self.release()?;
        if self.swept.elapsed() >= SWEEP {
            self.sweep()?;
        }
        Ok(())
    }

    /// Ends the recording and closes the books. `ended` says how the first target ended, if it
    /// did and that is known.
    ///
    /// # Errors
    /// Where the kernel refuses to be read.
    pub fn finish(mut self, ended: Option<String>) -> Result<Recording> {
        let mut moved = HashSet::new();
        let mut found = HashMap::new();
        if !self.all_ended() {
            found = self.look_into_open_waits()?;
            let snapshots = self.gathered.snapshots.iter();
            let gone = snapshots.filter(|snapshot| self.early.has_moved(snapshot));
            moved.extend(gone.map(|gone| (Pid(gone.header.tgid), Tid(gone.header.tid))));
        }
        let end = self.kernel.stop()?;
        // What arrived last may need a last look.
        self.receive();
        self.follow_mappings()?;
        self.drain()?;
        self.pending.give_up(&mut self.gathered, &mut self.new);
        self.drain_all(true)?;
        let ended_all = self.all_ended();
        if let (Some(ended), Some(first)) = (ended, self.processes.first_mut()) {
            first.facts.ended = Some(ended);
        }
        finish::recording(Closing {
            kernel: &self.kernel,
            modules: &self.modules,
            gathered: self.gathered,
            early: &self.early,
            sums: self.finished_sums,
            processes: &self.processes,
            ended_all,
            started_at: self.started_at,
            start: self.start,
            end,
            min_block: self.options.min_block,
            launched: self.options.launched,
            sampling: sampling(self.options),
            calls_measured: self.options.calls,
            panics: self.panics.map(|probes| probes.finish(&self.processes)),
            mappings_left_out: self.mappings_left_out,
            shadow: self.shadow.outcome(),
            found,
            moved,
            not_followed: self.not_followed,
        })
    }

    /// Looks what threads wait for now, but for those that are idle; and since when they wait, or
    /// none where that was before the recording and no switch of the thread was seen.
    fn look_into_open_waits(&mut self) -> Result<HashMap<Thread, (Option<Timestamp>, Found)>> {
        self.drain_all(true)?;
        self.gathered.snapshots.clear();
        self.kernel.snapshot()?;
        self.drain_all(true)?;
        let mut threads: HashMap<Tid, ThreadEntry> = HashMap::new();
        for thread in self.kernel.threads()? {
            threads.insert(Tid(thread.tid), thread);
        }
        let entry = |pid: Pid, tid: Tid| -> Option<&StackEntry> {
            let id = match threads.get(&tid).map(|thread| thread.stack) {
                None | Some(STACK_BEFORE) => self.early.stack((pid, tid)),
                Some(number) => self.gathered.stacks.by_number(number),
            };
            self.gathered.stacks.get(id?)
        };
        let waits = |snapshot: &SnapshotRecord| {
            let (pid, tid) = (Pid(snapshot.header.tgid), Tid(snapshot.header.tid));
            let still = threads.get(&tid).is_none_or(|thread| {
                thread.phase == PHASE_BLOCKED
                    && thread.since <= snapshot.time
                    && thread.wakeup < thread.since
            });
            let idle = entry(pid, tid).is_some_and(|stack| stack.verdict.state == State::Idle);
            snapshot.on_cpu == 0 && still && !idle
        };
        let mut snapshots = self.gathered.snapshots.clone();
        snapshots.retain(waits);
        let since = |tid: &Tid| threads.get(tid).map(|thread| Timestamp(thread.since));
        let mut all = HashMap::new();
        for process in &self.processes {
            let pid = process.pid;
            let own = |snapshot: &&SnapshotRecord| snapshot.header.tgid == pid.0;
            let own: Vec<SnapshotRecord> = snapshots.iter().filter(own).copied().collect();
            let Some(target) = process.target.as_ref().filter(|_| !own.is_empty()) else {
                continue;
            };
            let frames = |tid| entry(pid, tid).map_or(&[][..], |stack| stack.frames.as_slice());
            let found = open_waits::look(target, &own, frames).into_iter();
            all.extend(found.map(|(tid, found)| ((pid, tid), (since(&tid), found))));
        }
        Ok(all)
    }

    /// Takes the events out of the ring buffers; new stacks are kept back.
    fn receive(&mut self) {
        let Session {
            kernel,
            gathered,
            new,
            ..
        } = self;
        kernel.drain(|event| new.extend(gathered.take(event)));
        kernel.flush_log();
        for fork in std::mem::take(&mut self.gathered.forks) {
            self.adopt(&fork);
        }
        self.receive_mappings();
        for process in &mut self.processes {
            process.pin();
            process.exec |= self.gathered.exec_count.remove(&process.pid);
            process.unknown_code |= self.gathered.unmapped_seen.remove(&process.pid);
        }
    }

    fn receive_mappings(&mut self) {
        if let Some(mut news) = self.mapping_events.take() {
            let mut stale = Vec::new();
            news.drain(|event| stale.extend(self.mapped(&event)));
            self.mapping_events = Some(news);
            for n in stale {
                // Until its mappings have been read, its stacks are copied and not walked.
                if let Err(error) = self.tell_no_table(n) {
                    tracing::debug!("a mapping table stays: {error:#}");
                }
            }
        }
    }

    fn drain(&mut self) -> Result<()> {
        self.drain_all(false)
    }

    /// Takes the events in, and names and judges new stacks; those of processes that are still
    /// being loaded at the end only.
    fn drain_all(&mut self, at_the_end: bool) -> Result<()> {
        self.receive();
        let loading = self.processes.iter().any(TracedProcess::is_loading);
        let began = Instant::now();
        let Session {
            kernel,
            gathered,
            processes,
            maps,
            modules,
            early,
            new,
            pending,
            shadow,
            options,
            ..
        } = self;
        early.name(gathered, processes, maps, modules);
        for seen in std::mem::take(new) {
            match seen {
                Unnamed::Stack(seen) if seen.record.raw != 0 => pending.add(seen),
                seen => new.push(seen),
            }
        }
        pending.walk(gathered, kernel, processes, new);
        // A program that is being loaded has something more urgent to be asked, and what was asked
        // for names a moment ago need not be asked again now.
        let now = if at_the_end || !loading || new.len() > MAX_DEFERRED {
            new.len()
        } else {
            0
        };
        let mut later = new.split_off(now);
        for mut seen in std::mem::take(new) {
            if !at_the_end && began.elapsed() > NAMING {
                later.push(seen);
                continue;
            }
            if let Unnamed::Stack(seen) = &seen {
                shadow.keep(seen);
            }
            let stack = seen.stack_mut();
            let record = &mut stack.record;
            let pid = Pid(record.header.tgid);
            let (table_version, time) = (record.table_version, Timestamp(record.time));
            let sound = maps.sound(table_version, time, &stack.user);
            if sound < stack.user.len() {
                stack.user.truncate(sound);
                // What the kernel side cut off, it has counted.
                gathered.truncated += u64::from(record.walk == walk::COMPLETE);
                record.walk = walk::UNMAPPED;
            }
            // The last one of this id, as far as its memory is the one that was walked.
            let owner = processes.iter().rev().find(|process| process.pid == pid);
            let Some(process) = owner else {
                continue;
            };
            let (owner, map) = (process.owner(), maps.get(table_version));
            match seen {
                Unnamed::Stack(seen) => {
                    let policy = gathered.stack(&seen, owner, map, modules, &process.code);
                    if policy.policy != POLICY_RECORD {
                        kernel.set_policy(seen.record.stack, policy)?;
                    }
                }
                Unnamed::Sample(seen) => {
                    if let Some(sampling) = sampling(*options) {
                        gathered.sample(&seen, owner, map, modules, sampling);
                    }
                }
            }
        }
        *new = later;
        if new.is_empty() {
            shadow.compare(&mut gathered.raw_pieces, maps, modules);
        }
        if let Some(policy) = gathered.stacks.changed_policies() {
            for (stack, policy) in policy {
                kernel.set_policy(stack, policy)?;
            }
            kernel.forget_parks()?;
        }
        Ok(())
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
            .filter(|(key, _)| ended.contains(&(Pid(key.tgid), Tid(key.tid))))
            .collect();
        for (key, sums) in keys {
            self.kernel.forget(&key)?;
            // Without its books a sum has no thread.
            let most = if self.gathered.ended.has((Pid(key.tgid), Tid(key.tid))) {
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
