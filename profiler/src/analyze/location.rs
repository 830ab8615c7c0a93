//! What a stack says of the place in the code: site, task and wait.

use crate::arch::syscall_name;
use crate::recording::Stack;
use crate::symbolize::{Frame, FrameRef, Naming, Origin, Space};
use crate::units::Svma;
use std::ops::Range;
use std::sync::Arc;

/// The place of a stack: what makes waits belong to the same site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Location {
    /// Function of the site.
    pub(super) function: Arc<str>,
    /// Its file.
    pub(super) file: Option<Arc<str>>,
    /// Its line.
    pub(super) line: Option<u32>,
    /// What was called.
    pub(super) wait: Arc<str>,
    /// Where `function` is a framework's into which the compiler inlined the application's: its
    /// start, which tells apart what generic code was made for.
    pub(super) host: Option<Svma>,
}

/// How well a frame stands for a place in the user's code, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Application,
    /// A third-party crate: the nearest thing to the application where that has no frame.
    Dependency,
    /// Of a stripped binary: it may be the application's, but who knows.
    Nameless,
    /// A framework's generic code around the application's, which was inlined into it.
    Host,
    /// Code that waits, polls or computes on behalf of the application.
    Helper,
    /// An address and no more.
    Offset,
}

fn rank(frame: &Frame) -> Rank {
    match (frame.origin, frame.naming) {
        (Origin::Application, _) => Rank::Application,
        (Origin::Dependency, _) => Rank::Dependency,
        (_, Naming::Offset | Naming::Unmapped) => Rank::Offset,
        (Origin::Unknown, _) => Rank::Nameless,
        (Origin::Runtime, _) if is_host(&frame.function) => Rank::Host,
        (Origin::Runtime | Origin::Library | Origin::System | Origin::Kernel, _) => Rank::Helper,
    }
}

/// Whether a framework's function runs what it was made for: it polls a future or calls a closure.
fn is_host(function: &str) -> bool {
    let last = function.rsplit("::").next().unwrap_or(function);
    matches!(last, "poll" | "call" | "call_once" | "{{closure}}")
}

/// The function of std in which every thread of the program begins.
const THREAD_ENTRY: &str = "__rust_begin_short_backtrace";

/// The outermost function of the task in `stack`, where it is known that there is a task.
pub(super) fn task(stack: &Stack) -> Option<Arc<str>> {
    stack.class.task_frame?;
    stack
        .frames
        .get(task_frames(stack))?
        .iter()
        .filter(|frame| rank(frame) <= Rank::Nameless)
        .max_by_key(|frame| std::cmp::Reverse(rank(frame)))
        .map(|frame| label(frame))
}

/// The name of a frame; where it has none of its own (line tables alone call every inlined async
/// function `{async_fn#0}`), with the place that tells it apart.
fn label(frame: &Frame) -> Arc<str> {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) if is_bare(frame) && last_name(frame).starts_with('{') => {
            let file = file.rsplit('/').next().unwrap_or(file);
            format!("{} at {file}:{line}", frame.function).into()
        }
        _ => frame.function.clone(),
    }
}

/// The place of `stack`.
pub(super) fn location(stack: &Stack) -> Location {
    let frames = stack.frames.get(task_frames(stack)).unwrap_or(&[]);
    // Of equals, `min_by_key` takes the first and `max_by_key` the last: innermost, outermost.
    let site = frames
        .iter()
        .enumerate()
        .filter(|(_, frame)| frame.space == Space::User)
        .min_by_key(|(_, frame)| rank(frame));
    let Some((index, frame)) = site else {
        return Location {
            function: Arc::from("[no stack]"),
            file: None,
            line: None,
            wait: Arc::from(syscall(stack)),
            host: None,
        };
    };
    let (index, frame) = named_host(frames, index)
        .or_else(|| called_by_nameless(frames, index))
        .or_else(|| behind_futex(stack, frames, index))
        .unwrap_or((index, frame));
    Location {
        host: frame.start.filter(|_| rank(frame) == Rank::Host),
        function: frame.function.clone(),
        file: frame.file.clone(),
        line: frame.line,
        wait: called(stack, frames.get(..index).unwrap_or(&[])),
    }
}

/// Whether line tables alone name a function that the compiler inlined: without its path, and all
/// closures `{closure#0}`.
fn is_bare(frame: &Frame) -> bool {
    // Generic arguments have paths even where the function has none: `time<core::option::Option<u8>>`.
    let name = frame.function.split('<').next().unwrap_or_default();
    let has_no_path = !name.is_empty() && !name.contains("::");
    frame.inlined && (has_no_path || frame.naming == Naming::SourcePath)
}

/// What stands behind the path of a function: `{closure#0}`.
fn last_name(frame: &Frame) -> &str {
    frame.function.rsplit("::").next().unwrap_or_default()
}

/// The application's function around an inlined closure that has no name of its own: the next one
/// with a path in the same physical frame; or, where the closure was inlined into what a library calls it
/// by (`Once::call_once`), the application's next one on the stack, if it is of the same file. An async
/// function's body is a place in itself.
fn named_host(frames: &[FrameRef], closure: usize) -> Option<(usize, &FrameRef)> {
    let first = frames.get(closure)?;
    if !is_bare(first) || !last_name(first).starts_with("{closure") {
        return None;
    }
    let physical = frames.iter().skip(closure).position(|f| !f.inlined)? + closure;
    let around = closure + 1..=physical;
    around
        .map_while(|at| Some((at, frames.get(at)?)))
        .take_while(|(_, frame)| !is_bare(frame) || !last_name(frame).starts_with("{async"))
        .find(|(_, frame)| frame.origin == Origin::Application && !is_bare(frame))
        .or_else(|| {
            let of_application = |at: usize| {
                let frame = frames.get(at)?;
                (frame.origin == Origin::Application).then_some((at, frame))
            };
            // The closure is the only frame of the application's in its own physical one.
            if (closure + 1..=physical).any(|at| of_application(at).is_some()) {
                return None;
            }
            let next = (physical + 1..frames.len()).find_map(of_application);
            next.filter(|(_, next)| {
                !is_bare(next) && next.file.is_some() && next.file == first.file
            })
        })
}

/// Where nothing of the program has a name, and `helper` is the innermost of a library's functions: the
/// outermost one of those that the program's nameless code called. `PyGILState_Ensure` says what it wanted,
/// libc's internals do not.
fn called_by_nameless(frames: &[FrameRef], helper: usize) -> Option<(usize, &FrameRef)> {
    let first = frames.get(helper)?;
    if rank(first) != Rank::Helper {
        return None;
    }
    let nameless = frames
        .iter()
        .skip(helper)
        .position(|frame| rank(frame) == Rank::Offset)?;
    let outermost = (helper + nameless).checked_sub(1)?;
    let frame = frames.get(outermost)?;
    (rank(frame) == Rank::Helper && frame.naming.is_name()).then_some((outermost, frame))
}

/// Without names, who called the function that waits at a futex by libc's `syscall`: that one is std's or
/// `parking_lot`'s (a lock's slow path, `Condvar::wait`, `park`), and the same for all waits of its kind.
fn behind_futex<'a>(
    stack: &Stack,
    frames: &'a [FrameRef],
    wrapper: usize,
) -> Option<(usize, &'a FrameRef)> {
    let is_nameless = |frame: &Frame| rank(frame) == Rank::Nameless;
    let inner = frames.get(wrapper.checked_sub(1)?)?;
    let is_wrapper = frames.get(wrapper).is_some_and(|frame| is_nameless(frame))
        && syscall(stack) == "futex"
        && inner.origin == Origin::System
        && &*inner.function == "syscall";
    let caller = wrapper + 1;
    let frame = frames.get(caller).filter(|frame| is_nameless(frame))?;
    is_wrapper.then_some((caller, frame))
}

/// The place of the thread that ended a wait, by its stack then. Where nothing of the application
/// is on it, the code that is nearest to the wakeup and says for what it was: not the wrapper of
/// a system call in libc or std, but who called that.
pub(super) fn waker_location(stack: &Stack) -> Location {
    let frames = stack.frames.get(task_frames(stack)).unwrap_or(&[]);
    let user = |frame: &&FrameRef| frame.space == Space::User;
    if frames
        .iter()
        .filter(user)
        .any(|frame| rank(frame) != Rank::Helper)
    {
        return location(stack);
    }
    let entry = |frame: &FrameRef| frame.function.contains(THREAD_ENTRY);
    let end = frames.iter().position(entry).unwrap_or(frames.len());
    let frames = frames.get(..end).unwrap_or(&[]);
    let runtime = frames
        .iter()
        .position(|frame| frame.origin == Origin::Runtime);
    let telling = |frame: &FrameRef| frame.origin == Origin::Library && !is_glue(&frame.function);
    let index = runtime.or_else(|| frames.iter().rposition(telling));
    match index.and_then(|index| Some((index, frames.get(index)?))) {
        None => location(stack),
        Some((index, frame)) => Location {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
            wait: called(stack, frames.get(..index).unwrap_or(&[])),
            host: None,
        },
    }
}

/// The frames from the leaf to the outermost one of the task; all where no task is known.
fn task_frames(stack: &Stack) -> Range<usize> {
    let end = stack
        .class
        .task_frame
        .and_then(|index| usize::try_from(index).ok())
        .map_or(stack.frames.len(), |index| index.saturating_add(1));
    0..end.min(stack.frames.len())
}

/// What the site called: the outermost of the frames `below` it that says something, or else
/// the system call. libc's generic and internal functions say less than the system call does.
fn called(stack: &Stack, below: &[FrameRef]) -> Arc<str> {
    let says_something = |frame: &&FrameRef| match frame.origin {
        Origin::System => is_telling(&frame.function),
        Origin::Kernel | Origin::Unknown => false,
        _ => !is_glue(&frame.function),
    };
    let telling = || {
        below
            .iter()
            .rev()
            .filter(|frame| frame.naming.is_name() && frame.space == Space::User)
            .filter(says_something)
    };
    telling()
        .find(|frame| !is_bare(frame))
        .or_else(|| telling().next())
        .map_or_else(|| Arc::from(syscall(stack)), |frame| frame.function.clone())
}

/// Whether the name of a libc function says more than the system call's name.
fn is_telling(function: &str) -> bool {
    function != "syscall" && !function.starts_with('_')
}

/// Whether a function only calls what it was given: closures, iterators, `catch_unwind`.
fn is_glue(function: &str) -> bool {
    const CALLERS: [&str; 8] = [
        "core::ops::function::",
        "core::iter::",
        "core::option::",
        "core::result::",
        "core::future::",
        "alloc::boxed::",
        "std::panic::",
        "std::panicking::",
    ];
    // `<T as core::ops::function::FnOnce<…>>::call_once` is named by its trait.
    let name = function.strip_prefix('<').map_or(function, |rest| {
        rest.split_once(" as ").map_or(rest, |(_, of)| of)
    });
    CALLERS.iter().any(|caller| name.starts_with(caller))
}

/// The name of the system call; outside of any, a page fault if the kernel's stack says so.
pub(super) fn syscall(stack: &Stack) -> String {
    match stack.syscall {
        Some(number) => {
            syscall_name(number).map_or_else(|| format!("system call {number}"), str::to_owned)
        }
        None => {
            let fault = |frame: &FrameRef| frame.function.contains("page_fault");
            if stack.kernel.iter().any(fault) {
                "page fault".to_owned()
            } else {
                "no system call".to_owned()
            }
        }
    }
}

#[cfg(test)]
#[path = "location_tests.rs"]
mod tests;
