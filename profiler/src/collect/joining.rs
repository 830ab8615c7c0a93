//! Processes that begin during a recording and are meant as those were that it began with: the next life
//! of a service, or the program that a deploy put in its place.
//!
//! The kernel tells of each exec, since it maps code, and of each fork. What is told is only where to
//! look: whether a process is meant, `/proc` says.

use crate::process::{Selection, all_pids};
use crate::units::Pid;
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// A forked process has its parent's name until it executes another program, which mostly is at once. Only
/// one that still has it then is meant by it.
const AFTER_FORK: Duration = Duration::from_millis(50);

/// Between two looks for processes that there were not before, where the kernel tells of none.
const LOOK: Duration = Duration::from_millis(50);

/// Between two looks at all processes: one may have come to have the name without an exec.
const LOOK_AT_ALL: Duration = Duration::from_secs(10);

/// Processes told of that wait to be looked at. Beyond these all are looked at.
const MAX_TOLD: usize = 4096;

/// Which processes join, and which may.
#[derive(Debug)]
pub(super) struct Joining {
    selection: Selection,
    /// Whether the kernel tells of execs and forks.
    is_told: bool,
    /// Processes that may be meant, and when they are to be looked at.
    told: BTreeMap<Pid, Instant>,
    /// What was there at the last look.
    known: HashSet<Pid>,
    /// Processes that are meant and cannot be recorded.
    refused: HashSet<Pid>,
    /// Those that found no room.
    without_room: HashSet<Pid>,
    next_look: Instant,
    next_look_at_all: Instant,
}

impl Joining {
    /// Those that are meant, from now on.
    pub(super) fn new(selection: Selection, is_told: bool) -> Joining {
        let now = Instant::now();
        Joining {
            selection,
            is_told,
            told: BTreeMap::new(),
            known: HashSet::new(),
            refused: HashSet::new(),
            without_room: HashSet::new(),
            next_look: now,
            next_look_at_all: now,
        }
    }

    /// A process that is not recorded has mapped code, as after an exec.
    pub(super) fn on_mapped(&mut self, pid: Pid) {
        self.tell(pid, Instant::now());
    }

    /// A process was forked.
    pub(super) fn on_forked(&mut self, pid: Pid) {
        // Another one of this id has ended.
        self.refused.remove(&pid);
        self.without_room.remove(&pid);
        self.tell(pid, Instant::now() + AFTER_FORK);
    }

    /// Something was not told.
    pub(super) fn on_lost(&mut self) {
        // Where much is lost, not at every turn.
        self.next_look_at_all = self.next_look_at_all.min(self.next_look);
    }

    fn tell(&mut self, pid: Pid, due: Instant) {
        if self.told.len() >= MAX_TOLD && !self.told.contains_key(&pid) {
            self.on_lost();
            return;
        }
        let known = self.told.entry(pid).or_insert(due);
        *known = due.min(*known);
    }

    /// Whether one is to be looked at now, which should not wait.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        self.told.values().any(|due| *due <= now)
    }

    /// The processes that are meant by now, of those that are not `recorded`.
    pub(super) fn take(&mut self, recorded: impl Fn(Pid) -> bool) -> Vec<Pid> {
        let now = Instant::now();
        let mut candidates: Vec<Pid> = Vec::new();
        self.told.retain(|pid, due| {
            let is_due = *due <= now;
            candidates.extend(is_due.then_some(*pid));
            !is_due
        });
        self.look(now, &mut candidates);
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|pid| {
            !recorded(*pid) && !self.refused.contains(pid) && self.selection.means(*pid)
        });
        candidates
    }

    /// Adds processes of which nobody told.
    fn look(&mut self, now: Instant, candidates: &mut Vec<Pid>) {
        let all = now >= self.next_look_at_all;
        if !all && (self.is_told || now < self.next_look) {
            return;
        }
        let Ok(pids) = all_pids() else { return };
        let is_new = |pid: &&Pid| all || !self.known.contains(*pid);
        candidates.extend(pids.iter().filter(is_new));
        self.known = pids.into_iter().collect();
        self.refused.retain(|pid| self.known.contains(pid));
        self.without_room.retain(|pid| self.known.contains(pid));
        self.next_look = now + LOOK;
        if all {
            self.next_look_at_all = now + LOOK_AT_ALL;
        }
    }

    /// A process cannot be recorded: it is not looked at again.
    pub(super) fn refuse(&mut self, pid: Pid) {
        self.refused.insert(pid);
    }

    /// There is no room for a process now. Whether that is news.
    pub(super) fn no_room(&mut self, pid: Pid) -> bool {
        self.ask_again(pid);
        self.without_room.insert(pid)
    }

    /// A process is to be looked at again somewhat later.
    pub(super) fn ask_again(&mut self, pid: Pid) {
        self.tell(pid, Instant::now() + AFTER_FORK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Selector;

    fn executing(path: &std::path::Path) -> Selection {
        Selection::of_all(vec![Selector::Exe(path.display().to_string())])
    }

    fn sleeper(dir: &std::path::Path) -> (std::process::Child, Selection) {
        let path = dir.join("a-service");
        let copied = std::process::Command::new("cp")
            .arg("/bin/sleep")
            .arg(&path)
            .status();
        assert!(copied.expect("cp").success());
        let child = std::process::Command::new(&path).arg("60").spawn();
        (child.expect("a copy of sleep runs"), executing(&path))
    }

    #[test]
    fn whoever_is_meant_joins_once_it_is_told_of() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut child, selection) = sleeper(dir.path());
        let pid = Pid(child.id());
        let mut joining = Joining::new(selection, true);
        // The first look is at all.
        assert_eq!(joining.take(|_| false), [pid]);
        assert_eq!(joining.take(|_| false), [], "nobody told of anything");
        joining.on_mapped(Pid(std::process::id()));
        joining.on_mapped(pid);
        assert!(joining.is_due());
        assert_eq!(joining.take(|_| false), [pid]);
        joining.on_mapped(pid);
        assert_eq!(joining.take(|own| own == pid), [], "it is recorded");
        joining.on_forked(pid);
        assert!(!joining.is_due());
        assert_eq!(joining.take(|_| false), [], "it may yet execute something");
        std::thread::sleep(AFTER_FORK);
        assert_eq!(joining.take(|_| false), [pid]);
        assert!(joining.no_room(pid) && !joining.no_room(pid));
        joining.refuse(pid);
        joining.on_lost();
        assert_eq!(joining.take(|_| false), [], "it cannot be recorded");
        joining.on_forked(pid);
        joining.on_mapped(pid);
        assert_eq!(joining.take(|_| false), [pid], "another one of its id");
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    #[test]
    fn where_nobody_tells_processes_are_looked_for() {
        let dir = tempfile::tempdir().expect("dir");
        let selection = executing(&dir.path().join("a-service"));
        let mut joining = Joining::new(selection, false);
        assert_eq!(joining.take(|_| false), []);
        let (mut child, _) = sleeper(dir.path());
        let begun = Instant::now();
        let found = loop {
            let found = joining.take(|_| false);
            if !found.is_empty() || begun.elapsed() > Duration::from_secs(5) {
                break found;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(found, [Pid(child.id())]);
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
}
