//! The processed format of the Firefox Profiler, by the crate of samply's author.
//!
//! A track a thread that waited. Its graph is high where the thread was blocked (what the viewer calls
//! CPU use), in the colour of the cause; its call tree has blocked milliseconds. Markers: each wait,
//! each long poll; and for each runtime a track with the longest times in which no task could run, or nobody
//! waited for events.

use super::lanes::{Lane, Limit, ShownPoll, ShownWait, Step, lanes};
use super::names;
use crate::cause::Cause;
use crate::fast_hash::FastMap;
use crate::recording::{ObjectId, StackId, WakerId};
use crate::render::alike::FunctionNames;
use crate::render::drawn;
use crate::render::palette::Kind;
use crate::render::{Options, duration, sanitize};
use crate::report::{Detail, Report, RuntimeReport};
use crate::units::{Nanos, Pid};
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, MarkerFieldFlags,
    MarkerFieldFormat, MarkerTiming, ProcessHandle, Profile, ReferenceTimestamp, SamplingInterval,
    StackHandle, StaticSchemaMarker, StaticSchemaMarkerField, StringHandle, ThreadHandle,
    Timestamp, WeightType,
};
use std::collections::BTreeMap;
use std::io;

/// Waits at most: each is two samples and a marker, and the profile is made in memory.
const WAITS: usize = 300_000;

/// Ids of tracks that are no thread's: beyond those that Linux gives out.
const RUNTIME_TRACKS: u32 = 1 << 30;

/// Writes the profile.
///
/// # Errors
///
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let none = Detail::default();
    let detail = report.detail.as_ref().unwrap_or(&none);
    let shown = detail.waits.iter().chain(&detail.open);
    let shown = shown.filter(|wait| super::lanes::is_shown(detail, options, wait));
    let lengths = shown
        .map(|wait| ShownWait::of(detail, wait).blocked())
        .collect();
    let limit = Limit::of(lengths, WAITS);
    let mut making = Making::new(report, detail, options, limit.at_least);
    for runtime in &report.runtimes {
        making.runtime(runtime);
    }
    for lane in &lanes(detail, options, limit) {
        making.lane(lane);
    }
    serde_json::to_writer(&mut *out, &making.profile).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// A profile being made.
struct Making<'a> {
    profile: Profile,
    report: &'a Report,
    detail: &'a Detail,
    options: &'a Options,
    names: FunctionNames,
    processes: BTreeMap<Pid, ProcessHandle>,
    categories: FastMap<&'static str, CategoryHandle>,
    /// What is told of each stack, object and waker: many waits have the same.
    stacks: FastMap<StackId, StackText>,
    objects: FastMap<ObjectId, StringHandle>,
    wakers: FastMap<WakerId, StringHandle>,
    end: Nanos,
}

/// What is told of a stack.
#[derive(Clone, Copy)]
struct StackText {
    cause: StringHandle,
    site: StringHandle,
    place: StringHandle,
    task: StringHandle,
}

impl<'a> Making<'a> {
    fn new(
        report: &'a Report,
        detail: &'a Detail,
        options: &'a Options,
        at_least: Nanos,
    ) -> Making<'a> {
        let mut said = names::caveats(report, detail);
        if at_least > Nanos::ZERO {
            said.push(format!("only waits of {} and more", duration(at_least)));
        }
        let target = names::process(report, report.target.pid);
        let product = format!("{target}, blocked time; {}", said.join(", "));
        let started: Option<jiff::Timestamp> = report.started_at.parse().ok();
        let started = started.map_or(0.0, |time| time.as_millisecond() as f64);
        let started = ReferenceTimestamp::from_millis_since_unix_epoch(started);
        let mut profile = Profile::new(&product, started, SamplingInterval::from_millis(1));
        profile.set_os_name(&format!("Linux {}", sanitize(&report.host.kernel)));
        // Frames have names: nobody is to look for others.
        profile.set_symbolicated(true);
        let mut processes = BTreeMap::new();
        for process in &report.targets {
            let name = sanitize(process.exe_name());
            let handle = profile.add_process(&name, process.pid.0, instant(Nanos::ZERO));
            processes.entry(process.pid).or_insert(handle);
        }
        Making {
            profile,
            report,
            detail,
            options,
            names: FunctionNames::of(report),
            processes,
            categories: FastMap::default(),
            stacks: FastMap::default(),
            objects: FastMap::default(),
            wakers: FastMap::default(),
            end: report.duration_ns,
        }
    }

    fn process(&mut self, pid: Pid) -> ProcessHandle {
        let profile = &mut self.profile;
        let name = names::process(self.report, pid);
        let new = || profile.add_process(&name, pid.0, instant(Nanos::ZERO));
        *self.processes.entry(pid).or_insert_with(new)
    }

    fn category(&mut self, name: &'static str, color: CategoryColor) -> CategoryHandle {
        let profile = &mut self.profile;
        let new = || profile.add_category(name, color);
        *self.categories.entry(name).or_insert_with(new)
    }

    fn text(&mut self, text: Option<String>) -> StringHandle {
        self.profile
            .intern_string(text.as_deref().unwrap_or_default())
    }

    fn stack_text(&mut self, id: StackId) -> StackText {
        if let Some(known) = self.stacks.get(&id) {
            return *known;
        }
        let stack = self.detail.stacks.get(&id);
        let new = StackText {
            cause: self
                .profile
                .intern_string(stack.map_or("unknown", names::cause)),
            site: self.text(stack.map(names::site)),
            place: self.text(stack.and_then(names::place)),
            task: self.text(stack.and_then(names::task)),
        };
        *self.stacks.entry(id).or_insert(new)
    }

    fn object_text(&mut self, id: Option<ObjectId>) -> StringHandle {
        if let Some(known) = id.and_then(|id| self.objects.get(&id)) {
            return *known;
        }
        let object = id.and_then(|id| self.detail.objects.get(&id));
        let new = self.text(object.map(names::object));
        id.map_or(new, |id| *self.objects.entry(id).or_insert(new))
    }

    fn waker_text(&mut self, id: Option<WakerId>) -> StringHandle {
        if let Some(known) = id.and_then(|id| self.wakers.get(&id)) {
            return *known;
        }
        let waker = id.and_then(|id| self.detail.wakers.get(&id));
        let new = self.text(waker.map(|waker| names::waker(self.report, waker)));
        id.map_or(new, |id| *self.wakers.entry(id).or_insert(new))
    }

    /// A track with the longest times in which no task of a runtime could run, or nobody waited for
    /// events.
    fn runtime(&mut self, runtime: &RuntimeReport) {
        if runtime.starved_stretches.is_empty() && runtime.unattended.is_empty() {
            return;
        }
        let process = self.process(runtime.pid);
        let thread = self
            .profile
            .add_thread(process, RUNTIME_TRACKS, instant(Nanos::ZERO), false);
        let name = format!("{} starved, I/O driver", runtime.id);
        self.profile.set_thread_name(thread, &name);
        self.profile.set_thread_end_time(thread, instant(self.end));
        self.profile
            .set_thread_show_markers_in_timeline(thread, true);
        let starved = (
            "no task could run",
            CategoryColor::Red,
            &runtime.starved_stretches,
        );
        let driver = (
            "nobody waits for events",
            CategoryColor::Brown,
            &runtime.unattended,
        );
        for (what, color, stretches) in [starved, driver] {
            let category = self.category(what, color);
            let name = self.profile.intern_string(what);
            for stretch in stretches {
                let until = stretch.start_ns + stretch.length_ns;
                let timing = MarkerTiming::Interval(instant(stretch.start_ns), instant(until));
                self.profile
                    .add_marker(thread, timing, Runtime { name, category });
            }
        }
    }

    fn lane(&mut self, lane: &Lane<'_>) {
        let process = self.process(lane.pid());
        let is_main = lane.id.tid.0 == lane.pid().0;
        let begin = instant(Nanos::ZERO);
        let thread = self
            .profile
            .add_thread(process, lane.id.tid.0, begin, is_main);
        let name = names::thread(lane.id, lane.thread);
        self.profile.set_thread_name(thread, &name);
        self.profile.set_thread_end_time(thread, instant(self.end));
        self.profile
            .set_thread_samples_weight_type(thread, WeightType::TracingMs);
        self.profile
            .set_thread_show_markers_in_timeline(thread, true);
        if lane
            .thread
            .is_some_and(|thread| names::is_worker(thread.role))
        {
            self.profile.add_initial_visible_thread(thread);
        }
        let mut stacks: FastMap<StackId, Waited> = FastMap::default();
        for step in lane.steps() {
            match step {
                Step::PollBegins(poll) => self.poll(thread, &poll),
                Step::PollEnds(_) => {}
                Step::Wait(wait) => {
                    let known = stacks.entry(wait.wait.stack);
                    let stack = known.or_insert_with(|| self.stack(thread, &wait));
                    let millis = stack.whole_millis(wait.blocked());
                    let (handle, category) = (stack.handle, stack.category);
                    self.wait(thread, &wait, (handle, category), millis);
                }
            }
        }
    }

    fn stack(&mut self, thread: ThreadHandle, wait: &ShownWait<'_>) -> Waited {
        let Some(stack) = wait.stack else {
            return Waited {
                handle: None,
                category: CategoryHandle::OTHER,
                rest: Nanos::ZERO,
            };
        };
        let all = drawn::Stack::from(stack);
        let (name, color) = cause_color(stack.cause);
        let cause = self.category(name, color);
        let drawn = drawn::frames(&all, self.options.collapse_runtime, &self.names);
        let last = drawn.len().saturating_sub(1);
        let mut frames = Vec::with_capacity(drawn.len());
        for (index, frame) in drawn.iter().enumerate() {
            // The colour of a graph is that of the leaf.
            let (group, color) = kind_color(frame.kind);
            let category = if index == last {
                cause
            } else {
                self.category(group, color)
            };
            frames.push(FrameInfo {
                frame: Frame::Label(self.profile.intern_string(&frame.marked())),
                category_pair: category.into(),
                flags: FrameFlags::empty(),
            });
        }
        Waited {
            handle: self.profile.intern_stack_frames(thread, frames.into_iter()),
            category: cause,
            rest: Nanos::ZERO,
        }
    }

    /// A sample at each end of the wait, and a marker over it.
    fn wait(
        &mut self,
        thread: ThreadHandle,
        shown: &ShownWait<'_>,
        (stack, category): (Option<StackHandle>, CategoryHandle),
        millis: i32,
    ) {
        let (start, end) = (instant(shown.start), instant(shown.wakeup));
        self.profile
            .add_sample(thread, start, stack, CpuDelta::ZERO, 0);
        let blocked = CpuDelta::from_nanos(shown.blocked().0);
        self.profile.add_sample(thread, end, stack, blocked, millis);
        let wait = shown.wait;
        let text = self.stack_text(wait.stack);
        let marker = Wait {
            category,
            name: text.cause,
            site: text.site,
            place: text.place,
            task: text.task,
            object: self.object_text(wait.object),
            waker: self.waker_text(wait.waker),
            runqueue: shown.runqueue(),
        };
        let timing = MarkerTiming::Interval(start, end);
        let marker = self.profile.add_marker(thread, timing, marker);
        self.profile.set_marker_stack(thread, marker, stack);
    }

    fn poll(&mut self, thread: ThreadHandle, shown: &ShownPoll<'_>) {
        let poll = shown.poll;
        let marker = Poll {
            category: self.category("poll", CategoryColor::Orange),
            name: self.profile.intern_string("long poll"),
            task: self.text(shown.stack.and_then(names::task)),
            place: self.text(shown.stack.and_then(names::place)),
            numbers: [
                millis(poll.blocked),
                millis(poll.runqueue),
                millis(poll.running),
                poll.waits as f64,
            ],
        };
        let timing = MarkerTiming::Interval(instant(shown.start), instant(shown.end));
        self.profile.add_marker(thread, timing, marker);
    }
}

/// A stack that was waited with.
struct Waited {
    handle: Option<StackHandle>,
    category: CategoryHandle,
    /// Blocked time that is not yet in any sample: their weights are whole milliseconds.
    rest: Nanos,
}

impl Waited {
    /// The whole milliseconds of `time` and what was left of the times before.
    fn whole_millis(&mut self, time: Nanos) -> i32 {
        let all = self.rest + time;
        self.rest = Nanos(all.0 % 1_000_000);
        i32::try_from(all.0 / 1_000_000).unwrap_or(i32::MAX)
    }
}

fn instant(since_start: Nanos) -> Timestamp {
    Timestamp::from_nanos_since_reference(since_start.0)
}

fn millis(time: Nanos) -> f64 {
    time.0 as f64 / 1e6
}

/// Causes of a kind share a colour: there are more of them than colours.
const fn cause_color(cause: Option<Cause>) -> (&'static str, CategoryColor) {
    let Some(cause) = cause else {
        return ("unknown", CategoryColor::Gray);
    };
    let color = match cause {
        Cause::FileIo | Cause::FileLock => CategoryColor::Blue,
        Cause::Network | Cause::Dns | Cause::Poll => CategoryColor::LightBlue,
        Cause::Lock | Cause::Gil => CategoryColor::Red,
        Cause::Condvar | Cause::Futex | Cause::Channel | Cause::ThreadJoin => {
            CategoryColor::Magenta
        }
        Cause::NestedBlockOn => CategoryColor::Purple,
        Cause::Sleep => CategoryColor::Yellow,
        Cause::Pipe | Cause::Stdio | Cause::ChildProcess => CategoryColor::Green,
        Cause::PageFault | Cause::Memory => CategoryColor::Brown,
        Cause::Other => CategoryColor::DarkGray,
    };
    (cause.name(), color)
}

const fn kind_color(kind: Kind) -> (&'static str, CategoryColor) {
    match kind {
        Kind::Application { .. } => ("application", CategoryColor::Orange),
        Kind::Dependency => ("crates", CategoryColor::Yellow),
        Kind::Runtime => ("tokio", CategoryColor::Purple),
        Kind::Library => ("std", CategoryColor::LightBlue),
        Kind::System => ("libc", CategoryColor::LightGreen),
        Kind::Kernel => ("kernel", CategoryColor::Blue),
        Kind::Root | Kind::State(_) | Kind::Nameless | Kind::Cause | Kind::Waker => {
            ("unnamed", CategoryColor::Gray)
        }
    }
}

const fn field(
    key: &'static str,
    label: &'static str,
    format: MarkerFieldFormat,
) -> StaticSchemaMarkerField {
    StaticSchemaMarkerField {
        key,
        label,
        format,
        flags: MarkerFieldFlags::SEARCHABLE,
    }
}

/// One wait.
struct Wait {
    category: CategoryHandle,
    name: StringHandle,
    site: StringHandle,
    place: StringHandle,
    task: StringHandle,
    object: StringHandle,
    waker: StringHandle,
    runqueue: Nanos,
}

impl StaticSchemaMarker for Wait {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Wait";
    const DESCRIPTION: Option<&'static str> = Some("A thread was off-CPU until it was woken.");
    const CHART_LABEL: Option<&'static str> = Some("{marker.data.site}");
    const TOOLTIP_LABEL: Option<&'static str> = Some("{marker.name}: {marker.data.site}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.data.site} {marker.data.object}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[
        field("site", "Function", MarkerFieldFormat::String),
        field("place", "Line", MarkerFieldFormat::FilePath),
        field("task", "Task", MarkerFieldFormat::String),
        field("object", "Waited for", MarkerFieldFormat::SanitizedString),
        field("waker", "Woken by", MarkerFieldFormat::String),
        field(
            "runqueue",
            "Then in line for a CPU",
            MarkerFieldFormat::Duration,
        ),
    ];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        self.category
    }

    fn string_field_value(&self, index: u32) -> StringHandle {
        match index {
            0 => self.site,
            1 => self.place,
            2 => self.task,
            3 => self.object,
            _ => self.waker,
        }
    }

    fn number_field_value(&self, _: u32) -> f64 {
        millis(self.runqueue)
    }
}

/// One long poll.
struct Poll {
    category: CategoryHandle,
    name: StringHandle,
    task: StringHandle,
    place: StringHandle,
    /// In the order of the fields.
    numbers: [f64; 4],
}

impl StaticSchemaMarker for Poll {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "LongPoll";
    const DESCRIPTION: Option<&'static str> =
        Some("One call of a task's poll that took long: the worker could do nothing else.");
    const CHART_LABEL: Option<&'static str> = Some("{marker.data.task}");
    const TOOLTIP_LABEL: Option<&'static str> = Some("long poll of {marker.data.task}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.data.task} {marker.data.place}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[
        field("task", "Task", MarkerFieldFormat::String),
        field("place", "Line", MarkerFieldFormat::FilePath),
        field("blocked", "Blocked", MarkerFieldFormat::Duration),
        field("runqueue", "In line for a CPU", MarkerFieldFormat::Duration),
        field("running", "Running", MarkerFieldFormat::Duration),
        field("waits", "Waits", MarkerFieldFormat::Integer),
    ];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        self.category
    }

    fn string_field_value(&self, index: u32) -> StringHandle {
        if index == 0 { self.task } else { self.place }
    }

    fn number_field_value(&self, index: u32) -> f64 {
        let index = usize::try_from(index).unwrap_or(0).saturating_sub(2);
        self.numbers.get(index).copied().unwrap_or_default()
    }
}

/// A time in which a runtime lacked something.
struct Runtime {
    category: CategoryHandle,
    name: StringHandle,
}

impl StaticSchemaMarker for Runtime {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Runtime";
    const DESCRIPTION: Option<&'static str> =
        Some("The longest times in which all workers were blocked, or no event was waited for.");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        self.category
    }

    fn string_field_value(&self, _: u32) -> StringHandle {
        self.name
    }

    fn number_field_value(&self, _: u32) -> f64 {
        0.0
    }
}
