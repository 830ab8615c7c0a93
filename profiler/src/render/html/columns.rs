//! Numbers as the page reads them: one column after another, each number in as few bytes as it needs
//! (LEB128), times as differences.

use super::numbers::Numbers;
use crate::recording::{ObjectId, PollEvidence, StackId, ThreadId, Wait, WakerId};
use crate::render::export::lanes::{Lane, ShownWait};
use crate::report::Activity;
use crate::units::{Nanos, Timestamp};
use std::collections::BTreeMap;
use std::io;

/// JavaScript's numbers are exact up to here: 104 days in nanoseconds.
pub(super) const LARGEST: u64 = (1 << 53) - 1;

/// Writes a number: seven bits a byte, lowest first.
pub(super) fn number(out: &mut dyn io::Write, number: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut rest = number.min(LARGEST);
    let mut length = 0;
    for byte in &mut bytes {
        let more = rest > 0x7f;
        *byte = (rest & 0x7f) as u8 | if more { 0x80 } else { 0 };
        rest >>= 7;
        length += 1;
        if !more {
            break;
        }
    }
    out.write_all(bytes.get(..length).unwrap_or_default())
}

/// Writes the difference of two numbers, which may be below zero: 0, -1, 1, -2, … are 0, 1, 2, 3, ….
/// Exact up to 52 days.
fn difference(out: &mut dyn io::Write, to: u64, from: u64) -> io::Result<()> {
    let (to, from) = (to.min(LARGEST), from.min(LARGEST));
    let zigzag = if to >= from {
        2 * (to - from)
    } else {
        2 * (from - to) - 1
    };
    number(out, zigzag)
}

/// What waits name, by the numbers that the page knows it by.
pub(super) struct Named {
    pub(super) stacks: Numbers<StackId>,
    pub(super) objects: Numbers<ObjectId>,
    pub(super) wakers: Numbers<WakerId>,
}

impl Named {
    /// What the lanes' waits and polls name; what is named often has small numbers.
    pub(super) fn of(lanes: &[Lane<'_>]) -> Named {
        let waits = || lanes.iter().flat_map(Lane::recorded);
        let stacks = waits().flat_map(|wait| [Some(wait.stack), wait.waker_stack]);
        let polls = lanes.iter().flat_map(|lane| lane.polls());
        let polls = polls.map(|shown| Some(shown.poll.stack));
        Named {
            stacks: Numbers::of(stacks.chain(polls).flatten()),
            objects: Numbers::of(waits().filter_map(|wait| wait.object)),
            wakers: Numbers::of(waits().filter_map(|wait| wait.waker)),
        }
    }
}

/// Writes the waits of all lanes, then their polls.
pub(super) fn waits_and_polls(
    out: &mut dyn io::Write,
    lanes: &[Lane<'_>],
    named: &Named,
) -> io::Result<()> {
    for lane in lanes {
        let mut last = 0;
        for wait in lane.waits() {
            difference(out, wait.start.0, last)?;
            last = wait.end.0;
        }
    }
    for length in [ShownWait::blocked, ShownWait::runqueue] {
        for shown in lanes.iter().flat_map(Lane::waits) {
            number(out, length(&shown).0)?;
        }
    }
    type Column = fn(&Wait, &Named) -> u64;
    let columns: [Column; 4] = [
        |wait, named| named.stacks.or_zero(Some(wait.stack)),
        |wait, named| named.objects.or_zero(wait.object),
        |wait, named| named.wakers.or_zero(wait.waker),
        |wait, named| named.stacks.or_zero(wait.waker_stack),
    ];
    for column in columns {
        for wait in lanes.iter().flat_map(Lane::recorded) {
            number(out, column(wait, named))?;
        }
    }
    tasks(out, lanes, |lane| {
        lane.recorded().iter().map(|wait| wait.task_id).collect()
    })?;
    polls(out, lanes, named)
}

fn polls(out: &mut dyn io::Write, lanes: &[Lane<'_>], named: &Named) -> io::Result<()> {
    for lane in lanes {
        let mut last = 0;
        for poll in lane.polls() {
            difference(out, poll.start.0, last)?;
            last = poll.end.0;
        }
    }
    let all = || lanes.iter().flat_map(|lane| lane.polls());
    for shown in all() {
        number(out, shown.end.saturating_sub(shown.start).0)?;
    }
    for shown in all() {
        let poll = shown.poll;
        number(out, named.stacks.or_zero(Some(poll.stack)))?;
        for time in [poll.blocked, poll.runqueue, poll.running] {
            number(out, time.0)?;
        }
        number(out, poll.waits)?;
        number(out, poll.samples)?;
        number(out, u64::from(poll.evidence == PollEvidence::Tick))?;
    }
    let ids = |lane: &Lane<'_>| {
        lane.polls()
            .iter()
            .map(|shown| shown.poll.task_id)
            .collect()
    };
    tasks(out, lanes, ids)
}

/// Writes ids of tasks: 0 where there is none, else 1 and the difference from the one before. Neighbours
/// are near each other.
fn tasks(
    out: &mut dyn io::Write,
    lanes: &[Lane<'_>],
    ids: impl Fn(&Lane<'_>) -> Vec<Option<u64>>,
) -> io::Result<()> {
    let mut last = 0;
    for id in lanes.iter().flat_map(ids) {
        match id.filter(|id| *id < LARGEST / 2) {
            Some(id) => {
                number(out, 1)?;
                difference(out, id, last)?;
                last = id;
            }
            None => number(out, 0)?,
        }
    }
    Ok(())
}

/// Writes where the time went, interval by interval: begin, length, and for each thread with a lane its
/// number and times; number 0 is for all others together.
pub(super) fn activity(
    out: &mut dyn io::Write,
    (entries, start): (&[Activity], Timestamp),
    lanes: &[Lane<'_>],
) -> io::Result<()> {
    let of_lane: BTreeMap<ThreadId, u64> = lanes.iter().map(|lane| lane.id).zip(1..).collect();
    let mut last = 0;
    for entry in entries {
        let begin = (entry.start - start).0;
        difference(out, begin, last)?;
        number(out, (entry.end - entry.start).0)?;
        last = begin;
        let mut times: BTreeMap<u64, [Nanos; 3]> = BTreeMap::new();
        for thread in &entry.threads {
            let lane = of_lane.get(&thread.thread).copied().unwrap_or_default();
            let sums = times.entry(lane).or_default();
            for (sum, time) in
                sums.iter_mut()
                    .zip([thread.running, thread.runnable, thread.off_cpu])
            {
                *sum += time;
            }
        }
        number(out, times.len() as u64)?;
        for (lane, times) in times {
            number(out, lane)?;
            for time in times {
                number(out, time.0)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out).expect("memory");
        out
    }

    #[test]
    fn numbers_take_the_bytes_they_need() {
        for (value, expected) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
            (
                LARGEST,
                vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            ),
            (
                u64::MAX,
                vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            ),
        ] {
            assert_eq!(bytes(|out| number(out, value)), expected, "{value}");
        }
    }

    #[test]
    fn differences_may_be_below_zero() {
        for (to, from, expected) in [(5, 5, 0), (4, 5, 1), (6, 5, 2), (3, 5, 3), (0, 64, 127)] {
            assert_eq!(bytes(|out| difference(out, to, from)), [expected]);
        }
    }
}
