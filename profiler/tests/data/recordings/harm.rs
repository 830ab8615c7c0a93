//! The ways in which a runtime comes to a halt, each for itself.

use super::builder::*;
use holdup::recording::{PollEvidence, ProcessId, Recording, Stack, StackId, Throttling};
use holdup::runtime::{Role, State};
use holdup::units::Nanos;

fn in_poll(b: &mut Builder, leaf: &str, line: u32, task: &str) -> StackId {
    let frames = under_worker(vec![
        at(app(leaf), "src/score.rs", line),
        at(app(task), "src/api.rs", 54),
    ]);
    b.stack(Stack {
        syscall: None,
        ..stack(State::Blocked, WORKER, "task-poll", frames)
    })
}

/// A task that scores claims in one poll, beside modest ones; a closure of the pool, and a thread
/// of the program's own.
pub fn hog() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let hash = in_poll(
        &mut b,
        "claims_api::score::hash",
        31,
        "claims_api::api::score::{{closure}}",
    );
    let sort = in_poll(
        &mut b,
        "claims_api::score::sort",
        77,
        "claims_api::api::score::{{closure}}",
    );
    let parse = in_poll(
        &mut b,
        "serde::parse",
        9,
        "claims_api::api::quote::{{closure}}",
    );
    let zip = b.stack(Stack {
        syscall: None,
        ..stack(
            State::Pool,
            Role::PoolThread,
            "pool-closure",
            vec![
                at(
                    app("claims_api::archive::zip::{{closure}}"),
                    "src/archive.rs",
                    90,
                ),
                runtime("tokio::runtime::blocking::task::BlockingTask<T>::poll"),
                runtime("tokio::runtime::blocking::pool::Inner::run"),
                system("start_thread"),
            ],
        )
    });
    let other = b.stack(Stack {
        syscall: None,
        ..stack(
            State::Other,
            Role::None,
            "no-marker",
            vec![app("claims_api::metrics::run"), system("start_thread")],
        )
    });
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 5_200 * MS, 30 * MS);
    b.thread(4251, "tokio-rt-worker", 900 * MS, 20 * MS);
    b.thread(4260, "tokio-rt-worker", 700 * MS, 5 * MS);
    b.thread(4270, "metrics", 300 * MS, MS);
    b.sampled(4250, hash, 390);
    b.sampled(4250, sort, 120);
    b.sampled(4251, hash, 20);
    b.sampled(4251, parse, 60);
    b.sampled(4260, zip, 71);
    b.sampled(4270, other, 29);
    for n in 0..12 {
        b.long_poll(4250, hash, n * 700 * MS, 400 * MS + n * MS);
    }
    b.long_poll(4251, sort, 5 * SEC, 30 * MS);
    b.long_poll(4251, parse, 6 * SEC, 20 * MS);
    if let Some(last) = b.interval.polls.last_mut() {
        last.evidence = PollEvidence::Stack;
        last.task_id = None;
    }
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.rest([4260], park);
    b.rest([4270], other);
    b.recording()
}

/// Workers that wait for a lock whose holder, a worker as well, writes to a disk; interrupts and
/// another program end waits too.
pub fn held_lock() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let lock = b.stack(Stack {
        kernel: futex(),
        ..stack(
            State::Blocked,
            WORKER,
            "task-poll",
            under_worker(vec![
                system("syscall"),
                library("std::sys::sync::mutex::futex::Mutex::lock_contended"),
                at(app("claims_api::ledger::reserve"), "src/ledger.rs", 88),
                at(app("claims_api::api::claim::{{closure}}"), "src/api.rs", 54),
            ]),
        )
    });
    let sync = b.stack(Stack {
        syscall: Some(74),
        ..stack(
            State::Blocked,
            WORKER,
            "task-poll",
            under_worker(vec![
                system("fsync"),
                library("std::fs::File::sync_all"),
                at(app("claims_api::ledger::flush"), "src/ledger.rs", 131),
            ]),
        )
    });
    let driver = b.stack(Stack {
        syscall: Some(232),
        ..stack(
            State::Idle,
            WORKER,
            "worker-park",
            vec![
                system("epoll_wait"),
                runtime("tokio::runtime::io::driver::Driver::turn"),
                runtime("tokio::runtime::scheduler::multi_thread::worker::run"),
            ],
        )
    });
    let holder = b.stack(stack(
        State::Blocked,
        WORKER,
        "task-poll",
        under_worker(vec![
            system("syscall"),
            library("std::sys::pal::unix::futex::futex_wake"),
            at(app("claims_api::ledger::flush"), "src/ledger.rs", 140),
        ]),
    ));
    for tid in 4250..4254 {
        b.thread(tid, "tokio-rt-worker", 400 * MS, 60 * MS);
    }
    b.thread(4242, "claims_api", 2 * MS, 0);
    for n in 0..20 {
        b.wait(4250, sync, n * 400 * MS, 90 * MS, "interrupt");
        b.wait(
            4251,
            lock,
            n * 400 * MS + 5 * MS,
            88 * MS,
            "tokio-rt-worker",
        );
        b.wait(
            4252,
            lock,
            n * 400 * MS + 7 * MS,
            80 * MS,
            "tokio-rt-worker",
        );
    }
    b.wait(4252, lock, 9_000 * MS, 30 * MS, "pod; sh\u{1b}[31m");
    b.woken_from("tokio-rt-worker", holder);
    b.sampled(4250, sync, 7);
    for n in 0..20 {
        b.short(4253, driver, 430 * MS + n);
    }
    b.rest([4242], main);
    b.rest(4250..4254, park);
    b.recording()
}

/// Two workers that compute as much as a quota lets them.
pub fn quota() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 2_500 * MS, 5_600 * MS);
    b.thread(4251, "tokio-rt-worker", 2_400 * MS, 5_800 * MS);
    b.rest([4242], main);
    b.rest(4250..4252, park);
    let throttling = Throttling {
        group: "/kubepods.slice/claims".to_owned(),
        periods: 100,
        throttled_periods: 93,
        throttled: Nanos(5_100 * MS),
    };
    b.interval.throttling.push((ProcessId(0), throttling));
    b.recording()
}

/// A task that sleeps in one place and asks a peer in another one, on the only worker that another task
/// leaves: without one of the two places half of the harm is still done, without the task none.
pub fn two_places() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let main = b.stack(main_park());
    let [sleep, ask] = [("retry", 19), ("ask_peer", 64)].map(|(leaf, line)| {
        in_poll(
            &mut b,
            &format!("claims_api::ledger::{leaf}"),
            line,
            "claims_api::ledger::post::{{closure}}",
        )
    });
    let other = in_poll(
        &mut b,
        "claims_api::archive::store",
        7,
        "claims_api::archive::run::{{closure}}",
    );
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 100 * MS, 0);
    b.thread(4251, "tokio-rt-worker", 0, 0);
    for n in 0..10 {
        let from = n * SEC;
        b.wait(4250, sleep, from, 495 * MS, "tokio-rt-worker");
        b.wait(4250, ask, from + 500 * MS, 495 * MS, "tokio-rt-worker");
        b.wait(4251, other, from, SEC, "tokio-rt-worker");
    }
    b.rest([4242], main);
    b.recording()
}
