//! Threads that waited already when the recording began: the kernel side saw no switch-out of
//! theirs, so the task iterator gives their registers and we walk their stacks ourselves.

use super::gather::Gathered;
use super::maps::Maps;
use super::modules::Modules;
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::recording::StackId;
use crate::runtime::tokio::{ThreadContext, TlsState};
use crate::units::{Addr, Pid, Tid};
use crate::unwind::{Regs, RemoteMemory, walk, walk_outcome};
use profiler_common::context::{self, Block, Context, Found, Memory, Place, WORDS, Words, base};
use profiler_common::record::SnapshotRecord;
use std::collections::{HashMap, HashSet};

/// `task_struct.__state` of a thread that runs or wants to (`include/linux/sched.h`).
const TASK_RUNNING: u32 = 0;
/// The bit of one that is being woken.
const TASK_WAKING: u32 = 0x200;

/// What the threads were doing at the beginning.
#[derive(Debug, Default)]
pub(super) struct InitialWaits {
    stacks: HashMap<(Pid, Tid), StackId>,
    /// Threads that were on a CPU.
    running: HashSet<(Pid, Tid)>,
    /// How often each thread had switched.
    switches: HashMap<(Pid, Tid), u64>,
    /// Threads that wanted one.
    runnable: HashSet<(Pid, Tid)>,
    /// Walked and not yet named.
    walked: Vec<Walked>,
}

#[derive(Debug)]
struct Walked {
    pid: Pid,
    tid: Tid,
    addresses: Vec<Addr>,
    outcome: u32,
    syscall: i64,
    args: [u64; 6],
    tls_state: TlsState,
}

impl InitialWaits {
    /// The stack a thread waited with when the recording began.
    pub(super) fn stack(&self, thread: (Pid, Tid)) -> Option<StackId> {
        self.stacks.get(&thread).copied()
    }

    /// Whether the thread was on a CPU then.
    pub(super) fn was_running(&self, thread: (Pid, Tid)) -> bool {
        self.running.contains(&thread)
    }

    /// Whether the thread has switched since, by a later snapshot.
    pub(super) fn has_moved(&self, later: &SnapshotRecord) -> bool {
        let thread = (Pid(later.header.tgid), Tid(later.header.tid));
        let before = self.switches.get(&thread);
        before.is_none_or(|before| *before != later.switches)
    }

    /// The threads that wanted a CPU then and had none. The kernel side, which saw no switch-out
    /// of theirs, takes them for waiting.
    pub(super) const fn runnable(&self) -> &HashSet<(Pid, Tid)> {
        &self.runnable
    }

    /// Walks the stacks of all threads in `snapshots` that have not moved since. Naming them
    /// takes longer, and can wait.
    pub(super) fn walk(
        snapshots: Vec<SnapshotRecord>,
        kernel: &Programs,
        processes: &[TracedProcess],
    ) -> InitialWaits {
        let mut early = InitialWaits::default();
        let mut memories: HashMap<Pid, RemoteMemory> = HashMap::new();
        let tables = kernel.tables_ref();
        for snapshot in snapshots {
            let (pid, tid) = (Pid(snapshot.header.tgid), Tid(snapshot.header.tid));
            early.switches.insert((pid, tid), snapshot.switches);
            if snapshot.on_cpu != 0 {
                early.running.insert((pid, tid));
                continue;
            }
            if snapshot.task_state == TASK_RUNNING || snapshot.task_state & TASK_WAKING != 0 {
                early.runnable.insert((pid, tid));
                continue;
            }
            let Some(process) = processes.iter().find(|process| process.pid == pid) else {
                continue;
            };
            let memory = memories
                .entry(pid)
                .or_insert_with(|| RemoteMemory::new(pid));
            if snapshot.ip == 0 {
                continue;
            }
            let regs = Regs {
                ip: Addr(snapshot.ip),
                sp: Addr(snapshot.sp),
                bp: Addr(snapshot.bp),
            };
            let mut addresses = Vec::new();
            let outcome = walk(regs, |pc| process.rule(&tables, pc), memory, &mut addresses);
            let tls_state = place(process, snapshot.fs, memory);
            // A thread that has switched since may have changed the memory while we read it.
            if !kernel.has_switched(tid) {
                early.walked.push(Walked {
                    pid,
                    tid,
                    addresses,
                    outcome,
                    syscall: snapshot.syscall,
                    args: snapshot.args,
                    tls_state,
                });
            }
        }
        early
    }

    /// Names and judges what was walked.
    pub(super) fn name(
        &mut self,
        gathered: &mut Gathered,
        processes: &[TracedProcess],
        maps: &Maps,
        modules: &Modules,
    ) {
        for walked in std::mem::take(&mut self.walked) {
            let pid = walked.pid;
            let Some(process) = processes.iter().find(|process| process.pid == pid) else {
                continue;
            };
            let map = maps.get(process.table_version);
            let frames = gathered.name(&walked.addresses, map, modules);
            let syscall = u32::try_from(walked.syscall).ok();
            let outcome = walk_outcome(walked.outcome);
            let call = syscall.map(|number| (number, Some(walked.args)));
            let (owner, tls_state) = (process.owner(), walked.tls_state);
            let id = gathered.stacks.add(owner, frames, outcome, call, tls_state);
            self.stacks.insert((pid, walked.tid), id);
        }
    }
}

/// What tokio's thread-local state says of a thread that waits, by its FS base.
fn place(process: &TracedProcess, fs: u64, memory: &RemoteMemory) -> TlsState {
    let found = process
        .contexts
        .places()
        .map(|place| at_place(fs, place, memory));
    found
        .reduce(context::heavier)
        .map_or(TlsState::Unknown, |found| ThreadContext::from(found).state)
}

/// By one copy of tokio. Where the state is in several variables (tokio 1.20), those have names,
/// and so have the frames.
fn at_place(fs: u64, place: &Place, memory: &RemoteMemory) -> Found {
    if place.base == base::VARIABLES {
        return Found::UNKNOWN;
    }
    let at = match context::locate(fs, place, memory) {
        Block::At(at) => at,
        Block::Untouched => return Found::UNTOUCHED,
        Block::Unreadable => return Found::UNKNOWN,
    };
    let mut words: Words = [0; WORDS];
    for (n, word) in words.iter_mut().enumerate().take(place.fields.words.into()) {
        let Some(read) = memory.word(at.wrapping_add(8 * n as u64)) else {
            return Found::UNKNOWN;
        };
        *word = read;
    }
    context::found(&Context::of(&words, &place.fields), memory)
}
