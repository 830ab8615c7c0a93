//! Golden files of what `holdup dump` and `holdup list` print.
//!
//! To accept changed output, look at it first and then run the tests with `INSTA_UPDATE=always`.

use holdup::cause::Cause;
use holdup::recording::{
    Holder, HolderProcess, Host, Object, ObjectKind, Process, TokioFacts, Tool,
};
use holdup::render::{DumpOptions, Options, dump_json, dump_text, list_json, list_text};
use holdup::report::dump::{
    Deadlock, Dump, DumpKind, DumpRuntime, DumpThread, DumpVerdict, FullPool, Unseen,
};
use holdup::report::list::{LIST_SCHEMA, ListedProcess, Listing};
use holdup::report::{GroupedBy, RuntimeKind};
use holdup::runtime::{Flavor, Queued, Role, State, StoppedBy};
use holdup::symbolize::{Frame, FrameRef, Origin};
use holdup::units::{Nanos, Pid, Tid};
use holdup::unwind::Truncation;
use std::sync::Arc;

const WORKER: Role = Role::Worker(Flavor::MultiThread);
const SECOND: u64 = 1_000_000_000;
const HOSTILE: &str = "\u{1b}[31mevil\n\u{202e}";

fn tool() -> Tool {
    Tool {
        name: "holdup".into(),
        version: "1.2.3".into(),
    }
}

fn host() -> Host {
    Host {
        kernel: "6.12.48-1-amd64".into(),
        cpus: 16,
    }
}

fn process(pid: u32) -> Process {
    Process {
        exe: "/srv/claims_api".to_owned(),
        tokio_version: Some("1.54.1".to_owned()),
        tokio: TokioFacts {
            present: true,
            ..TokioFacts::default()
        },
        has_symbols: true,
        has_lines: true,
        ..Process::unknown(Pid(pid))
    }
}

fn frame(function: &str, file: &str, line: u32) -> FrameRef {
    Arc::new(Frame {
        file: Some(file.into()),
        line: Some(line),
        ..Frame::named(function, Origin::Application)
    })
}

fn thread(tid: u32, state: State, function: &str, line: u32) -> DumpThread {
    DumpThread {
        tid: Tid(tid),
        pid: Pid(4711),
        name: "tokio-rt-worker".to_owned(),
        role: WORKER,
        runtime: Some("rt0".to_owned()),
        state,
        since_ns: Some(Nanos(192 * SECOND)),
        at_least: true,
        unmoved: true,
        stopped_by: None,
        function: Some(function.into()),
        file: Some("src/transfer.rs".into()),
        line: Some(line),
        wait: Some("std::sys::sync::mutex::futex::Mutex::lock_contended".into()),
        task: Some("claims_api::handle::{{closure}}".into()),
        task_id: Some(u64::from(tid)),
        cause: Some(Cause::Lock),
        call: "futex wait".to_owned(),
        object: None,
        holder: None,
        waiters: 0,
        waits_for: Vec::new(),
        queued: None,
        stack: vec![
            frame("syscall", "syscall.S", 38),
            frame(function, "src/transfer.rs", line),
            frame("claims_api::handle::{{closure}}", "src/handle.rs", 12),
        ],
        truncated: None,
    }
}

fn holds(mut thread: DumpThread, lock: &str, waits_for: &[u32], likely: bool) -> DumpThread {
    thread.object = Some(Object {
        kind: ObjectKind::Futex,
        name: lock.to_owned(),
    });
    thread.waits_for = waits_for.iter().map(|tid| Tid(*tid)).collect();
    thread.holder = Some(Holder::Thread {
        tid: thread.waits_for[0],
        name: "tokio-rt-worker".to_owned(),
        evidence: "the owner in a pthread mutex".to_owned(),
        likely,
    });
    thread.waiters = 1;
    thread
}

fn runtime(finding: DumpKind, threads: &[DumpThread]) -> DumpRuntime {
    let own = threads.iter().filter(|thread| thread.runtime.is_some());
    let count = |state: State| {
        let of = own.clone().filter(|thread| thread.state == state);
        u32::try_from(of.count()).expect("few")
    };
    DumpRuntime {
        id: "rt0".to_owned(),
        pid: Pid(4711),
        kind: RuntimeKind::MultiThread,
        thread_name: "tokio-rt-worker".to_owned(),
        grouped_by: GroupedBy::Handle,
        finding,
        workers: u32::try_from(own.clone().count()).expect("few"),
        blocked: count(State::Blocked),
        idle: count(State::Idle),
        running: count(State::Running),
        runnable: count(State::Runnable),
        stopped: count(State::Stopped),
        others: 0,
        all_blocked_ns: Nanos(192 * SECOND),
        in_deadlock: false,
    }
}

fn dump(kind: DumpKind, threads: Vec<DumpThread>) -> Dump {
    Dump {
        schema: 1,
        tool: tool(),
        host: host(),
        taken_at: "2026-11-29T04:40:28.652Z".to_owned(),
        looked_ns: Nanos(104_000_000),
        verdict: DumpVerdict {
            kind,
            runtime: Some("rt0".to_owned()),
        },
        processes: vec![process(4711)],
        runtimes: vec![runtime(kind, &threads)],
        deadlocks: Vec::new(),
        full_pools: Vec::new(),
        threads,
        unseen: Unseen::default(),
    }
}

/// Two workers that wait for each other, and two more behind them.
fn deadlock() -> Dump {
    let debit = |tid| thread(tid, State::Blocked, "claims_api::transfer::debit", 88);
    let mut dump = dump(
        DumpKind::Wedged,
        vec![
            holds(debit(4712), "0x55d0c0de0040", &[4713, 4712], true),
            holds(
                thread(4713, State::Blocked, "claims_api::transfer::credit", 97),
                "0x55d0c0de0080",
                &[4712, 4713],
                true,
            ),
            holds(debit(4714), "0x55d0c0de0080", &[4712, 4713, 4712], true),
            holds(debit(4715), "0x55d0c0de0080", &[4712, 4713, 4712], true),
        ],
    );
    for thread in &mut dump.threads[1..] {
        thread.waiters = 3;
    }
    dump.deadlocks = vec![Deadlock {
        pid: Pid(4711),
        threads: vec![Tid(4712), Tid(4713)],
        is_certain: false,
    }];
    dump.runtimes[0].in_deadlock = true;
    dump
}

/// One worker waits for a child, one for a pipe, one is on a CPU, one is idle; a thread of the pool
/// and others beside them.
fn mixed() -> Dump {
    let mut child = thread(4712, State::Blocked, "claims_api::pdf::render", 31);
    child.cause = Some(Cause::ChildProcess);
    child.call = "wait4".to_owned();
    child.object = Some(Object {
        kind: ObjectKind::Process,
        name: "5000".to_owned(),
    });
    child.holder = Some(Holder::Processes {
        processes: vec![HolderProcess {
            pid: Pid(5000),
            name: "weasyprint".to_owned(),
        }],
        more: 2,
        evidence: "it has not ended".to_owned(),
    });
    let mut pipe = thread(4713, State::Blocked, "claims_api::log::line", 9);
    pipe.cause = Some(Cause::Pipe);
    pipe.call = "write fd 1 pipe:[77]".to_owned();
    pipe.object = Some(Object {
        kind: ObjectKind::Pipe,
        name: "pipe:[77]".to_owned(),
    });
    pipe.truncated = Some(Truncation::NoRow);
    let mut runs = thread(4714, State::Running, "claims_api::score::sum", 55);
    (runs.since_ns, runs.cause, runs.task_id) = (None, None, None);
    runs.call.clear();
    let mut idle = thread(4715, State::Idle, "tokio::park", 1);
    idle.task = None;
    let mut pool = thread(4716, State::Pool, "claims_api::store::read", 70);
    (pool.runtime, pool.role, pool.since_ns) = (None, Role::PoolThread, Some(Nanos(2_000_000)));
    pool.cause = Some(Cause::FileIo);
    pool.call = "fsync fd 9 /srv/claims.db".to_owned();
    let mut other = thread(4711, State::Other, "claims_api::main", 3);
    (other.runtime, other.role, other.name) = (None, Role::None, "claims_api".to_owned());
    let mut idle_pool = thread(4717, State::Idle, "tokio::blocking", 1);
    (idle_pool.runtime, idle_pool.role) = (None, Role::PoolThread);
    let threads = vec![child, pipe, runs, idle, pool, other, idle_pool];
    let mut dump = dump(DumpKind::Blocked, threads);
    dump.unseen.truncated = 1;
    dump
}

fn stopped() -> Dump {
    let mut thread = thread(4712, State::Stopped, "claims_api::f", 1);
    thread.cause = None;
    thread.stopped_by = Some(StoppedBy::Signal);
    let mut dump = dump(DumpKind::Stopped, vec![thread]);
    dump.processes[0].has_symbols = false;
    dump.unseen.without_names = 1;
    dump
}

fn hostile() -> Dump {
    let mut dump = deadlock();
    for thread in &mut dump.threads {
        thread.name = HOSTILE.to_owned();
        thread.function = Some(HOSTILE.into());
        thread.task = Some(HOSTILE.into());
        thread.call = HOSTILE.to_owned();
        thread.file = Some(HOSTILE.into());
        if let Some(Holder::Thread { name, .. }) = &mut thread.holder {
            *name = HOSTILE.to_owned();
        }
        thread.stack = vec![frame(HOSTILE, HOSTILE, 1)];
    }
    dump.runtimes[0].thread_name = HOSTILE.to_owned();
    dump.processes[0].exe = HOSTILE.to_owned();
    dump
}

fn text(dump: &Dump, shown: DumpOptions, width: usize) -> String {
    let options = Options {
        width,
        ..Options::default()
    };
    let mut out = Vec::new();
    dump_text(dump, shown, &options, &mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn deadlock_text() {
    insta::assert_snapshot!(text(&deadlock(), DumpOptions::default(), 80));
}

#[test]
fn mixed_text() {
    insta::assert_snapshot!(text(&mixed(), DumpOptions::default(), 100));
}

#[test]
fn mixed_with_stacks_and_all_threads() {
    let shown = DumpOptions {
        stacks: true,
        all: true,
    };
    insta::assert_snapshot!(text(&mixed(), shown, 100));
}

#[test]
fn stopped_text() {
    insta::assert_snapshot!(text(&stopped(), DumpOptions::default(), 60));
}

#[test]
fn other_findings() {
    for (kind, wanted) in [
        (DumpKind::Healthy, "HEALTHY"),
        (DumpKind::AllBlocked, "BLOCKED"),
        (DumpKind::Unclear, "UNCLEAR"),
    ] {
        let mut dump = mixed();
        dump.verdict.kind = kind;
        let text = text(&dump, DumpOptions::default(), 80);
        assert!(text.contains(&format!("\n{wanted} ")), "{text}");
    }
    let mut dump = mixed();
    dump.verdict = DumpVerdict {
        kind: DumpKind::Wedged,
        runtime: None,
    };
    let text = text(&dump, DumpOptions::default(), 80);
    assert!(
        text.contains("WEDGED       Threads outside the workers"),
        "{text}"
    );
}

#[test]
fn a_full_pool_is_told_with_its_process_where_there_are_several() {
    let mut dump = mixed();
    dump.verdict = DumpVerdict {
        kind: DumpKind::PoolFull,
        runtime: None,
    };
    dump.full_pools = vec![FullPool {
        pid: Pid(4711),
        threads: 512,
    }];
    let words = |dump: &Dump| {
        let text = text(dump, DumpOptions::default(), 80);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let told = "POOL FULL All 512 threads of the blocking pool are in closures";
    assert!(words(&dump).contains(told), "{}", words(&dump));
    dump.processes.push(process(4800));
    let told = "blocking pool of claims_api (4711) are in closures";
    assert!(words(&dump).contains(told), "{}", words(&dump));
}

#[test]
fn idle_workers_may_have_tasks_that_wait_for_each_other() {
    let mut dump = mixed();
    dump.verdict.kind = DumpKind::Healthy;
    let id = dump.verdict.runtime.clone();
    let own = dump.runtimes.iter_mut();
    for runtime in own.filter(|runtime| Some(&runtime.id) == id.as_ref()) {
        runtime.idle = runtime.workers;
    }
    let text = text(&dump, DumpOptions::default(), 80);
    let words: Vec<&str> = text.split_whitespace().collect();
    let told = words
        .join(" ")
        .contains("all are idle. If the program hangs all the same");
    assert!(told, "{text}");
}

#[test]
fn a_task_behind_a_blocked_worker_is_told() {
    let mut dump = deadlock();
    let queued = Queued {
        in_slot: true,
        in_queue: 2,
    };
    let mut text_with = |cause| {
        for thread in &mut dump.threads {
            (thread.cause, thread.queued) = (Some(cause), Some(queued));
        }
        let text = text(&dump, DumpOptions::default(), 80);
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ")
    };
    let told = "held up 3 tasks in the worker's own queue, one of them in the LIFO slot, from which no \
                other worker takes";
    let lock = text_with(Cause::Lock);
    assert!(
        lock.contains(told) && !lock.contains("never comes"),
        "{lock}"
    );
    let block_on = text_with(Cause::NestedBlockOn);
    assert!(block_on.contains("it never comes"), "{block_on}");
}

#[test]
fn names_stay_text() {
    let shown = DumpOptions {
        stacks: true,
        all: true,
    };
    for width in [40, 80, 200] {
        let text = text(&hostile(), shown, width);
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{text}"
        );
        assert!(text.contains("\\x1b[31mevil\\x0a"), "{text}");
        let wide = text.lines().find(|line| line.chars().count() > width);
        assert_eq!(wide, None, "at {width}");
    }
    let mut out = Vec::new();
    dump_json(&hostile(), &mut out).expect("memory");
    let json = String::from_utf8(out).expect("UTF-8");
    assert!(!json.contains('\u{202e}') && !json.contains('\u{1b}'));
}

#[test]
fn deadlock_as_json() {
    let mut dump = deadlock();
    dump.threads.truncate(1);
    let mut out = Vec::new();
    dump_json(&dump, &mut out).expect("memory");
    insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"));
}

fn listed(pid: u32, name: &str) -> ListedProcess {
    ListedProcess {
        pid: Pid(pid),
        own_pid: None,
        name: name.to_owned(),
        exe: format!("/srv/{name}"),
        uid: 1001,
        user: Some("claims".to_owned()),
        unit: Some("claims.service".to_owned()),
        container: None,
        pod: None,
        tokio_versions: vec!["1.54.1".to_owned()],
        tokio_in: vec![name.to_owned()],
        threads: 9,
        threads_named_by_tokio: 5,
        has_symbols: true,
        has_lines: true,
        can_record: true,
        remark: None,
        runtimes: Some(2),
        workers: Some(6),
        blocked_share: Some(0.413),
    }
}

fn listing() -> Listing {
    let mut library = listed(4712, "python3.11");
    library.tokio_in = vec!["_granian.cpython-311-x86_64-linux-gnu.so".to_owned()];
    (library.user, library.threads_named_by_tokio) = (None, 0);
    (library.has_symbols, library.has_lines) = (false, false);
    library.unit = None;
    library.container = Some("0123456789ab".to_owned());
    library.own_pid = Some(Pid(7));
    (library.runtimes, library.workers, library.blocked_share) = (None, None, None);
    let mut old = listed(4713, "legacy");
    old.tokio_versions = vec!["0.2.25".to_owned()];
    old.remark = Some("tokio 0.2.25 is not understood".to_owned());
    old.has_lines = false;
    (old.runtimes, old.workers, old.blocked_share) = (Some(1), Some(4), Some(0.0));
    Listing {
        schema: LIST_SCHEMA,
        tool: tool(),
        host: host(),
        refusal: None,
        looked_ns: Some(Nanos(SECOND)),
        processes: vec![listed(4711, "claims_api"), library, old],
        unreadable: 0,
        unread_files: 0,
    }
}

fn list(listing: &Listing, width: usize) -> String {
    let options = Options {
        width,
        ..Options::default()
    };
    let mut out = Vec::new();
    list_text(listing, &options, &mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn listing_text() {
    insta::assert_snapshot!(list(&listing(), 120));
}

#[test]
fn listing_without_rights() {
    let mut listing = listing();
    listing.looked_ns = None;
    listing.unreadable = 212;
    listing.unread_files = 1;
    listing.refusal = Some("CAP_BPF and CAP_PERFMON missing".to_owned());
    for process in &mut listing.processes {
        process.can_record = false;
        (process.runtimes, process.workers, process.blocked_share) = (None, None, None);
    }
    insta::assert_snapshot!(list(&listing, 80));
    listing.processes.clear();
    assert!(list(&listing, 80).starts_with("No process that may be looked into holds tokio."));
}

#[test]
fn listing_as_json() {
    let mut listing = listing();
    listing.processes.truncate(1);
    let mut out = Vec::new();
    list_json(&listing, &mut out).expect("memory");
    insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"));
}

#[test]
fn listed_names_stay_text() {
    let mut listing = listing();
    for process in &mut listing.processes {
        process.name = HOSTILE.to_owned();
        process.unit = Some(HOSTILE.to_owned());
        process.user = Some(HOSTILE.to_owned());
        process.tokio_in = vec![HOSTILE.to_owned()];
    }
    let text = list(&listing, 100);
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text}"
    );
    assert_eq!(text.lines().find(|line| line.chars().count() > 100), None);
}
