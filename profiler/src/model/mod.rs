//! Waits, books, sites and the verdict: from a [`Recording`] to a [`Report`].

mod books;
mod build;
mod call;
mod calls;
mod causes;
mod cpu;
mod losses;
mod object;
mod object_groups;
mod panics;
mod place;
mod quantile;
mod recording;
mod report;
mod runtimes;
mod several;
mod sites;
mod stacks;
mod sweep;
mod syscall;
mod tally;
#[cfg(test)]
mod testing;
mod time;
mod verdict;

pub use build::build;
pub use calls::{CallObject, CallSite};
pub use losses::{LossCauses, Losses, ShadowCheck};
pub use object::{Holder, HolderProcess, MAX_HOLDERS, Object, ObjectKind};
pub use panics::{PanicReport, PanicSite};
pub use recording::{
    CallTotal, HIST_BUCKETS, Host, Judges, LongPoll, ObjectId, OpenWait, PanicTotal, Panics,
    PollEvidence, Recording, SampleTotal, Sampling, StackEntry, StackId, Target, ThreadRecord,
    Throttling, Tool, Truncation, Wait, WaitObject, WaitTotal, Waker,
};
pub use report::{
    BlockingPool, CpuPart, CpuSite, CpuUse, LongPollSite, LongestPoll, ObjectGroup, ObjectTotal,
    OpenWaitReport, Report, RuntimeKind, RuntimeReport, Site, StackTotal, StateTimes, Stretch,
    TASK_IDS, TaskIdTotal, TaskTotal, ThreadReport, ThrottlingReport, WakerTotal, WokenStack,
};
pub use syscall::syscall_name;
pub use verdict::Verdict;
