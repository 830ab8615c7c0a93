//! What a system call waits for, by its number: which argument names the object of the wait.

/// System call numbers that the table covers.
pub const CALLS: usize = 512;

/// Nothing that we know of.
pub const NOTHING: u32 = 0;
/// The first argument is a descriptor.
pub const DESCRIPTOR: u32 = 1;
/// The first argument is a path.
pub const PATH: u32 = 2;
/// The second argument is a path, the first one the directory that it may be relative to.
pub const PATH_AT: u32 = 3;
/// `nanosleep`: the first argument is a `timespec`.
pub const NANOSLEEP: u32 = 4;
/// `clock_nanosleep`: clock, flags, `timespec`.
pub const CLOCK_NANOSLEEP: u32 = 5;
/// `futex`: the first argument is the word's address, the second the operation.
pub const FUTEX: u32 = 6;
/// `wait4`: the first argument is a process id, or -1 for any.
pub const WAIT4: u32 = 7;
/// `waitid`: kind of id, id.
pub const WAITID: u32 = 8;
/// `poll`, `ppoll`: an array of `pollfd` and its length.
pub const POLL: u32 = 9;

/// `connect`: a descriptor, then the address, which tells the path of a Unix socket.
pub const CONNECT: u32 = 10;

/// Whether system call `number` of x86_64 has nothing to do but to wait or to wake, so that its
/// time on a CPU is not worth a look: these are most of what a parking thread calls. Also those
/// that do not return, or not to where they were called.
#[must_use]
pub const fn only_waits(number: u32) -> bool {
    matches!(
        number,
        // poll, rt_sigreturn, select, sched_yield, pause, nanosleep, execve, exit.
        7 | 15 | 23 | 24 | 34 | 35 | 59 | 60
        // futex, clock_nanosleep, exit_group, epoll_wait, pselect6, ppoll, epoll_pwait, execveat,
        // epoll_pwait2.
        | 202 | 230 | 231 | 232 | 270 | 271 | 281 | 322 | 441
    )
}

/// Whether system call `number` of x86_64 waits for events of an epoll instance, its first argument:
/// `epoll_wait`, `epoll_pwait` or `epoll_pwait2`.
#[must_use]
#[inline(always)]
pub const fn is_epoll_wait(number: u32) -> bool {
    matches!(number, 232 | 281 | 441)
}

/// What system call `number` of x86_64 waits for (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[must_use]
pub const fn object_of(number: u32) -> u32 {
    match number {
        // read, write, close, fstat, lseek, ioctl, pread64, pwrite64, readv, writev, sendfile:
        // its output; accept, sendto, recvfrom, sendmsg, recvmsg, shutdown, fcntl,
        // flock, fsync, fdatasync, ftruncate, getdents, fchdir, fchmod, fchown, fstatfs,
        // readahead, fsetxattr, fgetxattr, getdents64, fadvise64, epoll_wait, vmsplice, splice,
        // tee, sync_file_range, epoll_pwait, fallocate, accept4, preadv, pwritev, recvmmsg,
        // syncfs, sendmmsg, copy_file_range, preadv2, pwritev2, io_uring_enter, epoll_pwait2.
        0
        | 1
        | 3
        | 5
        | 8
        | 16..=20
        | 40
        | 43..=48
        | 72..=75
        | 77
        | 78
        | 81
        | 91
        | 93
        | 138
        | 187
        | 190
        | 193
        | 217
        | 221
        | 232
        | 275..=278
        | 281
        | 285
        | 288
        | 295
        | 296
        | 299
        | 306
        | 307
        | 326..=328
        | 426
        | 441 => DESCRIPTOR,
        // open, stat, lstat, access, execve, truncate, chdir, rename, mkdir, rmdir, creat, link,
        // unlink, symlink, readlink, chmod, chown, lchown, mknod, statfs.
        2 | 4 | 6 | 21 | 59 | 76 | 80 | 82..=90 | 92 | 94 | 133 | 137 => PATH,
        // openat, mkdirat, mknodat, fchownat, futimesat, newfstatat, unlinkat, renameat, linkat,
        // readlinkat, fchmodat, faccessat, utimensat, name_to_handle_at, renameat2, execveat,
        // statx, openat2, faccessat2.
        257..=265 | 267..=269 | 280 | 303 | 316 | 322 | 332 | 437 | 439 => PATH_AT,
        35 => NANOSLEEP,
        230 => CLOCK_NANOSLEEP,
        202 => FUTEX,
        61 => WAIT4,
        247 => WAITID,
        7 | 271 => POLL,
        42 => CONNECT,
        _ => NOTHING,
    }
}
