//! What it takes to sum up a long recording: a test of its own, since it looks at the memory of
//! its whole process.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::Analyzer;
use recordings::busy_service::{WAITS, interval, service};
use std::time::Duration;

const INTERVALS: u64 = 100;

/// The most memory that this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// The CPU time of this thread: others may keep the machine busy.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let running = times.split(' ').next().and_then(|time| time.parse().ok());
    Duration::from_nanos(running.expect("nanoseconds"))
}

#[test]
fn a_million_waits_take_little() {
    let b = service();
    let mut analyzer = Analyzer::new(&b.header);
    drop(interval(&b, 0));
    let before = peak();
    let mut adding = Duration::ZERO;
    for number in 0..INTERVALS {
        let interval = interval(&b, number);
        let begin = cpu_time();
        analyzer.add(&b.tables, interval);
        adding += cpu_time() - begin;
    }
    let added = peak();
    let begin = cpu_time();
    let report = analyzer.report(&b.header, &b.tables);
    let reporting = cpu_time() - begin;
    let reported = peak();
    println!(
        "{} waits: added in {adding:?} of CPU time, reported in {reporting:?}; {} MiB more when added, {} MiB \
         more in the report",
        INTERVALS * WAITS,
        added - before,
        reported - added
    );
    let waits: u64 = report.sites.iter().map(|site| site.waits).sum();
    assert_eq!(waits, INTERVALS * WAITS);
    assert_eq!(report.losses.timeline, 0);
    assert!(reported - before <= 60, "{} MiB", reported - before);
    assert!(adding < Duration::from_secs(10), "{adding:?}");
    assert!(reporting < Duration::from_secs(3), "{reporting:?}");
}
