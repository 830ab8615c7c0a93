//! Functions that are called alike. A name for people has no trait and no closure's number in it, so
//! that two functions may bear one; in what is drawn of frames they must not be one frame. All stacks of a
//! report are looked at first, and so every form of it calls a function the same.

use super::name::{closure_path, display_name, file_name, is_closure, trait_path};
use super::sanitize;
use crate::report::Report;
use crate::symbolize::{Frame, FrameRef, Naming, Space};
use crate::units::Svma;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What tells a function from others of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Own {
    /// Nothing: it is called so.
    Nothing,
    /// Of a closure without a number: where its code starts. An inlined one has no code of its own, and
    /// names that have no numbers do not tell it from others.
    Start(Svma),
    /// Of a closure with a number: its path with the number.
    Number(String),
    /// Of a trait's function: its path with the trait.
    Trait(String),
}

impl Own {
    fn of(frame: &Frame) -> Own {
        let function = &*frame.function;
        if !is_closure(function) {
            return trait_path(function).map_or(Own::Nothing, Own::Trait);
        }
        match (closure_path(function), frame.start) {
            (Some(path), _) => Own::Number(path),
            (None, Some(start)) if !frame.inlined => Own::Start(start),
            _ => Own::Nothing,
        }
    }

    /// The name in full, which is no other function's.
    fn full(&self, title: &str) -> String {
        match self {
            Own::Nothing => title.to_owned(),
            Own::Start(start) => format!("{title} @{:#x}", start.0),
            Own::Number(path) | Own::Trait(path) => path.clone(),
        }
    }
}

/// The first place in the source where a function was seen.
type Place = Option<(u32, Arc<str>)>;

/// What functions are called in all forms of one report.
#[derive(Debug, Default)]
pub(super) struct FunctionNames {
    /// Names that several functions would have: what each is called instead.
    shared: HashMap<String, BTreeMap<Own, String>>,
}

impl FunctionNames {
    /// Those of a report.
    pub(super) fn of(report: &Report) -> FunctionNames {
        let sums = report.stacks.iter().chain(&report.cpu_stacks);
        let sums = sums.map(|stack| &stack.frames);
        let woken = report.woken_stacks.iter();
        let woken = woken.flat_map(|woken| [&woken.waiting.frames, &woken.waker_frames]);
        let detail = report.detail.iter().flat_map(|detail| &detail.stacks);
        let detail = detail.map(|(_, stack)| &stack.frames);
        let stacks = sums.chain(woken).chain(detail);
        FunctionNames::in_frames(stacks.flat_map(|frames| frames.iter()))
    }

    /// Those of frames.
    pub(super) fn in_frames<'a>(frames: impl Iterator<Item = &'a FrameRef>) -> FunctionNames {
        let mut seen = HashSet::new();
        let mut all: BTreeMap<String, BTreeMap<Own, Place>> = BTreeMap::new();
        for frame in frames {
            // Many stacks have one frame in common.
            if frame.space == Space::Kernel || !seen.insert(Arc::as_ptr(frame)) {
                continue;
            }
            let named = all.entry(title_of(frame)).or_default();
            let place = frame.line.zip(frame.file.clone());
            let first = named.entry(Own::of(frame)).or_insert_with(|| place.clone());
            if place.is_some() && (first.is_none() || place < *first) {
                *first = place;
            }
        }
        let shared = all.into_iter().filter(|(_, named)| named.len() > 1);
        FunctionNames {
            shared: shared
                .map(|(title, named)| {
                    let names = apart(&title, named);
                    (title, names)
                })
                .collect(),
        }
    }

    /// What the function of a frame is called.
    pub(super) fn name(&self, frame: &Frame) -> String {
        let title = title_of(frame);
        let named = self.shared.get(&title);
        let own = named.and_then(|named| named.get(&Own::of(frame)));
        own.cloned().unwrap_or(title)
    }

    /// What the function of a site is called, of which no more is known than its place in the source.
    pub(super) fn of_site(&self, function: &str, file: Option<&str>, line: Option<u32>) -> String {
        let title = display_name(function);
        let Some(named) = self.shared.get(&title) else {
            return title;
        };
        let of = trait_path(function).map(Own::Trait);
        let of = of.or_else(|| closure_path(function).map(Own::Number));
        match (of.and_then(|own| named.get(&own)), file.zip(line)) {
            (Some(name), _) => name.clone(),
            (None, Some((file, line))) if is_closure(function) => {
                format!("{title} {}", place_of(file, line))
            }
            _ => title,
        }
    }
}

/// A name for each of several functions that are called `title`: closures by their first line, if that is
/// no other's.
fn apart(title: &str, named: BTreeMap<Own, Place>) -> BTreeMap<Own, String> {
    let by_line = |own: &Own, place: &Place| {
        let (line, file) = place.as_ref().filter(|_| is_by_line(own))?;
        Some(format!("{title} {}", place_of(file, *line)))
    };
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (own, place) in &named {
        if let (Own::Number(_), Some(name)) = (own, by_line(own, place)) {
            *numbers.entry(name).or_default() += 1;
        }
    }
    let name = |(own, place): (Own, Place)| {
        let name = by_line(&own, &place);
        // Where code starts says no more than the line: a generic function's closure has many starts.
        let name = name.filter(|name| numbers.get(name).is_none_or(|number| *number == 1));
        let name = name.unwrap_or_else(|| own.full(title));
        (own, name)
    };
    named.into_iter().map(name).collect()
}

/// Whether line tables alone name a function: by its file's modules, or without any path at all.
fn may_be_shared(frame: &Frame) -> bool {
    // Generic arguments have paths even where the function has none.
    let name = frame.function.split('<').next().unwrap_or_default();
    frame.naming == Naming::SourcePath || frame.inlined && !name.is_empty() && !name.contains("::")
}

/// A place in the source for a frame's name: `api.rs:30`.
fn place_of(file: &str, line: u32) -> String {
    format!("{}:{line}", sanitize(file_name(file)))
}

/// What the function of a frame is called if no other has that name.
fn title_of(frame: &Frame) -> String {
    let mut name = display_name(&frame.function);
    // Other functions of the file may be called so, and all its closures are.
    if may_be_shared(frame)
        && let (Some(file), Some(line)) = (&frame.file, frame.line)
    {
        name.push(' ');
        name.push_str(&place_of(file, line));
    }
    name
}

const fn is_by_line(own: &Own) -> bool {
    matches!(own, Own::Start(_) | Own::Number(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Origin;

    fn function(name: &str) -> FrameRef {
        FrameRef::new(Frame::named(name, Origin::Application))
    }

    fn closure(name: &str, start: u64, line: Option<u32>) -> FrameRef {
        FrameRef::new(Frame {
            start: Some(Svma(start)),
            file: line.map(|_| "src/api.rs".into()),
            line,
            ..Frame::named(name, Origin::Application)
        })
    }

    fn names(frames: &[FrameRef]) -> Vec<String> {
        let names = FunctionNames::in_frames(frames.iter());
        frames.iter().map(|frame| names.name(frame)).collect()
    }

    #[test]
    fn one_closure_is_called_as_its_function() {
        let legacy = "app::api::serve::{{closure}}";
        let frames = [
            closure(legacy, 0x100, Some(7)),
            closure(legacy, 0x100, Some(9)),
        ];
        assert_eq!(names(&frames), ["app::api::serve", "app::api::serve"]);
    }

    #[test]
    fn two_closures_of_a_function_and_it_itself_have_names_of_their_own() {
        let legacy = "app::api::serve::{{closure}}";
        let frames = [
            closure(legacy, 0x100, Some(9)),
            closure(legacy, 0x100, Some(7)),
            closure(legacy, 0x200, Some(30)),
            function("app::api::serve"),
        ];
        assert_eq!(
            names(&frames),
            [
                "app::api::serve api.rs:7",
                "app::api::serve api.rs:7",
                "app::api::serve api.rs:30",
                "app::api::serve"
            ]
        );
        let frames = [closure(legacy, 0x100, None), closure(legacy, 0x200, None)];
        assert_eq!(
            names(&frames),
            ["app::api::serve @0x100", "app::api::serve @0x200"]
        );
    }

    #[test]
    fn closures_with_numbers_go_by_them_whatever_their_code() {
        let [first, second] = [
            "app::serve::{closure#0}",
            "app::serve::{closure#0}::{closure#1}",
        ];
        let frames = [
            closure(first, 0x100, None),
            closure(first, 0x900, None),
            closure(second, 0x200, None),
        ];
        assert_eq!(
            names(&frames),
            [
                "app::serve::{closure#0}",
                "app::serve::{closure#0}",
                "app::serve::{closure#0}::{closure#1}"
            ]
        );
        // In one line.
        let frames = [
            closure(first, 0x100, Some(7)),
            closure(second, 0x200, Some(7)),
        ];
        assert_eq!(
            names(&frames),
            [
                "app::serve::{closure#0}",
                "app::serve::{closure#0}::{closure#1}"
            ]
        );
        let inlined = FrameRef::new(Frame {
            inlined: true,
            ..Frame::clone(&closure(second, 0x100, Some(30)))
        });
        let frames = [closure(first, 0x100, Some(7)), inlined];
        assert_eq!(
            names(&frames),
            ["app::serve api.rs:7", "app::serve api.rs:30"]
        );
    }

    #[test]
    fn functions_of_two_traits_are_told_by_the_trait() {
        let debug = "<app::Store<T> as core::fmt::Debug>::fmt";
        let display = "<app::Store<u8> as core::fmt::Display>::fmt";
        assert_eq!(names(&[function(debug)]), ["app::Store::fmt"]);
        assert_eq!(
            names(&[function(debug), function(display)]),
            [
                "<app::Store as core::fmt::Debug>::fmt",
                "<app::Store as core::fmt::Display>::fmt"
            ]
        );
        // One function, whatever it is generic over.
        let other = "<app::Store<u8> as core::fmt::Debug>::fmt";
        assert_eq!(
            names(&[function(debug), function(other)]),
            ["app::Store::fmt", "app::Store::fmt"]
        );
    }

    #[test]
    fn sites_are_called_as_their_frames() {
        let legacy = "app::serve::{{closure}}";
        let [first, second] = ["app::run::{closure#0}", "app::run::{closure#1}"];
        let frames = [
            closure(legacy, 0x100, Some(7)),
            closure(legacy, 0x200, Some(30)),
            closure(first, 0x300, Some(40)),
            closure(second, 0x400, Some(50)),
        ];
        let names = FunctionNames::in_frames(frames.iter());
        let site = |function, line| names.of_site(function, Some("src/api.rs"), Some(line));
        assert_eq!(site(legacy, 31), "app::serve api.rs:31");
        assert_eq!(site(first, 41), "app::run api.rs:40");
        assert_eq!(site("app::serve", 5), "app::serve");
        assert_eq!(site("app::other::{{closure}}", 5), "app::other");
    }

    #[test]
    fn what_line_tables_alone_name_has_its_line_already() {
        let at = |line| {
            FrameRef::new(Frame {
                naming: Naming::SourcePath,
                inlined: true,
                ..Frame::clone(&closure("app::api::{closure 0}", 0x100, Some(line)))
            })
        };
        assert_eq!(
            names(&[at(7), at(30)]),
            [
                "app::api::{closure 0} api.rs:7",
                "app::api::{closure 0} api.rs:30"
            ]
        );
    }
}
