//! From a [`Recording`](crate::recording::Recording) to a [`Report`](crate::report::Report): sums,
//! runtimes, sites, the verdict.

mod build;
mod call;
mod calls;
mod causes;
mod cpu;
mod location;
mod object_groups;
mod panics;
mod quantile;
mod role_times;
mod runtimes;
mod several;
mod sites;
mod stacks;
mod sweep;
#[cfg(test)]
mod testing;
mod thread_times;
mod time;
mod verdict;

pub use build::build;
