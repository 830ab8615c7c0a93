//! What is new in the tables of a recording since the last interval: most rows are only added, some
//! change later.

use crate::recording::{Process, Stack, Tables, ThreadId, WaitObject, Waker};
use crate::runtime::Classification;
use crate::symbolize::FrameRef;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Rows that are new or have changed, each with its index.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub(super) processes: Vec<(u32, Process)>,
    pub(super) names: Vec<(ThreadId, Arc<str>)>,
    pub(super) stacks: Vec<(u32, Stack)>,
    /// Stacks that were told before.
    pub(super) changed_stacks: Vec<(u32, StackChange)>,
    pub(super) objects: Vec<(u32, WaitObject)>,
    pub(super) wakers: Vec<(u32, Waker)>,
}

/// What may change of a stack.
#[derive(Clone, Debug)]
pub(super) struct StackChange {
    pub(super) class: Classification,
    pub(super) kernel: Vec<FrameRef>,
}

/// What was told of the tables so far.
#[derive(Debug, Default)]
pub struct Told {
    processes: Vec<Process>,
    names: BTreeMap<ThreadId, Arc<str>>,
    /// Class and number of kernel frames.
    stacks: Vec<(Classification, usize)>,
    /// A hash of each.
    objects: Vec<u64>,
    wakers: usize,
}

impl Told {
    /// What is new in `tables`.
    pub fn news(&mut self, tables: &Tables) -> News {
        News {
            processes: self.processes(tables),
            names: self.names(tables),
            changed_stacks: self.changed_stacks(tables),
            stacks: self.stacks(tables),
            objects: self.objects(tables),
            wakers: self.wakers(tables),
        }
    }

    fn processes(&mut self, tables: &Tables) -> Vec<(u32, Process)> {
        let mut news = Vec::new();
        for (index, process) in tables.processes.iter().enumerate() {
            match self.processes.get_mut(index) {
                Some(told) if told == process => continue,
                Some(told) => told.clone_from(process),
                None => self.processes.push(process.clone()),
            }
            news.push((index as u32, process.clone()));
        }
        news
    }

    fn names(&mut self, tables: &Tables) -> Vec<(ThreadId, Arc<str>)> {
        let mut news = Vec::new();
        for (thread, name) in &tables.thread_names {
            let is_told = |told: &Arc<str>| Arc::ptr_eq(told, name) || told == name;
            if !self.names.get(thread).is_some_and(is_told) {
                self.names.insert(*thread, Arc::clone(name));
                news.push((*thread, Arc::clone(name)));
            }
        }
        news
    }

    fn changed_stacks(&mut self, tables: &Tables) -> Vec<(u32, StackChange)> {
        let mut news = Vec::new();
        for (index, (told, stack)) in (0..).zip(self.stacks.iter_mut().zip(&tables.stacks)) {
            let now = (stack.class, stack.kernel.len());
            if std::mem::replace(told, now) == now {
                continue;
            }
            let change = StackChange {
                class: stack.class,
                kernel: stack.kernel.clone(),
            };
            news.push((index, change));
        }
        news
    }

    fn stacks(&mut self, tables: &Tables) -> Vec<(u32, Stack)> {
        let first = self.stacks.len();
        let new = tables.stacks.get(first..).unwrap_or_default();
        let told = |stack: &Stack| (stack.class, stack.kernel.len());
        self.stacks.extend(new.iter().map(told));
        (first as u32..).zip(new.iter().cloned()).collect()
    }

    fn objects(&mut self, tables: &Tables) -> Vec<(u32, WaitObject)> {
        let mut news = Vec::new();
        for (index, object) in tables.objects.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            object.hash(&mut hasher);
            let hash = hasher.finish();
            match self.objects.get_mut(index) {
                Some(told) if *told == hash => continue,
                Some(told) => *told = hash,
                None => self.objects.push(hash),
            }
            news.push((index as u32, object.clone()));
        }
        news
    }

    fn wakers(&mut self, tables: &Tables) -> Vec<(u32, Waker)> {
        let first = self.wakers;
        let new = tables.wakers.get(first..).unwrap_or_default();
        self.wakers = tables.wakers.len().max(first);
        (first as u32..).zip(new.iter().cloned()).collect()
    }
}
