//! The tools: how each is started, what it leaves, and what is known of it.

use super::entry::{Entry, merged};
use super::{read, size_of};
use crate::bench::OFFCPUTIME;
use crate::process;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which tool it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Holdup,
    Offcputime,
    PerfSwitches,
    PerfSamples,
    PerfSched,
    PerfTrace,
    Hud,
    Offwaketime,
    Console,
    Dial9,
}

/// A tool, and what the page says of it.
pub(super) struct Peer {
    kind: Kind,
    /// In the page's tables.
    pub(super) name: &'static str,
    /// What its entries are weighed in.
    pub(super) unit: &'static str,
    /// Whether the program has to be built again for it.
    pub(super) rebuild: &'static str,
    /// Whether it tells waits that hold tasks up from idle workers and the blocking pool.
    pub(super) judges: &'static str,
    /// Whether it names what was waited for, who ended the wait, and the line.
    pub(super) names: [&'static str; 3],
}

impl Peer {
    pub(super) fn is_ours(&self) -> bool {
        self.kind == Kind::Holdup
    }

    /// What it leaves in the folder.
    fn file(&self) -> &'static str {
        match self.kind {
            Kind::Holdup => "holdup.json",
            Kind::Offcputime => "offcputime.txt",
            Kind::PerfSwitches => "switches.data",
            Kind::PerfSamples => "samples.data",
            Kind::PerfSched => "sched.data",
            Kind::PerfTrace => "trace.txt",
            Kind::Hud => "hud.json",
            Kind::Offwaketime | Kind::Console | Kind::Dial9 => "none",
        }
    }
}

/// In the order of the page.
pub(super) const ALL: &[Peer] = &[
    Peer {
        kind: Kind::Holdup,
        name: "holdup record",
        unit: "time",
        rebuild: "no",
        judges: "yes",
        names: [
            "yes: path, peer, child",
            "yes, and what it did",
            "with line tables",
        ],
    },
    Peer {
        kind: Kind::Offcputime,
        name: "offcputime -p",
        unit: "time",
        rebuild: "for whole stacks: frame pointers",
        judges: "no",
        names: ["no", "no (`wakeuptime` lists wakers)", "no"],
    },
    Peer {
        kind: Kind::PerfSwitches,
        name: "perf record -e sched:sched_switch --call-graph dwarf",
        unit: "switches, no times",
        rebuild: "no",
        judges: "no",
        names: ["no", "no", "with line tables"],
    },
    Peer {
        kind: Kind::PerfSamples,
        name: "perf record -F 99 --call-graph dwarf",
        unit: "samples of a CPU",
        rebuild: "no",
        judges: "no",
        names: ["no", "no", "with line tables"],
    },
    Peer {
        kind: Kind::PerfSched,
        name: "perf sched timehist",
        unit: "time of threads",
        rebuild: "no",
        judges: "no",
        names: ["no", "with `--wakeups`: the thread", "no"],
    },
    Peer {
        kind: Kind::PerfTrace,
        name: "perf trace -s",
        unit: "time of system calls",
        rebuild: "no",
        judges: "no",
        names: ["without `-s`: path or fd of each call", "no", "no"],
    },
    Peer {
        kind: Kind::Hud,
        name: "hud --headless",
        unit: "events",
        rebuild: "its authors ask for debug information and frame pointers",
        judges: "no: the stack is the victim's, as its README says",
        names: ["no", "no", "with debug information"],
    },
    Peer {
        kind: Kind::Offwaketime,
        name: "offwaketime (bcc)",
        unit: "time",
        rebuild: "for whole stacks: frame pointers",
        judges: "no",
        names: ["no", "yes: stack", "no"],
    },
    Peer {
        kind: Kind::Console,
        name: "tokio-console",
        unit: "polls",
        rebuild: "yes: console-subscriber, `--cfg tokio_unstable`",
        judges: "yes: times of polls",
        names: ["no", "no", "where the task was spawned"],
    },
    Peer {
        kind: Kind::Dial9,
        name: "dial9",
        unit: "polls",
        rebuild: "yes: its hooks, `--cfg tokio_unstable`",
        judges: "yes: times of polls",
        names: ["no", "no", "where the task was spawned"],
    },
];

/// Where tools are and write.
pub(super) struct Place {
    pub(super) holdup: PathBuf,
    pub(super) hud: Option<PathBuf>,
    pub(super) dir: tempfile::TempDir,
    pub(super) seconds: u64,
}

impl Place {
    /// The version of a tool that can run here.
    pub(super) fn version(&self, peer: &Peer) -> Result<String> {
        let (program, hint) = match peer.kind {
            Kind::Holdup => (self.holdup.clone(), "cargo build --release"),
            Kind::Offcputime => (OFFCPUTIME.into(), "apt-get install libbpf-tools"),
            Kind::PerfSwitches | Kind::PerfSamples | Kind::PerfSched | Kind::PerfTrace => {
                ("perf".into(), "apt-get install linux-perf")
            }
            Kind::Hud => (
                self.hud.clone().unwrap_or_else(|| "hud".into()),
                "it is not on crates.io, where `hud` is something else; build it from github.com/cong-or/hud, give --hud FILE",
            ),
            Kind::Offwaketime => bail!("{}", no_kprobes()),
            Kind::Console => {
                bail!("{NEEDS_ANOTHER_PROGRAM}")
            }
            Kind::Dial9 => bail!("{NEEDS_ANOTHER_PROGRAM}"),
        };
        let asked = process::output(Command::new(&program).arg("--version"));
        let said = match peer.kind {
            // It knows no such option, and is there.
            Kind::Hud
                if asked.is_err()
                    && process::output(Command::new(&program).arg("--help")).is_ok() =>
            {
                return Ok("it tells none".to_owned());
            }
            // What it says of the failure is of no use on the page.
            _ => asked.map_err(|_| anyhow::anyhow!(hint))?,
        };
        let line = said.lines().next().unwrap_or_default().trim();
        // Its own name stands before it on the page.
        Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
    }

    fn path(&self, peer: &Peer) -> PathBuf {
        self.dir.path().join(peer.file())
    }

    /// What the tool leaves, in bytes.
    pub(super) fn size(&self, peer: &Peer) -> u64 {
        size_of(&self.path(peer))
    }

    /// The command that records a process for the time that is asked for.
    pub(super) fn recorder(&self, peer: &Peer, pid: u32) -> Result<Command> {
        let seconds = self.seconds.to_string();
        let mut command = self.command(peer, pid, &self.path(peer), &seconds)?;
        let to_file = matches!(peer.kind, Kind::Offcputime);
        if to_file {
            let file = std::fs::File::create(self.path(peer)).context("cannot write")?;
            command.stdout(file);
        } else {
            command.stdout(Stdio::null());
        }
        command.stderr(Stdio::null());
        Ok(command)
    }

    /// The same, until it is interrupted, with its output thrown away.
    pub(super) fn beside(&self, peer: &Peer, pid: u32) -> Result<Command> {
        let file = match peer.kind {
            Kind::Holdup | Kind::Hud => self.dir.path().join("beside.json"),
            _ => PathBuf::from("/dev/null"),
        };
        let mut command = self.command(peer, pid, &file, "3600")?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn command(&self, peer: &Peer, pid: u32, file: &Path, seconds: &str) -> Result<Command> {
        let pid = pid.to_string();
        let perf = |words: &[&str], target: &[&str]| {
            let mut command = Command::new("perf");
            command.args(words).arg("-o").arg(file).args(target);
            command.args(["--", "sleep", seconds]);
            command
        };
        Ok(match peer.kind {
            Kind::Holdup => {
                let mut command = Command::new(&self.holdup);
                command.args(["record", "--quiet", "--force", "-p", &pid]);
                command
                    .args(["-d", &format!("{seconds}s"), "-f", "json", "-o"])
                    .arg(file);
                command
            }
            Kind::Offcputime => {
                let mut command = Command::new(OFFCPUTIME);
                // By default it has room for so few stacks that most are missed here.
                command.args(["-p", &pid, "--stack-storage-size", "16384", seconds]);
                command
            }
            Kind::PerfSwitches => perf(
                &[
                    "record",
                    "-q",
                    "-e",
                    "sched:sched_switch",
                    "--call-graph",
                    "dwarf",
                ],
                &["-p", &pid],
            ),
            Kind::PerfSamples => perf(
                &["record", "-q", "-F", "99", "--call-graph", "dwarf"],
                &["-p", &pid],
            ),
            // It records all of the machine.
            Kind::PerfSched => perf(&["sched", "record"], &[]),
            Kind::PerfTrace => perf(&["trace", "-s"], &["-p", &pid]),
            Kind::Hud => {
                let mut command = Command::new(self.hud.as_deref().unwrap_or(Path::new("hud")));
                command.args([
                    "--pid",
                    &pid,
                    "--headless",
                    "--quiet",
                    "--duration",
                    seconds,
                    "--export",
                ]);
                command.arg(file);
                command
            }
            Kind::Offwaketime | Kind::Console | Kind::Dial9 => bail!("it does not run here"),
        })
    }

    /// What the tool says of the process.
    pub(super) fn entries(&self, peer: &Peer, pid: u32) -> Result<Vec<Entry>> {
        let path = self.path(peer);
        let text = || std::fs::read_to_string(&path).context("it left nothing that can be read");
        let script = |words: &[&str]| {
            let mut perf = Command::new("perf");
            perf.args(words).arg("-i").arg(&path);
            process::output(&mut perf)
        };
        let stacks = || {
            script(&["script", "--no-inline", "-F", "comm,tid,ip,sym"])
                .map(|text| read::perf_script(&text))
        };
        let entries = match peer.kind {
            Kind::Holdup => return read::holdup(&text()?),
            Kind::Offcputime => read::offcputime(&text()?),
            Kind::PerfSwitches | Kind::PerfSamples => stacks()?,
            Kind::PerfSched => read::perf_sched(&script(&["sched", "timehist"])?, pid),
            Kind::PerfTrace => read::perf_trace(&text()?),
            Kind::Hud => read::hud(&text()?)?,
            Kind::Offwaketime | Kind::Console | Kind::Dial9 => Vec::new(),
        };
        if entries.is_empty() {
            bail!("it recorded nothing");
        }
        Ok(merged(entries))
    }
}

/// Of tools that are compiled into the program.
const NEEDS_ANOTHER_PROGRAM: &str = "it is compiled into the program, with tokio's unstable part: that would be another \
     program than the one that all the others look at as it is";

/// Why tools that attach to functions of the kernel do not run, as far as it can be seen from here.
fn no_kprobes() -> &'static str {
    match Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        true => "it is compiled when it starts, against the kernel's headers, and is not measured",
        false => "it attaches to functions of the kernel, and this kernel has no kprobes",
    }
}
