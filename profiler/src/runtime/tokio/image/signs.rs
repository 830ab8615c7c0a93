//! Whether a tokio is linked into an image, and which.
//!
//! Panics in tokio name their source file, and cargo keeps sources in a folder named after the
//! version: `…/tokio-1.47.1/src/runtime/park.rs`. These texts are in `.rodata` of stripped
//! binaries too. Where paths are trimmed or the sources stand elsewhere, its messages are there.

use crate::process::module::Elf;
use memchr::memmem;

/// What is in every tokio: default names of its worker threads, old and new; panic locations of a
/// tokio that is not kept in a folder with its version; and its messages, which no option removes.
const SIGNS: [&str; 6] = [
    "tokio-runtime-worker",
    "tokio-rt-worker",
    "/tokio/src/runtime/",
    "The Tokio context thread-local variable has been destroyed",
    "Cannot start a runtime from within a runtime",
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime",
];
/// A part of every mangled name from its runtime, legacy and v0 alike.
const MANGLED: &str = "5tokio7runtime";
const FOLDER: &str = "tokio-";

/// What only a tokio built for task dumps says.
const TASKDUMP: &str = "collecting a taskdump is not possible";

/// What only a tokio built with `tokio_unstable` panics in: it counts the lengths of polls there.
const UNSTABLE: &str = "/src/runtime/metrics/histogram.rs";

/// The signs of tokio in an image.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// The versions named, sorted as text.
    pub(super) versions: Vec<String>,
    /// Whether there is any sign.
    pub(super) present: bool,
    /// Whether it was built for task dumps, which makes its context longer.
    pub(super) taskdump: bool,
    /// Whether it was built with `tokio_unstable`, which has counters in the cores of runtimes. Where
    /// paths are trimmed this is not known.
    pub(super) unstable: bool,
}

/// Looks for tokio in the read-only data and the symbol names.
pub(super) fn signs(elf: &Elf<'_>) -> Signs {
    let mut versions = Vec::new();
    let (mut present, mut taskdump, mut unstable) = (false, false, false);
    for bytes in constants(elf) {
        collect_versions(bytes, &mut versions);
        present = present || !versions.is_empty() || has_sign(bytes);
        taskdump = taskdump || memmem::find(bytes, TASKDUMP.as_bytes()).is_some();
        unstable = unstable || memmem::find(bytes, UNSTABLE.as_bytes()).is_some();
    }
    present = present
        || elf
            .section(".strtab")
            .is_some_and(|s| memmem::find(s.bytes, MANGLED.as_bytes()).is_some());
    versions.sort_unstable();
    Signs {
        versions,
        present,
        taskdump,
        unstable,
    }
}

fn has_sign(bytes: &[u8]) -> bool {
    SIGNS
        .iter()
        .any(|sign| memmem::find(bytes, sign.as_bytes()).is_some())
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
        let before = bytes.get(..at).unwrap_or_default();
        if let Some(rest) = bytes.get(at + FOLDER.len()..)
            && begins_folder(before)
            && let Some(version) = version_of_folder(rest)
            && !versions.iter().any(|v| v == version)
            && versions.len() < MAX_VERSIONS
        {
            versions.push(version.to_owned());
        }
    }
}

/// Whether a folder's name begins here: after a slash, after bazel's name of its crate universe
/// (`crates__tokio-1.54.1`), or where a trimmed path does. `signal-hook-tokio-…` is another crate.
fn begins_folder(before: &[u8]) -> bool {
    match before {
        [] | [.., b'_', b'_'] => true,
        [.., last] => !last.is_ascii_alphanumeric() && !b"-_".contains(last),
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

    fn versions(text: &[u8]) -> Vec<String> {
        let mut versions = Vec::new();
        collect_versions(text, &mut versions);
        versions
    }

    #[test]
    fn folders_of_vendored_sources_and_trimmed_paths_are_known() {
        for (text, want) in [
            (
                "external/crates__tokio-1.54.1/src/runtime/park.rs",
                &["1.54.1"][..],
            ),
            ("vendor/tokio-1.47.1/src/lib.rs", &["1.47.1"]),
            ("tokio-1.50.0/src/lib.rs", &["1.50.0"]),
            (" tokio-1.50.0/src/lib.rs", &["1.50.0"]),
            ("/signal-hook-tokio-0.3.1/src/lib.rs", &[]),
            ("/my_tokio-0.3.1/src/lib.rs", &[]),
            ("/xtokio-0.3.1/src/lib.rs", &[]),
        ] {
            assert_eq!(versions(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn messages_are_a_sign() {
        assert!(has_sign(
            b"\0The Tokio context thread-local variable has been destroyed.\0"
        ));
        assert!(has_sign(
            b"xCannot start a runtime from within a runtime. This"
        ));
        assert!(!has_sign(b"tokio is a runtime for Rust"));
    }

    #[test]
    fn all_distinct_versions_are_found() {
        let text = b"x/tokio-1.38.2/src/a.rs\0/tokio-1.54.1/src/b.rs/tokio-1.38.2/src/c.rs/tokio-";
        assert_eq!(versions(text), ["1.38.2", "1.54.1"]);
    }
}
