//! Polls that wait in pieces, and a process that was stopped.

use super::builder::*;
use holdup::recording::{Recording, Stack};
use holdup::runtime::{State, StoppedBy};

fn sleep_in(leaf: &str, line: u32, task: &str) -> Stack {
    let frames = under_worker(vec![
        system("clock_nanosleep"),
        library("std::thread::sleep"),
        at(app(leaf), "src/retry.rs", line),
        at(app(task), "src/api.rs", 54),
    ]);
    Stack {
        syscall: Some(230),
        ..stack(State::Blocked, WORKER, "task-poll", frames)
    }
}

/// A poll that waits a hundred times for 5 ms, and others that wait once.
pub fn in_pieces() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let task = "claims_api::api::submit::{{closure}}";
    let retry = b.stack(sleep_in("claims_api::retry::until_done", 31, task));
    let once = b.stack(sleep_in(
        "claims_api::retry::pause",
        12,
        "claims_api::api::quote::{{closure}}",
    ));
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 40 * MS, MS);
    b.thread(4251, "tokio-rt-worker", 30 * MS, MS);
    for poll in 0..3 {
        let begin = SEC + poll * 2 * SEC;
        for piece in 0..100 {
            b.single(4250, retry, begin + piece * 5_050 * US, 5 * MS, 10 * US);
        }
        b.poll(4250, retry, (begin, begin + 505 * MS), (100, 500 * MS, 2));
    }
    b.single(4251, once, 4 * SEC, 20 * MS, 0);
    b.poll(4251, once, (4 * SEC, 4 * SEC + 20 * MS), (1, 20 * MS, 0));
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.recording()
}

/// A process that a debugger held for most of the time.
pub fn stopped() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let held = b.stack(Stack {
        stopped_by: Some(StoppedBy::Debugger),
        ..stack(
            State::Stopped,
            WORKER,
            "stopped-by-debugger",
            under_worker(vec![at(app("claims_api::score::hash"), "src/score.rs", 31)]),
        )
    });
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 40 * MS, MS);
    b.thread(4251, "tokio-rt-worker", 30 * MS, MS);
    for tid in 4250..4252 {
        b.single(tid, held, 2 * SEC, 7 * SEC, 0);
    }
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.recording()
}

/// A process that a debugger held again and again, now all of it, now one thread, and a signal at last.
pub fn stopped_often() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let mut held = |by: StoppedBy| {
        let frames = under_worker(vec![at(app("claims_api::score::hash"), "src/score.rs", 31)]);
        b.stack(Stack {
            stopped_by: Some(by),
            ..stack(State::Stopped, WORKER, "stopped", frames)
        })
    };
    let (debugger, signal) = (held(StoppedBy::Debugger), held(StoppedBy::Signal));
    b.thread(4242, "claims_api", 2 * MS, 0);
    for tid in 4250..4254 {
        b.thread(tid, "tokio-rt-worker", 40 * MS, MS);
    }
    for n in 0..5 {
        for (late, tid) in (4250..4254).enumerate() {
            let from = SEC + n * 700 * MS + late as u64 * 200 * US;
            b.single(tid, debugger, from, 20 * MS + n * MS, 0);
        }
    }
    b.open(4251, signal, 9 * SEC + 400 * MS, false);
    b.rest([4242], main);
    b.rest(4250..4254, park);
    b.recording()
}
