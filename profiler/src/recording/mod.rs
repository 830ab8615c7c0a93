//! A recording: data only, as the collector fills it and the analyzer reads it.

mod losses;
mod object;
#[expect(
    clippy::module_inception,
    reason = "the room is named after its main type"
)]
mod recording;

pub use losses::{LossCauses, Losses, ShadowCheck};
pub use object::{Holder, HolderProcess, MAX_HOLDERS, Object, ObjectKind};
pub use recording::{
    CallTotal, HIST_BUCKETS, Host, Judges, LongPoll, ObjectId, OpenWait, PanicTotal, Panics,
    PollEvidence, Recording, SampleTotal, Sampling, StackEntry, StackId, Target, ThreadRecord,
    Throttling, Tool, Wait, WaitObject, WaitTotal, Waker,
};
