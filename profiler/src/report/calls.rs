//! Long system calls by the place they were made from.

use super::cpu_part::CpuPart;
use crate::cause::{Cause, Suggestion};
use crate::recording::ObjectKind;
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid};
use crate::unwind::Truncation;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// One place in the code from which threads made system calls that took a CPU for long.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CallSite {
    /// As [`super::Site::function`].
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the polled task; of several the one with the most time.
    pub task: Option<Arc<str>>,
    /// The process.
    pub pid: Pid,
    /// The runtime's id.
    pub runtime: Option<String>,
    /// What the threads did: only in a `poll` such a call keeps other tasks from running.
    pub part: CpuPart,
    /// As [`super::Site::wait`].
    pub wait: String,
    /// What the calls were for; of several causes the one with the most time.
    pub cause: Cause,
    /// As [`super::Site::call`].
    pub call: String,
    /// What the calls were for, most time first; at most 16.
    pub objects: Vec<CallObject>,
    /// Objects beyond those in `objects`.
    pub more_objects: u64,
    /// What to do instead; none where the call is allowed.
    pub advice: Option<Suggestion>,
    /// The rules that decided the state and the cause, as names.
    pub evidence: Vec<String>,
    /// How many calls.
    pub calls: u64,
    /// Their time on a CPU.
    pub total_ns: Nanos,
    /// The most of it in one call.
    pub max_ns: Nanos,
    /// Their time from entry to return: with waits, which are at some site of waits, and with
    /// waiting for a CPU.
    pub wall_ns: Nanos,
    /// The stack with the most time here, leaf first.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
    /// Why `stack` ends early, if it does.
    pub truncated: Option<Truncation>,
}

/// An object's part of a site of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CallObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// What it is called, raw.
    pub name: String,
    /// Calls for it here.
    pub calls: u64,
    /// Their time on a CPU.
    pub total_ns: Nanos,
}
