//! The course of a recording.

mod close;
mod intake;
mod looked;
mod process_events;
mod resolve;
mod run;

use self::close::After;
use self::looked::Looked;
use super::bounds::Bounds;
use super::frames::Frames;
use super::initial_waits::InitialWaits;
use super::interval_buffer::IntervalBuffer;
use super::ledger::AtStart;
use super::lost::LossCounters;
use super::maps::Maps;
use super::modules::Modules;
use super::next_interval::NextInterval;
use super::objects::ObjectTable;
use super::panic_probes;
use super::pending::Pending;
use super::polls::PollCollector;
use super::processes::ProcessList;
use super::shadow::Shadow;
use super::stack_table::{StackBounds, StackTable};
use super::traced_process::{Program, TracedProcess};
use crate::bpf::{Counter, LoadOptions, MAX_PROCESSES, MappingEvents, Programs, monotonic};
use crate::counted::counted;
use crate::decode::{Activity, Event, RawPiece, Snapshot};
use crate::host::KernelBtf;
use crate::limits::Limits;
use crate::process::Target;
use crate::recording::{Header, Host, Interval, OpenWait, Sampling, Tables, ThreadId, Tool};
use crate::units::{Nanos, Pid, Svma, Tid, Timestamp};
use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The length of an interval where nobody asks for another one.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The kernel side's sums are taken out at least so often, so that they keep room.
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// What a recording is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The length of an interval of [`Collector::run`].
    pub interval: Duration,
    /// Waits of at least this length are recorded one by one.
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
    /// Tables that a test wants smaller than they are.
    pub limits: Limits,
}

/// A recording under way. Dropping it detaches from the kernel.
#[derive(Debug)]
pub struct Collector {
    options: Options,
    started_at: SystemTime,
    start: Timestamp,

    kernel: Programs,
    /// None where the kernel does not tell of mappings: then stacks that leave the known ones
    /// must.
    mapping_events: Option<MappingEvents>,
    processes: ProcessList,
    modules: Modules,
    maps: Maps,

    frames: Frames,
    stacks: StackTable,
    objects: ObjectTable,
    initial: InitialWaits,
    /// Stacks that have arrived and have no names yet.
    unnamed: Vec<intake::Unnamed>,
    /// Stacks that wait for mappings to be read.
    pending: Pending,
    shadow: Shadow,
    /// Pieces of raw copies of stacks that nobody has looked at yet.
    raw_pieces: Vec<RawPiece>,
    snapshots: Vec<Snapshot>,

    /// What has come in of the interval under way.
    interval: IntervalBuffer,
    next: NextInterval,
    losses: LossCounters,
    /// When the interval under way began…
    last_cut: Timestamp,
    /// …and by our clock.
    began: Instant,
    /// The waits that were open then.
    open: Vec<OpenWait>,
    /// When the kernel side's sums were taken out last.
    drained: Instant,
    parks_told: u64,
    /// How often threads had found no place in the kernel side's table when that was asked last.
    without_place: u64,

    /// All but stacks and objects, which are put in for whoever reads it.
    tables: Tables,
    /// Threads whose names are those that they have now, or had at their end.
    named: HashSet<ThreadId>,
    /// For events, to be used again.
    arrived: Vec<Event>,
}

impl Collector {
    /// Loads and attaches the programs, reads the targets' code, and begins to record.
    ///
    /// # Errors
    /// Where the kernel refuses, there are too many targets, or one cannot be read.
    pub fn attach(
        targets: &[Arc<Target>],
        types: &KernelBtf,
        options: Options,
    ) -> Result<Collector> {
        ensure!(
            targets.len() <= MAX_PROCESSES,
            "{} processes at once: {MAX_PROCESSES} can be recorded",
            targets.len()
        );
        let bounds = Bounds::new(&options.limits);
        let load = LoadOptions {
            min_block: options.min_block,
            shadow_every: options.shadow_every,
            limits: options.limits.clone(),
        };
        let mut kernel = Programs::load_with(types, &load)?;
        kernel.attach(options.sample_period, options.calls)?;
        // First of all, so that nothing mapped from now on goes unnoticed.
        let mapping_events = MappingEvents::open()
            .map_err(|error| tracing::info!("no mapping events: {error:#}"))
            .ok();
        let now = monotonic();
        let mut collector = Collector {
            started_at: SystemTime::now(),
            start: now,
            kernel,
            mapping_events,
            processes: ProcessList::default(),
            modules: Modules::default(),
            maps: Maps::default(),
            frames: Frames::default(),
            stacks: StackTable::new(StackBounds::new(&options.limits)),
            objects: ObjectTable::new(&options.limits),
            initial: InitialWaits::default(),
            unnamed: Vec::new(),
            pending: Pending::default(),
            shadow: Shadow::new(options.shadow_every),
            raw_pieces: Vec::new(),
            snapshots: Vec::new(),
            interval: IntervalBuffer::new(
                &bounds,
                PollCollector::new(options.long_poll, options.min_block),
            ),
            next: NextInterval::default(),
            losses: LossCounters::default(),
            last_cut: now,
            began: Instant::now(),
            open: Vec::new(),
            drained: Instant::now(),
            parks_told: 0,
            without_place: 0,
            tables: Tables::default(),
            named: HashSet::new(),
            arrived: Vec::new(),
            options,
        };
        for (index, target) in (0..).zip(targets) {
            collector.read(index, target)?;
        }
        collector.begin()?;
        Ok(collector)
    }

    /// Reads a target's code.
    fn read(&mut self, index: u32, target: &Arc<Target>) -> Result<()> {
        let id = self.processes.next().context("too many processes")?;
        let mut process = TracedProcess::new(id, index, Arc::clone(target));
        process.exec_count = self.kernel.exec_count(index)?;
        let (map, mappings) = process
            .look(&mut self.modules, self.kernel.tables())
            .with_context(|| format!("cannot read the mappings of process {}", target.pid()))?;
        let symbolizer = self.frames.symbolizer();
        for module in map.modules().filter_map(|module| self.modules.get(module)) {
            symbolizer.open(&module.source);
            if let Some(facts) = &module.facts {
                // Reading a symbol table takes long: not while an exec may want our attention.
                let text = facts.executable.first();
                let middle = text.map_or(0, |text| text.svma.0 + text.memsz / 2);
                symbolizer.warm_up(&module.source, Svma(middle));
            }
        }
        self.processes.push(process);
        let probed = self.options.panics.then(|| map.clone());
        self.install(id, map, mappings, Program::Same)?;
        if let (Some(map), Some(process)) = (probed, self.processes.get_mut(id)) {
            panic_probes::attach(process, &map, &self.modules, &mut self.kernel);
        }
        Ok(())
    }

    /// Lets the kernel side record: all processes, and only then what they fork, so that no
    /// place is given away that a target is to have.
    fn begin(&mut self) -> Result<()> {
        self.start = monotonic();
        self.last_cut = self.start;
        (self.began, self.drained) = (Instant::now(), Instant::now());
        self.interval.threads.begin(self.start);
        for process in self.processes.iter_mut() {
            process.start = self.start;
        }
        let all: Vec<_> = self.processes.living().map(|process| process.id).collect();
        for id in all {
            self.watch(id)?;
        }
        if self.options.launched {
            // The command is held, and that is no wait of its own.
            if let Some(command) = self.processes.as_slice().first() {
                let main = ThreadId {
                    process: command.id,
                    tid: Tid(command.pid.0),
                };
                self.interval.threads.found_at_start(main, AtStart::Held);
            }
            return Ok(());
        }
        self.kernel.snapshot()?;
        self.receive();
        let snapshots = std::mem::take(&mut self.snapshots);
        for snapshot in &snapshots {
            let doing = match snapshot.activity {
                Activity::Running => AtStart::Running,
                Activity::Runnable => AtStart::Runnable,
                Activity::Waiting { regs: Some(_), .. } => AtStart::Waiting,
                // It has no user stack, and is about to end.
                Activity::Waiting { regs: None, .. } => continue,
            };
            if let Some(thread) = self.processes.thread(snapshot.thread) {
                self.interval.threads.found_at_start(thread, doing);
            }
        }
        self.initial = InitialWaits::walk(snapshots, &self.kernel, &self.processes);
        self.losses.walked_at_start(self.initial.outcomes());
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
        let ended = self.processes.living_mut().map(TracedProcess::has_ended);
        ended.filter(|ended| !ended).count() == 0
    }

    /// By what, where and how the recording is made.
    #[must_use]
    pub fn header(&self) -> Header {
        Header {
            tool: Tool {
                name: "holdup".into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            host: host(),
            started_at: self
                .started_at
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64()),
            start: self.start,
            min_block: self.options.min_block,
            long_poll: self.options.long_poll,
            sampling: self.sampling(),
            calls_measured: self.options.calls,
            panics_counted: self.options.panics,
        }
    }

    fn sampling(&self) -> Option<Sampling> {
        Some(Sampling {
            period: self.options.sample_period?,
        })
    }

    /// Ends the interval under way, and begins the next one. What threads wait for is told by the
    /// kernel side's word only.
    ///
    /// # Errors
    /// Where the kernel refuses to be read.
    pub fn interval(&mut self) -> Result<Interval> {
        self.close(&Looked::default(), After::Goes)
    }

    /// As [`Collector::interval`], with a look into the target and into other processes for what
    /// threads wait for at its end, and who holds that. It takes up to half a second.
    ///
    /// # Errors
    /// As [`Collector::interval`].
    pub fn interval_with_holders(&mut self) -> Result<Interval> {
        let looked = self.look_into_open_waits()?;
        self.close(&looked, After::Goes)
    }

    /// Gives names to the kernel frames of all stacks so far. The first time takes a third of a
    /// second; without it they have none before the end of the recording.
    pub fn name_kernel_frames(&mut self) {
        self.stacks.name_kernel(&mut self.frames);
    }

    /// Hands what all intervals so far name by index to `read`.
    pub fn with_tables<R>(&mut self, read: impl FnOnce(&Tables) -> R) -> R {
        self.stacks.lend(&mut self.tables);
        self.objects.lend(&mut self.tables);
        let result = read(&self.tables);
        self.stacks.take_back(&mut self.tables);
        self.objects.take_back(&mut self.tables);
        result
    }

    /// Ends the recording: the last interval, with a look into what threads wait for, and all that
    /// the intervals name by index. `ended` says how the first target ended, if it did and that is
    /// known.
    ///
    /// # Errors
    /// Where the kernel refuses to be read.
    pub fn finish(mut self, ended: Option<String>) -> Result<(Header, Tables, Interval)> {
        let looked = if self.all_ended() {
            Looked::default()
        } else {
            self.look_into_open_waits().unwrap_or_else(|error| {
                tracing::warn!("what threads wait for is not known: {error:#}");
                Looked::default()
            })
        };
        if let Some(ended) = ended
            && let Some(first) = self.processes.iter_mut().next()
        {
            first.facts.ended = Some(ended);
        }
        let interval = self.close(&looked, After::Ends)?;
        // The last interval is whole: nothing from here on may cost the report.
        if let Err(error) = self.stop() {
            tracing::warn!("the kernel programs could not be stopped in order: {error:#}");
        }
        let by_code = self.modules.functions_by_code();
        if by_code > 0 {
            let functions = counted(by_code, "function", "functions");
            tracing::info!("{functions} without unwinding information, unwound by their code");
        }
        let own = self.processes.as_slice().iter();
        let own: Vec<Pid> = own.map(|process| process.pid).collect();
        self.objects.name_pipe_ends(&own);
        self.stacks.name_kernel(&mut self.frames);
        self.stacks.lend(&mut self.tables);
        self.objects.lend(&mut self.tables);
        Ok((self.header(), self.tables, interval))
    }

    /// Ends all work of the kernel side.
    fn stop(&mut self) -> Result<()> {
        self.kernel.stop()?;
        let counters = self.kernel.counters()?;
        for counter in Counter::ALL {
            tracing::debug!("{}: {}", counter.name(), counters.get(*counter));
        }
        Ok(())
    }
}

fn host() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    }
}
