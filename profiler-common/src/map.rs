//! Keys and values of the maps.

/// Where a thread's time went so far; nanoseconds. The three sums and the open stretch since
/// `since` make up the time the thread lived in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Books {
    /// When the thread was first seen (its birth, or the first event after the recording began).
    pub first_seen: u64,
    /// On a CPU.
    pub running: u64,
    /// Wanting a CPU: preempted, or woken and not yet running.
    pub runnable: u64,
    /// Off-CPU, from the switch-out to the wakeup.
    pub blocked: u64,
    /// Waits behind `blocked`.
    pub waits: u64,
}
