//! Which tokio is linked into an image, told without symbols.
//!
//! Panics in tokio name their source file, and cargo keeps sources in a folder named after the
//! version: `…/tokio-1.47.1/src/runtime/park.rs`. These texts are in `.rodata` of stripped
//! binaries too.

use super::elf::Elf;
use memchr::memmem;

/// What an image says of tokio.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokioTrace {
    /// Every version named, sorted as text, without duplicates. Two versions in one program
    /// are two runtimes; none with `present` is a vendored or path-remapped tokio.
    pub versions: Vec<String>,
    /// Whether there is any sign of tokio.
    pub present: bool,
}

/// Default names of tokio's worker threads, old and new, and a part of every mangled name from
/// its runtime, legacy and v0 alike.
const THREAD_NAMES: [&str; 2] = ["tokio-runtime-worker", "tokio-rt-worker"];
const MANGLED: &str = "5tokio7runtime";
/// A panic location of a tokio that is not kept in a folder with its version.
const VENDORED: &str = "/tokio/src/runtime/";
const FOLDER: &str = "/tokio-";

/// Looks for tokio in the read-only data and the symbol names.
#[must_use]
pub(super) fn tokio_trace(elf: &Elf<'_>) -> TokioTrace {
    let mut versions = Vec::new();
    let mut present = false;
    for bytes in constants(elf) {
        collect_versions(bytes, &mut versions);
        present = present
            || !versions.is_empty()
            || THREAD_NAMES
                .iter()
                .chain([&VENDORED])
                .any(|sign| memmem::find(bytes, sign.as_bytes()).is_some());
    }
    present = present
        || elf
            .section(".strtab")
            .is_some_and(|s| memmem::find(s.bytes, MANGLED.as_bytes()).is_some());
    versions.sort_unstable();
    TokioTrace { versions, present }
}

/// `.rodata`, or, without section headers, every segment that is not writable. String literals
/// are nowhere else, and a [private copy](crate::process::PrivateCopy) has nothing else to scan.
fn constants<'data>(elf: &Elf<'data>) -> Vec<&'data [u8]> {
    match elf.section(".rodata") {
        Some(section) => vec![section.bytes],
        None if elf.has_sections() => Vec::new(),
        None => elf
            .segments()
            .iter()
            .filter(|s| !s.writable)
            .filter_map(|s| elf.segment_bytes(s))
            .collect(),
    }
}

fn collect_versions(bytes: &[u8], versions: &mut Vec<String>) {
    for at in memmem::find_iter(bytes, FOLDER) {
        if let Some(rest) = bytes.get(at + FOLDER.len()..)
            && let Some(version) = version_of_folder(rest)
            && !versions.iter().any(|v| v == version)
            && versions.len() < MAX_VERSIONS
        {
            versions.push(version.to_owned());
        }
    }
}

/// A bound for hostile images; two is already rare.
const MAX_VERSIONS: usize = 16;
/// `1.54.1-alpha.1+build` and longer.
const MAX_VERSION: usize = 40;

/// The version that `rest` begins with, if it is one and `/src/` follows: neither `tokio-util-…`
/// nor `tokio-1.0-notes` is.
fn version_of_folder(rest: &[u8]) -> Option<&str> {
    let window = rest.get(..MAX_VERSION + 5).unwrap_or(rest);
    let end = window.iter().position(|b| *b == b'/')?;
    let (version, path) = window.split_at_checked(end)?;
    let version = std::str::from_utf8(version).ok()?;
    let core = version.split(['-', '+']).next()?;
    let numbers = core.split('.').filter(|number| {
        (1..=9).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    });
    let well_formed = core.split('.').count() == 3
        && numbers.count() == 3
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b));
    (well_formed && path.starts_with(b"/src/")).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_other_folders() {
        for (text, want) in [
            ("1.54.1/src/runtime/park.rs", Some("1.54.1")),
            ("1.0.0-alpha.2/src/lib.rs", Some("1.0.0-alpha.2")),
            ("1.54.1/benches/a.rs", None),
            ("1.54/src/a.rs", None),
            ("1.54.1.2/src/a.rs", None),
            ("util-0.7.1/src/codec.rs", None),
            ("1..2/src/a.rs", None),
            ("1.2.\u{1b}3/src/a.rs", None),
            ("1.2.3-\u{1b}[31m/src/a.rs", None),
            ("1.54.1", None),
            ("", None),
        ] {
            assert_eq!(version_of_folder(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn all_distinct_versions_are_found() {
        let text = b"x/tokio-1.38.2/src/a.rs\0/tokio-1.54.1/src/b.rs/tokio-1.38.2/src/c.rs/tokio-";
        let mut versions = Vec::new();
        collect_versions(text, &mut versions);
        assert_eq!(versions, ["1.38.2", "1.54.1"]);
    }
}
