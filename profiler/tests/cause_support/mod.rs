//! Stacks written down for the judge of causes.

use holdup::symbolize::{Frame, FrameRef, Origin, Space};
use std::sync::Arc;

/// Frames of `functions`, leaf first, one a line; those of `app::` are the application's.
pub(crate) fn frames(functions: &str, space: Space) -> Vec<FrameRef> {
    functions
        .lines()
        .map(str::trim)
        .filter(|function| !function.is_empty())
        .map(|function| {
            let origin = match space {
                Space::Kernel => Origin::Kernel,
                Space::User if function.contains("app::") => Origin::Application,
                Space::User if function.contains("::") => Origin::Library,
                Space::User => Origin::System,
            };
            Arc::new(Frame {
                space,
                ..Frame::named(function, origin)
            })
        })
        .collect()
}
