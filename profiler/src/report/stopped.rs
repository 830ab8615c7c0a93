//! What held a process from outside.

use crate::runtime::StoppedBy;
use crate::units::{Nanos, Pid};
use schemars::JsonSchema;
use serde::Serialize;

/// When and for how long something outside the program held its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stopped {
    /// The process.
    pub pid: Pid,
    /// By what.
    pub by: StoppedBy,
    /// Threads that were held.
    pub threads: u32,
    /// How often, without stops shorter than
    /// [`Report::min_block_ns`](super::Report::min_block_ns). Threads that were held at the same time
    /// were held once.
    pub stops: u64,
    /// For how long at least one of the threads was held, in all, and with the shorter stops of the
    /// thread that was held the longest.
    pub total_ns: Nanos,
    /// The longest stop.
    pub longest_ns: Nanos,
    /// The first ones, at most [`FIRST_STOPS`].
    pub first: Vec<Stop>,
}

/// Entries of [`Stopped::first`] at most.
pub const FIRST_STOPS: usize = 8;

/// One time in which threads of a process were held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stop {
    /// When it began, from the start of the recording; 0 where they were held then already.
    pub from_ns: Nanos,
    /// For how long at least one of them was held.
    pub length_ns: Nanos,
    /// How many.
    pub threads: u32,
    /// Whether they were held still when the recording ended.
    pub goes_on: bool,
}
