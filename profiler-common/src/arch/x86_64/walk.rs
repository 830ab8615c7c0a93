//! One step of a walk up the stack, for the kernel program and for userspace alike.
//!
//! The caller finds the [`Rule`] for [`Cursor::lookup_pc`], [`step`] moves the cursor to the
//! calling frame:
//!
//! ```text
//! loop: too many frames? -> TOO_DEEP;  keep cursor.ip;  rule of cursor.lookup_pc()? -> UNMAPPED
//!       step(cursor, rule, memory): CONTINUE, or how the walk ended
//! ```
//!
//! Nothing here loops, indexes or panics, and branches are `if`s from the most to the least
//! frequent kind: a `match` may become a jump table, which BPF has not.

use crate::row::{Rule, kind, walk};

/// What [`step`] returns when there is a calling frame: not one of [`walk`].
pub const CONTINUE: u32 = u32::MAX;

/// Bytes from a signal frame's `ucontext` to the registers in it: `struct ucontext` of Linux
/// (`arch/x86/include/uapi/asm/ucontext.h`) and `struct sigcontext_64`, whose words are r8 to
/// r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
const UCONTEXT_MCONTEXT: u64 = 40;
const UCONTEXT_RBP: u64 = UCONTEXT_MCONTEXT + 10 * 8;
const UCONTEXT_RSP: u64 = UCONTEXT_MCONTEXT + 15 * 8;
const UCONTEXT_RIP: u64 = UCONTEXT_MCONTEXT + 16 * 8;

/// Largest frame that is believed where a frame pointer alone tells of it, in bytes.
const MAX_FRAME_BY_POINTER: u64 = 1 << 20;

/// The memory of the thread whose stack is walked. Addresses are multiples of 8.
pub trait Memory {
    /// The word at `addr`, none if it cannot be read. A walk asks for ever higher addresses.
    fn read_u64(&mut self, addr: u64) -> Option<u64>;

    /// As [`Memory::read_u64`], for a word that is not where the walk has come to. An
    /// implementation that reads ahead keeps what it has read.
    #[inline(always)]
    fn read_u64_uncached(&mut self, addr: u64) -> Option<u64> {
        self.read_u64(addr)
    }
}

/// A frame, by the registers that unwinding needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cursor {
    /// The instruction pointer: a return address, or where a thread was stopped.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// `rbp`, unless `bp_at` says that it is in memory.
    pub bp: u64,
    /// Address of the saved `rbp`, or 0. It is read only if a rule needs it: few do.
    pub bp_at: u64,
    /// 1 if `ip` is a return address, 0 if it is where the thread was stopped.
    pub after_call: u64,
}

impl Cursor {
    /// The innermost frame of a stopped thread.
    #[inline(always)]
    #[must_use]
    pub const fn new(ip: u64, sp: u64, bp: u64) -> Cursor {
        Cursor {
            ip,
            sp,
            bp,
            bp_at: 0,
            after_call: 0,
        }
    }

    /// The address to look up: within the call instruction, not after it, because the call may
    /// be the last instruction of its function or of its row.
    #[inline(always)]
    #[must_use]
    pub const fn lookup_pc(&self) -> u64 {
        self.ip.wrapping_sub(self.after_call)
    }

    /// Moves to the calling frame: how far below its address `rbp` was saved, or 0, that address, and the
    /// return address.
    #[inline(always)]
    pub const fn ascend(&mut self, saved_bp: u64, cfa: u64, ip: u64) {
        if saved_bp != 0 {
            self.bp_at = cfa.wrapping_sub(saved_bp);
        }
        self.ip = ip;
        self.sp = cfa;
        self.after_call = 1;
    }
}

/// The canonical frame address by a rule of the commonest kind, where [`step`] would go on with it;
/// 0 where the rule is another one.
#[inline(always)]
#[must_use]
pub const fn plain_cfa(sp: u64, rule: Rule) -> u64 {
    let cfa = sp.wrapping_add(rule.cfa_off());
    if rule.kind() == kind::RSP && cfa > sp && cfa & 7 == 0 {
        cfa
    } else {
        0
    }
}

/// Moves `cursor` to the calling frame by the rule for its [`Cursor::lookup_pc`]. Returns
/// [`CONTINUE`], or one of [`walk`] when there is no calling frame; the cursor is then of no
/// further use.
///
/// Without a rule ([`kind::GAP`]) a frame that was stopped, not called from, is taken for a
/// function that has not touched the stack: system call stubs and other hand-written leaves.
///
/// A frame pointer ([`Rule::FRAME_POINTER`]) is no proof: code may use `rbp` as it likes. It has to point
/// up the stack, and not far; the caller of this looks whether code is where the return address says.
/// Where it is 0, the thread began (AMD64 supplement, 3.4.1).
#[inline(always)]
pub fn step<M: Memory>(cursor: &mut Cursor, rule: Rule, memory: &mut M) -> u32 {
    let sp = cursor.sp;
    if sp & 7 != 0 {
        return walk::NO_PROGRESS;
    }
    let kind = rule.kind();
    let mut saved_bp = rule.rbp_below_cfa();
    let by_pointer = rule.0 == Rule::FRAME_POINTER.0;
    let cfa = if kind == kind::RSP {
        sp.wrapping_add(rule.cfa_off())
    } else if kind == kind::RBP || by_pointer {
        if cursor.bp_at != 0 {
            let Some(bp) = memory.read_u64_uncached(cursor.bp_at) else {
                return walk::UNREADABLE;
            };
            cursor.bp = bp;
            cursor.bp_at = 0;
        }
        if by_pointer {
            if cursor.bp == 0 {
                return walk::COMPLETE;
            }
            if cursor.bp.wrapping_sub(sp) >= MAX_FRAME_BY_POINTER {
                return walk::NO_PROGRESS;
            }
        }
        cursor.bp.wrapping_add(rule.cfa_off())
    } else if kind == kind::END {
        return walk::COMPLETE;
    } else if kind == kind::GAP {
        if cursor.after_call != 0 {
            return walk::NO_ROW;
        }
        sp.wrapping_add(8)
    } else if kind == kind::SIG {
        return resume(cursor, memory);
    } else if kind == kind::PLT {
        let pushed = cursor.lookup_pc() & 15 >= rule.plt_threshold();
        sp.wrapping_add(if pushed { 16 } else { 8 })
    } else if kind == kind::DEREF {
        let Some(saved) = memory.read_u64_uncached(sp.wrapping_add(rule.cfa_off())) else {
            return walk::UNREADABLE;
        };
        saved.wrapping_add(8)
    } else {
        let (large, below) = rule.large_offsets();
        if large == 0 {
            return walk::UNSUPPORTED;
        }
        saved_bp = below;
        sp.wrapping_add(large)
    };
    // Also refuses a sum that wrapped around. Stacks grow down and are aligned at every call.
    if cfa <= sp || cfa & 7 != 0 {
        return walk::NO_PROGRESS;
    }
    let Some(ip) = memory.read_u64(cfa.wrapping_sub(8)) else {
        return walk::UNREADABLE;
    };
    if ip == 0 {
        return walk::COMPLETE;
    }
    cursor.ascend(saved_bp, cfa, ip);
    CONTINUE
}

/// Moves `cursor` from the signal trampoline to the frame that the signal interrupted. That
/// frame may have its stack anywhere (`sigaltstack`), so there is no progress to check.
#[inline(always)]
fn resume<M: Memory>(cursor: &mut Cursor, memory: &mut M) -> u32 {
    // The handler's return popped the trampoline's address: the `ucontext` is on top.
    let ucontext = cursor.sp;
    let Some(bp) = memory.read_u64(ucontext.wrapping_add(UCONTEXT_RBP)) else {
        return walk::UNREADABLE;
    };
    let Some(sp) = memory.read_u64(ucontext.wrapping_add(UCONTEXT_RSP)) else {
        return walk::UNREADABLE;
    };
    let Some(ip) = memory.read_u64(ucontext.wrapping_add(UCONTEXT_RIP)) else {
        return walk::UNREADABLE;
    };
    *cursor = Cursor::new(ip, sp, bp);
    CONTINUE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words at 0x1000 and up; counts reads by kind.
    struct Stack<'a> {
        words: &'a [u64],
        near: u32,
        apart: u32,
    }

    impl Stack<'_> {
        fn get(&self, addr: u64) -> Option<u64> {
            assert_eq!(addr % 8, 0, "{addr:#x}");
            let word = addr.checked_sub(0x1000)? / 8;
            self.words.get(usize::try_from(word).ok()?).copied()
        }
    }

    impl Memory for Stack<'_> {
        fn read_u64(&mut self, addr: u64) -> Option<u64> {
            self.near += 1;
            self.get(addr)
        }
        fn read_u64_uncached(&mut self, addr: u64) -> Option<u64> {
            self.apart += 1;
            self.get(addr)
        }
    }

    fn stack(words: &[u64]) -> Stack<'_> {
        Stack {
            words,
            near: 0,
            apart: 0,
        }
    }

    const LEAF: Cursor = Cursor::new(0x40_0010, 0x1000, 0x1020);

    #[test]
    fn rsp_and_rbp_rules_reach_the_caller() {
        let words = [1, 2, 0x1040, 0x50_0005, 4, 0x60_0006, 6, 7, 8, 0x70_0007];
        let mut memory = stack(&words);
        let mut cursor = LEAF;
        // rbp saved at 0x1010, return address at 0x1018.
        let rule = Rule::encode(kind::RSP, 32, -16);
        assert_eq!(step(&mut cursor, rule, &mut memory), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x50_0005, 0x1020));
        assert_eq!((cursor.bp, cursor.bp_at), (0x1020, 0x1010));
        assert_eq!(cursor.lookup_pc(), 0x50_0004);
        assert_eq!(memory.apart, 0, "rbp was read before it was needed");

        let rule = Rule::encode(kind::RSP, 16, 0);
        assert_eq!(step(&mut cursor, rule, &mut memory), CONTINUE);
        assert_eq!(
            (cursor.ip, cursor.sp, cursor.bp_at),
            (0x60_0006, 0x1030, 0x1010)
        );

        let rule = Rule::encode(kind::RBP, 16, -16);
        assert_eq!(step(&mut cursor, rule, &mut memory), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x70_0007, 0x1050));
        assert_eq!((cursor.bp, cursor.bp_at), (0x1040, 0x1040));
        assert_eq!((memory.near, memory.apart), (3, 1));
    }

    /// What a walk in a hurry does with a rule of the commonest kind is what [`step`] does.
    #[test]
    fn a_plain_step_is_a_step() {
        let words: [u64; 64] = core::array::from_fn(|n| 0x40_0000 + n as u64);
        let (mut plain, mut other) = (0, 0);
        for kind in 0..8 {
            for cfa_off in [0, 8, 16, 256, 8 * 40] {
                for rbp_off in [0, -8, -16] {
                    for sp in [0x1000, 0x1004, 0x1080, u64::MAX - 7] {
                        let rule = Rule::encode(kind, cfa_off, rbp_off);
                        let cfa = plain_cfa(sp, rule);
                        if cfa == 0 {
                            other += 1;
                            continue;
                        }
                        let start = Cursor::new(0x40_0010, sp, 0x1020);
                        let mut want = start;
                        let mut memory = stack(&words);
                        let mut got = start;
                        let ip = memory.read_u64(cfa - 8).expect("within the words");
                        got.ascend(rule.rbp_below_cfa(), cfa, ip);
                        assert_eq!(step(&mut want, rule, &mut memory), CONTINUE);
                        assert_eq!(got, want);
                        assert_eq!(rule.kind(), kind::RSP);
                        plain += 1;
                    }
                }
            }
        }
        assert!(plain > 20 && other > 20, "{plain} {other}");
    }

    #[test]
    fn frame_pointers_lead_up_the_stack_and_not_far() {
        let words = [1, 2, 0x1028, 0x50_0005, 4, 0, 0x60_0006, 7];
        let mut memory = stack(&words);
        let mut cursor = Cursor::new(0x40_0010, 0x1000, 0x1010);
        let rule = Rule::FRAME_POINTER;
        assert_eq!(step(&mut cursor, rule, &mut memory), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x50_0005, 0x1020));
        assert_eq!(step(&mut cursor, rule, &mut memory), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x60_0006, 0x1038));
        assert_eq!(step(&mut cursor, rule, &mut memory), walk::COMPLETE);
        // Below the stack pointer, misaligned, far away.
        for bp in [0xff8, 0x1011, 0x1000 + MAX_FRAME_BY_POINTER, u64::MAX - 7] {
            let mut cursor = Cursor::new(0x40_0010, 0x1000, bp);
            let outcome = step(&mut cursor, rule, &mut stack(&words));
            assert_eq!(outcome, walk::NO_PROGRESS, "{bp:#x}");
        }
    }

    #[test]
    fn a_large_frame_is_passed() {
        struct Far;
        impl Memory for Far {
            fn read_u64(&mut self, addr: u64) -> Option<u64> {
                (addr == 0x1000 + (2 << 20) + 48).then_some(0x50_0005)
            }
        }
        let mut cursor = LEAF;
        let rule = Rule::encode(kind::RSP, (2 << 20) + 56, -16);
        assert_eq!(step(&mut cursor, rule, &mut Far), CONTINUE);
        let cfa = 0x1000 + (2 << 20) + 56;
        assert_eq!((cursor.ip, cursor.sp), (0x50_0005, cfa));
        assert_eq!(cursor.bp_at, cfa - 16);
    }

    #[test]
    fn a_walk_ends_where_the_thread_starts() {
        let mut memory = stack(&[0]);
        assert_eq!(
            step(&mut LEAF.clone(), Rule::END, &mut memory),
            walk::COMPLETE
        );
        let rule = Rule::encode(kind::RSP, 8, 0);
        assert_eq!(step(&mut LEAF.clone(), rule, &mut memory), walk::COMPLETE);
    }

    #[test]
    fn a_gap_is_a_leaf_or_the_end() {
        let words = [0x50_0005, 0x60_0006];
        let mut memory = stack(&words);
        let mut cursor = LEAF;
        assert_eq!(step(&mut cursor, Rule::GAP, &mut memory), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x50_0005, 0x1008));
        assert_eq!(step(&mut cursor, Rule::GAP, &mut memory), walk::NO_ROW);
    }

    #[test]
    fn stubs_and_saved_stack_pointers() {
        let words = [0x50_0005, 0x60_0006, 0x1018, 0x70_0007];
        for (ip, want) in [(0x40_001a, 0x50_0005), (0x40_001b, 0x60_0006)] {
            let mut cursor = Cursor::new(ip, 0x1000, 0);
            let rule = Rule::plt(11);
            assert_eq!(step(&mut cursor, rule, &mut stack(&words)), CONTINUE);
            assert_eq!(cursor.ip, want);
        }
        let mut cursor = LEAF;
        let rule = Rule::encode(kind::DEREF, 16, 0);
        assert_eq!(step(&mut cursor, rule, &mut stack(&words)), CONTINUE);
        assert_eq!((cursor.ip, cursor.sp), (0x70_0007, 0x1020));
    }

    #[test]
    fn a_signal_frame_resumes_the_interrupted_registers() {
        let mut words = [0; 23];
        words[5 + 10] = 0xb0;
        words[5 + 15] = 0x9000;
        words[5 + 16] = 0x40_0020;
        let mut cursor = Cursor {
            bp_at: 0x1008,
            after_call: 1,
            ..LEAF
        };
        assert_eq!(step(&mut cursor, Rule::SIG, &mut stack(&words)), CONTINUE);
        assert_eq!(cursor, Cursor::new(0x40_0020, 0x9000, 0xb0));
        assert_eq!(
            cursor.lookup_pc(),
            0x40_0020,
            "an interrupted frame is looked up as it is"
        );
    }

    #[test]
    fn broken_chains_stop() {
        let words = [1, 2, 3, 4];
        let rbp16 = Rule::encode(kind::RBP, 16, 0);
        let rsp8 = Rule::encode(kind::RSP, 8, 0);
        let at = |sp, bp| Cursor::new(0x40_0010, sp, bp);
        for (mut cursor, rule, want) in [
            (at(0x1010, 0x1000), rbp16, walk::NO_PROGRESS),
            (at(0x1000, 0x1001), rbp16, walk::NO_PROGRESS),
            (at(0x1000, u64::MAX), rbp16, walk::NO_PROGRESS),
            (at(0x1004, 0), rsp8, walk::NO_PROGRESS),
            (at(u64::MAX - 7, 0), rsp8, walk::NO_PROGRESS),
            (
                at(0x1000, 0),
                Rule::encode(kind::RSP, 0, 0),
                walk::NO_PROGRESS,
            ),
            (at(0x2000, 0), rsp8, walk::UNREADABLE),
            (at(0x2000, 0), Rule::SIG, walk::UNREADABLE),
            (
                at(0x2000, 0),
                Rule::encode(kind::DEREF, 8, 0),
                walk::UNREADABLE,
            ),
            (at(0x1000, 0), Rule::UNSUPPORTED, walk::UNSUPPORTED),
        ] {
            assert_eq!(
                step(&mut cursor, rule, &mut stack(&words)),
                want,
                "{cursor:x?}"
            );
        }
        let mut cursor = Cursor {
            bp_at: 0x2000,
            ..LEAF
        };
        assert_eq!(
            step(&mut cursor, rbp16, &mut stack(&words)),
            walk::UNREADABLE
        );
    }
}
