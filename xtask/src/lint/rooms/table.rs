//! `xtask/rooms.toml`.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which room may name which.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// The rooms that there are, and those that each may name.
    pub(super) rooms: BTreeMap<String, BTreeSet<String>>,
    /// The modules of the crate that both sides share, and the rooms that may name each.
    #[serde(default)]
    pub(super) shared: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Table> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no table of rooms", path.display()))
    }

    /// Whether the one room may name the other.
    pub(super) fn allows(&self, from: &str, to: &str) -> bool {
        self.rooms.get(from).is_some_and(|may| may.contains(to))
    }

    /// What is wrong with the table itself, where the tree has these rooms.
    pub(super) fn complaints(&self, rooms: &BTreeSet<String>) -> Vec<String> {
        let mut complaints = Vec::new();
        for room in rooms {
            if !self.rooms.contains_key(room) {
                complaints.push(format!("rooms.toml does not list the room {room}"));
            }
        }
        for room in self.rooms.keys().filter(|room| !rooms.contains(*room)) {
            complaints.push(format!("rooms.toml lists {room}, which is not there"));
        }
        for (from, to) in &self.rooms {
            for name in std::iter::once(from).chain(to) {
                if !self.rooms.contains_key(name) {
                    complaints.push(format!(
                        "rooms.toml has an arrow of {name}, which it does not list"
                    ));
                }
            }
        }
        for room in self.rooms.keys() {
            if self.above(room).contains(room.as_str()) {
                complaints.push(format!("rooms.toml lets {room} name itself in a circle"));
            }
        }
        complaints
    }

    /// All rooms that `room` reaches.
    fn above<'a>(&'a self, room: &str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = vec![room];
        while let Some(room) = open.pop() {
            for next in self.rooms.get(room).into_iter().flatten() {
                if reached.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str, rooms: &[&str]) -> Vec<String> {
        let table: Table = toml::from_str(text).expect("a table");
        table.complaints(&rooms.iter().map(|room| (*room).to_owned()).collect())
    }

    #[test]
    fn the_table_fits_the_tree_and_has_no_circles() {
        let good = "[rooms]\na = []\nb = ['a']\nc = ['a', 'b']\n";
        assert!(complaints(good, &["a", "b", "c"]).is_empty());
        for (text, rooms, wanted) in [
            (good, &["a", "b", "c", "d"][..], "does not list the room d"),
            (good, &["a", "b"], "lists c, which is not there"),
            ("[rooms]\na = ['b']\n", &["a"], "an arrow of b"),
            (
                "[rooms]\na = ['b']\nb = ['a']\n",
                &["a", "b"],
                "lets a name itself",
            ),
        ] {
            let found = complaints(text, rooms);
            assert!(found.iter().any(|text| text.contains(wanted)), "{found:?}");
        }
    }
}
