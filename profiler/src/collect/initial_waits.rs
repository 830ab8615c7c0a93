//! Threads that waited already when the recording began: the kernel side saw no switch-out of
//! theirs, so the task iterator gives their registers and we walk their stacks ourselves.

use super::frames::{CodeOf, Frames};
use super::maps::Maps;
use super::modules::Modules;
use super::processes::ProcessList;
use super::stack_table::{NewStack, StackTable};
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::decode::{Activity, Snapshot, StackKind, Syscall, ThreadKey, read_context};
use crate::recording::{StackId, ThreadId};
use crate::runtime::tokio::ThreadContext;
use crate::units::{Addr, Pid};
use crate::unwind::{Regs, RemoteMemory, Truncation, walk_counted, walk_outcome};
use std::collections::HashMap;

/// The stacks of threads that waited at the beginning.
#[derive(Debug, Default)]
pub(super) struct InitialWaits {
    stacks: HashMap<ThreadId, StackId>,
    /// How often each thread had switched.
    switches: HashMap<ThreadKey, u64>,
    /// How each walk ended.
    outcomes: Vec<Option<Truncation>>,
    /// Walked and not yet named.
    walked: Vec<Walked>,
}

/// A stack that has no names yet.
#[derive(Debug)]
struct Walked {
    thread: ThreadId,
    addresses: Vec<Addr>,
    truncated: Option<Truncation>,
    pointer_steps: u32,
    syscall: Option<Syscall>,
    context: ThreadContext,
}

impl InitialWaits {
    /// The stack a thread waited with when the recording began.
    pub(super) fn stack(&self, thread: ThreadId) -> Option<StackId> {
        self.stacks.get(&thread).copied()
    }

    /// Whether the thread has switched since, by a later snapshot.
    pub(super) fn has_moved(&self, later: &Snapshot) -> bool {
        let before = self.switches.get(&later.thread);
        before.is_none_or(|before| *before != later.switches)
    }

    /// How the walk of each stack ended: none where it is complete.
    pub(super) fn outcomes(&self) -> &[Option<Truncation>] {
        &self.outcomes
    }

    /// Walks the stacks of all threads in `snapshots` that have not moved since. Naming them
    /// takes longer, and can wait.
    pub(super) fn walk(
        snapshots: Vec<Snapshot>,
        programs: &Programs,
        processes: &ProcessList,
    ) -> InitialWaits {
        let mut initial = InitialWaits::default();
        let mut memories: HashMap<Pid, RemoteMemory> = HashMap::new();
        for snapshot in snapshots {
            let thread = snapshot.thread;
            initial.switches.insert(thread, snapshot.switches);
            let Activity::Waiting {
                regs: Some(regs),
                fs,
                syscall,
            } = snapshot.activity
            else {
                continue;
            };
            let id = processes.thread(thread);
            let Some((id, process)) = id.and_then(|id| Some((id, processes.get(id.process)?)))
            else {
                continue;
            };
            let memory = memories
                .entry(thread.pid)
                .or_insert_with(|| RemoteMemory::new(thread.pid));
            let (addresses, truncated, pointer_steps) =
                walk_remote(regs, programs, process, memory);
            let context = read_context(&process.contexts, fs, memory);
            // A thread that has switched since may have changed the memory while we read it.
            if !programs.has_switched(thread.tid) {
                initial.outcomes.push(truncated);
                initial.walked.push(Walked {
                    thread: id,
                    addresses,
                    truncated,
                    pointer_steps,
                    syscall,
                    context,
                });
            }
        }
        initial
    }

    /// Names, classifies and keeps what was walked.
    pub(super) fn name(
        &mut self,
        stacks: &mut StackTable,
        frames: &mut Frames,
        processes: &mut ProcessList,
        maps: &Maps,
        modules: &Modules,
    ) {
        for walked in std::mem::take(&mut self.walked) {
            let Some(process) = processes.get_mut(walked.thread.process) else {
                continue;
            };
            if walked.pointer_steps > 0 {
                process.name_made_code(&walked.addresses);
            }
            let process = &*process;
            let code = CodeOf {
                map: maps.get(process.table_version),
                modules,
                process: process.id,
                made: Some(&process.made),
                memory: None,
            };
            let new = NewStack {
                kind: StackKind::OffCpu,
                user: &walked.addresses,
                kernel: &[],
                truncated: walked.truncated,
                pointer_steps: walked.pointer_steps,
                syscall: walked.syscall,
                tls_state: walked.context.state,
                runtime: walked.context.runtime,
            };
            if let Some(id) = stacks.find_or_keep(&new, process.owner(), &code, frames) {
                self.stacks.insert(walked.thread, id);
            }
        }
    }
}

fn walk_remote(
    regs: Regs,
    programs: &Programs,
    process: &TracedProcess,
    memory: &mut RemoteMemory,
) -> (Vec<Addr>, Option<Truncation>, u32) {
    let tables = programs.tables_ref();
    let mut addresses = Vec::new();
    let rule = |pc| process.rule(&tables, pc);
    let (outcome, pointer_steps) = walk_counted(regs, rule, memory, &mut addresses);
    (addresses, walk_outcome(outcome), pointer_steps)
}
