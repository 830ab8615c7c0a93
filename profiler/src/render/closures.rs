//! Closures in folded stacks. They are called as the function around them, and so two of one function would
//! be one frame; where there are several, each has its source line, or the address of its code.

use super::drawn::{Drawn, plain_place};
use crate::units::{Nanos, Svma};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a frame was in the source, and for how long.
pub(super) type Places = BTreeMap<(Arc<str>, u32), Nanos>;

/// Stands between a closure's name and its address until all are known: in no name, which are all printable.
const MARK: char = '\u{1}';

/// The closures of each name.
#[derive(Debug, Default)]
pub(super) struct Closures {
    starts: BTreeMap<String, BTreeSet<Svma>>,
}

impl Closures {
    /// A frame's name for the time being.
    pub(super) fn mark(&mut self, frame: &Drawn) -> String {
        let Some(start) = frame.closure else {
            return frame.name.clone();
        };
        let starts = self.starts.entry(frame.name.clone()).or_default();
        starts.insert(start);
        format!("{}{MARK}{:x}", frame.name, start.0)
    }

    /// What each is called in the end; `places` are by the names for the time being.
    pub(super) fn names(&self, places: &BTreeMap<String, Places>) -> FinalNames {
        let mut names = BTreeMap::new();
        for (name, starts) in &self.starts {
            for start in starts {
                let marked = format!("{name}{MARK}{:x}", start.0);
                let own = if starts.len() == 1 {
                    name.clone()
                } else {
                    format!("{name} {}", place(places.get(&marked), *start))
                };
                names.insert(marked, own);
            }
        }
        FinalNames { names }
    }
}

/// The first line of a closure that was seen, which is no other closure's; else its address.
fn place(places: Option<&Places>, start: Svma) -> String {
    let first = places.and_then(|places| places.keys().min_by_key(|(_, line)| *line));
    match first {
        Some((file, line)) => plain_place(file, *line),
        None => format!("@{:#x}", start.0),
    }
}

/// Names by those for the time being.
#[derive(Debug)]
pub(super) struct FinalNames {
    names: BTreeMap<String, String>,
}

impl FinalNames {
    /// That of a frame.
    pub(super) fn frame(&self, marked: &str) -> String {
        self.names
            .get(marked)
            .map_or(marked, String::as_str)
            .to_owned()
    }

    /// Those of a stack's frames.
    pub(super) fn stack(&self, marked: &str) -> String {
        if !marked.contains(MARK) {
            return marked.to_owned();
        }
        let frames: Vec<String> = marked.split(';').map(|frame| self.frame(frame)).collect();
        frames.join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::folded::Folding;
    use crate::symbolize::{Frame, Origin};

    fn closure(start: u64, line: Option<u32>) -> Drawn {
        Drawn::of(&Frame {
            start: Some(Svma(start)),
            file: line.map(|_| "src/api.rs".into()),
            line,
            ..Frame::named("app::api::serve::{{closure}}", Origin::Application)
        })
    }

    fn lines(stacks: &[Drawn]) -> Vec<String> {
        let mut folding = Folding::default();
        for frame in stacks {
            folding.add(vec![frame.clone()], Nanos(1_000_000));
        }
        folding.finish().lines.into_keys().collect()
    }

    #[test]
    fn one_closure_is_called_as_its_function() {
        let stacks = [closure(0x100, Some(7)), closure(0x100, Some(9))];
        assert_eq!(lines(&stacks), ["app::api::serve"]);
    }

    #[test]
    fn two_closures_of_a_function_share_no_frame() {
        let stacks = [
            closure(0x100, Some(9)),
            closure(0x100, Some(7)),
            closure(0x200, Some(30)),
        ];
        assert_eq!(
            lines(&stacks),
            ["app::api::serve api.rs:30", "app::api::serve api.rs:7"]
        );
        let stacks = [closure(0x100, None), closure(0x200, None)];
        assert_eq!(
            lines(&stacks),
            ["app::api::serve @0x100", "app::api::serve @0x200"]
        );
    }
}
