//! Whether a blocking pool was full: all its threads waited in closures, and more closures waited in line.

use crate::recording::Process;
use crate::report::{BlockingPool, Site, Verdict};
use crate::runtime::{Role, State};
use crate::units::{Nanos, Pid};
use std::cmp::Reverse;

/// A pool is full if all its threads waited at once for this share of the recording…
const FULL_SHARE: f64 = 0.10;
/// …and this share of the closures waited in line. Now and then one is taken by a thread that has just
/// finished another one, while an idle thread is on its way.
const QUEUED_SHARE: f64 = 0.50;
/// Threads of a pool that nobody has given another limit (tokio's `Builder::max_blocking_threads`).
pub(super) const DEFAULT_LIMIT: u32 = 512;

/// Whether the pool of a process was full in a recording of this length.
pub(super) fn is_full(pool: &BlockingPool, process: &Process, length: Nanos) -> bool {
    let share = pool.peak_ns.share_of(length);
    let queued = pool.closures_queued as f64 >= QUEUED_SHARE * pool.closures as f64;
    let in_line = pool.closures_queued > 0 && queued
        || pool.peak_busy >= DEFAULT_LIMIT
        || in_line_at_end(process) > 0;
    share >= FULL_SHARE && in_line
}

/// By tokio's own numbers, of a pool whose threads all were in closures to the end.
fn in_line_at_end(process: &Process) -> u64 {
    let full = process.tokio.full_pools.iter();
    full.map(|full| u64::from(full.queued)).sum()
}

/// What is to be said of the pool of a process, if it was full.
pub(super) fn full_pool(
    process: &Process,
    (pools, sites): (&[BlockingPool], &[Site]),
    length: Nanos,
) -> Option<Verdict> {
    let pid = process.pid;
    let pool = pools.iter().find(|pool| pool.pid == pid)?;
    let share = pool.peak_ns.share_of(length);
    is_full(pool, process, length).then(|| Verdict::PoolFull {
        pid,
        threads: pool.peak_busy,
        total_ns: pool.peak_ns,
        share,
        queued: pool.closures_queued.max(in_line_at_end(process)),
        site: worst(sites, pid),
    })
}

/// Where the closures of a process waited for most of their time.
fn worst(sites: &[Site], pid: Pid) -> Option<usize> {
    let sites = sites.iter().enumerate();
    let of_pool = sites.filter(|(_, site)| {
        site.pid == pid && site.state == State::Pool && site.role == Role::PoolThread
    });
    let worst = of_pool.max_by_key(|(index, site)| (site.total_ns, Reverse(*index)));
    worst
        .filter(|(_, site)| site.total_ns > Nanos::ZERO)
        .map(|(index, _)| index)
}
