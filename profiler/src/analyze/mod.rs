//! From intervals to a [`Report`](crate::report::Report): sums, runtimes, sites, the verdict.
//!
//! ```text
//! Interval -> analyzer -> totals (sums), concurrency (who waited at once) -> whole (a range)
//!     -> role_times -> runtimes, sites, stacks, cpu, calls, panics -> verdict -> Report
//! ```

mod activities;
mod analyzer;
mod blame;
mod blocking_pool;
mod build;
mod by_thread;
mod call;
mod calls;
mod causes;
mod circles;
mod concurrency;
mod cpu;
mod detail;
mod diff;
mod driver_gaps;
mod dump;
mod filter;
mod fix_first;
mod full_pool;
mod guessed_groups;
mod harm;
mod harms;
mod history;
mod homes;
mod labels;
mod location;
mod longest;
mod meanwhile;
mod object_groups;
mod open_waits;
mod panics;
mod parts;
mod polls;
mod pool_jobs;
mod quantile;
mod role_times;
mod runtimes;
mod site_key;
mod sites;
mod so_far;
mod spread;
mod stack_facts;
mod stacks;
mod stopped;
mod sum_map;
mod sweep;
mod task_ids;
mod tasks;
#[cfg(test)]
mod testing;
mod thread_sums;
mod thread_times;
mod throttling;
mod time;
mod totals;
mod trends;
mod unjudged;
mod verdict;
mod wakers;
mod whole;

pub use analyzer::Analyzer;
pub use build::{build, build_filtered, build_keeping, build_range};
pub use detail::detail_of;
pub use diff::diff;
pub use dump::{Looked, dump};
pub use filter::choose_from;
pub use history::History;
pub use so_far::{SoFar, longest_stall};
pub use time::rfc3339;
pub use trends::Trends;
