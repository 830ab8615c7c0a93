//! Panics by the place they began at.

use super::cpu_part::CpuPart;
use crate::symbolize::FrameRef;
use crate::units::{Nanos, Pid, Tid};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// What was counted.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct PanicReport {
    /// The functions that were probed, with their modules; where there are none, no panic could be
    /// counted. Raw.
    pub probed: Vec<String>,
    /// Why some could not be counted, a sentence each. Raw.
    pub problems: Vec<String>,
    /// Where they began, most first.
    pub sites: Vec<PanicSite>,
}

/// One place in the code where threads panicked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PanicSite {
    /// As [`super::Site::function`].
    pub function: Arc<str>,
    /// Its source file, if line tables have it.
    pub file: Option<Arc<str>>,
    /// Its line.
    pub line: Option<u32>,
    /// The outermost async function of the task in which the last one was.
    pub task: Option<Arc<str>>,
    /// The process.
    pub pid: Pid,
    /// What the threads did: of a panic in a `poll` nobody hears but who awaits the task's handle.
    pub part: CpuPart,
    /// What the site called to panic, as `core::option::unwrap_failed`.
    pub by: String,
    /// How many.
    pub panics: u64,
    /// When the last one was, from the recording's start.
    pub last_ns: Nanos,
    /// Its thread.
    pub last_tid: Tid,
    /// The thread's name, raw.
    pub last_thread: String,
    /// tokio's id of the task in which it was, where that is known.
    pub last_task_id: Option<u64>,
    /// Its stack, leaf first.
    #[serde(skip)]
    pub stack: Vec<FrameRef>,
}
