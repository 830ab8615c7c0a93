//! The processes of this host that hold tokio: what `holdup list` prints.

use crate::recording::{Host, Tool};
use crate::units::Pid;
use serde::Serialize;

/// Version of the format of [`Listing`]; grows when a field changes its meaning or goes.
pub const LIST_SCHEMA: u32 = 1;

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// [`LIST_SCHEMA`].
    pub schema: u32,
    /// Which holdup made it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// Why nothing can be recorded on this machine, or by this user; none where it can.
    pub refusal: Option<String>,
    /// For how long the processes were looked at; none where they were not.
    pub looked_ns: Option<crate::units::Nanos>,
    /// By process id, or the most blocked first where that was looked at.
    pub processes: Vec<ListedProcess>,
    /// Processes that may not be looked into.
    pub unreadable: u64,
    /// Files that could not be read, or are too large: tokio may be in them.
    pub unread_files: u64,
}

/// A process that holds tokio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedProcess {
    /// Its id.
    pub pid: Pid,
    /// Its id in its own pid namespace, where that is another.
    pub own_pid: Option<Pid>,
    /// File name of its executable, raw.
    pub name: String,
    /// Path of its executable as its own namespace names it, raw.
    pub exe: String,
    /// Its user's id.
    pub uid: u32,
    /// That user's name, where this host has one.
    pub user: Option<String>,
    /// The service or scope of systemd.
    pub unit: Option<String>,
    /// The first digits of its container's id.
    pub container: Option<String>,
    /// Its pod's id.
    pub pod: Option<String>,
    /// The versions of tokio in its files; empty where they do not tell.
    pub tokio_versions: Vec<String>,
    /// The files that hold tokio: the executable, or libraries. Raw.
    pub tokio_in: Vec<String>,
    /// Its threads.
    pub threads: u32,
    /// Threads with the name that tokio gives to workers and to its blocking pool: a guess, which
    /// has both, and none of a runtime that names its threads.
    pub threads_named_by_tokio: u32,
    /// Whether the executable, or else the library that holds tokio, has a symbol table.
    pub has_symbols: bool,
    /// Whether it has line tables.
    pub has_lines: bool,
    /// Whether it could be recorded.
    pub can_record: bool,
    /// What stands in the way, or what recordings would lack.
    pub remark: Option<String>,
    /// Its runtimes that were seen at work, where that was looked at.
    pub runtimes: Option<u32>,
    /// Their workers, of those alive at once.
    pub workers: Option<u32>,
    /// The share of its workers' time in which they were blocked, 0 to 1, where that was looked at and
    /// any worker was seen.
    pub blocked_share: Option<f64>,
}
