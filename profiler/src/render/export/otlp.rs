//! A profile of OpenTelemetry as a file: one `ProfilesData` message. Source:
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/profiles/v1development/profiles.proto>,
//! whose field numbers these are. The signal is in development there: a later version may differ.
//!
//! A resource a process; in each a profile of blocked time and one of the number of waits. What the
//! labels of pprof's format are, attributes are here.

use super::names;
use super::protobuf::{Message, Strings};
use crate::fast_hash::FastMap;
use crate::recording::{ObjectId, StackId, ThreadId};
use crate::render::alike::FunctionNames;
use crate::render::{Options, display_path, sanitize};
use crate::report::{Detail, DetailStack, DetailSum, Report};
use crate::runtime::State;
use crate::symbolize::{Frame, FrameRef, Space};
use crate::units::Pid;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::io;

/// Fields of `ProfilesDictionary`. The first entry of each table is the one that means none.
mod dictionary {
    pub(super) const MAPPING: u32 = 1;
    pub(super) const LOCATION: u32 = 2;
    pub(super) const FUNCTION: u32 = 3;
    pub(super) const LINK: u32 = 4;
    pub(super) const STRING: u32 = 5;
    pub(super) const ATTRIBUTE: u32 = 6;
    pub(super) const STACK: u32 = 7;
}

/// Writes the profiles: the same bytes for the same report.
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
    let mut dictionary = Dictionary::new(report);
    let mut samples: BTreeMap<Pid, Samples> = BTreeMap::new();
    // A stack has a sum for each thread and object.
    let mut stacks: FastMap<StackId, u64> = FastMap::default();
    for sum in &detail.sums {
        let stack = detail.stacks.get(&sum.stack);
        let state = stack.map_or(State::Unknown, |stack| stack.state);
        if !options.states.contains(&state) {
            continue;
        }
        let thread = detail.threads.get(&sum.thread);
        let pid = stack
            .map(|stack| stack.pid)
            .or_else(|| thread.map(|thread| thread.pid));
        let identity = Identity {
            stack: match (stack, stacks.get(&sum.stack)) {
                (_, Some(known)) => *known,
                (None, None) => 0,
                (Some(stack), None) => dictionary.stack(report, options, stack),
            },
            attributes: dictionary.attributes_of(detail, sum, stack),
        };
        stacks.insert(sum.stack, identity.stack);
        let samples = samples.entry(pid.unwrap_or(Pid(0))).or_default();
        samples.add(identity, [sum.blocked.0, sum.waits]);
    }
    let mut data = Message::default();
    for (pid, samples) in &samples {
        data.message(
            1,
            &resource(report, detail, *pid, &samples.0, &mut dictionary),
        );
    }
    data.message(2, &dictionary.message);
    out.write_all(data.bytes())
}

/// What a sample is known by: there is one of each in a profile.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    stack: u64,
    attributes: Vec<u64>,
}

/// The samples of both profiles, with their values: blocked nanoseconds, and waits.
#[derive(Default)]
struct Samples(Vec<(Identity, [u64; 2])>, FastMap<Identity, usize>);

impl Samples {
    /// What is drawn alike is one sample.
    fn add(&mut self, identity: Identity, values: [u64; 2]) {
        let Samples(all, places) = self;
        let place = *places.entry(identity.clone()).or_insert(all.len());
        match all.get_mut(place) {
            Some((_, sums)) => {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = sum.saturating_add(value);
                }
            }
            None => all.push((identity, values)),
        }
    }
}

/// `ResourceProfiles` of a process.
fn resource(
    report: &Report,
    detail: &Detail,
    pid: Pid,
    samples: &[(Identity, [u64; 2])],
    dictionary: &mut Dictionary<'_>,
) -> Message {
    let process = report.targets.iter().find(|process| process.pid == pid);
    let mut of = Message::default();
    of.message(1, &key_value("process.pid", &integer(pid.0.into())));
    if let Some(process) = process {
        let name = sanitize(process.exe_name());
        of.message(1, &key_value("process.executable.name", &text(&name)));
        let path = sanitize(&process.exe);
        of.message(1, &key_value("process.executable.path", &text(&path)));
    }
    let kernel = sanitize(&report.host.kernel);
    of.message(1, &key_value("os.version", &text(&kernel)));
    // A key is there once.
    let caveats = names::caveats(report, detail).join("; ");
    of.message(1, &key_value("holdup.losses", &text(&caveats)));
    let mut scope = Message::default();
    scope.bytes_field(1, report.tool.name.as_bytes());
    scope.bytes_field(2, report.tool.version.as_bytes());
    let mut scoped = Message::default();
    scoped.message(1, &scope);
    for (index, (what, unit)) in [("blocked", "ns"), ("waits", "{wait}")]
        .into_iter()
        .enumerate()
    {
        let of_type = dictionary.value_type(what, unit);
        scoped.message(2, &profile(report, &of_type, index, samples));
    }
    let mut resource = Message::default();
    resource.message(1, &of);
    resource.message(2, &scoped);
    resource
}

/// `Profile` of one kind of value.
fn profile(
    report: &Report,
    of_type: &Message,
    value: usize,
    samples: &[(Identity, [u64; 2])],
) -> Message {
    let mut profile = Message::default();
    profile.message(1, of_type);
    for (identity, values) in samples {
        let mut message = Message::default();
        message.number(1, identity.stack);
        message.packed(2, identity.attributes.iter().copied());
        message.packed(4, values.get(value).copied());
        profile.message(2, &message);
    }
    profile.fixed(3, names::nanos_since_epoch(&report.started_at));
    profile.number(4, report.duration_ns.0);
    profile
}

/// `AnyValue` of text.
fn text(text: &str) -> Message {
    let mut value = Message::default();
    value.bytes_field(1, text.as_bytes());
    value
}

/// `AnyValue` of a number.
fn integer(number: u64) -> Message {
    let mut value = Message::default();
    value.number_or_zero(3, number);
    value
}

/// `KeyValue`.
fn key_value(key: &str, value: &Message) -> Message {
    let mut pair = Message::default();
    pair.bytes_field(1, key.as_bytes());
    pair.message(2, value);
    pair
}

/// The entries of a table by their places; the first is the empty one, which means none.
struct Table {
    field: u32,
    places: FastMap<Message, u64>,
}

impl Table {
    fn new(field: u32, dictionary: &mut Message) -> Table {
        let places = FastMap::default();
        let mut table = Table { field, places };
        table.place(Message::default(), dictionary);
        table
    }

    /// The place of an entry; a new one is written to the dictionary. No entry is there twice.
    fn place(&mut self, entry: Message, dictionary: &mut Message) -> u64 {
        let next = self.places.len() as u64;
        match self.places.entry(entry) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                dictionary.message(self.field, new.key());
                *new.insert(next)
            }
        }
    }
}

/// What profiles name by index.
struct Dictionary<'a> {
    names: FunctionNames,
    message: Message,
    strings: Strings,
    attributes: Table,
    mappings: Table,
    functions: Table,
    locations: Table,
    stacks: Table,
    /// Places of what was looked up before: many stacks have the same frames.
    known: FastMap<(Pid, u64, Vec<&'a Frame>), u64>,
    of_stacks: FastMap<StackId, Vec<u64>>,
    of_threads: FastMap<ThreadId, Vec<u64>>,
    of_objects: FastMap<ObjectId, u64>,
    of_runtimes: FastMap<String, u64>,
}

impl<'a> Dictionary<'a> {
    fn new(report: &Report) -> Dictionary<'a> {
        let mut message = Message::default();
        let mut table = |field| Table::new(field, &mut message);
        let mut dictionary = Dictionary {
            names: FunctionNames::of(report),
            attributes: table(dictionary::ATTRIBUTE),
            mappings: table(dictionary::MAPPING),
            functions: table(dictionary::FUNCTION),
            locations: table(dictionary::LOCATION),
            stacks: table(dictionary::STACK),
            strings: Strings::default(),
            known: FastMap::default(),
            of_stacks: FastMap::default(),
            of_threads: FastMap::default(),
            of_objects: FastMap::default(),
            of_runtimes: FastMap::default(),
            message,
        };
        let none = Message::default();
        dictionary.message.message(dictionary::LINK, &none);
        dictionary.string("");
        dictionary
    }

    fn string(&mut self, text: &str) -> u64 {
        let table = &mut self.message;
        self.strings.place(text, table, dictionary::STRING)
    }

    fn value_type(&mut self, what: &str, unit: &str) -> Message {
        let mut value_type = Message::default();
        value_type.number(1, self.string(what));
        value_type.number(2, self.string(unit));
        value_type
    }

    fn attribute(&mut self, key: &'static str, value: &Message) -> u64 {
        let mut attribute = Message::default();
        attribute.number(1, self.string(key));
        attribute.message(2, value);
        self.attributes.place(attribute, &mut self.message)
    }

    /// Each attribute is made once: many sums have the same stack, thread or object.
    fn attributes_of(
        &mut self,
        detail: &Detail,
        sum: &DetailSum,
        stack: Option<&DetailStack>,
    ) -> Vec<u64> {
        let mut all = match self.of_stacks.get(&sum.stack) {
            Some(known) => known.clone(),
            None => {
                let new = self.attributes_of_stack(stack);
                self.of_stacks.insert(sum.stack, new.clone());
                new
            }
        };
        if let Some(runtime) = &sum.runtime {
            all.push(match self.of_runtimes.get(runtime) {
                Some(known) => *known,
                None => {
                    let new = self.attribute("holdup.runtime", &text(runtime));
                    *self.of_runtimes.entry(runtime.clone()).or_insert(new)
                }
            });
        }
        if let Some(id) = sum.object
            && let Some(object) = detail.objects.get(&id)
        {
            all.push(match self.of_objects.get(&id) {
                Some(known) => *known,
                None => {
                    let new = self.attribute("holdup.object", &text(&names::object(object)));
                    *self.of_objects.entry(id).or_insert(new)
                }
            });
        }
        match self.of_threads.get(&sum.thread) {
            Some(known) => all.extend_from_slice(known),
            None => {
                let new = self.attributes_of_thread(detail, sum.thread);
                all.extend_from_slice(&new);
                self.of_threads.insert(sum.thread, new);
            }
        }
        all
    }

    fn attributes_of_stack(&mut self, stack: Option<&DetailStack>) -> Vec<u64> {
        let state = stack.map_or(State::Unknown, |stack| stack.state);
        let mut all = vec![self.attribute("holdup.state", &text(state.name()))];
        if let Some(stack) = stack {
            all.push(self.attribute("holdup.cause", &text(names::cause(stack))));
            let task = names::task(stack);
            all.extend(task.map(|task| self.attribute("holdup.task", &text(&task))));
            all.push(self.attribute("holdup.role", &text(stack.role.name())));
        }
        all
    }

    fn attributes_of_thread(&mut self, detail: &Detail, id: ThreadId) -> Vec<u64> {
        let thread = detail.threads.get(&id);
        let name = thread.map(|thread| text(&sanitize(&thread.name)));
        let name = name.map(|name| self.attribute("thread.name", &name));
        let number = self.attribute("thread.id", &integer(id.tid.0.into()));
        name.into_iter().chain([number]).collect()
    }

    fn mapping(&mut self, report: &Report, pid: Pid, module: &str) -> u64 {
        let is_exe = |process: &&crate::recording::Process| {
            process.pid == pid && process.exe_name() == module
        };
        let exe = report.targets.iter().find(is_exe);
        let file = exe.map_or(module, |process| &process.exe);
        let mut mapping = Message::default();
        mapping.number(4, self.string(&sanitize(file)));
        if let Some(build_id) = exe.and_then(|process| process.build_id.as_deref()) {
            let attribute = self.attribute("process.executable.build_id.gnu", &text(build_id));
            mapping.packed(5, [attribute]);
        }
        self.mappings.place(mapping, &mut self.message)
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let mut function = Message::default();
        let name = self.names.name(frame);
        function.number(1, self.string(&name));
        function.number(2, self.string(&sanitize(&frame.function)));
        let file = display_path(frame.file.as_deref().unwrap_or_default());
        function.number(3, self.string(&file));
        self.functions.place(function, &mut self.message)
    }

    /// The location of a physical frame and of those inlined into it, leaf first.
    fn location(&mut self, report: &Report, pid: Pid, frames: &'a [FrameRef]) -> Option<u64> {
        let physical = frames.last()?;
        let all = frames.iter().map(|frame| &**frame).collect();
        let key = (pid, physical.address.0, all);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let (module, kind) = match (physical.space, physical.module.as_deref()) {
            (Space::Kernel, _) => ("[kernel.kallsyms]", "kernel"),
            (Space::User, module) => (module.unwrap_or("[unknown]"), "native"),
        };
        let mut location = Message::default();
        location.number(1, self.mapping(report, pid, module));
        location.number(2, physical.address.0);
        for frame in frames {
            let mut line = Message::default();
            line.number(1, self.function(frame));
            line.number(2, frame.line.unwrap_or(0).into());
            location.message(3, &line);
        }
        let kind = self.attribute("profile.frame.type", &text(kind));
        location.packed(4, [kind]);
        let place = self.locations.place(location, &mut self.message);
        self.known.insert(key, place);
        Some(place)
    }

    /// The stack as it is drawn; one without frames is none.
    fn stack(&mut self, report: &Report, options: &Options, stack: &'a DetailStack) -> u64 {
        let frames = names::drawn_frames(stack, options);
        let mut locations = Vec::new();
        for frames in frames.split_inclusive(|frame| !frame.inlined) {
            locations.extend(self.location(report, stack.pid, frames));
        }
        let mut message = Message::default();
        message.packed(1, locations);
        self.stacks.place(message, &mut self.message)
    }
}
