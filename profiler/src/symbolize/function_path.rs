//! One spelling for the path of a function, whatever compiler flags named it.
//!
//! Legacy and v0 mangling occur in one binary (std is v0, the application legacy), and line
//! tables give inlined functions by their last name only. Here all of these become
//! `tokio::runtime::task::harness::Harness::poll`:
//!
//! ```text
//! tokio::runtime::task::harness::Harness<T,S>::poll
//! <tokio::runtime::task::harness::Harness<app::main::{closure#0}, alloc::sync::Arc<…>>>::poll
//! ```
//!
//! and `poll<…>` in `…/tokio-1.54.1/src/runtime/task/harness.rs` becomes
//! `tokio::runtime::task::harness::poll`.

/// Symbols come from the recorded program: nesting deeper than this is left as it is.
const MAX_DEPTH: usize = 24;

/// Functions that are told apart by what they are generic over.
const KEEPS_ARGUMENT: [&str; 2] = ["drop_in_place", "__rust_begin_short_backtrace"];

/// Writes the path of `function`, which `file` defines, into `out`.
pub(crate) fn normalise(function: &str, file: Option<&str>, out: &mut String) {
    out.clear();
    push_path(function.trim(), out, 0);
    if !out.contains("::")
        && let Some(module) = file.and_then(module_of)
    {
        let short = std::mem::take(out);
        out.push_str(&module);
        out.push_str("::");
        out.push_str(&short);
    }
}

fn push_path(s: &str, out: &mut String, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str(s);
        return;
    }
    let start = out.len();
    let bytes = s.as_bytes();
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        match b {
            b'<' => {
                let end = matching(bytes, i, b'<', b'>');
                let inner = s.get(i + 1..end).unwrap_or("");
                if out.len() == start {
                    push_path(self_type(inner), out, depth + 1);
                } else {
                    let trimmed = out.trim_end_matches("::").len().max(start);
                    out.truncate(trimmed);
                    if KEEPS_ARGUMENT.iter().any(|k| out.ends_with(k)) {
                        out.push('<');
                        push_path(first_argument(inner), out, depth + 1);
                        out.push('>');
                    }
                }
                i = end + 1;
            }
            b'{' => {
                let end = matching(bytes, i, b'{', b'}');
                out.push_str(braces(s.get(i..=end).unwrap_or("{?}")));
                i = end + 1;
            }
            // `.llvm.123`, `.cold`, `.part.0`: the compiler's, not the path's.
            b'.' => break,
            // `[0123456789abcdef]`: a crate's disambiguator.
            b'[' if out.len() > start => i = matching(bytes, i, b'[', b']') + 1,
            // A reference or pointer type: the path is what it points to.
            b'&' | b'*' if out.len() == start => {
                i += 1;
                for word in ["mut ", "const "] {
                    if s.get(i..).is_some_and(|r| r.starts_with(word)) {
                        i += word.len();
                    }
                }
            }
            _ => {
                let run = s.get(i..).map_or(1, |r| {
                    r.find(['<', '{', '.', '[', '&', '*'])
                        .filter(|&n| n > 0)
                        .unwrap_or(if r.starts_with(['[', '&', '*']) {
                            1
                        } else {
                            r.len()
                        })
                });
                out.push_str(s.get(i..i + run).unwrap_or(""));
                i += run;
            }
        }
    }
}

/// Index of the bracket that closes the one at `open`; of the last byte where none does.
fn matching(bytes: &[u8], open: usize, opening: u8, closing: u8) -> usize {
    let mut depth = 0_usize;
    for (i, &b) in bytes.iter().enumerate().skip(open) {
        if b == opening {
            depth += 1;
        } else if b == closing && !(closing == b'>' && i > 0 && bytes.get(i - 1) == Some(&b'-')) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return i;
            }
        }
    }
    bytes.len().saturating_sub(1)
}

/// `T` of `T as Trait`, `impl Trait for T` and `T`.
fn self_type(inner: &str) -> &str {
    let inner = match inner.strip_prefix("impl ") {
        Some(rest) => top_level(rest, " for ").map_or(rest, |at| rest.get(at + 5..).unwrap_or("")),
        None => inner,
    };
    top_level(inner, " as ").map_or(inner, |at| inner.get(..at).unwrap_or(inner))
}

fn first_argument(inner: &str) -> &str {
    top_level(inner, ",").map_or(inner, |at| inner.get(..at).unwrap_or(inner))
}

/// Where `word` first occurs outside all angle brackets.
fn top_level(s: &str, word: &str) -> Option<usize> {
    let bytes = s.as_bytes();
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if b == b'<' {
            i = matching(bytes, i, b'<', b'>') + 1;
            continue;
        }
        if bytes
            .get(i..)
            .is_some_and(|r| r.starts_with(word.as_bytes()))
        {
            return Some(i);
        }
        i += 1;
    }
    None
}

/// All closures and async blocks look alike: `{{closure}}`, `{closure#0}`, `{async_fn#0}`,
/// `{closure_env#0}`.
fn braces(s: &str) -> &str {
    let word = s.trim_start_matches('{');
    if word.starts_with("closure") || word.starts_with("async_") || word.starts_with("coroutine") {
        "{closure}"
    } else {
        s
    }
}

/// The module that a Rust source file defines, by the layout that Cargo and rustc prescribe:
/// `…/tokio-1.54.1/src/runtime/task/mod.rs` → `tokio::runtime::task`,
/// `/rustc/…/library/std/src/thread/local.rs` → `std::thread::local`.
fn module_of(file: &str) -> Option<String> {
    let (before, inside) = file.strip_suffix(".rs")?.rsplit_once("/src/")?;
    let dir = before.rsplit('/').next()?;
    let name = dir
        .char_indices()
        .find(|&(i, c)| c == '-' && dir[i + 1..].starts_with(|d: char| d.is_ascii_digit()))
        .map_or(dir, |(i, _)| &dir[..i]);
    let mut module = name.replace('-', "_");
    for part in inside
        .split('/')
        .filter(|p| !matches!(*p, "mod" | "lib" | "main"))
    {
        module.push_str("::");
        module.push_str(part);
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(function: &str) -> String {
        let mut out = String::new();
        normalise(function, None, &mut out);
        out
    }

    fn short(function: &str, file: &str) -> String {
        let mut out = String::new();
        normalise(function, Some(file), &mut out);
        out
    }

    #[test]
    fn legacy_and_v0_names_of_one_function_are_one_path() {
        let want = "tokio::runtime::task::harness::Harness::poll";
        for name in [
            "tokio::runtime::task::harness::Harness<T,S>::poll",
            "<tokio::runtime::task::harness::Harness<app::main::{closure#0}, alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>>>::poll",
            "<tokio::runtime::task::harness::Harness<fn(u8) -> <A as B>::C, D>>::poll",
            "tokio::runtime::task::harness::Harness<T,S>::poll.llvm.1234",
            "tokio::runtime::task::harness::Harness<T,S>::poll.cold",
            "tokio[1234567890abcdef]::runtime::task::harness::Harness<T,S>::poll",
        ] {
            assert_eq!(path(name), want, "{name}");
        }
    }

    #[test]
    fn a_trait_method_belongs_to_its_type() {
        assert_eq!(
            path(
                "<tokio::runtime::blocking::task::BlockingTask<T> as core::future::future::Future>::poll"
            ),
            "tokio::runtime::blocking::task::BlockingTask::poll"
        );
        assert_eq!(
            path("<&mut app::Row<T> as core::fmt::Debug>::fmt"),
            "app::Row::fmt"
        );
        assert_eq!(
            path(
                "tokio::runtime::time::<impl tokio::runtime::time::handle::Handle>::process_at_time"
            ),
            "tokio::runtime::time::process_at_time"
        );
        assert_eq!(
            path("<impl core::future::future::Future for app::F<X as Y>>::poll"),
            "app::F::poll"
        );
        assert_eq!(path("<[T]>::sort"), "[T]::sort");
    }

    #[test]
    fn closures_of_every_spelling_are_one() {
        for name in [
            "a::f::{{closure}}",
            "a::f::{closure#12}",
            "a::f::{async_fn#0}",
            "a::f::{closure_env#1}<T>",
        ] {
            assert_eq!(path(name), "a::f::{closure}", "{name}");
        }
        assert_eq!(
            path("core::ops::function::FnOnce::call_once{{vtable.shim}}"),
            "core::ops::function::FnOnce::call_once{{vtable.shim}}"
        );
    }

    #[test]
    fn what_is_dropped_and_what_a_thread_runs_is_kept() {
        for name in [
            "core::ptr::drop_in_place<tokio::runtime::runtime::Runtime>",
            "core::ptr::drop_in_place::<tokio::runtime::runtime::Runtime>",
        ] {
            assert_eq!(
                path(name),
                "core::ptr::drop_in_place<tokio::runtime::runtime::Runtime>"
            );
        }
        assert_eq!(
            path(
                "std::sys::backtrace::__rust_begin_short_backtrace::<<tokio::runtime::blocking::pool::Spawner>::spawn_thread::{closure#0}, ()>"
            ),
            "std::sys::backtrace::__rust_begin_short_backtrace<tokio::runtime::blocking::pool::Spawner::spawn_thread::{closure}>"
        );
    }

    #[test]
    fn a_short_name_gets_its_module_from_the_file() {
        let registry = "/home/u/.cargo/registry/src/index-1949cf8c6b5b557f/tokio-1.54.1/src";
        assert_eq!(
            short(
                "poll<app::main::{async_fn_env#0}, alloc::sync::Arc<X>>",
                &format!("{registry}/runtime/task/harness.rs")
            ),
            "tokio::runtime::task::harness::poll"
        );
        assert_eq!(
            short(
                "block_on<F>",
                &format!("{registry}/runtime/scheduler/current_thread/mod.rs")
            ),
            "tokio::runtime::scheduler::current_thread::block_on"
        );
        assert_eq!(
            short("{closure#0}", "/rustc/abc/library/std/src/thread/local.rs"),
            "std::thread::local::{closure}"
        );
        assert_eq!(
            short("f", "/w/tokio-util-0.7.1/src/sync/mod.rs"),
            "tokio_util::sync::f"
        );
        assert_eq!(short("f", "/w/vendor/tokio/src/park.rs"), "tokio::park::f");
        assert_eq!(short("syscall", "./sysdeps/unix/syscall.S"), "syscall");
        assert_eq!(short("a::b", "/w/vendor/tokio/src/park.rs"), "a::b");
        assert_eq!(short("main", "src/main.rs"), "main");
    }

    #[test]
    fn broken_names_do_no_harm() {
        for name in [
            "",
            "<",
            "<<<<",
            "a<b",
            "{",
            "{{",
            "a::{closure",
            ">>",
            "<a as ",
            "é<é>::é",
            "[",
            "&",
            "*",
            "-",
            "<impl >::x",
            "drop_in_place<",
        ] {
            path(name);
        }
        path(&"<".repeat(10_000));
        path(&"<a as ".repeat(10_000));
    }
}
