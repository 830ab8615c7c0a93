//! Unwinding rows: what `.eh_frame` says of a range of code, in eight bytes.
//!
//! A row is a `u64`, `pc_rel:32 | rule:32`. It holds from `pc_rel` (an address relative to the
//! table's base) up to the next row's. Rows are sorted by `pc_rel`, so rows compare as numbers.
//! A rule is `kind:3 | cfa_off/8:17 | -rbp_off/8:12`: how to find the canonical frame address
//! (CFA, the stack pointer of the caller after its call returns) and where, relative to the
//! CFA, the caller's `rbp` was saved (0: it was not). The return address is always at CFA − 8
//! (System V ABI, AMD64 supplement, 3.2.2 and 3.7).
//!
//! Seventeen bits reach over frames of 1 MiB; frames of 540 KB exist (libLLVM). For larger ones, which
//! come of arrays on the stack, [`kind::UNSUPPORTED`] is followed by offsets of other widths:
//! `cfa_off/8:24 | -rbp_off/8:5`, see [`Rule::large`].
//!
//! The rows of all modules stand one after the other in numbered banks of [`BANK_ROWS`], and
//! so do the entries of their indices: see [`Mapping`] and [`find`].

/// One entry of an index covers `1 << BLOCK_SHIFT` bytes of code.
pub const BLOCK_SHIFT: u32 = 8;
/// Row number `n` is in bank `n >> BANK_SHIFT`, slot `n & (BANK_ROWS - 1)`. Two MiB a bank: to put
/// one into place takes the kernel until all running programs have ended, some ten milliseconds.
pub const BANK_SHIFT: u32 = 18;
/// Rows of one bank.
pub const BANK_ROWS: u32 = 1 << BANK_SHIFT;
/// Index entries of one bank; the same split as for rows.
pub const INDEX_BANK: u32 = 1 << BANK_SHIFT;
/// Halvings that find a row among those of one block: every byte of a block can start a row.
pub const SEARCH_STEPS: u32 = BLOCK_SHIFT + 1;

/// What a rule's offsets are relative to. Each is a value of [`Rule::kind`].
pub mod kind {
    /// CFA = rsp + `cfa_off`.
    pub const RSP: u32 = 0;
    /// CFA = rbp + `cfa_off`.
    pub const RBP: u32 = 1;
    /// A lazy-binding stub: CFA = rsp + 8, and 8 more from byte [`super::Rule::plt_threshold`]
    /// of its 16 on, where it has pushed a word. The expression that linkers emit for `.plt`.
    pub const PLT: u32 = 2;
    /// The return address is undefined: the thread starts here.
    pub const END: u32 = 3;
    /// No unwinding information covers this address: [`super::Rule::GAP`], or
    /// [`super::Rule::FRAME_POINTER`] where the code around it keeps frame pointers.
    pub const GAP: u32 = 4;
    /// The signal trampoline: the registers are in the `ucontext` at rsp.
    pub const SIG: u32 = 5;
    /// CFA = `*(rsp + cfa_off) + 8`: hand-written code that saved rsp before aligning it.
    pub const DEREF: u32 = 6;
    /// Covered, but by a rule that has no place in a row; or, with offsets, CFA = rsp + an offset that
    /// has no place in a rule of kind [`RSP`].
    pub const UNSUPPORTED: u32 = 7;
}

/// How a walk ended. The values are those of [`crate::record::StackRecord::walk`].
pub mod walk {
    /// At the thread's start.
    pub const COMPLETE: u32 = 0;
    /// After [`crate::stack::MAX_USER_FRAMES`] frames.
    pub const TOO_DEEP: u32 = 1;
    /// At an address outside every known mapping.
    pub const UNMAPPED: u32 = 2;
    /// At an address that no row covers.
    pub const NO_ROW: u32 = 3;
    /// At a rule that rows cannot express.
    pub const UNSUPPORTED: u32 = 4;
    /// At stack memory that could not be read.
    pub const UNREADABLE: u32 = 5;
    /// At a CFA that is not above the stack pointer, or not aligned: a broken chain.
    pub const NO_PROGRESS: u32 = 6;
    /// There was no stack to walk.
    pub const NO_STACK: u32 = 7;
    /// After so many frames that take a turn of their own that walks would have had too much of a
    /// CPU's time.
    pub const TOO_COSTLY: u32 = 8;
}

const KIND_SHIFT: u32 = 29;
const CFA_SHIFT: u32 = 12;
const CFA_MAX: i64 = (1 << (KIND_SHIFT - CFA_SHIFT)) - 1;
const RBP_MAX: i64 = (1 << CFA_SHIFT) - 1;
/// Of a large frame's rule.
const LARGE_CFA_SHIFT: u32 = 5;
const LARGE_CFA_MAX: i64 = (1 << (KIND_SHIFT - LARGE_CFA_SHIFT)) - 1;
const LARGE_RBP_MAX: i64 = (1 << LARGE_CFA_SHIFT) - 1;

/// How to get from a frame to its caller; the lower half of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(transparent)]
pub struct Rule(pub u32);

impl Rule {
    /// [`kind::END`].
    pub const END: Rule = Rule(kind::END << KIND_SHIFT);
    /// [`kind::GAP`].
    pub const GAP: Rule = Rule(kind::GAP << KIND_SHIFT);
    /// [`kind::SIG`].
    pub const SIG: Rule = Rule(kind::SIG << KIND_SHIFT);
    /// [`kind::UNSUPPORTED`].
    pub const UNSUPPORTED: Rule = Rule(kind::UNSUPPORTED << KIND_SHIFT);
    /// No unwinding information, but code that keeps frame pointers: `rbp` points to the caller's,
    /// which the return address follows (AMD64 supplement, 3.2.2).
    pub const FRAME_POINTER: Rule = Rule(kind::GAP << KIND_SHIFT | 2 << CFA_SHIFT | 2);

    /// A rule with offsets in bytes: `cfa_off` from what `kind` says (0 to 1,048,568),
    /// `rbp_off` of the saved `rbp` from the CFA (−32,760 to −8, or 0 where `rbp` still holds
    /// the caller's). Offsets out of range or not a multiple of 8 give [`Rule::UNSUPPORTED`].
    #[inline(always)]
    #[must_use]
    pub const fn encode(kind: u32, cfa_off: i64, rbp_off: i64) -> Rule {
        let in_range = kind < kind::UNSUPPORTED
            && cfa_off >= 0
            && cfa_off <= CFA_MAX * 8
            && rbp_off <= 0
            && rbp_off >= -RBP_MAX * 8;
        if !in_range || (cfa_off | rbp_off) & 7 != 0 {
            return if kind == kind::RSP {
                Rule::large(cfa_off, rbp_off)
            } else {
                Rule::UNSUPPORTED
            };
        }
        Rule(kind << KIND_SHIFT | ((cfa_off >> 3) as u32) << CFA_SHIFT | (-rbp_off >> 3) as u32)
    }

    /// A rule of kind [`kind::RSP`] for a frame beyond the reach of the others: `cfa_off` of up to 128 MiB,
    /// `rbp_off` down to −248.
    #[inline(always)]
    const fn large(cfa_off: i64, rbp_off: i64) -> Rule {
        let in_range = cfa_off > CFA_MAX * 8
            && cfa_off <= LARGE_CFA_MAX * 8
            && rbp_off <= 0
            && rbp_off >= -LARGE_RBP_MAX * 8;
        if !in_range || (cfa_off | rbp_off) & 7 != 0 {
            return Rule::UNSUPPORTED;
        }
        let offsets = ((cfa_off >> 3) as u32) << LARGE_CFA_SHIFT | (-rbp_off >> 3) as u32;
        Rule(Rule::UNSUPPORTED.0 | offsets)
    }

    /// Of a rule of kind [`kind::UNSUPPORTED`]: the offsets of a frame of 1 MiB and more as
    /// [`Rule::cfa_off`] and [`Rule::rbp_below_cfa`] have them, or two zeros.
    #[inline(always)]
    #[must_use]
    pub const fn large_offsets(self) -> (u64, u64) {
        let cfa = self.0 as u64 >> LARGE_CFA_SHIFT & LARGE_CFA_MAX as u64;
        let rbp = self.0 as u64 & LARGE_RBP_MAX as u64;
        (cfa << 3, rbp << 3)
    }

    /// The rule of a `.plt` section whose entries push a word before their byte `threshold`
    /// (11 in the classic layout); [`Rule::UNSUPPORTED`] if that is not within the 16 bytes.
    #[inline(always)]
    #[must_use]
    pub const fn plt(threshold: u32) -> Rule {
        if threshold > 15 {
            return Rule::UNSUPPORTED;
        }
        Rule(kind::PLT << KIND_SHIFT | threshold << CFA_SHIFT)
    }

    /// One of [`kind`].
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> u32 {
        self.0 >> KIND_SHIFT
    }

    /// The first offset in bytes: 0 to 1,048,568, a multiple of 8.
    #[inline(always)]
    #[must_use]
    pub const fn cfa_off(self) -> u64 {
        ((self.0 >> CFA_SHIFT) as u64 & CFA_MAX as u64) << 3
    }

    /// How far below the CFA the caller's `rbp` was saved, in bytes: 8 to 32,760, or 0 where it
    /// was not saved.
    #[inline(always)]
    #[must_use]
    pub const fn rbp_below_cfa(self) -> u64 {
        (self.0 as u64 & RBP_MAX as u64) << 3
    }

    /// Of a [`kind::PLT`] rule: the byte of the 16 from which the stub has pushed a word.
    #[inline(always)]
    #[must_use]
    pub const fn plt_threshold(self) -> u64 {
        (self.0 >> CFA_SHIFT) as u64 & 15
    }
}

/// The row that says `rule` from `pc_rel` on.
#[inline(always)]
#[must_use]
pub const fn row(pc_rel: u32, rule: Rule) -> u64 {
    (pc_rel as u64) << 32 | rule.0 as u64
}

/// First address, relative to the table's base, for which `row` holds.
#[inline(always)]
#[must_use]
pub const fn pc_rel(row: u64) -> u32 {
    (row >> 32) as u32
}

/// What `row` says.
#[inline(always)]
#[must_use]
pub const fn rule(row: u64) -> Rule {
    Rule(row as u32)
}

/// An executable mapping of a process and the table that covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Mapping {
    /// First address.
    pub begin: u64,
    /// First address after it.
    pub end: u64,
    /// What to take from an address (wrapping) to make it relative to the table.
    pub bias: u64,
    /// Number, over all banks, of the table's first row.
    pub rows: u32,
    /// Rows of the table; 0 where the module has no unwinding information.
    pub row_count: u32,
    /// Number, over all banks, of the index entry of the table's block 0. Entry `b` is the
    /// number, within the table, of the first row at or after `b << BLOCK_SHIFT`; the last
    /// entry is `row_count`.
    pub index: u32,
    /// Entries of the index, the last one included: blocks + 1.
    pub index_len: u32,
}

impl Mapping {
    /// A mapping of code that has no table but keeps frame pointers, as compilers at run time do:
    /// [`find`] gives [`Rule::FRAME_POINTER`] for all of it.
    #[must_use]
    pub const fn by_frame_pointer(begin: u64, end: u64) -> Mapping {
        Mapping {
            begin,
            end,
            bias: begin,
            rows: 0,
            row_count: 1,
            index: 0,
            index_len: 0,
        }
    }

    /// Whether it is such a mapping.
    #[must_use]
    pub const fn has_no_table(&self) -> bool {
        self.index_len == 0 && self.row_count != 0
    }
}

const _: () = assert!(size_of::<Mapping>() == 40);

// SAFETY: `Mapping` is `#[repr(C)]`, all integers, without padding (see the assertion: three
// `u64` and four `u32` are 40 bytes), so every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Mapping {}

/// Where rows and index entries are kept: banks of a kernel map, or a plain table.
///
/// References, not values: an `Option` of a number leaves the number undefined where there is
/// none, and the verifier refuses a program that copies it. Index entries have 64 bits, because
/// the kernel pads the values of its arrays to that.
pub trait Rows {
    /// Row number `n` over all banks; none if there is no such row.
    fn row(&self, n: u32) -> Option<&u64>;
    /// Index entry number `n` over all banks; none if there is no such entry.
    fn index(&self, n: u32) -> Option<&u64>;
}

/// The rule for the address `pc`, which `mapping` covers: that of the last row at or before it.
/// [`Rule::GAP`] where the table ends before it or cannot be read.
#[inline(always)]
pub fn find<R: Rows>(rows: &R, mapping: &Mapping, pc: u64) -> Rule {
    let rel = pc.wrapping_sub(mapping.bias);
    let block = rel >> BLOCK_SHIFT;
    if block + 1 >= mapping.index_len as u64 {
        return if mapping.has_no_table() {
            Rule::FRAME_POINTER
        } else {
            Rule::GAP
        };
    }
    let entry = mapping.index.wrapping_add(block as u32);
    let Some(&low) = rows.index(entry) else {
        return Rule::GAP;
    };
    let Some(&high) = rows.index(entry.wrapping_add(1)) else {
        return Rule::GAP;
    };
    let (mut low, mut high) = (low as u32, high as u32);
    let mut steps = 0;
    while steps < SEARCH_STEPS && low < high {
        let middle = low + ((high - low) >> 1);
        let Some(&found) = rows.row(mapping.rows.wrapping_add(middle)) else {
            return Rule::GAP;
        };
        if pc_rel(found) as u64 <= rel {
            low = middle + 1;
        } else {
            high = middle;
        }
        steps += 1;
    }
    // A table's first row is at 0, so that 0 here means a table without rows.
    if low == 0 || low > mapping.row_count {
        return Rule::GAP;
    }
    match rows.row(mapping.rows.wrapping_add(low - 1)) {
        Some(&found) => rule(found),
        None => Rule::GAP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_keep_their_offsets_up_to_the_limits() {
        for kind in [kind::RSP, kind::RBP, kind::DEREF] {
            for cfa in [0, 8, 16, 4096, 540_000, 1_048_568] {
                for rbp in [0, -8, -16, -32_760] {
                    let rule = Rule::encode(kind, cfa, rbp);
                    assert_eq!(rule.kind(), kind);
                    assert_eq!(rule.cfa_off(), cfa as u64);
                    assert_eq!(rule.rbp_below_cfa(), -rbp as u64);
                }
            }
        }
    }

    #[test]
    fn large_frames_have_a_rule_of_their_own() {
        for cfa in [1_048_576, 2_097_208, (1 << 27) - 8] {
            for rbp in [0, -16, -56, -248] {
                let rule = Rule::encode(kind::RSP, cfa, rbp);
                assert_eq!(rule.kind(), kind::UNSUPPORTED);
                let want = (cfa.cast_unsigned(), (-rbp).cast_unsigned());
                assert_eq!(rule.large_offsets(), want);
            }
        }
        assert_eq!(Rule::UNSUPPORTED.large_offsets(), (0, 0));
    }

    #[test]
    fn a_gap_with_frame_pointers_is_a_gap_of_its_own() {
        let rule = Rule::FRAME_POINTER;
        assert_eq!(rule.kind(), kind::GAP);
        assert_eq!((rule.cfa_off(), rule.rbp_below_cfa()), (16, 16));
        assert_ne!(rule, Rule::GAP);
    }

    #[test]
    fn what_does_not_fit_is_unsupported() {
        for (cfa, rbp) in [
            (-8, 0),
            (4, 0),
            (1_048_580, 0),
            (1 << 27, 0),
            (1_048_576, -256),
            (i64::MAX, 0),
            (i64::MIN, 0),
            (16, 8),
            (16, -4),
            (16, -32_768),
            (16, i64::MIN),
        ] {
            assert_eq!(Rule::encode(kind::RSP, cfa, rbp), Rule::UNSUPPORTED);
        }
        assert_eq!(Rule::encode(8, 8, 0), Rule::UNSUPPORTED);
        assert_eq!(Rule::encode(kind::RBP, 1 << 20, 0), Rule::UNSUPPORTED);
        assert_eq!(Rule::plt(16), Rule::UNSUPPORTED);
        assert_eq!(Rule::plt(11).plt_threshold(), 11);
        assert_eq!(Rule::plt(11).kind(), kind::PLT);
    }

    #[test]
    fn rows_sort_by_address() {
        let low = row(0x1000, Rule::UNSUPPORTED);
        let high = row(0x1001, Rule::encode(kind::RSP, 8, 0));
        assert!(low < high);
        assert_eq!(pc_rel(high), 0x1001);
        assert_eq!(rule(low), Rule::UNSUPPORTED);
    }

    struct Table<'a>(&'a [u64], &'a [u64]);

    impl Rows for Table<'_> {
        fn row(&self, n: u32) -> Option<&u64> {
            self.0.get(n as usize)
        }
        fn index(&self, n: u32) -> Option<&u64> {
            self.1.get(n as usize)
        }
    }

    /// A row on every byte of the second of three blocks: the longest search there can be.
    #[test]
    fn find_reaches_every_row_of_a_crowded_block() {
        let mut rows = [0; 257];
        rows[0] = row(0, Rule::GAP);
        for i in 0..256 {
            rows[i + 1] = row(
                256 + i as u32,
                Rule::encode(kind::RSP, 8 * (i as i64 + 1), 0),
            );
        }
        let index = [0, 1, 257, 257];
        let mapping = Mapping {
            begin: 0x7000,
            end: 0x7300,
            bias: 0x7000,
            row_count: 257,
            index_len: 4,
            ..Mapping::default()
        };
        let table = Table(&rows, &index);
        for pc in 0x7000..0x7400u64 {
            let want = match pc - 0x7000 {
                0..256 => Rule::GAP,
                rel @ 256..512 => Rule::encode(kind::RSP, 8 * (rel as i64 - 255), 0),
                512..768 => Rule::encode(kind::RSP, 8 * 256, 0),
                _ => Rule::GAP,
            };
            assert_eq!(find(&table, &mapping, pc), want, "{pc:#x}");
        }
        assert_eq!(find(&table, &mapping, 0x6fff), Rule::GAP);
        assert_eq!(find(&table, &mapping, u64::MAX), Rule::GAP);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_a_gap() {
        let mapping = Mapping {
            row_count: 9,
            index_len: 9,
            ..Mapping::default()
        };
        assert_eq!(find(&Table(&[], &[]), &mapping, 0), Rule::GAP);
        assert_eq!(find(&Table(&[], &[0, 3]), &mapping, 0), Rule::GAP);
        let empty = Mapping::default();
        assert_eq!(find(&Table(&[], &[0]), &empty, 0), Rule::GAP);
        let framed = Mapping::by_frame_pointer(0x1000, 0x2000);
        assert_eq!(find(&Table(&[], &[]), &framed, 0x1800), Rule::FRAME_POINTER);
    }
}
