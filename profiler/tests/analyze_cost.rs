//! What it takes to sum up a long recording: a test of its own, since it looks at the memory of
//! its whole process.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod cost_support;

use cost_support::{cpu_time, peak};
use holdup::analyze::Analyzer;
use recordings::busy_service::{WAITS, interval, service};
use std::time::Duration;

const INTERVALS: u64 = 100;

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
