//! A library that is loaded and unloaded five times a second makes no stack a new one.

use super::{Complaints, Taken};
use holdup::recording::Interval;
use holdup::runtime::State;

/// Stacks that the whole recording may have. The fixture waits in some 150 ways; were they new ones
/// with every loading, there would be 10,000.
const MAX_STACKS: usize = 1_000;

/// Every wait of the fixture is known, to the end.
pub(super) fn check(taken: &Taken) -> Complaints {
    let mut complaints = taken.sound();
    let unknown = |interval: &Interval| -> (u64, u64) {
        let is_unknown = |stack| {
            let stack = taken.tables.stack(stack);
            stack.is_none_or(|stack| stack.class.state == State::Unknown)
        };
        let sums = interval.sums.iter().map(|sum| {
            let of_unknown = if is_unknown(sum.stack) { sum.waits } else { 0 };
            (of_unknown, sum.waits)
        });
        sums.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    };
    let late = taken.intervals.iter().rev().take(6).map(unknown);
    let (late, of) = late.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let all: u64 = taken.intervals.iter().map(|i| unknown(i).0).sum();
    let stacks = taken.tables.stacks.len();
    println!("{all} waits unknown, {late} of the last {of}; {stacks} stacks");
    let unknown = taken.tables.stacks.iter();
    for stack in unknown.filter(|stack| stack.class.state == State::Unknown) {
        let functions: Vec<_> = stack.frames.iter().map(|frame| &*frame.function).collect();
        println!("unknown: {:?} {functions:?}", stack.truncated);
    }
    // A library that is gone before its mappings were read leaves a wait that nobody can name, once in a
    // while. It was 73 in a hundred when every library made all stacks new.
    if late * 500 > of || of == 0 {
        complaints.push(format!(
            "{late} of the last {of} waits are of unknown state"
        ));
    }
    if stacks > MAX_STACKS {
        complaints.push(format!("{stacks} stacks are kept"));
    }
    for site in taken.truth.blocked() {
        let found = taken.waits_in(&site.function);
        println!("{}: {} waits, {found} found", site.function, site.waits);
        // Nobody can look at a library that is gone already.
        if found * 100 < site.waits * 99 {
            complaints.push(format!(
                "{found} of {} waits at {}",
                site.waits, site.function
            ));
        }
    }
    complaints
}
