//! The grammar of a demangled Rust path, as far as we need it.

/// The index of the bracket that closes the one at `open`, or none where they do not balance.
pub(super) fn closing(s: &str, open: usize) -> Option<usize> {
    let bytes = s.as_bytes();
    let mut depth = 0usize;
    for (i, &byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // The arrow of `fn() -> T` closes nothing.
            b'>' if i > 0 && bytes.get(i - 1) == Some(&b'-') => {}
            b'>' | b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Splits at each `separator` that stands in no bracket.
pub(super) fn split_top<'a>(s: &'a str, separator: &str) -> Vec<&'a str> {
    let bytes = s.as_bytes();
    let mut parts = Vec::new();
    let (mut start, mut depth, mut i) = (0, 0usize, 0);
    while let Some(&byte) = bytes.get(i) {
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' if i > 0 && bytes.get(i - 1) == Some(&b'-') => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ if depth == 0
                && bytes
                    .get(i..)
                    .is_some_and(|r| r.starts_with(separator.as_bytes())) =>
            {
                parts.extend(s.get(start..i));
                i += separator.len();
                start = i;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    parts.extend(s.get(start..));
    parts
}

/// The self type and the trait of a path that begins `<T as Trait>` or `<T>`.
pub(super) fn qualified_self(name: &str) -> Option<(&str, Option<&str>)> {
    if !name.starts_with('<') {
        return None;
    }
    let inner = name.get(1..closing(name, 0)?)?;
    let parts = split_top(inner, " as ");
    Some((*parts.first()?, parts.get(1).copied()))
}

/// How deep types in types are followed: names come from the target's file, and may be made up.
const MAX_DEPTH: usize = 16;

/// The crate that a type or a path begins with; none for a type parameter, a primitive, a tuple.
fn leading_crate(path: &str, depth: usize) -> Option<&str> {
    let mut path = path.trim_start();
    while let Some(inner) = ["&", "mut ", "dyn ", "*const ", "*mut ", "'static "]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
    {
        path = inner;
    }
    if path.starts_with('<') {
        let (own, of) = qualified_self(path).filter(|_| depth < MAX_DEPTH)?;
        return implementing_crate(own, of, depth + 1);
    }
    let (krate, _) = path.split_once("::")?;
    let identifier = !krate.is_empty()
        && krate
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80);
    identifier.then_some(krate)
}

fn implementing_crate<'a>(own: &'a str, of: Option<&'a str>, depth: usize) -> Option<&'a str> {
    let own = leading_crate(own, depth);
    let Some(of) = of else {
        return own;
    };
    match (own, leading_crate(of, depth)) {
        // std's traits are implemented where the type is; a trait of any other crate on a type
        // of std's can only be that crate's own.
        (Some("std" | "core" | "alloc") | None, Some(of)) => Some(of),
        (own, of) => own.or(of),
    }
}

/// The crate of the trait of `<T as Trait>::method`.
pub(super) fn trait_crate(name: &str) -> Option<&str> {
    leading_crate(qualified_self(name)?.1?, 0)
}

/// The crate that holds the source of a function with this demangled name, as well as the name
/// tells: `<T as Trait>` is in T's crate or the trait's, never in a third.
pub(super) fn defining_crate(name: &str) -> Option<&str> {
    leading_crate(name, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crate_of_a_path() {
        for (name, krate) in [
            ("app::f::{{closure}}", Some("app")),
            ("main", None),
            ("{closure#0}", None),
            ("poll<app::F, tokio::S>", None),
            (
                "<app::Foo as core::future::future::Future>::poll",
                Some("app"),
            ),
            (
                "<F as axum::handler::Handler<(M,T1),S>>::call",
                Some("axum"),
            ),
            (
                "<alloc::boxed::Box<dyn app::T> as core::future::future::Future>::poll",
                Some("core"),
            ),
            (
                "<core::pin::Pin<P> as core::future::future::Future>::poll",
                Some("core"),
            ),
            ("<alloc::vec::Vec<T> as app::Slow>::run", Some("app")),
            ("<tokio::net::TcpStream>::connect", Some("tokio")),
            ("<&mut app::X as std::io::Read>::read", Some("app")),
            (
                "<fn(u8) -> app::R as core::ops::FnOnce<()>>::call_once",
                Some("core"),
            ),
            (
                "core::fmt::num::<impl core::fmt::Display for u32>::fmt",
                Some("core"),
            ),
            ("<(A,B) as core::cmp::Ord>::cmp", Some("core")),
            ("<unbalanced", None),
            ("<a> > as b", None),
            ("", None),
        ] {
            assert_eq!(defining_crate(name), krate, "{name}");
        }
    }

    #[test]
    fn deep_names_end() {
        let deep = format!("{}app::A{}", "<".repeat(10_000), ">".repeat(10_000));
        assert_eq!(defining_crate(&deep), None);
    }

    #[test]
    fn splitting_minds_brackets_and_arrows() {
        assert_eq!(split_top("a::<b::c>::d", "::"), ["a", "<b::c>", "d"]);
        assert_eq!(
            split_top("fn(a, b) -> c<d, e>, f", ", "),
            ["fn(a, b) -> c<d, e>", "f"]
        );
        assert_eq!(split_top("", ", "), [""]);
        assert_eq!(closing("<a -> b>", 0), Some(7));
        assert_eq!(closing("<a", 0), None);
    }
}
