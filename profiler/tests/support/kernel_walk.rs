//! The walk in the kernel against framehop: the stacks that the kernel side took of waiting
//! threads, and framehop's of the same threads while they still wait, on the same registers and
//! the same memory.

use super::fixture::Variant;
use crate::unwind_support::{Framehop, loaded};
use holdup::bpf::{Programs, monotonic, process_entry};
use holdup::decode::Event;
use holdup::host::KernelBtf;
use holdup::process::module::Module;
use holdup::runtime::tokio::ContextsOfProcess;
use holdup::units::{Addr, Nanos, Pid, Tid};
use holdup::unwind::{Regs, RemoteMemory, UnwindTable};
use profiler_common::map::{PHASE_BLOCKED, Thread};
use profiler_common::record::{STACK_BEFORE, SnapshotRecord};
use profiler_common::row::Mapping;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long stacks are compared; the scenarios take about three seconds.
const FOR: Duration = Duration::from_secs(4);
/// Comparisons without which the trial has shown nothing. A loaded machine makes some hundreds.
const ENOUGH: usize = 200;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Stacks compared.
    compared: usize,
    /// Distinct ones among them.
    distinct: std::collections::BTreeSet<u64>,
    /// Stacks that framehop could not finish, at a place without unwinding information.
    given_up: usize,
    differences: Vec<String>,
}

impl Outcome {
    pub(crate) fn complaints(self) -> Vec<String> {
        println!(
            "{} stacks compared with framehop's ({} distinct), {} more that it gave up, {} differ",
            self.compared,
            self.distinct.len(),
            self.given_up,
            self.differences.len()
        );
        let mut complaints = self.differences;
        if self.compared < ENOUGH {
            complaints.push(format!("only {} stacks were compared", self.compared));
        }
        // The place right behind a vfork's system call is the only one known.
        if self.given_up * 20 > self.compared {
            complaints.push(format!("framehop gave up {} stacks", self.given_up));
        }
        complaints
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Runs the scenarios and compares all the while.
pub(crate) fn compare(variant: Variant) -> Result<Outcome, String> {
    let mut fixture = variant.start("scenarios")?;
    let pid = fixture.pid();
    let types = KernelBtf::load().map_err(text)?;
    let mut kernel = Programs::load(&types, Nanos(u64::MAX)).map_err(text)?;
    kernel.attach(None, false).map_err(text)?;
    let modules = loaded(pid);
    let mut mappings: Vec<Mapping> = Vec::new();
    for module in &modules {
        let table = UnwindTable::from_elf(&module.image).map_err(text)?;
        let facts = Module::from_elf(&module.image).map_err(text)?;
        let bias = facts
            .bias_for(Addr(module.begin), module.offset)
            .ok_or("no bias")?;
        let span = kernel
            .tables()
            .add(&table.rows, &table.index)
            .map_err(text)?;
        let (begin, end) = (Addr(module.begin), Addr(module.end));
        mappings.push(table.mapping(begin, end, bias, span.rows, span.index));
    }
    mappings.sort_by_key(|mapping| mapping.begin);
    let table = kernel.tables().install(&mappings).map_err(text)?;
    kernel
        .watch(
            0,
            process_entry(
                Pid(pid),
                table,
                1,
                monotonic(),
                &ContextsOfProcess::default(),
            ),
        )
        .map_err(text)?;

    fixture.go()?;
    let framehop = Framehop::new(&modules);
    let mut outcome = Outcome::default();
    let mut stacks: HashMap<u64, Vec<u64>> = HashMap::new();
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        round(&mut kernel, &framehop, pid, &mut stacks, &mut outcome)?;
    }
    fixture.truth()?;
    fixture.finish()?;
    Ok(outcome)
}

/// Waiting threads of the process by id.
fn waiting(kernel: &Programs, pid: u32) -> Result<HashMap<u32, Thread>, String> {
    let mut threads = HashMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(text)? {
        let name = task.map_err(text)?.file_name();
        let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let thread = kernel.thread(Tid(tid)).map_err(text)?;
        threads.extend(
            thread
                .filter(|thread| thread.phase == PHASE_BLOCKED && thread.stack > STACK_BEFORE)
                .map(|thread| (tid, thread)),
        );
    }
    Ok(threads)
}

fn round(
    kernel: &mut Programs,
    framehop: &Framehop,
    pid: u32,
    stacks: &mut HashMap<u64, Vec<u64>>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let before = waiting(kernel, pid)?;
    kernel.snapshot().map_err(text)?;
    let mut snapshots: Vec<SnapshotRecord> = Vec::new();
    kernel.drain(|event| match event {
        Ok(Event::Stack(seen)) => {
            stacks.insert(seen.record.stack, seen.user);
        }
        Ok(Event::Snapshot(snapshot)) => snapshots.push(*snapshot),
        _ => {}
    });
    let walks: Vec<_> = snapshots
        .iter()
        .filter(|snapshot| snapshot.on_cpu == 0 && before.contains_key(&snapshot.header.tid))
        .map(|snapshot| {
            let regs = Regs {
                ip: Addr(snapshot.ip),
                sp: Addr(snapshot.sp),
                bp: Addr(snapshot.bp),
            };
            let mut memory = RemoteMemory::new(Pid(pid));
            (snapshot.header.tid, framehop.walk(regs, &mut memory))
        })
        .collect();
    let after = waiting(kernel, pid)?;
    for (tid, (theirs, end)) in walks {
        let (Some(was), Some(is)) = (before.get(&tid), after.get(&tid)) else {
            continue;
        };
        // Only a thread that did not run meanwhile has the memory that the kernel side saw.
        if was.since != is.since || was.stack != is.stack || is.wakeup != 0 {
            continue;
        }
        let Some(ours) = stacks.get(&is.stack) else {
            continue;
        };
        if end.is_err() && ours.len() > theirs.len() {
            outcome.given_up += 1;
            continue;
        }
        outcome.compared += 1;
        outcome.distinct.insert(is.stack);
        let theirs: Vec<u64> = theirs.into_iter().map(|addr| addr.0).collect();
        if *ours != theirs {
            outcome
                .differences
                .push(format!("ours {ours:x?}, framehop's {theirs:x?} ({end:?})"));
        }
    }
    Ok(())
}
