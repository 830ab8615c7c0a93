//! What is known of a stack: its class, and what follows from it.

use crate::recording::{ObjectId, Stack, StackId, Tables, WaitObject};
use crate::report::CpuPart;
use crate::runtime::{Flavor, Role, State};
use crate::symbolize::FrameRef;
use std::cmp::Reverse;

/// What a thread was during a wait, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WaitRole {
    /// What the rules said.
    Role(Role),
    /// Inside `block_in_place`: its core, and with it the role, belonged to another thread.
    HandedOff,
    /// The rules could not tell.
    Unknown,
}

impl WaitRole {
    /// A worker of a `multi_thread` runtime.
    pub(super) const MULTI_THREAD: WaitRole = WaitRole::Role(Role::Worker(Flavor::MultiThread));
    /// The thread of a `current_thread` runtime.
    pub(super) const CURRENT_THREAD: WaitRole = WaitRole::Role(Role::Worker(Flavor::CurrentThread));
    /// A thread in a `block_on` of a `multi_thread` runtime.
    pub(super) const BLOCK_ON: WaitRole = WaitRole::Role(Role::BlockOn);
    /// A thread of the blocking pool.
    pub(super) const POOL: WaitRole = WaitRole::Role(Role::PoolThread);

    /// That of waits in `state` with `role`.
    pub(super) fn new(state: State, role: Role) -> WaitRole {
        match (state, role) {
            (State::HandedOff, _) => WaitRole::HandedOff,
            // A state may be unknown where the role is not: a worker's truncated stack. A thread that
            // is held shows its role only where it does something for it just then.
            (State::Unknown | State::Stopped, Role::None) => WaitRole::Unknown,
            _ => WaitRole::Role(role),
        }
    }

    /// That of waits with a stack.
    pub(super) fn of(tables: &Tables, id: StackId) -> WaitRole {
        let (state, role) = class_of(tables, id);
        WaitRole::new(state, role)
    }

    /// Whether which thread it was says which runtime it belongs to. Otherwise the process does.
    pub(super) fn is_of_a_thread(self) -> bool {
        matches!(self, WaitRole::CURRENT_THREAD | WaitRole::Unknown)
    }
}

/// State and role of waits with stack `id`; a stack that is not there has neither.
pub(super) fn class_of(tables: &Tables, id: StackId) -> (State, Role) {
    tables
        .stack(id)
        .map_or((State::Unknown, Role::None), |stack| {
            (stack.class.state, stack.class.role)
        })
}

/// Whether waits in `state` have sites. A parked thread, or one that is not tokio's, waits
/// where it should; their stacks are in the flamegraph if somebody asks for them.
pub(super) const fn has_site(state: State) -> bool {
    match state {
        State::Blocked | State::Runtime | State::HandedOff | State::Pool | State::Unknown => true,
        State::Running | State::Runnable | State::Idle | State::Stopped | State::Other => false,
    }
}

/// Kernel frames before user frames, leaf first.
pub(super) fn whole_stack(stack: &Stack) -> Vec<FrameRef> {
    stack.kernel.iter().chain(&stack.frames).cloned().collect()
}

/// Index in [`whole_stack`] of the outermost frame of the task.
pub(super) fn task_frame(stack: &Stack) -> Option<usize> {
    let index = usize::try_from(stack.class.task_frame?).ok()?;
    (index < stack.frames.len()).then_some(stack.kernel.len() + index)
}

/// What was waited for, where it is known.
pub(super) fn object(tables: &Tables, id: Option<ObjectId>) -> Option<&WaitObject> {
    tables.object(id?)
}

/// What a thread does that is on a CPU with a stack of this class.
pub(super) fn part(state: State, role: Role) -> CpuPart {
    match (state, role) {
        (State::Blocked, Role::BlockOn) => CpuPart::BlockOn,
        (State::Blocked, _) => CpuPart::Poll,
        (State::HandedOff, _) => CpuPart::BlockInPlace,
        (State::Pool, _) => CpuPart::BlockingPool,
        (State::Runtime | State::Idle, _) => CpuPart::Runtime,
        (State::Other | State::Stopped, _) => CpuPart::Other,
        (State::Unknown | State::Running | State::Runnable, _) => CpuPart::Unknown,
    }
}

/// The key with the most; of equals the first.
pub(super) fn most<K: Ord, V: Ord>(sums: impl IntoIterator<Item = (K, V)>) -> Option<K> {
    let ordered = sums.into_iter().map(|(key, sum)| (sum, Reverse(key)));
    ordered.max().map(|(_, Reverse(key))| key)
}
