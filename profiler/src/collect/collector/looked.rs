//! A look at what threads wait for just now.

use super::Collector;
use super::intake::Naming;
use crate::collect::open_waits::{self, Found, InSyscall};
use crate::decode::{Activity, Phase, Snapshot, ThreadEntry, WaitStack};
use crate::recording::{Stack, StackId, ThreadId};
use crate::runtime::State;
use crate::units::Timestamp;
use anyhow::Result;
use std::collections::{HashMap, HashSet};

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Threads that have switched since the recording began.
    pub(super) moved: HashSet<ThreadId>,
    /// By thread what it waits for, and since when it does; none where that was before the
    /// recording and no switch of the thread was seen.
    found: HashMap<ThreadId, (Option<Timestamp>, Found)>,
}

impl Looked {
    /// What was found of a wait: a thread that has not moved since the look is in the same one.
    pub(super) fn found(&self, thread: ThreadId, since: Timestamp) -> Option<&Found> {
        let (began, found) = self.found.get(&thread)?;
        began.is_none_or(|began| began == since).then_some(found)
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
            if let Some(thread) = self.processes.thread(entry.thread) {
                entries.insert(thread, entry);
            }
        }
        let mut waits: HashMap<_, Vec<InSyscall>> = HashMap::new();
        let mut stacks: HashMap<ThreadId, StackId> = HashMap::new();
        for snapshot in std::mem::take(&mut self.snapshots) {
            let Some(thread) = self.processes.thread(snapshot.thread) else {
                continue;
            };
            let entry = entries.get(&thread);
            let Some(wait) = self.waits_in(thread, entry, &snapshot) else {
                continue;
            };
            if let Some(stack) = self.stack_now(thread, entry) {
                stacks.insert(thread, stack);
            }
            waits.entry(thread.process).or_default().push(wait);
        }
        let mut looked = Looked {
            moved,
            found: HashMap::new(),
        };
        for (process, waits) in waits {
            let Some(target) = self.processes.get(process).and_then(|p| p.target.as_ref()) else {
                continue;
            };
            let id = |tid| ThreadId { process, tid };
            let frames = |tid| {
                let stack = stacks
                    .get(&id(tid))
                    .and_then(|stack| self.stacks.get(*stack));
                stack.map_or(&[][..], |stack| stack.frames.as_slice())
            };
            for (tid, found) in open_waits::look(target, &waits, frames) {
                let entry = entries.get(&id(tid));
                let since = entry.and_then(|entry| match entry.state.phase {
                    Phase::Waiting(wait) => Some(wait.since),
                    _ => None,
                });
                looked.found.insert(id(tid), (since, found));
            }
        }
        Ok(looked)
    }

    fn stack_now(&mut self, thread: ThreadId, entry: Option<&ThreadEntry>) -> Option<StackId> {
        let stack = match entry.map(|entry| entry.state.phase) {
            None => WaitStack::BeforeRecording,
            Some(Phase::Waiting(wait)) => wait.stack,
            Some(_) => WaitStack::Lost,
        };
        match stack {
            WaitStack::BeforeRecording => self.initial.stack(thread),
            WaitStack::Known(number) => self.stacks.resolve(number),
            WaitStack::Lost => None,
        }
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
            .and_then(|stack| self.stacks.get(stack))
            .is_some_and(idle);
        (still && !idle).then_some(InSyscall {
            tid: thread.tid,
            syscall,
        })
    }
}
