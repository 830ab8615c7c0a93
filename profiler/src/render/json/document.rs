//! The report as one JSON object.

use super::stacks::{FrameEntry, Stacks};
use super::write::{row, write};
use crate::recording::{Classified, Host, Losses, Process, Tool};
use crate::render::Options;
use crate::report::dump::Deadlock;
use crate::report::{
    BlockingPool, CallSite, CauseTotal, CheckedCondition, CpuSite, CpuUse, Filter, LongPollSite,
    OpenWaitReport, PanicSite, Part, Report, RuntimeReport, Site, Stopped, TaskReport,
    ThreadReport, ThrottlingReport, Verdict,
};
use crate::symbolize::FrameRef;
use crate::units::Nanos;
use schemars::JsonSchema;
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use std::io;
use std::ops::Deref;

/// Everything that holdup found in one recording. Times are nanoseconds; those that end in `_ns` are
/// lengths, or times since the recording's start. States of threads and runtimes that have no time are
/// left out. `site` and `stack` are indices into `sites` and `stacks`.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "holdup report, schema 2")]
struct Document<'a> {
    /// Version of this format: 2. Grows when a member goes or changes its meaning.
    schema: u32,
    /// Which holdup made the recording.
    tool: &'a Tool,
    /// Where.
    host: &'a Host,
    /// Wall-clock start, RFC 3339 in UTC.
    started_at: &'a str,
    /// Length of the recording, or of the part of it.
    duration_ns: Nanos,
    /// Which part of a recording this is the report of; missing where it is of all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
    /// What the lists are of: `sites`, `threads`, `runtimes`, `causes`, `tasks`, `open_waits`, `cpu_sites`,
    /// `long_polls`, `call_sites`, `panics`. Missing where they are of everything. Everything else is of the
    /// whole recording all the same: verdicts, losses, and of what is listed the harm and the times of workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a Filter>,
    /// Shorter waits are in the sums, and not recorded one by one.
    min_block_ns: Nanos,
    /// Shorter polls are in no `polls` and no `long_polls`.
    long_poll_ns: Nanos,
    /// The main finding: the worst of those of the processes.
    verdict: &'a Verdict,
    /// What was asked by `--fail-if`, in the order in which it was. Missing where nothing was.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conditions: &'a [CheckedCondition],
    /// The recorded processes, in the order in which they came.
    processes: Vec<ProcessEntry<'a>>,
    /// The runtimes of all processes, the one with the most workers first.
    runtimes: &'a [RuntimeReport],
    /// The blocking pools, one for each process that has any.
    pools: &'a [BlockingPool],
    /// Every thread, by time blocked and then by id.
    #[serde(serialize_with = "rows")]
    #[schemars(with = "Vec<ThreadReport>")]
    threads: &'a [ThreadReport],
    /// What workers waited for in polls, most time first.
    causes: &'a [CauseTotal],
    /// Which tasks waited in polls, by harm and then by time, most first.
    tasks: &'a [TaskReport],
    /// Where threads waited: state `blocked` first, each state by harm and then by time, most first.
    sites: Vec<WithStack<'a, Site>>,
    /// Waits that had not ended when the recording did, longest first.
    #[serde(serialize_with = "rows")]
    #[schemars(with = "Vec<WithStack<'static, OpenWaitReport>>")]
    open_waits: Vec<WithStack<'a, OpenWaitReport>>,
    /// Threads among those of `open_waits` that wait for each other in a circle.
    deadlocks: &'a [Deadlock],
    /// Where threads were on a CPU, by samples, most first; empty without sampling.
    cpu_sites: Vec<WithStack<'a, CpuSite>>,
    /// Task polls that took long, whether their threads waited or ran, by task, most time first.
    long_polls: Vec<WithStack<'a, LongPollSite>>,
    /// Whether system calls were measured (`--syscalls`); where not, `call_sites` is empty.
    calls_measured: bool,
    /// Where threads were on a CPU inside one system call for at least `min_block_ns`; those in task
    /// polls first, each part by time, most first.
    call_sites: Vec<WithStack<'a, CallSite>>,
    /// Panics; none where they were not to be counted (`--panics`).
    panics: Option<Panics<'a>>,
    /// The CPU time of all processes together.
    cpu: &'a CpuUse,
    /// How a CPU quota held a process up, where one did.
    throttling: Option<&'a ThrottlingReport>,
    /// What held the processes from outside, and for how long.
    stopped: &'a [Stopped],
    /// When no task of a runtime could run.
    timeline: Timeline<'a>,
    /// By what the waits were classified.
    classified: &'a Classified,
    /// What was lost.
    losses: &'a Losses,
    /// Time taken back from states because a thread's sums went beyond its life: the clocks of two
    /// CPUs disagreed. Zero in a sound recording.
    clamped_ns: Nanos,
    /// Every distinct frame.
    #[serde(serialize_with = "rows")]
    #[schemars(with = "Vec<FrameEntry<'static>>")]
    frames: Vec<FrameEntry<'a>>,
    /// Every distinct stack: indices into `frames`, leaf first, kernel frames before user frames.
    #[serde(serialize_with = "rows")]
    #[schemars(with = "Vec<Vec<u32>>")]
    stacks: Vec<Vec<u32>>,
}

/// A recorded process, with the finding on it.
#[derive(Serialize, JsonSchema)]
struct ProcessEntry<'a> {
    #[serde(flatten)]
    process: &'a Process,
    /// The main finding on this process.
    verdict: &'a Verdict,
    /// Its CPU time as a share of that of all CPUs, 0 to 1.
    cpu_share: f64,
}

/// Something with a stack.
#[derive(Serialize, JsonSchema)]
struct WithStack<'a, T> {
    #[serde(flatten)]
    of: &'a T,
    /// Its stack, an index into `stacks`; of several the one with the most time.
    stack: u32,
}

/// Panics that were counted.
#[derive(Serialize, JsonSchema)]
struct Panics<'a> {
    /// The functions that were probed, with their modules; where there are none, no panic could be
    /// counted. Raw.
    probed: &'a [String],
    /// Why some could not be counted, a sentence each. Raw.
    problems: &'a [String],
    /// Where they began, most first.
    sites: Vec<WithStack<'a, PanicSite>>,
}

/// What happened when.
#[derive(Serialize, JsonSchema)]
struct Timeline<'a> {
    /// The longest times in which no task of a runtime could run, longest first; at most ten of each
    /// runtime.
    stalls: Vec<Stall<'a>>,
}

/// A time in which no task of a runtime could run.
#[derive(Serialize, JsonSchema)]
struct Stall<'a> {
    /// The runtime's id.
    runtime: &'a str,
    /// Its begin, from the recording's start.
    start_ns: Nanos,
    /// Its length.
    length_ns: Nanos,
}

/// A table with an entry a line. A service may have thousands of threads, and the indented members of their
/// entries would make the report twice as long.
fn rows<T: Serialize, S: Serializer>(
    entries: &impl Deref<Target = [T]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut rows = serializer.serialize_seq(Some(entries.len()))?;
    for entry in entries.iter() {
        rows.serialize_element(&row(entry).map_err(S::Error::custom)?)?;
    }
    rows.end()
}

/// Writes the report.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(report: &Report, _: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    write(&document(report), out)
}

/// Writes the JSON Schema that every report holds to.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn schema(out: &mut dyn io::Write) -> io::Result<()> {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    let schema = settings
        .into_generator()
        .into_root_schema_for::<Document<'_>>();
    write(&schema, out)
}

fn document(report: &Report) -> Document<'_> {
    let mut stacks = Stacks::default();
    Document {
        schema: report.schema,
        tool: &report.tool,
        host: &report.host,
        started_at: &report.started_at,
        duration_ns: report.duration_ns,
        part: report.part,
        filter: report.filter.as_ref(),
        min_block_ns: report.min_block_ns,
        long_poll_ns: report.long_poll_ns,
        verdict: &report.verdict,
        conditions: &report.conditions,
        processes: processes(report),
        runtimes: &report.runtimes,
        pools: &report.pools,
        threads: &report.threads,
        causes: &report.causes,
        tasks: &report.tasks,
        sites: with_stacks(&report.sites, &mut stacks, |site| &site.stack),
        open_waits: with_stacks(&report.open_waits, &mut stacks, |wait| &wait.stack),
        deadlocks: &report.deadlocks,
        cpu_sites: with_stacks(&report.cpu_sites, &mut stacks, |site| &site.stack),
        long_polls: with_stacks(&report.long_polls, &mut stacks, |site| &site.stack),
        calls_measured: report.calls_measured,
        call_sites: with_stacks(&report.call_sites, &mut stacks, |site| &site.stack),
        panics: report.panics.as_ref().map(|panics| Panics {
            probed: &panics.probed,
            problems: &panics.problems,
            sites: with_stacks(&panics.sites, &mut stacks, |site| &site.stack),
        }),
        cpu: &report.cpu,
        throttling: report.throttling.as_ref(),
        stopped: &report.stopped,
        timeline: Timeline {
            stalls: stalls(report),
        },
        classified: &report.classified,
        losses: &report.losses,
        clamped_ns: report.clamped_ns,
        frames: stacks.frames,
        stacks: stacks.stacks,
    }
}

fn processes(report: &Report) -> Vec<ProcessEntry<'_>> {
    let findings = report.findings.iter();
    let processes = report.targets.iter().zip(findings);
    processes
        .map(|(process, finding)| ProcessEntry {
            process,
            verdict: &finding.verdict,
            cpu_share: finding.cpu_share,
        })
        .collect()
}

fn with_stacks<'a, T>(
    all: &'a [T],
    stacks: &mut Stacks<'a>,
    stack: impl Fn(&'a T) -> &'a [FrameRef],
) -> Vec<WithStack<'a, T>> {
    all.iter()
        .map(|of| WithStack {
            of,
            stack: stacks.add(stack(of)),
        })
        .collect()
}

/// Longest first.
fn stalls(report: &Report) -> Vec<Stall<'_>> {
    let mut stalls: Vec<Stall<'_>> = report
        .runtimes
        .iter()
        .flat_map(|runtime| {
            runtime.starved_stretches.iter().map(|stretch| Stall {
                runtime: &runtime.id,
                start_ns: stretch.start_ns,
                length_ns: stretch.length_ns,
            })
        })
        .collect();
    stalls.sort_by_key(|stall| (std::cmp::Reverse(stall.length_ns), stall.start_ns));
    stalls
}
