use super::*;
use crate::process::Target;
use crate::units::Pid;
use std::sync::mpsc;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime whose pool has as many closures as it may have threads, `more` in line, and what ends them. No two
/// have the same number of threads: what is left of one in memory is not to be taken for another.
fn full(threads: usize, more: usize) -> (Runtime, Vec<mpsc::Sender<()>>) {
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(threads)
        .build()
        .expect("a runtime");
    let (began, begun) = mpsc::channel();
    let ends = (0..threads + more).map(|_| {
        let (end, ended) = mpsc::channel();
        let began = began.clone();
        runtime.spawn_blocking(move || {
            let _ = began.send(());
            let _ = ended.recv();
        });
        end
    });
    let ends = ends.collect();
    for _ in 0..threads {
        begun.recv().expect("a closure");
    }
    (runtime, ends)
}

/// Where a thread's context says that the scheduler's handle is: behind what tells its kind.
fn address(handle: &Handle) -> Addr {
    const WORDS: usize = size_of::<Handle>() / 8;
    // SAFETY: it has the size of so many words, all of which are set: a pointer, and before it a number
    // where there is another kind of scheduler.
    let words: [u64; WORDS] = unsafe { std::mem::transmute_copy(handle) };
    let pointer = words.into_iter().find(is_pointer);
    Addr(pointer.expect("a pointer"))
}

fn closures_of(runtime: &Runtime, threads: usize) -> Option<u32> {
    let own = Target::open(Pid(std::process::id())).expect("this process");
    let threads = threads as u64;
    closures_in_line(
        address(runtime.handle()),
        &(threads..=threads),
        |at, words| own.read_memory(at, bytemuck::cast_slice_mut(words)).is_ok(),
    )
}

#[test]
fn a_pool_with_nothing_in_line_says_nothing() {
    let (runtime, _ends) = full(4, 0);
    assert_eq!(closures_of(&runtime, 4), None);
}

/// Counters, queue, some words, the limit, and the pool's own numbers.
fn words() -> Vec<u64> {
    vec![
        9,
        1,
        8,
        0x7f00_0000_1000,
        5,
        4,
        0x5555_0000_0008,
        0,
        6,
        6,
        0,
        4,
        10,
        0,
    ]
}

#[test]
fn whatever_does_not_fit_says_nothing() {
    let six = &(6..=6);
    assert_eq!(in_line(&words(), six), Some((9, 4)));
    assert_eq!(in_line(&words(), &(5..=7)), Some((9, 4)));
    assert_eq!(in_line(&words(), &(5..=5)), None);
    for (at, other) in [
        // The counters.
        (0, 0),
        (1, u64::MAX),
        // The queue: its room, its memory, its first element, its length.
        (2, 3),
        (3, 12),
        (4, 8),
        (5, 3),
        // The limit, the threads, those that are idle, the closures in line.
        (8, 7),
        (9, 5),
        (10, 1),
        (11, 0),
        (11, 7),
        // For how long an idle thread is kept.
        (12, 9),
        (13, 1),
    ] {
        let mut words = words();
        words[at] = other;
        assert_eq!(in_line(&words, six), None, "{at}: {other}");
    }
}

/// A limit, no worker and as many threads look like a pool with as many in line.
#[test]
fn as_many_in_line_as_there_are_threads_are_not_told() {
    let mut words = words();
    (words[5], words[11]) = (6, 6);
    assert_eq!(in_line(&words, &(6..=6)), None);
}

#[test]
fn memory_that_cannot_be_read_says_nothing() {
    let nothing = |_: Addr, _: &mut [u64]| false;
    assert_eq!(closures_in_line(Addr(0x1_0000), &(1..=9), nothing), None);
    let zeros = |_: Addr, words: &mut [u64]| {
        words.fill(0);
        true
    };
    assert_eq!(closures_in_line(Addr(0x1_0000), &(1..=9), zeros), None);
}

#[test]
fn of_two_pools_none_is_told() {
    let read = |at: Addr, into: &mut [u64]| {
        into.fill(0);
        match at.0 {
            0x1_0000 => into[..2].copy_from_slice(&[0x2_0000, 0x3_0000]),
            _ => into[..words().len()].copy_from_slice(&words()),
        }
        true
    };
    assert_eq!(closures_in_line(Addr(0x1_0000), &(6..=6), read), None);
    let one = |at: Addr, into: &mut [u64]| read(at, into) && at.0 != 0x3_0000;
    assert_eq!(closures_in_line(Addr(0x1_0000), &(6..=6), one), Some(4));
}
