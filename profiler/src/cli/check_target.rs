//! What recordings need of the process that is to be recorded.

use super::error::Error;
use super::live::{has_workers_names, no_runtime};
use crate::counted::counted;
use crate::process::deadline::Reader;
use crate::process::module::{Loader, Module, ReadMemory};
use crate::process::{Budget, Mapping, MappingKind, PrivateCopy, Target};
use crate::report::check::{CheckArea, CheckRefusal, CheckState, CheckedTarget, Requirement};
use crate::runtime::tokio::{ContextsOfProcess, LoadedTokio, TokioImage};
use crate::symbolize::separate_debug_file;
use crate::units::{Addr, Pid};
use crate::unwind::{Effort, UnwindTable};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Modules named at most where something is wrong with several.
const MAX_NAMED: usize = 4;

/// A file that code of the target comes from.
struct Code {
    name: String,
    /// What its image says; the error where that cannot be read.
    facts: Result<Module, String>,
    /// What it says of tokio.
    tokio: TokioImage,
    /// What is to be added to an address that the image states.
    bias: Option<u64>,
    is_executable: bool,
    /// Whether its stacks can be walked; the error where not.
    unwinds: Result<(), String>,
}

/// What was found of a process.
pub(super) struct Found {
    pub(super) target: CheckedTarget,
    /// Whether it could be looked into at all.
    pub(super) opened: bool,
    /// Why it cannot be recorded, if it cannot.
    pub(super) refused: Option<Error>,
}

impl Found {
    fn new(pid: Pid, exe: Option<String>, list: Vec<Requirement>, refused: Option<Error>) -> Found {
        let refusal = refused.as_ref().map(|error| CheckRefusal {
            exit: error.exit_status().code(),
            message: error.chain(),
        });
        Found {
            target: CheckedTarget {
                pid,
                refusal,
                requirements: list,
                exe,
            },
            opened: true,
            refused,
        }
    }
}

/// Pins the process and looks at it.
pub(super) fn requirements(pid: Pid) -> Found {
    let process = row("target-process", "process", "exist and be accessible");
    let target = match Target::open(pid) {
        Ok(target) => target,
        Err(error) => {
            let error = Error::from(error).with_permission_hint();
            let list = vec![missing(process, &error)];
            return Found {
                opened: false,
                ..Found::new(pid, None, list, Some(error))
            };
        }
    };
    let user = match target.uid() {
        u32::MAX => "unknown user".to_owned(),
        uid => format!("user {uid}"),
    };
    let mut list = vec![found(process, user), executable(&target), memory(&target)];
    let refused = code(&target, &mut list);
    let exe = Some(String::from_utf8_lossy(target.exe()).into_owned());
    Found::new(pid, exe, list, refused)
}

/// A requirement that is met, so far.
fn row(id: &'static str, name: &'static str, purpose: &'static str) -> Requirement {
    Requirement {
        id,
        area: CheckArea::Target,
        name,
        state: CheckState::Ok,
        purpose,
        found: String::new(),
        remedy: None,
    }
}

fn found(row: Requirement, found: impl Into<String>) -> Requirement {
    Requirement {
        found: found.into(),
        ..row
    }
}

/// Met in part: `found` says what recordings lack, `remedy` what to do about it.
fn limited(row: Requirement, found: impl Into<String>, remedy: &str) -> Requirement {
    Requirement {
        state: CheckState::Limited,
        found: found.into(),
        remedy: Some(remedy.to_owned()),
        ..row
    }
}

fn missing(row: Requirement, error: &Error) -> Requirement {
    Requirement {
        state: CheckState::Missing,
        found: error.chain(),
        remedy: error.suggestion().map(str::to_owned),
        ..row
    }
}

fn unknown(row: Requirement, why: String) -> Requirement {
    Requirement {
        state: CheckState::Unknown,
        found: why,
        ..row
    }
}

/// That it is an x86_64 ELF file was found when the process was pinned.
fn executable(target: &Target) -> Requirement {
    let path = String::from_utf8_lossy(target.exe()).into_owned();
    let deleted = if target.exe_deleted() {
        ", deleted since it started"
    } else {
        ""
    };
    let executable = row("target-executable", "executable", "be an x86_64 ELF file");
    found(executable, format!("{path}{deleted}"))
}

/// Reads a byte of the target's memory. The vDSO is the one part that any process has and nobody
/// minds; without one, its code is.
fn memory(target: &Target) -> Requirement {
    let requirement = row(
        "target-memory",
        "memory",
        "unwind threads that are waiting already",
    );
    let read = target.mappings().and_then(|mappings| {
        let of_kind = |kind| {
            let is = move |mapping: &&Mapping| mapping.executable && mapping.kind == kind;
            mappings.iter().find(is)
        };
        let found = of_kind(MappingKind::Vdso).or_else(|| of_kind(MappingKind::File));
        let mapping = found.ok_or_else(|| io::Error::other("nothing is mapped"))?;
        target.read_memory(mapping.range.start, &mut [0])
    });
    match read {
        Ok(()) => requirement,
        Err(error) => limited(
            requirement,
            format!("unreadable ({error}): waits from before the recording have no stacks"),
            "run holdup with sudo",
        ),
    }
}

/// Looks at the target's code. Returns why it cannot be recorded, if it cannot.
fn code(target: &Target, list: &mut Vec<Requirement>) -> Option<Error> {
    let modules = match modules(target) {
        Ok(modules) => modules,
        Err(error) => {
            let error = Error::new("cannot read the mappings").because(error);
            let files = row("target-files", "files", "read the target's code");
            list.push(missing(files, &error));
            return Some(error);
        }
    };
    list.push(files(&modules));
    list.push(unwinding(&modules));
    let (tokio, refused) = tokio(target, &modules);
    list.push(tokio);
    list.extend(names(target));
    refused
}

/// Every file that code is mapped from, once.
fn modules(target: &Target) -> io::Result<Vec<Code>> {
    let mut seen = HashSet::new();
    let mappings = target.mappings()?;
    let exe = target.open_exe().and_then(|exe| exe.metadata());
    let exe = exe.ok().map(|exe| exe.ino());
    let code = mappings.iter().filter(|mapping| {
        mapping.executable
            && mapping.kind == MappingKind::File
            && seen.insert((mapping.device, mapping.inode))
    });
    Ok(code
        .map(|mapping| {
            let image = target.open_mapped(mapping).and_then(copied);
            let (facts, unwinds) = match &image {
                Ok((copy, file)) => (
                    copy.module().map_err(|error| error.to_string()),
                    walks(copy, file),
                ),
                Err(error) => (Err(error.to_string()), Err(String::new())),
            };
            let tokio = image
                .ok()
                .and_then(|(copy, _)| TokioImage::from_elf(copy.bytes()).ok());
            let bias = |facts: &Module| facts.bias_for(mapping.range.start, mapping.file_offset);
            Code {
                name: mapping.file_name(),
                bias: facts.as_ref().ok().and_then(bias),
                is_executable: Some(mapping.inode) == exe,
                facts,
                tokio: tokio.unwrap_or_default(),
                unwinds,
            }
        })
        .collect())
}

/// A copy to read, since the file may shrink under its readers; and the file, in which alone the
/// code is.
fn copied(file: File) -> io::Result<(PrivateCopy, File)> {
    Ok((PrivateCopy::of(&file, &Budget::of_machine())?, file))
}

fn walks(copy: &PrivateCopy, file: &File) -> Result<(), String> {
    let file = Reader::of(file).ok();
    let read = |into: &mut [u8], offset| {
        let read = file.as_ref().map(|file| file.read_exact_at(into, offset));
        read.is_some_and(|read| read.is_ok())
    };
    match UnwindTable::from_elf_and_file(copy.bytes(), &read, &Effort::default()) {
        Ok(table) if table.entries == 0 && table.synthesized.is_empty() => {
            Err("no .eh_frame".into())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn files(modules: &[Code]) -> Requirement {
    let requirement = row("target-files", "files", "read the target's code");
    let unreadable = problems(modules, |module| module.facts.as_ref().err());
    match unreadable {
        Some(problems) => limited(
            requirement,
            format!("cannot be read: {problems}"),
            "run holdup with sudo",
        ),
        None => found(requirement, counted(modules.len() as u64, "file", "files")),
    }
}

fn unwinding(modules: &[Code]) -> Requirement {
    let requirement = row(
        "target-unwinding",
        "unwinding information",
        "unwind stacks to their root",
    );
    // What cannot be read at all is told of once.
    let readable = |module: &&Code| module.facts.is_ok();
    let blind = problems(modules.iter().filter(readable), |module| {
        module.unwinds.as_ref().err()
    });
    match blind {
        Some(problems) => limited(
            requirement,
            format!("stacks end in {problems}"),
            "build it with unwind tables: rustc -C force-unwind-tables=yes",
        ),
        None => requirement,
    }
}

/// Every module with a problem, and which; none where there is none.
fn problems<'a>(
    modules: impl IntoIterator<Item = &'a Code>,
    problem: impl Fn(&'a Code) -> Option<&'a String>,
) -> Option<String> {
    let found = modules
        .into_iter()
        .filter_map(|module| Some((module, problem(module)?)));
    let all: Vec<String> = found
        .map(|(module, problem)| format!("{} ({problem})", module.name))
        .collect();
    let named = all
        .iter()
        .take(MAX_NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match all.len() {
        0 => None,
        n if n > MAX_NAMED => Some(format!("{named} and {} more", n - MAX_NAMED)),
        _ => Some(named),
    }
}

fn tokio(target: &Target, modules: &[Code]) -> (Requirement, Option<Error>) {
    let requirement = row("target-tokio", "tokio", "tell workers from other threads");
    let images = || modules.iter().map(|module| &module.tokio);
    if !images().any(|image| image.present) {
        if has_workers_names(target) {
            let row = limited(
                requirement,
                "threads look like workers, but no sign of tokio in the code",
                "build it with symbols",
            );
            return (row, None);
        }
        let error = no_runtime(target);
        return (missing(requirement, &error), Some(error));
    }
    if let Some(old) = images().find_map(TokioImage::not_understood) {
        let row = limited(
            requirement,
            format!("tokio {old} is not understood: waits may be unknown, or taken for others"),
            "build it with tokio 1.20 or newer",
        );
        return (row, None);
    }
    let versions = images().flat_map(|image| image.versions.iter().map(String::as_str));
    let mut versions: Vec<&str> = versions.collect();
    versions.sort_unstable();
    versions.dedup();
    let version = match versions.as_slice() {
        [] => "version not known".to_owned(),
        versions => versions.join(", "),
    };
    let missing = contexts(target, modules).missing;
    if missing.is_empty() {
        return (found(requirement, version), None);
    }
    let reasons: Vec<String> = missing
        .iter()
        .take(MAX_NAMED)
        .map(|missing| format!("{} ({})", missing.module, missing.reason))
        .collect();
    let row = limited(
        requirement,
        format!(
            "{version}; the thread-local context was not found in {}",
            reasons.join(", ")
        ),
        "build it with symbols: function names need no context",
    );
    (row, None)
}

/// Where its threads have tokio's contexts.
fn contexts(target: &Target, modules: &[Code]) -> ContextsOfProcess {
    let musl = modules
        .iter()
        .any(|module| module.name.starts_with("ld-musl") || module.name.starts_with("libc.musl"));
    let found = modules.iter().filter(|module| module.tokio.present);
    let loaded = found.filter_map(|module| {
        Some(LoadedTokio {
            name: &module.name,
            image: &module.tokio,
            thread_local: module.facts.as_ref().ok()?.thread_local,
            bias: module.bias?,
            is_executable: module.is_executable,
        })
    });
    let loader = if musl { Loader::Musl } else { Loader::Glibc };
    ContextsOfProcess::find(loaded, loader, &MemoryOf(target))
}

/// The target's memory.
struct MemoryOf<'a>(&'a Target);

impl ReadMemory for MemoryOf<'_> {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.0.read_memory(Addr(at), into).is_ok()
    }
}

/// Whether the executable tells functions and lines.
fn names(target: &Target) -> Vec<Requirement> {
    let symbols = row("target-symbols", "symbols", "name functions");
    let lines = row(
        "target-lines",
        "line tables",
        "name files and lines, and inlined functions",
    );
    let image = target.open_exe().and_then(copied);
    let facts = image
        .map_err(|error| error.to_string())
        .and_then(|(copy, _)| copy.module().map_err(|error| error.to_string()));
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => return vec![unknown(symbols, error.clone()), unknown(lines, error)],
    };
    if let Some(path) = facts.build_id.as_deref().and_then(separate_debug_file) {
        let path = path.to_string_lossy().into_owned();
        return vec![found(symbols, path.clone()), found(lines, path)];
    }
    let symbols = if facts.has_symtab {
        symbols
    } else {
        limited(
            symbols,
            "stripped: functions are named by their addresses",
            "build it with strip = false in [profile.release]",
        )
    };
    let lines = if facts.has_debug_lines {
        lines
    } else {
        limited(
            lines,
            "none: no files and lines, inlined functions are not told apart",
            "build it with debug = \"limited\" in [profile.release], for your own crates at least",
        )
    };
    vec![symbols, lines]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tokio::{Contexts, NoContext};
    use std::process::Command;

    /// A file with a tokio, by its versions and by why its context was not found.
    fn code(versions: &[&str], missing: Option<NoContext>) -> Code {
        Code {
            name: "libwork.so".to_owned(),
            facts: Module::from_elf(&std::fs::read("/proc/self/exe").expect("our own"))
                .map_err(|error| error.to_string()),
            tokio: TokioImage {
                versions: versions
                    .iter()
                    .map(|version| (*version).to_owned())
                    .collect(),
                present: true,
                contexts: Contexts {
                    missing,
                    ..Contexts::default()
                },
            },
            bias: Some(0),
            is_executable: true,
            unwinds: Ok(()),
        }
    }

    #[test]
    fn what_was_found_of_tokio_is_told() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("a child");
        let target = Target::open(Pid(child.id())).expect("ours");
        let of = |code: Code| {
            let (row, refused) = tokio(&target, &[code]);
            assert!(refused.is_none());
            (row.state, row.found)
        };
        let known = of(code(&["1.54.1"], None));
        let unknown = of(code(&[], None));
        let missing = of(code(&["1.54.1"], Some(NoContext::UnknownArrangement)));
        let old = of(code(&["0.2.25"], None));
        let (none, refused) = tokio(&target, &[]);
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert_eq!(known, (CheckState::Ok, "1.54.1".to_owned()));
        assert_eq!(unknown, (CheckState::Ok, "version not known".to_owned()));
        assert_eq!(missing.0, CheckState::Limited);
        assert!(missing.1.contains("not found in libwork.so"), "{missing:?}");
        assert_eq!(old.0, CheckState::Limited);
        assert!(old.1.contains("0.2.25 is not understood"), "{old:?}");
        assert_eq!(none.state, CheckState::Missing);
        assert!(none.found.starts_with("no sign of tokio"), "{none:?}");
        assert!(refused.is_some());
    }

    #[test]
    fn memory_is_the_targets_own() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("a child");
        let target = Target::open(Pid(child.id())).expect("ours");
        // A program that has just been executed has no mappings for a moment.
        let begun = std::time::Instant::now();
        while memory(&target).state != CheckState::Ok {
            assert!(begun.elapsed() < std::time::Duration::from_secs(5));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().expect("ours");
        // Not waited for: its mappings can be read, and are none.
        while !target.ended() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let ended = memory(&target);
        assert_eq!(ended.state, CheckState::Limited, "{ended:?}");
        child.wait().expect("ours");
    }
}
