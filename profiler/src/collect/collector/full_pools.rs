//! Blocking pools that have no thread to spare just now.

use super::Collector;
use crate::decode::{Activity, Snapshot, ThreadEntry};
use crate::process::Target;
use crate::recording::{ProcessId, ThreadId};
use crate::runtime::tokio::{FullPool, RuntimeHandle, closures_in_line};
use crate::runtime::{Flavor, Role, State};
use std::collections::{BTreeMap, HashMap};

/// Runtimes that are asked at most.
const MAX_ASKED: usize = 64;

/// The threads of a pool.
#[derive(Clone, Copy, Debug, Default)]
struct Threads {
    /// Those that run a scheduler: tokio counts them in.
    workers: u64,
    /// Those that wait in closures.
    busy: u64,
    /// Those that wait for one.
    idle: u64,
}

impl Collector {
    /// Notes of each process which pools are full, and how many closures wait in line.
    pub(super) fn look_into_pools(
        &mut self,
        snapshots: &[Snapshot],
        entries: &HashMap<ThreadId, ThreadEntry>,
    ) {
        let mut pools: BTreeMap<(ProcessId, RuntimeHandle), Threads> = BTreeMap::new();
        // Of these it is not known what they are to which runtime.
        let mut others: HashMap<ProcessId, u64> = HashMap::new();
        for snapshot in snapshots {
            let Some(thread) = self.targets.thread(snapshot.thread) else {
                continue;
            };
            let stack = match snapshot.activity {
                Activity::Waiting { .. } => self.stack_now(thread, entries.get(&thread)),
                Activity::Running | Activity::Runnable => None,
            };
            let Some(stack) = stack.and_then(|id| self.stacks.table().get(id)) else {
                *others.entry(thread.process).or_default() += 1;
                continue;
            };
            let Some(runtime) = stack.runtime else {
                continue;
            };
            let pool = pools.entry((thread.process, runtime)).or_default();
            match (stack.class.role, stack.class.state) {
                (Role::Worker(Flavor::MultiThread), _) => pool.workers += 1,
                (Role::PoolThread, State::Idle) => pool.idle += 1,
                (Role::PoolThread, _) => pool.busy += 1,
                _ => {}
            }
        }
        pools.retain(|_, pool| pool.busy > 0 && pool.idle == 0);
        let mut found: HashMap<ProcessId, Vec<FullPool>> = HashMap::new();
        for ((process, runtime), pool) in pools.into_iter().take(MAX_ASKED) {
            let more = others.get(&process).copied().unwrap_or_default();
            let of = self.targets.processes().get(process);
            let target = of.and_then(|process| process.target.as_deref());
            if let Some(full) = target.and_then(|target| ask(target, runtime, pool, more)) {
                found.entry(process).or_default().push(full);
            }
        }
        for process in self.targets.processes_mut().iter_mut() {
            process.facts.tokio.full_pools = found.remove(&process.id).unwrap_or_default();
        }
    }
}

/// By tokio's own numbers; `more` threads may belong to the pool.
fn ask(target: &Target, runtime: RuntimeHandle, pool: Threads, more: u64) -> Option<FullPool> {
    let known = pool.workers + pool.busy;
    let queued = closures_in_line(runtime.0, &(known..=known + more), |at, words| {
        let bytes = bytemuck::cast_slice_mut(words);
        target.read_memory(at, bytes).is_ok()
    })?;
    let threads = u32::try_from(pool.busy).unwrap_or(u32::MAX);
    Some(FullPool { threads, queued })
}
