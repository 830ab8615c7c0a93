//! A recording: data only. The collector fills it, the analyzer reads it.
//!
//! A recording is a row of [`Interval`]s over [`Tables`] that only grow. `record` sums all of them
//! up, a live view shows the last ones, a capture file appends each.

mod ids;
mod interval;
mod losses;
mod object;
#[expect(
    clippy::module_inception,
    reason = "the room is named after its main type"
)]
mod recording;
mod tables;
mod tokio_facts;

pub use ids::{ObjectId, ProcessId, StackId, ThreadId, WakerId};
pub use interval::{
    CallSum, Classified, DriverGap, HIST_BUCKETS, Interval, OpenWait, PanicSum, Poll, PollEvidence,
    SHORT_WAITS_PER_SAMPLE, STANDSTILL, SampleSum, ThreadTimes, Throttling, Wait, WaitSum,
    bucket_of,
};
pub use losses::{LossCauses, Losses, ShadowCheck};
pub use object::{Holder, HolderProcess, MAX_HOLDERS, Object, ObjectKind};
pub use recording::{Header, Host, Recording, Sampling, Tool};
pub use tables::{PanicProbes, Process, Stack, Tables, WaitObject, Waker, is_holdup};
pub use tokio_facts::TokioFacts;
