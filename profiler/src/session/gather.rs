//! What has arrived so far: stacks named and judged, waits in a compact form.

pub(super) use super::bounds::Bounds;
use super::calls::{Calls, Panics};
use super::ended::Ended;
use super::modules::{AddressMap, Modules};
use super::objects::Objects;
use super::samples::{Sample, Samples};
use super::tail_calls::{Code, Function, jumped};
use crate::decode::{DecodeError, Event, RawPiece, SampleSeen, StackSeen};
use crate::model::{ObjectId, Sampling, StackEntry, StackId, Truncation};
use crate::process::parse_comm;
use crate::symbolize::{Frame, Origin, Symbolizer};
use crate::tokio_rt::{Agreement, Judge, Learned, Place, Seen, State};
use crate::units::{Addr, Pid, Tid, Timestamp};
use crate::unwind::walk_outcome;
use profiler_common::map::{ADVICE_IDLE, ADVICE_IDLE_BY_PLACE, ADVICE_RECORD, ALL_FRAMES, Stack};
use profiler_common::record::{
    ForkRecord, Header, SnapshotRecord, WAKER_INTERRUPT, WAKER_UNSEEN, WaitRecord, of,
};
use profiler_common::row::walk;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A finished wait, by numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactWait {
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    /// Index into [`Gathered::wakers`], or `u32::MAX`.
    pub(super) waker: u32,
    /// The kernel side's number of the waker's stack, or 0.
    pub(super) waker_stack: u64,
    /// The kernel side's number of the stack.
    pub(super) stack: u64,
    pub(super) object: Option<ObjectId>,
    pub(super) start: Timestamp,
    pub(super) wakeup: Timestamp,
    pub(super) end: Timestamp,
    /// Id of the task, or 0.
    pub(super) task_id: u64,
}

/// The advice where nothing else is known.
const RECORD: Stack = Stack {
    advice: ADVICE_RECORD,
    frames: 0,
};

/// A thread that ended wait after wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WakerKey {
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    pub(super) name: Arc<str>,
}

/// Whose a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) pid: Pid,
    /// The program that it executed then: what is learned of one is not true of another.
    pub(super) program: usize,
}

/// A program, by its stacks.
#[derive(Debug, Default)]
struct Program {
    learned: Learned,
    /// Since the last advice something was learned.
    changed: bool,
    /// Whether the thread-local state counted then.
    was_trusted: bool,
}

/// Everything gathered.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) bounds: Bounds,
    /// Frames of all stacks.
    frames: usize,
    pub(super) stacks_left_out: u64,
    pub(super) wakers_left_out: u64,
    pub(super) stacks: Vec<StackEntry>,
    /// By stack: whose it is.
    pub(super) owners: Vec<Owner>,
    /// By stack: what tokio's thread-local state said.
    places: Vec<Place>,
    /// By stack: whether it is of a thread that waits. The others say nothing of the rules.
    of_waits: Vec<bool>,
    /// By stack: who judged it.
    pub(super) judges: Vec<Judge>,
    /// By stack: kernel addresses. They are named at the end, all at once: no rule needs them, and
    /// the kernel's table of names takes a third of a second to read.
    kernel: Vec<Vec<u64>>,
    /// By program.
    programs: HashMap<usize, Program>,
    by_number: HashMap<u64, StackId>,
    pub(super) waits: Vec<CompactWait>,
    pub(super) wakers: Vec<WakerKey>,
    waker_ids: HashMap<WakerKey, u32>,
    pub(super) objects: Objects,
    pub(super) ended: Ended,
    pub(super) snapshots: Vec<SnapshotRecord>,
    /// Pieces of raw copies of stacks that nobody has looked at yet.
    pub(super) raw_pieces: Vec<RawPiece>,
    /// Pieces of raw copies of stacks that are to be walked here, by the stack's number.
    pub(super) unmapped: HashMap<u64, Vec<RawPiece>>,
    pub(super) forks: Vec<ForkRecord>,
    pub(super) names: HashMap<(Pid, Tid), Arc<str>>,
    pub(super) samples: Samples,
    pub(super) calls: Calls,
    pub(super) panics: Panics,
    pub(super) timeline_lost: u64,
    pub(super) undecodable: u64,
    /// Processes that executed another program.
    pub(super) execs: HashSet<Pid>,
    /// Processes a stack of which left the known mappings.
    pub(super) unmapped_seen: HashSet<Pid>,
    /// Stacks that were cut off here, not in the kernel.
    pub(super) truncated: u64,
    pub(super) symbolizer: Symbolizer,
}

/// What needs the mappings of its time.
#[derive(Debug)]
pub(super) enum Unnamed {
    Stack(Box<StackSeen>),
    Sample(Box<SampleSeen>),
}

impl Unnamed {
    /// The stack.
    pub(super) fn stack_mut(&mut self) -> &mut StackSeen {
        match self {
            Unnamed::Stack(seen) => seen,
            Unnamed::Sample(seen) => &mut seen.stack,
        }
    }
}

impl Gathered {
    /// Nothing yet.
    pub(super) fn new(bounds: Bounds) -> Gathered {
        Gathered {
            bounds,
            frames: 0,
            stacks_left_out: 0,
            wakers_left_out: 0,
            stacks: Vec::new(),
            owners: Vec::new(),
            places: Vec::new(),
            of_waits: Vec::new(),
            kernel: Vec::new(),
            judges: Vec::new(),
            programs: HashMap::new(),
            by_number: HashMap::new(),
            waits: Vec::new(),
            wakers: Vec::new(),
            waker_ids: HashMap::new(),
            objects: Objects::default(),
            ended: Ended::default(),
            snapshots: Vec::new(),
            raw_pieces: Vec::new(),
            unmapped: HashMap::new(),
            forks: Vec::new(),
            names: HashMap::new(),
            samples: Samples::default(),
            calls: Calls::default(),
            panics: Panics::default(),
            timeline_lost: 0,
            undecodable: 0,
            execs: HashSet::new(),
            unmapped_seen: HashSet::new(),
            truncated: 0,
            symbolizer: Symbolizer::new(),
        }
    }

    /// Takes one event in. Stacks are handed back undone, since naming them needs the mappings of
    /// their time.
    pub(super) fn take(&mut self, event: Result<Event, DecodeError>) -> Option<Unnamed> {
        match event {
            Ok(Event::Stack(seen)) => {
                self.see(&seen);
                return Some(Unnamed::Stack(seen));
            }
            Ok(Event::Sample(seen)) => {
                self.see(&seen.stack);
                return Some(Unnamed::Sample(seen));
            }
            Ok(Event::Wait(record)) => self.wait(&record),
            Ok(Event::ThreadEnd(record)) => {
                if self.ended.add(&record, self.bounds.ended) {
                    self.name_thread(&record.header, &record.comm);
                } else {
                    let header = &record.header;
                    self.names.remove(&(Pid(header.tgid), Tid(header.tid)));
                }
            }
            Ok(Event::Exec(record)) => {
                self.execs.insert(Pid(record.header.tgid));
            }
            Ok(Event::Fork(record)) => self.forks.push(record),
            Ok(Event::Snapshot(record)) => {
                self.name_thread(&record.header, &record.comm);
                self.snapshots.push(*record);
            }
            Ok(Event::UnmappedStack(piece)) => {
                let pieces = self.unmapped.entry(piece.record.stack).or_default();
                pieces.push(*piece);
            }
            Ok(Event::Object(seen)) => self.objects.add(&seen),
            Ok(Event::Child(record)) => self.objects.child(&record),
            Ok(Event::Call(record)) => {
                let object = self.objects.by_number(record.object);
                self.calls.add(&record, object);
            }
            Ok(Event::Panic(record)) => self.panics.add(&record),
            Ok(Event::RawStack(piece)) => self.raw_pieces.push(*piece),
            Err(error) => {
                tracing::warn!("{error}");
                self.undecodable += 1;
            }
        }
        None
    }

    /// Notes what a stack tells before it has names.
    fn see(&mut self, seen: &StackSeen) {
        self.name_thread(&seen.record.header, &seen.record.comm);
        if seen.record.walk == walk::UNMAPPED {
            self.unmapped_seen.insert(Pid(seen.record.header.tgid));
        }
    }

    fn name_thread(&mut self, header: &Header, comm: &[u8]) {
        let thread = (Pid(header.tgid), Tid(header.tid));
        self.names.insert(thread, parse_comm(comm).into());
    }

    fn wait(&mut self, record: &WaitRecord) {
        if self.waits.len() >= self.bounds.timeline {
            self.timeline_lost += 1;
            return;
        }
        let waker = if record.waker_tid == WAKER_UNSEEN {
            u32::MAX
        } else {
            self.waker(record)
        };
        self.waits.push(CompactWait {
            pid: Pid(record.header.tgid),
            tid: Tid(record.header.tid),
            waker,
            waker_stack: record.waker_stack,
            stack: record.stack,
            object: self.objects.by_number(record.object),
            start: Timestamp(record.start),
            wakeup: Timestamp(if record.wakeup == 0 {
                record.end
            } else {
                record.wakeup
            }),
            end: Timestamp(record.end),
            task_id: record.task_id,
        });
    }

    fn waker(&mut self, record: &WaitRecord) -> u32 {
        let key = if record.waker_tid == WAKER_INTERRUPT {
            WakerKey {
                pid: Pid(0),
                tid: Tid(0),
                name: "interrupt".into(),
            }
        } else {
            WakerKey {
                pid: Pid(record.waker_tgid),
                tid: Tid(record.waker_tid),
                name: parse_comm(&record.waker_comm).into(),
            }
        };
        if let Some(id) = self.waker_ids.get(&key) {
            return *id;
        }
        if self.wakers.len() >= self.bounds.wakers {
            self.wakers_left_out += 1;
            return u32::MAX;
        }
        let id = self.wakers.len() as u32;
        self.wakers.push(key.clone());
        self.waker_ids.insert(key, id);
        id
    }

    /// Names and judges a new stack; what the kernel side is to do with its waits.
    pub(super) fn stack(
        &mut self,
        seen: &StackSeen,
        owner: Owner,
        map: &AddressMap,
        modules: &Modules,
        code: &Code,
    ) -> Stack {
        if self.frames >= self.bounds.frames {
            self.stacks_left_out += 1;
            return RECORD;
        }
        let truncated = walk_outcome(seen.record.walk);
        let user: Vec<Addr> = seen.user.iter().map(|addr| Addr(*addr)).collect();
        let of_waker = seen.record.of == of::WAKER;
        let frames = self.name_with(&user, map, modules, Some((code, of_waker)));
        let syscall = u32::try_from(seen.record.syscall).ok();
        let place = seen.record.place.into();
        let call = syscall.map(|number| (number, seen.record.args));
        let id = match seen.record.of {
            of::WAIT => self.add(owner, frames, truncated, call, place),
            of::CALL => self.keep(owner, frames, truncated, call.unzip(), place, false),
            _ => self.add_apart(owner, frames, truncated, syscall, place),
        };
        if let Some(kernel) = self.kernel.get_mut(id.0 as usize) {
            kernel.clone_from(&seen.kernel);
        }
        self.by_number.insert(seen.record.stack, id);
        self.advice(id)
    }

    /// How the judges get on, by program.
    pub(super) fn agreements(&self) -> impl Iterator<Item = &Agreement> {
        let programs = self.programs.values();
        programs.map(|program| program.learned.agreement())
    }

    /// Whether tokio's thread-local state counts in the program of a stack.
    pub(super) fn trusts_context(&self, stack: StackId) -> bool {
        self.owners
            .get(stack.0 as usize)
            .and_then(|owner| self.programs.get(&owner.program))
            .is_some_and(|program| program.learned.agreement().trusted())
    }

    /// Names and judges the stack of a thread on a CPU, and counts it.
    pub(super) fn sample(
        &mut self,
        seen: &SampleSeen,
        owner: Owner,
        map: &AddressMap,
        modules: &Modules,
        sampling: Sampling,
    ) {
        let record = &seen.stack.record;
        let user: Vec<Addr> = seen.stack.user.iter().map(|addr| Addr(*addr)).collect();
        let frames = self.name(&user, map, modules);
        let truncated = walk_outcome(record.walk);
        let syscall = u32::try_from(record.syscall).ok();
        let place = Place::from(record.place);
        // The innermost address in the kernel is another one each time.
        let callers = seen.stack.kernel.get(1..).unwrap_or_default();
        let depth = seen.stack.kernel.len();
        let identity = (owner, truncated, syscall, place, depth, callers);
        let mut samples = std::mem::take(&mut self.samples);
        let stack = samples.stack(&identity, &frames.clone(), || {
            let id = self.add_apart(owner, frames, truncated, syscall, place);
            if let Some(kernel) = self.kernel.get_mut(id.0 as usize) {
                kernel.clone_from(&seen.stack.kernel);
            }
            id
        });
        let entry = stack.and_then(|stack| Some((stack, self.stacks.get(stack.0 as usize)?)));
        if let Some((stack, entry)) = entry {
            let sample = Sample {
                tid: Tid(record.header.tid),
                stack,
                time: Timestamp(record.time),
                record: seen.record,
            };
            samples.add(sample, entry, place, sampling);
        }
        self.samples = samples;
    }

    /// What the kernel side is to do with waits of a stack.
    fn advice(&self, id: StackId) -> Stack {
        let index = id.0 as usize;
        let (Some(stack), Some(true)) = (self.stacks.get(index), self.of_waits.get(index)) else {
            return RECORD;
        };
        if stack.verdict.state != State::Idle {
            return RECORD;
        }
        if self.judges.get(index) == Some(&Judge::Context) {
            return Stack {
                advice: ADVICE_IDLE_BY_PLACE,
                frames: ALL_FRAMES,
            };
        }
        let owner = self.owners.get(index);
        let program = owner.and_then(|owner| self.programs.get(&owner.program));
        let proof = program.and_then(|p| p.learned.proof(&stack.frames, &stack.verdict));
        Stack {
            advice: ADVICE_IDLE,
            frames: proof.unwrap_or(ALL_FRAMES),
        }
    }

    /// The advice for every stack that the kernel side knows by number, if any verdict may have
    /// changed since this was asked last: something was learned, or the thread-local state began
    /// or ceased to count.
    pub(super) fn changed_advice(&mut self) -> Option<Vec<(u64, Stack)>> {
        let stale = |program: &Program| {
            program.changed || program.learned.agreement().trusted() != program.was_trusted
        };
        if !self.programs.values().any(stale) {
            return None;
        }
        self.judge_again();
        for program in self.programs.values_mut() {
            program.changed = false;
            program.was_trusted = program.learned.agreement().trusted();
        }
        let numbers = self.by_number.iter();
        Some(numbers.map(|(n, id)| (*n, self.advice(*id))).collect())
    }

    /// Frames of addresses, leaf first. All but the leaf are return addresses, but for a frame
    /// that a signal interrupted; taking one off there too may show the instruction before, which
    /// is nearly always of the same line.
    pub(super) fn name(
        &mut self,
        addresses: &[Addr],
        map: &AddressMap,
        modules: &Modules,
    ) -> Vec<Frame> {
        self.name_with(addresses, map, modules, None)
    }

    /// As [`Gathered::name`]; with `code`, functions that left the stack by a jump are there too:
    /// all of them, or those of the application, which the rules do not look at.
    fn name_with(
        &mut self,
        addresses: &[Addr],
        map: &AddressMap,
        modules: &Modules,
        code: Option<(&Code, bool)>,
    ) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut callee: Option<Function> = None;
        for (depth, addr) in addresses.iter().enumerate() {
            if let (Some((code, all)), Some(callee)) = (code, callee) {
                let symbolizer = &mut self.symbolizer;
                let jumped = jumped(code, *addr, callee, map, modules, symbolizer);
                let wanted = |frame: &Frame| all || frame.origin == Origin::Application;
                frames.extend(jumped.filter(wanted));
            }
            let at = if depth == 0 {
                *addr
            } else {
                Addr(addr.0.saturating_sub(1))
            };
            let found = map.resolve(at);
            let (source, svma) = match found {
                Some((module, svma)) => (modules.get(module).map(|m| &m.source), svma),
                None => (None, Default::default()),
            };
            self.symbolizer.user(source, svma, at, &mut frames);
            let start = frames.last().and_then(|frame| frame.start);
            callee = found.and_then(|(module, _)| Some((module, start?)));
        }
        frames
    }

    /// Judges a stack and keeps it.
    pub(super) fn add(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        call: Option<(u32, [u64; 6])>,
        place: Place,
    ) -> StackId {
        let (syscall, args) = call.unzip();
        let program = self.programs.entry(owner.program).or_default();
        let seen = Seen {
            frames: &frames,
            truncated: truncated.is_some(),
            call: syscall.map(|number| (number, args)),
            place,
        };
        program.changed |= program.learned.learn(&seen);
        let by_names = program.learned.by_names(&seen);
        program.learned.compare(&by_names, &seen);
        self.keep(owner, frames, truncated, (syscall, args), place, true)
    }

    /// As [`Gathered::add`], for the stack of a thread that does not wait: it teaches nothing, since
    /// on a CPU a thread is also where nobody waits.
    pub(super) fn add_apart(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        syscall: Option<u32>,
        place: Place,
    ) -> StackId {
        self.keep(owner, frames, truncated, (syscall, None), place, false)
    }

    fn keep(
        &mut self,
        owner: Owner,
        frames: Vec<Frame>,
        truncated: Option<Truncation>,
        (syscall, args): (Option<u32>, Option<[u64; 6]>),
        place: Place,
        of_wait: bool,
    ) -> StackId {
        let program = self.programs.entry(owner.program).or_default();
        let seen = Seen {
            frames: &frames,
            truncated: truncated.is_some(),
            call: syscall.map(|number| (number, args)),
            place,
        };
        let (verdict, judge) = program
            .learned
            .judge(program.learned.by_names(&seen), &seen);
        self.owners.push(owner);
        self.frames += frames.len();
        self.judges.push(judge);
        self.places.push(place);
        self.of_waits.push(of_wait);
        self.kernel.push(Vec::new());
        let id = StackId(self.stacks.len() as u32);
        self.stacks.push(StackEntry {
            frames,
            kernel: Vec::new(),
            truncated,
            syscall,
            args,
            verdict,
        });
        id
    }

    /// A stack by the kernel side's number; none where its record was lost.
    pub(super) fn by_number(&self, number: u64) -> Option<StackId> {
        self.by_number.get(&number).copied()
    }

    /// Names the kernel frames of all stacks.
    pub(super) fn name_kernel(&mut self) {
        let all: BTreeSet<Addr> = self
            .kernel
            .iter()
            .flatten()
            .map(|addr| Addr(*addr))
            .collect();
        let all: Vec<Addr> = all.into_iter().collect();
        let mut frames = Vec::with_capacity(all.len());
        self.symbolizer.kernel(&all, &mut frames);
        let named: HashMap<u64, Frame> = all.iter().map(|addr| addr.0).zip(frames).collect();
        for (stack, addresses) in self.stacks.iter_mut().zip(&self.kernel) {
            stack.kernel = addresses
                .iter()
                .filter_map(|addr| named.get(addr))
                .cloned()
                .collect();
        }
    }

    /// Judges all stacks again with what was learned meanwhile.
    pub(super) fn judge_again(&mut self) {
        for program in self.programs.values_mut() {
            program.learned.compare_anew();
        }
        let known = || self.owners.iter().zip(self.places.iter().copied());
        let mut by_names = Vec::with_capacity(self.stacks.len());
        for ((stack, (owner, place)), of_wait) in
            self.stacks.iter().zip(known()).zip(&self.of_waits)
        {
            let program = self.programs.entry(owner.program).or_default();
            let seen = seen(stack, place);
            let verdict = program.learned.by_names(&seen);
            if *of_wait {
                program.learned.compare(&verdict, &seen);
            }
            by_names.push(verdict);
        }
        self.judges.clear();
        for ((stack, (owner, place)), by_names) in self.stacks.iter_mut().zip(known()).zip(by_names)
        {
            let program = self.programs.entry(owner.program).or_default();
            let (verdict, judge) = program.learned.judge(by_names, &seen(stack, place));
            stack.verdict = verdict;
            self.judges.push(judge);
        }
    }
}

/// What the judges look at.
fn seen(stack: &StackEntry, place: Place) -> Seen<'_> {
    Seen {
        frames: &stack.frames,
        truncated: stack.truncated.is_some(),
        call: stack.syscall.map(|number| (number, stack.args)),
        place,
    }
}
