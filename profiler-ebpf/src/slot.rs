//! Entries of the per-CPU maps of a walk. Programs whose walks cannot interrupt each other share
//! one.

/// Of the scheduler's tracepoints, which run with interrupts off.
pub(crate) const SCHEDULER: u32 = 0;
/// Of the sampling clock, which interrupts any program that runs with interrupts on.
pub(crate) const SAMPLE: u32 = 1;
/// Of returns from system calls, which the scheduler may interrupt.
pub(crate) const CALL: u32 = 2;
/// Of panics, likewise.
pub(crate) const PANIC: u32 = 3;
/// How many.
pub(crate) const COUNT: u32 = 4;
