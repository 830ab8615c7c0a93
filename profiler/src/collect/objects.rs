//! What is waited for, by the kernel side's numbers, with names.

use crate::counted::counted;
use crate::decode::ObjectSeen;
use crate::process::ends::Ends;
use crate::process::{Mapping, MappingKind, parse_comm, parse_maps};
use crate::recording::{MAX_HOLDERS, Object, ObjectId, ObjectKind, WaitObject};
use crate::units::Pid;
use profiler_common::record::{
    ChildRecord, OBJECT_CHILD, OBJECT_FILE, OBJECT_FUTEX, OBJECT_MEMORY, OBJECT_PATH, OBJECT_POLL,
    OBJECT_SOCKET, OBJECT_TIMER, ObjectRecord,
};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Objects kept by name, of some 300 bytes each: as many as the kernel side has sums by object.
/// Waits for later ones have none, and are counted.
const MAX_OBJECTS: usize = profiler_common::map::OBJECT_AGGREGATES as usize;
/// Children whose commands are kept; the table is emptied when it is full.
const MAX_CHILDREN: usize = 1 << 16;

/// For how long the mappings of a process are taken to be as they were.
const MAPS_FRESH: Duration = Duration::from_millis(100);

/// What `/proc/PID/fd` calls a pipe without a path begins so.
const PIPE_LINK: &str = "pipe:[";
/// Pipes whose ends are looked for, and for how long.
const MAX_PIPES: usize = 256;
const PATIENCE: Duration = Duration::from_millis(300);

/// `PIPEFS_MAGIC`, `ANON_INODE_FS_MAGIC` (`include/uapi/linux/magic.h`).
const PIPE_FS: u64 = 0x5049_5045;
const ANON_INODE_FS: u64 = 0x0904_1934;
const S_IFMT: u64 = 0xf000;
const S_IFIFO: u64 = 0x1000;

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const IPPROTO_TCP: u64 = 6;
const IPPROTO_UDP: u64 = 17;

/// Every object so far.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: Vec<WaitObject>,
    by_number: HashMap<u64, ObjectId>,
    ids: HashMap<WaitObject, ObjectId>,
    /// Commands of child processes, by parent and id in the child's pid namespace.
    commands: HashMap<(u32, u32), String>,
    /// Children that were waited for before their commands were known.
    nameless: HashMap<(u32, u32), ObjectId>,
    /// The mappings last read, of which process, and when.
    maps: Option<(u32, Instant, Vec<Mapping>)>,
    /// Objects that found no room.
    pub(super) lost: u64,
}

impl Objects {
    /// An object by the kernel side's number; none where its record was lost.
    pub(super) fn by_number(&self, number: u64) -> Option<ObjectId> {
        self.by_number.get(&number).copied()
    }

    /// All, in the order of their ids.
    pub(super) fn into_all(self) -> Vec<WaitObject> {
        self.all
    }

    /// Names the processes, other than those of `own`, that hold an end of a pipe now: one that
    /// has ended meanwhile, or that we may not look into, is not found.
    pub(super) fn name_ends(&mut self, own: &[Pid]) {
        let is_pipe = |seen: &&mut WaitObject| {
            seen.object.kind == ObjectKind::Pipe && seen.object.name.starts_with(PIPE_LINK)
        };
        let pipes: Vec<&mut WaitObject> = self
            .all
            .iter_mut()
            .filter(is_pipe)
            .take(MAX_PIPES)
            .collect();
        let links = pipes.iter().map(|seen| seen.object.name.clone()).collect();
        let ends = Ends::find(&links, Instant::now() + PATIENCE);
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

    /// Takes in what a child runs.
    pub(super) fn child(&mut self, record: &ChildRecord) {
        if self.commands.len() >= MAX_CHILDREN {
            self.commands.clear();
        }
        let child = (record.header.tgid, record.pid);
        self.commands.insert(child, parse_comm(&record.comm));
        if let Some(id) = self.nameless.remove(&child) {
            self.rename(id, self.process(child.0, child.1.into()));
        }
    }

    fn rename(&mut self, id: ObjectId, name: String) {
        let Some(seen) = self.all.get_mut(id.0 as usize) else {
            return;
        };
        self.ids.remove(seen);
        seen.object.name = name;
        self.ids.insert(seen.clone(), id);
    }

    /// Takes in a new object, or one that the kernel side had forgotten.
    pub(super) fn add(&mut self, seen: &ObjectSeen) {
        let Some(object) = self.name(seen) else {
            return;
        };
        let found = WaitObject {
            object,
            fd: u32::try_from(seen.record.fd).ok(),
        };
        let id = match self.ids.get(&found) {
            Some(id) => *id,
            None if self.all.len() >= MAX_OBJECTS => {
                self.lost += 1;
                return;
            }
            None => {
                let id = ObjectId(self.all.len() as u32);
                self.all.push(found.clone());
                self.ids.insert(found, id);
                id
            }
        };
        self.by_number.insert(seen.record.object, id);
        // Whoever forks a child in its own memory goes on, and may wait, before the child's exec
        // is told.
        let (parent, [pid, ..]) = (seen.record.header.tgid, seen.record.numbers);
        if seen.record.kind == OBJECT_CHILD
            && let Ok(pid) = u32::try_from(pid)
            && !self.commands.contains_key(&(parent, pid))
            && self.nameless.len() < MAX_CHILDREN
        {
            self.nameless.insert((parent, pid), id);
        }
    }

    fn name(&mut self, seen: &ObjectSeen) -> Option<Object> {
        let record = &seen.record;
        let [first, ..] = record.numbers;
        let (kind, name) = match record.kind {
            OBJECT_FILE => file(record, &seen.text),
            OBJECT_SOCKET => (ObjectKind::Socket, socket(record, &seen.text)),
            OBJECT_FUTEX => (ObjectKind::Futex, format!("{first:#x}")),
            OBJECT_TIMER => (ObjectKind::Timer, length(first)),
            OBJECT_CHILD => (ObjectKind::Process, self.process(record.header.tgid, first)),
            OBJECT_PATH => (ObjectKind::Path, path_argument(record, &seen.text)),
            OBJECT_POLL => (
                ObjectKind::Poll,
                counted(first, "descriptor", "descriptors"),
            ),
            OBJECT_MEMORY => (ObjectKind::Memory, self.memory(record.header.tgid, first)),
            _ => return None,
        };
        Some(Object { kind, name })
    }

    /// What is mapped at an address; read soon after the fault, but not at it.
    fn memory(&mut self, process: u32, address: u64) -> String {
        let fresh = |(tgid, read, _): &&(u32, Instant, Vec<Mapping>)| {
            *tgid == process && read.elapsed() < MAPS_FRESH
        };
        if self.maps.as_ref().filter(fresh).is_none() {
            let text = std::fs::read(format!("/proc/{process}/maps")).unwrap_or_default();
            self.maps = Some((process, Instant::now(), parse_maps(&text)));
        }
        let maps = self.maps.as_ref().map_or(&[][..], |(_, _, maps)| maps);
        let found = maps
            .iter()
            .find(|mapping| mapping.range.contains(&crate::units::Addr(address)));
        match found {
            None => format!("{address:#x}"),
            Some(mapping) if mapping.path.is_empty() || mapping.kind == MappingKind::Anonymous => {
                "anonymous memory".to_owned()
            }
            Some(mapping) => String::from_utf8_lossy(&mapping.path).into_owned(),
        }
    }

    fn process(&self, parent: u32, pid: u64) -> String {
        let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid != 0) else {
            return "any child".to_owned();
        };
        let known = self.commands.get(&(parent, pid)).cloned();
        match known.or_else(|| command(parent, pid)) {
            Some(command) => format!("{pid} ({command})"),
            None => pid.to_string(),
        }
    }
}

/// The command of a child that was there before the recording.
fn command(parent: u32, pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (comm) state ppid …`; the name may hold anything.
    let (head, rest) = stat.rsplit_once(')')?;
    let ppid = rest.split_ascii_whitespace().nth(1)?;
    (ppid.parse() == Ok(parent)).then(|| head.split_once('(').map(|(_, comm)| comm.to_owned()))?
}

/// An open file, by the parts of its path, the last one first.
fn file(record: &ObjectRecord, text: &[u8]) -> (ObjectKind, String) {
    let [inode, _, mode, magic, ..] = record.numbers;
    if magic == PIPE_FS {
        return (ObjectKind::Pipe, format!("pipe:[{inode}]"));
    }
    let mut parts: Vec<&[u8]> = text
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .collect();
    parts.reverse();
    if magic == ANON_INODE_FS {
        let name = String::from_utf8_lossy(parts.last().copied().unwrap_or(b"[?]"));
        let kind = match &*name {
            "[eventpoll]" => ObjectKind::Poll,
            "[timerfd]" => ObjectKind::Timer,
            "[pidfd]" => ObjectKind::Process,
            _ => ObjectKind::Descriptor,
        };
        return (kind, format!("anon_inode:{name}"));
    }
    let mut path = String::from(if record.partial == 0 { "" } else { "…" });
    for part in &parts {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(part));
    }
    if path.is_empty() {
        path.push('/');
    }
    let kind = if mode & S_IFMT == S_IFIFO {
        ObjectKind::Pipe
    } else {
        ObjectKind::Path
    };
    (kind, path)
}

fn path_argument(record: &ObjectRecord, text: &[u8]) -> String {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut path = String::from_utf8_lossy(text).into_owned();
    if record.partial != 0 {
        path.push('…');
    }
    path
}

fn socket(record: &ObjectRecord, text: &[u8]) -> String {
    let [family, ports, own, ..] = record.numbers;
    let (family, kind, protocol) = (
        family & 0xffff,
        family >> 16 & 0xffff,
        family >> 32 & 0xffff,
    );
    match family {
        AF_UNIX => match text {
            [] => format!("unix socket:[{own}]"),
            [0, name @ ..] => format!("unix @{}", String::from_utf8_lossy(name)),
            path => {
                let end = path.iter().position(|byte| *byte == 0);
                let path = path.get(..end.unwrap_or(path.len())).unwrap_or(path);
                format!("unix {}", String::from_utf8_lossy(path))
            }
        },
        AF_INET | AF_INET6 => {
            let protocol = match protocol {
                IPPROTO_TCP => "tcp".to_owned(),
                IPPROTO_UDP => "udp".to_owned(),
                other => format!("ip protocol {other}"),
            };
            let address = |from: usize, port: u64| {
                SocketAddr::new(address(family, &record.numbers, from), port as u16)
            };
            let (own, peer) = (address(2, ports & 0xffff), address(4, ports >> 16 & 0xffff));
            if peer.port() == 0 {
                format!("{protocol} {own}")
            } else {
                format!("{protocol} {own} -> {peer}")
            }
        }
        AF_NETLINK => "netlink".to_owned(),
        other => format!("socket of family {other}, type {kind}"),
    }
}

/// An address of two words from `from` on; an IPv4 one may stand in an IPv6 socket.
fn address(family: u64, numbers: &[u64; 6], from: usize) -> IpAddr {
    let word = |at: usize| numbers.get(at).copied().unwrap_or(0).to_le_bytes();
    let (low, high) = (word(from), word(from + 1));
    if family == AF_INET6 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&low);
        bytes[8..].copy_from_slice(&high);
        let address = Ipv6Addr::from(bytes);
        return address
            .to_ipv4_mapped()
            .map_or(IpAddr::V6(address), IpAddr::V4);
    }
    let [a, b, c, d, ..] = low;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// A length of time in the largest unit that leaves it whole, to the microsecond from there on.
fn length(nanos: u64) -> String {
    let trimmed = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", trimmed(nanos as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", trimmed(nanos as f64 / 1e6)),
        _ => format!("{} s", trimmed(nanos as f64 / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::record::Header;

    fn seen(kind: u32, fd: i32, numbers: [u64; 6], text: &[u8]) -> ObjectSeen {
        ObjectSeen {
            record: ObjectRecord {
                header: Header {
                    kind: 10,
                    len: 0,
                    tgid: 7,
                    tid: 8,
                },
                time: 0,
                object: 99,
                kind,
                fd,
                numbers,
                text: text.len() as u32,
                partial: 0,
            },
            text: text.to_vec(),
        }
    }

    fn name(seen: &ObjectSeen) -> (ObjectKind, String) {
        let object = Objects::default().name(seen).expect("a known kind");
        (object.kind, object.name)
    }

    fn ipv4(a: [u8; 4]) -> u64 {
        u64::from(u32::from_le_bytes(a))
    }

    #[test]
    fn files_have_the_names_that_proc_gives_them() {
        for (numbers, text, kind, wanted) in [
            (
                [5, 0, 0x81a4, 0xef53, 0, 0],
                &b"x\0lib\0var\0"[..],
                ObjectKind::Path,
                "/var/lib/x",
            ),
            ([5, 0, 0x41ed, 0xef53, 0, 0], b"", ObjectKind::Path, "/"),
            (
                [5, 0, 0x1180, 0xef53, 0, 0],
                b"fifo\0run\0",
                ObjectKind::Pipe,
                "/run/fifo",
            ),
            (
                [77, 0, 0x1180, PIPE_FS, 0, 0],
                b"",
                ObjectKind::Pipe,
                "pipe:[77]",
            ),
            (
                [1, 0, 0x180, ANON_INODE_FS, 0, 0],
                b"[eventpoll]\0",
                ObjectKind::Poll,
                "anon_inode:[eventpoll]",
            ),
            (
                [1, 0, 0x180, ANON_INODE_FS, 0, 0],
                b"[eventfd]\0",
                ObjectKind::Descriptor,
                "anon_inode:[eventfd]",
            ),
        ] {
            let found = name(&seen(OBJECT_FILE, 3, numbers, text));
            assert_eq!(found, (kind, wanted.to_owned()));
        }
        let mut cut = seen(OBJECT_FILE, 3, [5, 0, 0x81a4, 0xef53, 0, 0], b"x\0lib\0");
        cut.record.partial = 1;
        assert_eq!(name(&cut).1, "…/lib/x");
    }

    #[test]
    fn pipes_have_the_processes_at_their_other_end() {
        use std::os::fd::AsRawFd;
        use std::process::{Command, Stdio};
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::piped())
            .spawn()
            .expect("sleep");
        let ours = child.stdout.take().expect("piped");
        let link = format!("/proc/self/fd/{}", ours.as_raw_fd());
        let link = std::fs::read_link(link).expect("a pipe");
        let link = link.to_str().expect("text");
        let inode = link[PIPE_LINK.len()..].trim_end_matches(']');
        let mut objects = Objects::default();
        let numbers = [inode.parse().expect("a number"), 0, 0x1180, PIPE_FS, 0, 0];
        objects.add(&seen(OBJECT_FILE, 3, numbers, b""));
        let own = Pid(std::process::id());
        objects.name_ends(&[own, Pid(child.id())]);
        assert_eq!(objects.all[0].object.name, link);
        objects.name_ends(&[own]);
        child.kill().expect("killed");
        child.wait().expect("waited");
        // The command runs when `spawn` returns, so it has its name.
        let wanted = format!("{link} with sleep {}", child.id());
        assert_eq!(objects.all[0].object.name, wanted);
    }

    #[test]
    fn sockets_have_protocol_and_ends() {
        let tcp = AF_INET | 1 << 16 | IPPROTO_TCP << 32;
        let udp = AF_INET | 2 << 16 | IPPROTO_UDP << 32;
        let tcp6 = AF_INET6 | 1 << 16 | IPPROTO_TCP << 32;
        let ports = 40_000 | 5432 << 16;
        let (own, peer) = (ipv4([10, 0, 0, 1]), ipv4([10, 0, 0, 5]));
        let v6 = u64::from_le_bytes([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0]);
        let one = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
        let mapped = u64::from_le_bytes([0, 0, 0xff, 0xff, 10, 0, 0, 5]);
        for (numbers, text, wanted) in [
            (
                [tcp, ports, own, 0, peer, 0],
                &b""[..],
                "tcp 10.0.0.1:40000 -> 10.0.0.5:5432",
            ),
            ([tcp, 80, own, 0, 0, 0], b"", "tcp 10.0.0.1:80"),
            ([udp, 53, own, 0, 0, 0], b"", "udp 10.0.0.1:53"),
            (
                [tcp6, ports, v6, one, v6, one],
                b"",
                "tcp [2001:db8::1]:40000 -> [2001:db8::1]:5432",
            ),
            (
                [tcp6, ports, v6, one, 0, mapped],
                b"",
                "tcp [2001:db8::1]:40000 -> 10.0.0.5:5432",
            ),
            ([AF_UNIX, 0, 55, 0, 0, 0], b"", "unix socket:[55]"),
            (
                [AF_UNIX, 0, 55, 0, 0, 0],
                b"/run/db.sock\0",
                "unix /run/db.sock",
            ),
            ([AF_UNIX, 0, 55, 0, 0, 0], b"\0bus", "unix @bus"),
            ([AF_NETLINK, 0, 0, 0, 0, 0], b"", "netlink"),
        ] {
            assert_eq!(name(&seen(OBJECT_SOCKET, 3, numbers, text)).1, wanted);
        }
    }

    #[test]
    fn lengths_of_time_are_exact() {
        for (nanos, wanted) in [
            (999, "999 ns"),
            (1_500, "1.5 µs"),
            (20_000_000, "20 ms"),
            (20_300_000, "20.3 ms"),
            (2_000_000_000, "2 s"),
            (90_500_000_000, "90.5 s"),
        ] {
            assert_eq!(length(nanos), wanted);
        }
    }

    const CHILD: u32 = u32::MAX - 5;

    fn exec() -> ChildRecord {
        ChildRecord {
            header: Header {
                kind: 11,
                len: 0,
                tgid: 7,
                tid: CHILD,
            },
            time: 0,
            pid: CHILD,
            reserved: 0,
            comm: *b"sleep\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    #[test]
    fn a_child_has_its_command_where_its_exec_was_seen() {
        let wait = seen(OBJECT_CHILD, -1, [CHILD.into(), 0, 0, 0, 0, 0], b"");
        let names = |objects: Objects| -> Vec<String> {
            let all = objects.into_all().into_iter();
            all.map(|seen| seen.object.name).collect()
        };
        let mut objects = Objects::default();
        objects.child(&exec());
        objects.add(&wait);
        assert_eq!(names(objects), [format!("{CHILD} (sleep)")]);
        // The wait may be told before the exec.
        let mut objects = Objects::default();
        objects.add(&wait);
        objects.child(&exec());
        objects.add(&wait);
        assert_eq!(names(objects), [format!("{CHILD} (sleep)")]);
        let any = seen(OBJECT_CHILD, -1, [u64::MAX, 0, 0, 0, 0, 0], b"");
        assert_eq!(name(&any).1, "any child");
    }

    #[test]
    fn the_same_object_by_another_number_is_the_same() {
        let mut objects = Objects::default();
        let mut again = seen(OBJECT_FUTEX, -1, [0x1000, 128, 0, 0, 0, 0], b"");
        objects.add(&again);
        again.record.object = 100;
        objects.add(&again);
        assert_eq!(objects.by_number(99), objects.by_number(100));
        assert_eq!(objects.into_all().len(), 1);
    }
}
