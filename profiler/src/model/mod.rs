//! Waits, books, sites and the verdict: from a [`Recording`] to a [`Report`].

mod recording;
mod report;

pub use recording::{
    HIST_BUCKETS, Host, Losses, OpenWait, Recording, StackEntry, StackId, Target, ThreadRecord,
    Tool, Truncation, Wait, WaitTotal, Waker,
};
pub use report::{
    BlockingPool, OpenWaitReport, Report, RuntimeKind, RuntimeReport, Site, StackTotal, StateTimes,
    ThreadReport, WakerTotal,
};
