//! The frames of a stack as flamegraphs and their like draw them.
//!
//! Folded, a stack shows what its reader looks for: the runtime's frames outside the task are one,
//! `[runtime]`; a run of library frames inside it is the outermost of them, which the application
//! called; and instead of the kernel's frames stands why the thread waited, as `[file-io]`. Without a
//! task, the innermost function of the runtime stands for its frames.

use super::alike::FunctionNames;
use super::palette::Kind;
use crate::cause::Cause;
use crate::report::{DetailStack, StackTotal};
use crate::symbolize::{Frame, FrameRef, Origin, Space};
use crate::unwind::Truncation;
use std::sync::Arc;

/// A stack that is to be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack<'a> {
    /// Leaf first, kernel frames before user frames.
    pub(super) frames: &'a [FrameRef],
    /// Index of the outermost frame of the task.
    pub(super) task_frame: Option<usize>,
    /// Why the stack ends early, if it does.
    pub(super) truncated: Option<Truncation>,
    /// Why the thread waited, where it did.
    pub(super) cause: Option<Cause>,
}

impl<'a> From<&'a DetailStack> for Stack<'a> {
    fn from(stack: &'a DetailStack) -> Stack<'a> {
        Stack {
            frames: &stack.frames,
            task_frame: stack.task_frame,
            truncated: stack.truncated,
            cause: stack.cause,
        }
    }
}

impl<'a> From<&'a StackTotal> for Stack<'a> {
    fn from(stack: &'a StackTotal) -> Stack<'a> {
        Stack {
            frames: &stack.frames,
            task_frame: stack.task_frame,
            truncated: stack.truncated,
            cause: stack.cause,
        }
    }
}

/// A frame that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawn {
    /// Its name, with nothing in it that could break a line of folded stacks apart, and no other
    /// function's.
    pub(super) name: String,
    /// What readers of folded stacks know kernel frames and inlined ones by: an end of the name.
    pub(super) mark: &'static str,
    /// What it is.
    pub(super) kind: Kind,
    /// Its source file and line.
    pub(super) place: Option<(Arc<str>, u32)>,
}

impl Drawn {
    /// One that stands for no frame of the stack.
    pub(super) fn mark(name: impl Into<String>, kind: Kind) -> Drawn {
        Drawn {
            name: name.into(),
            mark: "",
            kind,
            place: None,
        }
    }

    /// A frame of a stack.
    fn of(frame: &Frame, names: &FunctionNames) -> Drawn {
        Drawn {
            name: plain_name(&names.name(frame)),
            mark: mark(frame),
            kind: Kind::of(frame),
            place: frame.file.clone().zip(frame.line),
        }
    }

    /// The name with its mark.
    pub(super) fn marked(&self) -> String {
        format!("{}{}", self.name, self.mark)
    }
}

/// A run of frames that is drawn as one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Outside the task: thread start, worker loop, poll.
    Outside,
    /// Inside the task: a library call and what it calls.
    Call,
    /// Where there is no task: the runtime's own code is what there is to see.
    Runtime,
    /// The kernel.
    Kernel,
}

impl Run {
    fn of(frame: &Frame, index: usize, task: Option<usize>) -> Option<Run> {
        match frame.origin {
            Origin::Kernel => Some(Run::Kernel),
            Origin::Runtime | Origin::Library | Origin::System => Some(match task {
                Some(task) if index > task => Run::Outside,
                Some(_) => Run::Call,
                None => Run::Runtime,
            }),
            Origin::Application | Origin::Dependency | Origin::Unknown => None,
        }
    }

    /// What is drawn for `frames`, leaf first, of which there is at least one.
    fn draw(
        self,
        frames: &[FrameRef],
        cause: Option<Cause>,
        of: impl Fn(&FrameRef) -> Drawn,
        drawn: &mut Vec<Drawn>,
    ) {
        let outermost = frames.last();
        match self {
            Run::Outside => drawn.push(Drawn::mark("[runtime]", Kind::Runtime)),
            Run::Call => drawn.extend(outermost.map(of)),
            Run::Runtime => {
                let runtime = frames.iter().find(|frame| frame.origin == Origin::Runtime);
                if let Some(frame) = runtime {
                    drawn.push(Drawn::mark("[runtime]", Kind::Runtime));
                    drawn.push(of(frame));
                } else {
                    drawn.extend(outermost.map(of));
                }
            }
            // The cause says it better.
            Run::Kernel if cause.is_some() => {}
            Run::Kernel => {
                let called = frames.iter().rev().find(|frame| !is_entry(frame));
                drawn.extend(called.map(of));
            }
        }
    }
}

/// The frames, root first.
pub(super) fn frames(stack: &Stack<'_>, folded: bool, names: &FunctionNames) -> Vec<Drawn> {
    let of = |frame: &FrameRef| Drawn::of(frame, names);
    let mut drawn = Vec::with_capacity(stack.frames.len() + 2);
    if let Some(truncation) = stack.truncated {
        drawn.push(Drawn::mark(truncated(truncation), Kind::Nameless));
    }
    if !folded {
        drawn.extend(stack.frames.iter().rev().map(of));
        return drawn;
    }
    // What is not known is no reason to leave the kernel's frames out.
    let cause = stack.cause.filter(|cause| *cause != Cause::Other);
    let run_of = |index: usize| {
        let frame = stack.frames.get(index)?;
        Run::of(frame, index, stack.task_frame)
    };
    let mut end = stack.frames.len();
    while let Some(last) = end.checked_sub(1) {
        let run = run_of(last);
        let begin = (0..end).rev().take_while(|index| run_of(*index) == run);
        let begin = begin.last().unwrap_or(last);
        let frames = stack.frames.get(begin..end).unwrap_or_default();
        match run {
            Some(run) => run.draw(frames, cause, of, &mut drawn),
            None => drawn.extend(frames.iter().rev().map(of)),
        }
        end = begin;
    }
    if let Some(cause) = cause {
        drawn.push(Drawn::mark(format!("[{}]", cause.name()), Kind::Cause));
    }
    drawn
}

/// Whether a kernel function is on every stack that came by a system call.
fn is_entry(frame: &Frame) -> bool {
    let name = &*frame.function;
    name.starts_with("entry_SYSCALL") || matches!(name, "do_syscall_64" | "x64_sys_call")
}

/// Why a stack ends early.
pub(super) const fn truncation_text(truncation: Truncation) -> &'static str {
    match truncation {
        Truncation::TooDeep => "too deep",
        Truncation::Unmapped => "unmapped address",
        Truncation::NoRow => "no unwind information",
        Truncation::Unsupported => "unsupported unwind rule",
        Truncation::Unreadable => "unreadable stack",
        Truncation::NoProgress => "broken chain",
        Truncation::NoStack => "no stack",
        Truncation::TooCostly => "too costly",
    }
}

fn truncated(truncation: Truncation) -> String {
    format!("[truncated: {}]", truncation_text(truncation))
}

fn mark(frame: &Frame) -> &'static str {
    match frame.space {
        Space::Kernel => "_[k]",
        Space::User if frame.inlined => "_[i]",
        Space::User => "",
    }
}

/// A name without what would break a line apart.
pub(super) fn plain_name(name: &str) -> String {
    let mut name = name.replace(';', ":");
    if name.trim().is_empty() {
        name = "[unnamed]".to_owned();
    }
    // Readers take a number at the end of a line for a count, two for a difference.
    if let Some(space) = name.rfind(' ') {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        if name
            .get(space + 1..)
            .is_some_and(|last| last.chars().all(number))
        {
            name.replace_range(space..=space, "_");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Naming;

    fn frame(function: &str) -> Frame {
        Frame::named(function, Origin::Application)
    }

    fn folded_name(frame: &Frame) -> String {
        Drawn::of(frame, &FunctionNames::default()).marked()
    }

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(folded_name(&frame("a;b\nc")), "a:b\\x0ac");
        assert_eq!(folded_name(&frame("fn 12 345")), "fn 12_345");
        assert_eq!(folded_name(&frame("fn 1.5")), "fn_1.5");
        assert_eq!(folded_name(&frame("trailing ")), "trailing_");
        assert_eq!(folded_name(&frame("  ")), "[unnamed]".to_owned());
        assert_eq!(folded_name(&frame("")), "[unnamed]");
    }

    #[test]
    fn functions_that_line_tables_call_alike_have_their_line() {
        let of = |naming, line| Frame {
            naming,
            inlined: true,
            file: Some("/srv/app/src/ha;rm.rs".into()),
            line,
            ..frame("app::harm::{closure 0}")
        };
        let named = |frame: Frame| folded_name(&frame);
        assert_eq!(
            named(of(Naming::SourcePath, Some(12))),
            "app::harm::{closure 0} ha:rm.rs:12_[i]"
        );
        assert_ne!(
            named(of(Naming::SourcePath, Some(12))),
            named(of(Naming::SourcePath, Some(90)))
        );
        assert_eq!(
            named(of(Naming::Symbol, Some(12))),
            "app::harm::{closure 0}_[i]"
        );
        let library = Frame {
            file: Some("/rustc/ab/library/std/src/sync/poison/mutex.rs".into()),
            inlined: true,
            line: Some(417),
            ..frame("lock<app::Store>")
        };
        assert_eq!(named(library), "lock mutex.rs:417_[i]");
        assert_eq!(
            named(of(Naming::SourcePath, None)),
            "app::harm::{closure 0}_[i]"
        );
    }

    #[test]
    fn kernel_and_inlined_frames_are_marked() {
        let mut kernel = frame("futex_wait");
        kernel.space = Space::Kernel;
        assert_eq!(folded_name(&kernel), "futex_wait_[k]");
        let mut inlined = frame("a::b");
        inlined.inlined = true;
        assert_eq!(folded_name(&inlined), "a::b_[i]");
    }

    fn stack_of(frames: &[(&str, Origin)]) -> Vec<FrameRef> {
        let frames = frames.iter().map(|(name, origin)| Frame {
            space: match origin {
                Origin::Kernel => Space::Kernel,
                _ => Space::User,
            },
            ..Frame::named(name, *origin)
        });
        frames.map(FrameRef::new).collect()
    }

    fn names(stack: &Stack<'_>, folded: bool) -> Vec<String> {
        frames(stack, folded, &FunctionNames::default())
            .iter()
            .map(Drawn::marked)
            .collect()
    }

    #[test]
    fn a_folded_stack_shows_root_application_and_cause() {
        let all = stack_of(&[
            ("schedule", Origin::Kernel),
            ("do_sys_openat2", Origin::Kernel),
            ("do_syscall_64", Origin::Kernel),
            ("open64", Origin::System),
            ("std::fs::File::open", Origin::Library),
            ("std::fs::read", Origin::Library),
            ("app::load", Origin::Application),
            ("futures::poll_fn", Origin::Runtime),
            ("app::handle", Origin::Application),
            ("tokio::task::poll", Origin::Runtime),
            ("start_thread", Origin::System),
        ]);
        let mut stack = Stack {
            frames: &all,
            task_frame: Some(8),
            truncated: None,
            cause: Some(Cause::FileIo),
        };
        let folded = [
            "[runtime]",
            "app::handle",
            "futures::poll_fn",
            "app::load",
            "std::fs::read",
            "[file-io]",
        ];
        assert_eq!(names(&stack, true), folded);
        let full = names(&stack, false);
        assert_eq!(full.len(), all.len());
        assert_eq!(full.last().map(String::as_str), Some("schedule_[k]"));
        // A thread on a CPU waits for nothing: what the kernel does for it is told by its call.
        stack.cause = None;
        assert_eq!(
            names(&stack, true).last().map(String::as_str),
            Some("do_sys_openat2_[k]")
        );
    }

    #[test]
    fn without_a_task_the_runtime_is_what_there_is_to_see() {
        let all = stack_of(&[
            ("syscall", Origin::System),
            ("tokio::park", Origin::Runtime),
            ("tokio::worker::run", Origin::Runtime),
            ("start_thread", Origin::System),
        ]);
        let stack = Stack {
            frames: &all,
            task_frame: None,
            truncated: Some(Truncation::NoRow),
            cause: Some(Cause::Lock),
        };
        assert_eq!(
            names(&stack, true),
            [
                "[truncated: no unwind information]",
                "[runtime]",
                "tokio::park",
                "[lock]"
            ]
        );
    }
}
