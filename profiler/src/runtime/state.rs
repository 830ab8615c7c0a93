//! The words in which the rules speak.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What a nanosecond of a thread's life was; each is in exactly one state.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Off-CPU inside a task poll of a worker: the bug.
    Blocked,
    /// Off-CPU in the runtime's own code, neither parked nor in a poll.
    Runtime,
    /// Off-CPU inside `block_in_place`: the worker's core went to another thread.
    HandedOff,
    /// Off-CPU inside a `spawn_blocking` closure.
    Pool,
    /// On a CPU.
    Running,
    /// Wants a CPU and has none: preempted, or woken and not yet running.
    Runnable,
    /// Parked by the runtime because there is nothing to do.
    Idle,
    /// Held by something outside the program: a signal, a debugger or the freezer.
    Stopped,
    /// Not a tokio thread.
    Other,
    /// The stack did not say.
    Unknown,
}

impl State {
    /// Every state, in the order in which reports list them.
    pub const ALL: [State; 10] = [
        State::Blocked,
        State::Runtime,
        State::HandedOff,
        State::Pool,
        State::Running,
        State::Runnable,
        State::Idle,
        State::Stopped,
        State::Other,
        State::Unknown,
    ];

    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Blocked => "blocked",
            State::Runtime => "runtime",
            State::HandedOff => "handed-off",
            State::Pool => "pool",
            State::Running => "running",
            State::Runnable => "runnable",
            State::Idle => "idle",
            State::Stopped => "stopped",
            State::Other => "other",
            State::Unknown => "unknown",
        }
    }
}

/// What held a thread that the program did not make wait.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// `SIGSTOP` or another signal that stops.
    Signal,
    /// A debugger, or another program that traces.
    Debugger,
    /// The freezer of the control group, or of the whole system.
    Freezer,
}

/// Which kind of runtime a thread serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// Several workers that steal from each other.
    MultiThread,
    /// The thread inside `block_on` polls all tasks (`current_thread`, `LocalSet`).
    CurrentThread,
}

/// What a thread was to the runtime during one wait. Roles move between threads at a
/// `block_in_place`, so a role belongs to a wait and is never kept by thread id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Polls tasks.
    Worker(Flavor),
    /// A thread of the blocking pool.
    PoolThread,
    /// A thread outside the runtime that waits in a `block_on` of a `multi_thread` runtime
    /// (`main` under `#[tokio::main]`). With [`State::Blocked`]: its own root future waits inside
    /// its poll, which holds up no task but itself; such a thread never counts among workers.
    BlockOn,
    /// None of these.
    None,
}

impl Role {
    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Worker(Flavor::MultiThread) => "worker",
            Role::Worker(Flavor::CurrentThread) => "current-thread",
            Role::PoolThread => "pool",
            Role::BlockOn => "block-on",
            Role::None => "none",
        }
    }
}

/// What the rules say of one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Classification {
    /// The state of a thread that waits with this stack.
    pub state: State,
    /// The thread's role during the wait.
    pub role: Role,
    /// Name of the rule that decided, as shown under `evidence`.
    pub rule: RuleName,
    /// Index in the classified frames (leaf first) of the frame that decided; none where no
    /// frame did.
    pub frame: Option<u32>,
    /// Index of the outermost frame that still belongs to the polled task (the one nearest the
    /// poll marker), where the wait is inside a task poll, a pool closure or a root future.
    pub task_frame: Option<u32>,
}

/// The name of a rule; stable, since reports carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RuleName(pub &'static str);

impl RuleName {
    /// The name out of a file; it is kept for good, once. None where it is no name at all.
    #[must_use]
    pub fn of(name: &str) -> Option<RuleName> {
        let is_plain = |byte: u8| byte.is_ascii_graphic();
        name.bytes().all(is_plain).then(|| RuleName(interned(name)))
    }
}

impl<'de> Deserialize<'de> for RuleName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(RuleName(interned(&name)))
    }
}

/// The one copy of `name` that is kept for good, however often it is read.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_name_is_kept_once() {
        let read = || serde_json::from_str::<RuleName>("\"a-rule-of-this-test\"").expect("a name");
        let (first, second) = (read(), read());
        assert_eq!(first, RuleName("a-rule-of-this-test"));
        assert!(std::ptr::eq(first.0, second.0), "not stored a second time");
    }
}
