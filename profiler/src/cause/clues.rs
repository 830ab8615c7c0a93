//! What single functions tell of a wait: the vocabulary of the rules, as a table of patterns.
//!
//! User functions are looked up by their normalised paths (see [`crate::tokio_rt`]), C functions
//! without leading underscores. In a pattern, `*` stands for any characters.

use std::ops::{BitOr, BitOrAssign};

/// A set of things that functions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clues(u64);

macro_rules! clues {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Clues {
            $($(#[$doc])* pub const $name: Clues = Clues(1 << $bit);)*
        }
    };
}

clues! {
    /// The resolver of host names.
    DNS = 0;
    /// A join of a thread.
    JOIN = 1;
    /// Starting, reading from or waiting for a child process.
    CHILD = 2;
    /// A synchronous channel.
    CHANNEL = 3;
    /// A barrier.
    BARRIER = 4;
    /// `std::sync::Mutex`, `ReentrantLock`.
    STD_MUTEX = 5;
    /// `std::sync::RwLock`.
    STD_RWLOCK = 6;
    /// `Once`, `OnceLock`, `LazyLock`, once_cell.
    ONCE = 7;
    /// parking_lot's locks.
    PARKING_LOT = 8;
    /// pthread mutexes and rwlocks.
    PTHREAD_LOCK = 9;
    /// A condition variable.
    CONDVAR = 10;
    /// A `block_on`.
    BLOCK_ON = 11;
    /// `std::thread::park`.
    PARK = 12;
    /// A sleep of the standard library or of libc.
    SLEEP = 13;
    /// Files of the standard library.
    FILES = 14;
    /// Sockets of the standard library.
    SOCKETS = 15;
    /// Pipes of the standard library.
    PIPES = 16;
    /// rayon: a thread from outside waits for its pool.
    RAYON = 17;

    /// Kernel: a page fault.
    K_FAULT = 32;
    /// Kernel: reading a page back from swap.
    K_SWAP = 33;
    /// Kernel: freeing memory before any can be given.
    K_RECLAIM = 34;
    /// Kernel: a writer or reader of a read-write semaphore waits.
    K_RWSEM = 35;
    /// Kernel: changing or reading the address space.
    K_MM = 36;
    /// Kernel: syncing a file or a file system.
    K_SYNC = 37;
    /// Kernel: a writer is slowed because too many pages are dirty.
    K_DIRTY = 38;
    /// Kernel: a file system, the page cache, a block device.
    K_FILE = 39;
    /// Kernel: a lock on a file.
    K_FILE_LOCK = 40;
    /// Kernel: a pipe or a FIFO.
    K_PIPE = 41;
    /// Kernel: a socket.
    K_SOCKET = 42;
    /// Kernel: a terminal.
    K_TTY = 43;
    /// Kernel: an eventfd, a timerfd, inotify.
    K_EVENT = 44;
    /// Kernel: a parent waits until its child has called exec.
    K_VFORK = 45;
    /// Kernel: the thread was stopped, frozen or traced.
    K_STOPPED = 46;
}

impl Clues {
    /// No clue.
    pub const NONE: Clues = Clues(0);

    /// Whether any of `other` is in this set.
    #[must_use]
    pub const fn any(self, other: Clues) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn all(self, other: Clues) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set and `other`.
    #[must_use]
    pub const fn and(self, other: Clues) -> Clues {
        Clues(self.0 | other.0)
    }
}

impl BitOr for Clues {
    type Output = Clues;
    fn bitor(self, other: Clues) -> Clues {
        self.and(other)
    }
}

impl BitOrAssign for Clues {
    fn bitor_assign(&mut self, other: Clues) {
        *self = self.and(other);
    }
}

type Table = &'static [(Clues, &'static [&'static str])];

/// Functions of the program. std's are those of 1.40 to 1.95: locks moved from
/// `std::sys_common` to `std::sys::unix::locks`, `std::sys::locks` and `std::sys::sync`.
const USER: Table = &[
    (
        Clues::DNS,
        &[
            "getaddrinfo*",
            "gaih_*",
            "gethostby*",
            "getnameinfo*",
            "res_*send*",
            "res_*query*",
            "libc_res_*",
            "nss_dns_*",
            "std::net::socket_addr::*ToSocketAddrs::to_socket_addrs",
            "std::net::socket_addr::resolve_socket_addr*",
            "std::sys::net::*lookup_host*",
            "std::sys_common::net::*lookup_host*",
            "std::sys_common::net::LookupHost::*",
            "std::sys::net::connection::*LookupHost::*",
            "dns_lookup::*",
        ],
    ),
    (
        Clues::JOIN,
        &[
            "pthread_join*",
            "pthread_timedjoin*",
            "pthread_clockjoin*",
            "std::thread::*JoinHandle::join",
            "std::thread::*JoinInner::join",
            "std::sys::*Thread::join",
            "std::thread::scoped::scope*",
            "std::thread::scoped::ScopedJoinHandle::join",
            "crossbeam_utils::thread::scope*",
        ],
    ),
    (
        Clues::CHILD,
        &[
            "std::process::Command::output",
            "std::process::Command::status",
            "std::process::Command::spawn",
            "std::process::Child::wait*",
            "std::sys::*process::*",
            "std::sys_common::process::*",
            "posix_spawn*",
            "waitpid",
            "wait4",
            "waitid",
            "libc_wait*",
            "duct::*",
            "xshell::*",
        ],
    ),
    (
        Clues::CHANNEL,
        &[
            "std::sync::mpsc::*",
            "std::sync::mpmc::*",
            "crossbeam_channel::*",
            "flume::*recv*",
            "flume::*send*",
            "flume::Shared::*",
            "kanal::*",
            "tokio::sync::*::blocking_recv*",
            "tokio::sync::*::blocking_send*",
            "async_channel::*_blocking",
            "futures_channel::*_blocking",
        ],
    ),
    (
        Clues::BARRIER,
        &["std::sync::*barrier::*", "std::sync::Barrier::*"],
    ),
    (
        Clues::STD_MUTEX,
        &[
            "std::sys::*mutex::*",
            "std::sys::*futex_mutex::*",
            "std::sys_common::*mutex::*",
            "std::sync::*mutex::Mutex::lock",
            "std::sync::Mutex::lock",
            "std::sync::*reentrant_lock::*",
        ],
    ),
    (
        Clues::STD_RWLOCK,
        &[
            "std::sys::*rwlock::*",
            "std::sys::*futex_rwlock::*",
            "std::sys_common::*rwlock::*",
            "std::sync::*rwlock::RwLock::read",
            "std::sync::*rwlock::RwLock::write",
        ],
    ),
    (
        Clues::ONCE,
        &[
            "std::sys::*once::*",
            "std::sys_common::once::*",
            "std::sync::*once::*",
            "std::sync::once_lock::*",
            "std::sync::lazy_lock::*",
            "once_cell::*",
            "parking_lot::once::*",
        ],
    ),
    (
        Clues::PARKING_LOT,
        &[
            "parking_lot::raw_mutex::*",
            "parking_lot::raw_rwlock::*",
            "parking_lot::remutex::*",
            "parking_lot::raw_fair_mutex::*",
            "lock_api::*::lock",
            "lock_api::*::read",
            "lock_api::*::write",
            "dashmap::lock::*",
        ],
    ),
    (
        Clues::PTHREAD_LOCK,
        &[
            "pthread_mutex_*lock*",
            "pthread_rwlock_*lock*",
            "lll_lock_wait*",
            "lll_mutex_*",
        ],
    ),
    (
        Clues::CONDVAR,
        &[
            "std::sys::*condvar::*",
            "std::sys::*futex_condvar::*",
            "std::sys_common::*condvar::*",
            "std::sync::*condvar::Condvar::wait*",
            "parking_lot::condvar::*",
            "pthread_cond_*wait*",
            "event_listener::*wait*",
        ],
    ),
    (
        Clues::BLOCK_ON,
        &[
            "futures_executor::*",
            "pollster::*",
            "futures_lite::future::block_on*",
            "async_io::driver::block_on*",
            "async_global_executor::*block_on*",
            "smol::*block_on*",
            "async_std::task::*block_on*",
            "tokio::runtime::*block_on*",
            "tokio::future::block_on*",
            "tokio::task::local::LocalSet::block_on*",
            "tokio::park::thread::CachedParkThread::block_on*",
            "actix_rt::*block_on*",
            "reqwest::blocking::wait::*",
            "tokio_test::block_on*",
            "async_executor::*block_on*",
            "cassette::block_on*",
            "extreme::run*",
        ],
    ),
    (
        Clues::PARK,
        &[
            "std::thread::park*",
            "std::thread::*::park*",
            "std::sys::*thread_park*::*",
            "std::sys_common::thread_park*::*",
            "crossbeam_utils::sync::parker::*",
            "parking::*",
        ],
    ),
    (
        Clues::SLEEP,
        &[
            "std::thread::*sleep*",
            "std::sys::*Thread::sleep*",
            "std::sys::*thread::*sleep*",
            "nanosleep",
            "clock_nanosleep*",
            "usleep",
            "sleep",
        ],
    ),
    (
        Clues::FILES,
        &[
            "std::fs::*",
            "std::sys::*fs::*",
            "std::sys_common::fs::*",
            "std::path::*",
            "tempfile::*",
            "walkdir::*",
            "fs_err::*",
        ],
    ),
    (
        Clues::SOCKETS,
        &[
            "std::net::*",
            "std::sys::*net::*",
            "std::sys_common::net::*",
            "std::os::unix::net::*",
            "std::os::net::*",
            "socket2::*",
        ],
    ),
    (
        Clues::PIPES,
        &["std::io::pipe::*", "std::sys::*pipe::*", "std::pipe::*"],
    ),
    (Clues::RAYON, &["rayon_core::*", "rayon::*"]),
];

/// Functions of the kernel, 6.1 to 6.18.
const KERNEL: Table = &[
    (
        Clues::K_FAULT,
        &["asm_exc_page_fault", "exc_page_fault", "do_user_addr_fault"],
    ),
    (
        Clues::K_SWAP,
        &[
            "do_swap_page",
            "swap_read*",
            "swapin_*",
            "swap_cluster_readahead",
            "swap_vma_readahead",
            "read_swap_cache*",
        ],
    ),
    (
        Clues::K_RECLAIM,
        &[
            "try_to_free_*",
            "do_try_to_free_pages",
            "shrink_*",
            "reclaim_throttle",
            "throttle_direct_reclaim",
            "mem_cgroup_handle_over_high*",
            "__mem_cgroup_handle_over_high",
            "mem_cgroup_oom*",
            "mem_cgroup_out_of_memory",
            "out_of_memory",
            "__alloc_pages_slowpath*",
            "__alloc_pages_direct_*",
            "try_to_compact_pages",
        ],
    ),
    (
        Clues::K_RWSEM,
        &["rwsem_down_*", "down_read*", "down_write*"],
    ),
    (
        Clues::K_MM,
        &[
            "do_user_addr_fault",
            "lock_mm_and_find_vma",
            "vm_mmap_pgoff",
            "__vm_munmap",
            "__x64_sys_munmap",
            "__x64_sys_mmap",
            "__x64_sys_brk",
            "__x64_sys_mremap",
            "do_mprotect_pkey*",
            "do_madvise*",
            "exit_mm*",
            "mmap_read_lock*",
            "mmap_write_lock*",
            "__mmap_lock*",
        ],
    ),
    (
        Clues::K_SYNC,
        &[
            "vfs_fsync*",
            "do_fsync",
            "__do_sys_fsync",
            "__x64_sys_fsync",
            "__x64_sys_fdatasync",
            "*_sync_file",
            "*_file_fsync",
            "file_write_and_wait*",
            "jbd2_log_wait_commit",
            "jbd2_complete_transaction",
            "ksys_sync*",
            "sync_filesystem",
            "__x64_sys_msync",
        ],
    ),
    (Clues::K_DIRTY, &["balance_dirty_pages*"]),
    (
        Clues::K_FILE,
        &[
            "ext4_*",
            "xfs_*",
            "btrfs_*",
            "f2fs_*",
            "fuse_*",
            "__fuse_*",
            "nfs_*",
            "nfs4_*",
            "cifs_*",
            "ovl_*",
            "zfs_*",
            "zpl_*",
            "v9fs_*",
            "p9_*",
            "ceph_*",
            "iomap_*",
            "generic_file_*",
            "generic_perform_write",
            "filemap_*",
            "__filemap_*",
            "folio_wait_*",
            "wait_on_page_*",
            "wait_on_buffer",
            "__wait_on_buffer",
            "read_cache_folio",
            "page_cache_*",
            "submit_bio_wait",
            "blk_*",
            "blkdev_*",
            "jbd2_*",
            "vfs_rename",
            "vfs_unlink",
            "do_unlinkat",
            "do_renameat2",
            "iterate_dir",
            "lookup_slow",
            "path_openat",
            "do_truncate",
        ],
    ),
    (
        Clues::K_FILE_LOCK,
        &[
            "flock_lock_inode_wait",
            "locks_lock_inode_wait",
            "posix_lock_inode_wait",
            "do_lock_file_wait",
            "fcntl_setlk*",
            "__do_sys_flock",
            "__x64_sys_flock",
        ],
    ),
    (
        Clues::K_PIPE,
        &[
            "pipe_read",
            "pipe_write",
            "anon_pipe_*",
            "fifo_pipe_*",
            "pipe_wait_*",
            "wait_for_partner",
            "fifo_open",
            "splice_to_pipe",
            "ipipe_prep*",
            "opipe_prep*",
        ],
    ),
    (
        Clues::K_SOCKET,
        &[
            "sock_*",
            "__sock_*",
            "__sys_recvfrom",
            "__sys_sendto",
            "__sys_connect",
            "__sys_accept4",
            "tcp_*",
            "inet_*",
            "inet6_*",
            "udp_*",
            "udpv6_*",
            "unix_*",
            "sk_wait_data",
            "sk_stream_wait_*",
            "__skb_wait_for_more_packets",
            "__skb_recv_*",
            "netlink_*",
            "vsock_*",
            "packet_recvmsg",
        ],
    ),
    (
        Clues::K_TTY,
        &["n_tty_*", "tty_read", "tty_write", "file_tty_write"],
    ),
    (
        Clues::K_EVENT,
        &["eventfd_*", "timerfd_*", "inotify_*", "signalfd_*"],
    ),
    (Clues::K_VFORK, &["wait_for_vfork_done", "kernel_clone"]),
    (
        Clues::K_STOPPED,
        &[
            "ptrace_stop",
            "do_signal_stop",
            "do_freezer_trap",
            "__refrigerator",
            "do_jobctl_trap",
        ],
    ),
];

/// What a function of the program tells, by its normalised path.
pub(super) fn of_user(path: &str) -> Clues {
    look_up(USER, bare(path))
}

/// What a function of the kernel tells.
pub(super) fn of_kernel(function: &str) -> Clues {
    look_up(KERNEL, function)
}

/// A path; a C function without what marks it as internal.
pub(super) fn bare(path: &str) -> &str {
    if path.contains("::") {
        return path;
    }
    path.trim_start_matches('_')
        .trim_start_matches("GI_")
        .trim_start_matches('_')
}

fn look_up(table: Table, name: &str) -> Clues {
    let mut found = Clues::NONE;
    for (clue, patterns) in table {
        if patterns.iter().any(|pattern| matches(pattern, name)) {
            found |= *clue;
        }
    }
    found
}

/// Whether `text` is what `pattern` describes, in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    // The first place where a piece fits is as good as any later one, but for the last piece.
    while let Some((piece, more)) = rest.split_once('*') {
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = text.get(at + piece.len()..).unwrap_or("");
        rest = more;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in [
            ("a::b", "a::b"),
            ("a::*", "a::b::c"),
            ("a::*::c", "a::b::c"),
            ("*::c", "a::b::c"),
            ("a*b*c", "a1b2b3c"),
            ("*", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a::b", "a::bc"),
            ("a::*::c", "a::c"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn internal_c_names_lose_their_marks() {
        assert!(of_user("__GI___pthread_mutex_lock").any(Clues::PTHREAD_LOCK));
        assert!(of_user("__libc_res_nsearch").any(Clues::DNS));
        assert!(of_user("__pthread_clockjoin_ex").any(Clues::JOIN));
    }

    #[test]
    fn functions_of_the_application_tell_nothing() {
        for path in [
            "claims::store::read",
            "claims::sleep",
            "my::std::fs::read",
            "sleep_well::x",
        ] {
            assert_eq!(of_user(path), Clues::NONE, "{path}");
        }
    }
}
