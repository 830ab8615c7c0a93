//! The course of a recording.

mod close;
mod dump;
mod full_pools;
mod intake;
mod join;
mod looked;
mod resolve;
mod run;

use self::close::After;
pub use self::dump::{Look, Seen};
use self::join::at_start;
use self::looked::Looked;
use super::bounds::Bounds;
use super::interval_buffer::IntervalBuffer;
use super::interval_clock::IntervalClock;
use super::ledger::AtStart;
use super::lost::LossCounters;
use super::next_interval::NextInterval;
use super::objects::ObjectTable;
use super::polls::PollCollector;
use super::stacks::StackCollector;
use super::targets::{TargetOptions, Targets};
use super::thread_names::ThreadNames;
use crate::bpf::{Counter, Counters, LoadOptions, MAX_PROCESSES, Programs, monotonic};
use crate::counted::counted;
use crate::decode::{Event, Snapshot};
use crate::host::KernelBtf;
use crate::limits::Limits;
use crate::process::{Selection, Target};
use crate::recording::{Header, Host, Interval, Sampling, Tables, ThreadId, Tool};
use crate::units::{Nanos, Pid, Tid};
use anyhow::{Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The length of an interval where nobody asks for another one.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What a recording is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The length of an interval of [`Collector::run`].
    pub interval: Duration,
    /// Waits of at least this length are recorded one by one.
    pub min_block: Nanos,
    /// CPU time between two samples of a thread on a CPU; none for no samples.
    pub sample_period: Option<Nanos>,
    /// Polls that take a CPU for this long are listed.
    pub long_poll: Nanos,
    /// Whether the target is held at its start: no thread of it waits for anything yet.
    pub launched: bool,
    /// Whether processes that the targets fork are recorded too.
    pub follow: bool,
    /// Processes that these mean are recorded too if they begin later, and the recording goes on when none is
    /// left for the moment.
    pub joining: Selection,
    /// One stack in this many is walked a second time, by framehop; 0 for none.
    pub shadow_every: u32,
    /// Whether time inside system calls is measured.
    pub calls: bool,
    /// Whether panics are counted.
    pub panics: bool,
    /// Tables that a test wants smaller than they are.
    pub limits: Limits,
}

impl Options {
    /// What the kernel programs are loaded with.
    fn load(&self) -> LoadOptions {
        LoadOptions {
            min_block: self.min_block,
            shadow_every: self.shadow_every,
            limits: self.limits.clone(),
        }
    }

    /// How threads on CPUs are sampled; none where they are not.
    const fn sampling(&self) -> Option<Sampling> {
        match self.sample_period {
            Some(period) => Some(Sampling { period }),
            None => None,
        }
    }
}

/// A recording under way. Dropping it detaches from the kernel.
#[derive(Debug)]
pub struct Collector {
    options: Options,
    started_at: SystemTime,
    kernel: Programs,
    targets: Targets,
    stacks: StackCollector,
    objects: ObjectTable,
    names: ThreadNames,
    /// What every thread was when that was asked last.
    snapshots: Vec<Snapshot>,
    /// What has come in of the interval under way.
    interval: IntervalBuffer,
    next: NextInterval,
    clock: IntervalClock,
    /// The kernel side's counters at the end of the last interval.
    counters: Counters,
    losses: LossCounters,
    /// All but stacks, objects and names of threads, which are put in for whoever reads it.
    tables: Tables,
    /// For events, to be used again.
    arrived: Vec<Event>,
    /// Whether kernel frames get their names with each interval of [`Collector::run`].
    names_kernel: bool,
    /// Whether somebody wants the next interval of [`Collector::run`] with a look.
    look_wanted: Arc<AtomicBool>,
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
        let kernel = Programs::load_with(types, &options.load())?;
        let (period, calls) = (options.sample_period, options.calls);
        let mut collector = Collector::of(kernel, targets, options)?;
        let Collector {
            kernel,
            targets: followed,
            stacks,
            ..
        } = &mut collector;
        // Most of what is to be read, while the kernel verifies the programs.
        kernel.attach_beside(period, calls, |tables| {
            for target in targets {
                followed.read_ahead(target, tables, stacks.symbolizer());
            }
        })?;
        collector.add(targets)?;
        collector.begin()?;
        Ok(collector)
    }

    /// A recording of nothing yet.
    fn of(kernel: Programs, targets: &[Arc<Target>], options: Options) -> Result<Collector> {
        ensure!(
            targets.len() <= MAX_PROCESSES,
            "{} processes at once: {MAX_PROCESSES} can be recorded",
            targets.len()
        );
        let bounds = Bounds::new(&options.limits);
        // Before their code is read.
        let follow = TargetOptions {
            follow: options.follow,
            panics: options.panics,
            apart: bounds.processes,
        };
        let followed = Targets::new(follow, options.joining.clone());
        Ok(Collector {
            started_at: SystemTime::now(),
            kernel,
            targets: followed,
            stacks: StackCollector::new(&options.limits, options.shadow_every),
            objects: ObjectTable::new(&options.limits),
            names: ThreadNames::default(),
            snapshots: Vec::new(),
            interval: IntervalBuffer::new(
                &bounds,
                PollCollector::new(options.long_poll, options.min_block),
            ),
            next: NextInterval::default(),
            clock: IntervalClock::begin(monotonic()),
            counters: Counters::default(),
            losses: LossCounters::default(),
            tables: Tables::default(),
            arrived: Vec::new(),
            names_kernel: false,
            look_wanted: Arc::default(),
            options,
        })
    }

    /// Reads the targets' code. Those that have ended since they were chosen are left out, if there are
    /// others.
    fn add(&mut self, targets: &[Arc<Target>]) -> Result<()> {
        let mut ended = None;
        for (index, target) in (0..).zip(targets) {
            let symbolizer = self.stacks.symbolizer();
            let kernel = &mut self.kernel;
            match self.targets.add(index, target, kernel, symbolizer) {
                // What could not be read of it says nothing more.
                Err(_) if target.ended() => {
                    tracing::warn!("process {} has ended, and is left out", target.pid());
                    ended = Some(target.pid());
                }
                added => added?,
            }
        }
        match ended {
            Some(pid) if self.targets.processes().as_slice().is_empty() => {
                bail!("process {pid} has ended")
            }
            _ => Ok(()),
        }
    }

    /// Lets the kernel side record: all processes, and only then what they fork, so that no
    /// place is given away that a target is to have.
    fn begin(&mut self) -> Result<()> {
        // Loading the kernel side and reading the targets' code took their time.
        let start = monotonic();
        self.started_at = SystemTime::now();
        self.clock = IntervalClock::begin(start);
        self.interval.threads.begin(start);
        self.targets.begin(&mut self.kernel, start)?;
        if self.options.launched {
            // The command is held, and that is no wait of its own.
            if let Some(command) = self.targets.processes().as_slice().first() {
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
            let thread = self.targets.thread(snapshot.thread);
            if let (Some(thread), Some(doing)) = (thread, at_start(snapshot)) {
                self.interval.threads.found_at_start(thread, doing);
            }
        }
        let processes = self.targets.processes();
        let outcomes = self.stacks.begin(snapshots, &self.kernel, processes);
        self.losses.walked_at_start(outcomes);
        Ok(())
    }

    /// Whether any module of a target holds tokio.
    #[must_use]
    pub fn sees_tokio(&self) -> bool {
        let mut modules = self.targets.modules().iter();
        modules.any(|module| module.tokio.present)
    }

    /// Whether no process is left to record.
    #[must_use]
    pub fn all_ended(&mut self) -> bool {
        self.targets.all_ended()
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
            start: self.clock.start(),
            min_block: self.options.min_block,
            long_poll: self.options.long_poll,
            sampling: self.options.sampling(),
            calls_measured: self.options.calls,
            panics_counted: self.options.panics,
        }
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
        self.stacks.name_kernel();
    }

    /// Whether [`Collector::run`] does so with each interval: for whoever keeps what it hands out, and
    /// may not see the end.
    pub fn name_kernel_frames_at_once(&mut self, at_once: bool) {
        self.names_kernel = at_once;
    }

    /// Has [`Collector::run`] end an interval by [`Collector::interval_with_holders`] where `wanted` is
    /// set as it ends: for a report that is asked for now and then. Whoever sets it resets it.
    pub fn look_where(&mut self, wanted: Arc<AtomicBool>) {
        self.look_wanted = wanted;
    }

    /// Hands what all intervals so far name by index to `read`.
    pub fn with_tables<R>(&mut self, read: impl FnOnce(&Tables) -> R) -> R {
        self.lend_tables();
        let result = read(&self.tables);
        self.stacks.take_back(&mut self.tables);
        self.objects.take_back(&mut self.tables);
        self.names.take_back(&mut self.tables);
        result
    }

    fn lend_tables(&mut self) {
        self.stacks.lend(&mut self.tables);
        self.objects.lend(&mut self.tables);
        self.names.lend(&mut self.tables);
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
            && let Some(first) = self.targets.processes_mut().iter_mut().next()
        {
            first.facts.ended = Some(ended);
        }
        let interval = self.close(&looked, After::Ends)?;
        // The last interval is whole: nothing from here on may cost the report.
        if let Err(error) = self.stop() {
            tracing::warn!("the kernel programs could not be stopped in order: {error:#}");
        }
        let by_code = self.targets.modules().functions_by_code();
        if by_code > 0 {
            let functions = counted(by_code, "function", "functions");
            tracing::info!("{functions} without unwinding information, unwound by their code");
        }
        let own = self.targets.processes().as_slice().iter();
        let own: Vec<Pid> = own.map(|process| process.pid).collect();
        self.objects.name_pipe_ends(&own);
        self.stacks.name_kernel();
        self.lend_tables();
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
