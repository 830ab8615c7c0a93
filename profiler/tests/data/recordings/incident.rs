//! A service in trouble, for pictures and for pages: eight seconds in intervals of one.

use super::builder::*;
use holdup::recording::{Interval, ObjectId, ObjectKind, Recording, Stack, StackId, Wait, WakerId};
use holdup::runtime::{Role, State};

/// The stacks of it.
struct Stacks {
    park: StackId,
    pool_park: StackId,
    sync: StackId,
    release: StackId,
    lock: StackId,
    ask: StackId,
    read: StackId,
    refresh: StackId,
}

fn stacks(b: &mut Builder) -> Stacks {
    let poll = |syscall: Option<u32>, frames: Vec<holdup::symbolize::Frame>| Stack {
        syscall,
        kernel: futex(),
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    };
    let claim = || at(app("claims_api::api::claim::{{closure}}"), "src/api.rs", 54);
    Stacks {
        park: b.stack(park()),
        pool_park: b.stack(pool_park()),
        sync: b.stack(Stack {
            kernel: Vec::new(),
            ..poll(
                Some(74),
                vec![
                    system("fsync"),
                    library("std::fs::File::sync_all"),
                    at(app("claims_api::ledger::flush"), "src/ledger.rs", 131),
                    claim(),
                ],
            )
        }),
        release: b.stack(poll(
            None,
            vec![
                system("syscall"),
                library("std::sys::pal::unix::futex::futex_wake"),
                at(app("claims_api::ledger::flush"), "src/ledger.rs", 140),
                claim(),
            ],
        )),
        lock: b.stack(poll(
            Some(202),
            vec![
                system("syscall"),
                library("std::sys::sync::mutex::futex::Mutex::lock_contended"),
                at(app("claims_api::ledger::reserve"), "src/ledger.rs", 88),
                claim(),
            ],
        )),
        ask: b.stack(Stack {
            kernel: Vec::new(),
            ..poll(
                Some(45),
                vec![
                    system("recv"),
                    library("std::net::TcpStream::read"),
                    at(
                        app("claims_api::upstream::Gateway::ask_blocking"),
                        "src/upstream.rs",
                        77,
                    ),
                    at(app("claims_api::api::price::{{closure}}"), "src/api.rs", 91),
                ],
            )
        }),
        read: b.stack(Stack {
            syscall: Some(0),
            ..stack(
                State::Pool,
                Role::PoolThread,
                "pool-closure",
                vec![
                    system("read"),
                    library("std::fs::read"),
                    at(
                        app("claims_api::archive::load::{{closure}}"),
                        "src/archive.rs",
                        12,
                    ),
                    runtime("tokio::runtime::blocking::pool::Inner::run"),
                    system("start_thread"),
                ],
            )
        }),
        refresh: b.stack(Stack {
            syscall: Some(230),
            ..stack(
                State::Other,
                Role::None,
                "no-marker",
                vec![
                    system("clock_nanosleep"),
                    library("std::thread::sleep"),
                    at(app("claims_api::cache::refresh"), "src/cache.rs", 9),
                    system("start_thread"),
                ],
            )
        }),
    }
}

/// What its waits are for, and who ends them.
struct Others {
    ledger: ObjectId,
    upstream: ObjectId,
    disk: WakerId,
    holder: WakerId,
    network: WakerId,
}

/// Two workers wait for a lock while a third syncs a file under it; now and then the fourth asks another
/// service, and then no task can run.
pub fn incident() -> Recording {
    let mut b = Builder::new("/srv/claims_api", SEC);
    let stacks = stacks(&mut b);
    let others = Others {
        ledger: b.object(ObjectKind::Path, "/var/lib/claims/ledger.db", Some(12)),
        upstream: b.object(
            ObjectKind::Socket,
            "tcp 10.0.0.1:40022 -> 10.0.0.5:443",
            Some(15),
        ),
        disk: b.waker(0, 0, "interrupt"),
        holder: b.waker(4242, 4250, "tokio-rt-worker"),
        network: b.waker(0, 0, "swapper/1"),
    };
    let mut intervals = Vec::new();
    for second in 0..8 {
        let from = second * SEC;
        b.interval = Interval {
            start: b.instant(from),
            end: b.instant(from + SEC),
            ..Interval::default()
        };
        for tid in 4250..4254 {
            let running = 30 * MS + second * 12 * MS + u64::from(tid - 4250) * 7 * MS;
            b.thread(tid, "tokio-rt-worker", running, 20 * MS);
        }
        b.thread(4260, "tokio-rt-worker", 15 * MS, MS);
        b.thread(4270, "cache-refresh", 2 * MS, MS);
        for round in 0..8 {
            one_round(
                &mut b,
                &stacks,
                &others,
                from + round * 120 * MS,
                second * 8 + round,
            );
        }
        b.interval.waits.sort_by_key(|wait| wait.end);
        b.rest(4250..4254, stacks.park);
        b.rest([4260], stacks.pool_park);
        b.rest([4270], stacks.refresh);
        intervals.push(std::mem::take(&mut b.interval));
    }
    Recording {
        intervals,
        ..b.recording()
    }
}

/// What happens in an eighth of a second.
fn one_round(b: &mut Builder, stacks: &Stacks, others: &Others, at: u64, number: u64) {
    let told = |b: &mut Builder, tid, stack, times: (u64, u64), of: &dyn Fn(&mut Wait)| {
        b.single(tid, stack, at + times.0, times.1, 150 * US);
        let wait = b.interval.waits.last_mut().expect("just pushed");
        wait.task_id = Some(100 + number);
        of(wait);
    };
    // Each round is a little longer than the one before, the twelfth is far longer.
    let sync = 40 * MS + number * 300 * US + if number == 12 { 45 * MS } else { 0 };
    told(b, 4250, stacks.sync, (5 * MS, sync), &|wait| {
        wait.object = Some(others.ledger);
        wait.waker = Some(others.disk);
    });
    for (tid, late) in [(4251, 6 * MS), (4252, 9 * MS)] {
        told(
            b,
            tid,
            stacks.lock,
            (late, sync + 5 * MS - late + 60 * US),
            &|wait| {
                wait.waker = Some(others.holder);
                wait.waker_stack = Some(stacks.release);
            },
        );
    }
    if number.is_multiple_of(3) {
        told(b, 4253, stacks.ask, (12 * MS, 28 * MS), &|wait| {
            wait.object = Some(others.upstream);
            wait.waker = Some(others.network);
        });
    }
    told(b, 4260, stacks.read, (2 * MS, 70 * MS), &|wait| {
        wait.task_id = None
    });
    told(b, 4270, stacks.refresh, (MS, 100 * MS), &|wait| {
        wait.task_id = None
    });
    let poll = (at + 4 * MS, at + 6 * MS + sync);
    b.poll(4250, stacks.sync, poll, (1, sync, 0));
}
