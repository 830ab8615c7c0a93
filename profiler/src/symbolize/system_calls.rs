//! What the child that reads debug information may ask of the kernel: memory, and files to read.
//!
//! It has no capabilities, but its user is still ours, which is root mostly, and a user may signal
//! its processes and change its files. So whoever makes the library do what a file wants finds that
//! there is no system call for it.

use std::io;

/// `AUDIT_ARCH_X86_64` of `include/uapi/linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`.
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// System calls that neither change anything nor reach anybody.
const HARMLESS: [libc::c_long; 27] = [
    libc::SYS_read,
    libc::SYS_pread64,
    // Into pipes: the limit on the length of files is 0.
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    // Nobody gets capabilities by it that he has not.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What opening a file for reading does not say.
const OPEN_CHANGES: u32 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND)
        .cast_unsigned();

/// Offsets in `struct seccomp_data` of `include/uapi/linux/seccomp.h`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The low half of the third argument: the flags of openat(2).
const FLAGS: u32 = 16 + 2 * 8;

/// Refuses this thread, for good, every system call with `EPERM` but those that reading a file
/// takes. Needs `no_new_privs`. Makes one system call.
///
/// # Errors
/// `EINVAL` where the kernel has no seccomp filters.
pub(super) fn keep_reading_only() -> io::Result<()> {
    let filter = filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
    // SAFETY: the program and what it points to outlive the call, which only reads them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn filter() -> Vec<libc::sock_filter> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    // Skips this many steps where the value is this, or is not.
    let equals = |value, yes, no| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let has = |bits, yes, no| step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits);
    let end = |verdict| step(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

    let mut filter = vec![
        load(ARCHITECTURE),
        equals(ARCH, 1, 0),
        end(refused),
        load(NUMBER),
    ];
    for call in HARMLESS {
        filter.extend([equals(call as u32, 0, 1), end(libc::SECCOMP_RET_ALLOW)]);
    }
    filter.extend([
        equals(libc::SYS_openat as u32, 0, 2),
        load(FLAGS),
        has(OPEN_CHANGES, 0, 1),
        end(refused),
        end(libc::SECCOMP_RET_ALLOW),
    ]);
    filter
}
