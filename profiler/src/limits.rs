//! Sizes of tables, and a way for tests to make them small.
//!
//! The environment variable `HOLDUP_TEST_LIMITS` (`STACKS=16,EVENTS=4096,timeline=100`) makes
//! tables smaller than they are, so that a test can see them overflow. Names in capitals are maps
//! of the kernel programs, in entries (`EVENTS`: bytes); the others are tables of ours. It is no
//! part of the interface: it only ever makes a recording worse.

use crate::host::privileges::is_more_than_its_caller;
use std::collections::BTreeMap;

/// The variable.
const VARIABLE: &str = "HOLDUP_TEST_LIMITS";

/// Limits that a test asked for; empty outside tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(BTreeMap<String, u32>);

impl Limits {
    /// Those of the environment. What is no limit in it is ignored, with a warning; and so is all
    /// of it where its maker has less rights than this program.
    #[must_use]
    pub fn from_env() -> Limits {
        if is_more_than_its_caller() {
            return Limits::default();
        }
        let Some(text) = std::env::var_os(VARIABLE) else {
            return Limits::default();
        };
        let text = text.to_string_lossy();
        tracing::warn!("tables are made small by {VARIABLE}: this recording is a test's");
        Limits::parse(&text)
    }

    fn parse(text: &str) -> Limits {
        let mut limits = BTreeMap::new();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let parsed = entry
                .split_once('=')
                .and_then(|(name, value)| Some((name, value.parse::<u32>().ok()?)));
            match parsed {
                Some((name, value)) => drop(limits.insert(name.to_owned(), value)),
                None => tracing::warn!("{VARIABLE} holds no limit: {:?}", entry),
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
