//! What is kept of a stack where there is no room for the whole of it.
//!
//! A program can have more stacks than memory has room for: a recursion makes one at each depth, and
//! so does every combination of callers. Most differ only by callers that no figure needs. So beyond
//! the room for whole stacks those are left out, and what differs in nothing else is one stack. It
//! still tells what the thread does, its site, its cause and its task.

use crate::runtime::tokio::tells_the_role;
use crate::symbolize::{Frame, FrameRef, Origin};

/// Physical frames that are kept on each side, with what is inlined into them.
const KEPT_ON_EACH_SIDE: usize = 12;

/// Frames of the application that are kept at the inner side: the site, and who called it.
const KEPT_OF_APPLICATION: usize = 2;

/// A stack without the callers that no rule and no figure needs. A frame says where some are
/// missing.
pub(super) fn shortened(frames: &[FrameRef]) -> Vec<FrameRef> {
    let groups: Vec<&[FrameRef]> = frames.split_inclusive(|frame| !frame.inlined).collect();
    let mut kept = Vec::with_capacity(4 * KEPT_ON_EACH_SIDE);
    let mut gap = false;
    for (group, keep) in groups.iter().zip(kept_groups(&groups)) {
        if !keep {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) {
            kept.push(Frame::left_out().into());
        }
        kept.extend(group.iter().cloned());
    }
    kept
}

/// Which of the physical frames are kept.
fn kept_groups(groups: &[&[FrameRef]]) -> Vec<bool> {
    let outer = groups.len().saturating_sub(KEPT_ON_EACH_SIDE);
    let mut kept: Vec<bool> = (0..groups.len())
        .map(|at| at < KEPT_ON_EACH_SIDE || at >= outer)
        .collect();
    let mut of_application = 0;
    let mut outermost_so_far = None;
    for (at, group) in groups.iter().enumerate() {
        if group.iter().any(|frame| tells_the_role(frame)) {
            keep(&mut kept, Some(at));
            // A task's own frames end there: its outermost one names it.
            keep(&mut kept, outermost_so_far);
        }
        let origins = group.iter().map(|frame| frame.origin);
        if origins.into_iter().any(|o| o == Origin::Application) {
            of_application += 1;
            outermost_so_far = Some(at);
            if of_application <= KEPT_OF_APPLICATION {
                keep(&mut kept, Some(at));
            }
        }
    }
    kept
}

fn keep(kept: &mut [bool], at: Option<usize>) {
    if let Some(kept) = at.and_then(|at| kept.get_mut(at)) {
        *kept = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, origin: Origin) -> FrameRef {
        Frame::named(function, origin).into()
    }

    fn many(count: usize, function: &str, origin: Origin) -> Vec<FrameRef> {
        let named = |n| frame(&format!("{function}{n}"), origin);
        (0..count).map(named).collect()
    }

    fn names(frames: &[FrameRef]) -> Vec<&str> {
        frames.iter().map(|frame| &*frame.function).collect()
    }

    #[test]
    fn a_stack_that_is_short_stays_whole() {
        let frames = many(24, "app::f", Origin::Application);
        assert_eq!(shortened(&frames), frames);
    }

    #[test]
    fn the_site_the_task_and_what_tells_the_role_are_kept() {
        let mut frames = many(30, "driver::f", Origin::Dependency);
        frames.extend(many(40, "app::f", Origin::Application));
        frames.push(frame("tokio::runtime::task::raw::poll", Origin::Runtime));
        frames.extend(many(30, "std::f", Origin::Library));
        let kept = shortened(&frames);
        let kept = names(&kept);
        assert_eq!(kept.len(), 12 + 1 + 2 + 1 + 2 + 1 + 12);
        assert_eq!(
            kept[11..20],
            [
                "driver::f11",
                "[frames left out]",
                "app::f0",
                "app::f1",
                "[frames left out]",
                "app::f39",
                "tokio::runtime::task::raw::poll",
                "[frames left out]",
                "std::f18",
            ]
        );
    }

    #[test]
    fn what_is_inlined_stays_with_the_frame_that_holds_it() {
        let mut frames = many(40, "app::f", Origin::Application);
        let inlined = |function| -> FrameRef {
            let plain = Frame::named(function, Origin::Application);
            let frame = Frame {
                inlined: true,
                ..plain
            };
            frame.into()
        };
        frames.splice(11..11, [inlined("kept")]);
        frames.splice(20..20, [inlined("dropped")]);
        let kept = shortened(&frames);
        let kept = names(&kept);
        assert_eq!(
            kept[10..14],
            ["app::f10", "kept", "app::f11", "[frames left out]"]
        );
        assert!(!kept.contains(&"dropped"));
    }
}
