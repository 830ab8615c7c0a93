//! The walk up a stack in userspace: by the same rows and the same step as in the kernel.

use super::Truncation;
use super::table::UnwindTable;
use crate::units::{Addr, Svma};
use profiler_common::row::{Rule, walk as code};
use profiler_common::stack::{KEPT_FRAMES, MAX_USER_FRAMES, MAX_WALKED_FRAMES};
use profiler_common::walk::{CONTINUE, Cursor, Memory, step};
use std::ops::Range;
use std::sync::Arc;

/// The registers of a stopped thread that unwinding needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    /// `rip`.
    pub ip: Addr,
    /// `rsp`.
    pub sp: Addr,
    /// `rbp`.
    pub bp: Addr,
}

/// Stands in a deep stack for the frames between its innermost and its outermost ones. No frame is
/// called from there.
pub const LEFT_OUT: Addr = Addr(0);

/// The frames of a deep stack as the kernel side keeps them, innermost first, of which `left_out` in
/// the middle are not there.
pub fn unroll(frames: &mut Vec<Addr>, left_out: u32) {
    if left_out == 0 || frames.len() != MAX_USER_FRAMES {
        return;
    }
    if let Some(outer) = frames.get_mut(KEPT_FRAMES..) {
        outer.rotate_left(left_out as usize % KEPT_FRAMES);
    }
    frames.insert(KEPT_FRAMES, LEFT_OUT);
}

/// Walks from `regs` to the thread's start and puts the instruction pointers into `out`, leaf
/// first: where the thread was stopped, then return addresses. Returns how the walk ended, one
/// of [`profiler_common::row::walk`]. Of more than [`MAX_USER_FRAMES`] frames those in the middle
/// are replaced by [`LEFT_OUT`].
///
/// `lookup` gives the rule for an address, none where nothing is mapped; it is asked for the
/// address before a return address.
pub fn walk(
    regs: Regs,
    mut lookup: impl FnMut(Addr) -> Option<Rule>,
    memory: &mut impl Memory,
    out: &mut Vec<Addr>,
) -> u32 {
    walk_counted(regs, &mut lookup, memory, out).0
}

/// As [`walk`]; also returns how many frames were passed by frame pointers alone
/// ([`Rule::FRAME_POINTER`]).
pub fn walk_counted(
    regs: Regs,
    mut lookup: impl FnMut(Addr) -> Option<Rule>,
    memory: &mut impl Memory,
    out: &mut Vec<Addr>,
) -> (u32, u32) {
    let outcome = walk_all(regs, &mut lookup, memory, out);
    if out.len() > MAX_USER_FRAMES {
        let outer = out.len() - KEPT_FRAMES;
        out.splice(KEPT_FRAMES..outer, [LEFT_OUT]);
    }
    outcome
}

fn walk_all(
    regs: Regs,
    lookup: &mut impl FnMut(Addr) -> Option<Rule>,
    memory: &mut impl Memory,
    out: &mut Vec<Addr>,
) -> (u32, u32) {
    let mut cursor = Cursor::new(regs.ip.0, regs.sp.0, regs.bp.0);
    let (mut pointer_steps, mut by_pointer) = (0, false);
    for _ in 0..MAX_WALKED_FRAMES {
        out.push(Addr(cursor.ip));
        let Some(rule) = lookup(Addr(cursor.lookup_pc())) else {
            // Where a frame pointer led here, it was none: there is no code to learn of.
            let outcome = if by_pointer {
                code::NO_PROGRESS
            } else {
                code::UNMAPPED
            };
            return (outcome, pointer_steps);
        };
        by_pointer = rule == Rule::FRAME_POINTER;
        pointer_steps += u32::from(by_pointer);
        let outcome = step(&mut cursor, rule, memory);
        if outcome != CONTINUE {
            return (outcome, pointer_steps);
        }
    }
    (code::TOO_DEEP, pointer_steps)
}

/// What a walk code means for a stack: none is a complete one. A code that this version does
/// not know counts as no stack.
#[must_use]
pub fn walk_outcome(code: u32) -> Option<Truncation> {
    Some(match code {
        code::COMPLETE => return None,
        code::TOO_DEEP => Truncation::TooDeep,
        code::UNMAPPED => Truncation::Unmapped,
        code::NO_ROW => Truncation::NoRow,
        code::UNSUPPORTED => Truncation::Unsupported,
        code::UNREADABLE => Truncation::Unreadable,
        code::NO_PROGRESS => Truncation::NoProgress,
        code::TOO_COSTLY => Truncation::TooCostly,
        _ => Truncation::NoStack,
    })
}

/// The executable mappings of a process with their tables, for walks in userspace.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    mappings: Vec<Mapped>,
}

/// One executable mapping.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Its addresses.
    pub range: Range<Addr>,
    /// Its load bias: address minus stated address.
    pub bias: u64,
    /// The table of its module.
    pub table: Arc<UnwindTable>,
}

impl Tables {
    /// Over mappings in any order; they must not overlap.
    #[must_use]
    pub fn new(mut mappings: Vec<Mapped>) -> Tables {
        mappings.sort_unstable_by_key(|m| m.range.start);
        Tables { mappings }
    }

    /// The rule for an address; none where nothing is mapped.
    #[must_use]
    pub fn rule(&self, pc: Addr) -> Option<Rule> {
        let after = self.mappings.partition_point(|m| m.range.start <= pc);
        let mapped = self.mappings.get(after.checked_sub(1)?)?;
        (pc < mapped.range.end).then(|| mapped.table.rule(Svma(pc.0.wrapping_sub(mapped.bias))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::row::kind;

    /// A stack on which every word is a return address.
    struct Endless;

    impl Memory for Endless {
        fn read_u64(&mut self, _: u64) -> Option<u64> {
            Some(0x40_0000)
        }
    }

    #[test]
    fn a_walk_keeps_as_many_frames_as_a_record_holds() {
        let mut out = Vec::new();
        let rule = Rule::encode(kind::RSP, 8, 0);
        let regs = Regs {
            ip: Addr(0x40_0000),
            sp: Addr(0x1000),
            bp: Addr(0),
        };
        let outcome = walk(regs, |_| Some(rule), &mut Endless, &mut out);
        assert_eq!(outcome, code::TOO_DEEP);
        assert_eq!(out.len(), MAX_USER_FRAMES + 1);
    }

    /// Frames that are numbered: where each is called from is its number.
    struct Numbered(u64);

    impl Memory for Numbered {
        fn read_u64(&mut self, _: u64) -> Option<u64> {
            self.0 += 1;
            Some(0x40_0000 + self.0)
        }
    }

    #[test]
    fn of_a_deep_stack_both_ends_are_kept_here_and_in_the_kernel() {
        let regs = Regs {
            ip: Addr(0x40_0000),
            sp: Addr(0x1000),
            bp: Addr(0),
        };
        for depth in [1, 64, 65, 127, 128, 129, 150, 191, 192, 193, 1000, 2048] {
            let all: Vec<Addr> = (0..depth).map(|n| Addr(0x40_0000 + n)).collect();
            let last = all.last().expect("a frame").0;
            let mut out = Vec::new();
            let lookup = |pc: Addr| {
                let end = pc.0 + u64::from(depth > 1) == last;
                Some(if end {
                    Rule::END
                } else {
                    Rule::encode(kind::RSP, 8, 0)
                })
            };
            assert_eq!(
                walk(regs, lookup, &mut Numbered(0), &mut out),
                code::COMPLETE
            );
            if depth <= 128 {
                assert_eq!(out, all);
            } else {
                assert_eq!(out.len(), 129);
                assert_eq!(out.get(..64), all.get(..64));
                assert_eq!(out.get(64), Some(&LEFT_OUT));
                assert_eq!(out.get(65..), all.get(all.len() - 64..));
            }

            let mut kept = vec![Addr(1); MAX_USER_FRAMES];
            for (n, frame) in (0..).zip(&all) {
                let ring = if n < 64 { 0 } else { KEPT_FRAMES as u64 };
                let slot = profiler_common::stack::frame_slot(n, ring);
                *kept.get_mut(slot).expect("within the record") = *frame;
            }
            kept.truncate(all.len());
            unroll(&mut kept, (all.len() as u32).saturating_sub(128));
            assert_eq!(kept, out);
        }
    }

    /// Code at 0x40_0000 that keeps frame pointers, and nothing else.
    #[test]
    fn a_frame_pointer_that_leads_to_no_code_was_none() {
        struct Words([u64; 8]);
        impl Memory for Words {
            fn read_u64(&mut self, addr: u64) -> Option<u64> {
                let word = addr.checked_sub(0x1000)? / 8;
                self.0.get(usize::try_from(word).ok()?).copied()
            }
        }
        let regs = Regs {
            ip: Addr(0x40_0000),
            sp: Addr(0x1000),
            bp: Addr(0x1008),
        };
        let lookup = |pc: Addr| (pc.0 >> 12 == 0x400).then_some(Rule::FRAME_POINTER);
        let ended = |words: [u64; 8]| {
            let mut out = Vec::new();
            let (outcome, steps) = walk_counted(regs, lookup, &mut Words(words), &mut out);
            (outcome, steps, out.len())
        };
        let whole = [0, 0x1018, 0x40_0100, 0, 0, 0x40_0200, 0, 0];
        assert_eq!(ended(whole), (code::COMPLETE, 2, 2));
        let astray = [0, 0x1018, 0x40_0100, 0x1028, 0x1234, 0, 0, 0];
        assert_eq!(ended(astray), (code::NO_PROGRESS, 2, 3));
    }

    #[test]
    fn only_the_leaf_is_looked_up_at_its_own_address() {
        let mut asked = Vec::new();
        let mut out = Vec::new();
        let lookup = |pc: Addr| {
            asked.push(pc.0);
            (asked.len() < 3).then_some(Rule::encode(kind::RSP, 8, 0))
        };
        let regs = Regs {
            ip: Addr(0x50_0000),
            sp: Addr(0x1000),
            bp: Addr(0),
        };
        assert_eq!(walk(regs, lookup, &mut Endless, &mut out), code::UNMAPPED);
        assert_eq!(asked, [0x50_0000, 0x3f_ffff, 0x3f_ffff]);
        assert_eq!(out, [Addr(0x50_0000), Addr(0x40_0000), Addr(0x40_0000)]);
    }

    #[test]
    fn every_code_but_complete_is_a_truncation() {
        assert_eq!(walk_outcome(code::COMPLETE), None);
        let mut seen: Vec<_> = (code::TOO_DEEP..=code::TOO_COSTLY)
            .filter_map(walk_outcome)
            .collect();
        assert_eq!(seen.len(), 8);
        seen.dedup();
        assert_eq!(seen.len(), 8, "two codes mean the same");
        assert_eq!(walk_outcome(99), Some(Truncation::NoStack));
    }
}
