//! What the kernel side is told of stacks.

use super::{Gathered, Program};
use crate::model::StackId;
use crate::tokio_rt::{Judge, State};
use profiler_common::map::{ADVICE_IDLE, ADVICE_IDLE_BY_PLACE, ADVICE_RECORD, ALL_FRAMES, Stack};

/// The advice where nothing else is known.
pub(super) const RECORD: Stack = Stack {
    advice: ADVICE_RECORD,
    frames: 0,
};

impl Gathered {
    /// What the kernel side is to do with waits of a stack.
    pub(super) fn advice(&self, id: StackId) -> Stack {
        let index = id.0 as usize;
        let (Some(stack), Some(true)) = (self.stacks.get(index), self.of_waits.get(index)) else {
            return RECORD;
        };
        if stack.verdict.state != State::Idle {
            return RECORD;
        }
        if self.judges.get(index) == Some(&Judge::Context) {
            return Stack {
                advice: ADVICE_IDLE_BY_PLACE,
                frames: ALL_FRAMES,
            };
        }
        let owner = self.owners.get(index);
        let program = owner.and_then(|owner| self.programs.get(&owner.program));
        let proof = program.and_then(|p| p.learned.proof(&stack.frames, &stack.verdict));
        Stack {
            advice: ADVICE_IDLE,
            frames: proof.unwrap_or(ALL_FRAMES),
        }
    }

    /// The advice for every stack that the kernel side knows by number, if any verdict may have
    /// changed since this was asked last: something was learned, or the thread-local state began
    /// or ceased to count.
    pub(in crate::session) fn changed_advice(&mut self) -> Option<Vec<(u64, Stack)>> {
        let stale = |program: &Program| {
            program.changed || program.learned.agreement().trusted() != program.was_trusted
        };
        if !self.programs.values().any(stale) {
            return None;
        }
        self.judge_again();
        for program in self.programs.values_mut() {
            program.changed = false;
            program.was_trusted = program.learned.agreement().trusted();
        }
        let numbers = self.by_number.iter();
        Some(numbers.map(|(n, id)| (*n, self.advice(*id))).collect())
    }
}
