//! What a socket is connected to.

use super::proc_dir::ProcDir;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::FromRawFd;

/// A socket of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// `tcp 127.0.0.1:80 -> 127.0.0.1:5432`, `unix /run/db.sock`.
    pub name: String,
    /// What is at the other side.
    pub peer: Peer,
}

/// The other side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A socket of this machine, by its inode.
    Inode(u64),
    /// Nobody has accepted the connection yet: the socket that listens for it, by its inode; none
    /// where nobody does any more.
    NotAccepted(Option<u64>),
    /// Not on this machine, or not in the target's network namespace.
    Elsewhere,
    /// There is none: it listens, or is not connected.
    None,
    /// The kernel did not say.
    Unknown,
}

/// Finds a socket by its inode in the network namespace of a process.
#[must_use]
pub fn find(process: &ProcDir, inode: u64) -> Option<Socket> {
    // The two sides may be in different tables: one of both families is in that of IPv6.
    let mut table = Vec::new();
    for file in ["net/tcp", "net/tcp6"] {
        let text = process.read(file).unwrap_or_default();
        table.extend(parse_inet(&String::from_utf8_lossy(&text)));
    }
    if let Some(socket) = table.iter().find(|socket| socket.inode == inode) {
        return Some(inet(socket, &table));
    }
    let text = process.read("net/unix").unwrap_or_default();
    let path = unix_path(&String::from_utf8_lossy(&text), inode)?;
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    let theirs = process.read_link("ns/net").ok();
    let same = own
        .zip(theirs)
        .is_some_and(|(own, theirs)| own.as_os_str().as_encoded_bytes() == theirs);
    let peer = match unix_peer(inode) {
        Ok(Some(peer)) if same => Peer::Inode(peer),
        Ok(None) if same => Peer::None,
        _ => Peer::Unknown,
    };
    let name = match path.as_str() {
        "" => format!("unix socket:[{inode}]"),
        path => format!("unix {path}"),
    };
    Some(Socket { name, peer })
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inet {
    local: SocketAddr,
    remote: SocketAddr,
    inode: u64,
}

/// The socket that listens at an address, or at that port of any.
fn listener(at: SocketAddr, table: &[Inet]) -> Option<u64> {
    let mut listening = table.iter().filter(|socket| {
        let any = socket.local.ip().is_unspecified();
        let fits = socket.local == at || any && socket.local.port() == at.port();
        fits && socket.remote.port() == 0 && socket.inode != 0
    });
    listening.next().map(|socket| socket.inode)
}

fn inet(socket: &Inet, table: &[Inet]) -> Socket {
    let Inet { local, remote, .. } = socket;
    if remote.port() == 0 {
        return Socket {
            name: format!("tcp {local}"),
            peer: Peer::None,
        };
    }
    let other = |peer: &&Inet| peer.local == *remote && peer.remote == *local;
    let peer = match table.iter().find(other) {
        // Until it is accepted, a connection belongs to no descriptor.
        Some(peer) if peer.inode == 0 => Peer::NotAccepted(listener(*remote, table)),
        Some(peer) => Peer::Inode(peer.inode),
        None => Peer::Elsewhere,
    };
    let waits = match peer {
        Peer::NotAccepted(_) => ", not accepted yet",
        _ => "",
    };
    Socket {
        name: format!("tcp {local} -> {remote}{waits}"),
        peer,
    }
}

/// `/proc/net/tcp` and `tcp6` (`tcp4_seq_show` in the kernel's `net/ipv4/tcp_ipv4.c`): addresses
/// are words of the machine's byte order in hexadecimal. Lines that are none are left out.
fn parse_inet(text: &str) -> Vec<Inet> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = address(fields.next()?)?;
            let remote = address(fields.next()?)?;
            let inode = fields.nth(6)?.parse().ok()?;
            Some(Inet {
                local,
                remote,
                inode,
            })
        })
        .collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> = host
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect();
    let host = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (into, word) in bytes.chunks_mut(4).zip([a, b, c, d]) {
                into.copy_from_slice(&word.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

/// The path of a unix socket, empty where it has none; none where there is no such socket.
/// `unix_seq_show` in the kernel's `net/unix/af_unix.c`.
fn unix_path(text: &str, inode: u64) -> Option<String> {
    text.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(6);
        let found: u64 = fields.next()?.parse().ok()?;
        if found != inode {
            return None;
        }
        // A path may hold spaces.
        let fields: Vec<&str> = fields.collect();
        Some(fields.join(" "))
    })
}

/// `SOCK_DIAG_BY_FAMILY`, `UDIAG_SHOW_PEER`, `UNIX_DIAG_PEER` of the kernel's
/// `include/uapi/linux/{sock_diag,unix_diag}.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
/// `struct nlmsghdr` and `struct unix_diag_msg` before the attributes.
const HEADER: usize = 16;
const UNIX_DIAG_MSG: usize = 16;

/// The inode of the other side of a unix socket in our network namespace, by sock_diag(7).
fn unix_peer(inode: u64) -> io::Result<Option<u64>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let inode = u32::try_from(inode).map_err(|_| invalid())?;
    // SAFETY: a system call without pointers.
    let socket = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            libc::NETLINK_SOCK_DIAG,
        )
    };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nobody else owns.
    let mut socket = unsafe { File::from_raw_fd(socket) };
    let mut request = Vec::with_capacity(HEADER + 24);
    request.extend((HEADER as u32 + 24).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(inode.to_ne_bytes());
    request.extend(UDIAG_SHOW_PEER.to_ne_bytes());
    // No cookie (`INET_DIAG_NOCOOKIE`): any socket of that inode.
    request.extend([0xff; 8]);
    socket.write_all(&request)?;
    // The kernel has answered by the time the request is sent.
    let mut answer = [0; 4096];
    let len = socket.read(&mut answer)?;
    parse_peer(answer.get(..len).unwrap_or_default())
}

fn parse_peer(answer: &[u8]) -> io::Result<Option<u64>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let half = |at: usize| -> Option<u16> {
        let bytes = answer.get(at..at + 2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    };
    let word = |at: usize| -> Option<u32> {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = half(4).ok_or_else(short)?;
    if kind == libc::NLMSG_ERROR as u16 {
        let code = word(HEADER).ok_or_else(short)?.cast_signed();
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    let mut at = HEADER + UNIX_DIAG_MSG;
    while let (Some(len), Some(kind)) = (half(at), half(at + 2)) {
        if kind == UNIX_DIAG_PEER {
            return Ok(Some(word(at + 4).ok_or_else(short)?.into()));
        }
        if len < 4 {
            break;
        }
        at += usize::from(len).next_multiple_of(4);
    }
    Ok(None)
}

/// Reads `data` as every text, and as an answer.
pub(super) fn read_every(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let inodes = parse_inet(&text).into_iter().map(|socket| socket.inode);
    for inode in inodes.chain([1]) {
        let _ = unix_path(&text, inode);
    }
    let _ = parse_peer(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;

    fn inode(fd: impl AsFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()));
        let link = link.expect("a link").to_string_lossy().into_owned();
        let number = link
            .strip_prefix("socket:[")
            .and_then(|l| l.strip_suffix(']'));
        number.and_then(|n| n.parse().ok()).expect("an inode")
    }

    fn own(inode: u64) -> Option<Socket> {
        let own = ProcDir::open(Pid(std::process::id())).expect("self");
        find(&own, inode)
    }

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode\n   0: 0100007F:1F90 0200000A:0050 01 00000000:00000000 \
                    00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1\n\
                    garbage\n   1: zz:1 2:3\n";
        let table = parse_inet(text);
        assert_eq!(table.len(), 1);
        assert_eq!(table[0].local.to_string(), "127.0.0.1:8080");
        assert_eq!(table[0].remote.to_string(), "10.0.0.2:80");
        assert_eq!(table[0].inode, 4711);
        let six = address("00000000000000000000000001000000:0016").expect("an address");
        assert_eq!(six.to_string(), "[::1]:22");
        assert_eq!(address("0100007F0:0016"), None);
        let unix = "Num RefCount Protocol Flags Type St Inode Path\n0000: 00000002 00000000 \
                    00010000 0001 01 99 /run/a b.sock\n0000: 00000003 00000000 00000000 0001 03 7\n";
        assert_eq!(unix_path(unix, 99).as_deref(), Some("/run/a b.sock"));
        assert_eq!(unix_path(unix, 7).as_deref(), Some(""));
        assert_eq!(unix_path(unix, 8), None);
    }

    #[test]
    fn answers_are_not_trusted() {
        let mut answer = vec![0; HEADER + UNIX_DIAG_MSG];
        answer[4] = 20;
        assert_eq!(parse_peer(&answer).expect("no peer"), None);
        answer.extend([8, 0, 2, 0, 7, 0, 0, 0]);
        assert_eq!(parse_peer(&answer).expect("a peer"), Some(7));
        assert!(parse_peer(&answer[..answer.len() - 1]).is_err());
        assert!(parse_peer(&[]).is_err());
        answer.truncate(HEADER + UNIX_DIAG_MSG);
        answer.extend([0; 64]);
        assert_eq!(parse_peer(&answer).expect("no attributes"), None);
    }

    #[test]
    fn the_other_side_of_a_tcp_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("a connection");
        let waiting = own(inode(&client)).expect("it is TCP");
        assert_eq!(waiting.peer, Peer::NotAccepted(Some(inode(&listener))));
        assert!(waiting.name.ends_with(", not accepted yet"), "{waiting:?}");
        let (server, _) = listener.accept().expect("a client");
        let found = own(inode(&client)).expect("the client's socket");
        assert_eq!(found.peer, Peer::Inode(inode(&server)));
        assert!(found.name.ends_with(&format!("-> {address}")), "{found:?}");
        assert_eq!(own(inode(&listener)).expect("a listener").peer, Peer::None);
    }

    #[test]
    fn the_other_side_of_a_unix_socket_is_found() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let found = own(inode(&one)).expect("the socket");
        // A kernel without unix_diag does not say.
        let expected = [Peer::Inode(inode(&other)), Peer::Unknown];
        assert!(expected.contains(&found.peer), "{found:?}");
        assert!(found.name.starts_with("unix "));
    }
}
