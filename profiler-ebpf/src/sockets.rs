//! The two ends of a socket.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;

use crate::config;
use crate::kernel_memory::{read_u32, read_u64};
use crate::object_message::ObjectMessage;

const AF_UNIX: u64 = 1;
const AF_INET6: u64 = 10;
/// `sizeof(struct sockaddr_un)`, and its family.
const UNIX_ADDRESS: u32 = 110;
const UNIX_FAMILY: u32 = 2;

/// What tells one connection of a socket from another.
#[derive(Clone, Copy)]
pub(crate) struct SocketAddrs {
    /// Peer's and own address (IPv4).
    pub(crate) addresses: u64,
    /// Peer's port (in network order) and own.
    pub(crate) ports: u32,
}

impl SocketAddrs {
    /// Both lie side by side in `struct sock_common` (`skc_addrpair`, `skc_portpair`).
    #[inline(always)]
    pub(crate) fn of(sock: u64) -> SocketAddrs {
        SocketAddrs {
            addresses: read_u64(sock.wrapping_add(config::sock_peer())),
            ports: read_u32(sock.wrapping_add(config::sock_peer_port())),
        }
    }
}

/// Fills the numbers of the record, and its text for a Unix socket; returns the text's length.
///
/// # Safety
/// `message` is this CPU's.
#[inline(always)]
pub(crate) unsafe fn describe(
    sock: u64,
    ends: SocketAddrs,
    inode: u64,
    message: *mut ObjectMessage,
) -> u32 {
    // SAFETY: guaranteed by the caller; what is read goes through helpers that stand wrong addresses.
    unsafe {
        let family = u64::from(read_u32(sock.wrapping_add(config::sock_family())) & 0xffff);
        let kind = u64::from(read_u32(sock.wrapping_add(config::sock_type())) & 0xffff);
        let protocol = u64::from(read_u32(sock.wrapping_add(config::sock_protocol())) & 0xffff);
        let own_port = u64::from(ends.ports >> 16);
        let peer_port = u64::from((ends.ports as u16).swap_bytes());
        let numbers = &raw mut (*message).record.numbers;
        (*numbers)[0] = family | kind << 16 | protocol << 32;
        (*numbers)[1] = own_port | peer_port << 16;
        if family == AF_UNIX {
            (*numbers)[2] = inode;
            return unix(sock, message);
        }
        if family == AF_INET6 {
            let (own, peer) = (
                sock.wrapping_add(config::sock_own6()),
                sock.wrapping_add(config::sock_peer6()),
            );
            (*numbers)[2] = read_u64(own);
            (*numbers)[3] = read_u64(own.wrapping_add(8));
            (*numbers)[4] = read_u64(peer);
            (*numbers)[5] = read_u64(peer.wrapping_add(8));
        } else {
            (*numbers)[2] = ends.addresses >> 32;
            (*numbers)[4] = ends.addresses & 0xffff_ffff;
        }
        0
    }
}

/// The path of a Unix socket; of one without, that of its peer.
///
/// # Safety
/// As [`describe`].
#[inline(always)]
unsafe fn unix(sock: u64, message: *mut ObjectMessage) -> u32 {
    let mut address = read_u64(sock.wrapping_add(config::unix_addr()));
    if address == 0 {
        let peer = read_u64(sock.wrapping_add(config::unix_peer()));
        if peer == 0 {
            return 0;
        }
        address = read_u64(peer.wrapping_add(config::unix_addr()));
        if address == 0 {
            return 0;
        }
    }
    let len = read_u32(address.wrapping_add(config::unix_addr_len()));
    if len <= UNIX_FAMILY || len > UNIX_ADDRESS {
        return 0;
    }
    let len = (len - UNIX_FAMILY) & 127;
    let path = address
        .wrapping_add(config::unix_addr_name())
        .wrapping_add(UNIX_FAMILY.into());
    // SAFETY: at most 127 bytes go into the text.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut (*message).text).cast(),
            len,
            path as *const c_void,
        )
    };
    if failed == 0 { len } else { 0 }
}
