//! A look at what threads wait for just now.

use super::Collector;
use crate::collect::initial_waits::memory_of;
use crate::collect::lock_holders::WaitingStack;
use crate::collect::open_waits::{self, Found, InSyscall, WaitsOf};
use crate::collect::stacks::Naming;
use crate::decode::{Activity, OpenWait, Phase, Snapshot, ThreadEntry, WaitStack, read_context};
use crate::recording::{ProcessId, Stack, StackId, ThreadId};
use crate::runtime::{Queued, Role, State};
use crate::units::Timestamp;
use crate::unwind::RemoteMemory;
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Threads that have switched since the recording began.
    pub(super) moved: HashSet<ThreadId>,
    /// By thread what it waits for, and since when it does; none where that was before the
    /// recording and no switch of the thread was seen.
    found: HashMap<ThreadId, (Option<Timestamp>, Found)>,
    /// By blocked worker what waits for it, and since when it is blocked; none as above.
    queued: HashMap<ThreadId, (Option<Timestamp>, Queued)>,
}

/// Workers that are asked at most what waits for them.
const MAX_ASKED: usize = 256;

impl Looked {
    /// What was found of a wait: a thread that has not moved since the look is in the same one.
    pub(super) fn found(&self, thread: ThreadId, wait: &OpenWait) -> Option<&Found> {
        let (began, found) = self.found.get(&thread)?;
        is_same(*began, wait).then_some(found)
    }

    /// What waited for a worker in this wait, if that was looked at.
    pub(super) fn queued(&self, thread: ThreadId, wait: &OpenWait) -> Option<Queued> {
        let (began, queued) = self.queued.get(&thread)?;
        is_same(*began, wait).then_some(*queued)
    }
}

/// Whether a wait is the one that was looked at.
fn is_same(began: Option<Timestamp>, wait: &OpenWait) -> bool {
    match began {
        Some(began) => began == wait.since,
        None => wait.stack == WaitStack::BeforeRecording,
    }
}

impl Collector {
    /// Looks what threads wait for now, but for those that are idle.
    pub(super) fn look_into_open_waits(&mut self) -> Result<Looked> {
        self.snapshots.clear();
        self.kernel.snapshot()?;
        self.receive();
        self.name_new(Naming::All)?;
        let moved = self.moved();
        let mut entries: HashMap<ThreadId, ThreadEntry> = HashMap::new();
        for entry in self.kernel.live_threads() {
            if let Some(thread) = self.targets.thread(entry.thread) {
                entries.insert(thread, entry);
            }
        }
        let snapshots = std::mem::take(&mut self.snapshots);
        let found = self.found_of(&snapshots, &entries);
        let queued = self.queued_of(&snapshots, &entries);
        self.look_into_pools(&snapshots, &entries);
        Ok(Looked {
            moved,
            found,
            queued,
        })
    }

    /// What waits for workers that are blocked now.
    fn queued_of(
        &mut self,
        snapshots: &[Snapshot],
        entries: &HashMap<ThreadId, ThreadEntry>,
    ) -> HashMap<ThreadId, (Option<Timestamp>, Queued)> {
        let mut found = HashMap::new();
        let mut memories: HashMap<ProcessId, RemoteMemory> = HashMap::new();
        for snapshot in snapshots {
            let Activity::Waiting { fs, .. } = snapshot.activity else {
                continue;
            };
            let Some(thread) = self.targets.thread(snapshot.thread) else {
                continue;
            };
            let entry = entries.get(&thread);
            let stack = self.stack_now(thread, entry);
            let stack = stack.and_then(|id| self.stacks.table().get(id));
            let is_worker = |stack: &Stack| {
                stack.class.state == State::Blocked && matches!(stack.class.role, Role::Worker(_))
            };
            if !stack.is_some_and(is_worker) || found.len() >= MAX_ASKED {
                continue;
            }
            let Some(process) = self.targets.processes().get(thread.process) else {
                continue;
            };
            let memory = memories
                .entry(thread.process)
                .or_insert_with(|| memory_of(snapshot.thread.pid, self.targets.processes()));
            if let (_, Some(queued)) = read_context(&process.contexts, fs, memory) {
                found.insert(thread, (began(entry), queued));
            }
        }
        found
    }

    /// What threads wait for, and who holds that: by thread, and since when it waits where its
    /// switch was seen.
    pub(super) fn found_of(
        &mut self,
        snapshots: &[Snapshot],
        entries: &HashMap<ThreadId, ThreadEntry>,
    ) -> HashMap<ThreadId, (Option<Timestamp>, Found)> {
        // The first targets first: they may take all of the time.
        let mut waits: BTreeMap<ProcessId, (Vec<InSyscall>, Vec<WaitingStack>)> = BTreeMap::new();
        let mut stacks: HashMap<ThreadId, StackId> = HashMap::new();
        let mut running: HashSet<ProcessId> = HashSet::new();
        for snapshot in snapshots {
            let Some(thread) = self.targets.thread(snapshot.thread) else {
                continue;
            };
            if !matches!(snapshot.activity, Activity::Waiting { .. }) {
                running.insert(thread.process);
            }
            let entry = entries.get(&thread);
            let Some(wait) = self.waits_in(thread, entry, snapshot) else {
                continue;
            };
            if let Some(stack) = self.stack_now(thread, entry) {
                stacks.insert(thread, stack);
            }
            let of = waits.entry(thread.process).or_default();
            of.0.push(wait);
            of.1.extend(waiting_stack(snapshot));
        }
        let waits = waits.into_iter().filter_map(|(process, (waits, stacks))| {
            let target = self.targets.processes().get(process)?.target.as_ref()?;
            Some(WaitsOf {
                process,
                target,
                waits,
                stacks,
                others_run: running.contains(&process),
            })
        });
        let waits: Vec<WaitsOf<'_>> = waits.collect();
        let frames = |thread| {
            let stack = stacks
                .get(&thread)
                .and_then(|id| self.stacks.table().get(*id));
            stack.map_or(&[][..], |stack| stack.frames.as_slice())
        };
        let found = open_waits::look(&waits, frames).into_iter();
        let found = found.map(|(thread, found)| (thread, (began(entries.get(&thread)), found)));
        found.collect()
    }

    pub(super) fn stack_now(
        &mut self,
        thread: ThreadId,
        entry: Option<&ThreadEntry>,
    ) -> Option<StackId> {
        let stack = match entry.map(|entry| entry.state.phase) {
            None => WaitStack::BeforeRecording,
            Some(Phase::Waiting(wait)) => wait.stack,
            Some(_) => WaitStack::Lost,
        };
        self.stacks.resolve(thread, stack)
    }

    /// The system call in which a thread waits, if it does so by all accounts and is not idle.
    fn waits_in(
        &mut self,
        thread: ThreadId,
        entry: Option<&ThreadEntry>,
        snapshot: &Snapshot,
    ) -> Option<InSyscall> {
        let Activity::Waiting {
            syscall: Some(syscall),
            stopped: None,
            ..
        } = snapshot.activity
        else {
            return None;
        };
        let still = entry.is_none_or(|entry| match entry.state.phase {
            Phase::Waiting(wait) => wait.since <= snapshot.time && wait.woken.is_none(),
            _ => false,
        });
        let stack = self.stack_now(thread, entry);
        let idle = |stack: &Stack| stack.class.state == State::Idle;
        let idle = stack
            .and_then(|stack| self.stacks.table().get(stack))
            .is_some_and(idle);
        (still && !idle).then_some(InSyscall {
            tid: thread.tid,
            syscall,
        })
    }
}

/// Since when a thread waits; none where no switch of it was seen.
fn began(entry: Option<&ThreadEntry>) -> Option<Timestamp> {
    match entry?.state.phase {
        Phase::Waiting(wait) => Some(wait.since),
        _ => None,
    }
}

/// Where the stack of a thread is that waits.
fn waiting_stack(snapshot: &Snapshot) -> Option<WaitingStack> {
    match snapshot.activity {
        Activity::Waiting {
            regs: Some(regs),
            fs,
            ..
        } => Some(WaitingStack {
            tid: snapshot.thread.tid,
            sp: regs.sp,
            fs,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Object, ObjectKind};
    use crate::units::Tid;

    #[test]
    fn what_was_found_is_of_the_wait_that_was_looked_at() {
        let thread = |tid| ThreadId {
            process: ProcessId(0),
            tid: Tid(tid),
        };
        let found = Found {
            object: Object {
                kind: ObjectKind::Timer,
                name: "a time".into(),
            },
            holder: None,
            in_pieces: false,
        };
        let looked = Looked {
            moved: HashSet::new(),
            queued: HashMap::new(),
            found: HashMap::from([
                (thread(1), (Some(Timestamp(50)), found.clone())),
                (thread(2), (None, found)),
            ]),
        };
        let wait = |since, stack| OpenWait {
            since: Timestamp(since),
            woken: None,
            stack,
            object: None,
            task_id: None,
            tick: None,
        };
        let is_found = |tid, wait| looked.found(thread(tid), &wait).is_some();
        assert!(is_found(1, wait(50, WaitStack::Lost)));
        assert!(
            !is_found(1, wait(60, WaitStack::Lost)),
            "it has moved since"
        );
        // No switch of it had been seen.
        assert!(is_found(2, wait(10, WaitStack::BeforeRecording)));
        assert!(
            !is_found(2, wait(60, WaitStack::Lost)),
            "it has moved since"
        );
        assert!(!is_found(3, wait(50, WaitStack::Lost)));
    }
}
