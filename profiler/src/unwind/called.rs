//! Where functions begin of which neither a symbol nor a frame description entry tells: musl's libc in
//! a stripped program, assembly. Whoever calls them names them, or takes their address.

use super::jumps::{JumpTables, Ways};
use super::relocations::{ReadAt, pointers};
use crate::process::module::Elf;
use crate::units::Svma;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};
use memchr::memchr3_iter;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Code without any such sign that is looked at in one image, in bytes. musl's libc has 84 KiB in a
/// program that uses what programs use.
const MAX_UNCOVERED: u64 = 4 << 20;
/// Covered code in which callers are looked for, in bytes.
const MAX_COVERED: u64 = 512 << 20;
/// Largest function in which a call is looked at.
const MAX_CALLER: u32 = 1 << 20;
/// Calls looked at, of what may be calls.
const MAX_CALLS: usize = 1 << 18;
/// Instructions followed from one entry, and entries.
const MAX_FOLLOWED: usize = 1 << 14;
const MAX_ENTRIES: usize = 1 << 14;
/// Bytes read at once.
const CHUNK: u32 = 1 << 20;
/// Opcodes with a displacement from the next instruction: `call`, `jmp`, `lea`.
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
const LEA: u8 = 0x8d;
/// Bytes of the displacement.
const DISPLACEMENT: u32 = 4;

/// Stretches of code, by their starts.
struct Stretches<'a>(&'a [Range<u32>]);

impl Stretches<'_> {
    fn of(&self, at: u32) -> Option<&Range<u32>> {
        let after = self.0.partition_point(|range| range.start <= at);
        let range = self.0.get(after.checked_sub(1)?)?;
        range.contains(&at).then_some(range)
    }

    fn any(&self, at: u64) -> Option<u32> {
        let at = u32::try_from(at).ok()?;
        self.of(at).map(|_| at)
    }
}

/// What looks for callers.
struct Search<'a, 'data> {
    elf: &'a Elf<'data>,
    file: &'a ReadAt<'a>,
    base: Svma,
    gaps: Stretches<'a>,
    /// The code of each, by its start.
    gap_code: HashMap<u32, Vec<u8>>,
    tables: &'a JumpTables<'a, 'data>,
}

/// The functions in stretches of code that nothing covers.
pub(super) struct Called<'a, 'data> {
    search: Search<'a, 'data>,
    entries: BTreeSet<u32>,
}

impl<'a, 'data> Called<'a, 'data> {
    /// Finds those in `gaps`. `covered` are the functions that are known, sorted, and `entries` where
    /// others are known to begin; all is relative to `base`.
    pub(super) fn find(
        elf: &'a Elf<'data>,
        file: &'a ReadAt<'a>,
        base: Svma,
        covered: &[(u32, u32)],
        gaps: &'a [Range<u32>],
        tables: &'a JumpTables<'a, 'data>,
        entries: BTreeSet<u32>,
    ) -> Called<'a, 'data> {
        let sum = |lens: &mut dyn Iterator<Item = u32>| lens.map(u64::from).sum::<u64>();
        let uncovered = sum(&mut gaps.iter().map(|gap| gap.end - gap.start));
        let known = sum(&mut covered
            .iter()
            .map(|(start, end)| end.saturating_sub(*start)));
        let search = Search {
            elf,
            file,
            base,
            gaps: Stretches(gaps),
            gap_code: HashMap::new(),
            tables,
        };
        let mut called = Called {
            search,
            entries: BTreeSet::new(),
        };
        if uncovered <= MAX_UNCOVERED && known <= MAX_COVERED && !gaps.is_empty() {
            let search = &mut called.search;
            let code = gaps
                .iter()
                .filter_map(|gap| Some((gap.start, search.code(gap)?)));
            search.gap_code = code.collect();
            let named = search.named_by_known(covered).into_iter();
            let entries = named.chain(search.pointed_to()).chain(entries);
            let entries: Vec<u32> = entries.collect();
            called.add(entries);
        }
        called
    }

    /// Takes in where more begin. Whether that was new.
    pub(super) fn add(&mut self, starts: Vec<u32>) -> bool {
        let before = self.entries.len();
        let gaps = &self.search.gaps;
        let within = starts.into_iter().filter(|start| gaps.of(*start).is_some());
        let new: Vec<u32> = within.filter(|start| self.entries.insert(*start)).collect();
        self.search.follow(&mut self.entries, new);
        self.entries.len() > before
    }

    /// From where each begins to where it may reach.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u32>> {
        let nexts = self.entries.iter().skip(1).map(Some).chain([None]);
        self.entries.iter().zip(nexts).filter_map(|(entry, next)| {
            let gap = self.search.gaps.of(*entry)?;
            Some(*entry..next.map_or(gap.end, |next| gap.end.min(*next)))
        })
    }
}

impl Search<'_, '_> {
    fn read(&self, at: u32, into: &mut [u8]) -> bool {
        let offset = self.elf.file_offset(Svma(self.base.0 + u64::from(at)));
        offset.is_some_and(|offset| (self.file)(into, offset))
    }

    fn code(&self, range: &Range<u32>) -> Option<Vec<u8>> {
        let mut code = vec![0; range.len()];
        self.read(range.start, &mut code).then_some(code)
    }

    /// Entries that the known functions call or take the address of.
    fn named_by_known(&self, covered: &[(u32, u32)]) -> BTreeSet<u32> {
        let mut by_function: BTreeMap<(u32, u32), HashSet<u32>> = BTreeMap::new();
        let mut count = 0;
        for stretch in stretches(covered) {
            for (opcode, target) in self.may_call(&stretch) {
                count += 1;
                let after = covered.partition_point(|(start, _)| *start <= opcode);
                let function = after.checked_sub(1).and_then(|at| covered.get(at));
                if let Some(function) = function.filter(|(_, end)| opcode < *end) {
                    by_function.entry(*function).or_default().insert(target);
                }
            }
            if count > MAX_CALLS {
                break;
            }
        }
        let mut entries = BTreeSet::new();
        for ((start, end), targets) in by_function {
            if end - start > MAX_CALLER {
                continue;
            }
            let Some(code) = self.code(&(start..end)) else {
                continue;
            };
            // Bytes that look like a call may be part of another instruction.
            let decoder = Decoder::with_ip(64, &code, start.into(), DecoderOptions::NONE);
            let named = decoder.into_iter().filter_map(|i| names_entry(&i, true));
            let named = named.filter_map(|target| self.gaps.any(target));
            entries.extend(named.filter(|target| targets.contains(target)));
        }
        entries
    }

    /// Entries to which pointers lead that the loader moves: where functions are called by the global
    /// offset table, nothing else names them.
    fn pointed_to(&self) -> BTreeSet<u32> {
        let pointers = pointers(self.elf, self.file).into_iter();
        let mut entries = BTreeSet::new();
        for entry in pointers.filter_map(|at| self.gaps.any(at.checked_sub(self.base.0)?)) {
            if entries.len() < MAX_ENTRIES {
                entries.insert(entry);
            }
        }
        entries
    }

    /// Where in a stretch of known code something may be that leads to a gap, and where to.
    fn may_call(&self, stretch: &Range<u32>) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let mut at = stretch.start;
        let mut code = vec![0; CHUNK.min(stretch.end - stretch.start) as usize];
        while at < stretch.end {
            let len = CHUNK.min(stretch.end - at);
            let Some(chunk) = code.get_mut(..len as usize) else {
                break;
            };
            if !self.read(at, chunk) {
                break;
            }
            for opcode in memchr3_iter(CALL, JMP, LEA, chunk) {
                let is_lea = chunk.get(opcode) == Some(&LEA);
                let skip = if is_lea { 2 } else { 1 };
                let bytes = chunk.get(opcode + skip..).and_then(<[u8]>::first_chunk);
                let Some(displacement) = bytes.map(|bytes| i32::from_le_bytes(*bytes)) else {
                    continue;
                };
                let from = at + opcode as u32;
                let next = u64::from(from) + skip as u64 + u64::from(DISPLACEMENT);
                let target = next.wrapping_add_signed(displacement.into());
                if let Some(target) = self.gaps.any(target) {
                    found.push((from, target));
                }
            }
            // One may lie across the end of what was read.
            at = if at + len == stretch.end {
                stretch.end
            } else {
                at + len - (DISPLACEMENT + 2)
            };
        }
        found
    }

    /// The code of a gap from an entry on.
    fn rest_of_gap(&self, entry: u32) -> Option<&[u8]> {
        let gap = self.gaps.of(entry)?;
        let code = self.gap_code.get(&gap.start)?;
        code.get((entry - gap.start) as usize..)
    }

    /// Adds the entries that `todo`, which are among them, call in turn.
    fn follow(&self, entries: &mut BTreeSet<u32>, mut todo: Vec<u32>) {
        while let Some(entry) = todo.pop() {
            let Some(code) = self.rest_of_gap(entry) else {
                continue;
            };
            // A table does not lead beyond where the next function is known to begin.
            let next = entries.range(entry + 1..).next();
            let end = u64::from(next.copied().unwrap_or(u32::MAX));
            let end = self.base.0.saturating_add(end);
            let tables = |table: u64| {
                let function = self.base.0 + u64::from(entry)..end;
                let targets = self
                    .tables
                    .targets(self.base.0.wrapping_add(table), &function);
                let targets = targets.into_iter().map(|at| at - self.base.0);
                targets.collect()
            };
            for target in named_by(code, entry, &tables) {
                let target = self.gaps.any(target);
                if let Some(target) = target.filter(|_| entries.len() < MAX_ENTRIES)
                    && entries.insert(target)
                {
                    todo.push(target);
                }
            }
        }
    }
}

/// What the code that can be reached from its first byte calls or takes the address of. `tables` tells to
/// what a table at an address leads.
fn named_by(code: &[u8], ip: u32, tables: &dyn Fn(u64) -> Vec<u64>) -> BTreeSet<u64> {
    let ip = u64::from(ip);
    let mut named = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut ways = Ways::default();
    let mut todo = vec![ip];
    while let Some(at) = todo.pop() {
        if seen.len() >= MAX_FOLLOWED || !seen.insert(at) {
            continue;
        }
        let rest = at.checked_sub(ip).and_then(|at| usize::try_from(at).ok());
        let Some(rest) = rest.and_then(|at| code.get(at..)) else {
            continue;
        };
        let instruction = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            continue;
        }
        named.extend(names_entry(&instruction, false));
        let (next, target) = (instruction.next_ip(), instruction.near_branch_target());
        let leads_to = match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => vec![next],
            FlowControl::ConditionalBranch => vec![next, target],
            FlowControl::UnconditionalBranch => vec![target],
            FlowControl::IndirectBranch => ways.by_table(code, ip, at, tables).unwrap_or_default(),
            _ => Vec::new(),
        };
        leads_to.iter().for_each(|to| ways.add(at, *to));
        todo.extend(leads_to);
    }
    named
}

/// The function that an instruction calls or takes the address of. Out of another function a jump
/// leads to one as well.
fn names_entry(instruction: &Instruction, jumps: bool) -> Option<u64> {
    let jump = jumps && instruction.flow_control() == FlowControl::UnconditionalBranch;
    if instruction.is_call_near() || jump {
        return (instruction.near_branch_target() != 0).then(|| instruction.near_branch_target());
    }
    let takes = instruction.code() == Code::Lea_r64_m && instruction.is_ip_rel_memory_operand();
    takes.then(|| instruction.ip_rel_memory_address())
}

/// Known functions that follow each other are read in one go.
fn stretches(covered: &[(u32, u32)]) -> Vec<Range<u32>> {
    let mut stretches: Vec<Range<u32>> = Vec::new();
    for &(start, end) in covered {
        match stretches.last_mut() {
            Some(last) if start <= last.end.saturating_add(64) => last.end = last.end.max(end),
            _ => stretches.push(start..end),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reached_names_what_it_calls() {
        // call +0x20; je over; lea 0x10(%rip), %rax; ret; (over:) jmp back; ud2; call (not reached)
        let code = [
            0xe8, 0x20, 0, 0, 0, // 0x100: call 0x125
            0x74, 0x08, // 0x105: je 0x10f
            0x48, 0x8d, 0x05, 0x10, 0, 0, 0,    // 0x107: lea 0x11e
            0xc3, // 0x10e
            0xeb, 0xf4, // 0x10f: jmp 0x105
            0x0f, 0x0b, // 0x111
            0xe8, 0, 0, 0, 0, // 0x113: call 0x118
        ];
        let named: Vec<u64> = named_by(&code, 0x100, &|_| Vec::new())
            .into_iter()
            .collect();
        assert_eq!(named, [0x11e, 0x125]);
    }

    #[test]
    fn known_functions_side_by_side_are_one_stretch() {
        let covered = [(0x10, 0x20), (0x20, 0x31), (0x40, 0x50), (0x1000, 0x1010)];
        assert_eq!(stretches(&covered), [0x10..0x50, 0x1000..0x1010]);
    }
}
