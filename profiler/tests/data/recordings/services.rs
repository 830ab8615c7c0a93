//! Services with a tokio runtime, well or not.

use super::builder::*;
use holdup::recording::{Holder, ObjectKind, Recording, Stack};
use holdup::runtime::State;
use holdup::units::Tid;

fn blocked(frames: Vec<holdup::symbolize::Frame>, syscall: u32) -> Stack {
    Stack {
        syscall: Some(syscall),
        kernel: futex(),
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    }
}

/// Four workers that are parked most of the time, and a pool that does the file work.
pub fn healthy() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main, pool_park) = (b.stack(park()), b.stack(main_park()), b.stack(pool_park()));
    let log = b.stack(blocked(
        vec![
            system("write"),
            library("<std::fs::File as std::io::Write>::write"),
            at(app("claims_api::log::append"), "src/log.rs", 31),
            at(
                app("claims_api::api::handle::{{closure}}"),
                "src/api.rs",
                54,
            ),
        ],
        1,
    ));
    let closure = b.stack(Stack {
        syscall: Some(0),
        ..stack(
            State::Pool,
            holdup::runtime::Role::PoolThread,
            "pool-closure",
            vec![
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
            ],
        )
    });
    b.thread(4242, "claims_api", 2 * MS, 0);
    for tid in 4250..4254 {
        b.thread(tid, "tokio-rt-worker", 800 * MS, 12 * MS);
    }
    b.thread(4260, "tokio-rt-worker", 90 * MS, MS);
    for n in 0..40 {
        b.short(4250 + n % 4, log, 60 * US + u64::from(n) * US);
    }
    b.waits_for(ObjectKind::Path, "/var/log/claims/audit.log", Some(9));
    b.wait(4251, log, 3 * SEC, 900 * US, "");
    b.waits_for_anything();
    for n in 0..12 {
        b.wait(4260, closure, n * 700 * MS, 40 * MS + n * MS, "");
    }
    b.rest([4242], main);
    b.rest(4250..4254, park);
    b.rest([4260], pool_park);
    b.recording()
}

/// Four workers that wait for one mutex, whose holder writes to a disk.
pub fn starved() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 30 * SEC);
    let (park, main, pool_park) = (b.stack(park()), b.stack(main_park()), b.stack(pool_park()));
    let lock = |task: &str, line: u32| {
        blocked(
            vec![
                system("syscall"),
                library("std::sys::sync::mutex::futex::Mutex::lock_contended"),
                inlined(at(
                    library("std::sync::poison::mutex::Mutex<T>::lock"),
                    "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/sync/poison/mutex.rs",
                    417,
                )),
                at(
                    app("claims_api::store::ledger::Ledger<B>::reserve"),
                    "src/store/ledger.rs",
                    88,
                ),
                inlined(at(
                    app("claims_api::store::reserve_all"),
                    "src/store/mod.rs",
                    140,
                )),
                at(app(task), "src/api.rs", line),
            ],
            202,
        )
    };
    let claim = b.stack(lock("claims_api::api::handle_claim::{{closure}}", 54));
    let audit = b.stack(lock(
        "claims_api::audit::run::{{closure}}::{{closure}}",
        203,
    ));
    let flush = b.stack(blocked(
        vec![
            system("fsync"),
            library("std::fs::File::sync_all"),
            at(
                app("claims_api::store::ledger::Ledger<B>::flush"),
                "src/store/ledger.rs",
                131,
            ),
            at(
                app("claims_api::api::handle_claim::{{closure}}"),
                "src/api.rs",
                57,
            ),
        ],
        74,
    ));
    let sql = b.stack(blocked(
        vec![
            system("pread64"),
            dependency("rusqlite::raw_statement::RawStatement::step"),
            at(
                dependency("rusqlite::statement::Statement::query_row"),
                "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rusqlite-0.37.0/src/statement.rs",
                512,
            ),
            at(app("<claims_api::policy::Policies as claims_api::policy::Lookup<claims_api::Key>>::find"), "src/policy.rs", 12),
            at(app("claims_api::api::quote::{{closure}}"), "src/api.rs", 91),
        ],
        17,
    ));
    let in_place = b.stack(Stack {
        syscall: Some(0),
        ..stack(
            State::HandedOff,
            WORKER,
            "block-in-place",
            vec![
                system("read"),
                library("std::fs::read"),
                at(app("claims_api::report::render"), "src/report.rs", 20),
                runtime("tokio::runtime::scheduler::multi_thread::worker::block_in_place"),
                app("claims_api::report::task::{{closure}}"),
                runtime("tokio::runtime::task::raw::poll"),
            ],
        )
    });
    let names = ["tokio-rt-worker", "claims-flusher"];
    b.thread(4242, "claims_api", MS, 0);
    for tid in 4250..4254 {
        b.thread(tid, "tokio-rt-worker", 2_400 * MS, 350 * MS);
    }
    b.thread(4260, "tokio-rt-worker", 30 * MS, MS);
    // The holder flushes for 300 ms in every 600 ms; the three others run into the lock.
    for n in 0..24_u64 {
        let from = n * 600 * MS;
        let holder = (n % 4) as u32;
        let ledger = format!("/var/lib/claims/ledger.{}", n % 5);
        b.waits_for(ObjectKind::Path, &ledger, Some(12));
        b.wait(4250 + holder, flush, from, 300 * MS + n * MS, "kworker/1:2");
        b.waits_for(ObjectKind::Futex, "0x7f00deadbee0", None);
        for other in (0..4).filter(|other| *other != holder) {
            let stack = if other == 3 { audit } else { claim };
            let late = u64::from(other) * 3 * MS;
            let waker = names[usize::from(n % 8 == 0)];
            b.wait(
                4250 + other,
                stack,
                from + late,
                300 * MS + n * MS - late,
                waker,
            );
        }
    }
    for n in 0..30_u64 {
        b.wait(
            4250,
            sql,
            15 * SEC + n * 100 * MS,
            4 * MS + n * 100 * US,
            "",
        );
    }
    for n in 0..2_000_u64 {
        b.short(4251, claim, 5 * US + n * 40);
    }
    b.wait(4260, in_place, 20 * SEC, 800 * MS, "");
    b.open(4253, claim, 28 * SEC, false);
    b.rest([4242], main);
    b.rest(4250..4254, park);
    b.rest([4260], pool_park);
    b.recording()
}

/// A wedge: both workers wait since before the recording, each for what the other holds.
pub fn hung() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 5 * SEC);
    b.target().ended = Some("killed by SIGKILL".to_owned());
    b.target().has_lines = false;
    let main = b.stack(main_park());
    let site = |name: &str| {
        blocked(
            vec![
                system("syscall"),
                library("parking_lot::raw_mutex::RawMutex::lock_slow"),
                app(name),
            ],
            202,
        )
    };
    let a = b.stack(site("claims_api::transfer::debit::{{closure}}"));
    let z = b.stack(site("claims_api::transfer::credit::{{closure}}"));
    b.thread(4242, "claims_api", 0, 0);
    b.thread(4250, "tokio-rt-worker", 0, 0);
    b.thread(4251, "tokio-rt-worker", 0, 0);
    b.open(4250, a, 0, true);
    let owner = |tid, name: &str| Holder::Thread {
        likely: false,
        tid: Tid(tid),
        name: name.to_owned(),
        evidence: "the owner in a pthread mutex".to_owned(),
    };
    b.held(
        ObjectKind::Futex,
        "0x55d0c0de0040",
        owner(4251, "tokio-rt-worker"),
    );
    b.open(4251, z, 0, true);
    let likely = Holder::Thread {
        likely: true,
        tid: Tid(4250),
        name: "tokio-rt-worker".to_owned(),
        evidence: "it alone has the lock's address on its stack".to_owned(),
    };
    b.held(ObjectKind::Futex, "0x55d0c0de0080", likely);
    b.open(4242, main, 0, true);
    b.recording()
}

/// Forty workers, many sites, several runtimes.
pub fn crowded() -> Recording {
    let mut b = Builder::new(
        "/srv/a-gateway-with-quite-a-long-name-for-one-line",
        60 * SEC,
    );
    b.header.host.cpus = 64;
    let park = b.stack(park());
    for tid in 100..140 {
        b.thread(tid, "tokio-rt-worker", 12 * SEC, 9 * SEC);
    }
    for n in 0..14_u64 {
        let site = format!(
            "gateway::a_module_with_a_long_name::of_many_parts::Handler{n}::resolve_and_forward_it"
        );
        let stack = b.stack(blocked(
            vec![
                system("getaddrinfo"),
                library("<(&str, u16) as std::net::socket_addr::ToSocketAddrs>::to_socket_addrs"),
                at(
                    app(&site),
                    "crates/gateway/src/a_module_with_a_long_name/of_many_parts.rs",
                    10,
                ),
                at(
                    app("gateway::serve::{{closure}}"),
                    "crates/gateway/src/lib.rs",
                    1000,
                ),
            ],
            7,
        ));
        for worker in 0..40_u32 {
            let from = n * 4 * SEC + u64::from(worker) * 20 * MS;
            b.wait(
                100 + worker,
                stack,
                from,
                (15 - n) * 30 * MS,
                "systemd-resolve",
            );
        }
    }
    for n in 0..4_u32 {
        let tid = 200 + n;
        b.thread(tid, &format!("shard-{n}"), SEC, 10 * MS);
        let own = b.stack(Stack {
            syscall: Some(230),
            ..stack(
                State::Blocked,
                CURRENT,
                "block-on",
                vec![
                    system("clock_nanosleep"),
                    library("std::thread::sleep"),
                    at(app("gateway::shard::backoff"), "src/shard.rs", 5 + n),
                    runtime("tokio::runtime::scheduler::current_thread::CoreGuard::block_on"),
                ],
            )
        });
        b.wait(tid, own, SEC, 50 * MS * u64::from(n + 1), "");
        let idle = b.stack(stack(
            State::Idle,
            CURRENT,
            "current-thread-park",
            vec![runtime(
                "tokio::runtime::scheduler::current_thread::Context::park",
            )],
        ));
        b.rest([tid], idle);
    }
    b.rest(100..140, park);
    b.recording()
}

/// A program on one thread.
pub fn current_thread() -> Recording {
    let mut b = Builder::new("/usr/bin/tail-agent", 10 * SEC);
    let idle = b.stack(stack(
        State::Idle,
        CURRENT,
        "current-thread-park",
        vec![
            system("epoll_wait"),
            runtime("mio::poll::Poll::poll"),
            runtime("tokio::runtime::scheduler::current_thread::Context::park"),
            app("tail_agent::main"),
        ],
    ));
    let dns = b.stack(Stack {
        syscall: Some(7),
        ..stack(
            State::Blocked,
            CURRENT,
            "task-poll",
            vec![
                system("poll"),
                system("getaddrinfo"),
                library("std::sys::net::connection::socket::lookup_host"),
                at(
                    app("tail_agent::push::connect::{{closure}}"),
                    "src/push.rs",
                    19,
                ),
                runtime("tokio::runtime::task::raw::poll"),
                runtime("tokio::runtime::scheduler::current_thread::CoreGuard::block_on"),
            ],
        )
    });
    b.thread(900, "tail-agent", 700 * MS, 3 * MS);
    b.wait(900, dns, SEC, 2_050 * MS, "systemd-resolve");
    b.wait(900, dns, 6 * SEC, 12 * MS, "systemd-resolve");
    b.rest([900], idle);
    b.recording()
}

fn worked(running: u64, runnable: u64) -> Recording {
    let mut b = Builder::new("/srv/resizer", 10 * SEC);
    let park = b.stack(park());
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", running, runnable);
    }
    b.rest(4250..4252, park);
    b.recording()
}

/// Workers that compute all the time.
pub fn busy() -> Recording {
    worked(9_700 * MS, 100 * MS)
}

/// Workers under a CPU quota.
pub fn throttled() -> Recording {
    worked(2_000 * MS, 6_500 * MS)
}
