//! The engine: from the context of a wait to a finding.

use super::advice::{ADVICE, Advice};
use super::kind::Cause;
use super::rules::{Argument, Calls, NO_RULE, RULES, Rule};
use super::tags::{self, FunctionTags};
use super::wait_context::WaitContext;
use crate::symbolize::{Frame, FrameRef, Origin, Space, normalise};
use std::collections::HashMap;
use std::sync::Arc;

/// What the rules say of one wait.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// Its cause.
    pub cause: Cause,
    /// Name of the rule that decided.
    pub rule: &'static str,
    /// What to do instead; none where there is nothing to say.
    pub advice: Option<&'static Advice>,
}

/// What one function tells.
#[derive(Clone, Debug)]
struct Function {
    path: Arc<str>,
    tags: FunctionTags,
}

/// Judges waits, and remembers what functions tell: the same ones occur in many stacks.
#[derive(Debug, Default)]
pub struct CauseClassifier {
    user: HashMap<(Arc<str>, Option<Arc<str>>), Function>,
    kernel: HashMap<Arc<str>, FunctionTags>,
}

impl Finding {
    /// That of a wait whose cause is known by what it is for, and not by a rule.
    #[must_use]
    pub fn by_object(cause: Cause) -> Finding {
        let mut advice = ADVICE.iter();
        Finding {
            cause,
            rule: BY_OBJECT,
            advice: advice.find(|advice| advice.fits(cause, BY_OBJECT, |_| false)),
        }
    }
}

/// [`Finding::rule`] of a wait whose object decided.
const BY_OBJECT: &str = "object";

impl CauseClassifier {
    /// The cause of a wait, and advice.
    pub fn judge(&mut self, wait: &WaitContext<'_>) -> Finding {
        let near: Vec<Function> = near(wait.user).map(|frame| self.function(frame)).collect();
        let mut seen = FunctionTags::NONE;
        for function in &near {
            seen |= function.tags;
        }
        for frame in wait.kernel {
            seen |= self.kernel_function(frame);
        }
        let decided = RULES.iter().find(|rule| holds(rule, wait, seen));
        let (cause, rule) = decided.map_or((Cause::Other, NO_RULE), |rule| (rule.cause, rule.name));
        let called = |pattern: &str| {
            near.iter()
                .any(|function| tags::matches(pattern, tags::bare(&function.path)))
        };
        let advice = ADVICE
            .iter()
            .find(|advice| advice.fits(cause, rule, called));
        Finding {
            cause,
            rule,
            advice,
        }
    }

    fn function(&mut self, frame: &Frame) -> Function {
        self.user
            .entry((frame.function.clone(), frame.file.clone()))
            .or_insert_with(|| {
                let mut path = String::new();
                normalise(&frame.function, frame.file.as_deref(), &mut path);
                Function {
                    tags: tags::of_user(&path),
                    path: path.into(),
                }
            })
            .clone()
    }

    fn kernel_function(&mut self, frame: &Frame) -> FunctionTags {
        *self
            .kernel
            .entry(frame.function.clone())
            .or_insert_with(|| tags::of_kernel(&frame.function))
    }
}

/// The named frames from the leaf to the first one of the application: what it called. Frames
/// beyond it called the application, and say nothing of what it then did.
fn near(user: &[FrameRef]) -> impl Iterator<Item = &Frame> {
    user.iter()
        .map(AsRef::as_ref)
        .take_while(|frame: &&Frame| frame.origin != Origin::Application)
        .filter(|frame| frame.naming.is_name() && frame.space == Space::User)
}

fn holds(rule: &Rule, wait: &WaitContext<'_>, seen: FunctionTags) -> bool {
    let call = match rule.calls {
        Calls::Any => true,
        Calls::Outside => wait.syscall.is_none(),
        Calls::Of(numbers) => wait.syscall.is_some_and(|number| numbers.contains(&number)),
    };
    call && (rule.any == FunctionTags::NONE || seen.any(rule.any))
        && seen.all(rule.all)
        && rule
            .argument
            .is_none_or(|argument| argument_holds(&argument, wait.args.as_ref()))
}

fn argument_holds(argument: &Argument, args: Option<&[u64; 6]>) -> bool {
    args.and_then(|args| args.get(argument.index))
        .is_some_and(|value| argument.values.contains(&(value & argument.mask)))
}
