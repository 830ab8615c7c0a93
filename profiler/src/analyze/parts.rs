//! What is swept over: parts of waits and polls, and the threads that are counted together.

use super::homes::MultiThread;
use super::sweep::Piece;
use crate::recording::{ProcessId, StackId, ThreadId, WakerId};
use crate::units::{Tid, Timestamp};
use std::collections::BTreeMap;

/// Threads that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Track {
    /// Workers of a `multi_thread` runtime, blocked.
    Workers(MultiThread),
    /// Threads of that runtime inside `block_in_place`.
    HandedOff(MultiThread),
    /// The thread of a `current_thread` runtime, blocked.
    CurrentThread(ThreadId),
    /// Threads of the blocking pools of a process, inside closures.
    Pool(ProcessId),
}

/// What a [`Part`] is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A wait.
    Wait {
        /// Who ended it, where that is known.
        ender: Option<Ender>,
        /// When the thread came to run.
        ran: Timestamp,
    },
    /// A poll: what lies between its waits held its worker up as well.
    Poll,
}

/// Who ended a wait, or has to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ender {
    /// The thread that ended it.
    Waker(WakerId),
    /// Of a wait that goes on: the thread of the same process that holds what it is for.
    Holder(Tid),
}

/// The part of a wait that is to be swept over: up to the wakeup and not to the switch-in, since a
/// woken thread that waits for a CPU is `runnable`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) thread: ThreadId,
    pub(super) stack: StackId,
    /// When the wait began; before `from` where a part of it is swept over already.
    pub(super) began: Timestamp,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) kind: Kind,
}

/// The pieces of all tracks.
pub(super) type Pieces = BTreeMap<Track, Vec<Piece>>;
