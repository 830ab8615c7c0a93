//! Names and paths as short as they stay clear.

use super::sanitize;
use crate::report::Report;
use crate::units::Pid;
use std::borrow::Cow;

/// `claims_api (4711)`, raw: which process of several something is of. None where there is one
/// only, or none of this id.
pub(super) fn process_name(report: &Report, pid: Pid) -> Option<String> {
    let process = report.targets.iter().find(|process| process.pid == pid)?;
    (report.targets.len() > 1).then(|| format!("{} ({pid})", process.exe_name()))
}

/// `function` for people: without generic arguments and closure marks, safe to print.
///
/// `<claims::Store as claims::Reserve>::reserve::{{closure}}` is `claims::Store::reserve`: an
/// async function's body is a closure, which says nothing.
#[must_use]
pub fn display_name(function: &str) -> String {
    sanitize(&shorten(function)).into_owned()
}

fn shorten(function: &str) -> String {
    let path = without_arguments(function);
    let mut name = &*path;
    while let Some(outer) = strip_closure(name) {
        name = outer;
    }
    if name.is_empty() {
        function.to_owned()
    } else {
        name.to_owned()
    }
}

/// `<claims::Store as claims::Reserve>::reserve`: the path of a trait's function with the trait, safe to
/// print. None where the trait is what [`display_name`] has, or the function is no trait's.
pub(super) fn trait_path(function: &str) -> Option<String> {
    let (of, named, method) = qualified(function)?;
    let named = named.filter(|_| !is_parameter(of))?;
    let (of, named) = (shorten(of), shorten(named));
    let method = without_arguments(method);
    Some(sanitize(&format!("<{of} as {named}>{method}")).into_owned())
}

/// `claims::handle::{closure#0}::{closure#1}`: the path of a closure with its number, safe to print. None
/// where the name has none.
pub(super) fn closure_path(function: &str) -> Option<String> {
    let path = without_arguments(function);
    let last = path.rsplit("::").next().unwrap_or(&path);
    last.starts_with("{closure#")
        .then(|| sanitize(&path).into_owned())
}

/// A path without generic arguments, and the type instead of `<Type as Trait>`.
fn without_arguments(function: &str) -> String {
    let mut out = String::with_capacity(function.len());
    let mut rest = function;
    if let Some((of, named, method)) = qualified(function) {
        // A trait that is implemented for every type is the better name.
        let of = named.filter(|_| is_parameter(of)).unwrap_or(of);
        out.push_str(&shorten(of));
        rest = method;
    }
    // Depth within angle brackets; `->` and a lone comparison close none.
    let mut depth = 0_u32;
    let mut last = ' ';
    for c in rest.chars() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' && depth > 0 => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
        last = c;
    }
    if depth > 0 {
        // No Rust path: `operator<` of C++.
        return function.to_owned();
    }
    // Left over of `name::<args>`.
    let out = out.replace("::::", "::");
    out.strip_suffix("::").unwrap_or(&out).to_owned()
}

/// Whether a type is a parameter of generic code: `F`, `&mut Fut`.
fn is_parameter(of: &str) -> bool {
    let name = of.trim_start_matches('&');
    let name = name.strip_prefix("mut ").unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The type, the trait and the rest of `<Type as Trait>::method` or `<Type>::method`.
fn qualified(function: &str) -> Option<(&str, Option<&str>, &str)> {
    let inner = function.strip_prefix('<')?;
    let (mut depth, mut last, mut type_end) = (1_u32, ' ', None);
    for (index, c) in inner.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            ' ' if depth == 1 && inner.get(index..)?.starts_with(" as ") => {
                type_end.get_or_insert(index);
            }
            _ => {}
        }
        if depth == 0 {
            let of = inner.get(..type_end.unwrap_or(index))?;
            let named = type_end.and_then(|end| inner.get(end + " as ".len()..index));
            return Some((of, named, inner.get(index + 1..)?));
        }
        last = c;
    }
    None
}

fn strip_closure(name: &str) -> Option<&str> {
    let (outer, _) = name.rsplit_once("::")?;
    (is_closure(name) && !outer.is_empty()).then_some(outer)
}

/// Whether a function is a closure, which [`display_name`] calls as the function around it.
pub(super) fn is_closure(function: &str) -> bool {
    let last = function.rsplit("::").next().unwrap_or(function);
    // `{closure 0}` stands behind a module and not behind its function, which nobody knows.
    last == "{{closure}}" || last.starts_with("{closure#")
}

/// The last part of a path, raw.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` for people: without the directories that are the same for everybody (cargo's
/// registry, the standard library's sources), safe to print.
#[must_use]
pub fn display_path(path: &str) -> String {
    let short = after_two(path, "/registry/src/")
        .or_else(|| after_two(path, "/git/checkouts/"))
        .or_else(|| {
            path.split_once("/library/").and_then(|(base, rest)| {
                let of_rust = base.starts_with("/rustc/") || base.ends_with("/rust");
                of_rust.then_some(rest)
            })
        })
        .unwrap_or(path);
    match sanitize(short) {
        Cow::Borrowed(same) => same.to_owned(),
        Cow::Owned(safe) => safe,
    }
}

/// What follows `marker` and one more directory.
fn after_two<'a>(path: &'a str, marker: &str) -> Option<&'a str> {
    let (_, rest) = path.split_once(marker)?;
    rest.split_once('/').map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_says_nothing() {
        for (name, short) in [
            ("claims::store::reserve", "claims::store::reserve"),
            ("claims::handle::{{closure}}", "claims::handle"),
            ("claims::handle::{closure#0}::{closure#1}", "claims::handle"),
            (
                "claims::Pool<alloc::string::String>::get",
                "claims::Pool::get",
            ),
            ("claims::run::<fn() -> u8>", "claims::run"),
            (
                "<claims::Store<T> as claims::Reserve<A, B>>::reserve::{{closure}}",
                "claims::Store::reserve",
            ),
            (
                "<F as axum::handler::Handler<(M,T1,T2),S>>::call::{{closure}}",
                "axum::handler::Handler::call",
            ),
            (
                "<&mut F as core::future::future::Future>::poll",
                "core::future::future::Future::poll",
            ),
            (
                "<str as alloc::string::ToString>::to_string",
                "str::to_string",
            ),
            ("<claims::Store>::new", "claims::Store::new"),
            ("<<a::B as c::D>::E as f::G>::h", "a::B::E::h"),
            ("claims::harm::{closure 0}", "claims::harm::{closure 0}"),
            ("{{closure}}", "{{closure}}"),
            ("app+0x1234", "app+0x1234"),
            ("operator<", "operator<"),
            ("<broken", "<broken"),
            ("", ""),
        ] {
            assert_eq!(display_name(name), short, "{name}");
        }
    }

    #[test]
    fn names_are_safe_to_print() {
        assert_eq!(display_name("a::\x1b[31m"), "a::\\x1b[31m");
    }

    #[test]
    fn paths_lose_common_directories() {
        for (path, short) in [
            ("src/store.rs", "src/store.rs"),
            (
                "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/hyper-1.6.0/src/lib.rs",
                "hyper-1.6.0/src/lib.rs",
            ),
            (
                "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src/fs.rs",
                "std/src/fs.rs",
            ),
            ("/srv/library/app.rs", "/srv/library/app.rs"),
            (
                "/home/u/.cargo/git/checkouts/x-1/ab12/src/a.rs",
                "ab12/src/a.rs",
            ),
        ] {
            assert_eq!(display_path(path), short, "{path}");
        }
    }
}
