//! The processes of a recording, by their ids and by those that the kernel gives them.

use super::traced_process::TracedProcess;
use crate::decode::ThreadKey;
use crate::recording::{ProcessId, ThreadId};
use crate::units::Pid;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Processes that have rows of their own at most, those that ended included; of each some hundred bytes are
/// kept for good.
const MAX_PROCESSES: usize = 1 << 14;

/// As long after the end of a process nothing comes of it any more, and its row may be another's, too.
const REST: Duration = Duration::from_secs(3);

/// Rows that are looked at for one of the same program.
const MAX_LOOKED_AT: usize = 256;

/// The kernel side's sums have been taken so often after the end of a process when none of them is its:
/// once may have begun before it.
const SUMS_OF_ENDED: u64 = 2;

/// When a process had ended for good.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at: Instant,
    /// [`ProcessList::sums_taken`] then.
    sums_taken: u64,
}

/// All processes so far.
#[derive(Debug)]
pub(super) struct ProcessList {
    all: Vec<TracedProcess>,
    /// Those that have not ended for good, in the order of their ids: of many thousands mostly a
    /// few.
    living: Vec<ProcessId>,
    /// Of one pid, the process that was born last.
    by_pid: HashMap<Pid, ProcessId>,
    /// The others, and since when.
    ended: VecDeque<(ProcessId, Ended)>,
    /// How often the kernel side's sums were taken.
    sums_taken: u64,
    /// So many have rows of their own. Those that come later are summed up with ones that ended.
    apart: usize,
}

impl ProcessList {
    /// Without any process.
    pub(super) fn new(apart: usize) -> ProcessList {
        ProcessList {
            all: Vec::new(),
            living: Vec::new(),
            by_pid: HashMap::new(),
            ended: VecDeque::new(),
            sums_taken: 0,
            apart,
        }
    }

    /// The id of the process that comes next; none where there is no room for one more. Where there are
    /// many, it is that of one that has ended, which executed `exe` at first, too, if there is one.
    pub(super) fn next(&self, exe: &str) -> Option<ProcessId> {
        let new = || {
            let next = u32::try_from(self.all.len()).ok()?;
            (self.all.len() < MAX_PROCESSES).then_some(ProcessId(next))
        };
        if self.all.len() < self.apart {
            return new();
        }
        let rested = self.ended.iter().take_while(|(_, ended)| {
            ended.at.elapsed() >= REST && self.sums_taken >= ended.sums_taken + SUMS_OF_ENDED
        });
        let mut rested = rested.map(|(id, _)| *id).take(MAX_LOOKED_AT).peekable();
        let first = rested.peek().copied();
        let is_same = |id: &ProcessId| self.get(*id).is_some_and(|old| old.first_exe() == exe);
        rested.find(is_same).or_else(new).or(first)
    }

    /// Adds a process, which has the [`next`](ProcessList::next) id.
    pub(super) fn push(&mut self, mut process: TracedProcess) {
        let id = process.id;
        if let Some(old) = self.all.get_mut(id.index()) {
            process.before = old.before + 1;
            let old = std::mem::replace(old, process);
            self.ended.retain(|(ended, _)| *ended != id);
            if self.by_pid.get(&old.pid) == Some(&id) {
                self.by_pid.remove(&old.pid);
            }
        } else {
            self.all.push(process);
        }
        if let Some(process) = self.get(id) {
            let pid = process.pid;
            self.by_pid.insert(pid, id);
        }
        let at = self.living.partition_point(|living| *living < id);
        self.living.insert(at, id);
    }

    /// A process.
    pub(super) fn get(&self, id: ProcessId) -> Option<&TracedProcess> {
        self.all.get(id.index())
    }

    /// A process, to be changed.
    pub(super) fn get_mut(&mut self, id: ProcessId) -> Option<&mut TracedProcess> {
        self.all.get_mut(id.index())
    }

    /// The process that has this pid now, or had it last.
    pub(super) fn by_pid(&self, pid: Pid) -> Option<ProcessId> {
        self.by_pid.get(&pid).copied()
    }

    /// The thread that the kernel calls so now; none of a process that is not recorded.
    pub(super) fn thread(&self, key: ThreadKey) -> Option<ThreadId> {
        let process = self.by_pid(key.pid)?;
        Some(ThreadId {
            process,
            tid: key.tid,
        })
    }

    /// All in the order of their ids.
    pub(super) fn as_slice(&self) -> &[TracedProcess] {
        &self.all
    }

    /// Those that have not ended for good.
    pub(super) fn living(&self) -> impl Iterator<Item = &TracedProcess> {
        let living = self.living.iter().filter_map(|id| self.get(*id));
        living.filter(|process| !process.is_released())
    }

    /// As [`ProcessList::living`], to be changed.
    pub(super) fn living_mut(&mut self) -> impl Iterator<Item = &mut TracedProcess> {
        let (mut rest, mut first) = (self.all.as_mut_slice(), 0);
        let living = self.living.iter().filter_map(move |id| {
            let at = id.index().checked_sub(first)?;
            let (process, behind) = std::mem::take(&mut rest).get_mut(at..)?.split_first_mut()?;
            (rest, first) = (behind, id.index() + 1);
            Some(process)
        });
        living.filter(|process| !process.is_released())
    }

    /// Takes those that have been [released](TracedProcess::release) out of the living.
    pub(super) fn forget_released(&mut self) {
        let now = Ended {
            at: Instant::now(),
            sums_taken: self.sums_taken,
        };
        let (all, ended) = (&self.all, &mut self.ended);
        self.living.retain(|id| {
            let lives = all.get(id.index()).is_some_and(|p| !p.is_released());
            if !lives {
                ended.push_back((*id, now));
            }
            lives
        });
    }

    /// The kernel side's sums of all waits up to now have been taken.
    pub(super) fn took_sums(&mut self) {
        self.sums_taken += 1;
    }

    /// All, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut TracedProcess> {
        self.all.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Target;
    use crate::units::{Tid, Timestamp};
    use std::sync::Arc;

    #[test]
    fn of_one_pid_the_last_process_is_meant_and_each_has_an_id_of_its_own() {
        let pid = Pid(std::process::id());
        let target = Arc::new(Target::open(pid).expect("we live"));
        let mut list = ProcessList::new(100);
        let first = list.next("").expect("room");
        list.push(TracedProcess::new(first, 0, target));
        let key = ThreadKey { pid, tid: Tid(9) };
        assert_eq!(list.thread(key).map(|thread| thread.process), Some(first));
        // The pid is given to a process that the first one forks.
        let second = list.next("").expect("room");
        let parent = list.get(first).expect("it is there");
        let child = parent.child(second, 1, pid, Timestamp(5));
        list.push(child);
        assert_ne!(first, second);
        assert_eq!(list.thread(key).map(|thread| thread.process), Some(second));
        assert_eq!(list.as_slice().len(), 2);
        let other = ThreadKey { pid: Pid(0), ..key };
        assert_eq!(list.thread(other), None);
    }

    #[test]
    fn those_that_have_been_released_are_walked_over_no_more() {
        let own = Arc::new(Target::open(Pid(std::process::id())).expect("we live"));
        let mut list = ProcessList::new(100);
        for _ in 0..5 {
            let id = list.next("").expect("room");
            list.push(TracedProcess::new(id, id.0, Arc::clone(&own)));
        }
        let ids = |list: &mut ProcessList| {
            let living: Vec<u32> = list.living().map(|process| process.id.0).collect();
            let changed: Vec<u32> = list.living_mut().map(|process| process.id.0).collect();
            assert_eq!(living, changed);
            living
        };
        assert_eq!(ids(&mut list), [0, 1, 2, 3, 4]);
        for id in [0, 2, 3] {
            list.get_mut(ProcessId(id))
                .expect("there")
                .release_for_test();
        }
        assert_eq!(ids(&mut list), [1, 4]);
        list.forget_released();
        assert_eq!(list.living.len(), 2);
        assert_eq!(ids(&mut list), [1, 4]);
        assert_eq!(list.as_slice().len(), 5);
    }

    #[test]
    fn beyond_some_processes_rows_are_those_of_ended_ones_of_the_same_program() {
        let own = Arc::new(Target::open(Pid(std::process::id())).expect("we live"));
        let mut list = ProcessList::new(2);
        let add = |list: &mut ProcessList, exe: &str| {
            let id = list.next(exe).expect("room");
            let mut process = TracedProcess::new(id, 0, Arc::clone(&own));
            process.pid = Pid(1000 + list.as_slice().len() as u32);
            process.facts.exe = exe.to_owned();
            list.push(process);
            id.0
        };
        assert_eq!([add(&mut list, "a"), add(&mut list, "b")], [0, 1]);
        assert_eq!(add(&mut list, "a"), 2, "nobody has ended");
        for id in [0, 1] {
            let process = list.get_mut(ProcessId(id)).expect("there");
            process.release_for_test();
        }
        list.forget_released();
        assert_eq!(
            add(&mut list, "b"),
            3,
            "more may come of the one that has just ended"
        );
        for (_, ended) in &mut list.ended {
            ended.at -= REST;
        }
        list.took_sums();
        assert_eq!(
            list.next("b"),
            Some(ProcessId(4)),
            "its sums may not have been taken yet"
        );
        list.took_sums();
        let old = list.get(ProcessId(1)).expect("there").pid;
        assert_eq!(add(&mut list, "b"), 1);
        assert_eq!(list.get(ProcessId(1)).expect("there").before, 1);
        assert_eq!(list.by_pid(old), None);
        let living: Vec<u32> = list.living().map(|process| process.id.0).collect();
        assert_eq!(living, [1, 2, 3]);
        assert_eq!(add(&mut list, "c"), 4, "of its program none has ended");
        assert_eq!(add(&mut list, "a"), 0);
        assert_eq!(list.as_slice().len(), 5);
    }
}
