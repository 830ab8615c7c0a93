//! Loading the programs, and attaching them.

use super::Programs;
use super::cuts::Cuts;
use super::thread_table::ThreadTable;
use crate::bpf::hash_table::HashTable;
use crate::bpf::mapped::Mapped;
use crate::bpf::memlock::MemlockRaised;
use crate::bpf::tables::Tables;
use crate::host::KernelBtf;
use crate::limits::Limits;
use crate::units::{Nanos, Pid};
use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeScope};
use aya::programs::{BtfTracePoint, PerfEvent, Program, ProgramInfo, UProbe};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use profiler_common::call::{self, CALLS};
use profiler_common::map::{FILTER_FREED, NO_PROCESS, Process};
use profiler_common::offsets::Offsets;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The compiled programs; `profiler/bpf/holdup.bpf.toml` says what they were built from.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/holdup.bpf.o");

/// Tracepoints in the order in which they are attached: births first, switches last.
pub(in crate::bpf) const TRACEPOINTS: [&str; 4] = [
    "sched_process_fork",
    "sched_process_exec",
    "sched_waking",
    "sched_switch",
];

/// A tracepoint that tells which page a thread waits for; not every kernel has it.
pub(in crate::bpf) const PAGE_FAULT: &str = "page_fault_user";
/// The helper that it cannot do without, since Linux 5.17: where it is missing, page faults have no
/// object.
pub(in crate::bpf) const PAGE_FAULT_HELPER: &str = "find_vma";

/// Tracepoints of all system calls, the return first: an entry is kept until its return is seen.
pub(in crate::bpf) const CALLS_TRACED: [&str; 2] = ["sys_exit", "sys_enter"];

/// The program of a panic's begin.
pub(in crate::bpf) const PANIC: &str = "panicked";

/// The program of the sampling clock.
pub(in crate::bpf) const CPU_SAMPLE: &str = "cpu_sample";

/// Arguments of `sched_switch` where `prev_state` is one of them (Linux 5.18).
const SCHED_SWITCH_ARGS: u32 = 4;

/// The program that reads every task.
pub(in crate::bpf) const SNAPSHOT: &str = "snapshot";

/// What a recording asks of the kernel programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Waits of at least this length are sent one by one.
    pub min_block: Nanos,
    /// One stack in this many is copied for the shadow check; 0 for none.
    pub shadow_every: u32,
    /// Maps to be made smaller.
    pub limits: Limits,
}

impl Programs {
    /// Loads the programs, without attaching them yet, for waits of at least `min_block`.
    ///
    /// # Errors
    /// As [`Programs::load_with`].
    pub fn load(types: &KernelBtf, min_block: Nanos) -> Result<Programs> {
        let options = LoadOptions {
            min_block,
            ..LoadOptions::default()
        };
        Programs::load_with(types, &options)
    }

    /// Loads the programs, without attaching them yet.
    ///
    /// # Errors
    /// Where the kernel's type information lacks a field, or the verifier refuses.
    pub fn load_with(types: &KernelBtf, options: &LoadOptions) -> Result<Programs> {
        let memlock = MemlockRaised::for_kernel(types);
        // Both read all of the kernel's types, aya's loader in any case.
        let (ebpf, btf) = std::thread::scope(|scope| {
            let btf = scope.spawn(Btf::from_sys_fs);
            let ebpf = load_object(types, options);
            (ebpf, btf.join())
        });
        let btf = btf.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (mut ebpf, btf) = (ebpf?, btf.context("cannot read the kernel's BTF")?);
        let tables = Tables::new(&mut ebpf, &options.limits)?;
        fill_call_objects(&mut ebpf)?;
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the eBPF object has no map {name}"))
        };
        let filter = Array::try_from(take("FILTER")?)?;
        let mut processes: Array<_, Process> = Array::try_from(take("PROCESSES")?)?;
        let nobody = Process {
            tgid: NO_PROCESS,
            ..bytemuck::Zeroable::zeroed()
        };
        processes.set(FILTER_FREED - 1, nobody, 0)?;
        let process_counters = Array::try_from(take("PROCESS_COUNTERS")?)?;
        let slot_owners = HashMap::try_from(take("SLOT_OWNERS")?)?;
        let park_cache_epoch = Array::try_from(take("PARK_CACHE_EPOCH")?)?;
        let counters = PerCpuArray::try_from(take("COUNTERS")?)?;
        let events = RingBuf::try_from(take("EVENTS")?)?;
        let threads = ThreadTable::new(Mapped::take(&mut ebpf, "THREAD_TABLE")?);
        let claims = HashTable::take(&mut ebpf, "CLAIMS")?;
        let stacks = HashTable::take(&mut ebpf, "STACKS")?;
        let objects = HashTable::take(&mut ebpf, "OBJECTS")?;
        let aggregates = HashTable::take(&mut ebpf, "AGGREGATES")?;
        let cuts = Cuts::new(&mut ebpf)?;
        let drivers = Mapped::take(&mut ebpf, "DRIVERS")?;
        let log = EbpfLogger::init(&mut ebpf)
            .map_err(|error| tracing::warn!("the kernel programs cannot log: {error}"))
            .ok();
        Ok(Programs {
            log,
            _memlock: memlock,
            ebpf,
            btf: Some(btf),
            tables,
            filter,
            processes,
            process_counters,
            slot_owners,
            threads,
            claims,
            stacks,
            objects,
            aggregates,
            cuts,
            drivers,
            forgotten: Vec::new(),
            unfinished_cuts: 0,
            park_cache_epoch,
            counters,
            events,
            panics_loaded: false,
        })
    }

    /// Attaches every program. Nothing is recorded before [`Programs::watch`]. `period` is the time
    /// between two samples of a CPU; without one there are none. `calls` is whether system calls
    /// are measured, for which those of all processes are slowed down.
    ///
    /// # Errors
    /// Where the verifier refuses a program or the kernel its attachment.
    pub fn attach(&mut self, period: Option<Nanos>, calls: bool) -> Result<()> {
        self.attach_beside(period, calls, |_| ())
    }

    /// As [`Programs::attach`]. The kernel verifies the programs side by side, which takes longer than
    /// everything else, so this thread does something else meanwhile.
    ///
    /// # Errors
    /// As [`Programs::attach`].
    pub fn attach_beside<T>(
        &mut self,
        period: Option<Nanos>,
        calls: bool,
        beside: impl FnOnce(&mut Tables) -> T,
    ) -> Result<T> {
        let calls = CALLS_TRACED.into_iter().filter(|_| calls);
        let tracepoints: Vec<&'static str> = TRACEPOINTS.into_iter().chain(calls).collect();
        let clock = period.map(|_| CPU_SAMPLE);
        let others = [PAGE_FAULT, SNAPSHOT].into_iter().chain(clock);
        // Taken from the end: the switches first, which take longest.
        let names = others.chain(tracepoints.iter().copied()).collect();
        let btf = self.btf.as_ref().context(NO_TYPES)?;
        let (mut loaded, done) =
            load_beside(&mut self.ebpf, btf, names, || beside(&mut self.tables));
        let mut is_loaded = |name| loaded.remove(name).unwrap_or(Ok(()));
        for name in tracepoints {
            is_loaded(name)?;
            self.attach_loaded(name)?;
        }
        let page_faults = is_loaded(PAGE_FAULT).and_then(|()| self.attach_loaded(PAGE_FAULT));
        if let Err(error) = page_faults {
            tracing::info!("page faults will have no address: {error:#}");
        }
        if let Some(period) = period {
            is_loaded(CPU_SAMPLE)?;
            self.start_clocks(period)?;
        }
        is_loaded(SNAPSHOT)?;
        self.btf = None;
        Ok(done)
    }

    /// Loads the task iterator and starts the sampling clocks, and no more: what verifies in some
    /// hundredths of a second. Switches are not seen.
    ///
    /// # Errors
    /// As [`Programs::attach`].
    pub fn attach_for_looks(&mut self, period: Option<Nanos>) -> Result<()> {
        self.load_program(SNAPSHOT)?;
        if let Some(period) = period {
            self.load_program(CPU_SAMPLE)?;
            self.start_clocks(period)?;
        }
        self.btf = None;
        Ok(())
    }

    /// Attaches a program to the tracepoint of its name.
    fn attach_loaded(&mut self, name: &str) -> Result<()> {
        let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?.try_into()?;
        program
            .attach()
            .with_context(|| format!("cannot attach to the tracepoint {name}"))?;
        Ok(())
    }

    /// Counts panics of a process: `offset` is where in the file at `path` the function begins that
    /// all of them call. The file must be one that can be opened from here.
    ///
    /// # Errors
    /// Where the verifier refuses the program, or the kernel the probe.
    pub fn probe_panics(&mut self, pid: Pid, path: &Path, offset: u64) -> Result<()> {
        if !self.panics_loaded {
            self.load_program(PANIC)?;
            self.panics_loaded = true;
        }
        let probe: &mut UProbe = program(&mut self.ebpf, PANIC)?.try_into()?;
        let pid = NonZeroU32::new(pid.0).context("no process has the id 0")?;
        let at = UProbeAttachLocation::AbsoluteOffset(offset);
        probe
            .attach(at, path, UProbeScope::OneProcess(pid))
            .with_context(|| format!("cannot probe {}", path.display()))?;
        Ok(())
    }

    /// Starts a clock on each CPU. Its period is fixed: where the kernel steers towards a
    /// frequency instead, a sample stands for a time that nobody knows.
    fn start_clocks(&mut self, period: Nanos) -> Result<()> {
        let cpus = aya::util::online_cpus()
            .map_err(|(path, error)| anyhow::Error::from(error).context(path))?;
        let program: &mut PerfEvent = program(&mut self.ebpf, CPU_SAMPLE)?.try_into()?;
        for cpu in cpus {
            program
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu },
                    SamplePolicy::Period(period.0),
                    false,
                )
                .with_context(|| format!("cannot start the sampling clock of CPU {cpu}"))?;
        }
        Ok(())
    }

    /// Lets the kernel verify one program, and returns what it then says of it.
    pub(in crate::bpf) fn verify(&mut self, name: &str) -> Result<ProgramInfo> {
        self.load_program(name)?;
        let info = match program(&mut self.ebpf, name)? {
            Program::BtfTracePoint(program) => program.info(),
            Program::Iter(program) => program.info(),
            Program::PerfEvent(program) => program.info(),
            Program::UProbe(program) => program.info(),
            _ => bail!("the eBPF object has another kind of program {name}"),
        };
        info.with_context(|| format!("cannot ask the kernel about the program {name}"))
    }

    fn load_program(&mut self, name: &str) -> Result<()> {
        let btf = self.btf.as_ref().context(NO_TYPES);
        load_one(name, program(&mut self.ebpf, name)?, btf)
    }
}

/// Something of each program, by its name.
type ByName<T> = std::collections::HashMap<&'static str, T>;

const NO_TYPES: &str = "all programs that need the kernel's types are loaded";

/// Has the kernel verify a program.
fn load_one(name: &str, program: &mut Program, btf: Result<&Btf>) -> Result<()> {
    match program {
        Program::BtfTracePoint(program) => program.load(name, btf?),
        Program::Iter(program) => program.load("task", btf?),
        Program::PerfEvent(program) => program.load(),
        Program::UProbe(program) => program.load(),
        _ => bail!("the eBPF object has another kind of program {name}"),
    }
    .with_context(|| format!("the kernel refused the program {name}"))
}

/// Has the kernel verify programs on threads of their own, one a CPU, and does something `beside` on this
/// one. What became of each program.
fn load_beside<T>(
    ebpf: &mut Ebpf,
    btf: &Btf,
    names: Vec<&'static str>,
    beside: impl FnOnce() -> T,
) -> (ByName<Result<()>>, T) {
    let mut programs: ByName<&mut Program> = ByName::new();
    for (name, program) in ebpf.programs_mut() {
        if let Some(name) = names.iter().find(|wanted| **wanted == name) {
            programs.insert(name, program);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(names.len());
    let left = Mutex::new((names, programs));
    let next = || {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let name = left.0.pop()?;
        Some((name, left.1.remove(name)))
    };
    let load = || {
        let mut loaded = Vec::new();
        while let Some((name, program)) = next() {
            let result = match program {
                Some(program) => load_one(name, program, Ok(btf)),
                None => Err(anyhow!("the eBPF object has no program {name}")),
            };
            loaded.push((name, result));
        }
        loaded
    };
    std::thread::scope(|scope| {
        let loading: Vec<_> = (0..threads).map(|_| scope.spawn(load)).collect();
        let done = beside();
        let loaded = loading.into_iter().flat_map(|thread| match thread.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        (loaded.collect(), done)
    })
}

/// Loads the object, with what the programs have to know of this kernel as constants.
fn load_object(types: &KernelBtf, options: &LoadOptions) -> Result<Ebpf> {
    let offset = |member: &str| {
        types
            .member_offset("task_struct", member)
            .with_context(|| format!("the kernel's BTF has no task_struct.{member}"))
    };
    let (pid, tgid, comm) = (offset("pid")?, offset("tgid")?, offset("comm")?);
    let (on_cpu, nvcsw) = (offset("on_cpu")?, offset("nvcsw")?);
    let (stack, fsbase) = (offset("stack")?, offset("thread.fsbase")?);
    let last_arrival = offset("sched_info.last_arrival").unwrap_or(0);
    let last_queued = offset("sched_info.last_queued").unwrap_or(0);
    let run_delay = offset("sched_info.run_delay").unwrap_or(0);
    let jobctl = offset("jobctl")?;
    let state = offset("__state").or_else(|_| offset("state"))?;
    // A field that is missing costs the names of some objects, and no more.
    let objects = Offsets::new(|strukt, member| {
        let found = types.member_offset(strukt, member);
        if found.is_none() {
            tracing::info!("the kernel's BTF has no {strukt}.{member}");
        }
        found
    });
    let has_task_pt_regs = u32::from(types.has_helper("task_pt_regs"));
    let has_current_task_btf = u32::from(types.has_helper("get_current_task_btf"));
    let has_prev_state =
        u32::from(types.tracepoint_args("sched_switch") >= Some(SCHED_SWITCH_ARGS));
    let mut loader = EbpfLoader::new();
    for (map, entries) in options.limits.maps() {
        loader.map_max_entries(map, entries);
    }
    loader
        // There are no relocations.
        .btf(None)
        .override_global("OFF_TASK_PID", &pid, true)
        .override_global("OFF_TASK_TGID", &tgid, true)
        .override_global("OFF_TASK_COMM", &comm, true)
        .override_global("OFF_TASK_STATE", &state, true)
        .override_global("OFF_TASK_JOBCTL", &jobctl, true)
        .override_global("OFF_TASK_ON_CPU", &on_cpu, true)
        .override_global("OFF_TASK_NVCSW", &nvcsw, true)
        .override_global("OFF_TASK_STACK", &stack, true)
        .override_global("OFF_TASK_FSBASE", &fsbase, true)
        .override_global("OFF_TASK_LAST_ARRIVAL", &last_arrival, true)
        .override_global("OBJECT_OFFSETS", &objects, true)
        .override_global("OFF_TASK_LAST_QUEUED", &last_queued, true)
        .override_global("OFF_TASK_RUN_DELAY", &run_delay, true)
        .override_global("KERNEL_STACK", &types.kernel_stack_size(), true)
        .override_global("HAS_TASK_PT_REGS", &has_task_pt_regs, true)
        .override_global("HAS_CURRENT_TASK_BTF", &has_current_task_btf, true)
        .override_global("HAS_PREV_STATE", &has_prev_state, true)
        .override_global("MIN_BLOCK_NS", &options.min_block.0, true)
        .override_global("SHADOW_EVERY", &options.shadow_every, true)
        .load(OBJECT)
        .context("cannot load the eBPF object")
}

/// Tells the programs what each system call waits for.
fn fill_call_objects(ebpf: &mut Ebpf) -> Result<()> {
    let calls = ebpf
        .map_mut("CALL_OBJECTS")
        .context("the eBPF object has no map CALL_OBJECTS")?;
    let mut calls: Array<_, u32> = Array::try_from(calls)?;
    for number in 0..CALLS as u32 {
        calls.set(number, call::object_of(number), 0)?;
    }
    Ok(())
}

/// A program of the object by its name.
pub(in crate::bpf) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))
}
