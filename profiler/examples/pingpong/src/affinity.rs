//! Which CPU a program runs on.

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread, and those that it makes from now on, on one CPU.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).with_context(|| format!("cannot run on CPU {cpu}"))
}
