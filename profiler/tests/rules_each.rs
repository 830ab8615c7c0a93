//! Every rule by itself, over stacks written down by hand (leaf first, one function a line), and
//! the ways in which a stack can be less than whole. Recorded ones are in `rules_recorded.rs`.

use holdup::runtime::tokio::{Classifier, RULES};
use holdup::runtime::{Classification, State};
use holdup::symbolize::{Frame, FrameRef, Naming, Origin, Space};
use holdup::units::{Addr, Svma};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a multi_thread worker has outward of its run loop.
const WORKER: &str = "tokio::runtime::scheduler::multi_thread::worker::Context::run
    tokio::runtime::context::scoped::Scoped<T>::set
    tokio::runtime::context::runtime::enter_runtime
    tokio::runtime::scheduler::multi_thread::worker::run
    <tokio::runtime::blocking::task::BlockingTask<T> as core::future::future::Future>::poll
    tokio::runtime::task::core::Core<T,S>::poll
    tokio::runtime::task::harness::Harness<T,S>::poll
    tokio::runtime::blocking::pool::Inner::run
    std::sys::backtrace::__rust_begin_short_backtrace
    core::ops::function::FnOnce::call_once{{vtable.shim}}
    <std::sys::thread::unix::Thread>::new::thread_start";
const POLL: &str = "tokio::runtime::task::core::Core<T,S>::poll
    tokio::runtime::task::harness::Harness<T,S>::poll
    tokio::runtime::scheduler::multi_thread::worker::Context::run_task";
const SLEEP: &str = "clock_nanosleep
    std::thread::functions::sleep
    app::handler::{{closure}}";
const CONDVAR: &str = "syscall
    <std::sys::sync::condvar::futex::Condvar>::wait";
const THREAD: &str = "app::main::{{closure}}
    std::sys::backtrace::__rust_begin_short_backtrace
    core::ops::function::FnOnce::call_once{{vtable.shim}}
    <std::sys::thread::unix::Thread>::new::thread_start";
const BLOCK_ON_PARK: &str = "tokio::runtime::park::Inner::park
    tokio::runtime::park::CachedParkThread::block_on
    tokio::runtime::context::runtime::enter_runtime
    tokio::runtime::runtime::Runtime::block_on";
const SINGLE: &str = "tokio::runtime::context::scoped::Scoped<T>::set
    tokio::runtime::scheduler::current_thread::CoreGuard::block_on
    tokio::runtime::context::runtime::enter_runtime
    tokio::runtime::runtime::Runtime::block_on";
const EPOLL: &str = "epoll_wait
    mio::poll::Poll::poll
    tokio::runtime::io::driver::Driver::turn
    tokio::runtime::time::Driver::park_internal";

/// (rule, its stack, state, role, function of the task frame)
type Case = (
    &'static str,
    Vec<&'static str>,
    &'static str,
    &'static str,
    &'static str,
);

fn cases() -> Vec<Case> {
    vec![
        ("worker-poll", vec![SLEEP, POLL, WORKER], "blocked", "worker", "app::handler::{{closure}}"),
        (
            "worker-poll",
            vec![
                CONDVAR,
                "std::thread::functions::park\nfutures_executor::local_pool::run_executor\napp::inner\napp::task::{closure#0}",
                "<tokio::runtime::task::core::Core<app::task::{closure#0}, alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>>>::poll",
                "<tokio::runtime::scheduler::multi_thread::worker::Context>::run_task",
                WORKER,
            ],
            "blocked",
            "worker",
            "app::task::{closure#0}",
        ),
        (
            "worker-poll",
            vec![
                SLEEP,
                "tokio::runtime::task::core::CoreStage<T>::poll\ntokio::runtime::task::harness::poll_future
                tokio::runtime::task::harness::Harness<T,S>::poll
                tokio::runtime::thread_pool::worker::Context::run_task\ntokio::runtime::thread_pool::worker::Context::run
                tokio::macros::scoped_tls::ScopedKey<T>::set\ntokio::runtime::thread_pool::worker::run",
            ],
            "blocked",
            "worker",
            "app::handler::{{closure}}",
        ),
        (
            "worker-poll",
            vec![SLEEP, "tokio::runtime::task::raw::poll\ntokio::runtime::scheduler::multi_thread_alt::worker::Worker::run_task\ntokio::runtime::scheduler::multi_thread_alt::worker::run"],
            "blocked",
            "worker",
            "app::handler::{{closure}}",
        ),
        // A lock of the runtime, contended inside a poll, is still a poll that waits.
        (
            "worker-poll",
            vec![
                "syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended
                tokio::runtime::scheduler::multi_thread::worker::<impl tokio::runtime::scheduler::multi_thread::handle::Handle>::schedule_task
                tokio::task::spawn::spawn\napp::fan_out::{{closure}}",
                POLL,
                WORKER,
            ],
            "blocked",
            "worker",
            "app::fan_out::{{closure}}",
        ),
        // spawn_blocking starts a thread: the caller is no pool thread for it.
        (
            "worker-poll",
            vec![
                "clone3\n<std::sys::thread::unix::Thread>::new\nstd::thread::Builder::spawn
                tokio::runtime::blocking::pool::Spawner::spawn_thread\ntokio::runtime::blocking::pool::Spawner::spawn_task
                app::offload::{{closure}}",
                POLL,
                WORKER,
            ],
            "blocked",
            "worker",
            "app::offload::{{closure}}",
        ),
        (
            "block-in-place",
            vec![
                "clock_nanosleep\nstd::thread::functions::sleep\ntokio::runtime::context::runtime_mt::exit_runtime
                tokio::runtime::scheduler::multi_thread::worker::block_in_place\napp::copy::{{closure}}",
                POLL,
                WORKER,
            ],
            "handed-off",
            "worker",
            "app::copy::{{closure}}",
        ),
        (
            "block-in-place",
            vec![SLEEP, "tokio::runtime::enter::exit\ntokio::runtime::thread_pool::worker::block_in_place\napp::copy::{{closure}}", "tokio::runtime::task::raw::poll\ntokio::runtime::thread_pool::worker::Context::run_task"],
            "handed-off",
            "worker",
            "app::copy::{{closure}}",
        ),
        (
            "block-in-place-in-root",
            vec![SLEEP, "tokio::runtime::scheduler::multi_thread::worker::block_in_place\napp::main::{{closure}}\ntokio::runtime::park::CachedParkThread::block_on", THREAD],
            "handed-off",
            "block-on",
            "",
        ),
        ("block-on-in-worker", vec![CONDVAR, BLOCK_ON_PARK, "app::copy::{{closure}}", POLL, WORKER], "handed-off", "worker", "app::copy::{{closure}}"),
        (
            "shutdown-in-worker",
            vec!["pthread_join\n<std::sys::thread::unix::Thread>::join\ntokio::runtime::blocking::pool::BlockingPool::shutdown\napp::end::{{closure}}", POLL, WORKER],
            "handed-off",
            "worker",
            "app::end::{{closure}}",
        ),
        (
            "local-set-poll",
            vec![SLEEP, "tokio::runtime::task::raw::poll\ntokio::task::local::LocalSet::tick\n<tokio::task::local::RunUntil<T> as core::future::future::Future>::poll\ntokio::runtime::park::CachedParkThread::block_on", THREAD],
            "blocked",
            "current-thread",
            "app::handler::{{closure}}",
        ),
        (
            "current-thread-poll",
            vec![SLEEP, "tokio::runtime::task::harness::Harness<T,S>::poll\ntokio::runtime::scheduler::current_thread::Context::run_task", SINGLE, THREAD],
            "blocked",
            "current-thread",
            "app::handler::{{closure}}",
        ),
        (
            "current-thread-poll",
            vec![SLEEP, "tokio::runtime::task::raw::poll\ntokio::runtime::basic_scheduler::CoreGuard::block_on\ntokio::runtime::basic_scheduler::BasicScheduler::block_on", THREAD],
            "blocked",
            "current-thread",
            "app::handler::{{closure}}",
        ),
        ("current-thread-poll", vec![SLEEP, "tokio::runtime::task::raw::poll\ntokio::runtime::runtime::Runtime::block_on", THREAD], "blocked", "current-thread", "app::handler::{{closure}}"),
        ("current-thread-poll-inlined", vec![SLEEP, "tokio::runtime::task::raw::poll\napp::main\nstd::sys::backtrace::__rust_begin_short_backtrace\nstd::rt::lang_start::{{closure}}\nmain"], "blocked", "current-thread", "app::handler::{{closure}}"),
        (
            "pool-closure",
            vec![SLEEP, "tokio::runtime::task::core::Core<T,S>::poll\ntokio::runtime::task::harness::Harness<T,S>::poll\ntokio::runtime::blocking::pool::Inner::run", THREAD],
            "pool",
            "pool",
            "app::handler::{{closure}}",
        ),
        // Parked in a block_on inside a spawn_blocking closure: the pool thread is taken.
        ("pool-closure", vec![CONDVAR, BLOCK_ON_PARK, "app::job\ntokio::runtime::task::raw::poll\ntokio::runtime::blocking::sharded::ShardedImpl::run_worker", THREAD], "pool", "pool", "app::job"),
        (
            "pool-closure",
            vec![SLEEP, "tokio::runtime::task::raw::poll\nstd::sys::backtrace::__rust_begin_short_backtrace::<<tokio::runtime::blocking::pool::Spawner>::spawn_thread::{closure#0}, ()>"],
            "pool",
            "pool",
            "app::handler::{{closure}}",
        ),
        (
            "current-thread-driver-callback",
            vec![SLEEP, "<app::Waker as alloc::task::Wake>::wake\ntokio::runtime::time::Driver::park_internal\ntokio::runtime::scheduler::current_thread::Context::park", SINGLE, THREAD],
            "blocked",
            "current-thread",
            "",
        ),
        (
            "park-lock-current-thread",
            vec!["syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\ntokio::runtime::time::Driver::park_internal\ntokio::runtime::scheduler::current_thread::Context::park", SINGLE, THREAD],
            "runtime",
            "current-thread",
            "",
        ),
        ("park-lock", vec!["syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended", BLOCK_ON_PARK, THREAD], "runtime", "block-on", ""),
        ("block-on-park", vec![CONDVAR, BLOCK_ON_PARK, THREAD], "idle", "block-on", ""),
        ("block-on-park", vec!["syscall\nparking_lot::condvar::Condvar::wait_until_internal\ntokio::park::thread::Inner::park\n<tokio::park::thread::CachedParkThread as tokio::park::Park>::park\ntokio::park::thread::CachedParkThread::block_on\ntokio::future::block_on::block_on\ntokio::sync::mpsc::bounded::Receiver<T>::blocking_recv", THREAD], "idle", "block-on", ""),
        ("worker-park", vec![EPOLL, "tokio::runtime::scheduler::multi_thread::worker::Context::park_internal", WORKER], "idle", "worker", ""),
        ("worker-park", vec![CONDVAR, "tokio::runtime::scheduler::multi_thread::park::Inner::park_condvar\ntokio::runtime::scheduler::multi_thread::worker::Context::park_timeout", WORKER], "idle", "worker", ""),
        (
            "worker-park",
            vec![
                "epoll_wait\nmio::poll::Poll::poll\ntokio::io::driver::Driver::turn\n<tokio::time::driver::Driver<P> as tokio::park::Park>::park
                <tokio::park::either::Either<A,B> as tokio::park::Park>::park\n<tokio::runtime::thread_pool::park::Parker as tokio::park::Park>::park
                tokio::runtime::thread_pool::worker::Context::park_timeout\ntokio::runtime::thread_pool::worker::Context::run",
            ],
            "idle",
            "worker",
            "",
        ),
        (
            "worker-park-callback",
            vec![SLEEP, "tokio::runtime::scheduler::multi_thread::worker::Context::park", WORKER],
            "blocked",
            "worker",
            "",
        ),
        // A waker whose own wait looks like a park's: told by who runs it.
        (
            "worker-park-callback",
            vec![
                CONDVAR,
                "<app::Waker as alloc::task::Wake>::wake\ntokio::runtime::io::driver::Driver::turn
                tokio::runtime::scheduler::multi_thread::worker::Context::park_internal",
                WORKER,
            ],
            "blocked",
            "worker",
            "",
        ),
        (
            "worker-park-lock",
            vec![
                CONDVAR,
                "tokio::runtime::io::scheduled_io::ScheduledIo::wake\ntokio::runtime::io::driver::Driver::turn
                tokio::runtime::scheduler::multi_thread::worker::Context::park_internal",
                WORKER,
            ],
            "runtime",
            "worker",
            "",
        ),
        ("worker-loop-callback", vec![SLEEP, WORKER], "blocked", "worker", ""),
        ("worker-loop", vec!["syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\ntokio::runtime::scheduler::multi_thread::worker::Core::next_task", WORKER], "runtime", "worker", ""),
        ("current-thread-park", vec![EPOLL, "tokio::runtime::scheduler::current_thread::Context::enter\ntokio::runtime::scheduler::current_thread::Context::park", SINGLE, THREAD], "idle", "current-thread", ""),
        ("current-thread-park-callback", vec![SLEEP, "tokio::runtime::scheduler::current_thread::Context::park", SINGLE, THREAD], "blocked", "current-thread", ""),
        ("current-thread-park-lock", vec!["syscall\n<std::sys::sync::mutex::futex::Mutex>::lock_contended\ntokio::runtime::driver::Handle::unpark", "tokio::runtime::scheduler::current_thread::Context::park", SINGLE, THREAD], "runtime", "current-thread", ""),
        ("current-thread-park-inlined", vec![EPOLL, SINGLE, THREAD], "idle", "current-thread", ""),
        ("current-thread-root", vec![SLEEP, SINGLE, THREAD], "blocked", "current-thread", "app::handler::{{closure}}"),
        // A condvar wait, inlined from user code into the scheduler: no park is below it.
        ("current-thread-root", vec![CONDVAR, SINGLE, THREAD], "blocked", "current-thread", ""),
        ("local-set-root", vec![SLEEP, "tokio::task::local::LocalSet::run_until::{{closure}}\ntokio::runtime::park::CachedParkThread::block_on", THREAD], "blocked", "current-thread", "app::handler::{{closure}}"),
        ("block-on-root", vec![SLEEP, "tokio::runtime::park::CachedParkThread::block_on\ntokio::runtime::runtime::Runtime::block_on", THREAD], "blocked", "block-on", "app::handler::{{closure}}"),
        ("runtime-shutdown", vec![CONDVAR, "tokio::runtime::park::Inner::park\ntokio::runtime::park::CachedParkThread::block_on\ntokio::runtime::blocking::shutdown::Receiver::wait\ntokio::runtime::blocking::pool::BlockingPool::shutdown\ncore::ptr::drop_in_place<tokio::runtime::runtime::Runtime>", THREAD], "runtime", "none", ""),
        ("pool-idle", vec!["syscall\n<std::sys::sync::condvar::futex::Condvar>::wait_optional_timeout\ntokio::runtime::blocking::pool::Inner::run", THREAD], "idle", "pool", ""),
        ("pool-hook", vec![SLEEP, "tokio::runtime::blocking::pool::Inner::run", THREAD], "runtime", "pool", ""),
    ]
}

fn frame(function: &str, i: usize) -> Frame {
    let krate = function
        .trim_start_matches('<')
        .split("::")
        .next()
        .unwrap_or("");
    let origin = if krate == "app" {
        Origin::Application
    } else {
        Origin::Library
    };
    Frame {
        module: Some("app".into()),
        address: Addr(0x1000 + i as u64),
        ..Frame::named(function, origin)
    }
}

fn stack(parts: &[&str]) -> Vec<FrameRef> {
    let lines = parts
        .iter()
        .flat_map(|p| p.lines())
        .map(str::trim)
        .filter(|l| !l.is_empty());
    lines.enumerate().map(|(i, l)| frame(l, i).into()).collect()
}

fn said(parts: &[&str]) -> Classification {
    Classifier::new().classify(&stack(parts), false)
}

#[test]
fn each_rule_decides_its_stack() {
    for (rule, parts, state, role, task) in cases() {
        let frames = stack(&parts);
        let v = Classifier::new().classify(&frames, false);
        assert_eq!(
            (v.rule.0, v.state.name(), v.role.name()),
            (rule, state, role),
            "{parts:#?}"
        );
        let named = v.task_frame.map_or("", |t| &frames[t as usize].function);
        assert_eq!(named, task, "task frame of {rule}: {parts:#?}");
        assert!(v.frame.is_some(), "{rule} points at no frame");
    }
}

#[test]
fn every_rule_has_a_case_a_reason_and_a_name_of_its_own() {
    let tested: BTreeSet<_> = cases().iter().map(|c| c.0).collect();
    let mut names = BTreeSet::new();
    for rule in RULES {
        assert!(tested.contains(rule.name.0), "{} has no case", rule.name.0);
        assert!(rule.why.len() > 20, "{} says no reason", rule.name.0);
        assert!(names.insert(rule.name.0), "{} is there twice", rule.name.0);
        let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(rule.name.0.chars().all(kebab), "{}", rule.name.0);
    }
}

#[test]
fn each_case_cut_short_says_the_same_or_nothing() {
    for (rule, parts, ..) in cases() {
        let frames = stack(&parts);
        let whole = Classifier::new().classify(&frames, false);
        for n in 0..frames.len() {
            let v = Classifier::new().classify(&frames[..n], true);
            assert!(
                v.state == State::Unknown || v.state == whole.state,
                "{rule} cut to {n}: {v:?}"
            );
        }
    }
}

#[test]
fn kernel_frames_change_nothing_but_the_index() {
    for (rule, parts, ..) in cases() {
        let mut frames = stack(&parts);
        let before = Classifier::new().classify(&frames, false);
        for name in ["schedule", "do_epoll_wait"] {
            frames.insert(
                0,
                Frame {
                    space: Space::Kernel,
                    origin: Origin::Kernel,
                    ..frame(name, 99)
                }
                .into(),
            );
        }
        let v = Classifier::new().classify(&frames, false);
        assert_eq!(v.rule, before.rule, "{rule}");
        assert_eq!(v.frame, before.frame.map(|f| f + 2));
        assert_eq!(v.task_frame, before.task_frame.map(|f| f + 2));
    }
}

#[test]
fn what_is_not_known_is_said_to_be_unknown() {
    let c = Classifier::new();
    assert_eq!(c.classify(&[], false).rule.0, "no-user-frames");
    let kernel = Frame {
        space: Space::Kernel,
        ..frame("schedule", 0)
    };
    let v = c.classify(&[kernel.into()], false);
    assert_eq!((v.state, v.rule.0), (State::Unknown, "no-user-frames"));

    let v = c.classify(&stack(&[SLEEP]), true);
    assert_eq!((v.state, v.rule.0), (State::Unknown, "truncated"));

    let mut stripped = stack(&[SLEEP, POLL, WORKER]);
    for f in stripped.iter_mut().map(Arc::make_mut) {
        f.function = "app+0x1234".into();
        f.naming = Naming::FunctionStart;
    }
    let v = c.classify(&stripped, false);
    assert_eq!((v.state, v.rule.0), (State::Unknown, "unnamed-frames"));
}

#[test]
fn libc_without_symbols_is_still_libc() {
    let mut idle = stack(&[
        EPOLL,
        "tokio::runtime::scheduler::multi_thread::worker::Context::park_internal",
        WORKER,
    ]);
    let leaf = Arc::make_mut(&mut idle[0]);
    leaf.function = "libc.so.6+0x1098eb".into();
    leaf.naming = Naming::Offset;
    leaf.module = Some("libc.so.6".into());
    assert_eq!(
        Classifier::new().classify(&idle, false).rule.0,
        "worker-park"
    );

    let mut plain = stack(&[SLEEP, THREAD]);
    let unnamed = Frame {
        naming: Naming::Offset,
        module: Some("libc.so.6".into()),
        ..frame("libc.so.6+0x1", 9)
    };
    plain.push(unnamed.into());
    assert_eq!(
        Classifier::new().classify(&plain, false).rule.0,
        "not-tokio"
    );
}

#[test]
fn other_runtimes_and_plain_threads_are_other() {
    for parts in [
        vec![SLEEP, THREAD],
        vec![
            CONDVAR,
            "std::thread::functions::park\nfutures_executor::local_pool::run_executor",
            THREAD,
        ],
        vec![
            "epoll_wait\npolling::epoll::Poller::wait\nasync_io::reactor::ReactorLock::react\nasync_io::driver::block_on",
            THREAD,
        ],
        // Outside a runtime block_in_place only calls its closure.
        vec![
            SLEEP,
            "tokio::runtime::scheduler::multi_thread::worker::block_in_place",
            THREAD,
        ],
        // Waking a task from outside writes to an eventfd or takes a lock: not a worker.
        vec![
            "write\nmio::waker::Waker::wake\ntokio::runtime::driver::Handle::unpark\n<alloc::sync::Arc<tokio::runtime::scheduler::current_thread::Handle> as tokio::runtime::task::Schedule>::schedule",
            THREAD,
        ],
    ] {
        let v = said(&parts);
        assert_eq!(
            (v.state, v.role.name()),
            (State::Other, "none"),
            "{parts:?}: {v:?}"
        );
    }
}

/// The pool's run loop, inlined into std's thread entry as LTO does.
const INLINED_POOL: &str = "tokio::runtime::task::raw::poll
    std::sys::backtrace::__rust_begin_short_backtrace
    core::ops::function::FnOnce::call_once{{vtable.shim}}";

#[test]
fn the_pools_thread_entry_is_learned_from_a_worker() {
    let entry_at = |mut frames: Vec<FrameRef>, address: u64| {
        for f in frames
            .iter_mut()
            .filter(|f| f.function.contains("short_backtrace"))
        {
            Arc::make_mut(f).address = Addr(address);
        }
        frames
    };
    let worker = entry_at(
        stack(&[
            SLEEP,
            POLL,
            "tokio::runtime::scheduler::multi_thread::worker::run",
            INLINED_POOL,
        ]),
        0x5010,
    );
    let busy = entry_at(stack(&[SLEEP, INLINED_POOL]), 0x5010);
    let idle = entry_at(
        stack(&[CONDVAR, "std::sys::backtrace::__rust_begin_short_backtrace"]),
        0x5080,
    );
    let foreign = entry_at(idle.clone(), 0x6010);
    let single = entry_at(stack(&[SLEEP, INLINED_POOL]), 0x6080);

    let start = |frames: &[FrameRef]| -> Vec<FrameRef> {
        let mut frames = frames.to_vec();
        for f in frames.iter_mut().map(Arc::make_mut) {
            f.start = Some(Svma(f.address.0 & !0xfff));
        }
        frames
    };
    let without = [worker.clone(), busy.clone(), idle.clone(), single.clone()];
    let [worker, busy, idle, foreign, single] =
        [worker, busy, idle, foreign, single].map(|frames| start(&frames));

    let mut c = Classifier::new();
    assert_eq!(c.classify(&busy, false).rule.0, "task-without-owner");
    assert!(!c.learn(&busy), "a job proves nothing");
    assert!(c.learn(&worker));
    assert!(!c.learn(&worker), "no news the second time");
    assert_eq!(c.classify(&worker, false).rule.0, "worker-poll");
    assert_eq!(c.classify(&busy, false).rule.0, "pool-closure");
    assert_eq!(c.classify(&idle, false).rule.0, "pool-idle");
    assert_eq!(c.classify(&foreign, false).rule.0, "not-tokio");
    assert_eq!(
        c.classify(&single, false).rule.0,
        "current-thread-poll-inlined"
    );

    // Another program in the same recording has a base of its own, not yet seen.
    let mut elsewhere = single.clone();
    for f in elsewhere.iter_mut().map(Arc::make_mut) {
        f.module = Some("other".into());
    }
    assert_eq!(c.classify(&elsewhere, false).rule.0, "task-without-owner");

    // Without function starts, only the very call is known.
    let [worker, busy, idle, single] = without;
    let mut c = Classifier::new();
    assert!(c.learn(&worker));
    assert_eq!(c.classify(&busy, false).rule.0, "pool-closure");
    assert_eq!(c.classify(&idle, false).rule.0, "not-tokio");
    assert_eq!(c.classify(&single, false).rule.0, "task-without-owner");
}

#[test]
fn a_named_pool_loop_teaches_nothing() {
    assert!(!Classifier::new().learn(&stack(&[SLEEP, POLL, WORKER])));
    assert!(!Classifier::new().learn(&[]));
}
