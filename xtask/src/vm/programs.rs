//! What the guest runs: built here, since there is no compiler there.

use crate::artifacts::Artifacts;
use crate::{paths, process};
use anyhow::{Context as _, Result};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variants of the fixture that a guest leaves out, unless all are asked for: what the compiler
/// makes of the program does not depend on the kernel.
const LEFT_OUT: &[&str] = &[
    "fat-lto",
    "lines",
    "tokio-1.38",
    "musl",
    "newest-small",
    "frame-pointers",
    "unstable",
];

/// What no guest can run.
const NOT_IN_A_GUEST: &[&str] = &[
    // The checks' own checks need no kernel.
    "checks::",
    // There is no Python,
    "library::loaded_by_python",
    "standstill::python_lock",
    "gil::",
    // and no FUSE, by which a file system hangs.
    "hung-files",
    "hung-reads",
    "standstill::hung_file_system",
    // No other trial needs these builds.
    "field::",
    "standstill::exhausted_pool-stripped",
    "life::the_line_of_a_function_that_jumped",
    // Nor are there the demo's programs, cargo, tmux, control groups, setcap, programs that make file
    // systems, or anything beside the tests to be listed.
    "containers::",
    "unattended::a_terminal",
    "scarce::",
    "stops::by_the_freezer",
    "demo::",
    "filters::",
    "cargo::",
    "top::",
    "restarts::a_unit",
    "restarts::every_verb",
    // What is measured there is the emulator.
    "start::",
    "list::",
];

/// Trials that the quick selection leaves out besides: they take most of the time, and depend on
/// the kernel least. The intervals of the collector are those of `cuts::`, which try the kernel side,
/// and there the storms that are cut at once are harder than the others.
const NOT_QUICK: &[&str] = &[
    "tokio-1.20",
    "tokio-1.28",
    "stripped",
    "churn::",
    "deadlock::",
    "safety::",
    "hostile::",
    "losses::",
    "broken-maps::",
    "crates::",
    "calls::",
    "captures::",
    "driver-stripped",
    "dump::",
    "standstill::",
    "streams::",
    "intervals::",
    "cuts::storm",
];

/// Which trials run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// Those whose names contain this.
    pub(super) filter: Option<&'a str>,
    /// With the variants of the fixture that differ by the compiler's work only.
    pub(super) all_variants: bool,
    /// One variant, and the modes that depend on the kernel most, unless `filter` names trials.
    pub(super) quick: bool,
}

/// Programs, with the paths that they were built to be at.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) holdup: PathBuf,
    pub(super) live: PathBuf,
    pub(super) fixtures: Vec<PathBuf>,
    /// The arguments of the live tests.
    pub(super) arguments: Vec<String>,
}

impl Programs {
    /// Builds what the selected trials need.
    ///
    /// # Errors
    /// A build fails.
    pub(super) fn build(selection: Selection<'_>) -> Result<Programs> {
        let artifacts = Artifacts::build_test("live")?;
        let mut arguments: Vec<String> = selection.filter.into_iter().map(str::to_owned).collect();
        // The guest's serial line is a terminal, but its lines are read here.
        arguments.extend(["--color", "never"].map(str::to_owned));
        let mut skipped = NOT_IN_A_GUEST.to_vec();
        if !selection.all_variants {
            skipped.extend(LEFT_OUT);
        }
        // Whoever names trials wants them.
        if selection.quick && selection.filter.is_none() {
            skipped.extend(NOT_QUICK);
        }
        for name in skipped {
            arguments.extend(["--skip", name].map(str::to_owned));
        }
        let live = artifacts.executable("live")?.to_owned();
        eprintln!("building the fixtures");
        let mut build = Command::new(&live);
        build
            .current_dir(paths::root().join("profiler"))
            .env("HOLDUP_FIXTURES", "build")
            .args(&arguments);
        let fixtures = process::output(&mut build)?;
        Ok(Programs {
            holdup: artifacts.executable("holdup")?.to_owned(),
            live,
            fixtures: fixtures.lines().map(PathBuf::from).collect(),
            arguments,
        })
    }

    /// All executables.
    pub(super) fn executables(&self) -> impl Iterator<Item = &Path> {
        [&self.holdup, &self.live]
            .into_iter()
            .chain(&self.fixtures)
            .map(PathBuf::as_path)
    }

    /// Where the live tests keep temporary files (`CARGO_TARGET_TMPDIR`): `tmp` beside the
    /// profile's folder.
    ///
    /// # Errors
    /// The programs lie nowhere below a target folder.
    pub(super) fn temporary_folder(&self) -> Result<PathBuf> {
        let profile = self.holdup.parent();
        let target = profile
            .and_then(Path::parent)
            .context("holdup lies in no folder")?;
        Ok(target.join("tmp"))
    }

    /// The shared libraries of all executables, and the program that loads them.
    ///
    /// # Errors
    /// A program cannot be read, or `ldd` cannot tell.
    pub(super) fn libraries(&self) -> Result<Vec<PathBuf>> {
        let mut libraries = Vec::new();
        for executable in self.executables() {
            // `ldd` refuses those that are linked statically.
            if !has_loader(executable)? {
                continue;
            }
            let list = process::output(Command::new("ldd").arg(executable))?;
            for library in list.lines().filter_map(library) {
                if !libraries.contains(&library) {
                    libraries.push(library);
                }
            }
        }
        Ok(libraries)
    }
}

/// Whether the kernel starts another program with it, which loads its libraries.
fn has_loader(executable: &Path) -> Result<bool> {
    let data =
        fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    let header = FileHeader64::<Endianness>::parse(&*data);
    let segments = header.and_then(|header| header.program_headers(header.endian()?, &*data));
    let segments = segments.with_context(|| format!("{} is no ELF file", executable.display()))?;
    // All that run here are of this machine's byte order.
    let endian = Endianness::default();
    Ok(segments.iter().any(|s| s.p_type(endian) == elf::PT_INTERP))
}

/// The path in a line of `ldd`: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
fn library(line: &str) -> Option<PathBuf> {
    let place = line.split_once(" => ").map_or(line, |(_, place)| place);
    let path = place.trim_start().split(" (").next()?;
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of this machine with libraries, and the one that loads them, which has none.
    #[test]
    fn a_program_without_a_loader_is_told() {
        let with = std::env::current_exe().expect("a test has a file");
        assert!(has_loader(&with).expect("it can be read"));
        let list = process::output(Command::new("ldd").arg(&with)).expect("ldd reads it");
        let mut libraries = list.lines().filter_map(library);
        let loader = libraries.find(|path| path.to_string_lossy().contains("ld-linux"));
        let loader = loader.expect("this machine's programs have a loader");
        assert!(!has_loader(&loader).expect("it can be read"));
        assert!(has_loader(Path::new("/proc/version")).is_err());
    }

    #[test]
    fn paths_of_libraries_are_read() {
        for (line, path) in [
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x7f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("\tlinux-vdso.so.1 (0x7f)", None),
            ("\tstatically linked", None),
        ] {
            assert_eq!(library(line), path.map(PathBuf::from), "{line}");
        }
    }
}
