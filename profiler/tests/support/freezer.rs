//! The freezers of control groups, of both versions.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Until all threads of a group are frozen.
const SOON: Duration = Duration::from_secs(10);

/// The versions of control groups; each has a freezer of its own in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V1,
    V2,
}

/// What is written, and what is read in another file when it has happened.
struct Words {
    file: &'static str,
    freeze: &'static str,
    thaw: &'static str,
    state: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

impl Version {
    const fn words(self) -> Words {
        match self {
            Version::V1 => Words {
                file: "freezer.state",
                freeze: "FROZEN",
                thaw: "THAWED",
                state: "freezer.state",
                frozen: "FROZEN",
                thawed: "THAWED",
            },
            Version::V2 => Words {
                file: "cgroup.freeze",
                freeze: "1",
                thaw: "0",
                state: "cgroup.events",
                frozen: "frozen 1",
                thawed: "frozen 0",
            },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Version::V1 => "version 1",
            Version::V2 => "version 2",
        }
    }

    /// Where control groups of this version are mounted, the freezer's for version 1.
    fn root(self) -> io::Result<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
            let is_it = match self {
                Version::V1 => kind == "cgroup" && options.split(',').any(|word| word == "freezer"),
                Version::V2 => kind == "cgroup2",
            };
            is_it.then(|| PathBuf::from(at))
        });
        root.ok_or_else(|| io::Error::other("none is mounted"))
    }

    /// The group of a process, below the root.
    fn group_of(self, pid: u32) -> io::Result<PathBuf> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let own = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let is_it = match self {
                Version::V1 => controllers.split(',').any(|word| word == "freezer"),
                Version::V2 => controllers.is_empty(),
            };
            is_it.then(|| path.trim_start_matches('/').to_owned())
        });
        Ok(self.root()?.join(own.unwrap_or_default()))
    }

    fn new_group(self) -> io::Result<PathBuf> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("holdup-freezer-{}-{number}", std::process::id());
        let dir = self.root()?.join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Why there can be none here, if there cannot.
    pub(crate) fn missing(self) -> Option<String> {
        let made = self.new_group().and_then(|dir| {
            let frozen = fs::read_to_string(dir.join(self.words().file));
            fs::remove_dir(&dir)?;
            frozen
        });
        let error = made.err()?;
        Some(format!(
            "no control group of {} can be made and frozen: {error}",
            self.name()
        ))
    }
}

/// A group with one process. Dropped, the process is where it was, and goes on.
pub(crate) struct Freezer {
    version: Version,
    dir: PathBuf,
    pid: u32,
    before: PathBuf,
}

impl Freezer {
    /// Puts a process into a group of its own.
    pub(crate) fn of(version: Version, pid: u32) -> Result<Freezer, String> {
        let failed = |error: io::Error| format!("the control group of {pid}: {error}");
        let before = version.group_of(pid).map_err(failed)?;
        let dir = version.new_group().map_err(failed)?;
        let freezer = Freezer {
            version,
            dir,
            pid,
            before,
        };
        fs::write(freezer.dir.join("cgroup.procs"), pid.to_string()).map_err(failed)?;
        Ok(freezer)
    }

    pub(crate) const fn is_of_version_1(&self) -> bool {
        matches!(self.version, Version::V1)
    }

    /// Freezes the process, or lets it go on, and waits until it is so.
    pub(crate) fn freeze(&self, freeze: bool) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.dir.display());
        let words = self.version.words();
        let [value, event] = match freeze {
            true => [words.freeze, words.frozen],
            false => [words.thaw, words.thawed],
        };
        fs::write(self.dir.join(words.file), value).map_err(failed)?;
        let begun = Instant::now();
        loop {
            let events = fs::read_to_string(self.dir.join(words.state)).map_err(failed)?;
            if events.lines().any(|line| line == event) {
                return Ok(());
            }
            if begun.elapsed() > SOON {
                return Err(format!(
                    "{}: not `{event}`, but {events}",
                    self.dir.display()
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // The process may have ended meanwhile.
        let words = self.version.words();
        let _ = fs::write(self.dir.join(words.file), words.thaw);
        let _ = fs::write(self.before.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.dir);
    }
}
