//! The runtimes of an instant: workers that had entered the same one.

use super::threads::Row;
use crate::analyze::guessed_groups::{self, Drivers, Worker, without_number};
use crate::analyze::stack_facts::most;
use crate::recording::{ProcessId, ThreadId};
use crate::report::dump::{Deadlock, DumpKind, DumpRuntime};
use crate::report::{GroupedBy, RuntimeKind};
use crate::runtime::tokio::RuntimeHandle;
use crate::runtime::{Flavor, Role, State};
use crate::units::{Nanos, Pid, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What makes a runtime one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// By its handle; none where no worker of the process tells.
    MultiThread(ProcessId, Option<RuntimeHandle>),
    /// By its first thread.
    Guessed(ProcessId, Tid),
    CurrentThread(ProcessId, Tid),
}

/// Finds the runtimes, and says of each worker to which it belongs.
pub(super) fn runtimes(
    rows: &mut [Row],
    drivers: &Drivers,
    deadlocks: &[Deadlock],
    standing: &BTreeSet<ThreadId>,
) -> Vec<DumpRuntime> {
    place_by_name(rows);
    let largest = largest(rows);
    let guessed = guessed(rows, drivers);
    let mut members: BTreeMap<Owner, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let guess = guessed.get(&row.thread);
        if let Some(owner) = guess.copied().or_else(|| owner(row, &largest)) {
            members.entry(owner).or_default().push(index);
        }
    }
    let of_circles: BTreeSet<(Pid, Tid)> = deadlocks
        .iter()
        .flat_map(|circle| circle.threads.iter().map(|tid| (circle.pid, *tid)))
        .collect();
    let mut found: Vec<(DumpRuntime, Owner, Vec<usize>)> = members
        .into_iter()
        .map(|(owner, members)| {
            let of: Vec<&Row> = members
                .iter()
                .filter_map(|index| rows.get(*index))
                .collect();
            (runtime(owner, &of, &of_circles, standing), owner, members)
        })
        .collect();
    found.sort_by_key(|(runtime, owner, _)| {
        (
            runtime.finding,
            Reverse(runtime.workers),
            runtime.pid,
            *owner,
        )
    });
    let mut runtimes = Vec::with_capacity(found.len());
    for (number, (mut runtime, _, members)) in found.into_iter().enumerate() {
        runtime.id = format!("rt{number}");
        for index in members {
            if let Some(row) = rows.get_mut(index) {
                row.told.runtime = Some(runtime.id.clone());
            }
        }
        runtimes.push(runtime);
    }
    runtimes
}

/// The workers of processes in which none tells its runtime, where they are of several for all that
/// is known.
fn guessed(rows: &[Row], drivers: &Drivers) -> BTreeMap<ThreadId, Owner> {
    let mut workers: BTreeMap<ProcessId, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_worker(row)) {
        workers.entry(row.thread.process).or_default().push(row);
    }
    workers.retain(|_, rows| rows.iter().all(|row| row.handle.is_none()));
    let mut owners = BTreeMap::new();
    for (process, rows) in workers {
        let workers = rows.into_iter().map(|row| Worker {
            thread: row.thread,
            name: without_number(&row.told.name),
            drivers: drivers.of(row.thread),
        });
        let groups = guessed_groups::groups(workers.collect());
        for group in groups.iter().filter(|_| groups.len() > 1) {
            let first = group.threads.first().map_or(Tid(0), |thread| thread.tid);
            let owner = Owner::Guessed(process, first);
            owners.extend(group.threads.iter().map(|thread| (*thread, owner)));
        }
    }
    owners
}

/// Threads without a stack, since they run and no sample met them or since there was no time to read it, are
/// workers where they have the name of some, but for a number at its end.
fn place_by_name(rows: &mut [Row]) {
    let name = |row: &Row| {
        (
            row.thread.process,
            without_number(&row.told.name).to_owned(),
        )
    };
    let workers = rows
        .iter()
        .filter(|row| is_worker(row) && row.handle.is_some());
    let handles: BTreeMap<(ProcessId, String), Option<RuntimeHandle>> =
        workers.map(|row| (name(row), row.handle)).collect();
    for row in rows {
        let may_be = matches!(
            row.told.state,
            State::Running | State::Runnable | State::Unknown
        );
        let unplaced = may_be && row.told.stack.is_empty() && row.told.role == Role::None;
        if unplaced && let Some(handle) = handles.get(&name(row)) {
            row.told.role = Role::Worker(Flavor::MultiThread);
            row.handle = *handle;
        }
    }
}

/// The runtime with the most workers of each process, for those that do not say which is theirs.
fn largest(rows: &[Row]) -> BTreeMap<ProcessId, RuntimeHandle> {
    let mut workers: BTreeMap<ProcessId, BTreeMap<RuntimeHandle, usize>> = BTreeMap::new();
    for row in rows {
        if let (true, Some(handle)) = (is_worker(row), row.handle) {
            let of = workers.entry(row.thread.process).or_default();
            *of.entry(handle).or_default() += 1;
        }
    }
    let workers = workers.into_iter();
    workers
        .filter_map(|(process, handles)| Some((process, most(handles)?)))
        .collect()
}

/// A worker that gave its core away is none until it has one again.
fn is_worker(row: &Row) -> bool {
    row.told.role == Role::Worker(Flavor::MultiThread) && row.told.state != State::HandedOff
}

/// No lock of tokio's own is waited for so long. It is code that it called, of which no name is known.
const HELD: Nanos = Nanos(10_000_000);

fn is_held_outside_polls(row: &Row) -> bool {
    let is_long = row.told.since_ns.is_some_and(|since| since >= HELD);
    row.told.state == State::Runtime && is_long
}

fn owner(row: &Row, largest: &BTreeMap<ProcessId, RuntimeHandle>) -> Option<Owner> {
    let process = row.thread.process;
    match row.told.role {
        Role::Worker(Flavor::CurrentThread) => Some(Owner::CurrentThread(process, row.thread.tid)),
        _ if is_worker(row) => {
            let handle = row.handle.or_else(|| largest.get(&process).copied());
            Some(Owner::MultiThread(process, handle))
        }
        _ => None,
    }
}

fn runtime(
    owner: Owner,
    of: &[&Row],
    of_circles: &BTreeSet<(Pid, Tid)>,
    standing: &BTreeSet<ThreadId>,
) -> DumpRuntime {
    let count = |state: State| {
        let count = of.iter().filter(|row| row.told.state == state).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let workers = u32::try_from(of.len()).unwrap_or(u32::MAX);
    let (blocked, idle, stopped) = (
        count(State::Blocked),
        count(State::Idle),
        count(State::Stopped),
    );
    let (running, runnable) = (count(State::Running), count(State::Runnable));
    let all_blocked_ns = if blocked == workers {
        let times = of.iter().filter_map(|row| row.told.since_ns);
        times.min().unwrap_or_default()
    } else {
        Nanos::ZERO
    };
    let in_deadlock = of
        .iter()
        .any(|row| of_circles.contains(&(row.told.pid, row.told.tid)));
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for row in of {
        *names.entry(&row.told.name).or_default() += 1;
    }
    let others = workers.saturating_sub(blocked + idle + stopped + running + runnable);
    let stand = of.iter().all(|row| standing.contains(&row.thread));
    let finding = if in_deadlock || blocked == workers && stand {
        DumpKind::Wedged
    } else if stopped == workers {
        DumpKind::Stopped
    } else if blocked == workers {
        DumpKind::AllBlocked
    } else if blocked > 0 {
        DumpKind::Blocked
    } else if others > count(State::Runtime) || of.iter().any(|row| is_held_outside_polls(row)) {
        DumpKind::Unclear
    } else {
        DumpKind::Healthy
    };
    DumpRuntime {
        id: String::new(),
        pid: of.first().map_or(Pid(0), |row| row.told.pid),
        kind: match owner {
            Owner::MultiThread(..) | Owner::Guessed(..) => RuntimeKind::MultiThread,
            Owner::CurrentThread(..) => RuntimeKind::CurrentThread,
        },
        grouped_by: match owner {
            Owner::MultiThread(_, Some(_)) => GroupedBy::Handle,
            Owner::MultiThread(_, None) => GroupedBy::Process,
            Owner::Guessed(..) => GroupedBy::Guess,
            Owner::CurrentThread(..) => GroupedBy::Thread,
        },
        thread_name: most(names).unwrap_or_default().to_owned(),
        finding,
        workers,
        blocked,
        idle,
        running,
        runnable,
        stopped,
        others,
        all_blocked_ns,
        in_deadlock,
    }
}
