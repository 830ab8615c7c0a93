//! Threads that waited already when the recording began: the kernel side saw no switch-out of
//! theirs, so the task iterator gives their registers and we walk their stacks ourselves.

use super::gather::Gathered;
use super::modules::{AddressMap, Modules};
use crate::bpf::Kernel;
use crate::model::StackId;
use crate::process::Target;
use crate::tokio_rt::Place;
use crate::units::{Addr, Tid};
use crate::unwind::{Regs, RemoteMemory, walk, walk_outcome};
use profiler_common::record::SnapshotRecord;
use profiler_common::row::{self, Mapping};
use std::collections::HashMap;

/// `task_struct.__state` of a thread that runs or wants to (`include/linux/sched.h`).
const TASK_RUNNING: u32 = 0;
/// The bit of one that is being woken.
const TASK_WAKING: u32 = 0x200;

/// What the threads were doing at the beginning.
#[derive(Debug, Default)]
pub(super) struct Early {
    stacks: HashMap<Tid, StackId>,
    /// Threads that were on a CPU.
    running: Vec<Tid>,
    /// How often each thread had switched.
    switches: HashMap<Tid, u64>,
    /// Threads that wanted one.
    runnable: Vec<Tid>,
    /// Walked and not yet named.
    walked: Vec<Walked>,
}

#[derive(Debug)]
struct Walked {
    tid: Tid,
    addresses: Vec<Addr>,
    outcome: u32,
    syscall: i64,
}

impl Early {
    /// The stack a thread waited with when the recording began.
    pub(super) fn stack(&self, tid: Tid) -> Option<StackId> {
        self.stacks.get(&tid).copied()
    }

    /// Whether the thread was on a CPU then.
    pub(super) fn was_running(&self, tid: Tid) -> bool {
        self.running.contains(&tid)
    }

    /// Whether the thread has switched since, by a later snapshot.
    pub(super) fn has_moved(&self, later: &SnapshotRecord) -> bool {
        let before = self.switches.get(&Tid(later.header.tid));
        before.is_none_or(|before| *before != later.switches)
    }

    /// The threads that wanted a CPU then and had none. The kernel side, which saw no switch-out
    /// of theirs, takes them for waiting.
    pub(super) fn runnable(&self) -> &[Tid] {
        &self.runnable
    }

    /// Walks the stacks of all threads in `snapshots` that have not moved since. Naming them
    /// takes longer, and can wait.
    pub(super) fn walk(
        snapshots: Vec<SnapshotRecord>,
        kernel: &Kernel,
        target: &Target,
        mappings: &[Mapping],
    ) -> Early {
        let mut early = Early::default();
        let mut memory = RemoteMemory::new(target.pid());
        let tables = kernel.tables_ref();
        for snapshot in snapshots {
            let tid = Tid(snapshot.header.tid);
            early.switches.insert(tid, snapshot.switches);
            if snapshot.on_cpu != 0 {
                early.running.push(tid);
                continue;
            }
            if snapshot.task_state == TASK_RUNNING || snapshot.task_state & TASK_WAKING != 0 {
                early.runnable.push(tid);
                continue;
            }
            if snapshot.ip == 0 {
                continue;
            }
            let regs = Regs {
                ip: Addr(snapshot.ip),
                sp: Addr(snapshot.sp),
                bp: Addr(snapshot.bp),
            };
            let mut addresses = Vec::new();
            let outcome = walk(
                regs,
                |pc| {
                    let after = mappings.partition_point(|mapping| mapping.begin <= pc.0);
                    let mapping = mappings.get(after.checked_sub(1)?)?;
                    (pc.0 < mapping.end).then(|| row::find(&tables, mapping, pc.0))
                },
                &mut memory,
                &mut addresses,
            );
            // A thread that has switched since may have changed the memory while we read it.
            if !kernel.has_switched(tid) {
                early.walked.push(Walked {
                    tid,
                    addresses,
                    outcome,
                    syscall: snapshot.syscall,
                });
            }
        }
        early
    }

    /// Names and judges what was walked.
    pub(super) fn name(&mut self, gathered: &mut Gathered, map: &AddressMap, modules: &Modules) {
        for walked in std::mem::take(&mut self.walked) {
            let frames = gathered.name(&walked.addresses, map, modules);
            let syscall = u32::try_from(walked.syscall).ok();
            let outcome = walk_outcome(walked.outcome);
            let id = gathered.add(frames, outcome, syscall, Place::Unknown);
            self.stacks.insert(walked.tid, id);
        }
    }
}
