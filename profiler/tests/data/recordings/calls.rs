//! Workers that compute inside single system calls, and tasks that panic.

use super::builder::*;
use holdup::recording::{
    CallTotal, Object, ObjectId, ObjectKind, PanicTotal, Panics, Recording, StackEntry, StackId,
    WaitObject,
};
use holdup::runtime::{Role, State};
use holdup::units::{Nanos, Tid, Timestamp};

fn call(b: &mut Builder, tid: u32, stack: StackId, object: Option<ObjectId>, times: &[u64]) {
    let on_cpu: Nanos = times.iter().copied().map(Nanos).sum();
    b.0.calls.push(CallTotal {
        tid: Tid(tid),
        stack,
        object,
        calls: times.len() as u64,
        on_cpu,
        wall: on_cpu + Nanos(3 * MS),
        max: Nanos(times.iter().copied().max().unwrap_or(0)),
    });
    let thread = b.0.threads.iter_mut().find(|t| t.tid == Tid(tid));
    thread.expect("a thread").in_calls += on_cpu;
}

fn path(b: &mut Builder, name: &str, fd: Option<u32>) -> Option<ObjectId> {
    b.0.objects.push(WaitObject {
        object: Object {
            kind: ObjectKind::Path,
            name: name.to_owned(),
        },
        fd,
    });
    Some(ObjectId(b.0.objects.len() as u32 - 1))
}

/// A task that reads large files from the page cache, one that writes through a crate, a closure of
/// the pool that may; and panics in tasks and in the pool.
pub fn in_calls() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    b.0.calls_measured = true;
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let in_poll = |syscall: u32, args: [u64; 6], frames: Vec<_>| StackEntry {
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
    let allowed = b.stack(StackEntry {
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
    let panicked = |frames: Vec<_>| StackEntry {
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
    let in_pool = b.stack(StackEntry {
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
    let ledger = path(&mut b, "/var/lib/claims/ledger.db", Some(12));
    let index = path(&mut b, "/var/lib/claims/index.db", Some(12));
    let log = path(&mut b, "/var/log/claims/\u{1b}[31maudit.log", Some(9));
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
    let panic = |tid, stack, panics, last, task_id| PanicTotal {
        tid: Tid(tid),
        stack,
        panics,
        last: Timestamp(b.0.start.0 + last),
        task_id,
    };
    b.0.panics = Some(Panics {
        probed: vec!["std::panicking::panic_with_hook in claims_api".to_owned()],
        problem: None,
        totals: vec![
            panic(4250, unwrapped, 1_200, 9 * SEC, Some(77)),
            panic(4251, unwrapped, 34, 8 * SEC, Some(76)),
            panic(4260, in_pool, 1, 3 * SEC, None),
        ],
    });
    b.0
}

/// A program in which panics cannot be counted, as it has no symbols.
pub fn no_panics() -> Recording {
    let mut b = Builder::new("/srv/claims_api", SEC);
    let park = b.stack(park());
    b.thread(4250, "tokio-rt-worker", MS, 0);
    b.rest([4250], park);
    b.0.target.has_symbols = false;
    b.0.panics = Some(Panics {
        problem: Some(
            "claims_api is stripped, so that the standard library's panic functions cannot be \
             found in it; build it without `strip = true`"
                .to_owned(),
        ),
        ..Panics::default()
    });
    b.0
}
