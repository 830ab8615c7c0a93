//! Sites and tasks as small numbers, for what is added up by them while time is swept over.

use super::location::task;
use super::site_key::SiteKey;
use crate::fast_hash::FastMap;
use crate::recording::{ProcessId, StackId, Tables};
use std::sync::Arc;

/// A site, or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label(pub(super) u32);

/// What a label stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Labelled {
    /// A site.
    Site(SiteKey),
    /// A task, by its outermost function.
    Task(ProcessId, Arc<str>),
}

/// How many labels there are at most; what is beyond has none.
const MOST: usize = 1 << 14;

/// All labels so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    /// Each with a stack that has it.
    all: Vec<(Labelled, StackId)>,
    index: FastMap<Labelled, Label>,
}

impl Labels {
    fn intern(&mut self, labelled: Labelled, stack: StackId) -> Option<Label> {
        if let Some(label) = self.index.get(&labelled) {
            return Some(*label);
        }
        let number = u32::try_from(self.all.len()).ok()?;
        if self.all.len() >= MOST {
            return None;
        }
        let label = Label(number);
        self.all.push((labelled.clone(), stack));
        self.index.insert(labelled, label);
        Some(label)
    }

    /// What a label stands for.
    pub(super) fn get(&self, label: Label) -> Option<&Labelled> {
        Some(&self.entry(label)?.0)
    }

    /// A stack that has a label.
    pub(super) fn example(&self, label: Label) -> Option<StackId> {
        Some(self.entry(label)?.1)
    }

    fn entry(&self, label: Label) -> Option<&(Labelled, StackId)> {
        self.all.get(usize::try_from(label.0).ok()?)
    }
}

/// The labels of one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StackLabels {
    /// None where a thread waits with the stack where it should.
    pub(super) site: Option<Label>,
    /// None where it is in no task.
    pub(super) task: Option<Label>,
}

/// Labels of stacks by what is known of them now: their classes may change later.
pub(super) struct Labelling<'a> {
    tables: &'a Tables,
    labels: &'a mut Labels,
    stacks: FastMap<StackId, StackLabels>,
}

impl<'a> Labelling<'a> {
    pub(super) fn new(tables: &'a Tables, labels: &'a mut Labels) -> Labelling<'a> {
        Labelling {
            tables,
            labels,
            stacks: FastMap::default(),
        }
    }

    /// The labels of a stack.
    pub(super) fn of(&mut self, id: StackId) -> StackLabels {
        if let Some(known) = self.stacks.get(&id) {
            return *known;
        }
        let site = SiteKey::of(self.tables, id);
        let stack = self.tables.stack(id);
        let task = stack.and_then(|stack| Some(Labelled::Task(stack.process, task(stack)?)));
        let task = task.filter(|_| site.is_some());
        let own = StackLabels {
            task: task.and_then(|task| self.labels.intern(task, id)),
            site: site.and_then(|key| self.labels.intern(Labelled::Site(key), id)),
        };
        self.stacks.insert(id, own);
        own
    }
}
