//! What the threads that ended the waits of a site did meanwhile.

use crate::cause::Cause;
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// What was to blame for the waits of a site that a thread of the target ended: what that thread did
/// from their begin to their end. Where it waited for another thread itself, that one is asked in
/// turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blame {
    /// Waits that a thread of the target ended, of those that are recorded one by one.
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
    /// It ran, was idle, or waited for less than what is recorded one by one.
    Busy,
    /// It wanted a CPU.
    RunQueue,
    /// Nothing more is known.
    Unknown,
}
