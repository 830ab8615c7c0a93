//! `cargo xtask demo`: from a fresh checkout to a verdict on a service that blocks its workers.

mod compare;

use crate::artifacts::Artifacts;
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use children::interrupt;
use children::{Child, Stream};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const FLAMEGRAPH: &str = "holdup-demo.svg";
const REPORT: &str = "holdup-demo.json";

/// How long the service may take to start.
const START: Duration = Duration::from_secs(20);
/// How long a recording may take to end and to be written after its time is over.
const WRITE: Duration = Duration::from_secs(60);
/// How long Ctrl-C, which the recording gets as well, may take to end it.
const AFTER_CTRL_C: Duration = Duration::from_secs(5);
/// The load goes on while sudo asks for a password, but not for ever.
const LONGEST_LOAD: u64 = 900;

/// What `cargo xtask demo` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to record.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Record the service with its mistakes and repaired, under the same load, and show both.
    #[arg(long)]
    compare: bool,

    /// Draw both, and what has changed, as flamegraphs into this folder.
    #[arg(long, value_name = "DIR", requires = "compare")]
    pictures: Option<PathBuf>,

    /// Take the programs from this folder instead of building them.
    #[arg(long, value_name = "DIR", requires = "compare")]
    programs: Option<PathBuf>,
}

/// Builds holdup and the demo service, starts the service, loads it and records it. The verdict
/// goes to standard output, all else to standard error. Whatever was started is stopped, also on
/// Ctrl-C and on failure.
///
/// # Errors
/// One of these steps fails, or Ctrl-C came before there was anything to show.
pub fn run(args: &Args) -> Result<()> {
    interrupt::watch()?;
    let privileges = Privileges::find()?;

    let artifacts = match &args.programs {
        Some(dir) => Artifacts::in_folder(dir, &["holdup", "claims_api", "claims_load"])?,
        None => {
            say("building holdup and the demo service (the first time takes some minutes)");
            Artifacts::build_release(&["profiler", "claims_api"])?
        }
    };
    interrupt::check()?;
    if args.compare {
        let recorder = privileges.recorder(artifacts.executable("holdup")?);
        let pictures = args.pictures.as_deref();
        return compare::run(&artifacts, &recorder, args.seconds, pictures);
    }

    let service = Service::start(&artifacts, &[])?;
    say(&format!(
        "the claims service listens on {} (pid {})",
        service.addr,
        service.child.id()
    ));
    let mut load = start_load(&artifacts, &service.addr, LONGEST_LOAD)?;
    say("clients ask it for eligibility, prices, letters and more, and whether it is healthy");

    let mut record = privileges.record(
        artifacts.executable("holdup")?,
        service.child.id(),
        args.seconds,
    );
    privileges.explain(&record);
    say(&format!("recording for {} s", args.seconds));
    let recorded_from = Instant::now();
    let status = wait_for_recording(&mut record, args.seconds)?;

    if !status.success() {
        bail!(
            "holdup ended with {status}; the command was\n  {}",
            process::shown(&record)
        );
    }

    say("what the clients saw:");
    load.signal(Signal::TERM)?;
    for line in load.remaining_lines() {
        eprintln!("  {line}");
    }
    drop(load);
    drop(service);
    say_what_was_written(recorded_from.elapsed())
}

fn say(what: &str) {
    eprintln!("demo: {what}");
}

/// The demo service, with a folder of its own on a real disk: syncing files on a tmpfs costs
/// nothing, and then there is nothing to see.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) addr: String,
    /// After `child`: fields are dropped in their order.
    _data_dir: tempfile::TempDir,
}

impl Service {
    pub(crate) fn start(artifacts: &Artifacts, args: &[&str]) -> Result<Service> {
        let program = artifacts.executable("claims_api")?;
        let beside = program.parent().unwrap_or(paths::root());
        let data_dir = tempfile::Builder::new()
            .prefix("demo-")
            .tempdir_in(beside)?;
        let mut command = Command::new(program);
        command
            .arg("--exit-with-stdin")
            .arg("--data-dir")
            .arg(data_dir.path())
            .args(args)
            // Without a network a lookup could wait far longer than the whole demo.
            .env("RES_OPTIONS", "timeout:1 attempts:1");
        let mut child = Child::start("the demo service", &mut command, Stream::Stdout)?;
        let (_, line) = child.read_line(START)?;
        let addr = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split(' ').next())
            .with_context(|| format!("the demo service did not tell its address, but {line:?}"))?;
        Ok(Service {
            addr: addr.to_owned(),
            child,
            _data_dir: data_dir,
        })
    }
}

/// Clients that ask the service for everything for `seconds`.
pub(crate) fn start_load(artifacts: &Artifacts, addr: &str, seconds: u64) -> Result<Child> {
    let mut command = Command::new(artifacts.executable("claims_load")?);
    command
        .arg(addr)
        .args(["--mix", "all", "--seconds"])
        .arg(seconds.to_string());
    Ok(Child::start("the load", &mut command, Stream::Stdout)?)
}

/// Requests a second, by which services are compared.
pub(crate) const RATE: u32 = 120;
/// Connections that they come by.
const CONNECTIONS: u32 = 100;
/// What the first requests do differently is over by then.
const WARM_UP: Duration = Duration::from_secs(2);

/// Clients that ask the service for `mix` at one rate, for longer than anybody records; once it has been
/// under load for a while.
pub(crate) fn start_warm_load(artifacts: &Artifacts, addr: &str, mix: &str) -> Result<Child> {
    let mut command = Command::new(artifacts.executable("claims_load")?);
    command
        .arg(addr)
        .args(["--mix", mix, "--connections", &CONNECTIONS.to_string()])
        .args(["--rate", &RATE.to_string(), "--seconds", "600"]);
    let load = Child::start("the load", &mut command, Stream::Stdout)?;
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(load)
}

/// How holdup gets what it needs to load its programs into the kernel.
enum Privileges {
    /// This process has them.
    Held,
    /// The given sudo can give them.
    Sudo(PathBuf),
}

impl Privileges {
    fn find() -> Result<Privileges> {
        let status = std::fs::read_to_string("/proc/self/status")
            .context("cannot read /proc/self/status")?;
        if may_record(&status) {
            return Ok(Privileges::Held);
        }
        match find_in_path("sudo", &std::env::var_os("PATH").unwrap_or_default()) {
            Some(sudo) => Ok(Privileges::Sudo(sudo)),
            None => bail!(
                "recording needs CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and there is no sudo here; \
                 run `cargo xtask demo` as root"
            ),
        }
    }

    /// The words that run holdup.
    fn recorder(&self, holdup: &Path) -> Vec<PathBuf> {
        match self {
            Privileges::Held => vec![holdup.to_owned()],
            Privileges::Sudo(sudo) => vec![sudo.clone(), "--".into(), holdup.to_owned()],
        }
    }

    fn record(&self, holdup: &Path, pid: u32, seconds: u64) -> Command {
        let mut command = match self {
            Privileges::Held => Command::new(holdup),
            Privileges::Sudo(sudo) => {
                let mut command = Command::new(sudo);
                command.arg("--").arg(holdup);
                command
            }
        };
        command
            .current_dir(paths::root())
            .args([
                "record",
                "--force",
                "-p",
                &pid.to_string(),
                "-d",
                &format!("{seconds}s"),
            ])
            .args(["-o", FLAMEGRAPH, "-o", REPORT, "-o", "-"]);
        command
    }

    fn explain(&self, record: &Command) {
        if let Privileges::Sudo(_) = self {
            say("holdup loads programs into the kernel and reads the service's memory map; you");
            say("may not do that here, so sudo will run this one command as root, and may ask for");
            say(&format!(
                "your password. It writes {FLAMEGRAPH} and {REPORT}, which will be yours:"
            ));
            say(&format!("  {}", process::shown(record)));
        }
    }
}

/// Whether the capabilities in `/proc/PID/status` are enough. Their numbers are in
/// `linux/capability.h`.
fn may_record(status: &str) -> bool {
    const SYS_PTRACE: u32 = 19;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    has(SYS_PTRACE) && (has(SYS_ADMIN) || has(BPF) && has(PERFMON))
}

fn find_in_path(program: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Runs the recording. It gets Ctrl-C by itself, being in the terminal's foreground; another
/// signal came to this process alone and is passed on.
fn wait_for_recording(record: &mut Command, seconds: u64) -> Result<ExitStatus> {
    let mut child = Child::start_in_foreground("holdup", record)?;
    // sudo may wait for a password: the time starts to count when nobody can be typing any more.
    let deadline = Instant::now() + Duration::from_secs(LONGEST_LOAD + seconds) + WRITE;
    let mut interrupted_at = None;
    loop {
        if let Some(status) = child.ended()? {
            return Ok(status);
        }
        if interrupt::requested() && interrupted_at.is_none() {
            interrupted_at = Some(Instant::now());
            say("stopping");
        }
        if interrupted_at.is_some_and(|at| at.elapsed() > AFTER_CTRL_C) {
            child.signal(Signal::INT)?;
            return Ok(child.wait(WRITE)?);
        }
        if Instant::now() > deadline {
            bail!("holdup does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn say_what_was_written(within: Duration) -> Result<()> {
    for (name, what) in [(FLAMEGRAPH, "flamegraph"), (REPORT, "report in JSON")] {
        let path = paths::root().join(name);
        let metadata = std::fs::metadata(&path)
            .with_context(|| format!("holdup ended well, but there is no {}", path.display()))?;
        // One that was left by an earlier demo is none of this one's.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if age > within + Duration::from_secs(2) {
            bail!("holdup ended well, but {} is an old one", path.display());
        }
        say(&format!("{what}: {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_decide_not_the_uid() {
        let with = |effective: u64| {
            format!("Name:\tx\nUid:\t1000\nCapPrm:\t0\nCapEff:\t{effective:016x}\n")
        };
        assert!(may_record(&with(0x1ff_ffff_ffff)), "root's");
        assert!(may_record(&with(1 << 39 | 1 << 38 | 1 << 19)));
        assert!(
            may_record(&with(1 << 21 | 1 << 19)),
            "before 5.8 CAP_SYS_ADMIN was both"
        );
        assert!(
            !may_record(&with(1 << 39 | 1 << 38)),
            "another's memory map"
        );
        assert!(!may_record(&with(1 << 39 | 1 << 19)), "tracepoints");
        assert!(!may_record(&with(0)));
        assert!(!may_record("Name:\tx\n"));
    }

    #[test]
    fn sudo_runs_the_same_command() {
        let shown = |privileges: &Privileges| {
            process::shown(&privileges.record(Path::new("/t/holdup"), 7, 3))
        };
        let direct = shown(&Privileges::Held);
        assert_eq!(
            direct,
            "/t/holdup record --force -p 7 -d 3s -o holdup-demo.svg -o holdup-demo.json -o -"
        );
        assert_eq!(
            shown(&Privileges::Sudo("/bin/sudo".into())),
            format!("/bin/sudo -- {direct}")
        );
    }

    #[test]
    fn the_path_is_searched_in_its_order() -> Result<()> {
        let dirs = (tempfile::tempdir()?, tempfile::tempdir()?);
        let path = std::env::join_paths([dirs.0.path(), dirs.1.path()])?;
        assert_eq!(find_in_path("sudo", &path), None);
        std::fs::write(dirs.1.path().join("sudo"), "")?;
        assert_eq!(
            find_in_path("sudo", &path),
            Some(dirs.1.path().join("sudo"))
        );
        std::fs::write(dirs.0.path().join("sudo"), "")?;
        assert_eq!(
            find_in_path("sudo", &path),
            Some(dirs.0.path().join("sudo"))
        );
        Ok(())
    }
}
