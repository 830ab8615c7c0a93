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
use crate::recording::{ProcessId, StackId, ThreadId};
use crate::runtime::tokio::ThreadContext;
use crate::runtime::{Queued, StoppedBy};
use crate::units::{Addr, Pid};
use crate::unwind::{Regs, RemoteMemory, Truncation, walk_counted, walk_outcome};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long all walks may take together: a target may serve each page of its threads' stacks as
/// slowly as it likes. Until the half is over, no process has more than its share of it.
///
/// The threads that began first come first: workers begin before what they start.
const LIMIT: Duration = Duration::from_millis(700);

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
    key: ThreadKey,
    addresses: Vec<Addr>,
    truncated: Option<Truncation>,
    pointer_steps: u32,
    syscall: Option<Syscall>,
    stopped: Option<StoppedBy>,
    context: ThreadContext,
    /// What waits for it, where it is a worker in a poll.
    queued: Option<Queued>,
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

    /// Walks more threads, whose stacks replace those that they had. How each walk ended.
    pub(super) fn walk_more(
        &mut self,
        snapshots: Vec<Snapshot>,
        programs: &Programs,
        processes: &ProcessList,
    ) -> Vec<Option<Truncation>> {
        let more = InitialWaits::walk(snapshots, programs, processes);
        self.switches.extend(more.switches);
        self.walked.extend(more.walked);
        more.outcomes
    }

    /// Forgets the stacks without names of threads that have switched since they were walked, by a
    /// later snapshot: they may be of two moments.
    pub(super) fn forget_moved(&mut self, later: &[Snapshot]) {
        let now: HashMap<ThreadKey, u64> = later
            .iter()
            .map(|snapshot| (snapshot.thread, snapshot.switches))
            .collect();
        let switches = &self.switches;
        self.walked
            .retain(|walked| now.get(&walked.key) == switches.get(&walked.key));
    }

    /// The threads that were walked and whose stacks have no names yet, each with the id of the
    /// task that was being polled, or 0.
    pub(super) fn unnamed(&self) -> impl Iterator<Item = (ThreadId, u64)> {
        let walked = self.walked.iter();
        walked.map(|walked| (walked.thread, walked.context.task_id))
    }

    /// What waits for workers among them that are in a poll.
    pub(super) fn queued(&self) -> impl Iterator<Item = (ThreadId, Queued)> {
        let walked = self.walked.iter();
        walked.filter_map(|walked| Some((walked.thread, walked.queued?)))
    }

    /// The stacks without names that were walked by frame pointers: whose they are, and their addresses.
    pub(super) fn by_pointers(&self) -> impl Iterator<Item = (ProcessId, &[Addr])> {
        let walked = self.walked.iter().filter(|walked| walked.pointer_steps > 0);
        walked.map(|walked| (walked.thread.process, walked.addresses.as_slice()))
    }

    /// How the walk of each stack ended: none where it is complete.
    pub(super) fn outcomes(&self) -> &[Option<Truncation>] {
        &self.outcomes
    }

    /// Walks the stacks of all threads in `snapshots` that have not moved since, for [`LIMIT`] at
    /// most. Naming them takes longer, and can wait.
    pub(super) fn walk(
        mut snapshots: Vec<Snapshot>,
        programs: &Programs,
        processes: &ProcessList,
    ) -> InitialWaits {
        snapshots.sort_by_key(|snapshot| snapshot.thread.tid);
        let mut initial = InitialWaits::default();
        let mut memories: HashMap<Pid, (RemoteMemory, Duration)> = HashMap::new();
        let (begun, mut later) = (Instant::now(), Vec::new());
        let pids: HashSet<Pid> = snapshots.iter().map(|one| one.thread.pid).collect();
        let share = LIMIT / 2 / u32::try_from(pids.len()).unwrap_or(u32::MAX).max(1);
        for snapshot in snapshots {
            let thread = snapshot.thread;
            initial.switches.insert(thread, snapshot.switches);
            let new = || (memory_of(thread.pid, processes), Duration::ZERO);
            let (memory, spent) = memories.entry(thread.pid).or_insert_with(new);
            if *spent > share {
                later.push(snapshot);
                continue;
            }
            let before = Instant::now();
            initial.walk_one(&snapshot, programs, processes, memory);
            *spent += before.elapsed();
        }
        for snapshot in later {
            if begun.elapsed() > LIMIT {
                initial.outcomes.push(Some(Truncation::Unreadable));
            } else if let Some((memory, _)) = memories.get_mut(&snapshot.thread.pid) {
                initial.walk_one(&snapshot, programs, processes, memory);
            }
        }
        initial
    }

    fn walk_one(
        &mut self,
        snapshot: &Snapshot,
        programs: &Programs,
        processes: &ProcessList,
        memory: &mut RemoteMemory,
    ) {
        let thread = snapshot.thread;
        let Activity::Waiting {
            regs: Some(regs),
            fs,
            syscall,
            stopped,
        } = snapshot.activity
        else {
            return;
        };
        let id = processes.thread(thread);
        let Some((id, process)) = id.and_then(|id| Some((id, processes.get(id.process)?))) else {
            return;
        };
        let (addresses, truncated, pointer_steps) = walk_remote(regs, programs, process, memory);
        let (context, queued) = read_context(&process.contexts, fs, memory);
        // A thread that has switched since may have changed the memory while we read it.
        if !programs.has_switched(thread.tid) {
            self.outcomes.push(truncated);
            self.walked.push(Walked {
                thread: id,
                key: thread,
                addresses,
                truncated,
                pointer_steps,
                syscall,
                stopped,
                context,
                queued,
            });
        }
    }

    /// Names, classifies and keeps what was walked.
    pub(super) fn name(
        &mut self,
        stacks: &mut StackTable,
        frames: &mut Frames,
        processes: &ProcessList,
        maps: &Maps,
        modules: &Modules,
    ) {
        for walked in std::mem::take(&mut self.walked) {
            let Some(process) = processes.get(walked.thread.process) else {
                continue;
            };
            let code = CodeOf {
                map: maps.get(process.table_version),
                modules,
                process: process.id,
                made: Some(&process.made),
                memory: Some(&process.code),
            };
            let new = NewStack {
                kind: walked.stopped.map_or(StackKind::OffCpu, StackKind::Stopped),
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

/// The memory of a process, also where its main thread has ended.
pub(super) fn memory_of(pid: Pid, processes: &ProcessList) -> RemoteMemory {
    let process = processes.by_pid(pid);
    let process = process.and_then(|id| processes.get(id));
    match process.and_then(|process| process.target.as_ref()) {
        Some(target) => RemoteMemory::of(target.proc_dir()),
        None => RemoteMemory::new(pid),
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
