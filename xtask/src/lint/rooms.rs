//! The walls between the rooms of `profiler/src`: which may name which stands in `xtask/rooms.toml`.
//! And no circles of imports between files, in any crate of ours. Tests may name everything.
//!
//! The sources are parsed, not compiled: what a macro makes is not seen, and neither is a method of a
//! type that no file names.

mod circles;
mod modules;
mod names;
mod table;
mod walls;

use crate::paths;
use anyhow::{Result, bail};
use modules::Tree;
use table::Table;

/// The crate with rooms.
const ROOMS: &str = "profiler/src";

/// The first file of each crate that may have no circles.
const CRATES: &[(&str, &str)] = &[
    (ROOMS, "lib.rs"),
    ("profiler-common/src", "lib.rs"),
    ("profiler-ebpf/src", "main.rs"),
    ("xtask/src", "lib.rs"),
    ("xtask/children/src", "lib.rs"),
];

/// Checks every crate.
///
/// # Errors
/// A file cannot be read or parsed, or there is something in a wall's way; each is listed.
pub(super) fn check() -> Result<()> {
    let table = Table::read(&paths::root().join("xtask/rooms.toml"))?;
    let mut complaints = Vec::new();
    for (folder, first) in CRATES {
        let tree = Tree::read(&paths::root().join(folder), first)?;
        if *folder == ROOMS {
            complaints.extend(walls::complaints(&tree, &table));
        }
        let found = circles::complaints(&tree);
        complaints.extend(found.into_iter().map(|text| format!("{folder}: {text}")));
    }
    if !complaints.is_empty() {
        bail!("rooms and circles:\n  {}", complaints.join("\n  "));
    }
    Ok(())
}
