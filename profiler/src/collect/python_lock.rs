//! Who has Python's global interpreter lock.
//!
//! It is no lock that the kernel knows, but a flag and a condition variable at which threads wait for it,
//! in pieces of five milliseconds. Beside both are the thread that had the lock last, and for how long
//! others wait before they ask for it (`struct _gil_runtime_state` of `Include/internal/pycore_gil.h`, the
//! same from Python 3.7 to 3.14). That thread is known by what its `PyThreadState` holds: the address by
//! which the C library knows it, which is its FS base, and from 3.11 on behind that its number.

use super::lock_holders::WaitingStack;
use crate::symbolize::{FrameRef, Space, TAKING_LOCK};
use crate::units::{Addr, Tid};

/// Frames looked at for the function that takes the lock, innermost first.
const MAX_FRAMES: usize = 16;
/// From the lock's beginning to its condition variable.
const CONDITION: u64 = 32;
/// From a condition variable of glibc to the words at which threads wait: before 2.41, and since.
const SIGNALS: [u64; 2] = [40, 32];
/// What the wait before asking may sensibly be, in microseconds (`sys.setswitchinterval`).
const INTERVAL: std::ops::RangeInclusive<u64> = 1..=60_000_000;
/// How far into a `PyThreadState` the thread's address is looked for, in words.
const STATE_WORDS: usize = 64;
/// Nothing is mapped below, and user space ends there.
const MAPPED: std::ops::Range<u64> = 0x1_0000..1 << 47;

/// Whether the thread with this stack is about to take the lock.
pub(super) fn is_taken_in(frames: &[FrameRef]) -> bool {
    let user = frames.iter().filter(|frame| frame.space == Space::User);
    user.take(MAX_FRAMES)
        .any(|frame| TAKING_LOCK.contains(&&*frame.function))
}

/// The thread that has the lock at whose condition variable somebody waits, by the word at which it does.
/// `read` reads words of the target's memory, `by_own_number` finds a living thread by the number that
/// the target itself knows it by.
pub(super) fn owner(
    futex: Addr,
    stacks: &[WaitingStack],
    read: impl Fn(Addr, &mut [u64]) -> bool,
    mut by_own_number: impl FnMut(u32) -> Option<Tid>,
) -> Option<Tid> {
    // Of the two words at which threads wait in turn.
    let signals = futex.0 & !7;
    SIGNALS.into_iter().find_map(|offset| {
        let lock = signals.checked_sub(offset + CONDITION)?;
        let mut words = [0; 3];
        if !read(Addr(lock), &mut words) {
            return None;
        }
        let [interval, state, is_locked] = words;
        // Behind the flag, which has four bytes, nothing is.
        if !INTERVAL.contains(&interval) || is_locked as u32 != 1 || !MAPPED.contains(&state) {
            return None;
        }
        let mut state_words = [0; STATE_WORDS];
        if !read(Addr(state), &mut state_words) {
            return None;
        }
        thread(&state_words, stacks, &mut by_own_number)
    })
}

/// The thread that a `PyThreadState` is of.
fn thread(
    state: &[u64],
    stacks: &[WaitingStack],
    mut by_own_number: impl FnMut(u32) -> Option<Tid>,
) -> Option<Tid> {
    let by_address = stacks
        .iter()
        .find(|stack| stack.fs.0 != 0 && state.contains(&stack.fs.0));
    // One that is on a CPU has no registers to be seen.
    by_address.map(|stack| stack.tid).or_else(|| {
        let mut pairs = state.windows(2);
        pairs.find_map(|pair| match pair {
            [address, number] if MAPPED.contains(address) && address % 16 == 0 => {
                by_own_number(u32::try_from(*number).ok().filter(|number| *number > 0)?)
            }
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::{Frame, Origin};
    use std::sync::Arc;

    const LOCK: u64 = 0x7000_0000;
    const STATE: u64 = 0x7100_0000;
    const MAIN: u64 = 0x7200_0740;

    /// A target with the lock, held or not, whose last owner's state is `state`.
    fn memory(locked: u64, state: &[u64]) -> impl Fn(Addr, &mut [u64]) -> bool {
        let state = state.to_vec();
        move |at, into| {
            let from: Vec<u64> = match at.0 {
                LOCK => vec![5000, STATE, locked],
                STATE => state.clone(),
                _ => return false,
            };
            for (word, value) in into
                .iter_mut()
                .zip(from.into_iter().chain(std::iter::repeat(0)))
            {
                *word = value;
            }
            true
        }
    }

    fn waiting(fs: u64) -> WaitingStack {
        WaitingStack {
            tid: Tid(4711),
            sp: Addr(0x7fff_0000),
            fs: Addr(fs),
        }
    }

    fn nobody(_: u32) -> Option<Tid> {
        None
    }

    #[test]
    fn the_owner_is_known_by_its_address() {
        let read = memory(1, &[0, 0x7300_0000, MAIN, 17]);
        for offset in [40, 44, 32, 36] {
            let futex = Addr(LOCK + CONDITION + offset);
            assert_eq!(
                owner(futex, &[waiting(MAIN)], &read, nobody),
                Some(Tid(4711))
            );
        }
        // By its number, where it runs.
        let number = |own: u32| (own == 17).then_some(Tid(99));
        let futex = Addr(LOCK + CONDITION + 40);
        assert_eq!(
            owner(futex, &[waiting(0x7200_0000)], &read, number),
            Some(Tid(99))
        );
    }

    #[test]
    fn a_lock_that_nobody_has_has_no_owner() {
        let futex = Addr(LOCK + CONDITION + 40);
        let all = [waiting(MAIN)];
        assert_eq!(owner(futex, &all, memory(0, &[MAIN]), nobody), None);
        assert_eq!(owner(futex, &all, memory(1, &[7, 7]), nobody), None);
        // Of another condition variable.
        assert_eq!(
            owner(Addr(LOCK + 8), &all, memory(1, &[MAIN]), nobody),
            None
        );
        assert_eq!(owner(Addr(4), &all, memory(1, &[MAIN]), nobody), None);
    }

    #[test]
    fn only_those_who_take_it_wait_for_it() {
        let frames = |names: &[&str]| -> Vec<FrameRef> {
            let frame = |name: &&str| Arc::new(Frame::named(name, Origin::System));
            names.iter().map(frame).collect()
        };
        assert!(is_taken_in(&frames(&[
            "pthread_cond_timedwait",
            "PyGILState_Ensure"
        ])));
        assert!(!is_taken_in(&frames(&["nanosleep", "PyEval_EvalCode"])));
    }
}
