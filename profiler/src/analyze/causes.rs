//! Causes of waits, by stack.

use super::stack_facts::has_site;
use crate::cause::{CauseClassifier, Finding, WaitContext};
use crate::recording::{Stack, StackId, Tables};
use crate::runtime::State;
use crate::symbolize::FrameRef;

/// The causes by stack; none for stacks whose waits have no site.
#[derive(Debug)]
pub(super) struct Causes(Vec<Option<Finding>>);

impl Causes {
    pub(super) fn of(tables: &Tables) -> Causes {
        let mut classifier = CauseClassifier::default();
        let stacks = tables.stacks.iter();
        let causes = stacks.map(|stack| {
            has_site(stack.class.state).then(|| cause_of(&mut classifier, stack))
        });
        Causes(causes.collect())
    }

    pub(super) fn get(&self, id: StackId) -> Option<Finding> {
        self.0.get(id.index()).copied().flatten()
    }
}

/// Why a thread with this stack waits.
pub(super) fn cause_of(classifier: &mut CauseClassifier, stack: &Stack) -> Finding {
    classifier.judge(&WaitContext {
        syscall: stack.syscall,
        args: stack.args,
        kernel: &stack.kernel,
        user: frames(stack),
    })
}

/// The frames that say why the thread waited: inside a poll those nearer the leaf than the poll,
/// since an executor around it is not what was waited for. Inside `block_in_place` the executor
/// may be just that.
fn frames(stack: &Stack) -> &[FrameRef] {
    let end = match stack.class.state {
        State::HandedOff => None,
        _ => stack.class.frame,
    };
    let end = end
        .and_then(|end| usize::try_from(end).ok())
        .unwrap_or(stack.frames.len());
    stack.frames.get(..end).unwrap_or(&stack.frames)
}
