use super::*;
use crate::analyze::testing::{
    app, dependency, kernel, library, offset, runtime, stack, stripped, system,
};
use crate::runtime::Flavor;
use crate::runtime::{Role, State};

fn blocked(frames: Vec<Frame>, task_frame: Option<u32>, syscall: Option<u32>) -> Stack {
    let role = Role::Worker(Flavor::MultiThread);
    let mut stack = stack(frames, State::Blocked, role, task_frame);
    stack.syscall = syscall;
    stack
}

#[test]
fn the_site_is_the_innermost_application_frame_of_the_task() {
    let stack = blocked(
        vec![
            system("syscall"),
            library("std::sys::sync::mutex::futex::Mutex::lock_contended"),
            app("claims::store::reserve", 88),
            app("claims::api::handle", 12),
            runtime("tokio::runtime::task::raw::poll"),
            app("claims::main", 3),
        ],
        Some(3),
        Some(202),
    );
    let place = location(&stack);
    assert_eq!(&*place.function, "claims::store::reserve");
    assert_eq!(place.line, Some(88));
    assert_eq!(task(&stack).as_deref(), Some("claims::api::handle"));
    assert_eq!(
        &*place.wait,
        "std::sys::sync::mutex::futex::Mutex::lock_contended"
    );
}

/// All locks of a program have std's `lock_contended` below them.
#[test]
fn without_names_who_called_the_futex_function_is_the_site() {
    let frames = |outer: &[&str]| {
        let inner = [system("syscall"), stripped("app@0x100")];
        let outer = outer.iter().map(|name| stripped(name));
        inner.into_iter().chain(outer).collect::<Vec<Frame>>()
    };
    let of =
        |outer: &[&str], task, call| location(&blocked(frames(outer), task, Some(call))).function;
    assert_eq!(&*of(&["app@0x900", "app@0x800"], None, 202), "app@0x900");
    assert_eq!(&*of(&[], None, 202), "app@0x100");
    assert_eq!(
        &*of(&["app@0x900"], Some(1), 202),
        "app@0x100",
        "the task's"
    );
    // `syscall` is also how other calls are made.
    assert_eq!(&*of(&["app@0x900"], None, 0), "app@0x100");
}

/// An extension of Python without symbols: libc's innermost function says nothing.
#[test]
fn what_nameless_code_called_is_the_site_where_nothing_else_has_a_name() {
    let stack = blocked(
        vec![
            system("__futex_abstimed_wait_common64"),
            system("pthread_cond_timedwait"),
            system("take_gil"),
            system("PyGILState_Ensure"),
            offset("_extension.abi3.so+0x1234"),
            system("start_thread"),
        ],
        None,
        Some(202),
    );
    let place = location(&stack);
    assert_eq!(&*place.function, "PyGILState_Ensure");
    assert_eq!(&*place.wait, "take_gil");
    let stack = blocked(vec![system("poll"), system("main")], None, Some(7));
    assert_eq!(&*location(&stack).function, "poll", "nobody called it");
}

/// As line tables alone name what was inlined.
#[test]
fn a_closure_without_a_name_is_in_the_function_around_it() {
    let inlined = |frame: Frame| Frame {
        inlined: true,
        ..frame
    };
    let with = |around: Frame| {
        location(&blocked(
            vec![
                system("syscall"),
                library("std::sys::sync::mutex::futex::Mutex::lock_contended"),
                inlined(library("lock")),
                inlined(app("{closure#0}", 20)),
                inlined(app(
                    "time<std::sync::poison::mutex::MutexGuard<u64>, _>",
                    30,
                )),
                around,
                app("every_profile::main", 3),
            ],
            Some(6),
            Some(202),
        ))
    };
    let place = with(app("every_profile::take_lock", 21));
    assert_eq!(&*place.function, "every_profile::take_lock");
    assert_eq!(place.line, Some(21));
    assert_eq!(
        &*place.wait,
        "std::sys::sync::mutex::futex::Mutex::lock_contended"
    );
    // Of another physical frame nothing is said.
    let place = with(runtime("tokio::runtime::task::core::Core<T,S>::poll"));
    assert_eq!((&*place.function, place.line), ("{closure#0}", Some(20)));
    let place = with(inlined(app("{async_fn#0}", 40)));
    assert_eq!((&*place.function, place.line), ("{closure#0}", Some(20)));
}

/// A closure that was inlined into what a library calls it by, as with `Once::call_once`.
#[test]
fn a_closure_in_a_library_s_function_is_in_the_application_s_next_one() {
    let of = |next: Frame| {
        let closure = Frame {
            inlined: true,
            naming: Naming::SourcePath,
            ..app("k::{closure#0}", 20)
        };
        location(&blocked(
            vec![
                system("clock_nanosleep"),
                closure,
                library("std::sync::once::Once::call_once::{{closure}}"),
                library("std::sys::sync::once::futex::Once::call"),
                next,
                runtime("tokio::runtime::task::raw::poll"),
            ],
            Some(5),
            None,
        ))
        .function
    };
    assert_eq!(&*of(app("k::once_ab", 30)), "k::once_ab");
    let elsewhere = Frame {
        file: Some("other.rs".into()),
        ..app("other::run", 30)
    };
    assert_eq!(&*of(elsewhere), "k::{closure#0}");
    let bare = Frame {
        inlined: true,
        ..app("{async_fn#0}", 30)
    };
    assert_eq!(&*of(bare), "k::{closure#0}");
}

#[test]
fn frames_outside_the_task_are_no_site() {
    let stack = blocked(
        vec![
            library("std::thread::sleep"),
            runtime("tokio::runtime::task::raw::poll"),
            app("claims::main", 3),
        ],
        Some(0),
        Some(230),
    );
    let place = location(&stack);
    assert_eq!(&*place.function, "std::thread::sleep");
    assert_eq!(&*place.wait, "clock_nanosleep");
    assert_eq!(task(&stack), None);
}

#[test]
fn a_handler_that_was_inlined_is_where_its_framework_calls_it() {
    const HANDLER: &str = "<F as axum::handler::Handler<(M,T1),S>>::call::{{closure}}";
    let handler = |start| {
        let mut handler = runtime(HANDLER);
        handler.start = Some(Svma(start));
        blocked(
            vec![
                system("clock_nanosleep"),
                library("std::thread::functions::sleep"),
                handler,
                runtime("tokio::runtime::task::core::Core<T,S>::poll"),
            ],
            Some(3),
            Some(230),
        )
    };
    let (one, other) = (location(&handler(0x1000)), location(&handler(0x2000)));
    assert_eq!(&*one.function, HANDLER);
    assert_eq!(&*one.wait, "std::thread::functions::sleep");
    assert_ne!(one, other, "two handlers are two sites");
}

#[test]
fn a_nested_block_on_is_no_host() {
    let stack = blocked(
        vec![
            library("std::thread::functions::park"),
            runtime("futures_executor::local_pool::block_on"),
            runtime("<axum::util::MapIntoResponseFuture<F> as core::future::future::Future>::poll"),
        ],
        Some(2),
        Some(202),
    );
    let place = location(&stack);
    assert_eq!(&*place.wait, "futures_executor::local_pool::block_on");
    assert!(place.function.starts_with("<axum::util"));
}

#[test]
fn without_a_task_frame_there_is_no_task() {
    let stack = blocked(
        vec![library("std::thread::sleep"), app("claims::on_park", 3)],
        None,
        Some(230),
    );
    let place = location(&stack);
    assert_eq!(&*place.function, "claims::on_park");
    assert_eq!(task(&stack), None);
    assert_eq!(&*place.wait, "std::thread::sleep");
}

#[test]
fn a_stripped_binary_is_named_by_function_start() {
    let stack = blocked(
        vec![
            system("read"),
            stripped("claims+0x1000"),
            stripped("claims+0x2000"),
            offset("claims+0x3004"),
        ],
        Some(2),
        Some(0),
    );
    let place = location(&stack);
    assert_eq!(&*place.function, "claims+0x1000");
    assert_eq!(task(&stack).as_deref(), Some("claims+0x2000"));
    assert_eq!(&*place.wait, "read");
}

#[test]
fn a_dependency_is_a_site_only_without_the_application() {
    let mut frames = vec![
        system("read"),
        dependency("rusqlite::statement::step"),
        dependency("rusqlite::statement::query"),
        app("claims::store::load", 9),
    ];
    let with = location(&blocked(frames.clone(), Some(3), Some(0)));
    assert_eq!(&*with.function, "claims::store::load");
    assert_eq!(&*with.wait, "rusqlite::statement::query");
    frames.pop();
    let stack = blocked(frames, Some(2), Some(0));
    let without = location(&stack);
    assert_eq!(&*without.function, "rusqlite::statement::step");
    assert_eq!(task(&stack).as_deref(), Some("rusqlite::statement::query"));
    assert_eq!(&*without.wait, "read");
}

#[test]
fn callers_of_closures_and_generic_libc_functions_are_no_wait() {
    let stack = blocked(
        vec![
            system("syscall"),
            system("__futex_abstimed_wait_common"),
            library("<F as core::ops::function::FnOnce<()>>::call_once"),
            app("claims::store::reserve", 88),
        ],
        Some(3),
        Some(202),
    );
    let place = location(&stack);
    assert_eq!(&*place.wait, "futex");
}

#[test]
fn a_waker_is_the_application_or_who_called_the_wrapper() {
    let by = |frames: Vec<Frame>| {
        let place = waker_location(&blocked(frames, None, Some(202)));
        (place.function.to_string(), place.wait.to_string())
    };
    let start = || library("std::sys::backtrace::__rust_begin_short_backtrace");
    let unlock = vec![
        system("syscall"),
        library("std::sys::sync::mutex::futex::Mutex::wake"),
        app("claims::store::audit", 88),
        start(),
        app("claims::main", 3),
    ];
    assert_eq!(
        by(unlock),
        (
            "claims::store::audit".into(),
            "std::sys::sync::mutex::futex::Mutex::wake".into()
        )
    );
    let unpark = vec![
        system("syscall"),
        library("std::sys::sync::condvar::futex::Condvar::notify_one"),
        runtime("tokio::runtime::park::Inner::unpark"),
        runtime("tokio::runtime::io::driver::Driver::turn"),
        start(),
    ];
    assert_eq!(
        by(unpark),
        (
            "tokio::runtime::park::Inner::unpark".into(),
            "std::sys::sync::condvar::futex::Condvar::notify_one".into()
        )
    );
    let send = vec![
        system("syscall"),
        library("std::sys::pal::unix::futex::futex_wake"),
        library("std::sync::mpmc::list::Channel<T>::send"),
        library("<F as core::ops::function::FnOnce<()>>::call_once"),
        start(),
        library("std::sys::thread::unix::Thread::new::thread_start"),
    ];
    assert_eq!(by(send).0, "std::sync::mpmc::list::Channel<T>::send");
    assert_eq!(by(vec![system("__write")]).0, "__write");
}

#[test]
fn a_page_fault_is_told_by_the_kernel_stack() {
    let mut stack = blocked(vec![app("claims::store::scan", 5)], Some(0), None);
    assert_eq!(&*location(&stack).wait, "no system call");
    stack.kernel = vec![
        kernel("folio_wait_bit_common").into(),
        kernel("asm_exc_page_fault").into(),
    ];
    assert_eq!(&*location(&stack).wait, "page fault");
}

#[test]
fn no_stack_is_a_place_too() {
    let place = location(&blocked(vec![], None, Some(100_000)));
    assert_eq!(&*place.function, "[no stack]");
    assert_eq!(&*place.wait, "system call 100000");
}

#[test]
fn a_task_frame_out_of_bounds_is_the_whole_stack() {
    let place = location(&blocked(vec![app("a::b", 1)], Some(u32::MAX), Some(0)));
    assert_eq!(&*place.function, "a::b");
}
