//! Where the panics of a process begin: the function of the standard library that all of them
//! call, in every module that has one.

use super::address_map::AddressMap;
use super::modules::{Loaded, Modules};
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::process::module::Elf;
use crate::recording::{self, PanicProbes};
use crate::symbolize::symbol_name;
use crate::units::Addr;
use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The functions, best first; of the first line of which a module has any, one is probed.
///
/// All panics begin in `panic_with_hook` (`library/std/src/panicking.rs`; older versions call it
/// `rust_panic_with_hook`), and nothing else does. The panic handler misses `std::panic::panic_any`. `rust_panic` is called
/// again where a panic is resumed, as by who unwraps the error of a task that panicked.
const ENTRIES: [&[&str]; 3] = [
    &[
        "std::panicking::panic_with_hook",
        "std::panicking::rust_panic_with_hook",
    ],
    &[
        "rust_begin_unwind",
        "__rustc::rust_begin_unwind",
        "std::panicking::begin_panic_handler",
    ],
    &["rust_panic", "__rustc::rust_panic"],
];

/// Parts of mangled names, by which the few are found that are worth to be demangled.
const PARTS: [&str; 4] = [
    "panic_with_hook",
    "rust_begin_unwind",
    "begin_panic_handler",
    "rust_panic",
];

/// A function that panics begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Its name, demangled.
    function: String,
    /// Where it begins in the file.
    offset: u64,
}

/// Probes a process with these mappings, and notes what came of it.
pub(super) fn attach(
    process: &mut TracedProcess,
    map: &AddressMap,
    modules: &Modules,
    kernel: &mut Programs,
) {
    let pid = process.pid;
    let mut probes = PanicProbes::default();
    let mut seen = HashSet::new();
    for (range, _, module) in map.regions() {
        let Some(loaded) = modules.get(module).filter(|_| seen.insert(module)) else {
            continue;
        };
        let Some(entry) = entry(loaded) else { continue };
        let probed = file(process, &range).and_then(|file| {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let probed = kernel.probe_panics(pid, Path::new(&path), entry.offset);
            probed.map_err(|error| format!("{error:#}"))
        });
        match probed {
            Ok(()) => {
                let probed = format!("{} in {}", entry.function, loaded.source.name);
                probes.probed.push(probed);
            }
            Err(error) => {
                let name = &loaded.source.name;
                probes.problem = Some(format!("{name} cannot be probed: {error}"));
            }
        }
    }
    if probes.probed.is_empty() && probes.problem.is_none() {
        probes.problem = Some(if process.facts.has_symbols {
            format!(
                "{} has none of the standard library's panic functions",
                process.facts.exe_name()
            )
        } else {
            format!(
                "{} is stripped, so that the standard library's panic functions cannot be \
                 found in it; build it without `strip = true`",
                process.facts.exe_name()
            )
        });
    }
    process.facts.panic_probes = Some(probes);
}

/// The file that is mapped there: what is at its path now may be another one, and in another place.
fn file(process: &TracedProcess, range: &Range<Addr>) -> Result<File, String> {
    let target = process.target.as_ref();
    target.ok_or("it has ended")?.kernel_file(range)
}

/// Says what is not known of a process that came, or became another, during the recording: by then
/// the right to probe was given up.
pub(super) fn note_late(process: &mut recording::Process, joined: bool) {
    let late = if joined {
        "began"
    } else if process.parent.is_some() {
        "was forked"
    } else if !process.earlier.is_empty() {
        "was executed"
    } else {
        return;
    };
    let (name, pid) = (process.exe_name(), process.pid);
    let problem = format!("{name} ({pid}) {late} during the recording: its panics are not counted");
    process.panic_probes.get_or_insert_default().problem = Some(problem);
}

/// The best function of a module, if it has any.
fn entry(loaded: &Loaded) -> Option<Entry> {
    loaded.facts.as_ref()?;
    match &loaded.source.image {
        Some(image) => of_image(image),
        None => of_image(&std::fs::read(&loaded.source.path).ok()?),
    }
}

fn of_image(image: &[u8]) -> Option<Entry> {
    let elf = Elf::parse(image).ok()?;
    let mut best: Option<(usize, Entry)> = None;
    for function in elf.functions() {
        let name = function
            .name()
            .and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| PARTS.iter().any(|part| name.contains(part))) else {
            continue;
        };
        if function.is_part() {
            continue;
        }
        let name = symbol_name(name);
        let rank = ENTRIES
            .iter()
            .position(|names| names.contains(&name.as_str()));
        let Some(rank) = rank.filter(|rank| best.as_ref().is_none_or(|(best, _)| rank < best))
        else {
            continue;
        };
        if let Some(offset) = elf.file_offset(function.svma) {
            let function = name;
            best = Some((rank, Entry { function, offset }));
        }
    }
    best.map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_panics_in_one_place() {
        let image = std::fs::read("/proc/self/exe").expect("our own program");
        let entry = of_image(&image).expect("it has symbols");
        assert!(
            entry.function.ends_with("panic_with_hook"),
            "{}",
            entry.function
        );
        assert!(entry.offset > 0 && entry.offset < image.len() as u64);
    }

    #[test]
    fn what_is_no_image_panics_nowhere() {
        assert_eq!(of_image(b"\x7fELF"), None);
        assert_eq!(of_image(b""), None);
    }
}
