//! Tables of jump targets: what a `match` or a `switch` of many cases becomes.
//!
//! In code that may be loaded anywhere, a table holds how far its targets are from itself, four bytes
//! each, and the code reads
//!
//! ```text
//! lea TABLE(%rip), %rcx
//! movslq (%rcx,%rax,4), %rax
//! add %rcx, %rax
//! jmp *%rax
//! ```
//!
//! Nothing says how many targets it has. What is referred to next begins where it ends at the latest;
//! that is what else any instruction or any pointer refers to. Up to there each must lie within the
//! function. Whatever is taken for a reference and is none makes the table shorter than it is:
//! then code is missing that only the table leads to, and nothing is wrong.

use super::relocations::{ReadAt, pointers};
use crate::process::module::Elf;
use crate::units::Svma;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, MemorySize,
    OpAccess, OpKind, Register,
};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Instructions, tables and targets looked at for the jumps of one function.
const MAX_LOOKED_AT: usize = 1 << 16;
/// What a table counts for besides its targets: it has to be read.
const TABLE: usize = 256;
/// Ways that are kept to one instruction.
const MAX_WAYS: usize = 256;
/// Targets of one table.
const MAX_TARGETS: usize = 4096;
/// Of those read at once.
const READ: usize = 64;
/// Bytes of one.
const TARGET: usize = 4;
/// References kept, of 8 bytes each. Code of 24 MiB has 123,000.
const MAX_REFERENCES: usize = 1 << 20;
/// Bytes of code read at once.
const CHUNK: usize = 1 << 20;

/// By which instructions each is reached, and what may still be looked at to find tables: a file may have
/// as many jumps as bytes.
#[derive(Debug)]
pub(super) struct Ways {
    to: HashMap<u64, Vec<u64>>,
    left: usize,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways {
            to: HashMap::new(),
            left: MAX_LOOKED_AT,
        }
    }
}

impl Ways {
    /// The instruction at `from` leads to that at `to`.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        let from_all = self.to.entry(to).or_default();
        if !from_all.contains(&from) && from_all.len() < MAX_WAYS {
            from_all.push(from);
        }
    }

    /// To what the jump at `at` leads, if it takes its target from a table of which `tables` tells what is in
    /// it. `code` begins at the address `ip`.
    pub(super) fn by_table(
        &mut self,
        code: &[u8],
        ip: u64,
        at: u64,
        tables: impl Fn(u64) -> Vec<u64>,
    ) -> Option<Vec<u64>> {
        let table = self.table_of(code, ip, at)?;
        self.left = self.left.checked_sub(TABLE)?;
        let targets = tables(table);
        self.left = self.left.checked_sub(targets.len())?;
        Some(targets)
    }

    /// The address of that table: on all ways to the jump it has to be the same.
    fn table_of(&mut self, code: &[u8], ip: u64, at: u64) -> Option<u64> {
        let jump = decode(code, ip, at)?;
        if jump.flow_control() != FlowControl::IndirectBranch || jump.op0_kind() != OpKind::Register
        {
            return None;
        }
        let mut info = InstructionInfoFactory::new();
        let mut found = None;
        let mut todo = vec![(at, Wanted::Target(jump.op_register(0)))];
        let mut seen = HashSet::new();
        while let Some((at, wanted)) = todo.pop() {
            // Where it begins, nothing is known of its registers.
            for before in self.to.get(&at).filter(|_| at != ip)? {
                if !seen.insert((*before, wanted)) {
                    continue;
                }
                self.left = self.left.checked_sub(1)?;
                let instruction = decode(code, ip, *before)?;
                match wanted.before(&instruction, &mut info)? {
                    Found::Wanted(next) => todo.push((*before, next)),
                    Found::Table(table) if found.is_none_or(|found| found == table) => {
                        found = Some(table);
                    }
                    Found::Table(_) => return None,
                }
            }
        }
        found
    }
}

/// The instruction at an address.
fn decode(code: &[u8], ip: u64, at: u64) -> Option<Instruction> {
    let rest = code.get(usize::try_from(at.checked_sub(ip)?).ok()?..)?;
    let instruction = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// What has to be known of an earlier instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// What this register is the sum of.
    Target(Register),
    /// Which of two registers was read from the table at the other.
    Distance(Register, Register),
    /// What address this register has.
    Table(Register),
}

enum Found {
    Wanted(Wanted),
    Table(u64),
}

impl Wanted {
    /// What an instruction says of it; none where it does something else to a register of it.
    fn before(self, instruction: &Instruction, info: &mut InstructionInfoFactory) -> Option<Found> {
        let registers = match self {
            Wanted::Target(sum) => [sum, Register::None],
            Wanted::Distance(one, other) => [one, other],
            Wanted::Table(table) => [table, Register::None],
        };
        if !writes(instruction, registers, info)? {
            return Some(Found::Wanted(self));
        }
        let first = instruction.op_register(0);
        Some(match (self, instruction.code()) {
            (Wanted::Target(sum), Code::Add_r64_rm64 | Code::Add_rm64_r64)
                if instruction.op0_kind() == OpKind::Register
                    && instruction.op1_kind() == OpKind::Register
                    && instruction.op_register(1) != sum =>
            {
                Found::Wanted(Wanted::Distance(sum, instruction.op_register(1)))
            }
            (Wanted::Distance(one, other), Code::Movsxd_r64_rm32)
                if instruction.op1_kind() == OpKind::Memory
                    && instruction.memory_size() == MemorySize::Int32
                    && instruction.memory_index() != Register::None
                    && instruction.memory_index_scale() as usize == TARGET
                    && instruction.memory_displacement64() == 0
                    && instruction.segment_prefix() == Register::None =>
            {
                let table = if first == one { other } else { one };
                let is_read = instruction.memory_base() == table && first != table;
                is_read.then_some(Found::Wanted(Wanted::Table(table)))?
            }
            (Wanted::Table(_), Code::Lea_r64_m) if instruction.is_ip_rel_memory_operand() => {
                Found::Table(instruction.ip_rel_memory_address())
            }
            _ => return None,
        })
    }
}

/// Whether an instruction changes one of these registers; none where that is not known: a call changes
/// all that it need not keep.
fn writes(
    instruction: &Instruction,
    registers: [Register; 2],
    info: &mut InstructionInfoFactory,
) -> Option<bool> {
    match instruction.flow_control() {
        FlowControl::Next => {}
        FlowControl::ConditionalBranch
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch => return Some(false),
        FlowControl::Call | FlowControl::IndirectCall => {
            let kept = |register: &Register| {
                matches!(
                    register,
                    Register::None
                        | Register::RBX
                        | Register::R12
                        | Register::R13
                        | Register::R14
                        | Register::R15
                )
            };
            return registers.iter().all(kept).then_some(false);
        }
        _ => return None,
    }
    let used = info.info(instruction).used_registers();
    Some(used.iter().any(|used| {
        registers.contains(&used.register().full_register())
            && !matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            )
    }))
}

/// The tables of an image.
pub(super) struct JumpTables<'a, 'data> {
    elf: &'a Elf<'data>,
    file: &'a ReadAt<'a>,
    /// What is referred to, sorted; found once a table is looked at. None if that is too much.
    references: OnceCell<Option<Vec<u64>>>,
}

impl<'a, 'data> JumpTables<'a, 'data> {
    pub(super) fn new(elf: &'a Elf<'data>, file: &'a ReadAt<'a>) -> JumpTables<'a, 'data> {
        JumpTables {
            elf,
            file,
            references: OnceCell::new(),
        }
    }

    /// To what the table at an address leads, as far as it is within a function.
    pub(super) fn targets(&self, table: u64, function: &Range<u64>) -> Vec<u64> {
        let references = self.references.get_or_init(|| self.find_references());
        let Some(references) = references else {
            return Vec::new();
        };
        let after = references.partition_point(|at| *at <= table);
        let segment = self
            .elf
            .segments()
            .iter()
            .find(|segment| !segment.writable && segment.file_backed().contains(&table));
        let Some(segment) = segment else {
            return Vec::new();
        };
        let next = references.get(after).copied().unwrap_or(u64::MAX);
        let room = next.min(segment.file_backed().end) - table;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let mut left = (room / TARGET).min(MAX_TARGETS);
        let (mut targets, mut at) = (Vec::new(), table);
        let mut bytes = [0; READ * TARGET];
        while left > 0 {
            let count = left.min(READ);
            let Some(read) = bytes.get_mut(..count * TARGET) else {
                break;
            };
            let offset = self.elf.file_offset(Svma(at));
            if !offset.is_some_and(|offset| (self.file)(read, offset)) {
                break;
            }
            let (distances, _) = read.as_chunks::<TARGET>();
            let distances = distances.iter().map(|bytes| i32::from_le_bytes(*bytes));
            let leads_to = distances.map(|distance| table.wrapping_add_signed(distance.into()));
            let before = targets.len();
            targets.extend(leads_to.take_while(|target| function.contains(target)));
            if targets.len() < before + count {
                break;
            }
            (left, at) = (left - count, at + (count * TARGET) as u64);
        }
        targets
    }

    /// All that instructions and pointers refer to where tables may be.
    fn find_references(&self) -> Option<Vec<u64>> {
        let readable: Vec<Range<u64>> = self
            .elf
            .segments()
            .iter()
            .filter(|segment| !segment.writable)
            .map(|segment| segment.file_backed())
            .collect();
        let may_have = |at: &u64| readable.iter().any(|range| range.contains(at));
        let pointers = pointers(self.elf, self.file).into_iter();
        let mut references: Vec<u64> = pointers.filter(may_have).collect();
        let mut code = vec![0; CHUNK];
        for segment in self.elf.executable() {
            let Range { start: mut at, end } = segment.file_backed();
            while at < end {
                let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let chunk = code.get_mut(..len)?;
                if !(self.file)(chunk, self.elf.file_offset(Svma(at))?) {
                    return None;
                }
                references.extend(relative_to_code(chunk, at).filter(may_have));
                if references.len() > MAX_REFERENCES {
                    return None;
                }
                // One may lie across the end of what was read.
                let overlap = if at + len as u64 == end { 0 } else { TARGET };
                at += len.saturating_sub(overlap).max(1) as u64;
            }
        }
        references.sort_unstable();
        references.dedup();
        Some(references)
    }
}

/// What the bytes at `at` may refer to by distances from the next instruction: all bytes that may say so
/// (ModRM: `mod` 0, `rm` 5), whether an instruction has them there or not.
fn relative_to_code(code: &[u8], at: u64) -> impl Iterator<Item = u64> {
    code.windows(1 + TARGET)
        .enumerate()
        .filter_map(move |(i, bytes)| {
            let (mod_rm, distance) = bytes.split_first()?;
            let distance = i32::from_le_bytes(*distance.first_chunk()?);
            let next = at + (i + 1 + TARGET) as u64;
            (mod_rm & 0xc7 == 0x05).then(|| next.wrapping_add_signed(distance.into()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table that the jump at `jump` is found to use in code at 0x1000 of which all instructions lead
    /// to the next, and those of `more` elsewhere as well.
    fn table(code: &[&[u8]], jump: usize, more: &[(usize, usize)]) -> Option<u64> {
        let ip = 0x1000;
        let starts: Vec<u64> = code
            .iter()
            .scan(ip, |at, bytes| {
                let start = *at;
                *at += bytes.len() as u64;
                Some(start)
            })
            .collect();
        let mut ways = Ways::default();
        for pair in starts.windows(2) {
            ways.add(pair[0], pair[1]);
        }
        for (from, to) in more {
            ways.add(starts[*from], starts[*to]);
        }
        ways.table_of(&code.concat(), ip, starts[jump])
    }

    const PUSH: &[u8] = &[0x53]; // push %rbx
    const LEA_RCX: &[u8] = &[0x48, 0x8d, 0x0d, 0, 1, 0, 0]; // lea 0x100(%rip), %rcx
    const LEA_R12: &[u8] = &[0x4c, 0x8d, 0x25, 0, 1, 0, 0]; // lea 0x100(%rip), %r12
    const LOAD: &[u8] = &[0x48, 0x63, 0x04, 0x81]; // movslq (%rcx,%rax,4), %rax
    const LOAD_R12: &[u8] = &[0x49, 0x63, 0x04, 0x84]; // movslq (%r12,%rax,4), %rax
    const ADD: &[u8] = &[0x48, 0x01, 0xc8]; // add %rcx, %rax
    const ADD_R12: &[u8] = &[0x4c, 0x01, 0xe0]; // add %r12, %rax
    const JMP: &[u8] = &[0xff, 0xe0]; // jmp *%rax
    const CALL: &[u8] = &[0xe8, 0, 0, 1, 0];
    const NOP: &[u8] = &[0x90];

    #[test]
    fn a_jump_by_table_says_where_its_table_is() {
        assert_eq!(
            table(&[PUSH, LEA_RCX, LOAD, ADD, JMP], 4, &[]),
            Some(0x1108)
        );
        // Through another register, or by no table.
        let other = &[0xff, 0xe2]; // jmp *%rdx
        assert_eq!(table(&[PUSH, LEA_RCX, LOAD, ADD, other], 4, &[]), None);
        assert_eq!(table(&[PUSH, LEA_RCX, LOAD, NOP, JMP], 4, &[]), None);
        // Bytes instead of distances, and the middle of a table.
        let wide = &[0x48, 0x63, 0x04, 0xc1]; // movslq (%rcx,%rax,8), %rax
        assert_eq!(table(&[PUSH, LEA_RCX, wide, ADD, JMP], 4, &[]), None);
        let beyond = &[0x48, 0x63, 0x44, 0x81, 0x10]; // movslq 0x10(%rcx,%rax,4), %rax
        assert_eq!(table(&[PUSH, LEA_RCX, beyond, ADD, JMP], 4, &[]), None);
        // The address is another one by then.
        let changed = &[0x48, 0x83, 0xc1, 0x08]; // add $8, %rcx
        assert_eq!(
            table(&[PUSH, LEA_RCX, changed, LOAD, ADD, JMP], 5, &[]),
            None
        );
    }

    #[test]
    fn a_table_that_is_found_before_a_loop_is_used_in_it() {
        let code = [PUSH, LEA_R12, NOP, CALL, LOAD_R12, ADD_R12, JMP, NOP];
        assert_eq!(table(&code, 6, &[(6, 7), (7, 2)]), Some(0x1108));
        // A call need not keep rcx.
        let code = [PUSH, LEA_RCX, NOP, CALL, LOAD, ADD, JMP];
        assert_eq!(table(&code, 6, &[]), None);
    }

    #[test]
    fn of_two_tables_none_is_taken() {
        let other = &[0x48, 0x8d, 0x0d, 0, 2, 0, 0]; // lea 0x200(%rip), %rcx
        let code = [PUSH, LEA_RCX, NOP, LOAD, ADD, JMP, other];
        assert_eq!(table(&code, 5, &[]), Some(0x1108));
        assert_eq!(table(&code, 5, &[(6, 3)]), None);
        // Nor where one way leads there without any.
        let code = [PUSH, NOP, LEA_RCX, LOAD, ADD, JMP];
        assert_eq!(table(&code, 5, &[(1, 3)]), None);
    }

    #[test]
    fn references_are_relative_to_the_next_instruction() {
        let code = [LEA_RCX, NOP].concat();
        let found: Vec<u64> = relative_to_code(&code, 0x1000).collect();
        assert_eq!(found, [0x1107]);
    }
}
