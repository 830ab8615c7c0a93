//! A control group with a limit on memory, of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";
/// Between two looks at what a group takes.
const GLANCE: Duration = Duration::from_millis(5);

/// A group that is removed with the value.
pub(crate) struct Cgroup(PathBuf);

/// Looks at what a group takes, until it is asked for the most.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The directory in which groups with limits on memory can be made.
fn parent() -> PathBuf {
    match is_v2() {
        true => ROOT.into(),
        false => Path::new(ROOT).join("memory"),
    }
}

impl Cgroup {
    /// Why there can be none here, if there cannot.
    pub(crate) fn missing() -> Option<String> {
        match Cgroup::new(1 << 30) {
            Ok(_) => None,
            Err(error) => Some(format!(
                "no control group with a limit can be made: {error}"
            )),
        }
    }

    /// Makes one with a limit in bytes, swap included.
    pub(crate) fn new(limit: u64) -> std::io::Result<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if is_v2() {
            fs::write(parent().join("cgroup.subtree_control"), "+memory")?;
        }
        let dir = parent().join(format!("holdup-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = Cgroup(dir);
        match is_v2() {
            true => {
                fs::write(group.0.join("memory.max"), limit.to_string())?;
                // Not there without swap.
                let _ = fs::write(group.0.join("memory.swap.max"), "0");
            }
            false => fs::write(group.0.join("memory.limit_in_bytes"), limit.to_string())?,
        }
        Ok(group)
    }

    /// A program that begins in the group.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(program);
        command
    }

    /// Begins to watch what the group takes that it cannot give back: the page cache is not in it.
    pub(crate) fn watch(&self) -> Watch {
        let (stop, most) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, peak) = (Arc::clone(&stop), Arc::clone(&most));
        let path = self.0.join("memory.stat");
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                peak.fetch_max(held(&text), Ordering::Relaxed);
                std::thread::sleep(GLANCE);
            }
        });
        Watch {
            stop,
            most,
            thread: Some(thread),
        }
    }
}

/// Anonymous and shared memory by a `memory.stat`.
fn held(stat: &str) -> u64 {
    let names: &[&str] = match is_v2() {
        true => &["anon", "shmem"],
        false => &["total_rss", "total_shmem"],
    };
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let of = lines.filter(|(name, _)| names.contains(name));
    of.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum()
}

impl Watch {
    /// The most that was seen.
    pub(crate) fn peak(mut self) -> u64 {
        self.end();
        self.most.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only reads");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is busy until the kernel has buried the last process.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
