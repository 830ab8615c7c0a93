//! Names for people, and what a chain of frames tells of its closures.

use super::frame::FrameRef;
use super::path::{closing, split_top};

/// Generic arguments longer than this, in characters, become `…`.
const MAX_ARGUMENTS: usize = 24;

/// The form of a demangled name that fits a line: `<alloc::boxed::Box<dyn Future + Send> as
/// core::future::future::Future>::poll` is `Box<dyn Future>::poll`.
///
/// Traits behind `as`, paths of std's types, auto traits and long generic arguments go; the
/// number of a closure goes too. Not unique: data keeps the full name. A name that is not a
/// Rust path comes back as it was.
#[must_use]
pub fn readable(function: &str) -> String {
    if !balanced(function) {
        return function.to_owned();
    }
    path(function, false, 0)
}

fn balanced(s: &str) -> bool {
    let mut rest = s;
    while let Some(open) = rest.find(['<', '(', '[', '{']) {
        match closing(rest, open).and_then(|close| rest.get(close + 1..)) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    true
}

/// Deeper types than this are not worth a reader's time, nor our stack.
const MAX_DEPTH: usize = 32;

/// `in_type`: as part of a type, where std's types lose their path.
fn path(name: &str, in_type: bool, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "…".to_owned();
    }
    let segments = split_top(name, "::");
    let std = in_type && matches!(segments.first(), Some(&("std" | "core" | "alloc")));
    let mut out: Vec<String> = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        if let Some(inner) = bracketed(segment) {
            if i == 0 {
                out.push(qualified(inner, depth));
            } else if let Some(inner) = inner.strip_prefix("impl ") {
                // `core::str::<impl str>::trim`: the module adds nothing to the type.
                out.clear();
                let own = split_top(inner, " for ");
                out.push(own_type(own.last().unwrap_or(&inner), depth));
            } else if let Some(last) = out.last_mut() {
                last.push_str(&arguments(inner, depth));
            }
            continue;
        }
        // How a call got here, not what it is.
        let segment = segment.strip_suffix("{{vtable.shim}}").unwrap_or(segment);
        if !segment.starts_with("{shim:") {
            out.push(self::segment(segment, depth));
        }
    }
    if std && out.len() > 1 {
        out.drain(..out.len() - 1);
    }
    out.join("::")
}

/// The inside of a segment that is one pair of `<>` as a whole.
fn bracketed(segment: &str) -> Option<&str> {
    (segment.starts_with('<') && closing(segment, 0)? + 1 == segment.len())
        .then(|| segment.get(1..segment.len() - 1))?
}

fn segment(segment: &str, depth: usize) -> String {
    if segment.starts_with('{') {
        return match segment.trim_matches(['{', '}']).split('#').next() {
            Some("async_fn" | "async_fn_env") => "{async}",
            Some("async_block" | "async_block_env") => "{async block}",
            Some("async_closure" | "async_closure_env") => "{async closure}",
            Some("closure" | "closure_env") => "{closure}",
            Some("impl") => "{impl}",
            _ => segment,
        }
        .to_owned();
    }
    match segment.find('<') {
        Some(open) if open > 0 && segment.ends_with('>') => {
            let name = segment.get(..open).unwrap_or(segment);
            let inner = segment.get(open + 1..segment.len() - 1).unwrap_or("");
            format!("{name}{}", arguments(inner, depth))
        }
        _ => segment.to_owned(),
    }
}

/// `T as Trait`, or `T`.
fn qualified(inner: &str, depth: usize) -> String {
    let parts = split_top(inner, " as ");
    own_type(parts.first().unwrap_or(&inner), depth)
}

/// A type in the place of a path's first segment.
fn own_type(inner: &str, depth: usize) -> String {
    let shown = ty(inner, depth + 1);
    let plain = shown.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{')
        && !shown.starts_with("dyn ")
        && !shown.starts_with("fn(");
    if plain { shown } else { format!("<{shown}>") }
}

fn ty(s: &str, depth: usize) -> String {
    let s = s.trim();
    if depth > MAX_DEPTH {
        return "…".to_owned();
    }
    for prefix in ["&mut ", "&", "*const ", "*mut "] {
        if let Some(inner) = s.strip_prefix(prefix) {
            return format!("{prefix}{}", ty(inner, depth + 1));
        }
    }
    for prefix in ["dyn ", "impl "] {
        if let Some(inner) = s.strip_prefix(prefix) {
            let bounds: Vec<String> = split_top(inner, " + ")
                .into_iter()
                .filter(|bound| !is_marker(bound))
                .map(|bound| path(without_bindings(bound), true, depth + 1))
                .collect();
            return format!("{prefix}{}", bounds.join(" + "));
        }
    }
    if let Some(inner) = s.strip_prefix('(').and_then(|s| s.strip_suffix(')')) {
        return format!("({})", list(inner, depth));
    }
    if s.starts_with(['[', '\'']) || s.starts_with("fn(") || s.starts_with("for<") {
        return s.to_owned();
    }
    path(s, true, depth + 1)
}

/// Whether a bound of a `dyn` says nothing of what the thing does.
fn is_marker(bound: &str) -> bool {
    let bound = bound.trim();
    bound.starts_with('\'')
        || matches!(
            bound.rsplit("::").next(),
            Some("Send" | "Sync" | "Unpin" | "UnwindSafe" | "RefUnwindSafe")
        )
}

/// `Future<Output = ()>` to `Future`; `Fn(u8)` and `Service<Request>` stay.
fn without_bindings(bound: &str) -> &str {
    match bound.split_once('<') {
        Some((name, arguments)) if split_top(arguments, ",").iter().all(|a| a.contains('=')) => {
            name
        }
        _ => bound,
    }
}

fn list(inner: &str, depth: usize) -> String {
    let shown: Vec<String> = split_top(inner, ",")
        .into_iter()
        .map(str::trim)
        .filter(|argument| !argument.is_empty() && !argument.starts_with('\''))
        .map(|argument| ty(argument, depth + 1))
        .collect();
    shown.join(", ")
}

fn arguments(inner: &str, depth: usize) -> String {
    let shown = list(inner, depth);
    if shown.is_empty() {
        String::new()
    } else if shown.chars().count() > MAX_ARGUMENTS {
        "<…>".to_owned()
    } else {
        format!("<{shown}>")
    }
}

/// Whether the frame at `index` of a stack (leaf first) is the body of an `async fn` or block.
///
/// The symbol of such a body is that of a closure. It is told apart by debug information, where
/// that is (`{async_fn#0}`), else by its caller: what tokio's task cell polls, and what a boxed,
/// pinned or instrumented future polls, is a future. A body awaited by another body is called by
/// it directly, which a plain closure may be as well: those stay closures. Wrong for a closure
/// given to `poll_fn` where that is spawned as a task and inlined, and for a `spawn_blocking`
/// closure whose `BlockingTask::poll` is inlined: ask only for threads that are not of the pool.
#[must_use]
pub fn async_body(frames: &[FrameRef], index: usize) -> bool {
    let Some(frame) = frames.get(index) else {
        return false;
    };
    let last = split_top(&frame.function, "::").pop().unwrap_or("");
    if last.starts_with("{async_") {
        return true;
    }
    let closure = last == "{{closure}}" || last.starts_with("{closure#");
    if !closure || is_glue(&frame.function) {
        return false;
    }
    frames.get(index + 1..).is_some_and(|callers| {
        callers
            .iter()
            // tokio polls inside closures of its own, and those inside catch_unwind.
            .find(|caller| !is_glue(&caller.function))
            .is_some_and(|caller| polls_futures(&caller.function))
    })
}

fn is_glue(function: &str) -> bool {
    let tokio = function.starts_with("tokio::runtime::task::") && function.ends_with('}');
    tokio
        || function.contains("::unsafe_cell::UnsafeCell")
        || function.contains("std::panic")
        || function.contains("core::panic::unwind_safe::AssertUnwindSafe")
}

fn polls_futures(function: &str) -> bool {
    let name = split_top(function, "::");
    let Some((&"poll", own)) = name.split_last() else {
        return false;
    };
    let own = own.join("::");
    [
        "tokio::runtime::task::raw",
        "tokio::runtime::task::harness::Harness",
        "tokio::runtime::task::core::Core",
        "<tokio::runtime::task::harness::Harness",
        "<tokio::runtime::task::core::Core",
        "<alloc::boxed::Box<",
        "<core::pin::Pin<",
        "<tracing::instrument::Instrumented<",
        "<tracing::instrument::WithDispatch<",
        "<tokio::task::task_local::TaskLocalFuture<",
        "<tokio::task::coop::unconstrained::Unconstrained<",
        "<tokio::time::timeout::Timeout<",
    ]
    .iter()
    .any(|poller| own.starts_with(poller))
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Origin};
    use super::*;

    #[test]
    fn shown_to_people() {
        for (full, shown) in [
            (
                "claims_api::handlers::upstream::{{closure}}",
                "claims_api::handlers::upstream::{closure}",
            ),
            (
                "claims_api::f::{closure#0}::{closure#12}",
                "claims_api::f::{closure}::{closure}",
            ),
            ("{async_fn#0}", "{async}"),
            (
                "<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + core::marker::Send> as core::future::future::Future>::poll",
                "Box<dyn Future>::poll",
            ),
            (
                "<core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + core::marker::Send>> as core::future::future::Future>::poll",
                "Pin<Box<dyn Future>>::poll",
            ),
            (
                "<app::Foo as core::future::future::Future>::poll",
                "app::Foo::poll",
            ),
            ("<F as axum::handler::Handler<(M,T1),S>>::call", "F::call"),
            (
                "<&mut app::X as std::io::Read>::read",
                "<&mut app::X>::read",
            ),
            ("std::thread::sleep", "std::thread::sleep"),
            ("core::str::<impl str>::trim", "str::trim"),
            (
                "core::fmt::num::<impl core::fmt::Display for u32>::fmt",
                "u32::fmt",
            ),
            (
                "tokio::runtime::task::raw::poll::<app::A, alloc::sync::Arc<tokio::B>>",
                "tokio::runtime::task::raw::poll<app::A, Arc<tokio::B>>",
            ),
            (
                "tokio::runtime::task::raw::poll::<app::serve::{closure#0}, alloc::sync::Arc<tokio::runtime::Handle>>",
                "tokio::runtime::task::raw::poll<…>",
            ),
            ("<<app::A as app::B>::C as app::D>::e", "app::A::C::e"),
            (
                "<fn(u8) -> app::R as core::ops::FnOnce<()>>::call_once",
                "<fn(u8) -> app::R>::call_once",
            ),
            ("<(A,B) as core::cmp::Ord>::cmp", "<(A, B)>::cmp"),
            ("<[T] as app::X>::y", "<[T]>::y"),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "core::ops::function::FnOnce::call_once",
            ),
            (
                "<T as core::ops::FnOnce<()>>::call_once::{shim:vtable#0}",
                "T::call_once",
            ),
            ("sqlite3_step", "sqlite3_step"),
            ("claims_api+0x1234", "claims_api+0x1234"),
            (
                "space::foo(int, std::vector<int>)",
                "space::foo(int, std::vector<int>)",
            ),
            ("operator<", "operator<"),
            ("a::<b", "a::<b"),
            ("a>b", "a>b"),
            ("<", "<"),
            ("", ""),
            ("ü<é>::ß", "ü<é>::ß"),
        ] {
            assert_eq!(readable(full), shown, "{full}");
        }
        // No compiler's names: they only must not panic.
        for odd in [
            "<>",
            "::",
            "<::>",
            "{}",
            "a::<impl >::b",
            "<dyn >::x",
            "&",
            "ü<",
            ">>::<",
        ] {
            assert!(readable(odd).len() <= odd.len());
        }
        assert!(readable(&"<".repeat(10_000)).starts_with('<'));
        let deep = format!("{}u8{}", "a<".repeat(5_000), ">".repeat(5_000));
        assert_eq!(readable(&deep), "a<…>");
        let deep = format!("{}u8{}", "<&".repeat(5_000), ">".repeat(5_000));
        assert!(!readable(&deep).is_empty());
    }

    fn stack(functions: &[&str]) -> Vec<FrameRef> {
        functions
            .iter()
            .map(|function| Frame::named(function, Origin::Application))
            .map(Into::into)
            .collect()
    }

    #[test]
    fn async_bodies_by_their_caller() {
        let frames = stack(&[
            "app::query::{{closure}}",
            "app::handle::{{closure}}",
            "tokio::runtime::task::core::Core<T,S>::poll::{{closure}}",
            "tokio::loom::std::unsafe_cell::UnsafeCell<T>::with_mut",
            "tokio::runtime::task::core::Core<T,S>::poll",
            "tokio::runtime::task::harness::Harness<T,S>::poll",
        ]);
        let bodies: Vec<bool> = (0..frames.len()).map(|i| async_body(&frames, i)).collect();
        assert_eq!(bodies, [false, true, false, false, false, false]);

        let frames = stack(&[
            "app::f::{closure#0}",
            "<core::pin::Pin<alloc::boxed::Box<dyn F>> as core::future::future::Future>::poll",
        ]);
        assert!(async_body(&frames, 0));
        let frames = stack(&[
            "app::f::{closure#0}",
            "<core::future::poll_fn::PollFn<F> as core::future::future::Future>::poll",
        ]);
        assert!(!async_body(&frames, 0));
        assert!(!async_body(&frames, 9));
        assert!(async_body(&stack(&["{async_fn#0}"]), 0));
    }
}
