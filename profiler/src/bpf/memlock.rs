//! Before Linux 5.11 BPF's memory counted as locked memory of whoever made it, and the usual limit
//! for that is less than our tables take.

use crate::host::KernelBtf;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on locked memory, raised. Dropping it puts the limit back, so that programs started
/// later do not inherit it.
#[derive(Debug)]
pub(super) struct MemlockRaised {
    before: Rlimit,
}

impl MemlockRaised {
    /// Raises the limit where this kernel counts that way. Without CAP_SYS_RESOURCE it stays as
    /// it is; whether it suffices the kernel says by itself.
    pub(super) fn for_kernel(types: &KernelBtf) -> Option<MemlockRaised> {
        if !types.charges_memlock() {
            return None;
        }
        let before = getrlimit(Resource::Memlock);
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        match setrlimit(Resource::Memlock, unlimited) {
            Ok(()) => Some(MemlockRaised { before }),
            Err(error) => {
                tracing::debug!("the limit on locked memory stays {before:?}: {error}");
                None
            }
        }
    }
}

impl Drop for MemlockRaised {
    fn drop(&mut self) {
        if let Err(error) = setrlimit(Resource::Memlock, self.before) {
            tracing::debug!("the limit on locked memory stays raised: {error}");
        }
    }
}
