//! The checks of a service of a bug report against what it measured of itself.

use super::check::{Complaints, ms};
use super::report::{Report, Runtime};
use super::truth::slowdown;
use serde::Deserialize;

/// By how much a sum of times may be off besides a share of it: the program says its own an instant before or
/// after the recording begins and ends.
const OFF_NS: u64 = 25_000_000;
/// Of the waits of tokio's threads, one of so many may be unknown, and of all stacks one of so many cut off.
const UNKNOWN: u64 = 100;
/// What is no share of anything.
const STRAY_NS: u64 = 2_000_000;
/// A wait of that length is a standstill; this much of it was watched at the least.
const WEDGED_NS: u64 = 1_000_000_000;

/// What can be known of a build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Names of functions, by which states are told too.
    pub(crate) names: bool,
}

/// What is true of a case since its beginning.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Moment {
    at_ns: u64,
    groups: Vec<Group>,
}

/// The threads of one runtime, or those of its pool.
#[derive(Clone, Debug, Deserialize)]
struct Group {
    /// Their names.
    name: String,
    kind: String,
    /// The state of their waits.
    state: String,
    workers: u32,
    /// Runtimes of that name at once.
    runtimes: usize,
    waits: u64,
    /// By the clock, the time in the run queue included.
    blocked_ns: u64,
    /// What they meant to wait.
    least_ns: u64,
    /// All of them at once.
    at_once_ns: u64,
    halted: Vec<Halted>,
}

/// A thread that waits for good.
#[derive(Clone, Debug, Deserialize)]
struct Halted {
    tid: u32,
    /// The lock's address and size.
    lock: u64,
    len: u64,
}

impl Group {
    fn is_wedged(&self) -> bool {
        self.halted.len() == self.workers as usize
    }

    fn is_pool(&self) -> bool {
        self.state == "pool"
    }
}

/// What was true of a group while it was recorded.
struct Span<'a> {
    group: &'a Group,
    waits: u64,
    blocked_ns: u64,
    least_ns: u64,
    at_once_ns: u64,
    /// For how long it went on unseen by the program.
    late: u64,
}

/// What a report says otherwise than it was from one moment to another. The first is none where the program was
/// recorded from its start.
pub(crate) fn compare(
    report: &Report,
    known: Known,
    (since, until): (&Moment, &Moment),
) -> Complaints {
    let from_start = since.groups.is_empty();
    let mut complaints = Complaints::new();
    let spans = spans(report, since, until);
    for span in &spans {
        complaints.extend(in_states(report, span));
        if !span.group.is_pool() {
            complaints.extend(as_runtime(report, span));
        }
        for halted in &span.group.halted {
            complaints.extend(standstill(report, halted, !from_start));
        }
    }
    let wanted = verdict(&spans, until.at_ns - since.at_ns);
    let kind = report.verdict.kind.as_str();
    // Workers may meet in a lock of the runtime while whoever has it waits for a CPU. How long they may be
    // blocked so is limited above.
    let is_close = wanted == "healthy" && kind == "blocked";
    if kind != wanted && !is_close {
        complaints.push(format!("the verdict is {kind}, not {wanted}"));
    }
    complaints.extend(unknown(report, &spans));
    let losses = &report.losses;
    if losses.truncated * UNKNOWN > losses.walked {
        let (cut_off, walked) = (losses.truncated, losses.walked);
        complaints.push(format!("{cut_off} of {walked} stacks are cut off"));
    }
    complaints.extend(no_strangers(report, &spans));
    // Only waits that are over are counted so.
    let is_counted = spans.iter().any(|span| span.waits > 0);
    let by_context = report.judges.by_context > 0 || known.names || !is_counted;
    if report.judges.disagreed > 0 || !by_context {
        complaints.push(format!("the judges: {:?}", report.judges));
    }
    if !complaints.is_empty() {
        complaints.push(format!(
            "{:?}; the truth from {since:?} to {until:?}",
            report.runtimes
        ));
    }
    complaints
}

/// Scaled to the recording where that is longer or shorter than what lies between the moments.
fn spans<'a>(report: &Report, since: &Moment, until: &'a Moment) -> Vec<Span<'a>> {
    let between = until.at_ns - since.at_ns;
    // What came after the last moment, where nothing is scaled.
    let late = match since.groups.is_empty() {
        true => report.duration_ns.saturating_sub(between),
        false => 0,
    };
    let scaled = |ns: u64| match since.groups.is_empty() {
        true => ns,
        false => (u128::from(ns) * u128::from(report.duration_ns) / u128::from(between)) as u64,
    };
    let spans = until.groups.iter().enumerate().map(|(n, group)| {
        let before = since.groups.get(n);
        let of = |value: fn(&Group) -> u64| value(group) - before.map_or(0, value);
        Span {
            group,
            waits: of(|group| group.waits),
            blocked_ns: scaled(of(|group| group.blocked_ns)),
            late,
            least_ns: scaled(of(|group| group.least_ns)),
            at_once_ns: scaled(of(|group| group.at_once_ns)),
        }
    });
    spans.collect()
}

/// Whether a time is from the one to the other.
fn is_between(reported: u64, least: u64, most: u64) -> bool {
    let off = most / 25 + OFF_NS * slowdown();
    (least.saturating_sub(off)..=most + off).contains(&reported)
}

/// Their waits are in their state, and all of them.
fn in_states(report: &Report, span: &Span<'_>) -> Complaints {
    let Group { name, state, .. } = span.group;
    let threads = report
        .threads
        .iter()
        .filter(|thread| is_of(&thread.name, name));
    let reported: u64 = threads.filter_map(|thread| thread.states.get(state)).sum();
    let most = span.blocked_ns + span.late * u64::from(span.group.workers);
    if is_between(reported, span.least_ns, most) {
        return Complaints::new();
    }
    let [reported, least, most] = [reported, span.least_ns, most].map(ms);
    let waits = span.waits;
    vec![format!(
        "{name}: {reported} {state}, {least} to {most} in truth, in {waits} waits"
    )]
}

/// The kernel keeps 15 bytes of a thread's name.
fn is_of(thread: &str, name: &str) -> bool {
    thread.starts_with(name) || thread.len() == 15 && name.starts_with(thread)
}

/// It is one runtime of that kind, with its workers, and starved whenever all of them waited.
fn as_runtime(report: &Report, span: &Span<'_>) -> Complaints {
    let group = span.group;
    let runtimes = report.runtimes.iter();
    let mut runtimes: Vec<&Runtime> = runtimes
        .filter(|runtime| is_of(&runtime.thread_name, &group.name))
        .collect();
    runtimes.sort_by_key(|runtime| std::cmp::Reverse(time_of(runtime)));
    // Threads of a runtime that was dropped may take a moment to end while the next one begins.
    let rest = runtimes.split_off(group.runtimes.min(runtimes.len()));
    let [whole, rest] = [&runtimes, &rest].map(|all| all.iter().copied().map(time_of).sum::<u64>());
    if runtimes.len() < group.runtimes || rest * 10 > whole {
        return vec![format!("not {} runtimes `{}`", group.runtimes, group.name)];
    }
    let complaints = runtimes.iter().flat_map(|runtime| as_one(runtime, span));
    complaints.collect()
}

/// For how long its workers lived together.
fn time_of(runtime: &Runtime) -> u64 {
    runtime.states.values().sum()
}

fn as_one(runtime: &Runtime, span: &Span<'_>) -> Complaints {
    let group = span.group;
    let mut complaints = Complaints::new();
    if runtime.kind != group.kind || runtime.workers != group.workers {
        let (kind, workers) = (&runtime.kind, runtime.workers);
        complaints.push(format!("`{}` is a {kind} of {workers} workers", group.name));
    }
    // The program cannot tell when a thread on its way into a wait is kept from its CPU.
    let at_once = span.at_once_ns;
    let queued = runtime.states.get("runnable").copied().unwrap_or_default();
    let least = at_once.saturating_sub(queued);
    if group.workers > 1 && !is_between(runtime.starved_ns, least, at_once + span.late) {
        let (reported, truth) = (ms(runtime.starved_ns), ms(span.at_once_ns));
        complaints.push(format!(
            "`{}` starved for {reported}, {truth} in truth",
            group.name
        ));
    }
    let is_wedged = runtime.wedged_ns >= WEDGED_NS;
    if is_wedged != group.is_wedged() {
        complaints.push(format!(
            "`{}` wedged for {}",
            group.name,
            ms(runtime.wedged_ns)
        ));
    }
    complaints
}

/// An open wait of that thread, for that lock.
fn standstill(report: &Report, halted: &Halted, before_recording: bool) -> Complaints {
    let waits = report
        .open_waits
        .iter()
        .filter(|wait| wait.tid == halted.tid);
    let is_so = |wait: &&super::report::OpenWait| {
        let object = wait.object.as_ref().filter(|object| object.kind == "futex");
        let address = object.and_then(|object| {
            let (_, digits) = object.name.rsplit_once("0x")?;
            u64::from_str_radix(digits, 16).ok()
        });
        let lock = halted.lock..halted.lock + halted.len;
        wait.state == "blocked"
            && wait.before_recording == before_recording
            && wait.since_ns >= WEDGED_NS
            && address.is_some_and(|address| lock.contains(&address))
    };
    match waits.filter(is_so).count() {
        1 => Complaints::new(),
        _ => vec![format!("{halted:x?} is not among {:?}", report.open_waits)],
    }
}

/// By what the workers did: the gravest that is true of any of them.
fn verdict(spans: &[Span<'_>], length_ns: u64) -> &'static str {
    let workers = || spans.iter().filter(|span| !span.group.is_pool());
    let share = |ns: u64| ns as f64 / length_ns as f64;
    if workers().any(|span| span.group.is_wedged()) {
        "wedged"
    } else if workers().any(|span| span.group.workers > 1 && share(span.at_once_ns) >= 0.02) {
        "starved"
    } else if workers().any(|span| share(span.blocked_ns) >= 0.01) {
        "blocked"
    } else {
        "healthy"
    }
}

/// Hardly a wait of tokio's threads is in no state.
fn unknown(report: &Report, spans: &[Span<'_>]) -> Complaints {
    let threads = report.threads.iter();
    let threads = threads.filter(|thread| {
        spans
            .iter()
            .any(|span| is_of(&thread.name, &span.group.name))
    });
    let (mut unknown, mut waited) = (0, 0);
    for thread in threads {
        for (state, ns) in &thread.states {
            match state.as_str() {
                "unknown" => unknown += ns,
                "running" | "runnable" => continue,
                _ => {}
            }
            waited += ns;
        }
    }
    match unknown * UNKNOWN > waited + STRAY_NS * UNKNOWN * slowdown() {
        true => vec![format!("{} of {} unknown", ms(unknown), ms(waited))],
        false => Complaints::new(),
    }
}

/// No other runtime is made up, and no thread of a pool is taken for a worker.
fn no_strangers(report: &Report, spans: &[Span<'_>]) -> Complaints {
    let runtimes = report.runtimes.iter();
    let strangers = runtimes.filter(|runtime| {
        let mut workers = spans.iter().filter(|span| !span.group.is_pool());
        !workers.any(|span| is_of(&runtime.thread_name, &span.group.name))
    });
    strangers
        .map(|stranger| format!("who is {stranger:?}"))
        .collect()
}
