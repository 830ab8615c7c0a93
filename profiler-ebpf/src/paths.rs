//! From a dentry to its path, as the process sees it: up to its root, across mounts. What
//! `prepend_path` does in the kernel's `fs/d_path.c`, without its locks: a rename at the same time
//! may give a path that never was.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::ffi::c_void;
use profiler_common::record::MAX_OBJECT_TEXT;

use crate::config;
use crate::kernel_memory::read_u64;
use crate::object_message::{OBJECT_MESSAGE, OF_CALL, OF_WAIT, ObjectMessage, SLACK};

/// Steps up at most: parts of the path and mounts.
const MAX_STEPS: u32 = 64;

/// Writes the parts of the path into the message's text, the last one first; returns its length.
///
/// # Safety
/// `task` is the current task, `message` this CPU's, number `WHICH`.
#[inline(always)]
pub(crate) unsafe fn write<const WHICH: u32>(
    task: u64,
    mount: u64,
    dentry: u64,
    message: *mut ObjectMessage,
) -> u32 {
    let root = read_u64(task.wrapping_add(config::task_fs())).wrapping_add(config::fs_root());
    // SAFETY: guaranteed by the caller.
    unsafe {
        let walk = &raw mut (*message).walk;
        (*walk).dentry = dentry;
        (*walk).mount = mount.wrapping_sub(config::mount_mnt());
        (*walk).root_dentry = read_u64(root.wrapping_add(config::path_dentry()));
        (*walk).root_mount =
            read_u64(root.wrapping_add(config::path_mnt())).wrapping_sub(config::mount_mnt());
        (*walk).at = 0;
        (*walk).done = 0;
        for _ in 0..MAX_STEPS {
            let done = if WHICH == OF_CALL {
                path_step_of_call()
            } else {
                path_step_of_wait()
            };
            if done != 0 {
                break;
            }
        }
        if (*walk).done == 0 {
            (*message).record.partial = 1;
        }
        (*walk).at as u32
    }
}

/// One step of the walk for a wait; 1 ends it.
///
/// A global function: the verifier looks at it once and not a step after the other.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn path_step_of_wait() -> u32 {
    path_step::<OF_WAIT>()
}

/// The same for a system call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn path_step_of_call() -> u32 {
    path_step::<OF_CALL>()
}

#[inline(always)]
fn path_step<const WHICH: u32>() -> u32 {
    let Some(message) = OBJECT_MESSAGE.get_ptr_mut(WHICH) else {
        return 1;
    };
    // SAFETY: the message is this CPU's, and the mask keeps the text within it.
    unsafe {
        let walk = &raw mut (*message).walk;
        let (dentry, mount) = ((*walk).dentry, (*walk).mount);
        if dentry == (*walk).root_dentry && mount == (*walk).root_mount {
            (*walk).done = 1;
            return 1;
        }
        let top = read_u64(
            mount
                .wrapping_add(config::mount_mnt())
                .wrapping_add(config::vfsmount_root()),
        );
        let parent = read_u64(dentry.wrapping_add(config::dentry_parent()));
        if dentry == top {
            let up = read_u64(mount.wrapping_add(config::mount_parent()));
            if up == mount || up == 0 {
                // The root of the namespace, or of a file system that is mounted nowhere: pipes
                // and their like, whose only part is the name.
                (*walk).done = 1;
                if (*walk).at != 0 {
                    return 1;
                }
            } else {
                (*walk).dentry = read_u64(mount.wrapping_add(config::mount_point()));
                (*walk).mount = up;
                return 0;
            }
        }
        let at = (*walk).at & (MAX_OBJECT_TEXT as u64 - 1);
        let text = (&raw mut (*message).text).cast::<u8>().add(at as usize);
        // `struct qstr`: hash and length, then the name.
        let name = read_u64(dentry.wrapping_add(config::dentry_name()).wrapping_add(8));
        let len = bpf_probe_read_kernel_str(text.cast(), SLACK as u32, name as *const c_void);
        if len <= 0 {
            return 1;
        }
        (*walk).at = at + (len as u64 & 511);
        if (*walk).at >= MAX_OBJECT_TEXT as u64 || dentry == parent || parent == 0 {
            // A dentry of its own, as those of anonymous inodes are, has no more parts.
            if dentry == parent {
                (*walk).done = 1;
            }
            return 1;
        }
        if (*walk).done != 0 {
            return 1;
        }
        (*walk).dentry = parent;
        0
    }
}
