//! By how much the time in which no task could run would shrink without the waits of a site: the
//! same timeline, swept over without them.
//!
//! All threads of a track wait at once while as many wait as ever did (`peak`). Time in which a label
//! is on any of them is harm of that label. What is left without the label are the stretches, or
//! parts of stretches, in which it is on none.

use super::labels::Label;
use crate::units::{Nanos, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Labels that are followed at most; what is beyond has no harm.
const MOST: usize = 1 << 12;

/// What is known of one label.
#[derive(Clone, Copy, Debug)]
struct Of {
    /// Threads that wait with it now.
    active: u32,
    /// When the last one ended; of use while none is active.
    gone_at: Timestamp,
    harm: Nanos,
    /// The longest stretch without it, of those that are looked at already.
    left: Nanos,
}

/// The harm of all labels, while the sweep goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Harm {
    labels: BTreeMap<Label, Of>,
    active: BTreeSet<Label>,
    /// Since when all have been waiting, while they are.
    since: Option<Timestamp>,
    stretches: Stretches,
}

/// Harm of one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LabelHarm {
    pub(super) label: Label,
    /// By how much the time in which all wait would shrink without it.
    pub(super) harm: Nanos,
    /// The longest stretch that would be left.
    pub(super) left: Nanos,
}

impl Harm {
    /// More threads wait at once than ever before, from `time` on: what was found so far was not
    /// all of them.
    pub(super) fn restart(&mut self, time: Timestamp) {
        for of in self.labels.values_mut() {
            (of.harm, of.left) = (Nanos::ZERO, Nanos::ZERO);
        }
        self.stretches = Stretches::default();
        self.since = Some(time);
    }

    /// All wait from `time` on.
    pub(super) fn begin(&mut self, time: Timestamp) {
        self.since.get_or_insert(time);
    }

    /// Not all wait any more from `time` on.
    pub(super) fn end(&mut self, time: Timestamp) {
        if let Some(since) = self.since.take() {
            self.stretches.add(since, time);
        }
    }

    /// Time passes; counted while all wait.
    pub(super) fn pass(&mut self, length: Nanos) {
        if self.since.is_none() {
            return;
        }
        for label in &self.active {
            if let Some(of) = self.labels.get_mut(label) {
                of.harm += length;
            }
        }
    }

    /// As many threads more, or fewer, wait with a label from `time` on.
    pub(super) fn change(&mut self, label: Label, time: Timestamp, change: i32) {
        if !self.labels.contains_key(&label) && self.labels.len() >= MOST {
            return;
        }
        let of = self.labels.entry(label).or_insert(Of {
            active: 0,
            gone_at: Timestamp(0),
            harm: Nanos::ZERO,
            left: Nanos::ZERO,
        });
        let active = of.active.saturating_add_signed(change);
        if of.active == 0 && active > 0 {
            of.left = of
                .left
                .max(left(&self.stretches, self.since, of.gone_at, time));
            self.active.insert(label);
        } else if of.active > 0 && active == 0 {
            of.gone_at = time;
            self.active.remove(&label);
        }
        of.active = active;
    }

    /// What was found up to `end`.
    pub(super) fn found(&self, end: Timestamp) -> Vec<LabelHarm> {
        let labels = self.labels.iter().map(|(label, of)| {
            let last = match of.active {
                0 => left(&self.stretches, self.since, of.gone_at, end),
                _ => Nanos::ZERO,
            };
            LabelHarm {
                label: *label,
                harm: of.harm,
                left: of.left.max(last),
            }
        });
        labels.collect()
    }
}

/// The longest stretch, or part of one, from `from` to `to`. None of them began or ended in between
/// without being in `stretches`, or being the one since `since`.
fn left(stretches: &Stretches, since: Option<Timestamp>, from: Timestamp, to: Timestamp) -> Nanos {
    let last = since.map_or(Nanos::ZERO, |since| to - since.max(from).min(to));
    stretches.longest_after(from).max(last)
}

/// Stretches of time, kept so that the longest one after any instant can be told.
#[derive(Clone, Debug, Default)]
struct Stretches {
    /// In the order of time; each is longer than all that came after it.
    decreasing: Vec<(Timestamp, Timestamp)>,
}

impl Stretches {
    fn add(&mut self, from: Timestamp, to: Timestamp) {
        let length = to - from;
        let first = self.decreasing.first();
        // What is thousands of times shorter than the longest makes no difference to a reader.
        if first.is_some_and(|(from, to)| length.0 < (*to - *from).0 >> 12) {
            return;
        }
        // Those that are hardly longer go, too: so only some hundred are ever kept.
        let outdone = |(from, to): &(Timestamp, Timestamp)| rounded(*to - *from) <= rounded(length);
        while self.decreasing.last().is_some_and(outdone) {
            self.decreasing.pop();
        }
        self.decreasing.push((from, to));
    }

    /// The longest after `time`, of one that began before it the part after it; to one in 64 of its
    /// length.
    fn longest_after(&self, time: Timestamp) -> Nanos {
        let first = self.decreasing.partition_point(|(_, to)| *to <= time);
        let mut rest = self.decreasing.iter().skip(first);
        let part = rest
            .next()
            .map_or(Nanos::ZERO, |(from, to)| *to - (*from).max(time));
        let whole = rest.next().map_or(Nanos::ZERO, |(from, to)| *to - *from);
        part.max(whole)
    }
}

/// The binary logarithm with six more bits, rounded down.
fn rounded(length: Nanos) -> u64 {
    let log2 = length.0.checked_ilog2().unwrap_or(0);
    let below = if log2 < 6 {
        length.0 << (6 - log2)
    } else {
        length.0 >> (log2 - 6)
    };
    u64::from(log2) << 6 | below & 0x3f
}
