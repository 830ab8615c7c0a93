//! The names of threads.

use super::ledger::ThreadLedger;
use crate::recording::{Tables, ThreadId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The last known name of each thread.
#[derive(Debug, Default)]
pub(super) struct ThreadNames {
    names: BTreeMap<ThreadId, Arc<str>>,
    /// Threads whose names have been read since they were born: a thread may change its name, and
    /// has mostly done so soon after its birth.
    read: HashSet<ThreadId>,
}

impl ThreadNames {
    /// Keeps a name.
    pub(super) fn set(&mut self, thread: ThreadId, name: &str) {
        if self.names.get(&thread).is_none_or(|known| **known != *name) {
            self.names.insert(thread, name.into());
        }
    }

    /// Keeps a name that was read from the thread as it is now.
    pub(super) fn read(&mut self, thread: ThreadId, name: &str) {
        self.read.insert(thread);
        self.set(thread, name);
    }

    /// Keeps the name that a thread had at its end. The next one of this id has another.
    pub(super) fn ended(&mut self, thread: ThreadId, name: &str) {
        self.set(thread, name);
        self.read.remove(&thread);
    }

    /// Whether the name of a thread is still to be read.
    pub(super) fn is_unread(&self, thread: ThreadId) -> bool {
        !self.read.contains(&thread)
    }

    /// Forgets threads that no interval names, where there are many of them.
    pub(super) fn retain_named(&mut self, threads: &ThreadLedger) {
        threads.retain_named(&mut self.names);
    }

    /// Puts the names into `tables`, for somebody to read, until [`ThreadNames::take_back`].
    pub(super) fn lend(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.names, &mut tables.thread_names);
    }

    /// Takes the names back.
    pub(super) fn take_back(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.names, &mut tables.thread_names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::ProcessId;
    use crate::units::Tid;

    #[test]
    fn a_name_that_was_read_counts_until_the_thread_ends() {
        let thread = ThreadId {
            process: ProcessId(0),
            tid: Tid(7),
        };
        let mut names = ThreadNames::default();
        let now = |names: &mut ThreadNames| {
            let mut tables = Tables::default();
            names.lend(&mut tables);
            let name = tables.thread_name(thread).to_owned();
            names.take_back(&mut tables);
            name
        };
        assert_eq!(now(&mut names), "");
        names.set(thread, "the program's");
        names.set(thread, "its own");
        assert!(names.is_unread(thread));
        assert_eq!(now(&mut names), "its own");
        names.read(thread, "as it is now");
        assert!(!names.is_unread(thread));
        assert_eq!(now(&mut names), "as it is now");
        names.ended(thread, "at its end");
        assert!(
            names.is_unread(thread),
            "the next one of this id has another"
        );
        assert_eq!(now(&mut names), "at its end");
    }
}
