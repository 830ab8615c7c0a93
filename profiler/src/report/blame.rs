//! What the threads that ended the waits of a site did meanwhile.

use crate::cause::Cause;
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// What was to blame for the waits of a site that a thread of the target ended: what that thread did
/// from their begin to their end. Where it waited for another thread itself, that one is asked in
/// turn. Of a wait that had not ended, it is the thread that holds what it is for, where that is known.
///
/// How long a thread ran and was idle is known of each interval of about a second, and of each long poll.
/// What follows from that for the time in which another one waited is told as [`BlameEnd::Running`] and
/// [`BlameEnd::Idle`], the rest as [`BlameEnd::RunningOrIdle`]. The times of the chains and
/// [`Blame::more_ns`] sum to [`Blame::total_ns`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blame {
    /// Waits that a thread of the target ended or had to, of those that are recorded one by one.
    pub waits: u64,
    /// Their blocked time.
    pub total_ns: Nanos,
    /// Most time first; at most [`BLAME_CHAINS`].
    pub chains: Vec<BlameChain>,
    /// The time of all others.
    pub more_ns: Nanos,
}

/// Entries of [`Blame::chains`] at most.
pub const BLAME_CHAINS: usize = 32;

/// One thread waited for the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlameChain {
    /// Where the thread that ended the wait waited meanwhile, where the thread did that ended that
    /// wait, and so on. Empty where the first of them did not wait.
    pub links: Vec<BlameLink>,
    /// What the last of them did.
    pub end: BlameEnd,
    /// For how long it was so.
    pub total_ns: Nanos,
}

/// A place where a thread waited while another one waited for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlameLink {
    /// As [`Site::function`](super::Site::function).
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The process.
    pub pid: Pid,
    /// Why it waited.
    pub cause: Cause,
}

/// What the last thread of a chain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlameEnd {
    /// It waited for something outside the program, as the last link says.
    Outside,
    /// It ran.
    Running,
    /// It wanted a CPU.
    RunQueue,
    /// It waited, for less each time than what is recorded one by one.
    ShortWaits,
    /// It was parked: what it did in the end, somebody or something else set going.
    Idle,
    /// Something held it from outside: a signal, a debugger, the freezer.
    Stopped,
    /// It ran, was idle or waited for less than what is recorded one by one, and which of these is not
    /// known: of short stretches only sums are.
    RunningOrIdle,
    /// It waited for a thread of the chain: a circle.
    Cycle,
    /// Nothing more is known.
    Unknown,
}

impl BlameEnd {
    /// Whether it says anything of the thread.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, BlameEnd::RunningOrIdle | BlameEnd::Unknown)
    }
}
