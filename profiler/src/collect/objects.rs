//! What is waited for, by the kernel side's numbers, with names.

use super::numbers::{Evicted, Numbers};
use super::object_names::named;
use super::object_shares::Shares;
use crate::decode::{ChildExec, ObjectNumber, ObjectSeen, RawObject};
use crate::limits::Limits;
use crate::process::ends::Ends;
use crate::process::{Mapping, MappingKind, ProcDir, parse_comm, parse_maps, status_number};
use crate::recording::{MAX_HOLDERS, Object, ObjectId, ObjectKind, Tables, WaitObject};
use crate::units::{Addr, Pid};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Children whose commands are kept; the table is emptied when it is full.
const MAX_CHILDREN: usize = 1 << 16;

/// For how long the mappings of a process are taken to be as they were.
const MAPS_FRESH: Duration = Duration::from_millis(100);

/// What `/proc/PID/fd` calls a pipe without a path begins so.
const PIPE_LINK: &str = "pipe:[";
/// Pipes whose ends are looked for, and for how long.
const MAX_PIPES: usize = 256;
const PIPES_TIMEOUT: Duration = Duration::from_millis(300);

/// A child process: its parent, and its id in its own pid namespace.
type Child = (Pid, u32);

/// The mappings of a process as they were a moment ago.
#[derive(Debug)]
struct Mapped {
    process: Pid,
    read: Instant,
    mappings: Vec<Mapping>,
}

/// Every object so far. What there are too many of shares an entry, see [`Shares`]: none is lost.
#[derive(Debug)]
pub(super) struct ObjectTable {
    objects: Vec<WaitObject>,
    ids: HashMap<(Object, Option<u32>), ObjectId>,
    numbers: Numbers<ObjectNumber, ObjectId>,
    shares: Shares,
    /// Commands of child processes.
    commands: HashMap<Child, String>,
    /// Children that were waited for before their commands were known.
    nameless: HashMap<Child, ObjectId>,
    maps: Option<Mapped>,
}

impl ObjectTable {
    /// Without any object.
    pub(super) fn new(limits: &Limits) -> ObjectTable {
        let room = limits.table("OBJECTS", crate::decode::MAX_OBJECTS);
        ObjectTable {
            objects: Vec::new(),
            ids: HashMap::new(),
            numbers: Numbers::new(room),
            shares: Shares::default(),
            commands: HashMap::new(),
            nameless: HashMap::new(),
            maps: None,
        }
    }

    /// An object by the kernel side's number, which was seen in this interval; none where its
    /// record was lost.
    pub(super) fn resolve(&mut self, number: ObjectNumber) -> Option<ObjectId> {
        self.numbers.resolve(number)
    }

    /// Takes in a new object, or one that the kernel side had forgotten.
    pub(super) fn add(&mut self, seen: &ObjectSeen) {
        let id = self.id_of(seen);
        self.numbers.announced(seen.number, id);
        // Whoever forks a child in its own memory goes on, and may wait, before the child's exec
        // is reported.
        if let RawObject::Child(Some(pid)) = seen.object {
            let child = (seen.thread.pid, pid);
            let is_own = self.objects.get(id.index()).is_some_and(|o| o.many == 1);
            if is_own && !self.commands.contains_key(&child) && self.nameless.len() < MAX_CHILDREN {
                self.nameless.insert(child, id);
            }
        }
    }

    fn id_of(&mut self, seen: &ObjectSeen) -> ObjectId {
        let object = self.name(seen);
        if let Some(id) = self.ids.get(&(object.clone(), seen.fd)) {
            return *id;
        }
        let Some(shared) = self.shares.place(&object, &seen.object) else {
            return self.push(object, seen.fd, 1);
        };
        let is_new = self.shares.is_new(&object);
        let key = (shared, None);
        let id = match self.ids.get(&key) {
            Some(id) => *id,
            None => self.push(key.0, None, 0),
        };
        if let Some(entry) = self.objects.get_mut(id.index()) {
            entry.many = entry.many.saturating_add(is_new.into());
        }
        id
    }

    fn push(&mut self, object: Object, fd: Option<u32>, many: u32) -> ObjectId {
        let id = ObjectId(self.objects.len() as u32);
        self.ids.insert((object.clone(), fd), id);
        self.objects.push(WaitObject { object, fd, many });
        id
    }

    fn name(&mut self, seen: &ObjectSeen) -> Object {
        if let Some(object) = named(&seen.object, seen.partial) {
            return object;
        }
        let process = seen.thread.pid;
        let (kind, name) = match seen.object {
            RawObject::Memory(address) => (ObjectKind::Memory, self.memory(process, address)),
            RawObject::Child(Some(pid)) => (ObjectKind::Process, self.child_name((process, pid))),
            _ => (ObjectKind::Process, "any child".to_owned()),
        };
        Object { kind, name }
    }

    /// What is mapped at an address; read soon after the fault, but not at it.
    fn memory(&mut self, process: Pid, address: Addr) -> String {
        let fresh = |maps: &&Mapped| maps.process == process && maps.read.elapsed() < MAPS_FRESH;
        if self.maps.as_ref().filter(fresh).is_none() {
            let text = std::fs::read(format!("/proc/{process}/maps")).unwrap_or_default();
            self.maps = Some(Mapped {
                process,
                read: Instant::now(),
                mappings: parse_maps(&text),
            });
        }
        let maps = self.maps.as_ref().map_or(&[][..], |maps| &maps.mappings);
        let found = maps.iter().find(|mapping| mapping.range.contains(&address));
        match found {
            None => address.to_string(),
            Some(mapping) if mapping.path.is_empty() || mapping.kind == MappingKind::Anonymous => {
                "anonymous memory".to_owned()
            }
            Some(mapping) => String::from_utf8_lossy(&mapping.path).into_owned(),
        }
    }

    fn child_name(&self, child: Child) -> String {
        let (parent, pid) = child;
        let known = self.commands.get(&child).cloned();
        match known.or_else(|| command(parent, pid)) {
            Some(command) => format!("{pid} ({command})"),
            None => pid.to_string(),
        }
    }

    /// Takes in what a child runs.
    pub(super) fn child(&mut self, exec: &ChildExec) {
        if self.commands.len() >= MAX_CHILDREN {
            self.commands.clear();
        }
        let child = (exec.parent, exec.child);
        self.commands.insert(child, exec.name.to_string());
        if let Some(id) = self.nameless.remove(&child) {
            self.rename(id, self.child_name(child));
        }
    }

    fn rename(&mut self, id: ObjectId, name: String) {
        let Some(seen) = self.objects.get_mut(id.index()) else {
            return;
        };
        self.ids.remove(&(seen.object.clone(), seen.fd));
        seen.object.name = name;
        self.ids.insert((seen.object.clone(), seen.fd), id);
    }

    /// Names the processes, other than those of `own`, that hold an end of a pipe now: one that
    /// has ended meanwhile, or that we may not look into, is not found. To be done once, when all
    /// objects are known.
    pub(super) fn name_pipe_ends(&mut self, own: &[Pid]) {
        let is_pipe = |seen: &&mut WaitObject| {
            seen.object.kind == ObjectKind::Pipe && seen.object.name.starts_with(PIPE_LINK)
        };
        let pipes = self.objects.iter_mut().filter(is_pipe).take(MAX_PIPES);
        let pipes: Vec<&mut WaitObject> = pipes.collect();
        let links = pipes.iter().map(|seen| seen.object.name.clone()).collect();
        let ends = Ends::find(&links, Instant::now() + PIPES_TIMEOUT);
        for seen in pipes {
            let others: BTreeSet<(Pid, &str)> = ends
                .of(&seen.object.name)
                .filter(|end| !own.contains(&end.pid))
                .map(|end| (end.pid, end.name.as_str()))
                .collect();
            let more = others.len().saturating_sub(MAX_HOLDERS);
            let named: Vec<String> = others
                .iter()
                .take(MAX_HOLDERS)
                .map(|(pid, name)| format!("{name} {pid}"))
                .collect();
            let named = named.join(", ");
            if more > 0 {
                seen.object.name += &format!(" with {named} and {more} more");
            } else if !named.is_empty() {
                seen.object.name += &format!(" with {named}");
            }
        }
    }

    /// Ends an interval, see [`Numbers::end_interval`]. `held` are the objects of the last waits of
    /// all threads, whether they go on or not: the kernel side takes the object that a thread waits
    /// for again for one that was sent.
    pub(super) fn end_interval(&mut self, held: &HashSet<ObjectNumber>) -> Evicted<ObjectNumber> {
        self.numbers.end_interval(held, |_| false)
    }

    /// Puts the objects into `tables`, for somebody to read, until [`ObjectTable::take_back`].
    pub(super) fn lend(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.objects, &mut tables.objects);
    }

    /// Takes the objects back.
    pub(super) fn take_back(&mut self, tables: &mut Tables) {
        std::mem::swap(&mut self.objects, &mut tables.objects);
    }
}

/// The command of a child that was there before the recording.
fn command(parent: Pid, pid: u32) -> Option<String> {
    let dir = ProcDir::open(Pid(pid)).ok()?;
    let is_child = status_number(&dir.read("status").ok()?, "PPid") == Some(parent.0);
    is_child.then(|| dir.read("comm").ok().map(|comm| parse_comm(&comm)))?
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
