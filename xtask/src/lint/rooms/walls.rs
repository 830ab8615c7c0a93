//! Which room names which.

use super::modules::Tree;
use super::table::Table;
use std::collections::{BTreeMap, BTreeSet};

/// What is in a wall's way, and what is wrong with the table.
pub(super) fn complaints(tree: &Tree, table: &Table) -> Vec<String> {
    let mut complaints = table.complaints(&tree.rooms());
    let arrows = arrows(tree);
    for ((from, to), places) in &arrows {
        if table.allows(from, to) {
            continue;
        }
        for place in places.values() {
            complaints.push(format!("{place}: {from} may not name {to}"));
        }
    }
    for (from, rooms) in &table.rooms {
        for to in rooms {
            if !arrows.contains_key(&(from.as_str(), to.as_str())) {
                complaints.push(format!(
                    "rooms.toml: {from} does not name {to}, so cross it out"
                ));
            }
        }
    }
    complaints.extend(of_shared(tree, table));
    complaints
}

/// Which room names which module of the crate that both sides share.
fn of_shared(tree: &Tree, table: &Table) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut named = BTreeSet::new();
    let mut told = BTreeSet::new();
    for shared in &tree.shared {
        let Some(room) = tree.room_of(shared.from) else {
            continue;
        };
        let module = shared.module.as_str();
        let may = table.shared.get(module);
        if may.is_some_and(|rooms| rooms.contains(room)) {
            named.insert((module, room));
        } else if told.insert((tree.modules[shared.from].file, module)) {
            let place = tree.line(shared.from, shared.line);
            complaints.push(format!(
                "{place}: {room} may not name profiler_common::{module}"
            ));
        }
    }
    for (module, rooms) in &table.shared {
        for room in rooms
            .iter()
            .filter(|room| !named.contains(&(module.as_str(), room.as_str())))
        {
            complaints.push(format!(
                "rooms.toml: {room} does not name profiler_common::{module}, so cross it out"
            ));
        }
    }
    complaints
}

/// By the two rooms: the first place in each file.
type Arrows<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<usize, String>>;

fn arrows(tree: &Tree) -> Arrows<'_> {
    let mut arrows = Arrows::new();
    for mention in &tree.mentions {
        let (Some(from), Some(to)) = (tree.room_of(mention.from), tree.room_named(mention)) else {
            continue;
        };
        if from != to {
            let places = arrows.entry((from, to)).or_default();
            let file = tree.modules[mention.from].file;
            places.entry(file).or_insert_with(|| tree.place(mention));
        }
    }
    arrows
}

impl Tree {
    /// The modules of the crate's root.
    fn rooms(&self) -> BTreeSet<String> {
        self.modules[Tree::ROOT].children.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::sample;
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).expect("a table")
    }

    const TREE: &[(&str, &str)] = &[
        (
            "lib.rs",
            "pub mod low; mod middle; mod high;\npub use low::Low;",
        ),
        (
            "low.rs",
            "pub struct Low;\n#[cfg(test)]\nmod tests { use crate::high; }",
        ),
        ("middle/mod.rs", "mod inner;\npub(crate) use inner::Inner;"),
        (
            "middle/inner.rs",
            "//! See [`crate::high`].\npub(crate) struct Inner(crate::low::Low);",
        ),
        (
            "high.rs",
            "use crate::{low::Low, middle};\nfn f() -> middle::Inner { todo!() }",
        ),
    ];
    const TABLE: &str = "[rooms]\nlow = []\nmiddle = ['low']\nhigh = ['low', 'middle']\n";

    /// The sample with one file of other content.
    fn with(file: &str, text: &str, table_text: &str) -> Vec<String> {
        let mut files = TREE.to_vec();
        files.retain(|(name, _)| *name != file);
        files.push((file, text));
        complaints(&sample(&files), &table(table_text))
    }

    #[test]
    fn a_good_tree_passes() {
        assert_eq!(
            complaints(&sample(TREE), &table(TABLE)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_way_to_name_a_room_is_seen() {
        for text in [
            "use crate::high;",
            "use crate::high as other;",
            "use crate::{high::{self}};",
            "use crate::high::*;",
            "use super::super::high::f;",
            "fn g() { crate::high::f(); }",
            "fn g() { use crate::high::f; f(); }",
            "fn g(_: &dyn crate::high::T) {}",
            "fn g() { println!(\"{}\", crate::high::N); }",
            "fn g() { println!(\"{}\", super::super::high::N); }",
            "impl crate::high::T for u8 {}",
            "pub(in crate::middle) static S: [u8; crate::high::N] = [];",
            "macro_rules! m { () => { $crate::high::f() } }",
            "mod deep { use super::super::super::high; }",
            "use self::super::super::high;",
            "use crate::r#high;",
            "use crate::*; fn g() { high::f(); }",
            "use super::super::*; fn g(_: &dyn high::T) {}",
            "fn g() { m!(use crate::{low, high::f};); }",
            "macro_rules! m { () => { use $crate::{low::Low, high::{self, f}}; } }",
            "#[derive(crate::high::D)] struct S;",
            "struct S { #[serde(with = \"crate::high::time\")] s: u8 }",
            "struct S { #[arg(value_parser = crate::high::parse)] s: u8 }",
            "#[cfg(any(test, unix))] use crate::high;",
            "#[cfg(not(test))] use crate::high;",
            "#[cfg(feature = \"test\")] use crate::high;",
        ] {
            let text = format!("pub(crate) struct Inner(crate::low::Low);\n{text}");
            let found = with("middle/inner.rs", &text, TABLE);
            assert_eq!(
                found,
                ["middle/inner.rs:2: middle may not name high"],
                "{text}"
            );
        }
    }

    #[test]
    fn words_and_tests_name_no_room() {
        for text in [
            "#[doc = \"crate::high\"] struct S;",
            "#[expect(unused, reason = \"crate::high::f\")] struct S;",
            "#[cfg(all(test, not(windows)))] use crate::high;",
            "#[cfg(any(test, all(unix, test)))] use crate::high;",
            "#[cfg_attr(test, derive(crate::high::D))] struct S;",
            "impl Inner { #[cfg(test)] const N: u8 = crate::high::N; }",
        ] {
            let text = format!("pub(crate) struct Inner(crate::low::Low);\n{text}");
            let found = with("middle/inner.rs", &text, TABLE);
            assert_eq!(found, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_the_root_exports_belongs_to_its_room() {
        let strict = TABLE.replace("middle = ['low']", "middle = []");
        for text in [
            "pub(crate) struct Inner(crate::Low);",
            "use crate::*; pub(crate) struct Inner(Low);",
            "use crate::*; pub(crate) struct Inner; fn f() { println!(\"{}\", Low) }",
        ] {
            let found = with("middle/inner.rs", text, &strict);
            assert_eq!(
                found,
                ["middle/inner.rs:1: middle may not name low"],
                "{text}"
            );
        }
    }

    #[test]
    fn an_arrow_that_no_file_needs_is_an_error() {
        // Tests do not need it, either.
        let text = "pub(crate) struct Inner;\n#[cfg(test)]\nmod tests { use crate::low; }";
        let found = with("middle/inner.rs", text, TABLE);
        assert_eq!(
            found,
            ["rooms.toml: middle does not name low, so cross it out"]
        );
    }

    #[test]
    fn a_room_that_the_table_does_not_list_is_an_error() {
        let found = complaints(
            &sample(TREE),
            &table("[rooms]\nlow = []\nmiddle = ['low']\n"),
        );
        assert!(
            found[0].contains("does not list the room high"),
            "{found:?}"
        );
    }

    #[test]
    fn what_both_sides_share_has_rooms_that_may_name_it() {
        let shared = format!("{TABLE}[shared]\nrecord = ['low']\n");
        let low = "pub struct Low;\nuse profiler_common::record::Header;";
        assert_eq!(with("low.rs", low, &shared), Vec::<String>::new());
        for (text, module) in [
            ("use profiler_common::record::Header;", "record"),
            ("use profiler_common::{record as other};", "record"),
            ("use profiler_common::*;", "*"),
            ("fn g() { profiler_common::map::f(); }", "map"),
        ] {
            let text = format!("pub(crate) struct Inner(crate::low::Low);\n{text}");
            let mut files = TREE.to_vec();
            files.retain(|(name, _)| !["low.rs", "middle/inner.rs"].contains(name));
            files.extend([("low.rs", low), ("middle/inner.rs", &text)]);
            let found = complaints(&sample(&files), &table(&shared));
            let wanted =
                format!("middle/inner.rs:2: middle may not name profiler_common::{module}");
            assert_eq!(found, [wanted], "{text}");
        }
        let unused = with("low.rs", "pub struct Low;", &shared);
        assert_eq!(
            unused,
            ["rooms.toml: low does not name profiler_common::record, so cross it out"]
        );
    }
}
