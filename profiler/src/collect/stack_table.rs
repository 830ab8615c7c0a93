//! The stacks of a recording: whose each is, what it was classified to be, and by what.
//!
//! A stack is the same wherever its code is mapped: it is known by its places in modules, not by
//! addresses. So a library that is loaded and unloaded all the time, and a second process of the
//! same program that takes the place of the first, add nothing.

mod bounds;
mod by_lines;
mod shorten;

pub(super) use bounds::StackBounds;

use super::frames::{CodeOf, Frames, Jumped, PlaceId};
use super::numbers::{Evicted, Numbers};
use super::program::Program;
use crate::decode::{StackKind, StackNumber, StackPolicy, StackSeen, Syscall};
use crate::recording::{ProcessId, Stack, StackId, Tables};
use crate::runtime::tokio::{
    Agreement, Certainty, ClassifiedBy, Observation, RuntimeHandle, TlsState,
};
use crate::runtime::{Classification, RuleName, State, StoppedBy};
use crate::symbolize::FrameRef;
use crate::units::Addr;
use crate::unwind::Truncation;
use bounds::Used;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::RandomState;

/// Whose a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    /// The process.
    pub(super) process: ProcessId,
    /// The program that it executed then: what is learned of one is not true of another.
    pub(super) program: usize,
}

/// A stack that was not seen by the kernel side's number, or apart from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewStack<'a> {
    /// Whose stack it is.
    pub(super) kind: StackKind,
    /// User addresses, leaf first.
    pub(super) user: &'a [Addr],
    /// Kernel addresses, leaf first.
    pub(super) kernel: &'a [Addr],
    /// Why it does not reach the thread's start, if it does not.
    pub(super) truncated: Option<Truncation>,
    /// Frames that were passed by frame pointers alone.
    pub(super) pointer_steps: u32,
    /// The system call the thread was in.
    pub(super) syscall: Option<Syscall>,
    /// What tokio's thread-local state said.
    pub(super) tls_state: TlsState,
    /// The runtime that the thread had entered, where that is known.
    pub(super) runtime: Option<RuntimeHandle>,
}

impl<'a> From<&'a StackSeen> for NewStack<'a> {
    fn from(seen: &'a StackSeen) -> NewStack<'a> {
        NewStack {
            kind: seen.kind,
            user: &seen.user,
            kernel: &seen.kernel,
            truncated: seen.truncated,
            pointer_steps: seen.pointer_steps,
            syscall: seen.syscall,
            tls_state: seen.tls_state,
            runtime: seen.runtime,
        }
    }
}

/// What makes a stack the one that it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    owner: Owner,
    kind: StackKind,
    truncated: Option<Truncation>,
    syscall: Option<u32>,
    tls_state: TlsState,
    runtime: Option<RuntimeHandle>,
    places: Box<[PlaceId]>,
}

/// What only a recording in progress needs to know of a stack.
#[derive(Debug)]
struct Known {
    owner: Owner,
    /// What tokio's thread-local state said.
    tls_state: TlsState,
    /// Whether it is of a thread that waits. The others say nothing of the rules.
    of_wait: bool,
    /// What the rules over named frames say of it.
    by_names: Classification,
    classified_by: ClassifiedBy,
    /// Whether it has all of its callers.
    whole: bool,
    /// What the kernel side was told of it last.
    policy: StackPolicy,
    /// Kernel addresses that have no names yet. No rule needs them, and the kernel's table of names
    /// takes a third of a second to read.
    kernel: Vec<Addr>,
}

/// All stacks so far.
#[derive(Debug)]
pub(super) struct StackTable {
    bounds: StackBounds,
    stacks: Vec<Stack>,
    /// What else is known of each.
    known: Vec<Known>,
    by_identity: HashMap<Identity, StackId>,
    /// Samples are the same by functions and lines: see [`by_lines`].
    samples: HashMap<u64, StackId>,
    /// So are stacks without some of their callers.
    shortened: HashMap<u64, StackId>,
    /// How many stacks were named in this interval of which there was no room for the whole.
    shortened_now: usize,
    hasher: RandomState,
    programs: HashMap<usize, Program>,
    /// None of those that found no room.
    numbers: Numbers<StackNumber, Option<StackId>>,
    /// The stack that stands for all of a process that are not known.
    no_stack: HashMap<ProcessId, StackId>,
    used: HashMap<StackKind, Used>,
    used_by_shortened: HashMap<StackKind, Used>,
    left_out: u64,
    samples_left_out: u64,
    /// Distinct stacks with frames that were passed by frame pointers alone.
    by_pointers: u64,
    /// Stacks whose kernel frames have no names yet.
    unnamed: Vec<StackId>,
}

impl StackTable {
    /// Without any stack.
    pub(super) fn new(bounds: StackBounds) -> StackTable {
        StackTable {
            bounds,
            stacks: Vec::new(),
            known: Vec::new(),
            by_identity: HashMap::new(),
            samples: HashMap::new(),
            shortened: HashMap::new(),
            shortened_now: 0,
            hasher: RandomState::new(),
            programs: HashMap::new(),
            numbers: Numbers::new(bounds.numbers),
            no_stack: HashMap::new(),
            used: HashMap::new(),
            used_by_shortened: HashMap::new(),
            left_out: 0,
            samples_left_out: 0,
            by_pointers: 0,
            unnamed: Vec::new(),
        }
    }

    /// One of them.
    pub(super) fn get(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.index())
    }

    /// By what a stack was classified.
    pub(super) fn classified_by(&self, id: StackId) -> Option<ClassifiedBy> {
        self.known.get(id.index()).map(|known| known.classified_by)
    }

    /// A stack by the kernel side's number, which was seen in this interval; none where its record
    /// was lost, or where it found no room.
    pub(super) fn resolve(&mut self, number: StackNumber) -> Option<StackId> {
        self.numbers.resolve(number).flatten()
    }

    /// The stack that stands for all of a process that are not known.
    pub(super) fn no_stack(&mut self, owner: Owner) -> StackId {
        if let Some(id) = self.no_stack.get(&owner.process) {
            return *id;
        }
        let nothing = NewStack {
            kind: StackKind::OffCpu,
            user: &[],
            kernel: &[],
            truncated: Some(Truncation::NoStack),
            pointer_steps: 0,
            syscall: None,
            tls_state: TlsState::Unknown,
            runtime: None,
        };
        let id = self.keep(owner, &nothing, Vec::new(), true);
        self.no_stack.insert(owner.process, id);
        id
    }

    /// Distinct stacks that found no room, other than of samples; their waits are of unknown state.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Stacks that are kept without some of their callers.
    pub(super) fn shortened(&self) -> u64 {
        self.shortened.len() as u64
    }

    /// Distinct stacks with frames that were passed by frame pointers alone.
    pub(super) const fn by_pointers(&self) -> u64 {
        self.by_pointers
    }

    /// Samples whose stack found no room.
    pub(super) const fn samples_left_out(&self) -> u64 {
        self.samples_left_out
    }

    /// How classifying by names and by thread-local state agree, by program.
    pub(super) fn agreements(&self) -> impl Iterator<Item = &Agreement> {
        self.programs.values().map(Program::agreement)
    }

    /// How sure tokio's thread-local state is in a program.
    pub(super) fn certainty(&self, program: usize) -> Certainty {
        let program = self.programs.get(&program);
        program.map_or(Certainty::Nothing, |program| {
            program.agreement().certainty()
        })
    }

    /// What is known of tokio's thread-local state in the program of a stack.
    fn agreement(&self, stack: StackId) -> Option<&Agreement> {
        let known = self.known.get(stack.index())?;
        let program = self.programs.get(&known.owner.program)?;
        Some(program.agreement())
    }

    /// Whether tokio's thread-local state counts in the program of a stack.
    pub(super) fn trusts_tls(&self, stack: StackId) -> bool {
        let agreement = self.agreement(stack);
        agreement.is_some_and(Agreement::trusted)
    }

    /// Whether nothing contradicts it as yet: a program that computes and hardly waits has nothing
    /// that confirms it either.
    pub(super) fn may_trust_tls(&self, stack: StackId) -> bool {
        let agreement = self.agreement(stack);
        agreement.is_some_and(|agreement| !agreement.contradicted())
    }

    /// Takes in a stack that the kernel side has announced. None where it found no room, which is
    /// counted.
    pub(super) fn add(
        &mut self,
        seen: &StackSeen,
        owner: Owner,
        code: &CodeOf<'_>,
        frames: &mut Frames,
    ) -> Option<StackId> {
        let id = self.find_or_keep(&seen.into(), owner, code, frames);
        if let Some(number) = seen.number {
            // The kernel side remembers no number of a stack that it sent raw.
            if seen.raw {
                self.numbers.announced_once(number, id);
            } else {
                self.numbers.announced(number, id);
            }
        }
        id
    }

    /// As [`StackTable::add`], for a stack that was not announced by number.
    pub(super) fn find_or_keep(
        &mut self,
        new: &NewStack<'_>,
        owner: Owner,
        code: &CodeOf<'_>,
        frames: &mut Frames,
    ) -> Option<StackId> {
        let places = Frames::places(new.user, code);
        let mut identity = Identity {
            owner,
            kind: new.kind,
            truncated: new.truncated,
            syscall: new.syscall.map(|syscall| syscall.number),
            tls_state: new.tls_state,
            runtime: new.runtime,
            places: Box::default(),
        };
        // A place that no stack has gone through makes the stack a new one.
        if let Some(ids) = frames.ids(&places, code) {
            identity.places = ids;
            if let Some(&id) = self.by_identity.get(&identity) {
                self.complete(id, new.kernel);
                return Some(id);
            }
        }
        if !self.has_room(new.kind) {
            let id = self.shorten(owner, new, &places, code, frames);
            self.left_out += u64::from(id.is_none());
            return id;
        }
        identity.places = frames.ids_of(&places);
        let jumped = match new.kind {
            StackKind::Waker => Jumped::All,
            StackKind::Sample => Jumped::No,
            StackKind::OffCpu | StackKind::Stopped(_) | StackKind::Syscall | StackKind::Panic => {
                Jumped::Application
            }
        };
        let before = frames.made();
        let named = frames.name(&places, &identity.places, code, jumped);
        self.use_room(new.kind, named.len(), frames.made() - before);
        let id = self.keep(owner, new, named, true);
        self.by_identity.insert(identity, id);
        Some(id)
    }

    /// Gives a stack its kernel frames, where it was first seen without: in a wait from before the
    /// recording. They may say what the user frames do not: that the file is a pipe.
    fn complete(&mut self, id: StackId, kernel: &[Addr]) {
        let stack = self.stacks.get(id.index());
        let known = self.known.get_mut(id.index());
        if let (Some(stack), Some(known)) = (stack, known)
            && !kernel.is_empty()
            && stack.kernel.is_empty()
            && known.kernel.is_empty()
        {
            known.kernel = kernel.to_vec();
            self.unnamed.push(id);
        }
    }

    fn has_room(&self, kind: StackKind) -> bool {
        let used = self.used.get(&kind).copied().unwrap_or_default();
        used.fits(self.bounds.room(kind))
    }

    fn use_room(&mut self, kind: StackKind, frames: usize, new_frames: usize) {
        let used = self.used.entry(kind).or_default();
        used.stacks += 1;
        used.frames += frames;
        used.new_frames += new_frames;
    }

    /// Learns from a stack, classifies it and keeps it. Only those of threads that wait teach
    /// anything, or that were stopped in a system call: on a CPU a thread is also where nobody waits.
    fn keep(
        &mut self,
        owner: Owner,
        new: &NewStack<'_>,
        frames: Vec<FrameRef>,
        whole: bool,
    ) -> StackId {
        // What a sampled, waking or panicking thread gave its system call says nothing of it.
        let has_args = matches!(new.kind, StackKind::OffCpu | StackKind::Syscall);
        let args = new.syscall.map(|syscall| syscall.args);
        let seen = Observation {
            frames: &frames,
            truncated: new.truncated.is_some(),
            call: new
                .syscall
                .map(|syscall| (syscall.number, args.filter(|_| has_args))),
            tls_state: new.tls_state,
        };
        let stopped_by = match new.kind {
            StackKind::Stopped(by) => Some(by),
            _ => None,
        };
        let stopped_in_call = stopped_by.is_some() && new.syscall.is_some();
        let of_wait = new.kind == StackKind::OffCpu || stopped_in_call;
        let program = self.programs.entry(owner.program).or_default();
        let found = program.add(&seen, of_wait);
        let id = StackId(self.stacks.len() as u32);
        if !new.kernel.is_empty() {
            self.unnamed.push(id);
        }
        self.by_pointers += u64::from(new.pointer_steps > 0);
        self.stacks.push(Stack {
            process: owner.process,
            frames,
            kernel: Vec::new(),
            truncated: new.truncated,
            pointer_steps: new.pointer_steps,
            syscall: new.syscall.map(|syscall| syscall.number),
            args: args.filter(|_| has_args),
            runtime: new.runtime,
            stopped_by,
            class: class_if(stopped_by, found.class),
        });
        self.known.push(Known {
            owner,
            tls_state: new.tls_state,
            of_wait,
            by_names: found.by_names,
            classified_by: found.by,
            whole,
            policy: StackPolicy::Record,
            kernel: new.kernel.to_vec(),
        });
        let policy = self.policy_now(id);
        if let Some(known) = self.known.last_mut() {
            known.policy = policy;
        }
        id
    }

    /// What the kernel side is to do with waits of a stack.
    pub(super) fn policy(&self, id: StackId) -> StackPolicy {
        let known = self.known.get(id.index());
        known.map_or(StackPolicy::Record, |known| known.policy)
    }

    fn policy_now(&self, id: StackId) -> StackPolicy {
        let (Some(known), Some(stack)) = (self.known.get(id.index()), self.get(id)) else {
            return StackPolicy::Record;
        };
        let program = self.programs.get(&known.owner.program);
        match program {
            // What the kernel side is told counts the frames of the whole stack.
            Some(program) if known.of_wait && known.whole => {
                program.policy(stack, known.classified_by)
            }
            _ => StackPolicy::Record,
        }
    }

    /// What the kernel side is to be told of stacks that mean something else by now, since
    /// something was learned or tokio's thread-local state began or ceased to count. It is to
    /// forget its remembered parks as well.
    pub(super) fn changed_policies(&mut self) -> Option<Vec<(StackNumber, StackPolicy)>> {
        self.classify_again();
        let mut changed = HashSet::new();
        for program in self.programs.values_mut() {
            program.take_changed_stacks(&mut changed);
        }
        changed.retain(|id| {
            let policy = self.policy_now(*id);
            let known = self.known.get_mut(id.index());
            known.is_some_and(|known| std::mem::replace(&mut known.policy, policy) != policy)
        });
        if changed.is_empty() {
            return None;
        }
        let announced = self.numbers.iter_announced();
        let of_changed = announced.filter_map(|(number, id)| Some((number, id?)));
        let of_changed = of_changed.filter(|(_, id)| changed.contains(id));
        Some(of_changed.map(|(n, id)| (n, self.policy(id))).collect())
    }

    /// Classifies again the stacks of programs of which something was learned meanwhile.
    pub(super) fn classify_again(&mut self) {
        for (&number, program) in &mut self.programs {
            let Some(renew) = program.begin_again() else {
                continue;
            };
            let all = self.known.iter_mut().zip(&mut self.stacks).enumerate();
            let own = all.filter(|(_, (known, _))| known.owner.program == number);
            let mut own: Vec<_> = own.collect();
            // First what all stacks together say of the thread-local state, then each.
            if renew.names {
                for (_, (known, stack)) in &mut own {
                    let seen = observation(stack, known.tls_state);
                    known.by_names = program.by_names(&seen, known.of_wait);
                }
            }
            program.all_compared();
            for (index, (known, stack)) in own {
                let seen = observation(stack, known.tls_state);
                let (class, by) = program.classify(known.by_names, &seen);
                let class = class_if(stack.stopped_by, class);
                if (class, by) != (stack.class, known.classified_by) || renew.names {
                    program.changed(StackId(index as u32));
                }
                (stack.class, known.classified_by) = (class, by);
            }
        }
    }

    /// Names the kernel frames of the stacks that have come since it was asked last. The first time
    /// takes a third of a second.
    pub(super) fn name_kernel(&mut self, frames: &mut Frames) {
        let unnamed = std::mem::take(&mut self.unnamed);
        let addresses = unnamed.iter().filter_map(|id| self.known.get(id.index()));
        let all: BTreeSet<Addr> = addresses.flat_map(|known| known.kernel.clone()).collect();
        let all: Vec<Addr> = all.into_iter().collect();
        let mut named = Vec::with_capacity(all.len());
        frames.symbolizer().kernel(&all, &mut named);
        let named: HashMap<Addr, FrameRef> = all.into_iter().zip(named).collect();
        for id in unnamed {
            let known = self.known.get_mut(id.index());
            if let (Some(known), Some(stack)) = (known, self.stacks.get_mut(id.index())) {
                let addresses = std::mem::take(&mut known.kernel);
                let frames = addresses.iter().filter_map(|addr| named.get(addr));
                stack.kernel = frames.cloned().collect();
            }
        }
    }

    /// Ends an interval, see [`Numbers::end_interval`]. `held` are the stacks of open waits, and of
    /// the wakers of those that were woken and have not come to run.
    pub(super) fn end_interval(&mut self, held: &HashSet<StackNumber>) -> Evicted<StackNumber> {
        self.shortened_now = 0;
        let known = &self.known;
        // What found no room would find none the next time, and be counted once more.
        let lasting = |id: Option<StackId>| {
            id.is_none_or(|id| {
                let known = known.get(id.index());
                known.is_some_and(|known| known.policy != StackPolicy::Record)
            })
        };
        self.numbers.end_interval(held, lasting)
    }

    /// Puts the stacks into `tables`, for somebody to read, until [`StackTable::take_back`].
    pub(super) fn lend(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.stacks, &mut tables.stacks);
    }

    /// Takes the stacks back.
    pub(super) fn take_back(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.stacks, &mut tables.stacks);
    }
}

/// The class of a stack whose thread was held there, if it was: what it did there says nothing.
fn class_if(stopped: Option<StoppedBy>, class: Classification) -> Classification {
    let Some(by) = stopped else {
        return class;
    };
    let rule = match by {
        StoppedBy::Signal => "stopped-by-signal",
        StoppedBy::Debugger => "stopped-by-debugger",
        StoppedBy::Freezer => "stopped-by-freezer",
    };
    Classification {
        state: State::Stopped,
        rule: RuleName(rule),
        ..class
    }
}

fn observation(stack: &Stack, tls_state: TlsState) -> Observation<'_> {
    Observation {
        frames: &stack.frames,
        truncated: stack.truncated.is_some(),
        call: stack.syscall.map(|number| (number, stack.args)),
        tls_state,
    }
}

#[cfg(test)]
#[path = "stack_table_tests.rs"]
mod tests;
