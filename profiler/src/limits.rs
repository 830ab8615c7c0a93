//! Sizes of tables, and a way for tests to make them small.
//!
//! A text such as `STACKS=16,EVENTS=4096,timeline=100` makes tables smaller than they are, so that
//! a test can see them overflow. Names in capitals are maps of the kernel programs, in entries
//! (`EVENTS`: bytes); the others are tables of ours. The command line reads it from an environment
//! variable that is no part of the interface: it only ever makes a recording worse.

use std::collections::BTreeMap;

/// Limits that a test asked for; empty outside tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(BTreeMap<String, u32>);

impl Limits {
    /// The limits in `text`. What is none is ignored, with a warning.
    #[must_use]
    pub fn parse(text: &str) -> Limits {
        let mut limits = BTreeMap::new();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let parsed = entry
                .split_once('=')
                .and_then(|(name, value)| Some((name, value.parse::<u32>().ok()?)));
            match parsed {
                Some((name, value)) => drop(limits.insert(name.to_owned(), value)),
                None => tracing::warn!("this is no limit of a table: {entry:?}"),
            }
        }
        Limits(limits)
    }

    /// `full`, or less where a test wants it so.
    #[must_use]
    pub fn table(&self, name: &str, full: usize) -> usize {
        self.0
            .get(name)
            .map_or(full, |less| full.min(*less as usize))
    }

    /// The maps of the kernel programs that are to be smaller, and how large.
    pub fn maps(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0
            .iter()
            .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .map(|(name, entries)| (name.as_str(), *entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_make_tables_smaller_only() {
        let limits = Limits::parse("STACKS=16,timeline=100,,bad,worse=x,big=9");
        assert_eq!(limits.maps().collect::<Vec<_>>(), [("STACKS", 16)]);
        assert_eq!(limits.table("timeline", 1000), 100);
        assert_eq!(limits.table("timeline", 10), 10);
        assert_eq!(limits.table("other", 7), 7);
    }
}
