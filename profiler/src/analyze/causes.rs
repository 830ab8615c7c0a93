//! Causes of waits, by stack.

use super::stack_facts::has_site;
use crate::cause::{Cause, CauseClassifier, Finding, WaitContext};
use crate::recording::{Holder, Object, ObjectKind, OpenWait, Stack, StackId, Tables};
use crate::report::CauseTotal;
use crate::runtime::State;
use crate::symbolize::FrameRef;
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The causes by stack; none for stacks whose waits have no site.
#[derive(Debug)]
pub(super) struct Causes(Vec<Option<Finding>>);

impl Causes {
    /// `open_waits` may know what they are for where no frames of the kernel are known, as of waits from
    /// before the recording.
    pub(super) fn of(tables: &Tables, open_waits: &[OpenWait]) -> Causes {
        let mut classifier = CauseClassifier::default();
        let causes = tables.stacks.iter().map(|stack| {
            let judge = || classifier.judge(&context(stack));
            has_site(stack.class.state).then(judge)
        });
        let mut causes: Vec<Option<Finding>> = causes.collect();
        for open in open_waits {
            if let Some(Some(finding)) = causes.get_mut(open.stack.index()) {
                let cause = by_object(finding.cause, open.object.as_ref());
                if cause != finding.cause {
                    *finding = Finding::by_object(cause);
                }
            }
        }
        Causes(causes)
    }

    /// The cause of one stack, where its waits have a site.
    pub(super) fn of_one(tables: &Tables, id: StackId) -> Option<Cause> {
        let stack = tables.stack(id)?;
        let judge = || CauseClassifier::default().judge(&context(stack)).cause;
        has_site(stack.class.state).then(judge)
    }

    pub(super) fn get(&self, id: StackId) -> Option<Finding> {
        self.0.get(id.index()).copied().flatten()
    }

    /// The cause of waits with a stack, also where they have no site.
    pub(super) fn of_stack(&self, tables: &Tables, id: StackId) -> Cause {
        let judged = || {
            let stack = tables.stack(id)?;
            Some(CauseClassifier::default().judge(&context(stack)))
        };
        self.get(id)
            .or_else(judged)
            .map_or(Cause::Other, |finding| finding.cause)
    }
}

/// A futex that a thread holds is a lock.
pub(super) fn by_holder(cause: Cause, holder: Option<&Holder>) -> Cause {
    match (cause, holder) {
        (Cause::Futex, Some(Holder::Thread { .. })) => Cause::Lock,
        _ => cause,
    }
}

/// A cause that neither the call nor the functions tell, or that is told by functions which do the same to
/// all files, by what is waited for.
pub(super) fn by_object(cause: Cause, object: Option<&Object>) -> Cause {
    match (cause, object.map(|object| object.kind)) {
        (Cause::Other | Cause::FileIo, Some(ObjectKind::Pipe)) => Cause::Pipe,
        (Cause::Other | Cause::FileIo, Some(ObjectKind::Socket)) => Cause::Network,
        (Cause::Other, Some(ObjectKind::Path)) => Cause::FileIo,
        (cause, _) => cause,
    }
}

/// Waits by cause.
#[derive(Debug, Default)]
pub(super) struct CauseSums(BTreeMap<Cause, (u64, Nanos)>);

impl CauseSums {
    pub(super) fn add(&mut self, cause: Cause, waits: u64, time: Nanos) {
        let sum = self.0.entry(cause).or_default();
        sum.0 = sum.0.saturating_add(waits);
        sum.1 += time;
    }

    /// Most time first.
    pub(super) fn totals(self) -> Vec<CauseTotal> {
        let totals = self.0.into_iter();
        let mut totals: Vec<CauseTotal> = totals
            .map(|(cause, (waits, total_ns))| CauseTotal {
                cause,
                waits,
                total_ns,
            })
            .collect();
        // The sort is stable: of equals the first cause stays first.
        totals.sort_by_key(|total| Reverse(total.total_ns));
        totals
    }
}

fn context(stack: &Stack) -> WaitContext<'_> {
    WaitContext {
        syscall: stack.syscall,
        args: stack.args,
        kernel: &stack.kernel,
        user: frames(stack),
    }
}

/// Why a thread with this stack waits.
pub(super) fn cause_of(classifier: &mut CauseClassifier, stack: &Stack) -> Finding {
    classifier.judge(&context(stack))
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
