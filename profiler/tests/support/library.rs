//! A tokio in a library: of a host in C that loads it late or had it from the start, of Python, and
//! two copies in one process. The library is stripped, so that all that is known of its threads is
//! by tokio's thread-local context, which is in the library's own thread-local memory.

use super::check::{Complaints, ms};
use super::live_recording::Recording;
use super::privilege;
use super::report::Report;
use super::truth::slowdown;
use children::{Child, Lines};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// For how long the library runs.
const MILLIS: &str = "1500";
/// What each wait is at least (`BLOCK` in the library).
const BLOCK_NS: u64 = 20_000_000;
/// Runs begin with waits in no runtime yet, and end with some in none any more.
const UNKNOWN_NS: u64 = 5_000_000;
/// For the host to load its library, or to end.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// Who runs the library.
#[derive(Clone, Copy, Debug)]
enum Host {
    /// A program in C, which loads it at run time.
    Loads,
    /// A program in C that was linked against it.
    Linked,
    /// One that was linked against it and loads another copy.
    Both,
    /// Python.
    Python,
}

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, host: Host| {
        Trial::ignorable_test(format!("library::{name}"), move || {
            privilege::unless_skipped(privilege::missing(), || {
                let complaints = check(host)?;
                if complaints.is_empty() {
                    Ok(())
                } else {
                    Err(complaints.join("\n").into())
                }
            })
        })
    };
    vec![
        trial("loaded_by_a_host_in_c", Host::Loads),
        trial("linked_to_a_host_in_c", Host::Linked),
        trial("two_copies_in_one_process", Host::Both),
        trial("loaded_by_python", Host::Python),
    ]
}

/// Starts a host of the library, and waits until that is loaded.
pub(super) fn ready(name: &str, mut host: Command) -> Result<(Child, Lines), String> {
    host.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Child::spawn(name, &mut host)?;
    let mut lines = running.stdout()?;
    lines.find("ready", SOON, |line| line == "ready")?;
    Ok((running, lines))
}

/// Python, with the library loaded.
pub(crate) fn python() -> Result<Child, String> {
    Ok(ready("python", Built::new()?.host(Host::Python))?.0)
}

/// A program in C that loads another library than ours, and runs it at its first line of input.
pub(super) fn host_in_c(library: &Path) -> Result<Command, String> {
    let mut host = Command::new(Built::new()?.program(Host::Loads));
    host.arg(MILLIS).arg(library);
    Ok(host)
}

/// The same in Python.
pub(super) fn host_in_python(library: &Path) -> Command {
    let mut python = Command::new("python3");
    let (sources, _) = fixture("library");
    python.arg(sources.join("host.py")).arg(MILLIS).arg(library);
    python
}

/// Python that has its lock, while both workers of the library wait for it. It ends with its standard
/// input.
pub(crate) fn python_with_its_lock(stripped: bool) -> Result<Child, String> {
    let built = Built::new()?;
    let mut command = Command::new("python3");
    command.arg(built.sources.join("holder.py"));
    command.arg(if stripped {
        built.library.clone()
    } else {
        built.named()
    });
    Ok(ready("python", command)?.0)
}

/// What the library counted of one kind of wait.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    waits: u64,
    nanos: u64,
}

fn check(host: Host) -> Result<Complaints, String> {
    let (mut running, mut lines) = ready("the host", Built::new()?.host(host))?;
    let recording = Recording::start(&["-p", &running.id().to_string()])?;
    // It begins at the end of its input.
    drop(running.stdin()?);
    let mut truth: BTreeMap<String, Counted> = BTreeMap::new();
    let copies = if matches!(host, Host::Both) { 2 } else { 1 };
    for _ in 0..4 * copies {
        let line = lines.find("count", SOON, |line| line.split(' ').count() == 3)?;
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let counted = truth.entry(kind).or_default();
        counted.waits += number();
        counted.nanos += number();
    }
    running.wait(SOON)?;
    let report = recording.end()?.report;
    Ok(compare(&report, &truth))
}

/// Each state's time is that of the waits that the library counted.
fn compare(report: &Report, truth: &BTreeMap<String, Counted>) -> Complaints {
    let mut complaints = Vec::new();
    let states = |name: &str, state: &str| -> u64 {
        let threads = report.threads.iter().filter(|t| t.name == name);
        threads.filter_map(|t| t.states.get(state)).sum()
    };
    for (kind, thread, state) in [
        ("workers", "lib-multi", "blocked"),
        ("pool", "lib-multi", "pool"),
        ("in-place", "lib-multi", "handed-off"),
        ("current-thread", "lib-single", "blocked"),
    ] {
        let counted = truth.get(kind).copied().unwrap_or_default();
        let reported = states(thread, state);
        // The library's clock also counts the time that a thread waited for a CPU. Its runtime may
        // be held up for a moment besides.
        let least = counted.waits * BLOCK_NS;
        let most = counted.nanos + counted.nanos / 50 + UNKNOWN_NS * slowdown();
        if counted.waits < 10 || reported < least || reported > most {
            complaints.push(format!(
                "{kind}: {} {state}, {} waits of {} were counted",
                ms(reported),
                counted.waits,
                ms(counted.nanos)
            ));
        }
    }
    // The host's own thread, which waits for those of the library to end, has neither names nor a
    // context there.
    let unknown: u64 = report
        .threads
        .iter()
        .filter(|thread| thread.name.starts_with("lib-"))
        .filter_map(|thread| thread.states.get("unknown"))
        .sum();
    if unknown > UNKNOWN_NS * slowdown() {
        complaints.push(format!("{} unknown", ms(unknown)));
    }
    if report.judges.disagreed > 0 || report.judges.by_context == 0 {
        complaints.push(format!("the judges: {:?}", report.judges));
    }
    complaints
}

/// The library and its hosts.
pub(super) struct Built {
    library: PathBuf,
    sources: PathBuf,
    dir: PathBuf,
}

/// Builds the library and its hosts for a machine without a compiler, and returns their paths.
pub(crate) fn build() -> Result<Vec<PathBuf>, String> {
    let built = Built::new()?;
    let hosts = [Host::Loads, Host::Linked, Host::Both];
    let hosts = hosts.map(|host| built.program(host));
    Ok(hosts
        .into_iter()
        .chain([built.library.clone(), built.copy(), built.named()])
        .collect())
}

impl Built {
    pub(super) fn new() -> Result<Built, String> {
        let (sources, dir) = fixture("library");
        let library = dir.join("release/liblibrary.so");
        let built = Built {
            library,
            sources,
            dir,
        };
        if !are_prebuilt() {
            built.build()?;
        }
        Ok(built)
    }

    fn build(&self) -> Result<(), String> {
        run(&mut cargo(&self.sources, &self.dir))?;
        let with_names = self.dir.join("with-names");
        run(cargo(&self.sources, &with_names).env("CARGO_PROFILE_RELEASE_STRIP", "none"))?;
        let made = with_names.join("release/liblibrary.so");
        std::fs::copy(made, self.named()).map_err(|error| error.to_string())?;
        // The loader knows a file by its inode.
        std::fs::copy(&self.library, self.copy()).map_err(|error| error.to_string())?;
        for host in [Host::Loads, Host::Linked, Host::Both] {
            self.compile(host)?;
        }
        Ok(())
    }

    /// The library with its symbols.
    fn named(&self) -> PathBuf {
        self.dir.join("libnamed.so")
    }

    fn copy(&self) -> PathBuf {
        self.dir.join("libcopy.so")
    }

    fn program(&self, host: Host) -> PathBuf {
        self.dir.join(format!("host-{host:?}"))
    }

    fn compile(&self, host: Host) -> Result<(), String> {
        let mut compiler = Command::new("cc");
        compiler.arg("-O1").arg("-o").arg(self.program(host));
        compiler.arg(self.sources.join("host.c"));
        if !matches!(host, Host::Loads) {
            let folder = self.dir.join("release");
            compiler.arg("-DLINKED").arg(&self.library);
            compiler.arg(format!("-Wl,-rpath,{}", folder.display()));
        }
        run(compiler.args(["-ldl", "-lpthread"]))
    }

    /// Python, whose main thread holds Python's lock so many times for so many milliseconds while
    /// tasks of the library want it.
    pub(super) fn python_with_lock(&self, times: u64, millis: u64) -> Command {
        let mut python = Command::new("python3");
        python.arg(self.sources.join("gil.py")).arg(&self.library);
        python.args([times.to_string(), millis.to_string()]);
        python
    }

    fn host(&self, host: Host) -> Command {
        if matches!(host, Host::Python) {
            return host_in_python(&self.library);
        }
        let mut command = Command::new(self.program(host));
        command.arg(MILLIS);
        match host {
            Host::Loads => {
                command.arg(&self.library);
            }
            Host::Both => {
                command.arg(self.copy());
            }
            Host::Linked | Host::Python => {}
        }
        command
    }
}

/// The program of the fixture of this name, built where it is not up to date.
pub(super) fn program(name: &str) -> Result<PathBuf, String> {
    let (sources, dir) = fixture(name);
    if !are_prebuilt() {
        run(&mut cargo(&sources, &dir))?;
    }
    Ok(dir.join("release").join(name))
}

/// Where a fixture's sources are, and where it is built.
fn fixture(name: &str) -> (PathBuf, PathBuf) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = tmp.parent().unwrap_or(tmp).join("fixtures");
    (sources.join(name), built.join(name))
}

/// Whether nothing is to be built here.
fn are_prebuilt() -> bool {
    std::env::var_os("HOLDUP_FIXTURES").is_some_and(|how| how == "prebuilt")
}

/// Builds the package in `sources` for release, whatever this program was built with.
fn cargo(sources: &Path, target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(sources.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_INCREMENTAL");
    cargo
}

pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let message = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {message}"))
    }
}
