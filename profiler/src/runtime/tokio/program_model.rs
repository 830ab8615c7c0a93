//! What one program taught, and what its stacks mean by all judges together.

use super::callbacks::by_call;
use super::classify::Classifier;
use super::pool_threads::{Observation, PoolThreads};
use super::tls_state::{Agreement, ClassifiedBy};
use crate::runtime::Classification;
use crate::symbolize::FrameRef;

/// What was news in a stack, so that others may mean something else now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// To the rules over named frames.
    pub names: bool,
    /// To what is known of the threads of the blocking pool.
    pub threads: bool,
}

impl std::ops::BitOrAssign for News {
    fn bitor_assign(&mut self, more: News) {
        self.names |= more.names;
        self.threads |= more.threads;
    }
}

/// What was learned of one program in one recording.
#[derive(Debug, Default)]
pub struct ProgramModel {
    classifier: Classifier,
    pool_threads: PoolThreads,
    agreement: Agreement,
}

impl ProgramModel {
    /// Learns from the stack of a thread that waits.
    pub fn learn(&mut self, seen: &Observation<'_>) -> News {
        News {
            names: self.classifier.learn(seen.frames),
            threads: self.pool_threads.learn(seen),
        }
    }

    /// What the rules over named frames say of a stack.
    #[must_use]
    pub fn by_names(&self, seen: &Observation<'_>) -> Classification {
        let by_frames = self.classifier.classify(seen.frames, seen.truncated);
        by_call(by_frames, seen.syscall())
    }

    /// How many of the innermost physical user frames prove a verdict that the names gave
    /// ([`Classifier::proof`]).
    #[must_use]
    pub fn proof(&self, frames: &[FrameRef], by_names: &Classification) -> Option<u32> {
        self.classifier.proof(frames, by_names)
    }

    /// Takes into account what both judges say of the stack of a thread that waits; `by_names` is
    /// the one's verdict.
    pub fn compare(&mut self, by_names: &Classification, seen: &Observation<'_>) {
        self.agreement.add(by_names, seen.syscall(), seen.tls_state);
    }

    /// Forgets what [`ProgramModel::compare`] was told.
    pub fn compare_anew(&mut self) {
        self.agreement = Agreement::default();
    }

    /// How the judges get on.
    #[must_use]
    pub const fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// What a stack means, and who said so.
    #[must_use]
    pub fn judge(
        &self,
        by_names: Classification,
        seen: &Observation<'_>,
    ) -> (Classification, ClassifiedBy) {
        let mut verdict = self.agreement.judge(by_names, seen.tls_state);
        if self.agreement.counts_for(&by_names) {
            verdict = by_call(verdict, seen.syscall());
            verdict = self.pool_threads.judge(verdict, seen);
        }
        let judge = if verdict == by_names {
            self.agreement
                .judge_of(&by_names, seen.syscall(), seen.tls_state)
        } else {
            ClassifiedBy::Context
        };
        (verdict, judge)
    }
}
