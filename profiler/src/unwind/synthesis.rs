//! Rows for functions that no frame description entry covers, from their code.
//!
//! Hand-written assembly and all of musl's libc come without unwinding information. What a
//! function does to `rsp` and `rbp` can be read off its instructions: this follows every path
//! from the function's first instruction and keeps, for each instruction, what is known before
//! it. Nothing is guessed. Where two paths disagree, where an instruction does something to
//! `rsp` that is not followed, or where a return would not return to the caller, the whole
//! function stays without rows.
//!
//! What is assumed is the System V ABI (AMD64 supplement, 3.2): a call leaves `rsp` and `rbp` as
//! they were, code is entered at its symbols with the return address at `rsp`, and an `rbp` set
//! to zero without having been saved marks the outermost frame (3.4.1).

mod proof;
mod state;

pub(super) use proof::{Bounds, Proof, Targets};
pub use state::State;

use super::jumps::Ways;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};
use profiler_common::row::Rule;
use proof::Exits;
use state::ENTRY;
use std::ops::Range;

/// Longest function looked at, in bytes.
pub(super) const MAX_FUNCTION: usize = 64 << 10;

/// `mov $15, %rax; syscall`: `rt_sigreturn`, what a signal handler returns to. By the same bytes
/// libgcc knows it (`x86_64_fallback_frame_state` in `config/i386/linux-unwind.h`).
const SIGNAL_TRAMPOLINE: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// What is known before each instruction that can be reached: offsets from the function's start,
/// in their order. `entries` are offsets at which it is called as well. None where it cannot be
/// proven.
#[must_use]
pub fn states(code: &[u8], entries: &[usize]) -> Option<Vec<(u32, State)>> {
    states_within(
        code,
        entries,
        Bounds::Known,
        &|_| Vec::new(),
        &mut Exits::default(),
    )
}

fn states_within(
    code: &[u8],
    entries: &[usize],
    bounds: Bounds,
    targets: &Targets<'_>,
    exits: &mut Exits,
) -> Option<Vec<(u32, State)>> {
    if code.len() > MAX_FUNCTION {
        return None;
    }
    let mut follow = Follow {
        code,
        info: InstructionInfoFactory::new(),
        before: vec![None; code.len()],
        todo: Vec::new(),
        jumps: None,
        by_table: Vec::new(),
        ways: Ways::default(),
        at: 0,
        bounds,
        targets,
        exits,
        probes: Vec::new(),
    };
    follow.reach(0, ENTRY)?;
    for entry in entries {
        follow.reach(*entry, ENTRY)?;
    }
    follow.run()?;
    match bounds {
        Bounds::Known => follow.tables()?,
        // What no jump leads to is not to be told from what other functions begin there.
        Bounds::Guessed => follow.known_tables()?,
    }
    // A loop that goes down the stack page by page: no one depth holds in it.
    for probe in &follow.probes {
        for state in follow.before.get_mut(probe.clone())?.iter_mut().flatten() {
            state.depth = None;
        }
    }
    let states = (0u32..).zip(follow.before);
    Some(
        states
            .filter_map(|(at, state)| Some((at, state?)))
            .collect(),
    )
}

/// What can be proven of a function; `entries` are offsets at which it is called as well. Adds to
/// `starts` where others begin, as offsets from its start, if its own bounds are guesses.
pub(super) fn rules(
    code: &[u8],
    entries: &[usize],
    bounds: Bounds,
    targets: &Targets<'_>,
    starts: &mut Vec<u32>,
) -> Proof {
    let mut exits = Exits::default();
    match proven(code, entries, bounds, targets, &mut exits) {
        _ if !exits.no_starts.is_empty() => Proof::NoStarts(exits.no_starts),
        Some(rules) => {
            starts.append(&mut exits.starts);
            Proof::Rules(rules)
        }
        None => Proof::None,
    }
}

/// Rules by offset from the function's start, of which the first is at 0; each holds up to the
/// next. Code that is never reached (constants, padding) has [`Rule::GAP`]. None where nothing
/// can be proven.
fn proven(
    code: &[u8],
    entries: &[usize],
    bounds: Bounds,
    targets: &Targets<'_>,
    exits: &mut Exits,
) -> Option<Vec<(u32, Rule)>> {
    if code.starts_with(&SIGNAL_TRAMPOLINE) {
        let end = SIGNAL_TRAMPOLINE.len() as u32;
        return Some(vec![(0, Rule::SIG), (end, Rule::GAP)]);
    }
    let states = states_within(code, entries, bounds, targets, exits)?;
    let mut rules: Vec<(u32, Rule)> = Vec::new();
    let mut end = 0;
    let mut push = |at: u32, rule: Rule| {
        if rules.last().is_none_or(|(_, last)| *last != rule) {
            rules.push((at, rule));
        }
    };
    for (at, state) in states {
        if at > end {
            push(end, Rule::GAP);
        }
        push(at, state.rule());
        end = end.max(at + decode(code, at as usize)?.len() as u32);
    }
    if (end as usize) < code.len() {
        push(end, Rule::GAP);
    }
    Some(rules)
}

/// Offsets, from the start of the code, to which its branches and calls lead; those before it
/// wrap around.
pub(super) fn targets(code: &[u8]) -> impl Iterator<Item = u64> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::Call
                    | FlowControl::ConditionalBranch
                    | FlowControl::UnconditionalBranch
            ) && instruction.near_branch_target() != 0
        })
        .map(|instruction| instruction.near_branch_target())
        .collect::<Vec<u64>>()
        .into_iter()
}

fn decode(code: &[u8], at: usize) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, code.get(at..)?, at as u64, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether a jump takes its target from one place in memory: a slot of the global offset table, or
/// of a virtual table. A table of a function's own parts is read with an index.
fn is_plain_pointer(jump: &Instruction) -> bool {
    jump.op0_kind() == OpKind::Memory && jump.memory_index() == Register::None
}

struct Follow<'code> {
    code: &'code [u8],
    info: InstructionInfoFactory,
    before: Vec<Option<State>>,
    todo: Vec<usize>,
    /// What is known at all jumps through a register or memory that are no tail calls.
    jumps: Option<State>,
    /// Where those are, if the bounds are guesses.
    by_table: Vec<usize>,
    /// What leads to what, likewise.
    ways: Ways,
    /// The instruction that is followed.
    at: usize,
    bounds: Bounds,
    targets: &'code Targets<'code>,
    exits: &'code mut Exits,
    /// Loops that probe the stack.
    probes: Vec<Range<usize>>,
}

impl Follow<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(at) = self.todo.pop() {
            self.step(at)?;
        }
        Some(())
    }

    /// Follows the code that only a table of jump targets can lead to: all that was not reached
    /// so far, up to the padding at the end. It is entered with what all of the function's jumps
    /// by table leave with.
    fn tables(&mut self) -> Option<()> {
        let mut entered = Vec::new();
        while let Some(state) = self.jumps {
            for at in &entered {
                self.reach(*at, state)?;
            }
            self.run()?;
            let mut at = 0;
            while at < self.code.len() && !self.is_last(at) {
                let first = decode(self.code, at)?;
                // Padding, and what compilers put where nothing can come.
                let nothing = matches!(
                    first.mnemonic(),
                    Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2
                );
                if self.before.get(at)?.is_none() && !nothing {
                    entered.push(at);
                    self.reach(at, state)?;
                    self.run()?;
                }
                at += first.len();
            }
            // What was entered may have such jumps too, which know less.
            if self.jumps == Some(state) {
                break;
            }
        }
        Some(())
    }

    /// Follows jumps by table to where the table says; none where one takes its target from elsewhere.
    fn known_tables(&mut self) -> Option<()> {
        let mut followed = false;
        while let Some(at) = self.by_table.pop() {
            let state = (*self.before.get(at)?)?;
            let targets = self
                .ways
                .by_table(self.code, 0, at as u64, |table| (self.targets)(table));
            let Some(targets) = targets.filter(|targets| !targets.is_empty()) else {
                if state.leaves() {
                    continue;
                }
                return None;
            };
            followed = true;
            self.at = at;
            for target in targets {
                self.reach(usize::try_from(target).ok()?, state)?;
            }
            self.run()?;
        }
        (!followed || self.are_apart()).then_some(())
    }

    /// Whether no two instructions that are reached share bytes: then one of them is none.
    fn are_apart(&self) -> bool {
        let mut end = 0;
        let mut reached = self.before.iter().enumerate().filter(|(_, s)| s.is_some());
        reached.all(|(at, _)| {
            let is_apart = at >= end;
            end = at + decode(self.code, at).map_or(0, |instruction| instruction.len());
            is_apart
        })
    }

    /// Notes that the instruction at `at` may be reached with `state`.
    fn reach(&mut self, at: usize, state: State) -> Option<()> {
        let known = self.before.get_mut(at)?;
        if self.bounds == Bounds::Guessed {
            self.ways.add(self.at as u64, at as u64);
        }
        let met = match *known {
            None => state,
            Some(before) => before.meet(state)?,
        };
        if *known != Some(met) {
            *known = Some(met);
            self.todo.push(at);
        }
        Some(())
    }

    /// Follows one instruction to those after it.
    fn step(&mut self, at: usize) -> Option<()> {
        self.at = at;
        let before = (*self.before.get(at)?)?;
        let instruction = decode(self.code, at)?;
        let next = at + instruction.len();
        let stops = matches!(instruction.mnemonic(), Mnemonic::Hlt | Mnemonic::Int3);
        // Padding behind a call that does not return.
        let padding = instruction.mnemonic() == Mnemonic::Nop && next == self.code.len();
        if stops || padding {
            return Some(());
        }
        let after = self.after(&instruction, before)?;
        match instruction.flow_control() {
            FlowControl::Next => self.reach(next, after),
            // `cmp %r11, %rsp; jne`: how compilers touch each page of a large frame.
            FlowControl::ConditionalBranch
                if before.probed && instruction.mnemonic() == Mnemonic::Jne =>
            {
                let head = self.target(&instruction).filter(|head| *head < at)?;
                self.probes.push(head..next);
                let whole = State {
                    depth: before.probe,
                    ..after
                };
                self.reach(next, whole.lower(0)?)
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                // What is called is another function, not a way to read `rip`.
                let is_call = instruction.mnemonic() == Mnemonic::Syscall
                    || instruction.is_call_near_indirect()
                    || (instruction.is_call_near() && self.is_outside(&instruction));
                if !is_call {
                    return None;
                }
                // The end of the code behind a call: one that does not return. Without bounds, padding
                // tells it.
                if self.is_last(next) || self.bounds == Bounds::Guessed && self.is_padding(next) {
                    return Some(());
                }
                self.reach(next, after)
            }
            FlowControl::ConditionalBranch => {
                self.jump(&instruction, after)?;
                self.reach(next, after)
            }
            FlowControl::UnconditionalBranch => self.jump(&instruction, after),
            FlowControl::Return => {
                let is_return = before.depth == Some(8) && before.rbp_kept && !before.outermost;
                (is_return && instruction.code() == Code::Retnq).then_some(())
            }
            FlowControl::IndirectBranch => {
                let leaves = before.leaves();
                if leaves && (self.is_last(next) || is_plain_pointer(&instruction)) {
                    return Some(());
                }
                if self.bounds == Bounds::Guessed {
                    self.by_table.push(at);
                    return Some(());
                }
                self.jumps = Some(match self.jumps {
                    Some(state) => state.meet(before)?,
                    None => before,
                });
                Some(())
            }
            FlowControl::Exception => Some(()),
            _ => None,
        }
    }

    fn is_padding(&self, at: usize) -> bool {
        let next = decode(self.code, at);
        next.is_some_and(|next| matches!(next.mnemonic(), Mnemonic::Nop | Mnemonic::Int3))
    }

    /// Whether nothing but padding follows: then an indirect jump leaves the function.
    fn is_last(&self, next: usize) -> bool {
        self.code.get(next..).is_some_and(|rest| {
            // What compilers and assemblers pad with.
            rest.iter().all(|byte| matches!(byte, 0xcc | 0x90 | 0x00))
        })
    }

    fn target(&self, instruction: &Instruction) -> Option<usize> {
        let target = usize::try_from(instruction.near_branch_target()).ok()?;
        (target < self.code.len()).then_some(target)
    }

    fn is_outside(&self, instruction: &Instruction) -> bool {
        self.target(instruction).is_none() || self.target(instruction) == Some(0)
    }

    /// Out of the function a jump is a tail call, or goes to a part of it that lies elsewhere and
    /// is none of ours.
    fn jump(&mut self, instruction: &Instruction, state: State) -> Option<()> {
        if let Some(target) = self.target(instruction) {
            return self.reach(target, state);
        }
        let leaves = state.depth == Some(8) && state.rbp_kept || state.outermost;
        if self.bounds == Bounds::Guessed {
            let exits = if leaves {
                &mut self.exits.starts
            } else {
                &mut self.exits.no_starts
            };
            exits.push(instruction.near_branch_target() as u32);
        }
        Some(())
    }

    /// What is known after an instruction, where that can be told.
    fn after(&mut self, instruction: &Instruction, before: State) -> Option<State> {
        if before.outermost {
            return Some(before);
        }
        let register = |n: u32| {
            (instruction.op_kind(n) == OpKind::Register).then(|| instruction.op_register(n))
        };
        let operands = match instruction.op_count() {
            2 => (register(0), register(1)),
            _ => (None, None),
        };
        let mut after = self.after_but_probes(instruction, before)?;
        after.probed = before.probe.is_some()
            && instruction.mnemonic() == Mnemonic::Cmp
            && matches!(
                operands,
                (Some(Register::RSP), Some(Register::R11))
                    | (Some(Register::R11), Some(Register::RSP))
            );
        let plain = instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None;
        if instruction.mnemonic() == Mnemonic::Lea && operands.0 == Some(Register::R11) && plain {
            let displacement = instruction.memory_displacement64().cast_signed();
            after.probe = before.below_cfa(instruction.memory_base(), displacement);
        } else if before.probe.is_some() && self.writes(instruction, Register::R11) {
            after.probe = None;
        }
        Some(after)
    }

    /// Whether an instruction may change a register. Whatever is called may.
    fn writes(&mut self, instruction: &Instruction, register: Register) -> bool {
        if instruction.flow_control() != FlowControl::Next {
            return !matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            );
        }
        let used = self.info.info(instruction).used_registers();
        used.iter().any(|used| {
            used.register().full_register() == register
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
        })
    }

    fn after_but_probes(&mut self, instruction: &Instruction, before: State) -> Option<State> {
        let register = |n: u32| match instruction.op_kind(n) {
            OpKind::Register => instruction.op_register(n),
            _ => Register::None,
        };
        let immediate = || instruction.immediate(1).cast_signed();
        let plain = instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None;
        let displacement = instruction.memory_displacement64().cast_signed();
        let memory = || {
            if plain {
                before.below_cfa(instruction.memory_base(), displacement)
            } else {
                None
            }
        };
        let (first, second) = match instruction.op_count() {
            0 => (Register::None, Register::None),
            1 => (register(0), Register::None),
            _ => (register(0), register(1)),
        };
        match (instruction.mnemonic(), first, second) {
            (Mnemonic::Push, _, _) => {
                let mut after = before.lower(-i64::from(instruction.stack_pointer_increment()))?;
                if first == Register::RBP && before.rbp_kept && before.rbp_saved.is_none() {
                    after.rbp_saved = after.depth;
                }
                Some(after)
            }
            (Mnemonic::Pop, Register::RSP, _) => None,
            (Mnemonic::Pop, Register::RBP, _) => {
                let mut after = before.overwrite_rbp();
                after.rbp_kept = before.depth.is_some() && before.depth == before.rbp_saved;
                after.lower(-8)
            }
            (Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq, _, _) => {
                before.lower(-i64::from(instruction.stack_pointer_increment()))
            }
            (Mnemonic::Leave, _, _) => {
                let frame = before.frame?;
                let mut after = before.overwrite_rbp();
                after.rbp_kept = before.rbp_saved == Some(frame);
                after.depth = Some(frame);
                after.lower(-8)
            }
            (Mnemonic::Sub, Register::RSP, Register::None)
                if instruction.op1_kind() != OpKind::Memory =>
            {
                before.lower(immediate())
            }
            (Mnemonic::Add, Register::RSP, Register::None)
                if instruction.op1_kind() != OpKind::Memory =>
            {
                before.lower(immediate().checked_neg()?)
            }
            // An alignment, or an array whose length is known only when it runs: what is in the frame is
            // found by `rbp`.
            (Mnemonic::And, Register::RSP, Register::None) | (Mnemonic::Sub, Register::RSP, _) => {
                before.frame?;
                Some(State {
                    depth: None,
                    ..before
                })
            }
            (Mnemonic::Lea, Register::RSP, _) => {
                let after = State {
                    depth: Some(memory()?),
                    ..before
                };
                after.lower(0)
            }
            (Mnemonic::Mov, Register::RSP, Register::RBP) => {
                let after = State {
                    depth: Some(before.frame?),
                    ..before
                };
                after.lower(0)
            }
            (Mnemonic::Mov, Register::RBP, Register::RSP) => Some(State {
                frame: before.depth,
                ..before.overwrite_rbp()
            }),
            (Mnemonic::Lea, Register::RBP, _) => Some(State {
                frame: memory(),
                ..before.overwrite_rbp()
            }),
            (Mnemonic::Mov, Register::RBP, Register::None)
                if instruction.op1_kind() == OpKind::Memory =>
            {
                let restores = before.rbp_saved.is_some() && memory() == before.rbp_saved;
                Some(State {
                    rbp_kept: restores,
                    ..before.overwrite_rbp()
                })
            }
            (Mnemonic::Mov, Register::None, Register::RBP)
                if before.rbp_kept && before.rbp_saved.is_none() =>
            {
                Some(State {
                    rbp_saved: memory().filter(|slot| *slot > 8),
                    ..before
                })
            }
            (Mnemonic::Xor, Register::EBP | Register::RBP, Register::EBP | Register::RBP)
                if first == second && before.rbp_kept && before.rbp_saved.is_none() =>
            {
                Some(State {
                    outermost: true,
                    ..before.overwrite_rbp()
                })
            }
            _ => self.other(instruction, before),
        }
    }

    /// After an instruction that is followed for what it writes only.
    fn other(&mut self, instruction: &Instruction, before: State) -> Option<State> {
        let call = matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return
        );
        let mut after = before;
        for used in self.info.info(instruction).used_registers() {
            if !matches!(
                used.access(),
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            ) {
                continue;
            }
            match used.register().full_register() {
                Register::RSP if !call => return None,
                Register::RBP => after = after.overwrite_rbp(),
                _ => {}
            }
        }
        Some(after)
    }
}
