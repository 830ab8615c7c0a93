//! Stacks, from their arrival to a stack of the recording: each waits for its mappings where it must,
//! is named and classified, and kept once.

use super::frames::Frames;
use super::initial_waits::InitialWaits;
use super::numbers::Evicted;
use super::pending::Pending;
use super::processes::ProcessList;
use super::shadow::Shadow;
use super::stack_table::{Owner, StackBounds, StackTable};
use super::targets::Targets;
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::decode::{
    RawPiece, SampleSeen, Snapshot, StackNumber, StackPolicy, StackSeen, WaitStack,
};
use crate::limits::Limits;
use crate::recording::{ShadowCheck, Stack, StackId, Tables, ThreadId};
use crate::symbolize::Symbolizer;
use crate::units::{Pid, Timestamp};
use crate::unwind::Truncation;
use anyhow::Result;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// For how long stacks are named before it is time to look for new mappings again.
const NAMING_BUDGET: Duration = Duration::from_millis(20);

/// Stacks kept back at most while a program is loaded.
const MAX_DEFERRED: usize = 8192;

/// What needs the mappings of its time.
#[derive(Debug)]
enum Unnamed {
    /// A stack that waits name by number.
    Stack(Box<StackSeen>),
    /// A thread on a CPU.
    Sample(Box<SampleSeen>),
}

impl Unnamed {
    const fn stack_mut(&mut self) -> &mut StackSeen {
        match self {
            Unnamed::Stack(seen) => seen,
            Unnamed::Sample(seen) => &mut seen.stack,
        }
    }
}

/// How many of the new stacks are to have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Those for which there is time, and none while a program is being loaded.
    AsTimeAllows,
    /// All: an interval ends.
    All,
}

/// A sample whose stack has a name now.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedSample<'a> {
    /// As it arrived.
    pub(super) seen: &'a SampleSeen,
    /// The thread that was on a CPU.
    pub(super) thread: ThreadId,
    /// Its stack.
    pub(super) id: StackId,
    /// What is known of that.
    pub(super) stack: &'a Stack,
    /// Whether tokio's thread-local state counts for it.
    pub(super) trusts_tls: bool,
}

/// All stacks of a recording, and those on their way there.
#[derive(Debug)]
pub(super) struct StackCollector {
    frames: Frames,
    table: StackTable,
    initial: InitialWaits,
    /// Stacks that have arrived and have no names yet.
    unnamed: Vec<Unnamed>,
    /// Stacks that wait for mappings to be read.
    pending: Pending,
    shadow: Shadow,
    /// Pieces of raw copies of stacks that nobody has looked at yet.
    raw_pieces: Vec<RawPiece>,
    /// Stacks that were cut off here, and not in the kernel, since this was asked last.
    truncated: u64,
}

impl StackCollector {
    /// Without any stack. One in `shadow_every` is walked a second time; 0 for none.
    pub(super) fn new(limits: &Limits, shadow_every: u32) -> StackCollector {
        StackCollector {
            frames: Frames::default(),
            table: StackTable::new(StackBounds::new(limits)),
            initial: InitialWaits::default(),
            unnamed: Vec::new(),
            pending: Pending::default(),
            shadow: Shadow::new(shadow_every),
            raw_pieces: Vec::new(),
            truncated: 0,
        }
    }

    /// What names addresses.
    pub(super) const fn symbolizer(&mut self) -> &mut Symbolizer {
        self.frames.symbolizer()
    }

    /// The frames of all stacks.
    pub(super) const fn frames(&self) -> &Frames {
        &self.frames
    }

    /// The stacks that have names.
    pub(super) const fn table(&self) -> &StackTable {
        &self.table
    }

    /// Takes a stack in, which is to be named.
    pub(super) fn add(&mut self, seen: Box<StackSeen>) {
        if seen.raw {
            self.pending.add(seen);
        } else {
            self.unnamed.push(Unnamed::Stack(seen));
        }
    }

    /// Takes a sample in, whose stack is to be named.
    pub(super) fn add_sample(&mut self, seen: Box<SampleSeen>) {
        self.unnamed.push(Unnamed::Sample(seen));
    }

    /// Takes in a piece of a stack that the kernel side could not walk.
    pub(super) fn add_unmapped_piece(&mut self, piece: RawPiece) {
        self.pending.add_piece(piece);
    }

    /// Takes in a piece of a stack that is to be walked a second time.
    pub(super) fn add_shadow_piece(&mut self, piece: RawPiece) {
        self.raw_pieces.push(piece);
    }

    /// Walks the stacks of threads that waited when the recording began, and says how that went.
    pub(super) fn begin(
        &mut self,
        snapshots: Vec<Snapshot>,
        kernel: &Programs,
        processes: &ProcessList,
    ) -> &[Option<Truncation>] {
        self.initial = InitialWaits::walk(snapshots, kernel, processes);
        self.initial.outcomes()
    }

    /// The stacks of threads that were walked while they waited.
    pub(super) const fn initial(&mut self) -> &mut InitialWaits {
        &mut self.initial
    }

    /// The stack with which a thread waited when it was walked.
    pub(super) fn waiting(&self, thread: ThreadId) -> Option<&Stack> {
        self.table.get(self.initial.stack(thread)?)
    }

    /// Whether a thread has switched since the recording began, by a later snapshot.
    pub(super) fn has_moved(&self, later: &Snapshot) -> bool {
        self.initial.has_moved(later)
    }

    /// The processes whose mappings are to be read for stacks that wait.
    pub(super) fn waits_for(&self) -> HashSet<Pid> {
        self.pending.waits_for()
    }

    /// Stacks until then wait no longer for mappings: nobody knows more of them.
    pub(super) fn give_up_waiting(
        &mut self,
        until: Timestamp,
        kernel: &Programs,
        processes: &ProcessList,
    ) {
        let rest = self.pending.give_up(until, kernel, processes).into_iter();
        self.unnamed.extend(rest.map(Unnamed::Stack));
    }

    /// Names and classifies new stacks. Each sample among them goes to `on_sample`.
    pub(super) fn name_new(
        &mut self,
        naming: Naming,
        kernel: &mut Programs,
        targets: &mut Targets,
        mut on_sample: impl FnMut(NamedSample<'_>),
    ) -> Result<()> {
        let loading = targets.any_loading();
        let began = Instant::now();
        for (process, addresses) in self.initial.by_pointers() {
            targets.name_made_code(process, addresses);
        }
        let (processes, maps, modules) = (targets.processes(), targets.maps(), targets.modules());
        let (table, frames) = (&mut self.table, &mut self.frames);
        self.initial.name(table, frames, processes, maps, modules);
        let walked = self.pending.walk(kernel, processes);
        self.unnamed.extend(walked.into_iter().map(Unnamed::Stack));
        // A program that is being loaded has something more urgent to be asked, and what was asked
        // for names a moment ago need not be asked again now.
        let all = naming == Naming::All;
        if loading && !all && self.unnamed.len() <= MAX_DEFERRED {
            return self.change_policies(kernel);
        }
        let mut unnamed = std::mem::take(&mut self.unnamed).into_iter();
        for seen in unnamed.by_ref() {
            self.name(seen, kernel, targets, &mut on_sample)?;
            if !all && began.elapsed() > NAMING_BUDGET {
                break;
            }
        }
        self.unnamed.extend(unnamed);
        if self.unnamed.is_empty() {
            let pieces = &mut self.raw_pieces;
            self.shadow
                .compare(pieces, targets.maps(), targets.modules());
        }
        self.change_policies(kernel)
    }

    /// Names, classifies and keeps a stack.
    fn name(
        &mut self,
        mut seen: Unnamed,
        kernel: &mut Programs,
        targets: &mut Targets,
        on_sample: &mut impl FnMut(NamedSample<'_>),
    ) -> Result<()> {
        if let Unnamed::Stack(seen) = &seen {
            self.shadow.keep(seen);
        }
        let stack = seen.stack_mut();
        let valid = targets.valid_prefix_len(kernel, stack)?;
        if valid < stack.user.len() {
            stack.user.truncate(valid);
            // What the kernel side cut off, it has counted.
            if stack.truncated.is_none() {
                self.truncated += 1;
            }
            stack.truncated = Some(Truncation::Unmapped);
        }
        if stack.pointer_steps > 0 {
            let name = |process: &mut TracedProcess| process.name_made_code(&stack.user);
            targets.with_process(stack.thread.pid, name);
        }
        let Some((code, owner)) = targets.code_of(stack) else {
            return Ok(());
        };
        match seen {
            Unnamed::Stack(seen) => {
                let id = self.table.add(&seen, owner, &code, &mut self.frames);
                let policy = id.map(|id| self.table.policy(id));
                if let (Some(number), Some(policy)) = (seen.number, policy)
                    && policy != StackPolicy::Record
                {
                    kernel.set_policy(number, policy)?;
                }
            }
            Unnamed::Sample(seen) => {
                let frames = &mut self.frames;
                let id = self.table.add_sample(&seen, owner, &code, frames);
                let thread = targets.thread(seen.stack.thread);
                if let (Some(id), Some(thread)) = (id, thread)
                    && let Some(stack) = self.table.get(id)
                {
                    let seen = &seen;
                    on_sample(NamedSample {
                        seen,
                        thread,
                        id,
                        stack,
                        trusts_tls: self.table.may_trust_tls(id),
                    });
                }
            }
        }
        Ok(())
    }

    /// Tells the kernel side of stacks that came to mean something else.
    fn change_policies(&mut self, kernel: &mut Programs) -> Result<()> {
        if let Some(policies) = self.table.changed_policies() {
            for (number, policy) in policies {
                kernel.set_policy(number, policy)?;
            }
            kernel.forget_parks()?;
        }
        Ok(())
    }

    /// The stack of a wait, where it is known.
    pub(super) fn resolve(&mut self, thread: ThreadId, stack: WaitStack) -> Option<StackId> {
        match stack {
            WaitStack::Known(number) => self.table.resolve(number),
            WaitStack::BeforeRecording => self.initial.stack(thread),
            WaitStack::Lost => None,
        }
    }

    /// A stack by the kernel side's number, where it is known.
    pub(super) fn by_number(&mut self, number: StackNumber) -> Option<StackId> {
        self.table.resolve(number)
    }

    /// The stack that stands for all of `owner` that are not known.
    pub(super) fn unknown_of(&mut self, owner: Owner) -> StackId {
        self.table.no_stack(owner)
    }

    /// Stacks that were cut off here, and not in the kernel, since this was asked last.
    pub(super) fn take_truncated(&mut self) -> u64 {
        std::mem::take(&mut self.truncated) + self.pending.take_truncated()
    }

    /// What came of the shadow check; none where it was not asked for.
    pub(super) fn shadow_outcome(&self) -> Option<ShadowCheck> {
        self.shadow.outcome()
    }

    /// Ends an interval, see [`StackTable::end_interval`].
    pub(super) fn end_interval(&mut self, held: &HashSet<StackNumber>) -> Evicted<StackNumber> {
        self.table.end_interval(held)
    }

    /// Names the kernel frames of all stacks.
    pub(super) fn name_kernel(&mut self) {
        self.table.name_kernel(&mut self.frames);
    }

    /// Puts the stacks into `tables`, for somebody to read, until [`StackCollector::take_back`].
    pub(super) fn lend(&mut self, tables: &mut Tables) {
        self.table.lend(tables);
    }

    /// Takes the stacks back.
    pub(super) fn take_back(&mut self, tables: &mut Tables) {
        self.table.take_back(tables);
    }
}
