//! Whether a report is complete for an honest program, whoever was recorded beside it: by what the
//! program measured of itself.

use crate::check::{self, Complaints};
use crate::check_modes::every_wait;
use crate::fixture::{Running, Variant};
use crate::record::Recorded;
use crate::report::Report;
use crate::truth::Truth;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;

/// What it plays: waits at some forty places, ten of them and more at each, within about 1.5 s.
pub(crate) const MODE: &str = "scenarios";
/// Fewer places than these are another program.
const PLACES: usize = 30;
/// Shorter sums of ten waits are the clocks' own errors for the most part, where others keep the CPUs
/// busy on purpose: reads of a fast disk. They are counted all the same.
const LONG: u64 = 10_000_000;
/// The unit of `/proc/stat`, `USER_HZ`, in nanoseconds.
const TICK: u64 = 10_000_000;

/// Starts `program` in its part.
pub(crate) fn start(program: &Path, dir: &Path) -> Result<Running, String> {
    let mut command = Command::new(program);
    command.arg(MODE).arg(dir);
    Running::start(command)
}

/// Time that the host and interrupts have taken from all CPUs, up to now, in nanoseconds: what a
/// wakeup may be late by, see [`crate::truth::Late`].
pub(crate) fn stolen() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpu = text.lines().next().unwrap_or_default();
    // irq, softirq and steal.
    let fields = cpu.split_ascii_whitespace().skip(6).take(3);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * TICK
}

/// What a report lacks, or has too much.
pub(crate) struct Compared {
    /// Of its waits, which are counted exactly.
    pub(crate) waits: Complaints,
    /// Of their times. What else goes on on the machine may come between two clocks, so these are
    /// looked at on a second recording.
    pub(crate) times: Complaints,
}

/// Compares what a report has of process `pid` with what that process measured, while so much was
/// `stolen`.
pub(crate) fn compared(report: &Report, pid: u32, truth: Truth, stolen_ns: u64) -> Compared {
    let mut report = report.clone();
    report.sites.retain(|site| site.pid == pid);
    let mut waits = every_wait(&report, &truth);
    let places = truth.blocked().filter(|site| site.waits > 0).count();
    if places < PLACES {
        waits.push(format!("the honest program waited at {places} places only"));
    }
    let mut truth = truth;
    truth.sites.retain(|site| site.wall_ns >= LONG);
    // Each CPU's part of a tick that is not over.
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let times = check::times(&Recorded {
        variant: Variant::DEFAULT,
        pid,
        truth,
        report,
        folded: String::new(),
        throughout: BTreeMap::new(),
        stolen_ns: stolen_ns + TICK * cpus,
    });
    Compared { waits, times }
}
