//! Which objects have an entry of their own, and which share one, so that a service which opens a
//! connection per request loses none, however long it runs.

use super::object_names::connection;
use crate::decode::RawObject;
use crate::recording::{Object, ObjectKind};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Connections with one end in common that have entries of their own. The others share one.
const MAX_CONNECTIONS: usize = 256;

/// Objects that share an entry and are told apart, of some 20 bytes each; beyond them each number
/// of the kernel side counts as one more.
const MAX_TOLD_APART: usize = 1 << 17;

/// Entries of a kind; what goes beyond shares one. An entry takes some 300 bytes.
const fn most(kind: ObjectKind) -> usize {
    match kind {
        ObjectKind::Path | ObjectKind::Socket => 8192,
        ObjectKind::Futex | ObjectKind::Pipe | ObjectKind::Process | ObjectKind::Memory => 4096,
        ObjectKind::Timer | ObjectKind::Descriptor => 1024,
        ObjectKind::Poll | ObjectKind::Thread => 256,
    }
}

/// What all objects beyond their share are called together.
const fn others(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Path => "other paths",
        ObjectKind::Socket => "other sockets",
        ObjectKind::Pipe => "other pipes",
        ObjectKind::Futex => "other futexes",
        ObjectKind::Thread => "other threads",
        ObjectKind::Process => "other children",
        ObjectKind::Timer => "other times",
        ObjectKind::Poll => "other sets of descriptors",
        ObjectKind::Descriptor => "other descriptors",
        ObjectKind::Memory => "other memory",
    }
}

/// What has been given away.
#[derive(Debug, Default)]
pub(super) struct Shares {
    entries: HashMap<ObjectKind, usize>,
    /// Connections with an entry of their own, by each of their ends.
    ends: HashMap<String, usize>,
    told_apart: HashSet<u64>,
    hasher: RandomState,
}

impl Shares {
    /// The object that is to stand for a new one; none where it has an entry of its own from now
    /// on.
    pub(super) fn place(&mut self, object: &Object, raw: &RawObject) -> Option<Object> {
        let kind = object.kind;
        let share = |name: String| Some(Object { kind, name });
        let ends = connection(raw);
        if let Some(connection) = &ends {
            let full = |end: &String| {
                let count = self.ends.get(end);
                count.is_some_and(|count| *count >= MAX_CONNECTIONS)
            };
            // The end that is left out in the name is that which is another one each time.
            if full(&connection.peer) {
                return share(connection.any_own());
            }
            if full(&connection.own) {
                return share(connection.any_peer());
            }
        }
        let entries = self.entries.entry(kind).or_default();
        if *entries >= most(kind) {
            return share(others(kind).to_owned());
        }
        *entries += 1;
        if let Some(connection) = ends {
            for end in [connection.peer, connection.own] {
                *self.ends.entry(end).or_default() += 1;
            }
        }
        None
    }

    /// Whether an object that shares an entry is to be counted in it: it has not been before, as
    /// far as is known.
    pub(super) fn is_new(&mut self, object: &Object) -> bool {
        let hash = self.hasher.hash_one(object);
        if self.told_apart.len() < MAX_TOLD_APART {
            return self.told_apart.insert(hash);
        }
        !self.told_apart.contains(&hash)
    }
}
