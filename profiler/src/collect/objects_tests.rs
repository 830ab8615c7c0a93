use super::*;
use crate::decode::{RawSocket, ThreadKey, ThreadName};
use crate::units::Tid;

fn table() -> ObjectTable {
    ObjectTable::new(&Limits::default())
}

fn seen(number: u64, fd: Option<u32>, object: RawObject) -> ObjectSeen {
    ObjectSeen {
        thread: ThreadKey {
            pid: Pid(7),
            tid: Tid(8),
        },
        number: ObjectNumber::new(number).expect("a number"),
        object,
        fd,
        partial: false,
    }
}

fn number(number: u64) -> ObjectNumber {
    ObjectNumber::new(number).expect("a number")
}

fn names(table: &ObjectTable) -> Vec<&str> {
    let names = table.objects.iter();
    names.map(|seen| seen.object.name.as_str()).collect()
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
    let mut objects = table();
    let pipe = RawObject::File {
        inode: inode.parse().expect("a number"),
        mode: 0x1180,
        magic: 0x5049_5045,
        parts: Vec::new(),
    };
    objects.add(&seen(1, Some(3), pipe));
    let own = Pid(std::process::id());
    objects.name_pipe_ends(&[own, Pid(child.id())]);
    assert_eq!(objects.objects[0].object.name, link);
    objects.name_pipe_ends(&[own]);
    child.kill().expect("killed");
    child.wait().expect("waited");
    // The command runs when `spawn` returns, so it has its name.
    let wanted = format!("{link} with sleep {}", child.id());
    assert_eq!(objects.objects[0].object.name, wanted);
}

const CHILD: u32 = u32::MAX - 5;

fn exec() -> ChildExec {
    ChildExec {
        parent: Pid(7),
        child: CHILD,
        name: ThreadName::new(*b"sleep\0\0\0\0\0\0\0\0\0\0\0"),
    }
}

#[test]
fn a_child_has_its_command_where_its_exec_was_seen() {
    let wait = seen(99, None, RawObject::Child(Some(CHILD)));
    let mut objects = table();
    objects.child(&exec());
    objects.add(&wait);
    assert_eq!(names(&objects), [format!("{CHILD} (sleep)")]);
    // The wait may be reported before the exec.
    let mut objects = table();
    objects.add(&wait);
    objects.child(&exec());
    objects.add(&wait);
    assert_eq!(names(&objects), [format!("{CHILD} (sleep)")]);
    let mut objects = table();
    objects.add(&seen(1, None, RawObject::Child(None)));
    assert_eq!(names(&objects), ["any child"]);
}

#[test]
fn the_same_object_by_another_number_is_the_same() {
    let mut objects = table();
    for number in [99, 100] {
        objects.add(&seen(number, None, RawObject::Futex(Addr(0x1000))));
    }
    assert_eq!(objects.resolve(number(99)), objects.resolve(number(100)));
    assert_eq!(objects.resolve(number(98)), None);
    assert_eq!(names(&objects), ["0x1000"]);
}

fn connection(own_port: u16, peer_host: u8, peer_port: u16) -> RawObject {
    let address = |host: u8| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[10, 0, 0, host]);
        bytes
    };
    RawObject::Socket(RawSocket {
        family: 2,
        kind: 1,
        protocol: 6,
        own_port,
        peer_port,
        own: address(1),
        peer: address(peer_host),
        path: Vec::new(),
    })
}

/// A connection for each request: 100,000 of them, on all the ports that there are.
#[test]
fn connections_to_one_peer_share_an_entry_and_none_is_lost() {
    let mut objects = table();
    let nobody = HashSet::new();
    for n in 0..100_000_u64 {
        let port = 1024 + (n % 60_000) as u16;
        objects.add(&seen(n + 1, Some(9), connection(port, 5, 5432)));
        assert!(objects.resolve(number(n + 1)).is_some(), "{n} is lost");
        if n % 2_000 == 0 {
            objects.end_interval(&nobody);
        }
    }
    assert_eq!(objects.objects.len(), 257);
    let shared = objects.objects.last().expect("an entry");
    assert_eq!(shared.object.name, "tcp * -> 10.0.0.5:5432");
    let all: u32 = objects.objects.iter().map(|seen| seen.many).sum();
    assert_eq!(all, 60_000, "each counts once, however often it comes");
    // Those of other peers have entries of their own.
    objects.add(&seen(1 << 40, Some(9), connection(1024, 6, 80)));
    assert_eq!(names(&objects)[257], "tcp 10.0.0.1:1024 -> 10.0.0.6:80");
    let told = objects.numbers.iter_announced().count();
    assert!(told < 16_384, "{told} numbers are kept");
}

#[test]
fn accepted_connections_share_an_entry_by_our_own_end() {
    let mut objects = table();
    for n in 0..10_000_u64 {
        let (host, port) = (2 + (n % 200) as u8, 1024 + (n / 200) as u16);
        objects.add(&seen(n + 1, Some(9), connection(80, host, port)));
    }
    assert_eq!(objects.objects.len(), 257);
    let shared = objects.objects.last().expect("an entry");
    assert_eq!(shared.object.name, "tcp 10.0.0.1:80 -> *");
    assert_eq!(shared.many, 10_000 - 256);
}

#[test]
fn objects_of_each_kind_are_bounded_and_none_is_lost() {
    let mut objects = table();
    for n in 0..50_000_u64 {
        let id = n * 6 + 1;
        let fifo = RawObject::File {
            inode: n,
            mode: 0x1180,
            magic: 0x5049_5045,
            parts: Vec::new(),
        };
        let path = RawObject::Path(format!("/tmp/{n}").into_bytes());
        let child = RawObject::Child(Some(1 << 30 | n as u32));
        for (more, object) in [
            fifo,
            path,
            child,
            RawObject::Futex(Addr(n)),
            RawObject::Timer(crate::units::Nanos(n)),
            connection(n as u16, (n >> 8) as u8, 1 + n as u16 / 2),
        ]
        .into_iter()
        .enumerate()
        {
            let id = id + more as u64;
            objects.add(&seen(id, Some(3), object));
            assert!(objects.resolve(number(id)).is_some());
        }
        if n % 1_000 == 0 {
            objects.end_interval(&HashSet::new());
        }
    }
    assert!(objects.objects.len() < 32_768, "{}", objects.objects.len());
    let named = |name: &str| {
        let found = objects.objects.iter();
        found
            .filter(|seen| seen.object.name == name)
            .map(|seen| seen.many)
            .next()
    };
    assert_eq!(named("other futexes"), Some(50_000 - 4096));
    assert_eq!(named("other pipes"), Some(50_000 - 4096));
    assert_eq!(named("other children"), Some(50_000 - 4096));
    assert_eq!(named("other times"), Some(50_000 - 1024));
    assert!(named("other paths").is_some_and(|many| many > 10_000));
}
