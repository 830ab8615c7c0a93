//! The report: data only. [`crate::analyze`] makes it, every renderer draws it.

mod activity;
mod blame;
mod calls;
pub mod check;
mod condition_site;
mod conditions;
mod cpu_part;
mod detail;
pub mod diff;
pub mod dump;
mod filter;
mod harm;
mod lanes;
pub mod list;
mod panics;
mod polls;
mod queued;
#[expect(
    clippy::module_inception,
    reason = "the room is named after its main type"
)]
mod report;
mod runtimes;
mod stopped;
mod tasks;
mod times;
mod verdict;

pub use activity::{Activity, ThreadActivity};
pub use blame::{BLAME_CHAINS, Blame, BlameChain, BlameEnd, BlameLink};
pub use calls::{CallObject, CallSite};
pub use conditions::{Asked, CheckedCondition, ConditionSite};
pub use cpu_part::CpuPart;
pub use detail::{Detail, DetailStack, DetailSum, DetailThread, Keep, LeftOut};
pub use filter::{Filter, fits};
pub use harm::Harm;
pub use lanes::{Lane, SLICE, Slice, Trend};
pub use panics::{PanicReport, PanicSite};
pub use polls::{LongPollSite, LongestPoll, POLL_BUCKETS, PollTimes};
pub use queued::QueuedTasks;
pub use report::{
    BlockingPool, CpuSite, CpuUse, ObjectGroup, ObjectTotal, OpenWaitReport, Part, ProcessFinding,
    Report, RuntimeShare, Site, StackTotal, TASK_IDS, TaskIdTotal, TaskTotal, ThreadReport,
    ThrottlingReport, WakerTotal, WokenStack,
};
pub use runtimes::{GroupedBy, RuntimeKind, RuntimeReport};
pub use stopped::{FIRST_STOPS, Stop, Stopped};
pub use tasks::{CauseTotal, TaskReport};
pub use times::{StateTimes, Stretch};
pub use verdict::{UnclearReason, Verdict};
