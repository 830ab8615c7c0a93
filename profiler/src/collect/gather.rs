//! What has arrived so far: stacks with names, waits in a compact form.

pub(super) use super::bounds::Bounds;
use super::calls::{Calls, Panics};
use super::ended::Ended;
use super::modules::{AddressMap, Modules};
use super::objects::Objects;
use super::samples::{Sample, Samples};
use super::stack_table::{Owner, RECORD, StackTable};
use super::tail_calls::{Code, Function, jumped};
use super::timeline::{CompactWait, Timeline};
use crate::decode::{DecodeError, Event, RawPiece, SampleSeen, StackSeen};
use crate::process::parse_comm;
use crate::recording::Sampling;
use crate::runtime::tokio::TlsState;
use crate::symbolize::{Frame, Origin, Symbolizer};
use crate::units::{Addr, Pid, Tid, Timestamp};
use crate::unwind::walk_outcome;
use profiler_common::map::Stack;
use profiler_common::record::{
    ForkRecord, Header, SnapshotRecord, WAKER_INTERRUPT, WAKER_UNSEEN, WaitRecord, stack_kind,
};
use profiler_common::row::walk;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A thread that ended wait after wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WakerKey {
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    pub(super) name: Arc<str>,
}

/// Everything gathered.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) bounds: Bounds,
    pub(super) stacks_left_out: u64,
    pub(super) wakers_left_out: u64,
    pub(super) stacks: StackTable,
    pub(super) timeline: Timeline,
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
    pub(super) undecodable: u64,
    /// Processes that executed another program.
    pub(super) exec_count: HashSet<Pid>,
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
            stacks_left_out: 0,
            wakers_left_out: 0,
            stacks: StackTable::default(),
            timeline: Timeline::default(),
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
            undecodable: 0,
            exec_count: HashSet::new(),
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
                self.exec_count.insert(Pid(record.header.tgid));
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
        let waker = if record.waker_tid == WAKER_UNSEEN {
            u32::MAX
        } else {
            self.waker(record)
        };
        let wait = CompactWait {
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
        };
        self.timeline.add(wait, self.bounds.timeline);
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
        if self.stacks.frames() >= self.bounds.frames {
            self.stacks_left_out += 1;
            return RECORD;
        }
        let truncated = walk_outcome(seen.record.walk);
        let user: Vec<Addr> = seen.user.iter().map(|addr| Addr(*addr)).collect();
        let of_waker = seen.record.stack_kind == stack_kind::WAKER;
        let frames = self.name_with(&user, map, modules, Some((code, of_waker)));
        let number = u32::try_from(seen.record.syscall).ok();
        let tls_state = seen.record.tls_state.into();
        let call = number.map(|number| (number, Some(seen.record.args)));
        let stacks = &mut self.stacks;
        let id = match seen.record.stack_kind {
            stack_kind::WAIT => stacks.add(owner, frames, truncated, call, tls_state),
            stack_kind::CALL => stacks.add_apart(owner, frames, truncated, call, tls_state),
            _ => {
                let call = number.map(|number| (number, None));
                stacks.add_apart(owner, frames, truncated, call, tls_state)
            }
        };
        stacks.set_kernel(id, &seen.kernel);
        stacks.set_number(id, seen.record.stack);
        stacks.policy(id)
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
        let tls_state = TlsState::from(record.tls_state);
        // The innermost address in the kernel is another one each time.
        let callers = seen.stack.kernel.get(1..).unwrap_or_default();
        let depth = seen.stack.kernel.len();
        let identity = (owner, truncated, syscall, tls_state, depth, callers);
        let call = syscall.map(|number| (number, None));
        let Gathered {
            samples, stacks, ..
        } = self;
        let room = stacks.frames() < self.bounds.frames;
        let stack = samples.stack(&identity, frames, room, |frames| {
            let id = stacks.add_apart(owner, frames, truncated, call, tls_state);
            stacks.set_kernel(id, &seen.stack.kernel);
            id
        });
        if let Some((stack, entry)) = stack.and_then(|id| Some((id, stacks.get(id)?))) {
            let sample = Sample {
                tid: Tid(record.header.tid),
                stack,
                time: Timestamp(record.time),
                record: seen.record,
            };
            samples.add(sample, entry, tls_state, sampling);
        }
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
}
