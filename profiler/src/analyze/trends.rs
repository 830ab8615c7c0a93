//! Runtimes over the last minutes. Each report numbers its runtimes anew; here one keeps its number.

use super::history::{History, pid};
use crate::recording::{Tables, ThreadId};
use crate::report::{Report, RuntimeKind, RuntimeReport, Trend};
use crate::runtime::Flavor;
use crate::units::Pid;
use std::collections::{BTreeSet, VecDeque};

/// Points that are kept: five minutes.
const KEPT: usize = 300;

/// What is kept of one runtime.
#[derive(Clone, Debug)]
struct Kept {
    pid: Pid,
    kind: RuntimeKind,
    /// Threads that were its workers.
    threads: BTreeSet<ThreadId>,
    workers: usize,
    points: VecDeque<(f64, f64)>,
    dropped: u64,
    /// Whether the last report has it.
    is_current: bool,
}

/// All runtimes that were seen, in the order in which they were.
#[derive(Clone, Debug, Default)]
pub struct Trends(Vec<Kept>);

impl Trends {
    /// Takes the runtimes of a report in. It has them renamed: one that was seen before, by any of its
    /// threads, keeps its name. Returns their numbers.
    pub fn see(&mut self, tables: &Tables, history: &History, report: &mut Report) -> Vec<usize> {
        for kept in &mut self.0 {
            kept.is_current = false;
        }
        let mut names: Vec<(String, String)> = Vec::new();
        let mut numbers = Vec::new();
        for runtime in &report.runtimes {
            let threads = threads(tables, history, report, runtime);
            let number = self.number(runtime, threads);
            names.push((runtime.id.clone(), name(number)));
            numbers.push(number);
        }
        rename(report, &names);
        numbers
    }

    /// Adds a point for the last interval of `history` to each runtime of the last report.
    pub fn tick(&mut self, history: &History) {
        for kept in self.0.iter_mut().filter(|kept| kept.is_current) {
            let point = history.shares(&kept.threads, kept.workers);
            kept.points.push_back(point);
            if kept.points.len() > KEPT {
                kept.points.pop_front();
                kept.dropped += 1;
            }
        }
    }

    /// The name of the runtime that a thread works for.
    #[must_use]
    pub fn runtime_of(&self, thread: ThreadId) -> Option<String> {
        let mut kept = self.0.iter();
        let number = kept.position(|kept| kept.is_current && kept.threads.contains(&thread));
        number.map(name)
    }

    /// The trends of runtimes by their numbers.
    #[must_use]
    pub fn of(&self, numbers: &[usize]) -> Vec<Trend> {
        let kept = numbers.iter().filter_map(|number| self.0.get(*number));
        kept.map(|kept| Trend {
            blocked: kept.points.iter().map(|point| point.0).collect(),
            starved: kept.points.iter().map(|point| point.1).collect(),
            dropped: kept.dropped,
        })
        .collect()
    }

    /// The runtime of which any of these threads was seen before, else a new one.
    fn number(&mut self, runtime: &RuntimeReport, threads: BTreeSet<ThreadId>) -> usize {
        let known = self.0.iter().position(|kept| {
            !kept.is_current
                && kept.pid == runtime.pid
                && kept.kind == runtime.kind
                && !kept.threads.is_disjoint(&threads)
        });
        let workers = usize::try_from(runtime.workers).unwrap_or(usize::MAX);
        if let Some((number, kept)) = known.and_then(|at| Some((at, self.0.get_mut(at)?))) {
            kept.threads = threads;
            kept.workers = workers;
            kept.is_current = true;
            return number;
        }
        self.0.push(Kept {
            pid: runtime.pid,
            kind: runtime.kind,
            threads,
            workers,
            points: VecDeque::new(),
            dropped: 0,
            is_current: true,
        });
        self.0.len() - 1
    }
}

fn name(number: usize) -> String {
    format!("rt{number}")
}

/// The threads that are workers of a runtime. One that mostly is something else, since
/// `block_in_place` has workers take turns, is told by the runtime that it had entered; of the only
/// runtime of its kind it is in any case.
fn threads(
    tables: &Tables,
    history: &History,
    report: &Report,
    runtime: &RuntimeReport,
) -> BTreeSet<ThreadId> {
    let flavor = match runtime.kind {
        RuntimeKind::MultiThread => Flavor::MultiThread,
        RuntimeKind::CurrentThread | RuntimeKind::LocalSet => Flavor::CurrentThread,
    };
    let workers = history.workers(tables, runtime.pid, flavor);
    let alike = report.runtimes.iter();
    let alike = alike.filter(|other| {
        let multi = |kind| kind == RuntimeKind::MultiThread;
        other.pid == runtime.pid && multi(other.kind) == multi(runtime.kind)
    });
    if alike.count() == 1 {
        return workers;
    }
    let reported = |thread: &ThreadId| {
        let mut own = report.threads.iter();
        own.any(|own| {
            own.tid == thread.tid
                && own.pid == pid(tables, *thread)
                && own.runtime.as_deref() == Some(&*runtime.id)
        })
    };
    let sure: BTreeSet<ThreadId> = workers.iter().copied().filter(reported).collect();
    let entered: BTreeSet<_> = sure
        .iter()
        .filter_map(|thread| history.runtime_of(*thread))
        .collect();
    let others = workers.into_iter().filter(|thread| {
        flavor == Flavor::MultiThread
            && history
                .runtime_of(*thread)
                .is_some_and(|handle| entered.contains(&handle))
    });
    others.chain(sure.iter().copied()).collect()
}

/// Gives runtimes other names, wherever the report has them.
fn rename(report: &mut Report, names: &[(String, String)]) {
    let rename = |id: &mut String| {
        if let Some((_, name)) = names.iter().find(|(old, _)| old == id) {
            id.clone_from(name);
        }
    };
    for runtime in &mut report.runtimes {
        rename(&mut runtime.id);
    }
    for thread in &mut report.threads {
        thread.runtime.iter_mut().for_each(rename);
    }
    for site in &mut report.sites {
        for share in &mut site.runtimes {
            rename(&mut share.runtime);
        }
        for harm in &mut site.harm {
            rename(&mut harm.runtime);
        }
    }
}
