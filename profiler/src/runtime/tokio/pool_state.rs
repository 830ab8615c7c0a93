//! How many closures wait in line for a thread of a blocking pool, by tokio's own numbers.
//!
//! Where these lie in memory is rustc's choice, and nowhere written down. But they can be recognised by what
//! must be true of them. From the scheduler's handle a pointer leads to the pool, which is in an `Arc`: behind
//! two counters are, side by side, the number of its threads, of idle ones and of closures in line
//! (`SpawnerMetrics` in tokio's `runtime/blocking/pool.rs`, since 1.24), elsewhere the most threads that it may
//! have, and the queue, which has the same length. How many threads there are is known; that all are in
//! closures, too. So it is looked for these, and if anything does not fit, nothing is said.

use crate::units::Addr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// A blocking pool without a thread to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FullPool {
    /// Its threads, all of which were in closures: as many as it may have.
    pub threads: u32,
    /// Closures that waited in line for one.
    pub queued: u32,
}

/// Words of the scheduler's handle that are looked at: tokio 1.54 has the pool among the first hundred.
const HANDLE: usize = 256;
/// Words of the pool: tokio 1.54 has room for sixteen queues in it, of which it uses one.
const POOL: usize = 192;
/// Words behind each other that may not all be there: the memory may end.
const LEAST: usize = 40;
/// The most that a counter of it counts.
const MOST: u64 = 1 << 24;
/// No memory lies below this, nor at or above the other.
const MEMORY: RangeInclusive<u64> = 0x1_0000..=0x7fff_ffff_ffff;

/// How many closures wait in line for a thread of the pool of a runtime, by its handle's address. `threads` is
/// how many threads there are in the pool, workers among them. `read` fills all words or fails. None where it is
/// not known, or none does.
pub fn closures_in_line(
    handle: Addr,
    threads: &RangeInclusive<u64>,
    read: impl Fn(Addr, &mut [u64]) -> bool,
) -> Option<u32> {
    let mut words = [0; HANDLE];
    let known = read_most(handle, &mut words, &read)?;
    let pointers: BTreeSet<u64> = known.iter().copied().filter(is_pointer).collect();
    let mut found: Option<u32> = None;
    for pointer in pointers {
        let mut words = [0; POOL];
        let queued = read_most(Addr(pointer), &mut words, &read)
            .and_then(|words| in_line(words, threads))
            .and_then(|queued| u32::try_from(queued).ok());
        // Two of them are one too many.
        match (queued, found) {
            (Some(_), Some(_)) => return None,
            (Some(queued), None) => found = Some(queued),
            (None, _) => {}
        }
    }
    found
}

/// As many words as there are, by halves.
fn read_most<'a>(
    at: Addr,
    words: &'a mut [u64],
    read: &impl Fn(Addr, &mut [u64]) -> bool,
) -> Option<&'a [u64]> {
    let mut length = words.len();
    while length >= LEAST {
        if read(at, words.get_mut(..length)?) {
            return words.get(..length);
        }
        length /= 2;
    }
    None
}

const fn is_pointer(word: &u64) -> bool {
    *MEMORY.start() <= *word && *word <= *MEMORY.end() && word.is_multiple_of(8)
}

/// The closures in line, if these are the words of an `Arc` of a pool that is full.
fn in_line(words: &[u64], threads: &RangeInclusive<u64>) -> Option<u64> {
    let (counters, pool) = words.split_at_checked(2)?;
    if !counters.iter().all(|count| (1..=MOST).contains(count)) {
        return None;
    }
    let windows = pool.windows(3).enumerate();
    let fitting = windows.filter_map(|(at, window)| {
        let &[of, 0, queued] = window else {
            return None;
        };
        let fits = threads.contains(&of) && (1..=MOST).contains(&queued);
        let rest = || [pool.get(..at), pool.get(at + 3..)];
        let is_limit = rest().iter().flatten().any(|rest| rest.contains(&of));
        let is_queue = |window: &[u64]| is_queue(window, queued);
        let has_queue = rest()
            .iter()
            .flatten()
            .any(|rest| rest.windows(4).any(is_queue));
        (fits && is_limit && has_queue).then_some(queued)
    });
    let mut fitting = fitting;
    let queued = fitting.next()?;
    fitting.all(|other| other == queued).then_some(queued)
}

/// Whether four words are a `VecDeque` of this length: where its elements are, for how many there is room, where
/// the first one is and how many there are, in any order.
fn is_queue(words: &[u64], length: u64) -> bool {
    let (pointers, mut numbers): (Vec<u64>, Vec<u64>) =
        words.iter().partition(|word| is_pointer(word));
    let Some(at) = numbers.iter().position(|number| *number == length) else {
        return false;
    };
    numbers.remove(at);
    match (pointers.as_slice(), numbers.as_slice()) {
        ([_], &[a, b]) => {
            let (head, room) = (a.min(b), a.max(b));
            head < room && length <= room && room <= MOST
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "pool_state_tests.rs"]
mod tests;
