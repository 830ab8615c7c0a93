//! What the waits that are open at the end wait for, and who holds that.
//!
//! Registers come from the task iterator, everything else from `/proc` and from the target's
//! memory. All of it is looked at while the recording still goes on: a thread that has not moved
//! by the end of it was in the same wait all the while.

mod nr;

use super::file_locks;
use super::fuse;
use super::futex::{self, FutexWait};
use super::lock_holders::{self, Likely, References, WaitingStack};
use super::path_argument::{self, Named};
use super::python_lock;
use crate::counted::counted;
use crate::decode::Syscall;
use crate::process::ends::{End, Ends};
use crate::process::sockets::{self, Peer};
use crate::process::{ProcDir, Target, own_pid, own_tid, parse_comm};
use crate::recording::{
    Holder, HolderProcess, MAX_HOLDERS, Object, ObjectKind, ProcessId, ThreadId,
};
use crate::symbolize::FrameRef;
use crate::units::{Addr, Pid, Tid};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Waits of a process looked into at most, apart from those that are the same as another one. There is a
/// time limit too.
const MAX_WAITS: usize = 4096;
/// For how long we look: the recording goes on meanwhile.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// A thread that waits in a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InSyscall {
    pub(super) tid: Tid,
    pub(super) syscall: Syscall,
}

/// What is known of one wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) object: Object,
    pub(super) holder: Option<Holder>,
    /// Whether it is waited for in pieces, of which each is a wait: one that comes later is for the same,
    /// at the same futex.
    pub(super) in_pieces: bool,
}

/// A holder of which only the other side is known yet.
#[derive(Clone, Debug)]
enum Sought {
    Done(Option<Holder>),
    /// Done; waited for in pieces.
    InPieces(Holder),
    /// Whoever holds what `/proc/PID/fd` calls so, and reads or writes it.
    Other {
        link: String,
        how: How,
    },
    /// Whoever has a lock that does not name its owner; it is at this address.
    Lock(Addr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Reads,
    Writes,
    Either,
    /// A file system, by its device.
    Serves,
}

/// The waits of one process.
#[derive(Debug)]
pub(super) struct WaitsOf<'a> {
    pub(super) process: ProcessId,
    pub(super) target: &'a Target,
    pub(super) waits: Vec<InSyscall>,
    /// Where the stacks of threads are that wait, but for idle ones.
    pub(super) stacks: Vec<WaitingStack>,
    /// Whether other threads are on a CPU, or want one.
    pub(super) others_run: bool,
}

/// Looks into waits, for half a second at most; `stack` gives the frames of a thread.
pub(super) fn look<'a>(
    processes: &[WaitsOf<'_>],
    stack: impl Fn(ThreadId) -> &'a [FrameRef],
) -> HashMap<ThreadId, Found> {
    let began = Instant::now();
    // Half of the time is for the search through the open files of all processes.
    look_until(
        processes,
        stack,
        began + LOOK_TIMEOUT / 2,
        began + LOOK_TIMEOUT,
    )
}

fn look_until<'a>(
    processes: &[WaitsOf<'_>],
    stack: impl Fn(ThreadId) -> &'a [FrameRef],
    deadline: Instant,
    ends_deadline: Instant,
) -> HashMap<ThreadId, Found> {
    let mut found: HashMap<ThreadId, (Object, Sought)> = HashMap::new();
    for WaitsOf {
        process,
        target,
        waits,
        stacks,
        others_run,
    } in processes
    {
        let mut threads = Threads::new(target, stacks, deadline);
        let mut locks: BTreeMap<Tid, Addr> = BTreeMap::new();
        // By the call and the stack: hundreds may wait for one lock.
        let mut known = HashMap::new();
        for waits in waits {
            let thread = ThreadId {
                process: *process,
                tid: waits.tid,
            };
            let frames = stack(thread);
            let same = (waits.syscall.number, waits.syscall.args, frames.as_ptr());
            let seen = match known.get(&same) {
                Some(seen) => Option::clone(seen),
                None if known.len() >= MAX_WAITS || Instant::now() >= deadline => None,
                None => {
                    let seen = wait(&waits.syscall, frames, &mut threads);
                    known.insert(same, seen.clone());
                    seen
                }
            };
            if let Some(seen) = seen {
                if let Sought::Lock(lock) = seen.1 {
                    locks.insert(waits.tid, lock);
                }
                found.insert(thread, seen);
            }
        }
        let known = References::find(target, stacks, &locks, deadline);
        for (tid, lock) in &locks {
            let thread = ThreadId {
                process: *process,
                tid: *tid,
            };
            if let Some((_, sought)) = found.get_mut(&thread) {
                *sought = likely(known.holder(*lock, &locks, !others_run), target);
            }
        }
    }
    let links: HashSet<String> = found
        .values()
        .filter_map(|(_, sought)| match sought {
            Sought::Other { link, .. } => Some(link.clone()),
            Sought::Done(_) | Sought::InPieces(_) | Sought::Lock(_) => None,
        })
        .collect();
    let ends = Ends::find(&links, ends_deadline);
    let resolve = |sought| match sought {
        Sought::Done(holder) => holder,
        Sought::InPieces(holder) => Some(holder),
        Sought::Other { link, how } => Some(holders(&ends, &link, how)),
        Sought::Lock(_) => None,
    };
    found
        .into_iter()
        .map(|(thread, (object, sought))| {
            let in_pieces = matches!(sought, Sought::InPieces(_));
            let found = Found {
                object,
                holder: resolve(sought),
                in_pieces,
            };
            (thread, found)
        })
        .collect()
}

fn unknown(reason: &str) -> Sought {
    Sought::Done(Some(Holder::Unknown {
        reason: reason.to_owned(),
    }))
}

/// Who holds a lock, by whose stacks have its address.
fn likely(found: Likely, target: &Target) -> Sought {
    match found {
        Likely::Thread(tid) => Sought::Done(Some(Holder::Thread {
            tid,
            name: name_of(target, tid),
            evidence: "it alone has the lock's address on its stack".to_owned(),
            likely: true,
        })),
        Likely::OneOf(threads) => unknown(&format!(
            "the lock does not name its owner; {threads} threads have its address on their stacks"
        )),
        Likely::Nobody => unknown("the lock does not name its owner"),
    }
}

fn holders(ends: &Ends, link: &str, how: How) -> Holder {
    let fits = |end: &&End| match how {
        How::Reads => end.reads,
        How::Writes => end.writes,
        How::Either | How::Serves => true,
    };
    // Where the kernel does not say which of them serves it.
    let link = match how {
        How::Serves if ends.of(link).next().is_none() => fuse::DEVICE,
        _ => link,
    };
    let mut processes: Vec<HolderProcess> = ends
        .of(link)
        .filter(fits)
        .map(|end| HolderProcess {
            pid: end.pid,
            name: end.name.clone(),
        })
        .collect();
    processes.sort();
    processes.dedup();
    let what = match how {
        How::Reads => "the end to read from",
        How::Writes => "the end to write to",
        How::Either => "the other side",
        How::Serves if link == fuse::DEVICE => "a device that serves file systems of FUSE",
        How::Serves => "the device that serves the file system",
    };
    if processes.is_empty() {
        let all = if ends.complete {
            "no process holds"
        } else {
            "among the processes that we may look into none holds"
        };
        return Holder::Unknown {
            reason: format!("{all} {what}"),
        };
    }
    let more = processes.len().saturating_sub(MAX_HOLDERS) as u32;
    processes.truncate(MAX_HOLDERS);
    Holder::Processes {
        processes,
        more,
        evidence: what.to_owned(),
    }
}

fn object(kind: ObjectKind, name: impl Into<String>) -> Object {
    Object {
        kind,
        name: name.into(),
    }
}

fn wait(
    syscall: &Syscall,
    frames: &[FrameRef],
    threads: &mut Threads<'_>,
) -> Option<(Object, Sought)> {
    let target = threads.target;
    let [first, second, third, ..] = syscall.args;
    match i64::from(syscall.number) {
        call if nr::READS.contains(&call) => descriptor(target, first, How::Writes),
        call if nr::WRITES.contains(&call) => descriptor(target, first, How::Reads),
        call if nr::FILES.contains(&call) => descriptor(target, first, How::Either),
        libc::SYS_flock | libc::SYS_fcntl => file_lock(target, first),
        libc::SYS_poll | libc::SYS_ppoll => poll(target, first, second),
        call if nr::POLLS.contains(&call) => {
            Some((object(ObjectKind::Poll, "descriptors"), Sought::Done(None)))
        }
        call if nr::SLEEPS.contains(&call) => {
            Some((object(ObjectKind::Timer, "a time"), Sought::Done(None)))
        }
        libc::SYS_wait4 => Some(child(threads, Some(first as i32).filter(|pid| *pid > 0))),
        libc::SYS_waitid => {
            let by_pid = first as u32 == libc::P_PID;
            Some(child(threads, by_pid.then_some(second as i32)))
        }
        libc::SYS_futex => {
            let wait = FutexWait::read(target, Addr(first), second as u32, third as u32)?;
            Some(futex_wait(&wait, frames, threads))
        }
        _ => match path_argument::named(target, syscall)? {
            Named::Path(path) => Some(file(target, path)),
            Named::Descriptor(fd) => descriptor(target, fd, How::Either),
        },
    }
}

/// A wait at a futex: for a lock, mostly.
fn futex_wait(
    wait: &FutexWait,
    frames: &[FrameRef],
    threads: &mut Threads<'_>,
) -> (Object, Sought) {
    let target = threads.target;
    let (object, holder) = futex::judge(wait, frames, |tid| threads.by_own_number(tid));
    if python_lock::is_taken_in(frames) {
        return (object, python(wait.addr, threads));
    }
    let read = |at: Addr| {
        let mut word = [0; 8];
        target.read_memory(at, &mut word).ok()?;
        Some(u64::from_le_bytes(word))
    };
    match holder {
        Holder::Unknown { .. } => match lock_holders::lock_of(wait, frames, read) {
            Some(lock) => {
                let name = format!("{:#x}", lock.0);
                (Object { name, ..object }, Sought::Lock(lock))
            }
            None => (object, Sought::Done(Some(holder))),
        },
        holder => (object, Sought::Done(Some(holder))),
    }
}

/// A wait for Python's lock.
fn python(futex: Addr, threads: &mut Threads<'_>) -> Sought {
    let (target, stacks) = (threads.target, threads.stacks);
    let read = |at: Addr, words: &mut [u64]| {
        let mut bytes = vec![0; words.len() * 8];
        let done = target.read_memory(at, &mut bytes).is_ok();
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        done
    };
    let by_number = |own| Some(threads.by_own_number(own)?.0);
    let holder = match python_lock::owner(futex, stacks, read, by_number) {
        Some(tid) => Holder::Thread {
            tid,
            name: name_of(target, tid),
            evidence: "the owner in Python's lock".to_owned(),
            likely: false,
        },
        None => Holder::Unknown {
            reason: "nobody has Python's lock just now, or it is of a kind that is not known"
                .to_owned(),
        },
    };
    Sought::InPieces(holder)
}

/// The name of a thread.
fn name_of(target: &Target, tid: Tid) -> String {
    let comm = target.proc_dir().read(&format!("task/{tid}/comm"));
    parse_comm(&comm.unwrap_or_default())
}

/// A wait at a descriptor for what others do at the other side.
fn descriptor(target: &Target, fd: u64, other: How) -> Option<(Object, Sought)> {
    let fd = u32::try_from(fd).ok()?;
    let link = target.proc_dir().read_link(&format!("fd/{fd}")).ok()?;
    let link = String::from_utf8_lossy(&link).into_owned();
    let number = |kind: &str| -> Option<u64> {
        let rest = link.strip_prefix(kind)?.strip_prefix(":[")?;
        rest.strip_suffix(']')?.parse().ok()
    };
    if number("pipe").is_some() {
        let sought = Sought::Other {
            link: link.clone(),
            how: other,
        };
        return Some((object(ObjectKind::Pipe, link), sought));
    }
    if let Some(inode) = number("socket") {
        let Some(socket) = sockets::find(target.proc_dir(), inode) else {
            let sought = unknown("neither a TCP nor a unix socket");
            return Some((object(ObjectKind::Socket, link), sought));
        };
        let sought = match socket.peer {
            Peer::Inode(peer) => Sought::Other {
                link: format!("socket:[{peer}]"),
                how: How::Either,
            },
            Peer::NotAccepted(Some(listener)) => Sought::Other {
                link: format!("socket:[{listener}]"),
                how: How::Either,
            },
            Peer::NotAccepted(None) => unknown("nobody has accepted the connection or listens"),
            Peer::Elsewhere => unknown("the other side is on another host or in another network"),
            Peer::None => unknown("it is not connected"),
            Peer::Unknown => unknown("the kernel does not tell the other side"),
        };
        return Some((object(ObjectKind::Socket, socket.name), sought));
    }
    if link.starts_with('/') {
        return Some(file(target, link));
    }
    Some((object(ObjectKind::Descriptor, link), Sought::Done(None)))
}

/// A poll of one descriptor is a wait at that one.
fn poll(target: &Target, fds: u64, count: u64) -> Option<(Object, Sought)> {
    if count != 1 {
        let object = object(
            ObjectKind::Poll,
            counted(count, "descriptor", "descriptors"),
        );
        return Some((object, Sought::Done(None)));
    }
    let mut bytes = [0; 8];
    target.read_memory(Addr(fds), &mut bytes).ok()?;
    let [a, b, c, d, events, _, _, _] = bytes;
    let fd = i32::from_ne_bytes([a, b, c, d]);
    let how = if u16::from(events) & libc::POLLOUT as u16 != 0 {
        How::Reads
    } else {
        How::Writes
    };
    descriptor(target, u64::try_from(fd).ok()?, how)
}

/// A wait for a file lock.
fn file_lock(target: &Target, fd: u64) -> Option<(Object, Sought)> {
    let (object, _) = descriptor(target, fd, How::Either)?;
    let inode = target.inode(u32::try_from(fd).ok()?).ok()?;
    let sought = match file_locks::holders(inode) {
        Some(holder) => Sought::Done(Some(holder)),
        None => unknown("the kernel names no owner of a lock on it"),
    };
    Some((object, sought))
}

/// A wait for a file by its path.
fn file(target: &Target, path: String) -> (Object, Sought) {
    let sought = fuse::device_of(target, &path).map(|link| Sought::Other {
        link,
        how: How::Serves,
    });
    let sought = sought.unwrap_or(Sought::Done(None));
    (object(ObjectKind::Path, path), sought)
}

/// A wait for a child process, by its number in the target's own pid namespace; or for any.
fn child(threads: &Threads<'_>, wanted: Option<i32>) -> (Object, Sought) {
    let target = threads.target;
    let mut processes: Vec<HolderProcess> = Vec::new();
    for tid in target.proc_dir().list_numbers("task").unwrap_or_default() {
        if threads.is_late() {
            break;
        }
        let children = target.proc_dir().read(&format!("task/{tid}/children"));
        let children = children.unwrap_or_default();
        for pid in String::from_utf8_lossy(&children).split_ascii_whitespace() {
            let Some(pid) = pid.parse().ok().map(Pid) else {
                continue;
            };
            let Ok(dir) = ProcDir::open(pid) else {
                continue;
            };
            let own = own_pid(&dir.read("status").unwrap_or_default());
            if wanted.is_none() || own == wanted.map(i32::unsigned_abs) {
                let name = parse_comm(&dir.read("comm").unwrap_or_default());
                processes.push(HolderProcess { pid, name });
            }
        }
    }
    processes.sort();
    let name = match (wanted, processes.as_slice()) {
        (Some(_), [child]) => child.pid.to_string(),
        (Some(wanted), _) => format!("child {wanted}"),
        (None, _) => "any child".to_owned(),
    };
    let sought = if processes.is_empty() {
        unknown("there is no such child any more, or the kernel lists no children")
    } else {
        let more = processes.len().saturating_sub(MAX_HOLDERS) as u32;
        processes.truncate(MAX_HOLDERS);
        Sought::Done(Some(Holder::Processes {
            processes,
            more,
            evidence: "it has not ended".to_owned(),
        }))
    };
    (object(ObjectKind::Process, name), sought)
}

/// The threads of the target by the numbers that the target itself knows them by.
struct Threads<'a> {
    target: &'a Target,
    /// Of those that wait.
    stacks: &'a [WaitingStack],
    by_own: Option<HashMap<u32, (Tid, String)>>,
    /// When to stop looking at them.
    deadline: Instant,
}

impl<'a> Threads<'a> {
    const fn new(target: &'a Target, stacks: &'a [WaitingStack], deadline: Instant) -> Threads<'a> {
        Threads {
            target,
            stacks,
            by_own: None,
            deadline,
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// A thread that lives, by the number that a lock holds.
    fn by_own_number(&mut self, own: u32) -> Option<(Tid, String)> {
        let (target, deadline) = (self.target, self.deadline);
        let all = self.by_own.get_or_insert_with(|| {
            let threads = target.threads().unwrap_or_default();
            let number = |tid: Tid| {
                let status = target.proc_dir().read(&format!("task/{tid}/status"));
                own_tid(&status.unwrap_or_default())
            };
            threads
                .into_iter()
                .take_while(|_| Instant::now() < deadline)
                .filter_map(|thread| Some((number(thread.tid)?, (thread.tid, thread.name))))
                .collect()
        });
        all.get(&own).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_have_one_deadline() {
        let target = Target::open(Pid(std::process::id())).expect("self");
        let waits = |count: u32| {
            let sleep = |tid| InSyscall {
                tid: Tid(tid),
                syscall: Syscall {
                    number: libc::SYS_nanosleep as u32,
                    args: [0; 6],
                },
            };
            (0..count).map(sleep).collect()
        };
        let processes: Vec<WaitsOf<'_>> = (0..3)
            .map(|process| WaitsOf {
                process: ProcessId(process),
                target: &target,
                waits: waits(2),
                stacks: Vec::new(),
                others_run: false,
            })
            .collect();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        assert!(look_until(&processes, |_| &[], now, later).is_empty());
        assert_eq!(look_until(&processes, |_| &[], later, later).len(), 6);
    }

    #[test]
    fn holders_are_those_of_the_other_end() {
        let ends = Ends::default();
        let holder = holders(&ends, "pipe:[1]", How::Writes);
        let Holder::Unknown { reason } = holder else {
            panic!("nobody was found: {holder:?}");
        };
        assert!(
            reason.contains("may look into"),
            "an incomplete search: {reason}"
        );
    }
}
