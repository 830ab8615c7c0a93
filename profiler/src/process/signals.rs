//! What a child that is a fork without `exec` has to see to.

use std::os::fd::RawFd;

/// All signals, blocked in this thread until the value is dropped, so that none runs a handler of
/// the parent's in the child.
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn all() -> Blocked {
        // SAFETY: zeros are a valid set, and all three outlive the calls.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Blocked(before)
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a set that the same call has filled.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

/// Closes all descriptors from `first` to `last`, both included.
pub(crate) fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: takes no pointers. To be called in a child, where nobody has use of them.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
