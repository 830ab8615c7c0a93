//! What the kernel side calls threads, stacks and objects.

use crate::runtime::Queued;
use crate::units::{Pid, Tid};
use profiler_common::record::{COMM_LEN, Header, STACK_BEFORE};
use std::fmt;

/// A thread as the kernel names it. Unlike a [`ThreadId`](crate::recording::ThreadId) it may be
/// given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadKey {
    /// Its process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
}

impl ThreadKey {
    pub(super) const fn of(header: &Header) -> ThreadKey {
        ThreadKey {
            pid: Pid(header.tgid),
            tid: Tid(header.tid),
        }
    }
}

/// The tick of a worker's core, to which the kernel side adds one, so that 0 is none.
pub(super) fn tick(raw: u32) -> Option<u32> {
    raw.checked_sub(1)
}

/// What waits for a worker, to which the kernel side adds one, so that 0 is not known; see
/// [`profiler_common::scheduler_core::queued`].
pub(super) fn queued(raw: u32) -> Option<Queued> {
    let raw = raw.checked_sub(1)?;
    Some(Queued {
        in_slot: raw & 1 != 0,
        in_queue: raw >> 1,
    })
}

/// A thread's name as the kernel has it: at most 15 bytes of any kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadName([u8; COMM_LEN]);

impl ThreadName {
    /// The bytes before the first zero. What comes after it is left over from longer names.
    #[must_use]
    pub fn new(comm: [u8; COMM_LEN]) -> ThreadName {
        let end = comm.iter().position(|byte| *byte == 0);
        let mut name = [0; COMM_LEN];
        let len = end.unwrap_or(COMM_LEN);
        for (into, byte) in name.iter_mut().zip(comm).take(len) {
            *into = byte;
        }
        ThreadName(name)
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::process::parse_comm(&self.0))
    }
}

impl fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", crate::process::parse_comm(&self.0))
    }
}

/// The number by which the kernel side knows a stack: a hash of process, system call, tokio's
/// thread-local state, frames, and of what the addresses mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackNumber(u64);

impl StackNumber {
    /// None for the numbers that stand for no stack.
    #[must_use]
    pub const fn new(number: u64) -> Option<StackNumber> {
        if number > STACK_BEFORE {
            Some(StackNumber(number))
        } else {
            None
        }
    }

    /// The key of the kernel side's map.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The stack of a wait, as the kernel side names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitStack {
    /// It was not walked, or found no room: its loss is counted.
    Lost,
    /// The wait began before the recording: the thread's [`Snapshot`](super::Snapshot) has it.
    BeforeRecording,
    /// That of a [`StackSeen`](super::StackSeen).
    Known(StackNumber),
}

impl WaitStack {
    pub(super) const fn new(number: u64) -> WaitStack {
        match StackNumber::new(number) {
            Some(number) => WaitStack::Known(number),
            None if number == STACK_BEFORE => WaitStack::BeforeRecording,
            None => WaitStack::Lost,
        }
    }

    /// The number, where there is one.
    #[must_use]
    pub const fn number(self) -> Option<StackNumber> {
        match self {
            WaitStack::Known(number) => Some(number),
            WaitStack::Lost | WaitStack::BeforeRecording => None,
        }
    }
}

/// The number by which the kernel side knows what a wait waits for. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectNumber(u64);

impl ObjectNumber {
    /// None for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<ObjectNumber> {
        if number == 0 {
            None
        } else {
            Some(ObjectNumber(number))
        }
    }

    /// The key of the kernel side's map.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Which mapping table of a process a walk used: a number that every change of the mappings
/// changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableVersion(pub u32);

impl TableVersion {
    /// There was no table.
    pub const NONE: TableVersion = TableVersion(0);
}
