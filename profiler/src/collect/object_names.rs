//! What objects are called, by what the kernel knows of them.

use crate::counted::counted;
use crate::decode::{RawObject, RawSocket};
use crate::recording::{Object, ObjectKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `PIPEFS_MAGIC`, `ANON_INODE_FS_MAGIC` (`include/uapi/linux/magic.h`).
const PIPE_FS: u64 = 0x5049_5045;
const ANON_INODE_FS: u64 = 0x0904_1934;
const S_IFMT: u32 = 0xf000;
const S_IFIFO: u32 = 0x1000;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

/// The object, where nothing more has to be known of the process. Some of it may be missing from
/// one that is `partial`.
pub(super) fn named(raw: &RawObject, partial: bool) -> Option<Object> {
    let (kind, name) = match raw {
        RawObject::File {
            inode,
            mode,
            magic,
            parts,
        } => file(*inode, *mode, *magic, parts, partial),
        RawObject::Socket(raw) => (ObjectKind::Socket, socket(raw)),
        RawObject::Futex(address) => (ObjectKind::Futex, address.to_string()),
        RawObject::Timer(time) => (ObjectKind::Timer, length(time.0)),
        RawObject::Path(path) => (ObjectKind::Path, path_argument(path, partial)),
        RawObject::Poll(count) => (
            ObjectKind::Poll,
            counted(*count, "descriptor", "descriptors"),
        ),
        RawObject::Child(_) | RawObject::Memory(_) => return None,
    };
    Some(Object { kind, name })
}

/// A connection between two addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    protocol: String,
    own_address: String,
    peer_address: String,
    /// What all connections to its peer have in common.
    pub(super) peer: String,
    /// What all connections at its own end have in common.
    pub(super) own: String,
}

impl Connection {
    /// The name of all connections to its peer.
    pub(super) fn any_own(&self) -> String {
        format!("{} * -> {}", self.protocol, self.peer_address)
    }

    /// The name of all connections at its own end.
    pub(super) fn any_peer(&self) -> String {
        format!("{} {} -> *", self.protocol, self.own_address)
    }
}

/// The connection that an object is, if it is one.
pub(super) fn connection(raw: &RawObject) -> Option<Connection> {
    let RawObject::Socket(raw) = raw else {
        return None;
    };
    let (protocol, own, peer) = addresses(raw)?;
    let peer = peer?;
    Some(Connection {
        peer: format!("{protocol} to {peer}"),
        own: format!("{protocol} at {own}"),
        own_address: own.to_string(),
        peer_address: peer.to_string(),
        protocol,
    })
}

/// An open file, by the parts of its path, the last one first.
fn file(inode: u64, mode: u32, magic: u64, parts: &[u8], partial: bool) -> (ObjectKind, String) {
    if magic == PIPE_FS {
        return (ObjectKind::Pipe, format!("pipe:[{inode}]"));
    }
    let mut parts: Vec<&[u8]> = parts
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
    let mut path = String::from(if partial { "…" } else { "" });
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

fn path_argument(text: &[u8], partial: bool) -> String {
    let mut path = String::from_utf8_lossy(text).into_owned();
    if partial {
        path.push('…');
    }
    path
}

fn socket(raw: &RawSocket) -> String {
    if let Some((protocol, own, peer)) = addresses(raw) {
        return match peer {
            Some(peer) => format!("{protocol} {own} -> {peer}"),
            None => format!("{protocol} {own}"),
        };
    }
    match raw.family {
        AF_UNIX => match raw.path.as_slice() {
            [] => {
                let inode = raw.own.first_chunk().copied().unwrap_or_default();
                format!("unix socket:[{}]", u64::from_le_bytes(inode))
            }
            [0, name @ ..] => format!("unix @{}", String::from_utf8_lossy(name)),
            path => {
                let end = path.iter().position(|byte| *byte == 0);
                let path = path.get(..end.unwrap_or(path.len())).unwrap_or(path);
                format!("unix {}", String::from_utf8_lossy(path))
            }
        },
        AF_NETLINK => "netlink".to_owned(),
        other => format!("socket of family {other}, type {}", raw.kind),
    }
}

/// Protocol and ends of an internet socket; without a peer where it is not connected.
fn addresses(raw: &RawSocket) -> Option<(String, SocketAddr, Option<SocketAddr>)> {
    if !matches!(raw.family, AF_INET | AF_INET6) {
        return None;
    }
    let protocol = match raw.protocol {
        IPPROTO_TCP => "tcp".to_owned(),
        IPPROTO_UDP => "udp".to_owned(),
        other => format!("ip protocol {other}"),
    };
    let end = |bytes, port| SocketAddr::new(address(raw.family, bytes), port);
    let peer = (raw.peer_port != 0).then(|| end(raw.peer, raw.peer_port));
    Some((protocol, end(raw.own, raw.own_port), peer))
}

/// An address in network order; an IPv4 one may stand in an IPv6 socket.
fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if family == AF_INET6 {
        let address = Ipv6Addr::from(bytes);
        return address
            .to_ipv4_mapped()
            .map_or(IpAddr::V6(address), IpAddr::V4);
    }
    let [a, b, c, d, ..] = bytes;
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
    use crate::units::{Addr, Nanos};

    fn file_object(inode: u64, mode: u32, magic: u64, parts: &[u8]) -> RawObject {
        RawObject::File {
            inode,
            mode,
            magic,
            parts: parts.to_vec(),
        }
    }

    fn name(raw: &RawObject) -> (ObjectKind, String) {
        let object = named(raw, false).expect("it needs no process");
        (object.kind, object.name)
    }

    #[test]
    fn files_have_the_names_that_proc_gives_them() {
        for (raw, kind, wanted) in [
            (
                file_object(5, 0x81a4, 0xef53, b"x\0lib\0var\0"),
                ObjectKind::Path,
                "/var/lib/x",
            ),
            (file_object(5, 0x41ed, 0xef53, b""), ObjectKind::Path, "/"),
            (
                file_object(5, 0x1180, 0xef53, b"fifo\0run\0"),
                ObjectKind::Pipe,
                "/run/fifo",
            ),
            (
                file_object(77, 0x1180, PIPE_FS, b""),
                ObjectKind::Pipe,
                "pipe:[77]",
            ),
            (
                file_object(1, 0x180, ANON_INODE_FS, b"[eventpoll]\0"),
                ObjectKind::Poll,
                "anon_inode:[eventpoll]",
            ),
            (
                file_object(1, 0x180, ANON_INODE_FS, b"[eventfd]\0"),
                ObjectKind::Descriptor,
                "anon_inode:[eventfd]",
            ),
        ] {
            assert_eq!(name(&raw), (kind, wanted.to_owned()));
        }
        let cut = file_object(5, 0x81a4, 0xef53, b"x\0lib\0");
        let cut = named(&cut, true).expect("a file");
        assert_eq!(cut.name, "…/lib/x");
        let cut = named(&RawObject::Path(b"/a/b".to_vec()), true).expect("a path");
        assert_eq!(cut.name, "/a/b…");
    }

    #[test]
    fn what_needs_no_process_has_its_name() {
        for (raw, kind, wanted) in [
            (RawObject::Futex(Addr(0x7f00)), ObjectKind::Futex, "0x7f00"),
            (
                RawObject::Timer(Nanos(20_000_000)),
                ObjectKind::Timer,
                "20 ms",
            ),
            (RawObject::Poll(3), ObjectKind::Poll, "3 descriptors"),
            (
                RawObject::Path(b"/etc/hosts".to_vec()),
                ObjectKind::Path,
                "/etc/hosts",
            ),
        ] {
            assert_eq!(name(&raw), (kind, wanted.to_owned()));
        }
        assert_eq!(named(&RawObject::Child(None), false), None);
    }

    fn internet(family: u16, protocol: u16, own: &[u8], peer: &[u8], peer_port: u16) -> RawObject {
        let bytes = |from: &[u8]| {
            let mut bytes = [0; 16];
            bytes[..from.len()].copy_from_slice(from);
            bytes
        };
        RawObject::Socket(RawSocket {
            family,
            kind: 1,
            protocol,
            own_port: 40_000,
            peer_port,
            own: bytes(own),
            peer: bytes(peer),
            path: Vec::new(),
        })
    }

    fn other(family: u16, inode: u64, path: &[u8]) -> RawObject {
        let RawObject::Socket(socket) = internet(family, 0, &inode.to_le_bytes(), &[], 0) else {
            unreachable!("it was made one");
        };
        RawObject::Socket(RawSocket {
            path: path.to_vec(),
            ..socket
        })
    }

    #[test]
    fn sockets_have_protocol_and_ends() {
        let (own, peer) = ([10, 0, 0, 1], [10, 0, 0, 5]);
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 5];
        for (raw, wanted) in [
            (
                internet(AF_INET, IPPROTO_TCP, &own, &peer, 5432),
                "tcp 10.0.0.1:40000 -> 10.0.0.5:5432",
            ),
            (
                internet(AF_INET, IPPROTO_TCP, &own, &[], 0),
                "tcp 10.0.0.1:40000",
            ),
            (
                internet(AF_INET, IPPROTO_UDP, &own, &[], 0),
                "udp 10.0.0.1:40000",
            ),
            (
                internet(AF_INET6, IPPROTO_TCP, &v6, &v6, 5432),
                "tcp [2001:db8::1]:40000 -> [2001:db8::1]:5432",
            ),
            (
                internet(AF_INET6, IPPROTO_TCP, &v6, &mapped, 5432),
                "tcp [2001:db8::1]:40000 -> 10.0.0.5:5432",
            ),
            (other(AF_UNIX, 55, b""), "unix socket:[55]"),
            (other(AF_UNIX, 55, b"/run/db.sock\0"), "unix /run/db.sock"),
            (other(AF_UNIX, 55, b"\0bus"), "unix @bus"),
            (other(AF_NETLINK, 0, b""), "netlink"),
            (other(40, 0, b""), "socket of family 40, type 1"),
        ] {
            assert_eq!(name(&raw), (ObjectKind::Socket, wanted.to_owned()));
        }
        let raw = internet(AF_INET, IPPROTO_TCP, &own, &peer, 5432);
        let ends = connection(&raw).expect("a connection");
        assert_eq!(ends.any_own(), "tcp * -> 10.0.0.5:5432");
        assert_eq!(ends.any_peer(), "tcp 10.0.0.1:40000 -> *");
        for none in [
            internet(AF_INET, IPPROTO_TCP, &own, &[], 0),
            other(AF_UNIX, 55, b"/run/db.sock\0"),
            RawObject::Poll(1),
        ] {
            assert_eq!(connection(&none), None);
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
}
