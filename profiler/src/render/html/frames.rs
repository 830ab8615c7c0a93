//! Stacks as the page draws them: indices into one table of frames.

use crate::render::alike::FunctionNames;
use crate::render::drawn::{self, Drawn};
use crate::render::palette::Kind;
use crate::render::{Options, display_path};
use inferno::flamegraph::color::Color;
use serde::Serialize;
use std::collections::HashMap;

/// What a frame is, for the legend of the flamegraph.
#[derive(Serialize)]
pub(super) struct KindName {
    name: &'static str,
    color: String,
}

/// A frame: name, kind, colour, place.
#[derive(Serialize)]
pub(super) struct FrameName(String, usize, String, Option<String>);

/// Frames, each once.
#[derive(Default)]
pub(super) struct Frames {
    names: FunctionNames,
    pub(super) all: Vec<FrameName>,
    kinds: Vec<Kind>,
    numbers: HashMap<(String, usize, Option<String>), usize>,
}

impl Frames {
    /// None yet; functions are called as `names` says.
    pub(super) fn new(names: FunctionNames) -> Frames {
        Frames {
            names,
            ..Frames::default()
        }
    }

    /// The frames of a stack, root first: all of them, or those that flamegraphs draw.
    pub(super) fn stack(&mut self, stack: &drawn::Stack<'_>, folded: bool) -> Vec<usize> {
        let drawn = drawn::frames(stack, folded, &self.names);
        drawn.into_iter().map(|frame| self.number(frame)).collect()
    }

    /// The frames of a stack as the options say.
    pub(super) fn folded(&mut self, stack: &drawn::Stack<'_>, options: &Options) -> Vec<usize> {
        self.stack(stack, options.collapse_runtime)
    }

    fn number(&mut self, drawn: Drawn) -> usize {
        let kind = self.kind(drawn.kind);
        // Without its mark, which is for programs that read folded stacks.
        let name = drawn.name;
        let place = drawn.place;
        let place = place.map(|(file, line)| format!("{}:{line}", display_path(&file)));
        let all = &mut self.all;
        let new = || {
            let color = css(drawn.kind.color(&name));
            all.push(FrameName(name.clone(), kind, color, place.clone()));
            all.len() - 1
        };
        let key = (name.clone(), kind, place.clone());
        *self.numbers.entry(key).or_insert_with(new)
    }

    fn kind(&mut self, kind: Kind) -> usize {
        let known = self.kinds.iter().position(|known| *known == kind);
        known.unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        })
    }

    /// The kinds that frames name by index.
    pub(super) fn kind_names(&self) -> Vec<KindName> {
        let name = |kind: &Kind| {
            let name = Kind::legend(&[*kind]).first().map_or("", |(_, name)| name);
            let color = css(kind.color(name));
            KindName { name, color }
        };
        self.kinds.iter().map(name).collect()
    }
}

fn css(Color { r, g, b }: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::symbolize::{Frame, FrameRef, Origin};

    #[test]
    fn equal_frames_are_one() {
        let frame = |name: &str| FrameRef::new(Frame::named(name, Origin::Application));
        let both = [frame("leaf"), frame("root")];
        let drawing = drawn::Stack {
            frames: &both,
            task_frame: None,
            truncated: None,
            cause: Some(Cause::Lock),
        };
        let mut frames = Frames::default();
        assert_eq!(frames.stack(&drawing, true), [0, 1, 2]);
        assert_eq!(frames.stack(&drawing, false), [0, 1]);
        let names: Vec<&str> = frames.all.iter().map(|frame| frame.0.as_str()).collect();
        assert_eq!(names, ["root", "leaf", "[lock]"]);
        let kinds: Vec<&str> = frames.kind_names().iter().map(|kind| kind.name).collect();
        assert_eq!(kinds, ["application", "cause"]);
    }
}
