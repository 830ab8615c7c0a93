//! What makes waits belong to one site.

use super::location::{Location, location};
use super::stack_facts::{class_of, has_site};
use crate::recording::{ProcessId, StackId, Tables};
use crate::runtime::{Role, State};

/// Waits with the same key are of one site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SiteKey {
    pub(super) process: ProcessId,
    pub(super) state: State,
    pub(super) role: Role,
    pub(super) location: Location,
}

impl SiteKey {
    /// That of waits with a stack; none where a thread waits with it where it should.
    pub(super) fn of(tables: &Tables, id: StackId) -> Option<SiteKey> {
        let (state, role) = class_of(tables, id);
        // Threads that are none of tokio's have no sites of their own, but may hold up others.
        let has_place = has_site(state) || state == State::Other;
        let stack = tables.stack(id).filter(|_| has_place)?;
        Some(SiteKey {
            process: stack.process,
            state,
            role,
            location: location(stack),
        })
    }
}
