//! The walk in the kernel against framehop: the stacks that the kernel side took of waiting
//! threads, and framehop's of the same threads while they still wait, on the same registers and
//! the same memory.

use super::fixture::Variant;
use crate::unwind_support::{Framehop, loaded};
use holdup::bpf::{Programs, monotonic, process_entry};
use holdup::decode::{Activity, Event, OpenWait, Phase, Snapshot, StackNumber};
use holdup::host::KernelBtf;
use holdup::process::module::Module;
use holdup::units::{Addr, Nanos, Pid, Tid};
use holdup::unwind::{RemoteMemory, UnwindTable};
use profiler_common::map::Process;
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
    distinct: std::collections::BTreeSet<StackNumber>,
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

pub(crate) fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Runs the scenarios and compares all the while.
pub(crate) fn compare(variant: Variant) -> Result<Outcome, String> {
    let mut fixture = variant.start("scenarios")?;
    let pid = fixture.pid();
    let types = KernelBtf::load().map_err(text)?;
    let mut kernel = Programs::load(&types, Nanos(u64::MAX)).map_err(text)?;
    kernel.attach(None, false).map_err(text)?;
    watch(&mut kernel, pid, |_| {})?;
    let modules = loaded(pid);

    fixture.go()?;
    let framehop = Framehop::new(&modules);
    let mut outcome = Outcome::default();
    let mut stacks: HashMap<StackNumber, Vec<Addr>> = HashMap::new();
    let begun = Instant::now();
    while begun.elapsed() < FOR {
        round(&mut kernel, &framehop, pid, &mut stacks, &mut outcome)?;
    }
    fixture.truth()?;
    fixture.finish()?;
    Ok(outcome)
}

/// Begins to record a process, whose entry may be changed before; returns the entry.
pub(crate) fn watch(
    kernel: &mut Programs,
    pid: u32,
    change: impl FnOnce(&mut Process),
) -> Result<Process, String> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for module in &loaded(pid) {
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
    let mut process = process_entry(Pid(pid), table, 1, monotonic());
    change(&mut process);
    kernel.watch(0, process).map_err(text)?;
    Ok(process)
}

/// Waits of the process's threads whose stacks are known, by thread id.
fn waiting(programs: &Programs, pid: u32) -> Result<HashMap<u32, OpenWait>, String> {
    let mut waits = HashMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(text)? {
        let name = task.map_err(text)?.file_name();
        let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let thread = programs.thread(Tid(tid));
        if let Some(Phase::Waiting(wait)) = thread.map(|thread| thread.state.phase)
            && wait.stack.number().is_some()
        {
            waits.insert(tid, wait);
        }
    }
    Ok(waits)
}

fn round(
    kernel: &mut Programs,
    framehop: &Framehop,
    pid: u32,
    stacks: &mut HashMap<StackNumber, Vec<Addr>>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let before = waiting(kernel, pid)?;
    kernel.snapshot().map_err(text)?;
    let mut snapshots: Vec<Snapshot> = Vec::new();
    kernel.drain(|event| match event {
        Ok(Event::Stack(seen)) => {
            stacks.extend(seen.number.map(|number| (number, seen.user)));
        }
        Ok(Event::Snapshot(snapshot)) => snapshots.push(*snapshot),
        _ => {}
    });
    let walks: Vec<_> = snapshots
        .iter()
        .filter_map(|snapshot| {
            let tid = snapshot.thread.tid.0;
            match snapshot.activity {
                Activity::Waiting { regs, .. } if before.contains_key(&tid) => Some((tid, regs?)),
                _ => None,
            }
        })
        .map(|(tid, regs)| {
            let mut memory = RemoteMemory::new(Pid(pid));
            (tid, framehop.walk(regs, &mut memory))
        })
        .collect();
    let after = waiting(kernel, pid)?;
    for (tid, (theirs, end)) in walks {
        let (Some(was), Some(is)) = (before.get(&tid), after.get(&tid)) else {
            continue;
        };
        // Only a thread that did not run meanwhile has the memory that the kernel side saw.
        if was.since != is.since || was.stack != is.stack || is.woken.is_some() {
            continue;
        }
        let number = is.stack.number();
        let Some((number, ours)) = number.and_then(|n| Some((n, stacks.get(&n)?))) else {
            continue;
        };
        if end.is_err() && ours.len() > theirs.len() {
            outcome.given_up += 1;
            continue;
        }
        outcome.compared += 1;
        outcome.distinct.insert(number);
        if *ours != theirs {
            outcome
                .differences
                .push(format!("ours {ours:x?}, framehop's {theirs:x?} ({end:?})"));
        }
    }
    Ok(())
}
