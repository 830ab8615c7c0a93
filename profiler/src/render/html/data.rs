//! What the page draws by itself: names as JSON, on one line, then the columns of `columns`.

use super::columns::{self, Named};
use super::frames::{FrameName, Frames, KindName};
use super::pack::pack;
use crate::cause::Cause;
use crate::render::alike::FunctionNames;
use crate::render::drawn;
use crate::render::export::{lanes, names};
use crate::render::text::words;
use crate::render::{Options, display_name, process_name, sanitize};
use crate::report::{Detail, DetailStack, Report, Site, StateTimes, Stretch};
use crate::runtime::{Role, State};
use crate::units::{Nanos, Pid, Tid};
use serde::Serialize;
use std::collections::HashMap;
use std::io;

/// Version of these data: page and data are made by the same program, but may be taken apart.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Names<'a> {
    version: u32,
    duration: Nanos,
    min_block: Nanos,
    long_poll: Nanos,
    cpus: u32,
    icicle: bool,
    states: [&'static str; State::ALL.len()],
    causes: [&'static str; Cause::ALL.len()],
    notes: Vec<String>,
    runtimes: Vec<RuntimeName<'a>>,
    lanes: Vec<LaneName>,
    kinds: Vec<KindName>,
    frames: &'a [FrameName],
    stacks: Vec<StackName>,
    objects: Vec<String>,
    wakers: Vec<WakerName>,
    sites: Vec<SiteName>,
    folds: Vec<Fold>,
    intervals: usize,
}

#[derive(Serialize)]
struct RuntimeName<'a> {
    id: &'a str,
    title: String,
    root: String,
    workers: u32,
    states: &'a StateTimes,
    starved: Nanos,
    /// The longest times in which no task could run, and in which nobody waited for events.
    stalls: &'a [Stretch],
    driver: &'a [Stretch],
}

#[derive(Serialize)]
struct LaneName {
    name: String,
    tid: Tid,
    pid: Pid,
    process: Option<String>,
    role: &'static str,
    worker: bool,
    runtime: Option<usize>,
    waits: usize,
    polls: usize,
    /// The wait that had not ended.
    open: Option<usize>,
}

#[derive(Serialize)]
struct StackName {
    state: usize,
    role: &'static str,
    cause: Option<usize>,
    name: String,
    place: Option<String>,
    task: Option<String>,
    call: String,
    site: Option<usize>,
    /// Frames root first: all, and those that the flamegraph draws.
    full: Vec<usize>,
    drawn: Vec<usize>,
    cut: Option<&'static str>,
}

#[derive(Serialize)]
struct WakerName {
    name: String,
    lane: Option<usize>,
}

/// A site with the figures of its row.
#[derive(Serialize)]
struct SiteName {
    name: String,
    state: usize,
    cause: usize,
    total: Nanos,
    waits: u64,
    p50: Nanos,
    p99: Nanos,
    max: Nanos,
    harm: Nanos,
    text: String,
}

/// A stack of the flamegraph with its sums, short waits and all.
#[derive(Serialize)]
struct Fold {
    runtime: Option<usize>,
    state: usize,
    cause: Option<usize>,
    frames: Vec<usize>,
    blocked: Nanos,
    waits: u64,
}

/// Writes the data, packed.
pub(super) fn write(
    report: &Report,
    options: &Options,
    rows: &[&Site],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let none = Detail::default();
    let detail = report.detail.as_ref().unwrap_or(&none);
    let lanes = all_lanes(detail, options);
    let named = Named::of(&lanes);
    let mut naming = Naming::new(report, detail, options, rows);
    let stacks = named.stacks.all.iter().map(|id| detail.stacks.get(id));
    let stacks = stacks.map(|stack| naming.stack(stack)).collect();
    let folds = naming.folds();
    let lane_of: HashMap<(Pid, Tid), usize> = lanes
        .iter()
        .map(|lane| (lane.pid(), lane.id.tid))
        .zip(0..)
        .collect();
    let objects = named.objects.all.iter().map(|id| detail.objects.get(id));
    let wakers = named.wakers.all.iter().map(|id| detail.wakers.get(id));
    let names = Names {
        version: VERSION,
        duration: report.duration_ns,
        min_block: report.min_block_ns,
        long_poll: report.long_poll_ns,
        cpus: report.host.cpus,
        icicle: options.icicle,
        states: State::ALL.map(State::name),
        causes: Cause::ALL.map(Cause::name),
        notes: crate::render::export::left_out(detail),
        runtimes: report
            .runtimes
            .iter()
            .map(|of| runtime(report, of))
            .collect(),
        lanes: lanes.iter().map(|lane| naming.lane(lane)).collect(),
        kinds: naming.frames.kind_names(),
        frames: &naming.frames.all,
        stacks,
        objects: objects
            .map(|object| object.map_or_else(String::new, names::object))
            .collect(),
        wakers: wakers
            .map(|waker| WakerName {
                name: waker.map_or_else(String::new, |waker| names::waker(report, waker)),
                lane: waker.and_then(|waker| lane_of.get(&(waker.pid, waker.tid)).copied()),
            })
            .collect(),
        sites: rows.iter().map(|site| site_name(site)).collect(),
        folds,
        intervals: detail.activity.len(),
    };
    pack(out, |out| {
        serde_json::to_writer(&mut *out, &names).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        columns::waits_and_polls(out, &lanes, &named)?;
        columns::activity(out, (&detail.activity, detail.start), &lanes)
    })
}

/// Every worker, and every thread that waited or had long polls. Threads that are none of the runtime's
/// are there since others may wait for them.
fn all_lanes<'a>(detail: &'a Detail, options: &Options) -> Vec<lanes::Lane<'a>> {
    let mut shown = options.clone();
    shown.states.push(State::Other);
    let mut all = lanes::lanes(detail, &shown, lanes::Limit::NONE);
    let known: std::collections::HashSet<_> = all.iter().map(|lane| lane.id).collect();
    let workers = detail.threads.iter();
    let idle = workers.filter(|(id, thread)| names::is_worker(thread.role) && !known.contains(id));
    all.extend(idle.map(|(id, _)| lanes::Lane::empty(detail, *id)));
    lanes::sort(&mut all);
    all
}

fn runtime<'a>(report: &'a Report, runtime: &'a crate::report::RuntimeReport) -> RuntimeName<'a> {
    let process = process_name(report, runtime.pid);
    let kind = crate::render::folded::root(report, Some(&runtime.id), State::Blocked);
    RuntimeName {
        id: &runtime.id,
        title: words::title(report, runtime),
        root: match process {
            Some(process) => format!("{kind} of {}", sanitize(&process)),
            None => kind,
        },
        workers: runtime.workers,
        states: &runtime.states,
        starved: runtime.starved_ns,
        stalls: &runtime.starved_stretches,
        driver: &runtime.unattended,
    }
}

fn site_name(site: &Site) -> SiteName {
    let parts = [
        Some(display_name(&site.function)),
        words::location(site),
        site.task.as_deref().map(display_name),
        Some(display_name(&site.wait)),
        Some(site.cause.name().to_owned()),
    ];
    SiteName {
        name: display_name(&site.function),
        state: site.state as usize,
        cause: site.cause as usize,
        total: site.total_ns,
        waits: site.waits,
        p50: site.p50_ns,
        p99: site.p99_ns,
        max: site.max_ns,
        harm: site.harm_ns,
        text: parts.into_iter().flatten().collect::<Vec<_>>().join(" "),
    }
}

/// What makes a stack one of a site.
type SiteKey<'a> = (
    Pid,
    State,
    Role,
    &'a str,
    Option<&'a str>,
    Option<u32>,
    &'a str,
);

/// Names being given.
struct Naming<'a> {
    report: &'a Report,
    detail: &'a Detail,
    options: &'a Options,
    frames: Frames,
    runtimes: HashMap<&'a str, usize>,
    sites: HashMap<SiteKey<'a>, usize>,
}

impl<'a> Naming<'a> {
    fn new(
        report: &'a Report,
        detail: &'a Detail,
        options: &'a Options,
        rows: &[&'a Site],
    ) -> Naming<'a> {
        let runtimes = report.runtimes.iter().map(|runtime| &*runtime.id);
        let mut sites = HashMap::new();
        for (index, site) in rows.iter().enumerate() {
            let key: SiteKey<'a> = (
                site.pid,
                site.state,
                site.role,
                &site.function,
                site.file.as_deref(),
                site.line,
                &site.wait,
            );
            sites.entry(key).or_insert(index);
        }
        Naming {
            report,
            detail,
            options,
            frames: Frames::new(FunctionNames::of(report)),
            runtimes: runtimes.zip(0..).collect(),
            sites,
        }
    }

    fn stack(&mut self, stack: Option<&DetailStack>) -> StackName {
        let Some(stack) = stack else {
            return StackName {
                state: State::Unknown as usize,
                role: Role::None.name(),
                cause: None,
                name: "[no stack]".to_owned(),
                place: None,
                task: None,
                call: String::new(),
                site: None,
                full: Vec::new(),
                drawn: Vec::new(),
                cut: None,
            };
        };
        let drawing = drawn::Stack::from(stack);
        let key = (
            stack.pid,
            stack.state,
            stack.role,
            &*stack.function,
            stack.file.as_deref(),
            stack.line,
            &*stack.wait,
        );
        StackName {
            state: stack.state as usize,
            role: stack.role.name(),
            cause: stack.cause.map(|cause| cause as usize),
            name: names::site(stack),
            place: names::place(stack),
            task: names::task(stack),
            call: display_name(&stack.wait),
            site: self.sites.get(&key).copied(),
            full: self.frames.stack(&drawing, false),
            drawn: self.frames.folded(&drawing, self.options),
            cut: stack.truncated.map(words::why),
        }
    }

    fn folds(&mut self) -> Vec<Fold> {
        let mut folds = Vec::new();
        for stack in &self.report.stacks {
            if !self.options.states.contains(&stack.state) || stack.blocked == Nanos::ZERO {
                continue;
            }
            let drawing = drawn::Stack::from(stack);
            let runtime = stack.runtime.as_deref();
            folds.push(Fold {
                runtime: runtime.and_then(|id| self.runtimes.get(id).copied()),
                state: stack.state as usize,
                cause: stack.cause.map(|cause| cause as usize),
                frames: self.frames.folded(&drawing, self.options),
                blocked: stack.blocked,
                waits: stack.waits,
            });
        }
        folds
    }

    fn lane(&self, lane: &lanes::Lane<'a>) -> LaneName {
        let thread = lane.thread;
        let role = thread.map_or(Role::None, |thread| thread.role);
        let runtime = thread.and_then(|thread| thread.runtime.as_deref());
        // A thread waits once at a time.
        let open = self.detail.open.iter().find(|open| open.thread == lane.id);
        let open = open.and_then(|open| lane.recorded().iter().position(|wait| *wait == open));
        LaneName {
            name: names::thread(lane.id, thread),
            tid: lane.id.tid,
            pid: lane.pid(),
            process: process_name(self.report, lane.pid()).map(|name| sanitize(&name).into_owned()),
            role: role.name(),
            worker: names::is_worker(role),
            runtime: runtime.and_then(|id| self.runtimes.get(id).copied()),
            waits: lane.recorded().len(),
            polls: lane.polls().len(),
            open,
        }
    }
}
