//! Why a process cannot be recorded, found or started.
//!
//! An error says what failed in one line without a full stop; its source says why. The texts are
//! raw: they may quote names that a process chose.

use super::selection::{Found, Selection};
use super::selector::Selector;
use crate::units::Pid;
use rustix::thread::CapabilitySet;
use std::io;
use std::process::ExitStatus;

/// Why a process cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no such process, or not any more.
    #[error("no process has pid {0}")]
    Gone(Pid),
    /// The id is that of a thread which does not lead its process.
    #[error("{tid} is a thread of process {owner}")]
    Thread {
        /// The id as given.
        tid: Pid,
        /// The process.
        owner: Pid,
    },
    /// It is a thread of the kernel.
    #[error("process {pid} ({comm}) is a thread of the kernel: it runs no tokio")]
    KernelThread {
        /// Its id.
        pid: Pid,
        /// Its name.
        comm: String,
    },
    /// It has ended, and its parent has not waited for it yet.
    #[error("process {pid} ({comm}) has ended already and waits for its parent (a zombie)")]
    Zombie {
        /// Its id.
        pid: Pid,
        /// Its name.
        comm: String,
    },
    /// Its main thread has ended, and none of the others can be looked into.
    #[error(
        "the main thread of process {pid} ({comm}) has ended, and none of its other threads can be seen"
    )]
    MainThreadEnded {
        /// Its id.
        pid: Pid,
        /// Its name.
        comm: String,
    },
    /// It is a 32-bit program.
    #[error("{comm} is a 32-bit program: holdup records x86_64 only")]
    Is32Bit {
        /// Its name.
        comm: String,
    },
    /// It is a program for another kind of processor.
    #[error(
        "{comm} is a program for another machine (ELF machine {machine}): holdup records x86_64 only"
    )]
    NotX86 {
        /// Its name.
        comm: String,
        /// `e_machine` of its executable.
        machine: u16,
    },
    /// Its executable is no ELF file.
    #[error("the executable of {comm} is no ELF file")]
    NotElf {
        /// Its name.
        comm: String,
    },
    /// Its executable cannot be read.
    #[error("cannot read the executable of {comm}")]
    Executable {
        /// Its name.
        comm: String,
        /// Why.
        source: io::Error,
    },
    /// We may not look into it.
    #[error("not permitted to look into process {pid}{}: {why}", of_user(*uid))]
    Denied {
        /// Its id.
        pid: Pid,
        /// Whose it is, where that is known.
        uid: Option<u32>,
        /// What stands in the way.
        why: Barrier,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be looked into, for another reason than a permission.
    #[error("cannot look into process {pid}")]
    Unreadable {
        /// Its id.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no pidfds.
    #[error("the kernel lacks pidfd_open")]
    NoPidfd,
    /// No pidfd can be had of it.
    #[error("cannot pin process {pid}")]
    Pin {
        /// Its id.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// Its pidfd cannot be polled.
    #[error("cannot watch process {pid}")]
    Watch {
        /// Its id.
        pid: Pid,
        /// Why.
        source: io::Error,
    },
    /// The kernel describes it in a way that we do not understand.
    #[error("cannot make sense of /proc/{0}/stat")]
    Malformed(Pid),
}

/// Why we may not look into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// It is another user's, and we lack the capability for that.
    #[error("CAP_SYS_PTRACE missing")]
    NoPtrace,
    /// We hold that capability, but the process may do what we may not.
    #[error("it holds {}, which we lack", names(*.0))]
    Stronger(CapabilitySet),
    /// We hold that capability, and it is not enough.
    #[error("a security module or the sandbox around us protects it")]
    Protected,
}

/// `CAP_SYS_MODULE and CAP_SYS_BOOT`.
fn names(capabilities: CapabilitySet) -> String {
    let names = capabilities
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"));
    names.collect::<Vec<_>>().join(" and ")
}

fn of_user(uid: Option<u32>) -> String {
    uid.map(|uid| format!(" of user {uid}")).unwrap_or_default()
}

/// Why no process was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// `/proc` cannot be listed.
    #[error("cannot list the processes in /proc")]
    List(#[source] io::Error),
    /// None has the name, or executes the file.
    #[error("no process is {selector}")]
    None {
        /// By a name or a path.
        selector: Selector,
        /// Processes with names that may have been meant, the nearest first.
        near: Vec<(Pid, String)>,
    },
    /// None is in the unit.
    #[error("no process is in the unit {unit}{}", without_systemd(*has_systemd))]
    NoUnit {
        /// Its name.
        unit: String,
        /// Whether this machine's services are systemd's.
        has_systemd: bool,
        /// Units that may have been meant, each with one of its processes, the nearest first.
        near: Vec<(Pid, String)>,
    },
    /// None is in the control group.
    #[error("{}", no_group(path, *exists))]
    NoGroup {
        /// Its path.
        path: String,
        /// Whether there is one, without processes.
        exists: bool,
    },
    /// None is in the container.
    #[error("no process is in a container whose id begins with {id}")]
    NoContainer {
        /// The digits that were given.
        id: String,
    },
    /// They are in several containers.
    #[error("the ids of {} containers begin with {id}", ids.len())]
    Containers {
        /// The digits that were given.
        id: String,
        /// The ids.
        ids: Vec<String>,
    },
    /// None is of the user.
    #[error("no process of the user with the id {user} is {selection}")]
    NoneOfUser {
        /// The user.
        user: u32,
        /// What is meant.
        selection: Selection,
        /// Those that the last selector means, of other users.
        others: Vec<Found>,
    },
}

const fn without_systemd(has_systemd: bool) -> &'static str {
    match has_systemd {
        true => "",
        false => ": systemd does not run here",
    }
}

fn no_group(path: &str, exists: bool) -> String {
    match exists {
        true => format!("the control group {path} is empty"),
        false => format!("there is no control group {path}"),
    }
}

/// Why a command cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is none.
    #[error("no command is given")]
    NoCommand,
    /// The thread that would trace it cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// That thread ended before it had started the command.
    #[error("the launching thread ended early")]
    ThreadEnded,
    /// The user who called sudo cannot be taken on.
    #[error("cannot run {program} as the user who called sudo")]
    User {
        /// The command.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be executed.
    #[error("cannot run {program}")]
    Run {
        /// The command.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It may not be traced.
    #[error("cannot hold {program} at its start: tracing is forbidden here")]
    Trace {
        /// The command.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be held at its first instruction.
    #[error("cannot hold {program} at its start")]
    Hold {
        /// The command.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended before its first instruction.
    #[error("{program} ended before its first instruction: {status}")]
    Ended {
        /// The command.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
}
