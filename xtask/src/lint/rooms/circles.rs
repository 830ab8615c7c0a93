//! Circles of imports between files. A module and the ones within it may name each other.

use super::modules::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// From a file to those that it names, each with the first place where it does.
type Graph = BTreeMap<usize, BTreeMap<usize, String>>;

/// All circles.
pub(super) fn complaints(tree: &Tree) -> Vec<String> {
    let circles = circles(tree).into_iter().map(|(files, arrows)| {
        let names: Vec<&str> = files.iter().map(|file| tree.name(*file)).collect();
        format!(
            "a circle of imports between {}: {}",
            names.join(", "),
            arrows.join(", ")
        )
    });
    circles.collect()
}

/// The files of each circle, and the arrows between them.
///
/// Arrows between a module and those within it do not count both ways at once: there is none in a
/// circle of those down and the others, or of those up and the others.
fn circles(tree: &Tree) -> Vec<(BTreeSet<usize>, Vec<String>)> {
    let mut found: Vec<(BTreeSet<usize>, Vec<String>)> = Vec::new();
    for down in [true, false] {
        let graph = graph(tree, down);
        for files in knots(&graph) {
            if found.iter().all(|(known, _)| !files.is_subset(known)) {
                found.retain(|(known, _)| !known.is_subset(&files));
                let arrows = arrows(tree, &graph, &files);
                found.push((files, arrows));
            }
        }
    }
    found
}

/// All arrows between files, but of those within a module's own family only those down, or up.
fn graph(tree: &Tree, down: bool) -> Graph {
    let mut graph = Graph::new();
    for mention in &tree.mentions {
        let Some(to) = tree.file_named(mention) else {
            continue;
        };
        let from = tree.modules[mention.from].file;
        let (above, below) = (tree.is_within(to, from), tree.is_within(from, to));
        if from == to || (down && below) || (!down && above) {
            continue;
        }
        let arrows = graph.entry(from).or_default();
        arrows.entry(to).or_insert_with(|| tree.place(mention));
    }
    graph
}

/// The largest sets of files of which each reaches each other.
fn knots(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let reached: BTreeMap<usize, BTreeSet<usize>> = graph
        .keys()
        .map(|file| (*file, reach(graph, *file)))
        .collect();
    let mut knots: Vec<BTreeSet<usize>> = Vec::new();
    for (file, others) in &reached {
        if others.contains(file) && knots.iter().all(|knot| !knot.contains(file)) {
            let back = |other: &&usize| reached.get(other).is_some_and(|set| set.contains(file));
            knots.push(others.iter().filter(back).copied().collect());
        }
    }
    knots
}

fn reach(graph: &Graph, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in graph.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*next) {
                open.push(*next);
            }
        }
    }
    reached
}

fn arrows(tree: &Tree, graph: &Graph, files: &BTreeSet<usize>) -> Vec<String> {
    let of_file = |file: &usize| graph.get(file).into_iter().flatten();
    files
        .iter()
        .flat_map(of_file)
        .filter(|(to, _)| files.contains(to))
        .map(|(to, place)| format!("{place} → {}", tree.name(*to)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::modules::sample;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        complaints(&sample(files))
    }

    const LIB: (&str, &str) = ("lib.rs", "mod a; mod b;");

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        let files = [
            LIB,
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "\npub struct B(super::a::A);"),
        ];
        assert_eq!(
            found(&files),
            ["a circle of imports between a.rs, b.rs: a.rs:1 → b.rs, b.rs:2 → a.rs"]
        );
    }

    #[test]
    fn one_way_is_none_and_neither_are_tests() {
        let b = "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(all(test, unix))]\nuse crate::a;";
        assert!(found(&[LIB, ("a.rs", "use crate::b::B;"), ("b.rs", b)]).is_empty());
    }

    #[test]
    fn a_module_and_its_child_may_name_each_other() {
        let lib = ("lib.rs", "mod a; pub struct Root;");
        let a = ("a.rs", "mod x; mod y; use x::X; use y::Y; pub struct A;");
        let x = ("a/x.rs", "use super::A; use crate::Root; pub struct X;");
        let y = ("a/y.rs", "use crate::a::A; pub struct Y;");
        assert!(found(&[lib, a, x, y]).is_empty());
        // But not its children each other.
        let y = ("a/y.rs", "use super::x::X; pub struct Y;");
        let x = ("a/x.rs", "use super::y; pub struct X(y::Y);");
        assert_eq!(found(&[lib, a, x, y]).len(), 1);
    }

    #[test]
    fn a_circle_through_a_module_and_its_child_is_one() {
        // Down: a → a/x → b → a.
        let b = ("b.rs", "pub struct B(crate::a::A);");
        let down = [
            LIB,
            ("a.rs", "mod x; use x::X; pub struct A;"),
            ("a/x.rs", "pub struct X(crate::b::B);"),
            b,
        ];
        assert_eq!(found(&down).len(), 1);
        // Up: a/x → a → b → a/x.
        let up = [
            LIB,
            ("a.rs", "pub mod x; pub struct A(crate::b::B);"),
            ("a/x.rs", "pub struct X(super::A);"),
            ("b.rs", "pub struct B(crate::a::x::X);"),
        ];
        assert_eq!(found(&up).len(), 1);
    }

    #[test]
    fn a_name_is_followed_to_the_file_that_has_it() {
        let lib = ("lib.rs", "mod a; mod b;");
        let module = (
            "a/mod.rs",
            "mod x; mod y; pub use x::X; pub use self::y::*;",
        );
        let x = ("a/x.rs", "pub struct X;");
        // `b` names `X`, and `y` names `b`: no circle, though both go through `a`.
        let y = ("a/y.rs", "pub struct Y(crate::b::B);");
        assert!(found(&[lib, module, x, y, ("b.rs", "pub struct B(crate::a::X);")]).is_empty());
        for b in [
            "use crate::a::Y; pub struct B;",
            "use crate::a; pub struct B(a::Y);",
            "use crate::a; pub struct B; fn f() { println!(\"{}\", a::Y::N) }",
            "use crate::a::{self as other}; pub struct B(other::Y);",
        ] {
            assert_eq!(found(&[lib, module, x, y, ("b.rs", b)]).len(), 1, "{b}");
        }
    }
}
