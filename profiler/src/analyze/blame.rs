//! What the threads that ended waits did meanwhile: the blame chains.
//!
//! A thread waits for a lock until another one gives it back. What that one did in the meantime is
//! why the wait took so long: it may have waited for the network, or for a lock itself, whose holder
//! is then asked the same. A chain ends in something outside the program (a disk, a peer, a timer), in
//! a thread that ran, wanted a CPU or was idle (`meanwhile.rs`), in a circle, or where nothing more is known.
//!
//! ```text
//! reserve   ──── waits for the lock ─────────▶ woken by the thread of flush
//! flush     ▒▒ ran ▒▒│──── waits for the disk ───▶│▒▒
//! blame     run      │ flush (file-io)            │ run
//! ```

use super::labels::Label;
use crate::fast_hash::FastMap;
use crate::recording::{StackId, ThreadId};
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Links of a chain at most.
const MAX_LINKS: usize = 16;
/// Chains that are kept apart at most, of all sites together.
const MAX_CHAINS: usize = 1 << 14;

/// A wait that was recorded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waited {
    pub(super) from: Timestamp,
    /// The wakeup.
    pub(super) to: Timestamp,
    /// When the thread came to run.
    pub(super) ran: Timestamp,
    pub(super) stack: StackId,
    /// The thread that ended it, where it is a recorded one; of one that goes on, who holds what it is for.
    pub(super) waker: Option<ThreadId>,
}

/// The waits of each thread.
#[derive(Debug, Default)]
pub(super) struct Timeline(FastMap<ThreadId, Vec<Waited>>);

impl Timeline {
    /// Of waits in any order. One that is there several times, as it was seen before it had ended, is
    /// taken as it was at last.
    pub(super) fn new(waits: impl Iterator<Item = (ThreadId, Waited)>) -> Timeline {
        let mut threads: FastMap<ThreadId, Vec<Waited>> = FastMap::default();
        for (thread, wait) in waits {
            threads.entry(thread).or_default().push(wait);
        }
        for waits in threads.values_mut() {
            waits.sort_by_key(|wait| (wait.from, wait.to, wait.waker.is_some()));
            waits.dedup_by(|later, earlier| {
                let same = later.from == earlier.from;
                if same {
                    *earlier = *later;
                }
                same
            });
        }
        Timeline(threads)
    }

    /// The threads with their waits, each one once.
    pub(super) fn waits(&self) -> impl Iterator<Item = (ThreadId, &[Waited])> {
        self.0
            .iter()
            .map(|(thread, waits)| (*thread, waits.as_slice()))
    }

    /// Those that were under way at some time from `from` to `to`.
    pub(super) fn during(&self, thread: ThreadId, from: Timestamp, to: Timestamp) -> &[Waited] {
        let waits = self.0.get(&thread).map_or(&[][..], Vec::as_slice);
        let first = waits.partition_point(|wait| wait.ran <= from);
        let end = waits.partition_point(|wait| wait.from < to);
        waits.get(first..end).unwrap_or(&[])
    }
}

/// How a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    /// In a wait that no recorded thread ended.
    Outside,
    /// In a thread that ran.
    Running,
    /// In a thread that wanted a CPU.
    RunQueue,
    /// In a thread that waited for less than is recorded by itself.
    ShortWaits,
    /// In a thread that was parked.
    Idle,
    /// In a thread that something held from outside.
    Stopped,
    /// In a thread that was in no wait that is recorded by itself; no more is known.
    Busy,
    /// In a thread that waited for one of the chain.
    Cycle,
    /// Nothing more is known: the chain is too long.
    Unknown,
}

/// A part of a wait, with what was to blame for it.
pub(super) struct Segment<'a> {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The stacks of the waits that waited for each other; first that of the wait itself.
    pub(super) links: &'a [StackId],
    pub(super) end: End,
    /// Who was [`End::Busy`].
    pub(super) who: Option<ThreadId>,
}

/// Follows waits along a timeline.
pub(super) struct Follower<'a> {
    timeline: &'a Timeline,
    links: Vec<StackId>,
    threads: Vec<ThreadId>,
    /// Segments that may be made still; beyond them nothing is followed. Threads that wait for each
    /// other in turn could make as many as their number squared.
    budget: usize,
}

impl<'a> Follower<'a> {
    pub(super) fn new(timeline: &'a Timeline, budget: usize) -> Follower<'a> {
        Follower {
            timeline,
            links: Vec::new(),
            threads: Vec::new(),
            budget,
        }
    }

    /// Tells the parts of `wait`, in the order of time, without a gap.
    pub(super) fn follow(
        &mut self,
        thread: ThreadId,
        wait: &Waited,
        told: &mut impl FnMut(&Segment<'_>),
    ) {
        self.links.clear();
        self.threads.clear();
        self.threads.push(thread);
        self.links.push(wait.stack);
        self.blame(wait.waker, (wait.from, wait.to), told);
    }

    /// Tells what `waker` did from `from` to `to`.
    fn blame(
        &mut self,
        waker: Option<ThreadId>,
        (from, to): (Timestamp, Timestamp),
        told: &mut impl FnMut(&Segment<'_>),
    ) {
        let Some(waker) = waker else {
            return self.tell((from, to), End::Outside, None, told);
        };
        if self.threads.contains(&waker) {
            return self.tell((from, to), End::Cycle, None, told);
        }
        if self.links.len() >= MAX_LINKS || self.budget == 0 {
            return self.tell((from, to), End::Unknown, None, told);
        }
        self.threads.push(waker);
        let mut at = from;
        for wait in self.timeline.during(waker, from, to) {
            let within = |time: Timestamp| time.max(at).min(to);
            let (begin, woken, ran) = (within(wait.from), within(wait.to), within(wait.ran));
            self.tell((at, begin), End::Busy, Some(waker), told);
            if begin < woken {
                self.links.push(wait.stack);
                self.blame(wait.waker, (begin, woken), told);
                self.links.pop();
            }
            self.tell((woken, ran), End::RunQueue, None, told);
            at = ran;
        }
        self.tell((at, to), End::Busy, Some(waker), told);
        self.threads.pop();
    }

    fn tell(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        end: End,
        who: Option<ThreadId>,
        told: &mut impl FnMut(&Segment<'_>),
    ) {
        if from < to {
            self.budget = self.budget.saturating_sub(1);
            let links = &self.links;
            told(&Segment {
                from,
                to,
                links,
                end,
                who,
            });
        }
    }
}

/// A chain: the sites that waited for each other, and how it ends. Of the waits of one site that wait
/// for each other, one after another, only one is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Chain {
    /// Beyond the site itself.
    pub(super) sites: Arc<[Label]>,
    pub(super) end: End,
}

/// What was to blame for the waits of one site.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteBlame {
    /// Waits that a recorded thread ended.
    pub(super) waits: u64,
    /// Their time.
    pub(super) time: Nanos,
    pub(super) chains: BTreeMap<Chain, Nanos>,
}

/// What was to blame for the waits of all sites.
#[derive(Clone, Debug, Default)]
pub(super) struct Blames {
    sites: BTreeMap<Label, SiteBlame>,
    chains: usize,
}

impl Blames {
    /// Counts a wait of a site.
    pub(super) fn add_wait(&mut self, site: Label, length: Nanos) {
        let sum = self.sites.entry(site).or_default();
        sum.waits += 1;
        sum.time += length;
    }

    /// Adds a part of one. A chain that finds no room is in the time of the site only.
    pub(super) fn add(&mut self, site: Label, chain: Chain, length: Nanos) {
        let chains = &mut self.sites.entry(site).or_default().chains;
        if let Some(sum) = chains.get_mut(&chain) {
            *sum += length;
        } else if self.chains < MAX_CHAINS {
            self.chains += 1;
            chains.insert(chain, length);
        }
    }

    /// That of each site.
    pub(super) fn sites(&self) -> impl Iterator<Item = (Label, &SiteBlame)> {
        self.sites.iter().map(|(site, blame)| (*site, blame))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::thread;
    use super::*;

    fn waited(stack: u32, from: u64, to: u64, waker: Option<u32>) -> Waited {
        Waited {
            from: Timestamp(from),
            to: Timestamp(to),
            ran: Timestamp(to + 1),
            stack: StackId(stack),
            waker: waker.map(thread),
        }
    }

    /// The parts of the first wait of thread 1, as (from, to, links, end).
    fn told(waits: &[(u32, Waited)], budget: usize) -> Vec<(u64, u64, Vec<u32>, End)> {
        let all = waits.iter().map(|(tid, wait)| (thread(*tid), *wait));
        let timeline = Timeline::new(all);
        let mut follower = Follower::new(&timeline, budget);
        let mut parts = Vec::new();
        follower.follow(thread(1), &waits[0].1, &mut |segment| {
            let links = segment.links.iter().map(|stack| stack.0).collect();
            parts.push((segment.from.0, segment.to.0, links, segment.end));
        });
        parts
    }

    #[test]
    fn the_holder_waits_for_the_network() {
        let waits = [
            (1, waited(10, 0, 100, Some(2))),
            (2, waited(20, 5, 90, None)),
        ];
        assert_eq!(
            told(&waits, 100),
            [
                (0, 5, vec![10], End::Busy),
                (5, 90, vec![10, 20], End::Outside),
                (90, 91, vec![10], End::RunQueue),
                (91, 100, vec![10], End::Busy),
            ]
        );
    }

    #[test]
    fn holders_one_after_another_each_have_their_part() {
        // 2 and 3 hold the lock in turn, and each of them waits for the disk meanwhile.
        let waits = [
            (1, waited(10, 0, 40, Some(3))),
            (2, waited(20, 0, 19, None)),
            (3, waited(10, 0, 20, Some(2))),
            (3, waited(30, 21, 40, None)),
        ];
        assert_eq!(
            told(&waits, 100),
            [
                (0, 19, vec![10, 10, 20], End::Outside),
                (19, 20, vec![10, 10], End::RunQueue),
                (20, 21, vec![10], End::RunQueue),
                (21, 40, vec![10, 30], End::Outside),
            ]
        );
    }

    #[test]
    fn a_circle_ends_where_it_closes_and_a_budget_where_it_is_used_up() {
        let waits = [
            (1, waited(10, 0, 50, Some(2))),
            (2, waited(20, 0, 49, Some(1))),
        ];
        assert_eq!(told(&waits, 100)[0], (0, 49, vec![10, 20], End::Cycle));
        assert_eq!(told(&waits, 0), [(0, 50, vec![10], End::Unknown)]);
    }

    #[test]
    fn a_wait_that_was_seen_before_it_ended_counts_once() {
        let waits = [
            (1, waited(10, 0, 50, Some(2))),
            (2, waited(20, 10, 30, None)),
            (2, waited(20, 10, 40, Some(3))),
        ];
        let parts = told(&waits, 100);
        assert_eq!(parts[1], (10, 40, vec![10, 20], End::Busy));
        assert_eq!(parts.len(), 4);
    }
}
