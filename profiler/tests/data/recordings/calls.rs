//! Workers that compute inside single system calls, and tasks that panic.

use super::builder::*;
use holdup::recording::{
    CallSum, ObjectId, ObjectKind, PanicProbes, PanicSum, Recording, Stack, StackId,
};
use holdup::runtime::{Role, State};
use holdup::units::{Nanos, Timestamp};

fn call(b: &mut Builder, tid: u32, stack: StackId, object: Option<ObjectId>, times: &[u64]) {
    let on_cpu: Nanos = times.iter().copied().map(Nanos).sum();
    b.interval.calls.push(CallSum {
        thread: b.id(tid),
        stack,
        object,
        calls: times.len() as u64,
        on_cpu,
        wall: on_cpu + Nanos(3 * MS),
        max: Nanos(times.iter().copied().max().unwrap_or(0)),
    });
    b.times(tid).in_calls += on_cpu;
}

/// A task that reads large files from the page cache, one that writes through a crate, a closure of
/// the pool that may; and panics in tasks and in the pool.
pub fn in_calls() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    b.header.calls_measured = true;
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let in_poll = |syscall: u32, args: [u64; 6], frames: Vec<_>| Stack {
        syscall: Some(syscall),
        args: Some(args),
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    };
    let read = b.stack(in_poll(
        0,
        [12, 0, 0, 0, 0, 0],
        vec![
            system("read"),
            library("std::fs::read::inner"),
            library("std::fs::read"),
            at(app("claims_api::store::load"), "src/store.rs", 41),
            at(
                app("claims_api::api::archive::{{closure}}"),
                "src/api.rs",
                71,
            ),
        ],
    ));
    let write = b.stack(in_poll(
        1,
        [9, 0, 0, 0, 0, 0],
        vec![
            system("write"),
            app("claims_api::audit::flush"),
            app("claims_api::api::audit::{{closure}}"),
        ],
    ));
    let unmap = b.stack(in_poll(
        11,
        [0x7f00_0000_0000, 0, 0, 0, 0, 0],
        vec![
            system("munmap"),
            app("claims_api::api::archive::{{closure}}"),
        ],
    ));
    let allowed = b.stack(Stack {
        syscall: Some(17),
        args: Some([14, 0, 0, 0, 0, 0]),
        ..stack(
            State::Pool,
            Role::PoolThread,
            "pool-closure",
            vec![
                system("pread64"),
                app("claims_api::archive::zip::{{closure}}"),
                runtime("tokio::runtime::blocking::pool::Inner::run"),
            ],
        )
    });
    let panicked = |frames: Vec<_>| Stack {
        syscall: None,
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    };
    let unwrapped = b.stack(panicked(vec![
        library("std::panicking::panic_with_hook"),
        library("core::panicking::panic_fmt"),
        library("core::option::unwrap_failed"),
        at(app("claims_api::quote::price"), "src/quote.rs", 19),
        at(app("claims_api::api::quote::{{closure}}"), "src/api.rs", 90),
    ]));
    let in_pool = b.stack(Stack {
        syscall: None,
        ..stack(
            State::Pool,
            Role::PoolThread,
            "pool-closure",
            vec![
                library("std::panicking::panic_with_hook"),
                app("claims_api::archive::zip::{{closure}}"),
                runtime("tokio::runtime::blocking::pool::Inner::run"),
            ],
        )
    });
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 1_900 * MS, 30 * MS);
    b.thread(4251, "tokio-rt-worker", 900 * MS, 20 * MS);
    b.thread(4260, "tokio-rt-worker", 700 * MS, 5 * MS);
    let ledger = Some(b.object(ObjectKind::Path, "/var/lib/claims/ledger.db", Some(12)));
    let index = Some(b.object(ObjectKind::Path, "/var/lib/claims/index.db", Some(12)));
    let log = Some(b.object(
        ObjectKind::Path,
        "/var/log/claims/\u{1b}[31maudit.log",
        Some(9),
    ));
    call(&mut b, 4250, read, ledger, &[31 * MS, 33 * MS, 30 * MS]);
    call(&mut b, 4251, read, index, &[9 * MS]);
    call(&mut b, 4251, write, log, &[200 * US; 40]);
    call(&mut b, 4250, unmap, None, &[4 * MS, 5 * MS]);
    call(&mut b, 4260, allowed, ledger, &[100 * MS; 5]);
    b.sampled(4250, read, 9);
    b.sampled(4260, allowed, 50);
    b.rest([4242], main);
    b.rest(4250..4252, park);
    b.rest([4260], park);
    b.header.panics_counted = true;
    b.target().panic_probes = Some(PanicProbes {
        probed: vec!["std::panicking::panic_with_hook in claims_api".to_owned()],
        problem: None,
    });
    for (tid, stack, panics, last, task_id) in [
        (4250, unwrapped, 1_200, 9 * SEC, Some(77)),
        (4251, unwrapped, 34, 8 * SEC, Some(76)),
        (4260, in_pool, 1, 3 * SEC, None),
    ] {
        b.interval.panics.push(PanicSum {
            thread: b.id(tid),
            stack,
            panics,
            last: Timestamp(b.header.start.0 + last),
            task_id,
        });
    }
    b.recording()
}

/// A program in which panics cannot be counted, as it has no symbols.
pub fn no_panics() -> Recording {
    let mut b = Builder::new("/srv/claims_api", SEC);
    let park = b.stack(park());
    b.thread(4250, "tokio-rt-worker", MS, 0);
    b.rest([4250], park);
    b.target().has_symbols = false;
    b.header.panics_counted = true;
    b.target().panic_probes = Some(PanicProbes {
        problem: Some(
            "claims_api is stripped, so that the standard library's panic functions cannot be \
             found in it; build it without `strip = true`"
                .to_owned(),
        ),
        ..PanicProbes::default()
    });
    b.recording()
}
