//! Read-only globals that userspace sets before loading: the verifier takes them for constants,
//! and drops what is behind a condition that they make false. So a helper that a kernel does not
//! have may stand behind one.

use core::ptr::{addr_of, read_volatile};
use profiler_common::offsets::Offsets;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident / $get:ident: $ty:ty;)*) => {$(
        #[unsafe(no_mangle)]
        static $name: $ty = 0;

        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $get() -> $ty {
            // SAFETY: a static of ours; volatile, since userspace changes it before loading.
            unsafe { read_volatile(addr_of!($name)) }
        }
    )*};
}

globals! {
    /// Offset of `task_struct.pid`, the thread id.
    OFF_TASK_PID / off_task_pid: u32;
    /// Offset of `task_struct.tgid`, the process id.
    OFF_TASK_TGID / off_task_tgid: u32;
    /// Offset of `task_struct.comm`.
    OFF_TASK_COMM / off_task_comm: u32;
    /// Offset of `task_struct.__state` (`state` before Linux 5.14).
    OFF_TASK_STATE / off_task_state: u32;
    /// Offset of `task_struct.jobctl`.
    OFF_TASK_JOBCTL / off_task_jobctl: u32;
    /// Offset of `task_struct.on_cpu`.
    OFF_TASK_ON_CPU / off_task_on_cpu: u32;
    /// Offset of `task_struct.nvcsw`; `nivcsw` follows it.
    OFF_TASK_NVCSW / off_task_nvcsw: u32;
    /// Offset of `task_struct.stack`, the lowest address of the kernel stack.
    OFF_TASK_STACK / off_task_stack: u32;
    /// Offset of `task_struct.thread.fsbase`.
    OFF_TASK_FSBASE / off_task_fsbase: u32;
    /// Offset of `task_struct.sched_info.last_arrival`; 0 where the kernel does not keep it.
    OFF_TASK_LAST_ARRIVAL / off_task_last_arrival: u32;
    /// Offset of `task_struct.sched_info.run_delay`; 0 where the kernel does not keep it.
    OFF_TASK_RUN_DELAY / off_task_run_delay: u32;
    /// Offset of `task_struct.sched_info.last_queued`; 0 where the kernel does not keep it.
    OFF_TASK_LAST_QUEUED / off_task_last_queued: u32;
    /// Size of a kernel stack, `THREAD_SIZE`.
    KERNEL_STACK / kernel_stack: u32;
    /// 1 where the helper `bpf_task_pt_regs` exists (Linux 5.15).
    HAS_TASK_PT_REGS / has_task_pt_regs: u32;
    /// 1 where the helper `bpf_get_current_task_btf` exists (Linux 5.11).
    HAS_CURRENT_TASK_BTF / has_current_task_btf: u32;
    /// 1 where `sched_switch` has the argument `prev_state` (Linux 5.18).
    HAS_PREV_STATE / has_prev_state: u32;
    /// Waits of at least this many nanoseconds get a record of their own.
    MIN_BLOCK_NS / min_block_ns: u64;
    /// One stack in this many is copied for the shadow check; 0 for none.
    SHADOW_EVERY / shadow_every: u32;
}

/// Where kernel structs have the fields of objects.
#[unsafe(no_mangle)]
static OBJECT_OFFSETS: Offsets = Offsets::ZERO;

macro_rules! object_offsets {
    ($($name:ident),* $(,)?) => {$(
        #[doc = concat!("[`Offsets::", stringify!($name), "`].")]
        #[inline(always)]
        pub(crate) fn $name() -> u64 {
            // SAFETY: as for the other globals.
            unsafe { read_volatile(addr_of!(OBJECT_OFFSETS.$name)) as u64 }
        }
    )*};
}

object_offsets! {
    task_files, task_fs, task_real_parent, task_thread_pid, pid_level, pid_numbers, files_fdt,
    fdt_max, fdt_fd, file_path, file_inode, file_private, fs_root, path_mnt, path_dentry,
    dentry_parent, dentry_name, mount_mnt, mount_parent, mount_point, vfsmount_root, inode_number,
    inode_mode, inode_super, super_dev, super_magic, socket_sock, sock_family, sock_peer,
    sock_peer_port, sock_peer6, sock_own6, sock_protocol, sock_type, unix_addr,
    unix_peer, unix_addr_len, unix_addr_name, area_file,
}
