//! What a wait waits for, and who can end it.

use crate::units::{Pid, Tid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of thing a wait waits for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A file or directory, by its path in the target's own namespace.
    Path,
    /// A socket: `tcp 10.0.0.1:80 -> 10.0.0.2:5432`, `unix /run/db.sock`.
    Socket,
    /// A pipe, by its inode number: `pipe:[4711]`.
    Pipe,
    /// A futex, by the address of its word: `0x7f00deadbee0`.
    Futex,
    /// A thread that is waited for to end.
    Thread,
    /// A process that is waited for to end or to change its state.
    Process,
    /// A time that has to come.
    Timer,
    /// An epoll instance or a set of descriptors.
    Poll,
    /// An eventfd, a signalfd, an inotify descriptor and the like, as `/proc` names it.
    Descriptor,
    /// A page of memory that was touched: `0x7f00deadb000`, with its file where it has one.
    Memory,
}

impl ObjectKind {
    /// Its name in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ObjectKind::Path => "path",
            ObjectKind::Socket => "socket",
            ObjectKind::Pipe => "pipe",
            ObjectKind::Futex => "futex",
            ObjectKind::Thread => "thread",
            ObjectKind::Process => "process",
            ObjectKind::Timer => "timer",
            ObjectKind::Poll => "poll",
            ObjectKind::Descriptor => "descriptor",
            ObjectKind::Memory => "memory",
        }
    }
}

/// One thing that waits wait for. Two waits for the same thing have equal objects.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// What it is called, raw: renderers escape it.
    pub name: String,
}

/// Who holds what a wait waits for, as far as that can be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Holder {
    /// A thread of the target: the owner of a lock, or the thread that has to end.
    Thread {
        /// The thread.
        tid: Tid,
        /// Its name, raw.
        name: String,
        /// How we know.
        evidence: String,
        /// Whether it is only likely: the lock does not name its owner, and this thread alone has
        /// its address on its stack without waiting for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        likely: bool,
    },
    /// Processes that hold the other end of a pipe or a socket, or the child.
    Processes {
        /// Those found, at most [`MAX_HOLDERS`].
        processes: Vec<HolderProcess>,
        /// How many more there are.
        more: u32,
        /// How we know.
        evidence: String,
    },
    /// It cannot be known.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Processes that [`Holder::Processes`] names.
pub const MAX_HOLDERS: usize = 8;

/// A process that holds an end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct HolderProcess {
    /// The process.
    pub pid: Pid,
    /// Its name, raw.
    pub name: String,
}
