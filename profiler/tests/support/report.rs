//! The JSON report as any other program would read it. Deliberately not `holdup::report`:
//! the format is a promise, and these types are its other side.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) target: Target,
    pub(crate) targets: Vec<Target>,
    #[serde(default)]
    pub(crate) started_at: String,
    pub(crate) duration_ns: u64,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) threads: Vec<Thread>,
    #[serde(default)]
    pub(crate) pools: Vec<Pool>,
    pub(crate) sites: Vec<Site>,
    pub(crate) open_waits: Vec<OpenWait>,
    pub(crate) verdict: Verdict,
    pub(crate) cpu_sites: Vec<CpuSite>,
    pub(crate) long_polls: Vec<LongPolls>,
    pub(crate) stopped: Vec<Stopped>,
    pub(crate) calls_measured: bool,
    pub(crate) call_sites: Vec<CallSite>,
    #[serde(default)]
    pub(crate) panics: Option<Panics>,
    pub(crate) judges: Judges,
    pub(crate) losses: Losses,
}

impl Report {
    /// Reads what `-o report.json` wrote, which has to be as the JSON Schema in the repository says.
    pub(crate) fn parse(text: &str) -> Result<Report, String> {
        let mut report: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        keeps_to_the_schema(&report)?;
        let table = |name: &str| -> Vec<Value> {
            let table = report[name].as_array();
            table.cloned().unwrap_or_default()
        };
        let (frames, stacks) = (table("frames"), table("stacks"));
        with_frames(&mut report, &frames, &stacks)?;
        report["target"] = report["processes"][0].take();
        report["processes"][0] = report["target"].clone();
        report["targets"] = report["processes"].take();
        report["judges"] = report["classified"].take();
        serde_json::from_value(report).map_err(|error| error.to_string())
    }
}

/// Whether a report is as its JSON Schema says.
pub(crate) fn keeps_to_the_schema(report: &Value) -> Result<(), String> {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let schema = include_str!("../../schema/report-2.schema.json");
        let schema = serde_json::from_str(schema).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is one")
    });
    let errors: Vec<String> = schema
        .iter_errors(report)
        .take(3)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(format!("against the schema: {}", errors.join("; ")))
    }
}

/// Puts the frames themselves where the report has the index of a stack.
fn with_frames(value: &mut Value, frames: &[Value], stacks: &[Value]) -> Result<(), String> {
    match value {
        Value::Array(all) => all
            .iter_mut()
            .try_for_each(|value| with_frames(value, frames, stacks)),
        Value::Object(members) => {
            if let Some(stack) = members.get_mut("stack") {
                let index = stack.as_u64().and_then(|index| usize::try_from(index).ok());
                let indices = index.and_then(|index| stacks.get(index)?.as_array());
                let indices = indices.ok_or_else(|| format!("there is no stack {stack}"))?;
                let of = |index: &Value| {
                    let index = usize::try_from(index.as_u64()?).ok()?;
                    frames.get(index).cloned()
                };
                let frames: Option<Vec<Value>> = indices.iter().map(of).collect();
                *stack = frames.ok_or("there is no such frame")?.into();
            }
            let mut others = members.iter_mut().filter(|(name, _)| *name != "stack");
            others.try_for_each(|(_, value)| with_frames(value, frames, stacks))
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CallSite {
    pub(crate) function: String,
    pub(crate) part: String,
    pub(crate) cause: String,
    pub(crate) call: String,
    pub(crate) advice: Option<Advice>,
    pub(crate) calls: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) wall_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Panics {
    pub(crate) probed: Vec<String>,
    pub(crate) problems: Vec<String>,
    pub(crate) sites: Vec<PanicSite>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PanicSite {
    pub(crate) function: String,
    pub(crate) task: Option<String>,
    pub(crate) part: String,
    pub(crate) panics: u64,
    pub(crate) last_tid: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CpuSite {
    pub(crate) part: String,
    pub(crate) cpu_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LongPolls {
    pub(crate) function: String,
    pub(crate) task: Option<String>,
    pub(crate) polls: u64,
    pub(crate) total_ns: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) longest: LongestPoll,
    pub(crate) evidence: Vec<String>,
    pub(crate) stack: Vec<Frame>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LongestPoll {
    pub(crate) length_ns: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) runqueue_ns: u64,
    pub(crate) on_cpu_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stopped {
    pub(crate) by: String,
    pub(crate) threads: u32,
    pub(crate) stops: u64,
    pub(crate) total_ns: u64,
    pub(crate) longest_ns: u64,
    pub(crate) first: Vec<Stop>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stop {
    pub(crate) from_ns: u64,
    pub(crate) length_ns: u64,
    pub(crate) threads: u32,
    pub(crate) goes_on: bool,
}

/// The long polls of a runtime.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RuntimePolls {
    pub(crate) polls: u64,
    pub(crate) longest_blocked_ns: u64,
    pub(crate) histogram: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Waker {
    pub(crate) thread: String,
    pub(crate) pid: u32,
    pub(crate) function: Option<String>,
    pub(crate) waits: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Judges {
    pub(crate) by_context: u64,
    pub(crate) by_both: u64,
    pub(crate) agreed: u64,
    pub(crate) disagreed: u64,
    pub(crate) parks_known: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) tokio_version: Option<String>,
    pub(crate) tokio: Tokio,
    #[serde(default)]
    pub(crate) ended: Option<String>,
    pub(crate) cmdline: Vec<String>,
    pub(crate) earlier: Vec<String>,
    pub(crate) parent: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tokio {
    pub(crate) present: bool,
    pub(crate) context: Context,
    pub(crate) without_context: Vec<WithoutContext>,
}

/// How sure tokio's thread-local context is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Context {
    pub(crate) kind: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WithoutContext {
    pub(crate) module: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Runtime {
    pub(crate) id: String,
    pub(crate) polls: RuntimePolls,
    pub(crate) pid: u32,
    pub(crate) kind: String,
    pub(crate) workers: u32,
    pub(crate) thread_name: String,
    #[serde(default)]
    pub(crate) grouped_by: String,
    pub(crate) threads: u32,
    pub(crate) states: BTreeMap<String, u64>,
    pub(crate) starved_ns: u64,
    #[serde(default)]
    pub(crate) longest_stall_ns: u64,
    #[serde(default)]
    pub(crate) unattended_ns: Option<u64>,
    #[serde(default)]
    pub(crate) unattended: Vec<Stretch>,
    pub(crate) wedged_ns: u64,
    pub(crate) blocked_at_once: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) length_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Thread {
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) lived_ns: u64,
    pub(crate) waits: u64,
    pub(crate) states: BTreeMap<String, u64>,
    pub(crate) in_calls_ns: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Site {
    pub(crate) function: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) pid: u32,
    pub(crate) task: Option<String>,
    pub(crate) state: String,
    pub(crate) cause: String,
    pub(crate) call: String,
    pub(crate) objects: Vec<SiteObject>,
    #[serde(default)]
    pub(crate) object_groups: Vec<ObjectGroup>,
    pub(crate) advice: Option<Advice>,
    pub(crate) evidence: Vec<String>,
    pub(crate) waits: u64,
    pub(crate) total_ns: u64,
    pub(crate) runqueue_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) blame: Option<Blame>,
    pub(crate) queued: Option<Queued>,
    pub(crate) stack: Vec<Frame>,
}

/// What those did that ended the waits of a site.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Blame {
    pub(crate) waits: u64,
    pub(crate) total_ns: u64,
    pub(crate) chains: Vec<BlameChain>,
    pub(crate) more_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BlameChain {
    pub(crate) links: Vec<BlameLink>,
    pub(crate) end: String,
    pub(crate) total_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BlameLink {
    pub(crate) function: String,
    pub(crate) cause: String,
}

/// The tasks that blocked workers had with them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Queued {
    pub(crate) polls: u64,
    pub(crate) polls_with_lifo: u64,
    pub(crate) tasks: u64,
    pub(crate) most: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SiteObject {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) waits: u64,
    pub(crate) total_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ObjectGroup {
    pub(crate) name: String,
    pub(crate) objects: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Advice {
    pub(crate) text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Frame {
    pub(crate) function: String,
    #[serde(default)]
    pub(crate) inlined: bool,
    pub(crate) file: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OpenWait {
    pub(crate) tid: u32,
    pub(crate) function: String,
    pub(crate) state: String,
    pub(crate) since_ns: u64,
    pub(crate) before_recording: bool,
    pub(crate) object: Option<Object>,
    pub(crate) holder: Option<Holder>,
    pub(crate) waiters: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) idle_share: Option<f64>,
    #[serde(default)]
    pub(crate) threads: Option<u32>,
    #[serde(default)]
    pub(crate) queued: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pool {
    pub(crate) peak_busy: u32,
    pub(crate) peak_ns: u64,
    pub(crate) closures: u64,
    pub(crate) closures_queued: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// Who holds the object: by `kind` a thread, processes, or nobody that is known.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Holder {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Losses {
    pub(crate) events: u64,
    pub(crate) stacks: u64,
    pub(crate) truncated: u64,
    pub(crate) unresolved: u64,
    pub(crate) unknown_waits: u64,
    pub(crate) timeline: u64,
    pub(crate) walked: u64,
    #[serde(default)]
    pub(crate) functions_by_code: u64,
    pub(crate) samples: u64,
    pub(crate) mistaken_parks: u64,
    pub(crate) waits: u64,
    pub(crate) summed: u64,
    pub(crate) by_cause: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) shadow: Option<BTreeMap<String, u64>>,
}

impl Losses {
    /// Events that were lost by a fault of holdup's. Some kernels keep switches of some tasks from
    /// tracing; from when such a thread ran is known by comparing two clocks, which takes a
    /// switch-in that was seen: before there is one, a switch-in may be missed.
    pub(crate) fn lost_events(&self) -> u64 {
        self.events - self.events.min(self.cause("missed_switch_ins")).min(1)
    }

    /// Switches that the kernel kept from tracing: a wait whose beginning or end one was is at no site.
    pub(crate) fn missed_switches(&self) -> u64 {
        self.cause("missed_switch_ins") + self.cause("missed_switch_outs")
    }

    /// One count of `by_cause`, which has to be there.
    pub(crate) fn cause(&self, name: &str) -> u64 {
        let count = self.by_cause.get(name).copied();
        count.unwrap_or_else(|| panic!("the report counts no {name}"))
    }
}

/// Whether `path` (`blockers::locks::block_by_mutex::{closure}`) has `name` as a whole segment.
pub(crate) fn is_in(path: &str, name: &str) -> bool {
    path.split("::").any(|segment| segment == name)
}

impl Site {
    /// One line for a failure's message.
    pub(crate) fn describe(&self) -> String {
        let place = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!(" at {file}:{line}"),
            _ => String::new(),
        };
        let stack: Vec<&str> = self
            .stack
            .iter()
            .map(|frame| frame.function.as_str())
            .collect();
        format!(
            "{} in state {}{place}: {} waits, {:.3} ms, evidence {:?}, stack {}",
            self.function,
            self.state,
            self.waits,
            self.total_ns as f64 / 1e6,
            self.evidence,
            stack.join(" < "),
        )
    }
}
