//! Loading programs one by one, and attaching them.

use super::{CALLS_TRACED, CPU_SAMPLE, Kernel, PAGE_FAULT, PANIC, SNAPSHOT, TRACEPOINTS};
use crate::units::{Nanos, Pid};
use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::uprobe::{UProbeAttachLocation, UProbeScope};
use aya::programs::{BtfTracePoint, PerfEvent, Program, ProgramInfo, UProbe};
use std::num::NonZeroU32;
use std::path::Path;

impl Kernel {
    /// Attaches every program. Nothing is recorded before [`Kernel::watch`]. `period` is the time
    /// between two samples of a CPU; without one there are none. `calls` is whether system calls
    /// are measured, for which those of all processes are slowed down.
    ///
    /// # Errors
    /// Where the verifier refuses a program or the kernel its attachment.
    pub fn attach(&mut self, period: Option<Nanos>, calls: bool) -> Result<()> {
        for name in TRACEPOINTS {
            self.attach_tracepoint(name)?;
        }
        if calls {
            for name in CALLS_TRACED {
                self.attach_tracepoint(name)?;
            }
        }
        if let Err(error) = self.attach_page_faults() {
            tracing::info!("page faults will have no address: {error:#}");
        }
        if let Some(period) = period {
            self.sample(period)?;
        }
        self.load_program(SNAPSHOT)
    }

    fn attach_tracepoint(&mut self, name: &str) -> Result<()> {
        self.load_program(name)?;
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

    fn attach_page_faults(&mut self) -> Result<()> {
        self.attach_tracepoint(PAGE_FAULT)
    }

    /// Starts a clock on each CPU. Its period is fixed: where the kernel steers towards a
    /// frequency instead, a sample stands for a time that nobody knows.
    fn sample(&mut self, period: Nanos) -> Result<()> {
        self.load_program(CPU_SAMPLE)?;
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
        match program(&mut self.ebpf, name)? {
            Program::BtfTracePoint(program) => program.load(name, &self.btf),
            Program::Iter(program) => program.load("task", &self.btf),
            Program::PerfEvent(program) => program.load(),
            Program::UProbe(program) => program.load(),
            _ => bail!("the eBPF object has another kind of program {name}"),
        }
        .with_context(|| format!("the kernel refused the program {name}"))
    }
}

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))
}
