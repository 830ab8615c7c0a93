//! Hash tables for sums over millions of waits: std's hash takes several times as long for keys of a few
//! bytes. The hash is seeded at random in each table, so that names chosen by a target cannot be made to
//! collide beforehand.

/// A hash table.
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// A set.
pub(crate) type FastSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
