//! A blocking pool without a thread to spare.

use super::builder::*;
use holdup::recording::{Recording, Stack, StackId};
use holdup::runtime::tokio::FullPool;
use holdup::runtime::{Role, State};

const FIRST: u32 = 4260;
const THREADS: u32 = 4;

fn closure(b: &mut Builder) -> StackId {
    let frames = vec![
        system("read"),
        library("<std::fs::File as std::io::Read>::read"),
        at(
            app("claims_api::archive::load::{{closure}}"),
            "src/archive.rs",
            77,
        ),
        runtime("tokio::runtime::blocking::task::BlockingTask<T>::poll"),
        runtime("tokio::runtime::blocking::pool::Inner::run"),
        system("start_thread"),
    ];
    b.stack(Stack {
        syscall: Some(0),
        ..stack(State::Pool, Role::PoolThread, "pool-closure", frames)
    })
}

/// Idle workers, and four pool threads in closures that began before the recording and never end; by tokio's
/// own number three more are in line.
pub fn stuck_pool() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let closure = closure(&mut b);
    b.thread(4242, "claims_api", 2 * MS, 0);
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", 20 * MS, 2 * MS);
    }
    for tid in FIRST..FIRST + THREADS {
        b.thread(tid, "tokio-rt-worker", 0, 0);
        b.open(tid, closure, 0, true);
    }
    b.target().tokio.full_pools = vec![FullPool {
        threads: THREADS,
        queued: 3,
    }];
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.recording()
}

/// Idle workers, and a main thread whose own future has waited for a lock since before the recording.
pub fn main_waits() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let park = b.stack(park());
    let lock = b.stack(stack(
        State::Blocked,
        Role::BlockOn,
        "block-on",
        vec![
            system("syscall"),
            library("std::sync::poison::mutex::Mutex<T>::lock"),
            at(app("claims_api::serve::{{closure}}"), "src/main.rs", 41),
            runtime("tokio::runtime::park::CachedParkThread::block_on"),
            app("claims_api::main"),
        ],
    ));
    b.thread(4242, "claims_api", 0, 0);
    b.open(4242, lock, 0, true);
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", 2 * MS, 0);
    }
    b.rest(4250..4252, park);
    b.recording()
}

/// Idle workers, and four pool threads that go from closure to closure for most of the time.
pub fn full_pool() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main, pool_park) = (b.stack(park()), b.stack(main_park()), b.stack(pool_park()));
    let closure = closure(&mut b);
    b.thread(4242, "claims_api", 2 * MS, 0);
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", 20 * MS, 2 * MS);
    }
    for tid in FIRST..FIRST + THREADS {
        b.thread(tid, "tokio-rt-worker", 50 * MS, MS);
        for n in 0..40 {
            let from = SEC + n * 200 * MS;
            b.single(tid, closure, from, 195 * MS, 20 * US);
            let last = b.interval.waits.last_mut().expect("just pushed");
            last.task_id = Some(100 + n * u64::from(THREADS) + u64::from(tid - FIRST));
        }
    }
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.rest(FIRST..FIRST + THREADS, pool_park);
    b.recording()
}
