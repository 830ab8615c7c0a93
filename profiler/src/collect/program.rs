//! One program of a recording: what was learned of it, and what its stacks mean by that.

use crate::decode::StackPolicy;
use crate::recording::{Stack, StackId};
use crate::runtime::tokio::{Agreement, ClassifiedBy, News, Observation, ProgramModel};
use crate::runtime::{Classification, State};
use std::collections::HashSet;

/// A program, by its stacks.
#[derive(Debug, Default)]
pub(super) struct Program {
    model: ProgramModel,
    /// What was learned since all stacks were classified.
    news: News,
    /// Whether the thread-local state counted then.
    was_trusted: bool,
    /// Stacks that mean something else since this was asked last.
    changed: HashSet<StackId>,
}

/// What a stack was found to mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// What the rules over named frames say.
    pub(super) by_names: Classification,
    /// What it means.
    pub(super) class: Classification,
    /// By what.
    pub(super) by: ClassifiedBy,
}

impl Program {
    /// How classifying by names and by thread-local state agree.
    pub(super) const fn agreement(&self) -> &Agreement {
        self.model.agreement()
    }

    /// Learns from a new stack, if it is `of_wait`, and classifies it.
    pub(super) fn add(&mut self, seen: &Observation<'_>, of_wait: bool) -> Found {
        if of_wait {
            self.news |= self.model.learn(seen);
        }
        let by_names = self.by_names(seen, of_wait);
        let (class, by) = self.classify(by_names, seen);
        Found {
            by_names,
            class,
            by,
        }
    }

    /// What the rules over named frames say of a stack.
    pub(super) fn by_names(&mut self, seen: &Observation<'_>, of_wait: bool) -> Classification {
        let by_names = self.model.by_names(seen);
        if of_wait {
            self.model.compare(&by_names, seen);
        }
        by_names
    }

    /// What a stack means, and by what.
    pub(super) fn classify(
        &self,
        by_names: Classification,
        seen: &Observation<'_>,
    ) -> (Classification, ClassifiedBy) {
        self.model.judge(by_names, seen)
    }

    /// Whether all stacks are to be classified again, and by what news. Where those are to the
    /// rules, [`Program::by_names`] is to be asked of all stacks before any is classified.
    pub(super) fn begin_again(&mut self) -> Option<News> {
        let news = std::mem::take(&mut self.news);
        if news == News::default() && self.agreement().trusted() == self.was_trusted {
            return None;
        }
        if news.names {
            self.model.compare_anew();
        }
        Some(news)
    }

    /// Notes that all stacks are about to be classified by what is known now.
    pub(super) fn all_compared(&mut self) {
        self.was_trusted = self.agreement().trusted();
    }

    /// Notes that a stack means something else.
    pub(super) fn changed(&mut self, stack: StackId) {
        self.changed.insert(stack);
    }

    /// Moves the stacks to `all` that mean something else since this was asked last.
    pub(super) fn take_changed_stacks(&mut self, all: &mut HashSet<StackId>) {
        all.extend(self.changed.drain());
    }

    /// What the kernel side is to do with waits of a stack that was classified by `by`.
    pub(super) fn policy(&self, stack: &Stack, by: ClassifiedBy) -> StackPolicy {
        if stack.class.state != State::Idle {
            return StackPolicy::Record;
        }
        if by == ClassifiedBy::Context {
            return StackPolicy::SumOnlyIfTls;
        }
        StackPolicy::SumOnly {
            decisive_frames: self.model.proof(&stack.frames, &stack.class),
        }
    }
}
