//! The freezer of control groups of version 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Until all threads of a group are frozen.
const SOON: Duration = Duration::from_secs(10);

/// A group with one process. Dropped, the process is where it was, and goes on.
pub(crate) struct Freezer {
    dir: PathBuf,
    pid: u32,
    before: PathBuf,
}

impl Freezer {
    /// Why there can be none here, if there cannot.
    pub(crate) fn missing() -> Option<String> {
        let made = new_group().and_then(|dir| {
            let frozen = fs::read_to_string(dir.join("cgroup.freeze"));
            fs::remove_dir(&dir)?;
            frozen
        });
        let error = made.err()?;
        Some(format!(
            "no control group of version 2 can be made and frozen: {error}"
        ))
    }

    /// Puts a process into a group of its own.
    pub(crate) fn of(pid: u32) -> Result<Freezer, String> {
        let failed = |error: io::Error| format!("the control group of {pid}: {error}");
        let root = root().map_err(failed)?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(failed)?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let before = root.join(own.unwrap_or_default());
        let dir = new_group().map_err(failed)?;
        let freezer = Freezer { dir, pid, before };
        fs::write(freezer.dir.join("cgroup.procs"), pid.to_string()).map_err(failed)?;
        Ok(freezer)
    }

    /// Freezes the process, or lets it go on, and waits until it is so.
    pub(crate) fn freeze(&self, freeze: bool) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", self.dir.display());
        let [value, event] = match freeze {
            true => ["1", "frozen 1"],
            false => ["0", "frozen 0"],
        };
        fs::write(self.dir.join("cgroup.freeze"), value).map_err(failed)?;
        let begun = Instant::now();
        loop {
            let events = fs::read_to_string(self.dir.join("cgroup.events")).map_err(failed)?;
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
        let _ = fs::write(self.dir.join("cgroup.freeze"), "0");
        let _ = fs::write(self.before.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Where control groups of version 2 are mounted.
fn root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is_v2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let mount = mounts
        .lines()
        .find(is_v2)
        .and_then(|line| line.split(' ').nth(1));
    let mount = mount.map(|mount| Path::new(mount).to_owned());
    mount.ok_or_else(|| io::Error::other("none is mounted"))
}

fn new_group() -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("holdup-freezer-{}-{number}", std::process::id());
    let dir = root()?.join(name);
    fs::create_dir(&dir)?;
    Ok(dir)
}
