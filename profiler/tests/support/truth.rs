//! The fixture's ground truth.

use serde::Deserialize;
use std::sync::OnceLock;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) workers: u32,
    pub(crate) sites: Vec<TrueSite>,
    pub(crate) open: Vec<TrueOpen>,
}

/// What one function measured of itself, by the kernel's counters of its own thread.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TrueSite {
    pub(crate) function: String,
    /// The states that are right, the best one first.
    pub(crate) states: Vec<String>,
    pub(crate) file: String,
    /// Line of the blocking call.
    pub(crate) line: u32,
    pub(crate) calls: u64,
    /// Voluntary context switches.
    pub(crate) waits: u64,
    /// `CLOCK_MONOTONIC` around the calls.
    pub(crate) wall_ns: u64,
    pub(crate) cpu_ns: u64,
    /// Runnable without a CPU: after a wakeup, or preempted.
    pub(crate) run_delay_ns: u64,
    /// The longest call, by the wall.
    pub(crate) max_ns: u64,
    /// What the calls have waited at the least, where they say for how long; otherwise 0.
    pub(crate) least_ns: u64,
}

/// A function in which threads wait for good.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TrueOpen {
    pub(crate) function: String,
    pub(crate) threads: usize,
}

impl TrueSite {
    /// Off-CPU, run queue included.
    pub(crate) fn off_cpu_ns(&self) -> u64 {
        self.wall_ns.saturating_sub(self.cpu_ns)
    }

    /// Off-CPU up to the wakeups: what a report calls `total_ns`.
    ///
    /// Not less than what was to be slept, though the scheduler may say so: since Linux 6.12 a
    /// thread that goes to sleep may stay on the run queue for a while (`sched_delayed` in the
    /// kernel's `kernel/sched/fair.c`), and if the load balancer moves it to another CPU, it is
    /// counted as waiting for one from then on (`sched_info_enqueue`), for the rest of its sleep.
    pub(crate) fn blocked_ns(&self) -> u64 {
        let off_cpu = self.off_cpu_ns();
        let blocked = off_cpu.saturating_sub(self.run_delay_ns);
        blocked.max(self.least_ns.min(off_cpu))
    }

    /// By how much a right figure may differ: 2 % (the promise of the report), and 60 µs a call.
    ///
    /// The 60 µs are not the profiler's but the truth's own error: between the two readings of
    /// the clock the thread also takes interrupts and, on a virtual machine, exits to the host,
    /// and its wakeup travels to an idle CPU. Neither its CPU time nor its run delay has them:
    /// on the machine of the measurement, up to 45 µs in calls that never waited at all.
    ///
    /// An emulated CPU may stand still at any moment, for milliseconds, and where it did so, before
    /// or after a clock was read, decides to whose account that goes, ours or the scheduler's. There
    /// a half is allowed instead, and [`slowdown`] times as much a call; counts stay exact.
    pub(crate) fn tolerance_ns(&self) -> u64 {
        let part = if slowdown() > 1 { 2 } else { 50 };
        self.blocked_ns() / part + slowdown() * 60_000 * self.calls.max(self.waits)
    }

    /// Whether a report may say that so much of it was off-CPU up to the wakeups. What is lacking
    /// may be `late`.
    pub(crate) fn may_be_blocked_for(&self, nanos: u64, late: &mut Late) -> bool {
        let tolerance = self.tolerance_ns();
        let most = if slowdown() > 1 {
            self.most_off_cpu_ns()
        } else {
            self.blocked_ns()
        };
        let least = self.blocked_ns().saturating_sub(tolerance);
        nanos <= most + tolerance && late.excuses(least.saturating_sub(nanos))
    }

    /// Off-CPU at most, run queue included: see [`TrueSite::tolerance_ns`].
    pub(crate) fn most_off_cpu_ns(&self) -> u64 {
        if slowdown() > 1 {
            self.wall_ns
        } else {
            self.off_cpu_ns()
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.states.iter().any(|state| state == "blocked")
    }
}

/// Time by which wakeups may have come late to their CPUs, all sites of a recording together.
///
/// A wait ends with the wakeup; by the truth, which is the scheduler's, when the thread is put in
/// line. Where that is another CPU's line, an interrupt has to go there first, and on a virtual
/// machine it may find that CPU taken away by the host, for milliseconds.
#[derive(Debug)]
pub(crate) struct Late(u64);

impl Late {
    /// At most what the host and interrupts took from all CPUs meanwhile.
    pub(crate) fn at_most(stolen_ns: u64) -> Late {
        Late(stolen_ns)
    }

    /// Whether that explains so much, what it explained before not counted again.
    fn excuses(&mut self, nanos: u64) -> bool {
        let left = self.0.checked_sub(nanos);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// How much slower than a real machine this one is: `HOLDUP_TEST_SLOWDOWN`, by default 1. It
/// widens what the truth cannot know exactly, and no count. `cargo xtask vm-test` sets it where
/// guests are emulated in software; nothing else should.
pub(crate) fn slowdown() -> u64 {
    static SLOWDOWN: OnceLock<u64> = OnceLock::new();
    *SLOWDOWN.get_or_init(|| {
        let value = std::env::var("HOLDUP_TEST_SLOWDOWN");
        value.map_or(1, |value| {
            value
                .parse()
                .expect("HOLDUP_TEST_SLOWDOWN is a whole number")
        })
    })
}

impl Truth {
    /// The sites that a profiler has to blame.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = &TrueSite> {
        self.sites.iter().filter(|site| site.is_blocked())
    }

    /// The sites that it must not blame.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &TrueSite> {
        self.sites.iter().filter(|site| !site.is_blocked())
    }
}
