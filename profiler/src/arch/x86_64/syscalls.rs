//! The system calls of x86_64: the one table of their names and numbers.
//!
//! Whoever needs a number asks for it by name. The compiler looks it up:
//!
//! ```
//! # use holdup::arch::{syscall, syscalls};
//! const FUTEX: u32 = syscall("futex");
//! const SLEEP: &[u32] = &syscalls(["nanosleep", "clock_nanosleep"]);
//! # assert_eq!((FUTEX, SLEEP), (202, &[35, 230][..]));
//! ```

/// The name of system call `number` (0 to 469), or none of a number that Linux 6.18 does not
/// know. Source: the kernel's `arch/x86/entry/syscalls/syscall_64.tbl`, entries `common` and `64`.
#[must_use]
pub fn syscall_name(number: u32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    let name = if number < FIRST.len() {
        FIRST[number]
    } else {
        *SECOND.get(number.checked_sub(SECOND_START)?)?
    };
    (!name.is_empty()).then_some(name)
}

/// The number of the system call `name`. For constants: a name that the table does not have is
/// an error of the compiler.
///
/// # Panics
/// At run time, where there is no such system call.
#[must_use]
pub const fn syscall(name: &str) -> u32 {
    if let Some(index) = position(FIRST, name) {
        return index;
    }
    match position(SECOND, name) {
        Some(index) => SECOND_START as u32 + index,
        None => panic!("no system call has this name"),
    }
}

/// The numbers of several system calls; see [`syscall`].
///
/// # Panics
/// As [`syscall`].
#[must_use]
pub const fn syscalls<const N: usize>(names: [&str; N]) -> [u32; N] {
    let mut numbers = [0; N];
    let mut i = 0;
    while i < N {
        numbers[i] = syscall(names[i]);
        i += 1;
    }
    numbers
}

/// Those in which a thread waits for the events of an epoll instance.
const EPOLL_WAITS: [u32; 3] = syscalls(["epoll_wait", "epoll_pwait", "epoll_pwait2"]);

/// Whether a system call waits for the events of an epoll instance, as the I/O driver does. musl's
/// `epoll_wait` makes the call with a signal mask.
#[must_use]
pub fn waits_in_epoll(number: u32) -> bool {
    EPOLL_WAITS.contains(&number)
}

const fn position(names: &[&str], wanted: &str) -> Option<u32> {
    let mut i = 0;
    while i < names.len() {
        if is_same(names[i].as_bytes(), wanted.as_bytes()) {
            return Some(i as u32);
        }
        i += 1;
    }
    None
}

/// `==`, which constants cannot use.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Numbers 0 to 335.
#[rustfmt::skip]
const FIRST: &[&str] = &[
    "read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap",
    "mprotect", "munmap", "brk", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "ioctl",
    "pread64", "pwrite64", "readv", "writev", "access", "pipe", "select", "sched_yield", "mremap",
    "msync", "mincore", "madvise", "shmget", "shmat", "shmctl", "dup", "dup2", "pause",
    "nanosleep", "getitimer", "alarm", "setitimer", "getpid", "sendfile", "socket", "connect",
    "accept", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "bind", "listen",
    "getsockname", "getpeername", "socketpair", "setsockopt", "getsockopt", "clone", "fork",
    "vfork", "execve", "exit", "wait4", "kill", "uname", "semget", "semop", "semctl", "shmdt",
    "msgget", "msgsnd", "msgrcv", "msgctl", "fcntl", "flock", "fsync", "fdatasync", "truncate",
    "ftruncate", "getdents", "getcwd", "chdir", "fchdir", "rename", "mkdir", "rmdir", "creat",
    "link", "unlink", "symlink", "readlink", "chmod", "fchmod", "chown", "fchown", "lchown",
    "umask", "gettimeofday", "getrlimit", "getrusage", "sysinfo", "times", "ptrace", "getuid",
    "syslog", "getgid", "setuid", "setgid", "geteuid", "getegid", "setpgid", "getppid", "getpgrp",
    "setsid", "setreuid", "setregid", "getgroups", "setgroups", "setresuid", "getresuid",
    "setresgid", "getresgid", "getpgid", "setfsuid", "setfsgid", "getsid", "capget", "capset",
    "rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "rt_sigsuspend", "sigaltstack",
    "utime", "mknod", "uselib", "personality", "ustat", "statfs", "fstatfs", "sysfs",
    "getpriority", "setpriority", "sched_setparam", "sched_getparam", "sched_setscheduler",
    "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min",
    "sched_rr_get_interval", "mlock", "munlock", "mlockall", "munlockall", "vhangup",
    "modify_ldt", "pivot_root", "_sysctl", "prctl", "arch_prctl", "adjtimex", "setrlimit",
    "chroot", "sync", "acct", "settimeofday", "mount", "umount2", "swapon", "swapoff", "reboot",
    "sethostname", "setdomainname", "iopl", "ioperm", "create_module", "init_module",
    "delete_module", "get_kernel_syms", "query_module", "quotactl", "nfsservctl", "getpmsg",
    "putpmsg", "afs_syscall", "tuxcall", "security", "gettid", "readahead", "setxattr",
    "lsetxattr", "fsetxattr", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr",
    "flistxattr", "removexattr", "lremovexattr", "fremovexattr", "tkill", "time", "futex",
    "sched_setaffinity", "sched_getaffinity", "set_thread_area", "io_setup", "io_destroy",
    "io_getevents", "io_submit", "io_cancel", "get_thread_area", "lookup_dcookie", "epoll_create",
    "epoll_ctl_old", "epoll_wait_old", "remap_file_pages", "getdents64", "set_tid_address",
    "restart_syscall", "semtimedop", "fadvise64", "timer_create", "timer_settime",
    "timer_gettime", "timer_getoverrun", "timer_delete", "clock_settime", "clock_gettime",
    "clock_getres", "clock_nanosleep", "exit_group", "epoll_wait", "epoll_ctl", "tgkill",
    "utimes", "vserver", "mbind", "set_mempolicy", "get_mempolicy", "mq_open", "mq_unlink",
    "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr", "kexec_load", "waitid",
    "add_key", "request_key", "keyctl", "ioprio_set", "ioprio_get", "inotify_init",
    "inotify_add_watch", "inotify_rm_watch", "migrate_pages", "openat", "mkdirat", "mknodat",
    "fchownat", "futimesat", "newfstatat", "unlinkat", "renameat", "linkat", "symlinkat",
    "readlinkat", "fchmodat", "faccessat", "pselect6", "ppoll", "unshare", "set_robust_list",
    "get_robust_list", "splice", "tee", "sync_file_range", "vmsplice", "move_pages", "utimensat",
    "epoll_pwait", "signalfd", "timerfd_create", "eventfd", "fallocate", "timerfd_settime",
    "timerfd_gettime", "accept4", "signalfd4", "eventfd2", "epoll_create1", "dup3", "pipe2",
    "inotify_init1", "preadv", "pwritev", "rt_tgsigqueueinfo", "perf_event_open", "recvmmsg",
    "fanotify_init", "fanotify_mark", "prlimit64", "name_to_handle_at", "open_by_handle_at",
    "clock_adjtime", "syncfs", "sendmmsg", "setns", "getcpu", "process_vm_readv",
    "process_vm_writev", "kcmp", "finit_module", "sched_setattr", "sched_getattr", "renameat2",
    "seccomp", "getrandom", "memfd_create", "kexec_file_load", "bpf", "execveat", "userfaultfd",
    "membarrier", "mlock2", "copy_file_range", "preadv2", "pwritev2", "pkey_mprotect",
    "pkey_alloc", "pkey_free", "statx", "io_pgetevents", "rseq", "uretprobe",
];

/// The number of the first entry of [`SECOND`]; the kernel left the numbers between unused, so
/// that new calls have the same number on every architecture.
const SECOND_START: usize = 424;

/// Numbers 424 to 469.
#[rustfmt::skip]
const SECOND: &[&str] = &[
    "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register", "open_tree",
    "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "pidfd_open", "clone3",
    "close_range", "openat2", "pidfd_getfd", "faccessat2", "process_madvise", "epoll_pwait2",
    "mount_setattr", "quotactl_fd", "landlock_create_ruleset", "landlock_add_rule",
    "landlock_restrict_self", "memfd_secret", "process_mrelease", "futex_waitv",
    "set_mempolicy_home_node", "cachestat", "fchmodat2", "map_shadow_stack", "futex_wake",
    "futex_wait", "futex_requeue", "statmount", "listmount", "lsm_get_self_attr",
    "lsm_set_self_attr", "lsm_list_modules", "mseal", "setxattrat", "getxattrat", "listxattrat",
    "removexattrat", "open_tree_attr", "file_getattr", "file_setattr",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_libc() {
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_nanosleep, "nanosleep"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_epoll_wait, "epoll_wait"),
            (libc::SYS_clock_nanosleep, "clock_nanosleep"),
            (libc::SYS_rseq, "rseq"),
            (libc::SYS_pidfd_send_signal, "pidfd_send_signal"),
            (libc::SYS_futex_waitv, "futex_waitv"),
            (libc::SYS_mseal, "mseal"),
        ] {
            let number = u32::try_from(number).expect("a small number");
            assert_eq!(syscall_name(number), Some(name));
            assert_eq!(syscall(name), number);
        }
    }

    #[test]
    fn every_name_has_its_own_number() {
        for number in 0..512 {
            if let Some(name) = syscall_name(number) {
                assert_eq!(syscall(name), number, "{name}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "no system call")]
    fn a_name_that_is_none_is_an_error() {
        let _ = syscall("futexx");
    }

    #[test]
    fn unused_numbers_have_no_name() {
        for number in [336, 400, 423, 470, u32::MAX] {
            assert_eq!(syscall_name(number), None);
        }
        assert_eq!(syscall_name(469), Some("file_setattr"));
    }
}
