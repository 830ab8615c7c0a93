//! Where the time of threads went, interval by interval.

use crate::recording::ThreadId;
use crate::units::{Nanos, Timestamp};

/// What threads did between two instants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The first instant.
    pub start: Timestamp,
    /// The last one.
    pub end: Timestamp,
    /// Each thread that lived meanwhile, in the order of ids.
    pub threads: Vec<ThreadActivity>,
}

/// What one thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadActivity {
    /// The thread.
    pub thread: ThreadId,
    /// On a CPU.
    pub running: Nanos,
    /// Wanting one.
    pub runnable: Nanos,
    /// Off-CPU, whatever for.
    pub off_cpu: Nanos,
}

impl ThreadActivity {
    /// Adds what the same thread did at another time.
    pub fn add(&mut self, more: &ThreadActivity) {
        self.running += more.running;
        self.runnable += more.runnable;
        self.off_cpu += more.off_cpu;
    }
}
