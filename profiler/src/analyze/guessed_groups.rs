//! Which workers belong together where tokio's thread-local state does not say: a guess.
//!
//! Workers of one runtime wait in turn for the events of its I/O driver, an epoll instance that no
//! other runtime has, and a runtime's builder gives all its threads one name. So workers that were
//! seen to wait for the same epoll instance belong together; those that were seen at none go with
//! the others of their name. A name alone makes a group only if two workers have it: a program may
//! name each of its threads.

use crate::arch::waits_in_epoll;
use crate::recording::{Interval, ObjectId, ObjectKind, StackId, Tables, ThreadId};
use crate::runtime::{Flavor, Role, State};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Epoll instances by thread that are kept: a worker has one for as long as it lives.
const MAX_DRIVERS: usize = 4;

/// The epoll instances in which threads were parked as workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Drivers(BTreeMap<ThreadId, BTreeSet<ObjectId>>);

impl Drivers {
    /// Adds what `interval` shows; of at most `most` threads.
    pub(super) fn add(&mut self, tables: &Tables, interval: &Interval, most: usize) {
        let sums = interval.sums.iter();
        let sums = sums.map(|sum| (sum.thread, sum.stack, sum.object));
        let open = interval.open_waits.iter();
        let open = open.map(|open| (open.thread, open.stack, open.began_for));
        for (thread, stack, object) in sums.chain(open) {
            let is_epoll = |object: &ObjectId| {
                let object = tables.object(*object);
                object.is_some_and(|object| object.object.kind == ObjectKind::Poll)
            };
            let driver = object.filter(|_| parks_in_driver(tables, stack));
            let Some(object) = driver.filter(is_epoll) else {
                continue;
            };
            if self.0.len() < most || self.0.contains_key(&thread) {
                let drivers = self.0.entry(thread).or_default();
                if drivers.len() < MAX_DRIVERS {
                    drivers.insert(object);
                }
            }
        }
    }

    /// Those of a thread.
    pub(super) fn of(&self, thread: ThreadId) -> BTreeSet<ObjectId> {
        self.0.get(&thread).cloned().unwrap_or_default()
    }
}

fn parks_in_driver(tables: &Tables, stack: StackId) -> bool {
    tables.stack(stack).is_some_and(|stack| {
        stack.class.state == State::Idle
            && stack.class.role == Role::Worker(Flavor::MultiThread)
            && stack.syscall.is_some_and(waits_in_epoll)
    })
}

/// A worker, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Worker<'a> {
    pub(super) thread: ThreadId,
    /// Without a number at its end.
    pub(super) name: &'a str,
    /// The epoll instances in which it was parked.
    pub(super) drivers: BTreeSet<ObjectId>,
}

/// Workers that are taken for those of one runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    /// The name of most of them.
    pub(super) name: &'a str,
    /// In ascending order; at least one.
    pub(super) threads: Vec<ThreadId>,
    pub(super) drivers: BTreeSet<ObjectId>,
}

impl<'a> Group<'a> {
    fn of(workers: &[Worker<'a>]) -> Group<'a> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for worker in workers {
            *names.entry(worker.name).or_default() += 1;
        }
        let most = names
            .into_iter()
            .max_by_key(|(name, count)| (*count, Reverse(*name)));
        let mut threads: Vec<ThreadId> = workers.iter().map(|worker| worker.thread).collect();
        threads.sort_unstable();
        let drivers = workers.iter().flat_map(|worker| &worker.drivers);
        Group {
            name: most.map_or("", |(name, _)| name),
            threads,
            drivers: drivers.copied().collect(),
        }
    }

    fn join(&mut self, threads: impl IntoIterator<Item = ThreadId>) {
        self.threads.extend(threads);
        self.threads.sort_unstable();
    }
}

/// A thread's name without a number at its end, as a runtime's threads have one.
pub(super) fn without_number(name: &str) -> &str {
    name.trim_end_matches(|letter: char| letter.is_ascii_digit() || "-_#:. ".contains(letter))
}

/// Leaves out the workers of which nothing says that they are of another runtime than others are.
pub(super) fn leave_out_single(workers: &mut Vec<Worker<'_>>) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in workers.iter() {
        *names.entry(worker.name).or_default() += 1;
    }
    workers.retain(|worker| {
        let of_name = names.get(worker.name).copied().unwrap_or_default();
        !worker.drivers.is_empty() || of_name > 1
    });
}

/// The groups of one process's workers, the largest first.
pub(super) fn groups<'a>(workers: Vec<Worker<'a>>) -> Vec<Group<'a>> {
    let (in_driver, elsewhere): (Vec<_>, Vec<_>) = workers
        .into_iter()
        .partition(|worker| !worker.drivers.is_empty());
    let mut groups: Vec<Group<'a>> = by_driver(in_driver)
        .iter()
        .map(|workers| Group::of(workers))
        .collect();
    sort(&mut groups);
    let mut by_name: BTreeMap<&str, Vec<Worker<'a>>> = BTreeMap::new();
    for worker in elsewhere {
        by_name.entry(worker.name).or_default().push(worker);
    }
    let mut singles = Vec::new();
    let mut named = Vec::new();
    for (name, workers) in by_name {
        let threads = workers.iter().map(|worker| worker.thread);
        if let Some(group) = groups.iter_mut().find(|group| group.name == name) {
            group.join(threads);
        } else if workers.len() > 1 {
            named.push(Group::of(&workers));
        } else {
            singles.extend(workers);
        }
    }
    groups.extend(named);
    sort(&mut groups);
    match groups.first_mut() {
        Some(largest) => largest.join(singles.iter().map(|worker| worker.thread)),
        None if singles.is_empty() => {}
        None => groups.push(Group::of(&singles)),
    }
    groups
}

fn sort(groups: &mut [Group<'_>]) {
    groups.sort_by_key(|group| (Reverse(group.threads.len()), group.threads.first().copied()));
}

/// Workers of which each has an epoll instance in common with another of its part.
fn by_driver<'a>(workers: Vec<Worker<'a>>) -> Vec<Vec<Worker<'a>>> {
    let mut parts: Vec<(BTreeSet<ObjectId>, Vec<Worker<'a>>)> = Vec::new();
    for worker in workers {
        let mut drivers = worker.drivers.clone();
        let mut together = vec![worker];
        let (same, others): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|(of_part, _)| !of_part.is_disjoint(&drivers));
        for (of_part, workers) in same {
            drivers.extend(of_part);
            together.extend(workers);
        }
        parts = others;
        parts.push((drivers, together));
    }
    parts.into_iter().map(|(_, workers)| workers).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::thread;
    use super::*;

    fn worker<'a>(tid: u32, name: &'a str, drivers: &[u32]) -> Worker<'a> {
        Worker {
            thread: thread(tid),
            name,
            drivers: drivers.iter().copied().map(ObjectId).collect(),
        }
    }

    fn grouped(workers: Vec<Worker<'_>>) -> Vec<Vec<u32>> {
        let tids = |group: Group<'_>| group.threads.iter().map(|thread| thread.tid.0).collect();
        groups(workers).into_iter().map(tids).collect()
    }

    #[test]
    fn workers_that_share_an_epoll_instance_belong_together() {
        let workers = vec![
            worker(1, "tokio-rt", &[7]),
            worker(2, "tokio-rt", &[8]),
            worker(3, "tokio-rt", &[7]),
            // The runtime was made anew, with another descriptor.
            worker(4, "tokio-rt", &[8, 9]),
            worker(5, "tokio-rt", &[9]),
        ];
        assert_eq!(grouped(workers), [vec![2, 4, 5], vec![1, 3]]);
    }

    #[test]
    fn a_worker_that_was_in_no_driver_goes_with_its_name() {
        let workers = vec![
            worker(1, "app", &[7]),
            worker(2, "app", &[]),
            worker(3, "side", &[8]),
            worker(4, "side", &[]),
            worker(5, "side", &[]),
        ];
        assert_eq!(grouped(workers), [vec![3, 4, 5], vec![1, 2]]);
    }

    #[test]
    fn a_name_makes_a_group_if_two_have_it() {
        let workers = |of_second: &'static str| {
            vec![
                worker(1, "app", &[]),
                worker(2, "app", &[]),
                worker(3, "side", &[]),
                worker(4, of_second, &[]),
            ]
        };
        assert_eq!(grouped(workers("side")), [vec![1, 2], vec![3, 4]]);
        // Threads with a name each are of one runtime, for all that is known.
        assert_eq!(grouped(workers("other")), [vec![1, 2, 3, 4]]);
        let each = vec![worker(2, "a", &[]), worker(1, "b", &[])];
        assert_eq!(grouped(each), [vec![1, 2]]);
        assert_eq!(grouped(Vec::new()), Vec::<Vec<u32>>::new());
    }
}
