//! From a dentry to its path, as the process sees it: up to its root, across mounts. What
//! `prepend_path` does in the kernel's `fs/d_path.c`, without its locks: a rename at the same time
//! may give a path that never was.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::ffi::c_void;
use profiler_common::record::MAX_OBJECT_TEXT;

use crate::config;
use crate::maps::OBJECT_MESSAGE;
use crate::objects::{OF_CALL, OF_WAIT, ObjectMessage, SLACK, word};

/// Steps up at most: parts of the path and mounts.
const MAX_STEPS: u32 = 64;

/// Where the walk is.
#[repr(C)]
pub(crate) struct Climb {
    dentry: u64,
    /// A `struct mount`.
    mount: u64,
    root_dentry: u64,
    root_mount: u64,
    /// Bytes of text so far.
    at: u64,
    /// 1 where the root was reached.
    done: u64,
}

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
    let root = word(task.wrapping_add(config::task_fs())).wrapping_add(config::fs_root());
    // SAFETY: by the caller's word.
    unsafe {
        let climb = &raw mut (*message).climb;
        (*climb).dentry = dentry;
        (*climb).mount = mount.wrapping_sub(config::mount_mnt());
        (*climb).root_dentry = word(root.wrapping_add(config::path_dentry()));
        (*climb).root_mount =
            word(root.wrapping_add(config::path_mnt())).wrapping_sub(config::mount_mnt());
        (*climb).at = 0;
        (*climb).done = 0;
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
        if (*climb).done == 0 {
            (*message).record.partial = 1;
        }
        (*climb).at as u32
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
        let climb = &raw mut (*message).climb;
        let (dentry, mount) = ((*climb).dentry, (*climb).mount);
        if dentry == (*climb).root_dentry && mount == (*climb).root_mount {
            (*climb).done = 1;
            return 1;
        }
        let top = word(
            mount
                .wrapping_add(config::mount_mnt())
                .wrapping_add(config::vfsmount_root()),
        );
        let parent = word(dentry.wrapping_add(config::dentry_parent()));
        if dentry == top {
            let up = word(mount.wrapping_add(config::mount_parent()));
            if up == mount || up == 0 {
                // The root of the namespace, or of a file system that is mounted nowhere: pipes
                // and their like, whose only part is the name.
                (*climb).done = 1;
                if (*climb).at != 0 {
                    return 1;
                }
            } else {
                (*climb).dentry = word(mount.wrapping_add(config::mount_point()));
                (*climb).mount = up;
                return 0;
            }
        }
        let at = (*climb).at & (MAX_OBJECT_TEXT as u64 - 1);
        let text = (&raw mut (*message).text).cast::<u8>().add(at as usize);
        // `struct qstr`: hash and length, then the name.
        let name = word(dentry.wrapping_add(config::dentry_name()).wrapping_add(8));
        let len = bpf_probe_read_kernel_str(text.cast(), SLACK as u32, name as *const c_void);
        if len <= 0 {
            return 1;
        }
        (*climb).at = at + (len as u64 & 511);
        if (*climb).at >= MAX_OBJECT_TEXT as u64 || dentry == parent || parent == 0 {
            // A dentry of its own, as those of anonymous inodes are, has no more parts.
            if dentry == parent {
                (*climb).done = 1;
            }
            return 1;
        }
        if (*climb).done != 0 {
            return 1;
        }
        (*climb).dentry = parent;
        0
    }
}
