//! Recognising parks: the same unwind is not made twice.
//!
//! A worker that has nothing to do parks at the same tls_state again and again, and walking the same
//! stack each time is most of what recording an innocent service costs. So the kernel side
//! remembers, for each thread, the walks of stacks of which userspace has said that they are idle
//! parks, and compares instead of walking. That must never take a wait inside a poll for a park.
//!
//! # Why it cannot
//!
//! A walk is a function: it has no input but the registers `ip`, `sp` and `rbp` where it begins,
//! the rows and mappings by which it goes, and the words of memory that it reads. So when all that
//! it had read until it came to some frame is the same, the walk up to there is the same, frame by
//! frame. And the rules read a stack from the leaf outward: userspace says with its verdict how
//! many frames prove it, *whatever the others are* ([`crate::map::Stack::frames`]; it asks the
//! rules what they say of that many frames alone, the outer end being unknown). So when these
//! frames are the same, the verdict is, and the policy. What is remembered is therefore *every*
//! word that the walk read on the way to the last of them, noted in the one tls_state through which a
//! walk reads memory, and not a choice of words that look telling:
//!
//! - A frame's return address is one such word. A wait inside a poll is called from another tls_state
//!   in the worker's loop than a park is, so at least that word differs.
//! - A saved `rbp` that a row needed, the stack pointer behind [`kind::DEREF`] and the registers in
//!   a signal frame are others: they decide where the next return address is looked for.
//! - `rbp` itself is compared where a row used the register before any frame had saved it
//!   ([`Trace::before_step`]). Elsewhere its value has no part in the walk.
//! - The rows and mappings are those of the process's `table_version`, which changes with every
//!   change of the mappings and is 0 after an exec until userspace has read the new ones. Rows are
//!   only ever added.
//! - A stack's number depends on the system call as well, and so does [`Key`].
//!
//! What does not fit ([`SLOTS`] words within [`SPAN`] bytes above the stack pointer, which leaves
//! out signal frames on a stack of their own) is not remembered, and is walked each time.
//!
//! Frames beyond may differ: such a wait is an idle park all the same, and is summed up under the
//! number of the stack that was remembered. That saves reading the outer half of a stack, which
//! the program itself does not touch and so is in no cache.
//!
//! A verdict that came from tokio's thread-local state has one input more. Such a park is bound to
//! the [`tls_state`](crate::context::tls_state) that it had, which is read again each time.
//!
//! When userspace changes its mind about any stack it raises the epoch in [`Key::epochs`], and all that
//! was remembered is void.
//!
//! Every [`CHECK_EVERY`]th time the walk is made nevertheless and the hash of those frames compared;
//! a difference would be counted as a loss and the park forgotten. None has been seen.

use crate::row::{Rule, kind};
use crate::walk::Cursor;

/// Words of memory that a walk may read to be remembered: a frame is one, seldom two.
pub const SLOTS: usize = 48;
/// Room for them: a power of two, since the verifier of Linux 6.1 understands a mask where it does
/// not understand a comparison.
pub const ROOM: usize = 64;
/// So many of them are compared at once.
pub const GROUP: usize = 4;
/// Bytes above the stack pointer in which they must lie; a multiple of 8 whose largest value is
/// also a mask.
pub const SPAN: usize = 4096 - 8;
/// Words of the piece of stack that is compared.
pub const WORDS: usize = 512;
/// Parks of one thread. A worker has two or three: in the driver, on its condition variable, each
/// with and without a timeout.
pub const WAYS: usize = 4;
/// Threads whose parks are remembered at once, a power of two.
pub const SETS: usize = 1024;
/// Neighbouring sets in which those of a thread may lie.
pub const SET_PROBES: u32 = 8;
/// One recognition in so many is checked by a walk; a power of two.
pub const CHECK_EVERY: u64 = 1024;

const _: () = assert!(SPAN / 8 < WORDS && SPAN & (SPAN + 8) == 0);
const _: () = assert!(SLOTS.is_multiple_of(GROUP) && SLOTS + GROUP <= ROOM);
const _: () = assert!(ROOM.is_power_of_two());
const _: () = assert!(SETS.is_power_of_two() && CHECK_EVERY.is_power_of_two());

/// [`Trace::flags`]: a row used `rbp` as it was in the register.
pub const USES_BP: u32 = 1;
/// [`Trace::flags`]: a word did not fit.
pub const TOO_LARGE: u32 = 2;

/// What a thread waits in, apart from its stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Key {
    /// The instruction pointer; 0 where nothing is remembered.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// Number of the system call.
    pub syscall: u64,
    /// What the unwind went by, see [`Key::epochs`].
    pub epochs: u64,
}

impl Key {
    /// The version of the mapping table, and the park cache's epoch: how often userspace had changed its mind.
    #[inline(always)]
    #[must_use]
    pub const fn epochs(table_version: u32, epoch: u32) -> u64 {
        table_version as u64 | (epoch as u64) << 32
    }
}

/// The words that a walk read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Trace {
    /// Where the stack pointer was when it began.
    pub sp: u64,
    /// `rbp` then.
    pub bp: u64,
    /// Words noted.
    pub count: u32,
    /// [`USES_BP`], [`TOO_LARGE`].
    pub flags: u32,
    /// Bytes from `sp` to the end of the highest word.
    pub span: u32,
    /// No padding.
    pub reserved: u32,
    /// Bytes from `sp` to each word.
    pub offsets: [u16; ROOM],
    /// The words.
    pub words: [u64; ROOM],
}

impl Trace {
    /// Forgets all, for a walk that begins with these registers.
    #[inline(always)]
    pub fn begin(&mut self, sp: u64, bp: u64) {
        self.sp = sp;
        self.bp = bp;
        self.count = 0;
        self.flags = 0;
        self.span = 0;
    }

    /// Notes a word that the walk read.
    #[inline(always)]
    pub fn note(&mut self, addr: u64, word: u64) {
        let offset = addr.wrapping_sub(self.sp);
        let n = self.count as usize;
        // An address that is no multiple of 8 from the stack pointer would share the slot of
        // another.
        if n >= SLOTS || offset >= SPAN as u64 || offset & 7 != 0 {
            self.flags |= TOO_LARGE;
            return;
        }
        // SAFETY: `n` is below the length of both arrays.
        unsafe {
            let at = n & (ROOM - 1);
            *self.offsets.as_mut_ptr().add(at) = offset as u16;
            *self.words.as_mut_ptr().add(at) = word;
        }
        self.count = n as u32 + 1;
        let end = offset as u32 + 8;
        if end > self.span {
            self.span = end;
        }
    }

    /// Notes what a step is about to use beside memory.
    #[inline(always)]
    pub fn before_step(&mut self, cursor: &Cursor, rule: Rule) {
        // Also true where `bp` was read from memory before: then that word is noted anyway.
        let uses_bp = rule.kind() == kind::RBP || rule.0 == Rule::FRAME_POINTER.0;
        if uses_bp && cursor.bp_at == 0 {
            self.flags |= USES_BP;
        }
    }

    /// Whether the walk can be recognised by what is noted of it.
    #[inline(always)]
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.flags & TOO_LARGE == 0 && self.count != 0
    }

    /// Whether a walk that begins with `bp`, and at whose stack pointer `stack` begins, would
    /// read the same. The stack pointer itself is compared as part of the [`Key`].
    #[inline(always)]
    #[must_use]
    pub fn is_same(&self, bp: u64, stack: &[u64; WORDS]) -> bool {
        if self.flags & USES_BP != 0 && bp != self.bp {
            return false;
        }
        // By groups, and in a group without a branch: the verifier follows each one.
        let mut from = 0;
        while from < SLOTS {
            if from >= self.count as usize {
                return true;
            }
            let mut differing = 0u64;
            let mut n = from;
            while n < from + GROUP {
                // SAFETY: `n` is below the length of both arrays, and the mask keeps the other
                // word within the stack and aligned.
                differing |= unsafe {
                    let offset = *self.offsets.as_ptr().add(n) as usize & SPAN;
                    *self.words.as_ptr().add(n) ^ *stack.as_ptr().byte_add(offset)
                };
                n += 1;
            }
            // SAFETY: a local. Volatile, because the compiler would rather branch for each word.
            if unsafe { core::ptr::read_volatile(&raw const differing) } != 0 {
                return false;
            }
            from += GROUP;
        }
        true
    }

    /// Fills the group of the last word up with copies of the first one, as
    /// [`Trace::is_same`] wants it.
    #[inline(always)]
    pub fn end(&mut self) {
        let (offset, word) = (self.offsets[0], self.words[0]);
        let count = self.count as usize;
        let mut n = 0;
        while n < GROUP {
            let at = (count + n) & (ROOM - 1);
            // SAFETY: `at` is below the length of both arrays.
            unsafe {
                *self.offsets.as_mut_ptr().add(at) = offset;
                *self.words.as_mut_ptr().add(at) = word;
            }
            n += 1;
        }
    }
}

/// A remembered park of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Park {
    /// What the thread waits in.
    pub key: Key,
    /// Number of the stack; 0 where nothing is remembered.
    pub stack: u64,
    /// Hash of the first `frames` frames.
    pub hash: u64,
    /// One of [`crate::context::tls_state`] where the park is bound to it, or [`ANY_TLS_STATE`].
    pub tls_state: u32,
    /// Its index in the set plus one.
    pub number: u32,
    /// How many frames prove what it is, as [`crate::map::Stack::frames`].
    pub frames: u32,
    /// How often it was recognised (wrapping), for [`CHECK_EVERY`].
    pub hits: u32,
    /// Its finished waits, which are in no other sum: those of an interval lie in the place that the
    /// lowest bit of its number names.
    pub sums: [Sums; 2],
    /// What the walk read.
    pub trace: Trace,
    /// A whole number of cache lines.
    pub unused: [u64; 4],
}

/// Sums over the waits of one interval; nanoseconds. As [`crate::map::Aggregate`], but without its
/// histogram: that is for sites, which parks have none of.
///
/// They say themselves whose they are, so that nobody has to empty them: sums of an earlier
/// interval are simply begun anew, and stay readable until then whatever the park has become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Sums {
    /// The interval.
    pub cut: u32,
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// No padding.
    pub reserved: u32,
    /// Number of the stack.
    pub stack: u64,
    /// Finished waits.
    pub waits: u64,
    /// Switch-out to wakeup.
    pub blocked: u64,
    /// Wakeup to switch-in.
    pub runqueue: u64,
    /// Longest blocked part.
    pub max: u64,
    /// A cache line.
    pub unused: u64,
}

impl Sums {
    /// Begins sums of another interval or stack.
    #[inline(always)]
    pub fn begin(&mut self, cut: u32, tid: u32, tgid: u32, stack: u64) {
        self.waits = 0;
        self.cut = cut;
        self.tid = tid;
        self.tgid = tgid;
        self.stack = stack;
        self.blocked = 0;
        self.runqueue = 0;
        self.max = 0;
    }

    /// Adds one wait.
    #[inline(always)]
    pub fn add(&mut self, blocked: u64, runqueue: u64) {
        self.waits += 1;
        self.blocked += blocked;
        self.runqueue += runqueue;
        if blocked > self.max {
            self.max = blocked;
        }
    }
}

/// [`Park::tls_state`]: the verdict came from the stack alone.
pub const ANY_TLS_STATE: u32 = u32::MAX;

/// The parks of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ParkSet {
    /// The thread; 0 is a free set.
    pub tid: u32,
    /// Counts what was remembered: tells which park goes next.
    pub next: u32,
    /// Index of the park that was recognised last: it is looked at first.
    pub last: u32,
    /// The thread's process.
    pub tgid: u32,
    /// 1 from the first time on that a thread had it: any other set has no sums.
    pub used: u32,
    /// A whole number of cache lines.
    pub unused: [u32; 11],
    /// The parks.
    pub parks: [Park; WAYS],
}

const _: () = assert!(size_of::<Key>() == 32);
const _: () = assert!(size_of::<Park>().is_multiple_of(64));
const _: () = assert!(core::mem::offset_of!(ParkSet, parks) == 64);
const _: () = assert!(core::mem::offset_of!(Park, sums) == 64);
const _: () = assert!(size_of::<Sums>() == 64);
const _: () = assert!(size_of::<Trace>() == 32 + 10 * ROOM);

/// The key by which a set is claimed, in the same map as the entries of the thread table.
#[inline(always)]
#[must_use]
pub const fn set_claim(set: u32) -> u32 {
    crate::map::THREADS as u32 + set
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, without padding and valid for every bit pattern: bytemuck's derive asserts
// both.
unsafe impl aya::Pod for ParkSet {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::walk;
    use crate::walk::{CONTINUE, Memory, step};

    const SP: u64 = 0x7f00_0000_0f80;

    /// A thread's stack, read by a walk that notes, as the kernel side's does.
    struct Noted<'a> {
        stack: &'a [u64; WORDS],
        trace: &'a mut Trace,
    }

    impl Memory for Noted<'_> {
        fn read_u64(&mut self, addr: u64) -> Option<u64> {
            let word = *self.stack.get(usize::try_from((addr - SP) / 8).ok()?)?;
            self.trace.note(addr, word);
            Some(word)
        }
    }

    const EMPTY: Trace = Trace {
        sp: 0,
        bp: 0,
        count: 0,
        flags: 0,
        span: 0,
        reserved: 0,
        offsets: [0; ROOM],
        words: [0; ROOM],
    };

    /// The rule at an address: as many kinds as there are, chosen by the address alone.
    fn rule_of(pc: u64) -> Rule {
        match pc % 16 {
            0..=7 => Rule::encode(kind::RSP, (pc % 5) as i64 * 16 + 16, 0),
            8..=10 => Rule::encode(kind::RSP, 48, -16),
            11 | 12 => Rule::encode(kind::RBP, 16, -16),
            13 => Rule::encode(kind::DEREF, 8, 0),
            14 => Rule::END,
            _ => Rule::GAP,
        }
    }

    /// Walks; the hash over the frames and how it ended.
    fn walk_of(ip: u64, bp: u64, stack: &[u64; WORDS], trace: &mut Trace) -> (u64, u32) {
        trace.begin(SP, bp);
        let mut cursor = Cursor::new(ip, SP, bp);
        let mut hash = 0u64;
        for _ in 0..127 {
            hash = (hash.rotate_left(5) ^ cursor.ip).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let rule = rule_of(cursor.lookup_pc());
            trace.before_step(&cursor, rule);
            let outcome = step(&mut cursor, rule, &mut Noted { stack, trace });
            if outcome != CONTINUE {
                return (hash, outcome);
            }
        }
        (hash, walk::TOO_DEEP)
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }
        /// Half of it code addresses, half of it addresses of the stack.
        fn word(&mut self) -> u64 {
            if self.below(2) == 0 {
                0x40_0000 + self.below(400)
            } else {
                SP + self.below(WORDS as u64) * 8
            }
        }
    }

    fn stack_of(random: &mut Random) -> [u64; WORDS] {
        core::array::from_fn(|_| random.word())
    }

    /// A stack with frames of 16 bytes: so [`rule_of`] has it for these addresses.
    fn park() -> ([u64; WORDS], Trace, (u64, u32)) {
        let mut stack = [0x1234; WORDS];
        for frame in 0..20 {
            stack[frame * 2 + 1] = 0x40_0002 + frame as u64 * 80;
        }
        stack[41] = 0x40_000f;
        let mut trace = EMPTY;
        let walked = walk_of(0x40_0001, 7, &stack, &mut trace);
        trace.end();
        (stack, trace, walked)
    }

    #[test]
    fn a_park_is_known_again_by_every_return_address() {
        let (stack, trace, (_, outcome)) = park();
        assert_eq!(outcome, walk::COMPLETE);
        assert_eq!((trace.count, trace.span), (21, 42 * 8));
        assert!(trace.is_whole());
        assert!(trace.is_same(7, &stack));
        assert!(trace.is_same(8, &stack), "no row used rbp");
        for word in 0..WORDS {
            let mut other = stack;
            other[word] ^= 1 << 40;
            let is_slot = word % 2 == 1 && word <= 41;
            assert_eq!(trace.is_same(7, &other), !is_slot, "word {word}");
        }
    }

    /// A poll that waits at the very tls_state in the stack at which its worker parks, called from
    /// another tls_state in the worker's loop.
    #[test]
    fn a_wait_in_a_poll_at_the_same_depth_is_no_park() {
        let (mut stack, trace, (hash, _)) = park();
        stack[13] += 80;
        let mut of_poll = EMPTY;
        let (other, outcome) = walk_of(0x40_0001, 7, &stack, &mut of_poll);
        assert_eq!(outcome, walk::COMPLETE);
        assert_ne!(other, hash);
        assert!(!trace.is_same(7, &stack));
    }

    #[test]
    fn rbp_counts_where_a_row_uses_it() {
        let mut stack = [0; WORDS];
        stack[5] = 0x40_000f;
        let mut trace = EMPTY;
        // Address 11 finds its frame by rbp.
        let (_, outcome) = walk_of(0x40_000b, SP + 32, &stack, &mut trace);
        trace.end();
        assert_eq!(outcome, walk::COMPLETE);
        assert_eq!(trace.flags, USES_BP);
        assert!(trace.is_same(SP + 32, &stack));
        assert!(!trace.is_same(SP + 40, &stack));
    }

    #[test]
    fn what_does_not_fit_is_not_whole() {
        let mut trace = EMPTY;
        trace.begin(SP, 0);
        assert!(!trace.is_whole(), "nothing was read");
        for n in 0..SLOTS as u64 {
            trace.note(SP + n * 8, n);
        }
        trace.end();
        assert!(trace.is_whole());
        trace.note(SP, 0);
        assert!(!trace.is_whole(), "one word too many");
        for addr in [SP + SPAN as u64, SP - 8, SP + 4, 0, u64::MAX - 7] {
            trace.begin(SP, 0);
            trace.note(SP, 0);
            trace.note(addr, 0);
            assert!(!trace.is_whole(), "{addr:#x}");
        }
        trace.begin(SP, 0);
        trace.note(SP + SPAN as u64 - 8, 0);
        assert!(trace.is_whole());
        assert_eq!(trace.span as usize, SPAN);
    }

    /// Whatever the stacks and rules: walks that are taken for the same are the same.
    #[test]
    fn no_other_walk_is_taken_for_the_same() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut same, mut other, mut long) = (0, 0, 0);
        for _ in 0..30_000 {
            let stack = stack_of(&mut random);
            let (ip, bp) = (0x40_0000 + random.below(400), random.word());
            let mut trace = EMPTY;
            let walked = walk_of(ip, bp, &stack, &mut trace);
            if !trace.is_whole() || walked.1 == walk::UNREADABLE {
                continue;
            }
            trace.end();
            long += u32::from(trace.count > 4);
            assert!(trace.is_same(bp, &stack), "the same stack");
            for _ in 0..8 {
                let (mut changed, mut changed_bp) = (stack, bp);
                // Changes where the walk reads, and anywhere.
                if random.below(2) == 0 {
                    let n = random.below(trace.count.into()) as usize;
                    changed[usize::from(trace.offsets[n]) / 8] = random.word();
                } else {
                    changed[random.below(WORDS as u64) as usize] = random.word();
                }
                if random.below(4) == 0 {
                    changed_bp = random.word();
                }
                let again = walk_of(ip, changed_bp, &changed, &mut EMPTY.clone());
                if trace.is_same(changed_bp, &changed) {
                    assert_eq!(again, walked);
                    same += 1;
                } else {
                    other += u32::from(again != walked);
                }
            }
        }
        assert!(
            same > 1_000 && other > 1_000 && long > 100,
            "{same} {other} {long}"
        );
    }
}
