//! Threads that waited already when the recording began: the kernel side saw no switch-out of
//! theirs, so the task iterator gives their registers and we walk their stacks ourselves.

use super::gather::Gathered;
use super::modules::{AddressMap, Modules};
use crate::bpf::Kernel;
use crate::model::StackId;
use crate::process::Target;
use crate::units::{Addr, Tid};
use crate::unwind::{Regs, RemoteMemory, walk, walk_outcome};
use profiler_common::row::{self, Mapping};
use std::collections::HashMap;

/// The stacks of threads that were off-CPU at the beginning.
#[derive(Debug, Default)]
pub(super) struct Early {
    stacks: HashMap<Tid, StackId>,
    /// Threads that were on a CPU.
    running: Vec<Tid>,
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

    /// Walks the stacks of all threads in the snapshot that have not moved since.
    pub(super) fn gather(
        gathered: &mut Gathered,
        kernel: &mut Kernel,
        target: &Target,
        map: &AddressMap,
        mappings: &[Mapping],
        modules: &Modules,
    ) -> Early {
        let mut early = Early::default();
        let mut memory = RemoteMemory::new(target.pid());
        for snapshot in std::mem::take(&mut gathered.snapshots) {
            let tid = Tid(snapshot.header.tid);
            if snapshot.on_cpu != 0 {
                early.running.push(tid);
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
            let tables = kernel.tables_ref();
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
            if kernel.has_switched(tid) {
                continue;
            }
            let frames = gathered.name(&addresses, map, modules);
            let syscall = u32::try_from(snapshot.syscall).ok();
            let id = gathered.add(frames, Vec::new(), walk_outcome(outcome), syscall);
            early.stacks.insert(tid, id);
        }
        early
    }
}
