//! How many closures wait in line for a thread of a blocking pool, by tokio's own numbers.
//!
//! Where these lie in memory is rustc's choice, and nowhere written down. But they can be recognised by what
//! must be true of them. From the scheduler's handle a pointer leads to the pool, which is in an `Arc`: behind
//! two counters are, side by side, the number of its threads, of idle ones and of closures in line
//! (`SpawnerMetrics` in tokio's `runtime/blocking/pool.rs`, since 1.24), elsewhere the most threads that it may
//! have, for how long an idle one is kept, and the queue, which has the same length. How many threads there are is
//! known; that all are in closures, too. So it is looked for these, and if anything does not fit, nothing is said.

use crate::units::Addr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    // By where its numbers are: what lies before a pool may have a pointer to it as well.
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for pointer in pointers {
        let mut words = [0; POOL];
        let known = read_most(Addr(pointer), &mut words, &read);
        if let Some((at, queued)) = known.and_then(|words| in_line(words, threads)) {
            found.insert(pointer.wrapping_add(8 * at as u64), queued);
        }
    }
    // Two of them are one too many.
    match found.into_values().collect::<Vec<_>>().as_slice() {
        &[queued] => u32::try_from(queued).ok(),
        _ => None,
    }
}

/// As many words as there are: the memory may end close behind.
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
        length -= 8;
    }
    None
}

const fn is_pointer(word: &u64) -> bool {
    *MEMORY.start() <= *word && *word <= *MEMORY.end() && word.is_multiple_of(8)
}

/// Where the numbers are and how many closures are in line, if these are the words of an `Arc` of a pool that is
/// full.
fn in_line(words: &[u64], threads: &RangeInclusive<u64>) -> Option<(usize, u64)> {
    let counters = words.get(..2).unwrap_or_default();
    if counters.len() < 2 || !counters.iter().all(|count| (1..=MOST).contains(count)) {
        return None;
    }
    let windows = words.windows(3).enumerate().skip(2);
    let mut fitting = windows.filter_map(|(at, window)| {
        let &[of, 0, queued] = window else {
            return None;
        };
        // Of a runtime without workers the limit, their number and that of threads look the same (tokio
        // 1.54): what could be that is not told.
        let is_limits = queued == of;
        let fits = threads.contains(&of) && !is_limits && (1..=MOST).contains(&queued);
        let rest = [words.get(2..at)?, words.get(at + 3..)?];
        let is_limit = rest.iter().any(|rest| rest.contains(&of));
        let is_queue = |window: &[u64]| is_queue(window, queued);
        let is_kept = rest.iter().any(|rest| rest.windows(2).any(is_keep_alive));
        let has_queue = rest.iter().any(|rest| rest.windows(4).any(is_queue));
        (fits && is_limit && is_kept && has_queue).then_some((at, queued))
    });
    let found = fitting.next()?;
    fitting.next().is_none().then_some(found)
}

/// Whether two words are for how long an idle thread is kept, as a `Duration`: 10 s, where
/// `thread_keep_alive` of the `Builder` says nothing else. The nanoseconds have half a word.
fn is_keep_alive(words: &[u64]) -> bool {
    matches!(words, &[10, nanos] if nanos & 0xffff_ffff == 0)
}

/// Whether four words are a `VecDeque` of this length: where its elements are and for how many there is room, side
/// by side, and where the first one is and how many there are.
fn is_queue(words: &[u64], length: u64) -> bool {
    let &[first, second, third, fourth] = words else {
        return false;
    };
    let fits = |buffer: (u64, u64), (head, count): (u64, u64)| {
        let room = match (is_pointer(&buffer.0), is_pointer(&buffer.1)) {
            (true, false) => buffer.1,
            (false, true) => buffer.0,
            _ => return false,
        };
        count == length && head < room && length <= room && room <= MOST
    };
    let (front, back) = ((first, second), (third, fourth));
    fits(front, back) || fits(back, front)
}

#[cfg(test)]
#[path = "pool_state_tests.rs"]
mod tests;
