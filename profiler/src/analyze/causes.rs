//! Causes of the stacks of a recording.

use super::sites::has_site;
use crate::cause::{CauseClassifier, Finding, WaitContext};
use crate::recording::{Recording, StackEntry, StackId};
use crate::runtime::State;
use crate::symbolize::Frame;

/// The findings by stack; none for stacks whose waits have no site.
#[derive(Debug)]
pub(super) struct Findings(Vec<Option<Finding>>);

impl Findings {
    pub(super) fn of(recording: &Recording) -> Findings {
        let mut judge = CauseClassifier::default();
        let judged = recording.stacks.iter().map(|stack| {
            has_site(stack.verdict.state).then(|| {
                judge.judge(&WaitContext {
                    syscall: stack.syscall,
                    args: stack.args,
                    kernel: &stack.kernel,
                    user: frames(stack),
                })
            })
        });
        Findings(judged.collect())
    }

    pub(super) fn get(&self, id: StackId) -> Option<Finding> {
        let index = usize::try_from(id.0).ok()?;
        self.0.get(index).copied().flatten()
    }
}

/// The frames that say why the thread waited: inside a poll those nearer the leaf than the poll,
/// since an executor around it is not what was waited for. Inside `block_in_place` the executor
/// may be just that.
fn frames(stack: &StackEntry) -> &[Frame] {
    let end = match stack.verdict.state {
        State::HandedOff => None,
        _ => stack.verdict.frame,
    };
    let end = end
        .and_then(|end| usize::try_from(end).ok())
        .unwrap_or(stack.frames.len());
    stack.frames.get(..end).unwrap_or(&stack.frames)
}
