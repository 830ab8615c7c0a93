//! The stacks of a recording: whose each is, what it was classified to be, and by whom.

use crate::recording::{StackEntry, StackId};
use crate::runtime::State;
use crate::runtime::tokio::{Agreement, ClassifiedBy, Observation, ProgramModel, TlsState};
use crate::symbolize::{Frame, Symbolizer};
use crate::units::{Addr, Pid};
use crate::unwind::Truncation;
use profiler_common::map::{
    ALL_FRAMES, POLICY_RECORD, POLICY_SUM_ONLY, POLICY_SUM_ONLY_IF_TLS, Stack,
};
use std::collections::{BTreeSet, HashMap};

/// The policy where nothing else is known.
pub(super) const RECORD: Stack = Stack {
    policy: POLICY_RECORD,
    frames: 0,
};

/// Whose a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) pid: Pid,
    /// The program that it executed then: what is learned of one is not true of another.
    pub(super) program: usize,
}

/// A system call by its number, and its arguments where they are known.
pub(super) type Call = (u32, Option<[u64; 6]>);

/// A program, by its stacks.
#[derive(Debug, Default)]
struct Program {
    learned: ProgramModel,
    /// Since the last policy something was learned.
    changed: bool,
    /// Whether the thread-local state counted then.
    was_trusted: bool,
}

/// A stack, and what only a recording in progress needs to know of it.
#[derive(Debug)]
struct Known {
    entry: StackEntry,
    owner: Owner,
    /// What tokio's thread-local state said.
    tls_state: TlsState,
    /// Whether it is of a thread that waits. The others say nothing of the rules.
    of_wait: bool,
    judge: ClassifiedBy,
    /// Kernel addresses. They are named at the end, all at once: no rule needs them, and the
    /// kernel's table of names takes a third of a second to read.
    kernel: Vec<u64>,
}

impl Known {
    fn seen(&self) -> Observation<'_> {
        Observation {
            frames: &self.entry.frames,
            truncated: self.entry.truncated.is_some(),
            call: self.entry.syscall.map(|number| (number, self.entry.args)),
            tls_state: self.tls_state,
        }
    }
}

/// All stacks so far.
#[derive(Debug, Default)]
pub(super) struct StackTable {
    all: Vec<Known>,
    /// Frames of all of them.
    frames: usize,
    programs: HashMap<usize, Program>,
    by_number: HashMap<u64, StackId>,
}

impl StackTable {
    /// How many frames all stacks have together.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// One of them.
    pub(super) fn get(&self, id: StackId) -> Option<&StackEntry> {
        self.known(id).map(|known| &known.entry)
    }

    fn known(&self, id: StackId) -> Option<&Known> {
        self.all.get(id.0 as usize)
    }

    /// Who classified a stack.
    pub(super) fn judge(&self, id: StackId) -> Option<ClassifiedBy> {
        self.known(id).map(|known| known.judge)
    }

    /// A stack by the kernel side's number; none where its record was lost.
    pub(super) fn by_number(&self, number: u64) -> Option<StackId> {
        self.by_number.get(&number).copied()
    }

    /// Notes the kernel side's number of a stack.
    pub(super) fn set_number(&mut self, id: StackId, number: u64) {
        self.by_number.insert(number, id);
    }

    /// Notes what a stack has in the kernel.
    pub(super) fn set_kernel(&mut self, id: StackId, addresses: &[u64]) {
        if let Some(known) = self.all.get_mut(id.0 as usize) {
            known.kernel = addresses.to_vec();
        }
    }

    /// How the judges get on, by program.
    pub(super) fn agreements(&self) -> impl Iterator<Item = &Agreement> {
        let programs = self.programs.values();
        programs.map(|program| program.learned.agreement())
    }

    /// Whether tokio's thread-local state counts in the program of a stack.
    pub(super) fn trusts_context(&self, stack: StackId) -> bool {
        self.known(stack)
            .and_then(|known| self.programs.get(&known.owner.program))
            .is_some_and(|program| program.learned.agreement().trusted())
    }

    /// Learns from the stack of a wait, judges it and keeps it.
    pub(super) fn add(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        call: Option<Call>,
        tls_state: TlsState,
    ) -> StackId {
        self.keep(owner, frames, truncated, call, tls_state, true)
    }

    /// As [`StackTable::add`], for the stack of a thread that does not wait: it teaches nothing,
    /// since on a CPU a thread is also where nobody waits.
    pub(super) fn add_apart(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        call: Option<Call>,
        tls_state: TlsState,
    ) -> StackId {
        self.keep(owner, frames, truncated, call, tls_state, false)
    }

    fn keep(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        call: Option<Call>,
        tls_state: TlsState,
        of_wait: bool,
    ) -> StackId {
        let program = self.programs.entry(owner.program).or_default();
        let seen = Observation {
            frames: &frames,
            truncated: truncated.is_some(),
            call,
            tls_state,
        };
        let learned = &mut program.learned;
        if of_wait {
            program.changed |= learned.learn(&seen);
        }
        let by_names = learned.by_names(&seen);
        if of_wait {
            learned.compare(&by_names, &seen);
        }
        let (verdict, judge) = learned.judge(by_names, &seen);
        self.frames += frames.len();
        let id = StackId(self.all.len() as u32);
        self.all.push(Known {
            entry: StackEntry {
                frames,
                kernel: Vec::new(),
                truncated,
                syscall: call.map(|(number, _)| number),
                args: call.and_then(|(_, args)| args),
                verdict,
            },
            owner,
            tls_state,
            of_wait,
            judge,
            kernel: Vec::new(),
        });
        id
    }

    /// What the kernel side is to do with waits of a stack.
    pub(super) fn policy(&self, id: StackId) -> Stack {
        let Some(known) = self.known(id).filter(|known| known.of_wait) else {
            return RECORD;
        };
        let entry = &known.entry;
        if entry.verdict.state != State::Idle {
            return RECORD;
        }
        if known.judge == ClassifiedBy::Context {
            return Stack {
                policy: POLICY_SUM_ONLY_IF_TLS,
                frames: ALL_FRAMES,
            };
        }
        let program = self.programs.get(&known.owner.program);
        let proof = program.and_then(|p| p.learned.proof(&entry.frames, &entry.verdict));
        Stack {
            policy: POLICY_SUM_ONLY,
            frames: proof.unwrap_or(ALL_FRAMES),
        }
    }

    /// The policy for every stack that the kernel side knows by number, if any verdict may have
    /// changed since this was asked last: something was learned, or the thread-local state began
    /// or ceased to count.
    pub(super) fn changed_policies(&mut self) -> Option<Vec<(u64, Stack)>> {
        let stale = |program: &Program| {
            program.changed || program.learned.agreement().trusted() != program.was_trusted
        };
        if !self.programs.values().any(stale) {
            return None;
        }
        self.judge_again();
        for program in self.programs.values_mut() {
            program.changed = false;
            program.was_trusted = program.learned.agreement().trusted();
        }
        let numbers = self.by_number.iter();
        Some(numbers.map(|(n, id)| (*n, self.policy(*id))).collect())
    }

    /// Judges all stacks again with what was learned meanwhile.
    pub(super) fn judge_again(&mut self) {
        for program in self.programs.values_mut() {
            program.learned.compare_anew();
        }
        let mut by_names = Vec::with_capacity(self.all.len());
        for known in &self.all {
            let program = self.programs.entry(known.owner.program).or_default();
            let seen = known.seen();
            let verdict = program.learned.by_names(&seen);
            if known.of_wait {
                program.learned.compare(&verdict, &seen);
            }
            by_names.push(verdict);
        }
        for (known, by_names) in self.all.iter_mut().zip(by_names) {
            let program = self.programs.entry(known.owner.program).or_default();
            let (verdict, judge) = program.learned.judge(by_names, &known.seen());
            known.entry.verdict = verdict;
            known.judge = judge;
        }
    }

    /// Names the kernel frames of all stacks.
    pub(super) fn name_kernel(&mut self, symbolizer: &mut Symbolizer) {
        let addresses = self.all.iter().flat_map(|known| &known.kernel);
        let all: BTreeSet<Addr> = addresses.map(|addr| Addr(*addr)).collect();
        let all: Vec<Addr> = all.into_iter().collect();
        let mut frames = Vec::with_capacity(all.len());
        symbolizer.kernel(&all, &mut frames);
        let named: HashMap<u64, Frame> = all.iter().map(|addr| addr.0).zip(frames).collect();
        for known in &mut self.all {
            let frames = known.kernel.iter().filter_map(|addr| named.get(addr));
            known.entry.kernel = frames.cloned().collect();
        }
    }

    /// All of them in the order of their ids, and whose each is.
    pub(super) fn into_all(self) -> impl Iterator<Item = (StackEntry, Pid)> {
        self.all
            .into_iter()
            .map(|known| (known.entry, known.owner.pid))
    }
}
