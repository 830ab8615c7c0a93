//! What it takes to write and to read a capture of a million waits: a test of its own, since it looks
//! at the memory of its whole process.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;
mod cost_support;

use capture_support::new_file;
use cost_support::{cpu_time, peak};
use holdup::analyze::Analyzer;
use holdup::capture::{Bounds, Capture, Range, Told, Writer};
use holdup::render::{Format, Options, render};
use recordings::busy_service::{WAITS, interval, service};
use std::fs::File;
use std::time::Duration;

const INTERVALS: u64 = 100;

/// Three seconds and 500 MiB for every form are what an optimised build has to reach. It takes 1.5 s
/// and 150 MiB; this one is slower.
#[test]
fn a_million_waits_are_written_and_read() {
    let dir = tempfile::tempdir().expect("dir");
    // Kept where somebody wants to look at it with the program itself.
    let kept = std::env::var_os("HOLDUP_KEEP_CAPTURE").map(std::path::PathBuf::from);
    let path = kept.unwrap_or_else(|| dir.path().join("million.holdup"));
    let b = service();
    let mut told = Told::default();
    let mut writer = Writer::create(new_file(&path), &b.header, Bounds::default()).expect("begins");
    let mut writing = Duration::ZERO;
    for number in 0..INTERVALS {
        let interval = interval(&b, number);
        let begin = cpu_time();
        let news = told.news(&b.tables);
        let written = match number + 1 == INTERVALS {
            true => writer.finish(&news, &interval),
            false => writer.append(&news, &interval),
        };
        written.expect("writes");
        writing += cpu_time() - begin;
    }
    drop(writer);
    let (size, before) = (std::fs::metadata(&path).expect("there").len(), peak());

    let begin = cpu_time();
    let capture = Capture::open(File::open(&path).expect("opens")).expect("a capture");
    let mut analyzer = Analyzer::new(&capture.header);
    let read = capture.intervals(Range::ALL, |interval| {
        analyzer.add(&capture.tables, interval)
    });
    read.expect("intervals");
    let report = analyzer.report(&capture.header, &capture.tables);
    let reading = cpu_time() - begin;
    let begin = cpu_time();
    for format in Format::ALL {
        render(format, &report, &Options::default(), &mut std::io::sink()).expect("draws");
    }
    let drawing = cpu_time() - begin;
    println!(
        "{} waits, {} MiB: written in {writing:?} of CPU time, read in {reading:?}, drawn in every form in \
         {drawing:?}; {before} MiB at most before, {} MiB after",
        INTERVALS * WAITS,
        size >> 20,
        peak()
    );
    let waits: u64 = report.sites.iter().map(|site| site.waits).sum();
    assert_eq!(waits, INTERVALS * WAITS);
    assert!(size < 150 << 20, "{size} bytes");
    assert!(
        reading + drawing < Duration::from_secs(20),
        "{reading:?}, {drawing:?}"
    );
    assert!(peak() < 400, "{} MiB", peak());
}
