//! pprof's format: a gzipped protocol buffer of samples, each a stack with values and labels. Source:
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>, whose field numbers these are.
//!
//! A sample is the waits of one thread with one stack for one object. Values: how many, and their
//! blocked time, the default. Labels: `state`, `cause`, `object`, `worker` (or `thread`), `task`,
//! `runtime`, `process`. Frames of the kernel are left out unless all are asked for.
//!
//! Written by hand: the format is some thirty fields, and a code generator for them would be a build
//! dependency that needs `protoc`, or generated code to be kept.

use super::names;
use super::protobuf::{Message, Strings};
use crate::fast_hash::FastMap;
use crate::recording::{ObjectId, StackId, ThreadId};
use crate::render::alike::FunctionNames;
use crate::render::drawn::truncation_text;
use crate::render::{Options, display_path, sanitize};
use crate::report::{Detail, DetailStack, DetailSum, Report};
use crate::runtime::State;
use crate::symbolize::{Frame, FrameRef, Space};
use crate::units::Pid;
use flate2::{Compression, GzBuilder};
use std::io;
use std::rc::Rc;

/// Fields of `Profile`.
mod profile {
    pub(super) const SAMPLE_TYPE: u32 = 1;
    pub(super) const SAMPLE: u32 = 2;
    pub(super) const MAPPING: u32 = 3;
    pub(super) const LOCATION: u32 = 4;
    pub(super) const FUNCTION: u32 = 5;
    pub(super) const STRING_TABLE: u32 = 6;
    pub(super) const TIME_NANOS: u32 = 9;
    pub(super) const DURATION_NANOS: u32 = 10;
    pub(super) const PERIOD_TYPE: u32 = 11;
    pub(super) const PERIOD: u32 = 12;
    pub(super) const COMMENT: u32 = 13;
    pub(super) const DEFAULT_SAMPLE_TYPE: u32 = 14;
}

/// Writes the profile, gzipped: the same bytes for the same report.
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
    let mut profile = Profile::new(report);
    for sum in &detail.sums {
        let stack = detail.stacks.get(&sum.stack);
        let state = stack.map_or(State::Unknown, |stack| stack.state);
        if options.states.contains(&state) {
            profile.sample((report, detail), sum, |profile| match stack {
                Some(stack) => profile.of_stack(options, stack),
                None => profile.stackless(),
            });
        }
    }
    let message = profile.finish(report, detail);
    // No name and no time in the header: they would be another each time.
    let mut gzip = GzBuilder::new().write(out, Compression::default());
    io::Write::write_all(&mut gzip, message.bytes())?;
    gzip.finish().map(drop)
}

/// A profile being made.
#[derive(Default)]
struct Profile<'a> {
    names: FunctionNames,
    message: Message,
    strings: Strings,
    string_table: Message,
    mappings: FastMap<(Pid, String), u64>,
    functions: FastMap<(u64, u64, u64), u64>,
    /// By the physical frame, and by its address and mapping: equal frames are one in memory.
    locations: FastMap<Location<'a>, u64>,
    /// Many sums have the same stack, thread or object: what a sample has of each is made once.
    stacks: FastMap<StackId, Rc<OfStack>>,
    threads: FastMap<(ThreadId, &'static str), Message>,
    objects: FastMap<ObjectId, Message>,
}

/// What a sample has of its stack.
struct OfStack {
    locations: Vec<u64>,
    /// Fields of a sample.
    labels: Message,
    /// The key of the label that names the thread.
    who: &'static str,
}

/// A physical frame with those inlined into it: process, address, and the place of each.
type Location<'a> = (Pid, u64, Vec<&'a Frame>);

impl<'a> Profile<'a> {
    fn new(report: &Report) -> Profile<'a> {
        let mut profile = Profile {
            names: FunctionNames::of(report),
            ..Profile::default()
        };
        profile.string("");
        let waits = profile.value_type("waits", "count");
        let blocked = profile.value_type("blocked", "nanoseconds");
        profile.message.message(profile::SAMPLE_TYPE, &waits);
        profile.message.message(profile::SAMPLE_TYPE, &blocked);
        // The first mapping is taken for the main program.
        for process in &report.targets {
            let exe = sanitize(process.exe_name()).into_owned();
            let file = sanitize(&process.exe).into_owned();
            let build_id = process.build_id.as_deref().unwrap_or_default();
            profile.mapping(process.pid, &exe, &file, build_id);
        }
        profile
    }

    /// The index of a string.
    fn string(&mut self, text: &str) -> u64 {
        let table = &mut self.string_table;
        self.strings.place(text, table, profile::STRING_TABLE)
    }

    fn value_type(&mut self, what: &str, unit: &str) -> Message {
        let mut value_type = Message::default();
        value_type.number(1, self.string(what));
        value_type.number(2, self.string(unit));
        value_type
    }

    /// The id of a mapping. Where it lies in memory is not in the recording; frames have names already,
    /// and nobody needs to look them up.
    fn mapping(&mut self, pid: Pid, module: &str, file: &str, build_id: &str) -> u64 {
        let next = self.mappings.len() as u64 + 1;
        let key = (pid, module.to_owned());
        if let Some(id) = self.mappings.get(&key) {
            return *id;
        }
        self.mappings.insert(key, next);
        let mut mapping = Message::default();
        mapping.number(1, next);
        mapping.number(5, self.string(file));
        mapping.number(6, self.string(build_id));
        for has in 7..=10 {
            // Functions, file names, line numbers, inlined frames.
            mapping.flag(has, true);
        }
        self.message.message(profile::MAPPING, &mapping);
        next
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let name = self.names.name(frame);
        let name = self.string(&name);
        let full_name = self.string(&sanitize(&frame.function));
        let file = self.string(&display_path(frame.file.as_deref().unwrap_or_default()));
        let next = self.functions.len() as u64 + 1;
        let key = (name, full_name, file);
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        self.functions.insert(key, next);
        let mut function = Message::default();
        function.number(1, next);
        function.number(2, name);
        function.number(3, full_name);
        function.number(4, file);
        self.message.message(profile::FUNCTION, &function);
        next
    }

    /// The location of a physical frame and of those inlined into it, leaf first.
    fn location(&mut self, pid: Pid, frames: &'a [FrameRef]) -> Option<u64> {
        let physical = frames.last()?;
        let key = (
            pid,
            physical.address.0,
            frames.iter().map(|frame| &**frame).collect(),
        );
        if let Some(id) = self.locations.get(&key) {
            return Some(*id);
        }
        let next = self.locations.len() as u64 + 1;
        self.locations.insert(key, next);
        let module = match (physical.space, &physical.module) {
            (Space::Kernel, _) => "[kernel.kallsyms]".to_owned(),
            (Space::User, Some(module)) => sanitize(module).into_owned(),
            (Space::User, None) => "[unknown]".to_owned(),
        };
        let mut location = Message::default();
        location.number(1, next);
        location.number(2, self.mapping(pid, &module, &module, ""));
        location.number(3, physical.address.0);
        for frame in frames {
            let mut line = Message::default();
            line.number(1, self.function(frame));
            line.number(2, frame.line.unwrap_or(0).into());
            location.message(4, &line);
        }
        self.message.message(profile::LOCATION, &location);
        Some(next)
    }

    /// The labels as fields of a sample.
    fn labels(&mut self, labels: &[(&str, &str)]) -> Message {
        let mut fields = Message::default();
        for (key, value) in labels {
            let mut label = Message::default();
            label.number(1, self.string(key));
            label.number(2, self.string(value));
            fields.message(3, &label);
        }
        fields
    }

    /// Waits with one stack.
    fn of_stack(&mut self, options: &Options, stack: &'a DetailStack) -> OfStack {
        let mut locations = Vec::new();
        let frames = names::drawn_frames(stack, options);
        for frames in frames.split_inclusive(|frame| !frame.inlined) {
            locations.extend(self.location(stack.pid, frames));
        }
        let task = names::task(stack);
        let mut labels = vec![
            ("state", stack.state.name()),
            ("cause", names::cause(stack)),
        ];
        labels.extend(task.as_deref().map(|task| ("task", task)));
        if let Some(truncation) = stack.truncated {
            labels.push(("truncated", truncation_text(truncation)));
        }
        OfStack {
            locations,
            labels: self.labels(&labels),
            who: match names::is_worker(stack.role) {
                true => "worker",
                false => "thread",
            },
        }
    }

    /// Waits whose stack was lost.
    fn stackless(&mut self) -> OfStack {
        OfStack {
            locations: Vec::new(),
            labels: self.labels(&[("state", State::Unknown.name())]),
            who: "thread",
        }
    }

    fn sample(
        &mut self,
        (report, detail): (&Report, &Detail),
        sum: &DetailSum,
        new_stack: impl FnOnce(&mut Self) -> OfStack,
    ) {
        let stack = match self.stacks.get(&sum.stack) {
            Some(known) => Rc::clone(known),
            None => {
                let new = Rc::new(new_stack(self));
                self.stacks.insert(sum.stack, Rc::clone(&new));
                new
            }
        };
        let mut sample = Message::default();
        sample.packed(1, stack.locations.iter().copied());
        sample.packed(2, [sum.waits, sum.blocked.0]);
        sample.append(&stack.labels);
        let thread = detail.threads.get(&sum.thread);
        let key = (sum.thread, stack.who);
        if !self.threads.contains_key(&key) {
            let label = self.labels(&[(stack.who, &names::thread(sum.thread, thread))]);
            self.threads.insert(key, label);
        }
        if let Some(label) = self.threads.get(&key) {
            sample.append(label);
        }
        if let Some(runtime) = &sum.runtime {
            sample.append(&self.labels(&[("runtime", runtime)]));
        }
        if let Some(id) = sum.object
            && let Some(object) = detail.objects.get(&id)
        {
            if !self.objects.contains_key(&id) {
                let label = self.labels(&[("object", &names::object(object))]);
                self.objects.insert(id, label);
            }
            if let Some(label) = self.objects.get(&id) {
                sample.append(label);
            }
        }
        if let Some(thread) = thread.filter(|_| report.targets.len() > 1) {
            let process = names::process(report, thread.pid);
            sample.append(&self.labels(&[("process", &process)]));
        }
        self.message.message(profile::SAMPLE, &sample);
    }

    fn finish(mut self, report: &Report, detail: &Detail) -> Message {
        let blocked = self.value_type("blocked", "nanoseconds");
        self.message.message(profile::PERIOD_TYPE, &blocked);
        self.message.number(profile::PERIOD, 1);
        self.message
            .number(profile::DURATION_NANOS, report.duration_ns.0);
        self.message.number(
            profile::TIME_NANOS,
            names::nanos_since_epoch(&report.started_at),
        );
        let tool = format!("{} {}", report.tool.name, report.tool.version);
        let comments = [tool].into_iter().chain(names::caveats(report, detail));
        for comment in comments {
            let index = self.string(&comment);
            self.message.number(profile::COMMENT, index);
        }
        let default = self.string("blocked");
        self.message.number(profile::DEFAULT_SAMPLE_TYPE, default);
        // The order of fields is free, and a reader sees the strings only when it has all of it.
        let mut message = self.message;
        message.append(&self.string_table);
        message
    }
}
