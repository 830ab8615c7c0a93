//! The border to the kernel side: bytes of the ring buffer become typed events, and raw values of
//! maps become typed ones. Nothing here trusts a length or a number, and no room above imports the kernel
//! side's records or constants. (Unwind rows are the same on both sides.)
//!
//! [`event`] has the events, [`ids`] what they name threads, stacks and objects by, [`read`]
//! decodes, and [`thread`] has the values of maps.

mod event;
mod ids;
mod queued_tasks;
mod read;
mod thread;
mod tls_state;

pub use event::{
    Activity, CallSeen, ChildExec, DriverGap, Event, Exec, Fork, ObjectSeen, PanicSeen, PollClock,
    RawObject, RawPiece, RawSocket, SampleSeen, Snapshot, StackKind, StackSeen, Syscall, ThreadEnd,
    WaitSeen, Waker,
};
pub use ids::{ObjectNumber, StackNumber, TableVersion, ThreadKey, ThreadName, WaitStack};
pub use read::{DecodeError, decode};
pub use thread::{
    OpenWait, Phase, StackPolicy, Sum, SumKey, ThreadEntry, ThreadState, ThreadTimes, park_sum,
};
pub use tls_state::read_context;

/// Of so many waits shorter than `min_block` the kernel side tells of one, by chance.
pub const SHORT_WAITS_PER_SAMPLE: u64 = profiler_common::map::SHORT_WAITS_PER_SAMPLE as u64;

/// Objects that the kernel side remembers as told; the least recently seen go first, and are told
/// again.
pub const MAX_OBJECTS: usize = profiler_common::map::MAX_OBJECTS;
