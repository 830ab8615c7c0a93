//! The numbers by which the kernel side knows stacks and objects, and when they are forgotten.
//!
//! The kernel side sends a stack or an object once, remembers its number, and names it by that from
//! then on. Both sides have to forget numbers, or a long recording fills their tables; and we may
//! never forget one that is still to come, or a wait would have no stack.
//!
//! A number goes through these stages:
//!
//! ```text
//! Announced  the kernel side knows it
//!   │  end_interval() gives it out, and it is deleted on the kernel side before the next cut
//! Deleted    whoever needs it from now on sends it anew: it is announced again
//!   │  an interval without it, and no thread has it at hand
//! Quiet
//!   │  one more interval without it
//! forgotten
//! ```
//!
//! Why no number comes after that: let `D` be its deletion, `C1` the next cut, and `R1` the moment
//! after `C1` at which we read what threads have at hand (the stack of an open wait, the stack of
//! who woke it, the object of a thread's last wait). A cut waits for every program that is at work
//! for its own thread, which are those that name a wait's stack and object. So each of them that
//! found the number in the kernel side's table, which it can have done only before `D`, is over at
//! `C1`, and what it found is in its thread's entry or in an event before `C1`. Programs that look
//! it up after `D` do not find it and send it anew. What is left are threads that had it at hand at
//! `C1`. One that still has it at `R1` is seen there. One that has it no more at `R1` made an event
//! or a sum of it between `C1` and `R1`, thus before the cut after `C1`: it is seen in that
//! interval, which is why a quiet number waits for its end.
//!
//! A cut does not wait for programs that write into the entry of another thread, which is how the
//! stack of a waker gets there, nor for that of a panic. These take microseconds, and from `D` on a
//! number is kept for two intervals at least; were one of them held up for that long, the waker or
//! the panic would have no stack.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// A number that was not seen in this many intervals is forgotten.
const MAX_AGE: u32 = 64;

/// Numbers of one kind, and what each stands for.
#[derive(Debug)]
pub(super) struct Numbers<N, I> {
    entries: HashMap<N, Entry<I>>,
    /// How many numbers the kernel side has room for.
    room: usize,
    /// Intervals that have ended.
    interval: u32,
    /// Those of stage `Announced`.
    announced: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<I> {
    id: I,
    /// In which interval it was seen last.
    seen: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Announced,
    Deleted,
    Quiet,
}

/// Numbers to be deleted on the kernel side, before the next cut is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evicted<N> {
    /// The numbers.
    pub(super) numbers: Vec<N>,
    /// Whether the kernel side is to forget its remembered parks as well, since they may bear one of
    /// the numbers.
    pub(super) forget_parks: bool,
}

impl<N: Copy + Eq + Hash, I: Copy> Numbers<N, I> {
    /// None yet; the kernel side has room for `room` of them.
    pub(super) fn new(room: usize) -> Numbers<N, I> {
        Numbers {
            entries: HashMap::new(),
            room,
            interval: 0,
            announced: 0,
        }
    }

    /// Takes in a number that the kernel side has announced, or announced again.
    pub(super) fn announced(&mut self, number: N, id: I) {
        let before = self.set(number, id, Stage::Announced);
        self.announced += usize::from(before != Some(Stage::Announced));
    }

    /// Takes in a number that the kernel side has announced and does not remember: it is used once.
    pub(super) fn announced_once(&mut self, number: N, id: I) {
        let before = self.set(number, id, Stage::Deleted);
        self.announced -= usize::from(before == Some(Stage::Announced));
    }

    fn set(&mut self, number: N, id: I, stage: Stage) -> Option<Stage> {
        let seen = self.interval;
        let before = self.entries.insert(number, Entry { id, seen, stage });
        before.map(|before| before.stage)
    }

    /// What a number stands for; it was seen in this interval. None where it was never announced, or its
    /// record was lost.
    pub(super) fn resolve(&mut self, number: N) -> Option<I> {
        let entry = self.entries.get_mut(&number)?;
        entry.seen = self.interval;
        Some(entry.id)
    }

    /// What a number stands for.
    #[cfg(test)]
    pub(super) fn get(&self, number: N) -> Option<I> {
        self.entries.get(&number).map(|entry| entry.id)
    }

    /// The numbers that the kernel side knows.
    pub(super) fn iter_announced(&self) -> impl Iterator<Item = (N, I)> {
        let announced = |(number, entry): (&N, &Entry<I>)| {
            (entry.stage == Stage::Announced).then_some((*number, entry.id))
        };
        self.entries.iter().filter_map(announced)
    }

    /// Ends an interval: all that was announced in it has been resolved, up to its cut. `held` are the
    /// numbers that threads have at hand, read after the cut. `lasting` says of which stacks a
    /// remembered park may bear the number: those are forgotten only where room is short.
    ///
    /// The numbers that are given back must be deleted on the kernel side before the next cut is
    /// made; those that are not there any more are none the worse.
    pub(super) fn end_interval(
        &mut self,
        held: &HashSet<N>,
        lasting: impl Fn(I) -> bool,
    ) -> Evicted<N> {
        let now = self.interval;
        for number in held {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.seen = now;
            }
        }
        self.entries.retain(|_, entry| {
            let seen = entry.seen == now;
            entry.stage = match (entry.stage, seen) {
                (Stage::Announced, _) => Stage::Announced,
                (Stage::Deleted, false) => Stage::Quiet,
                (Stage::Quiet, false) => return false,
                (_, true) => Stage::Deleted,
            };
            true
        });
        let mut evicted = self.evict(now, |entry, age| age >= MAX_AGE && !lasting(entry.id));
        let mut forget_parks = false;
        // The most that was not needed of late goes first, the least last.
        for (share, least) in [(2, 2), (4, 1)] {
            if self.announced > self.room - self.room / share {
                let more = self.evict(now, |entry, age| {
                    let goes = age >= least;
                    forget_parks |= goes && lasting(entry.id);
                    goes
                });
                evicted.extend(more);
            }
        }
        self.interval = now.wrapping_add(1);
        Evicted {
            numbers: evicted,
            forget_parks,
        }
    }

    /// Takes out of those announced the ones that `goes` names by their age, in intervals.
    fn evict(&mut self, now: u32, mut goes: impl FnMut(&Entry<I>, u32) -> bool) -> Vec<N> {
        let mut evicted = Vec::new();
        for (number, entry) in &mut self.entries {
            let age = now.wrapping_sub(entry.seen);
            if entry.stage == Stage::Announced && goes(entry, age) {
                entry.stage = Stage::Deleted;
                evicted.push(*number);
            }
        }
        self.announced -= evicted.len();
        evicted
    }
}

#[cfg(test)]
#[path = "numbers_tests.rs"]
mod tests;
