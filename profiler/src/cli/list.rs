//! `holdup list`.

use super::engine::Recorder;
use super::error::{Error, Result};
use super::exit::Exit;
use super::live::Live;
use super::output::write_stdout;
use super::settings::{CheckFormat, ListSettings, TargetChoice};
use crate::bpf::MAX_PROCESSES;
use crate::host::privileges::{self, Keep};
use crate::host::{self, Features};
use crate::process::module::Module;
use crate::process::{
    Budget, Device, Mapping, MappingKind, PrivateCopy, Target, TargetError, Unit, all_pids, find,
    own_pid, user_names,
};
use crate::recording::{Host, Tool};
use crate::render;
use crate::report::Report;
use crate::report::list::{LIST_SCHEMA, ListedProcess, Listing};
use crate::runtime::State;
use crate::runtime::tokio::{TokioSigns, is_of_a_worker};
use crate::symbolize::separate_debug_file;
use crate::units::{Nanos, Pid};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Constants read of one file, in bytes. Few programs have a tenth of it.
const PER_FILE: u64 = 128 << 20;
/// And of all files together.
const IN_ALL: u64 = 2 << 30;
/// Files that hold code, looked at in each process.
const FILES: usize = 4096;
/// For how long `--look` records.
const LOOK: Duration = Duration::from_secs(1);

/// Prints the processes that hold tokio.
///
/// # Errors
/// Where the processes cannot be listed, or standard output cannot be written to.
pub(crate) fn list(settings: &ListSettings) -> Result<Exit> {
    let features = host::preflight();
    let refusal = features.as_ref().err().map(ToString::to_string);
    let mut found = Found::default();
    let pids = match &settings.target {
        Some(TargetChoice::Pids(pids)) => {
            for pid in pids {
                // What was named by its id is to be there.
                Target::open(*pid)?;
            }
            pids.clone()
        }
        Some(TargetChoice::Selected(selection)) => {
            find(selection)?.iter().map(|found| found.pid).collect()
        }
        None | Some(TargetChoice::Command(_)) => all_pids()
            .map_err(|error| Error::new("cannot list the processes in /proc").because(error))?,
    };
    for pid in pids {
        found.look_at(pid, refusal.is_none());
    }
    let mut looked_ns = None;
    if settings.look {
        let features = features?;
        looked_ns = found.record(settings, &features)?;
    }
    let mut processes: Vec<ListedProcess> = found
        .processes
        .into_iter()
        .map(|(_, process)| process)
        .collect();
    processes.sort_by(|one, other| {
        let share = |process: &ListedProcess| process.blocked_share.unwrap_or(-1.0);
        share(other)
            .total_cmp(&share(one))
            .then(one.pid.cmp(&other.pid))
    });
    let listing = Listing {
        schema: LIST_SCHEMA,
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        host: Host {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        },
        refusal,
        looked_ns,
        processes,
        unreadable: found.unreadable,
        unread_files: found.unread_files,
    };
    write_stdout(|out| match settings.format {
        CheckFormat::Text => render::list_text(&listing, &settings.rendering, out),
        CheckFormat::Json => render::list_json(&listing, out),
    })
    .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(Exit::Success)
}

/// What is known of a file that code is mapped from.
#[derive(Clone, Debug, Default)]
struct File {
    signs: TokioSigns,
    has_symbols: bool,
    has_lines: bool,
    /// Whether it could not be read.
    unread: bool,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Each file once, however many processes map it.
    files: HashMap<(Device, u64), File>,
    /// Bytes that files have been read of.
    read: u64,
    users: BTreeMap<u32, String>,
    processes: Vec<(Arc<Target>, ListedProcess)>,
    unreadable: u64,
    unread_files: u64,
}

impl Found {
    fn look_at(&mut self, pid: Pid, can_record: bool) {
        let target = match Target::open(pid) {
            Ok(target) => target,
            // It has ended, is none of tokio's, or cannot be asked.
            Err(
                TargetError::Denied { .. }
                | TargetError::Unreadable { .. }
                | TargetError::Executable { .. },
            ) => {
                self.unreadable += 1;
                return;
            }
            Err(_) => return,
        };
        let Ok(mappings) = target.mappings() else {
            self.unreadable += u64::from(!target.ended());
            return;
        };
        let code = mappings.iter().filter(|mapping| {
            mapping.executable && mapping.kind == MappingKind::File && !mapping.path.is_empty()
        });
        let mut holders: Vec<(String, File)> = Vec::new();
        let mut of_exe = None;
        for mapping in code.take(FILES) {
            let file = self.file(&target, mapping);
            if mapping.path == target.exe() {
                of_exe.get_or_insert_with(|| file.clone());
            }
            let name = mapping.file_name();
            if file.signs.present && !holders.iter().any(|(known, _)| *known == name) {
                holders.push((name, file));
            }
        }
        if !holders.is_empty() {
            let process = self.describe(&target, &holders, of_exe, can_record);
            self.processes.push((Arc::new(target), process));
        }
    }

    fn file(&mut self, target: &Target, mapping: &Mapping) -> File {
        let key = (mapping.device, mapping.inode);
        if let Some(known) = self.files.get(&key) {
            return known.clone();
        }
        let file = self.read_file(target, mapping).unwrap_or(File {
            unread: true,
            ..File::default()
        });
        self.unread_files += u64::from(file.unread);
        self.files.insert(key, file.clone());
        file
    }

    /// Reads what tells tokio; none where it cannot be read.
    fn read_file(&mut self, target: &Target, mapping: &Mapping) -> Option<File> {
        if self.read > IN_ALL {
            return None;
        }
        let file = target.open_mapped(mapping).ok()?;
        let copy = PrivateCopy::of_constants(&file, &Budget::new(PER_FILE, 0)).ok()?;
        self.read = self.read.saturating_add(copy.copied());
        // A file that is mapped and is no ELF file holds no tokio.
        let (Ok(signs), Ok(facts)) = (
            TokioSigns::from_elf(copy.bytes()),
            Module::from_elf(copy.bytes()),
        ) else {
            return Some(File::default());
        };
        let apart = || {
            let path = facts.build_id.as_deref().and_then(separate_debug_file);
            signs.present && path.is_some()
        };
        let apart = apart();
        Some(File {
            has_symbols: facts.has_symtab || apart,
            has_lines: facts.has_debug_lines || apart,
            signs,
            unread: false,
        })
    }

    fn describe(
        &mut self,
        target: &Target,
        holders: &[(String, File)],
        of_exe: Option<File>,
        can_record: bool,
    ) -> ListedProcess {
        if self.users.is_empty() {
            self.users = user_names();
        }
        let text = |name: &str| {
            let text = target.proc_dir().read(name).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        let unit = Unit::of(&text("cgroup"));
        let status = text("status");
        let own_pid = own_pid(status.as_bytes())
            .map(Pid)
            .filter(|own| *own != target.pid());
        let threads = target.threads().unwrap_or_default();
        let named = threads.iter().filter(|thread| is_of_a_worker(&thread.name));
        let mut versions: Vec<String> = holders
            .iter()
            .flat_map(|(_, file)| file.signs.versions.iter().cloned())
            .collect();
        versions.sort_unstable();
        versions.dedup();
        let in_exe = of_exe.as_ref().is_some_and(|file| file.signs.present);
        // Whose functions are to be named: a library's, where tokio is in one.
        let named_file = if in_exe {
            of_exe
        } else {
            holders.first().map(|(_, file)| file.clone())
        };
        let named_file = named_file.unwrap_or_default();
        let old = holders
            .iter()
            .find_map(|(_, file)| file.signs.not_understood());
        ListedProcess {
            pid: target.pid(),
            own_pid,
            name: target.exe_name(),
            exe: String::from_utf8_lossy(target.exe()).into_owned(),
            uid: target.uid(),
            user: self.users.get(&target.uid()).cloned(),
            unit: unit.unit,
            container: unit.container,
            pod: unit.pod,
            tokio_versions: versions,
            tokio_in: holders.iter().map(|(name, _)| name.clone()).collect(),
            threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
            threads_named_by_tokio: u32::try_from(named.count()).unwrap_or(u32::MAX),
            has_symbols: named_file.has_symbols,
            has_lines: named_file.has_lines,
            can_record,
            remark: old.map(|old| format!("tokio {old} is not understood")),
            runtimes: None,
            workers: None,
            blocked_share: None,
        }
    }

    /// Records all of them for a second. How long that was; none where there is nothing to record.
    fn record(&mut self, settings: &ListSettings, features: &Features) -> Result<Option<Nanos>> {
        let targets: Vec<Arc<Target>> = self
            .processes
            .iter()
            .filter(|(target, _)| !target.ended())
            .take(MAX_PROCESSES)
            .map(|(target, _)| Arc::clone(target))
            .collect();
        if targets.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new("cannot start tokio").because(error))?;
        let keep = Keep::least(privileges::RECORDING, settings.invoker.as_ref(), || true);
        let mut live =
            runtime.block_on(async { Live::start(&targets, features, &settings.looking, keep) })?;
        runtime.block_on(async { live.run(tokio::time::sleep(LOOK), None).await })?;
        let report = live.finish(None, None)?.into_whole();
        let seen = seen(&report);
        for (_, process) in &mut self.processes {
            if let Some(seen) = seen.get(&process.pid) {
                process.runtimes = Some(seen.runtimes);
                process.workers = Some(seen.workers);
                process.blocked_share = Some(seen.blocked.share_of(seen.all));
            }
        }
        Ok(Some(report.duration_ns))
    }
}

/// What a look found of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    runtimes: u32,
    workers: u32,
    /// How long its workers were blocked, of all of their time.
    blocked: Nanos,
    all: Nanos,
}

/// What was found, by process.
fn seen(report: &Report) -> BTreeMap<Pid, Seen> {
    let mut processes: BTreeMap<Pid, Seen> = BTreeMap::new();
    for runtime in &report.runtimes {
        let seen = processes.entry(runtime.pid).or_default();
        let states = &runtime.states;
        seen.runtimes += 1;
        seen.workers += runtime.workers;
        seen.blocked += states.get(&State::Blocked).copied().unwrap_or_default();
        seen.all += states.values().copied().sum();
    }
    processes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_tokio_is_not_listed_and_its_files_are_read_once() {
        use std::io::{Read, Write};
        use std::process::{Command, Stdio};
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        // Who answers has its libraries.
        let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.as_mut());
        stdin.expect("piped").write_all(b"x").expect("writes");
        stdout.expect("piped").read_exact(&mut [0]).expect("reads");
        let mut found = Found::default();
        found.look_at(Pid(child.id()), true);
        let read = found.read;
        found.look_at(Pid(child.id()), true);
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert!(found.processes.is_empty());
        assert!(read > 0, "the C library has constants");
        assert_eq!(found.read, read);
        // The tests themselves are linked with tokio.
        found.look_at(Pid(std::process::id()), true);
        let (_, own) = found.processes.first().expect("this process");
        assert!(
            own.tokio_versions
                .iter()
                .any(|version| version.starts_with("1."))
        );
        assert!(own.has_symbols);
    }
}
