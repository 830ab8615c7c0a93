//! The kinds of waits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of thing a thread waited for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A file or its file system: reading, writing, opening, syncing.
    FileIo,
    /// A socket.
    Network,
    /// A pipe or a FIFO.
    Pipe,
    /// Standard output or error: its reader, or its lock.
    Stdio,
    /// Python's global interpreter lock.
    Gil,
    /// Time: the thread asked to sleep.
    Sleep,
    /// A lock that another thread holds, or a cell that another thread initializes.
    Lock,
    /// A condition variable, a barrier, a parked thread: another thread's signal.
    Condvar,
    /// A futex of which no more is known: a lock, a condition variable, a channel or a `block_on`, in code
    /// without names.
    Futex,
    /// A message from, or room in, a synchronous channel.
    Channel,
    /// A future, by a `block_on` that parks this thread.
    NestedBlockOn,
    /// The end of another thread.
    ThreadJoin,
    /// A child process: its start, its output, its end.
    ChildProcess,
    /// The resolver of host names.
    Dns,
    /// A page of a mapped file.
    PageFault,
    /// Memory itself: reclaim, swap, the lock of the address space.
    Memory,
    /// A lock on a file (`flock`, `fcntl`).
    FileLock,
    /// Readiness of descriptors, by `poll` and its like.
    Poll,
    /// None of these, or not to be told.
    Other,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 19] = [
        Cause::FileIo,
        Cause::Network,
        Cause::Pipe,
        Cause::Stdio,
        Cause::Gil,
        Cause::Sleep,
        Cause::Lock,
        Cause::Condvar,
        Cause::Futex,
        Cause::Channel,
        Cause::NestedBlockOn,
        Cause::ThreadJoin,
        Cause::ChildProcess,
        Cause::Dns,
        Cause::PageFault,
        Cause::Memory,
        Cause::FileLock,
        Cause::Poll,
        Cause::Other,
    ];

    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cause::FileIo => "file-io",
            Cause::Network => "network",
            Cause::Pipe => "pipe",
            Cause::Stdio => "stdio",
            Cause::Gil => "gil",
            Cause::Sleep => "sleep",
            Cause::Lock => "lock",
            Cause::Condvar => "condvar",
            Cause::Futex => "futex",
            Cause::Channel => "channel",
            Cause::NestedBlockOn => "nested-block-on",
            Cause::ThreadJoin => "thread-join",
            Cause::ChildProcess => "child-process",
            Cause::Dns => "dns",
            Cause::PageFault => "page-fault",
            Cause::Memory => "memory",
            Cause::FileLock => "file-lock",
            Cause::Poll => "poll",
            Cause::Other => "other",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_serde_writes() {
        for cause in Cause::ALL {
            assert_eq!(
                serde_json::to_value(cause).expect("a unit variant"),
                serde_json::json!(cause.name())
            );
        }
    }
}
