//! What `holdup dump` found, as JSON.

use super::stacks::{FrameEntry, Stacks};
use super::write::write;
use crate::recording::{Host, Process, Tool};
use crate::report::dump::{Deadlock, Dump, DumpRuntime, DumpThread, DumpVerdict, FullPool, Unseen};
use crate::units::Nanos;
use serde::Serialize;
use std::io;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: &'a Tool,
    host: &'a Host,
    taken_at: &'a str,
    looked_ns: Nanos,
    verdict: &'a DumpVerdict,
    processes: &'a [Process],
    runtimes: &'a [DumpRuntime],
    deadlocks: &'a [Deadlock],
    full_pools: &'a [FullPool],
    threads: Vec<ThreadEntry<'a>>,
    unseen: &'a Unseen,
    /// Each stack leaf first, by the indices of its frames.
    stacks: Vec<Vec<u32>>,
    frames: Vec<FrameEntry<'a>>,
}

#[derive(Serialize)]
struct ThreadEntry<'a> {
    #[serde(flatten)]
    of: &'a DumpThread,
    /// Index into the stacks; none where it has none.
    stack: Option<u32>,
}

/// Writes JSON: one object, its members always in the same order; times are nanoseconds, addresses
/// hexadecimal text. Stacks and frames are in tables, and named by index elsewhere. Members are added
/// without notice.
///
/// # Errors
/// Those of writing to `out`.
pub fn dump(dump: &Dump, out: &mut dyn io::Write) -> io::Result<()> {
    let mut stacks = Stacks::default();
    let threads = dump.threads.iter().map(|thread| ThreadEntry {
        of: thread,
        stack: (!thread.stack.is_empty()).then(|| stacks.add(&thread.stack)),
    });
    let threads = threads.collect();
    let document = Document {
        schema: dump.schema,
        tool: &dump.tool,
        host: &dump.host,
        taken_at: &dump.taken_at,
        looked_ns: dump.looked_ns,
        verdict: &dump.verdict,
        processes: &dump.processes,
        runtimes: &dump.runtimes,
        deadlocks: &dump.deadlocks,
        full_pools: &dump.full_pools,
        threads,
        unseen: &dump.unseen,
        stacks: stacks.stacks,
        frames: stacks.frames,
    };
    write(&document, out)
}
