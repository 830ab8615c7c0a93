//! Pieces of JSON that are written one after another, so that a long timeline is never in memory
//! twice. Names have been made harmless before.

use crate::fast_hash::FastMap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::io;

/// What is told of each of some things, made once: a million waits name few.
pub(super) fn once<K: Copy + Eq + Hash, V, T>(
    things: &BTreeMap<K, V>,
    told: impl Fn(&V) -> io::Result<T>,
) -> io::Result<FastMap<K, T>> {
    let each = things.iter();
    each.map(|(id, thing)| Ok((*id, told(thing)?))).collect()
}

/// Writes any value.
pub(super) fn value(out: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

/// Writes the elements of an array or the members of an object with commas between them.
#[derive(Debug, Default)]
pub(super) struct Commas {
    begun: bool,
}

impl Commas {
    /// Before each element: a comma if one came before, and a line end.
    pub(super) fn next(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            out.write_all(b",")?;
        }
        out.write_all(b"\n")
    }
}
