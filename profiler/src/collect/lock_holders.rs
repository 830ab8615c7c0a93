//! Who holds a lock that does not name its owner: std's and `parking_lot`'s.
//!
//! A guard is a reference to its lock, and mostly on the stack of the thread that has the lock. So
//! the stacks of threads that wait elsewhere are searched for the lock's address. What they find is
//! likely and not sure: a stack also has what was left there, and references of those who only
//! know the lock. A lock that is a `static` has its address in the code and on no stack. Of one in
//! an `Arc`, the compiler may keep the address of the `Arc`'s memory alone; whoever has that may as
//! well own the `Arc` and no more, so it counts only where nobody has the lock's own address, and every
//! thread was searched.

use super::futex::FutexWait;
use crate::process::{Target, deadline};
use crate::symbolize::{FrameRef, Naming, Space};
use crate::units::{Addr, Tid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// Frames looked at for the name of a lock's function, innermost first.
const MAX_FRAMES: usize = 16;
/// Bytes of each stack, from its innermost end.
const MAX_STACK: usize = 64 << 10;
/// Threads whose stacks are searched.
const MAX_THREADS: usize = 2048;

/// What a thread of `parking_lot` waits by (`ThreadData` of `parking_lot_core` 0.8 and 0.9): so many
/// bytes before the futex is the address of the lock.
const KEY_BEFORE_FUTEX: u64 = 32;
/// Its word while the thread waits.
const PARKED: u32 = 1;
/// The state of a `RawMutex` that is held and waited for (`LOCKED_BIT`, `PARKED_BIT`).
const HELD: u8 = 3;
/// What std's mutex holds while somebody waits (`CONTENDED`).
const CONTENDED: u32 = 2;
/// Nothing is mapped below.
const LOWEST: u64 = 0x1_0000;
/// Addresses of user space end here.
const HIGHEST: u64 = 1 << 47;

/// A thread that waits, and where its stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitingStack {
    pub(super) tid: Tid,
    /// Its stack pointer.
    pub(super) sp: Addr,
    /// Its FS base: of all threads but the first one this is in the stack's mapping, behind its
    /// outermost end.
    pub(super) fs: Addr,
}

impl WaitingStack {
    fn len(&self) -> usize {
        let to_fs = self.fs.0.wrapping_sub(self.sp.0);
        usize::try_from(to_fs).map_or(MAX_STACK, |len| len.min(MAX_STACK))
    }
}

/// The kinds of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The futex is the lock's first word.
    Std,
    /// The futex of a writer, the second word.
    StdWriter,
    /// The futex is the thread's.
    ParkingLot,
}

/// The address of the lock that a thread waits for, where it is one of those known here. `read`
/// reads a word of the target's memory.
pub(super) fn lock_of(
    wait: &FutexWait,
    frames: &[FrameRef],
    read: impl Fn(Addr) -> Option<u64>,
) -> Option<Addr> {
    let kind = match named(frames) {
        Some(kind) => kind?,
        None => by_word(wait)?,
    };
    let at = wait.addr.0;
    match kind {
        Kind::Std => Some(wait.addr),
        Kind::StdWriter => Some(Addr(at.checked_sub(4)?)),
        Kind::ParkingLot => {
            let key = read(Addr(at.checked_sub(KEY_BEFORE_FUTEX)?))?;
            if !(LOWEST..HIGHEST).contains(&key) {
                return None;
            }
            // Of a lock for reading and writing, the key of a waiting writer is one more.
            let is_mutex = read(Addr(key & !7)).is_some_and(|word| {
                let byte = word.to_le_bytes().get((key & 7) as usize).copied();
                byte == Some(HELD)
            });
            if named(frames).is_none() && !is_mutex {
                return None;
            }
            Some(Addr(if is_mutex { key } else { key & !1 }))
        }
    }
}

/// By the functions on the stack. None where they have no names; `Some(None)` where they have, and
/// none is a lock's.
fn named(frames: &[FrameRef]) -> Option<Option<Kind>> {
    let (mut has_names, mut parks) = (false, false);
    let user = frames.iter().filter(|frame| frame.space == Space::User);
    for frame in user.take(MAX_FRAMES) {
        // A method may be named by its type: `<std::sys::…::Mutex>::lock_contended`.
        let name = frame.function.trim_start_matches('<');
        let is_parking_lot =
            name.contains("parking_lot::raw_") || name.starts_with("dashmap::lock::");
        if is_parking_lot && name.contains("lock") {
            return Some(Some(Kind::ParkingLot));
        }
        // Its condition variables park by the same function, and have no owner.
        if name.starts_with("parking_lot::condvar::") {
            return Some(None);
        }
        parks |= name.starts_with("parking_lot_core::");
        let of_std = name.starts_with("std::") && name.contains("futex");
        if of_std && name.contains("::write_contended") {
            return Some(Some(Kind::StdWriter));
        }
        if of_std && (name.contains("::lock_contended") || name.contains("::read_contended")) {
            return Some(Some(Kind::Std));
        }
        has_names |= frame.naming == Naming::Symbol && name.contains("::");
    }
    match parks {
        true => Some(Some(Kind::ParkingLot)),
        false => has_names.then_some(None),
    }
}

/// By what the futex holds.
fn by_word(wait: &FutexWait) -> Option<Kind> {
    if !wait.is_private_wait() || wait.word != wait.expected {
        return None;
    }
    match wait.word {
        CONTENDED => Some(Kind::Std),
        PARKED => Some(Kind::ParkingLot),
        _ => None,
    }
}

/// So many bytes before a value is the memory of its `Arc`: behind the two counts. (One that is
/// aligned to more than 16 bytes is further off.)
const ARC: u64 = 16;

/// Threads by the locks whose addresses are on their stacks.
#[derive(Debug, Default)]
pub(super) struct References {
    exact: HashMap<Addr, BTreeSet<Tid>>,
    /// Those that have the address of the lock's `Arc`.
    in_arc: HashMap<Addr, BTreeSet<Tid>>,
}

impl References {
    /// Searches stacks for the locks that `waiters` wait for, until `deadline`. Where that is one lock,
    /// theirs say nothing.
    pub(super) fn find(
        target: &Target,
        stacks: &[WaitingStack],
        waiters: &BTreeMap<Tid, Addr>,
        deadline: Instant,
    ) -> References {
        let locks: &BTreeSet<Addr> = &waiters.values().copied().collect();
        let mut found = References::default();
        let Ok(memory) = target.proc_dir().open_file("mem") else {
            return found;
        };
        if locks.is_empty() {
            return found;
        }
        let mut bytes = vec![0; MAX_STACK];
        let tells = |stack: &&WaitingStack| locks.len() > 1 || !waiters.contains_key(&stack.tid);
        for stack in stacks.iter().filter(tells).take(MAX_THREADS) {
            if Instant::now() >= deadline {
                break;
            }
            let room = bytes.get_mut(..stack.len()).unwrap_or_default();
            // A stack that is shorter ends where nothing is mapped.
            let Ok(read) = deadline::read(target.pid(), &memory, room, stack.sp.0) else {
                continue;
            };
            found.search(stack.tid, room.get(..read).unwrap_or_default(), locks);
        }
        found
    }

    fn search(&mut self, tid: Tid, stack: &[u8], locks: &BTreeSet<Addr>) {
        let (Some(first), Some(last)) = (locks.first(), locks.last()) else {
            return;
        };
        let near = first.0.saturating_sub(ARC)..=last.0;
        let words = stack.as_chunks::<8>().0.iter();
        for word in words.map(|word| u64::from_le_bytes(*word)) {
            if !near.contains(&word) {
                continue;
            }
            if locks.contains(&Addr(word)) {
                self.exact.entry(Addr(word)).or_default().insert(tid);
            }
            let behind = Addr(word.wrapping_add(ARC));
            if locks.contains(&behind) {
                self.in_arc.entry(behind).or_default().insert(tid);
            }
        }
    }

    /// Who likely holds a lock: the one thread that knows it and does not wait for it. `all` is
    /// whether no thread was left out, for being on a CPU.
    pub(super) fn holder(&self, lock: Addr, waiters: &BTreeMap<Tid, Addr>, all: bool) -> Likely {
        let others = |known: &HashMap<Addr, BTreeSet<Tid>>| -> Vec<Tid> {
            let known = known.get(&lock).into_iter().flatten();
            known
                .filter(|tid| waiters.get(tid) != Some(&lock))
                .copied()
                .collect()
        };
        let mut found = others(&self.exact);
        if found.is_empty() && all {
            found = others(&self.in_arc);
        }
        match found.as_slice() {
            [] => Likely::Nobody,
            [one] => Likely::Thread(*one),
            several => Likely::OneOf(several.len()),
        }
    }
}

/// What was found of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likely {
    /// No thread that waits elsewhere knows the lock.
    Nobody,
    /// One does.
    Thread(Tid),
    /// As many do.
    OneOf(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::{Frame, Origin};
    use std::sync::Arc;

    const FUTEX_WAIT_BITSET_PRIVATE: u32 = 9 | 128;

    fn wait(word: u32) -> FutexWait {
        FutexWait::for_test(Addr(0x7000_0040), FUTEX_WAIT_BITSET_PRIVATE, word)
    }

    fn frames(names: &[&str]) -> Vec<FrameRef> {
        let frame = |name: &&str| Arc::new(Frame::named(name, Origin::Library));
        names.iter().map(frame).collect()
    }

    fn nameless() -> Vec<FrameRef> {
        let frame = Frame {
            naming: Naming::FunctionStart,
            ..Frame::named("app+0x10", Origin::Unknown)
        };
        vec![Arc::new(frame)]
    }

    #[test]
    fn locks_are_told_by_their_functions() {
        let none = |_| None;
        let of = |names: &[&str]| lock_of(&wait(2), &frames(names), none);
        assert_eq!(
            of(&[
                "syscall",
                "std::sys::sync::mutex::futex::Mutex::lock_contended"
            ]),
            Some(Addr(0x7000_0040))
        );
        assert_eq!(
            of(&[
                "syscall",
                "<std::sys::sync::mutex::futex::Mutex>::lock_contended"
            ]),
            Some(Addr(0x7000_0040))
        );
        assert_eq!(
            of(&[
                "syscall",
                "std::sys::sync::rwlock::futex::RwLock::write_contended"
            ]),
            Some(Addr(0x7000_003c))
        );
        // A condition variable has no holder, whatever its word.
        assert_eq!(
            of(&[
                "syscall",
                "std::sys::sync::condvar::futex::Condvar::wait_optional_timeout"
            ]),
            None
        );
    }

    #[test]
    fn parking_lot_s_thread_names_the_lock() {
        // The key of a mutex at an odd address, whose state is `HELD`.
        let read = |at: Addr| match at.0 {
            0x7000_0020 => Some(0x5000_0001),
            0x5000_0000 => Some(0x0300),
            _ => None,
        };
        let slow = frames(&["syscall", "parking_lot::raw_mutex::RawMutex::lock_slow"]);
        // Whoever waits for a condition variable parks in the same way, and nobody owns it.
        let condvar = frames(&[
            "syscall",
            "parking_lot_core::parking_lot::park",
            "parking_lot::condvar::Condvar::wait_until_internal",
        ]);
        assert_eq!(lock_of(&wait(1), &condvar, read), None);
        let inlined = frames(&["syscall", "parking_lot_core::parking_lot::park"]);
        assert_eq!(
            lock_of(&wait(1), &inlined, read),
            lock_of(&wait(1), &slow, read)
        );
        assert_eq!(lock_of(&wait(1), &slow, read), Some(Addr(0x5000_0001)));
        assert_eq!(
            lock_of(&wait(1), &nameless(), read),
            Some(Addr(0x5000_0001))
        );
        let writer = |at: Addr| match at.0 {
            0x7000_0020 => Some(0x5000_0001),
            0x5000_0000 => Some(0b1001),
            _ => None,
        };
        let slow = frames(&["parking_lot::raw_rwlock::RawRwLock::lock_exclusive_slow"]);
        assert_eq!(lock_of(&wait(1), &slow, writer), Some(Addr(0x5000_0000)));
        // Without names it may be a condition variable.
        assert_eq!(lock_of(&wait(1), &nameless(), writer), None);
    }

    #[test]
    fn without_names_the_word_decides() {
        let none = |_| None;
        assert_eq!(
            lock_of(&wait(2), &nameless(), none),
            Some(Addr(0x7000_0040))
        );
        // A parked thread.
        assert_eq!(lock_of(&wait(u32::MAX), &nameless(), none), None);
        assert_eq!(lock_of(&wait(1), &nameless(), none), None);
    }

    #[test]
    fn the_holder_is_who_knows_the_lock_and_does_not_wait_for_it() {
        let (a, b) = (Addr(0x5000), Addr(0x6000));
        let mut known = References::default();
        let locks = BTreeSet::from([a, b]);
        let stack = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        known.search(Tid(1), &stack(&[7, 0x5000, 0x6000]), &locks);
        known.search(Tid(2), &stack(&[0x6000, 0x5000]), &locks);
        known.search(Tid(3), &stack(&[0x5001]), &locks);
        let waiters = BTreeMap::from([(Tid(1), b), (Tid(2), a)]);
        assert_eq!(known.holder(a, &waiters, false), Likely::Thread(Tid(1)));
        assert_eq!(known.holder(b, &waiters, false), Likely::Thread(Tid(2)));
        assert_eq!(known.holder(a, &BTreeMap::new(), false), Likely::OneOf(2));
        assert_eq!(known.holder(Addr(0x7000), &waiters, true), Likely::Nobody);
        // Who has the `Arc` counts where nobody has the lock, and nobody else may.
        known.search(Tid(4), &stack(&[0x4ff0]), &locks);
        assert_eq!(known.holder(a, &waiters, true), Likely::Thread(Tid(1)));
        let all = BTreeMap::from([(Tid(1), a), (Tid(2), a)]);
        assert_eq!(known.holder(a, &all, true), Likely::Thread(Tid(4)));
        assert_eq!(known.holder(a, &all, false), Likely::Nobody);
    }

    #[test]
    fn a_stack_ends_where_the_thread_s_variables_are() {
        let stack = |sp, fs| WaitingStack {
            tid: Tid(1),
            sp: Addr(sp),
            fs: Addr(fs),
        };
        assert_eq!(stack(0x7000, 0x7100).len(), 0x100);
        assert_eq!(stack(0x7000, 0x700_0000).len(), MAX_STACK);
        assert_eq!(stack(0x7000, 0x6000).len(), MAX_STACK);
    }
}
