//! Captures that may not grow: what is oldest goes, and is counted.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;

use capture_support::{new_file, read};
use holdup::analyze::build;
use holdup::capture::{Bounds, Capture, End, Told, Writer};
use holdup::recording::{Header, Interval, Tables};
use holdup::units::Nanos;
use recordings::builder::SEC;
use recordings::busy_service::{interval, service};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::{self, File};
use std::path::Path;

/// A second with few waits of the busy service.
fn second(tables: &recordings::builder::Builder, number: u64) -> Interval {
    let mut second = interval(tables, number);
    second.waits.truncate(500);
    second.sums.truncate(500);
    second
}

/// Writes so many seconds. Returns the writer, and how large the file was after each of them.
fn write(path: &Path, bounds: Bounds, seconds: u64) -> (Writer, Vec<u64>) {
    let b = service();
    let (header, tables): (&Header, &Tables) = (&b.header, &b.tables);
    let mut writer = Writer::create(new_file(path), header, bounds).expect("begins");
    let mut told = Told::default();
    let mut sizes = Vec::new();
    for number in 0..seconds {
        let interval = second(&b, number);
        let news = told.news(tables);
        let written = match number + 1 == seconds {
            true => writer.finish(&news, &interval),
            false => writer.append(&news, &interval),
        };
        written.expect("writes");
        sizes.push(fs::metadata(path).expect("there").len());
    }
    (writer, sizes)
}

#[test]
fn what_is_older_than_it_may_be_goes() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.holdup");
    let bounds = Bounds {
        keep: Some(Nanos(10 * SEC)),
        ..Bounds::default()
    };
    let (writer, sizes) = write(&path, bounds, 40);
    let summary = writer.summary();
    drop(writer);
    assert_eq!(
        (summary.dropped, summary.dropped_length),
        (30, Nanos(30 * SEC))
    );
    assert_eq!(summary.length, Nanos(10 * SEC));
    let (early, late) = (sizes[19], sizes[38]);
    assert!(
        late <= early + early / 10,
        "it grew from {early} to {late} bytes"
    );

    let capture = Capture::open(File::open(&path).expect("opens")).expect("a capture");
    assert_eq!((capture.dropped, &capture.end), (30, &End::Complete));
    drop(capture);
    let recording = read(&path);
    let b = service();
    let all: Vec<Interval> = (30..40).map(|number| second(&b, number)).collect();
    for (kept, written) in recording.intervals.iter().zip(&all) {
        assert_eq!((kept.start, &kept.waits), (written.start, &written.waits));
    }
    assert_eq!(recording.intervals.len(), all.len());
    let report = build(&recording);
    assert_eq!(report.duration_ns, Nanos(10 * SEC));
}

#[test]
fn it_stays_smaller_than_it_may_be() {
    const MAX: u64 = 2 << 20;
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.holdup");
    let bounds = Bounds {
        max_size: Some(MAX),
        ..Bounds::default()
    };
    let (writer, sizes) = write(&path, bounds, 60);
    let summary = writer.summary();
    drop(writer);
    assert!(sizes.iter().all(|size| *size <= MAX), "{sizes:?}");
    assert!(
        sizes.iter().max() > Some(&(MAX / 2)),
        "it has room for more: {sizes:?}"
    );
    assert!(
        summary.dropped > 10 && summary.length > Nanos(5 * SEC),
        "{summary:?}"
    );
    let kept = read(&path).intervals.len() as u64;
    assert_eq!(kept + summary.dropped, 60);
}

/// Where a second cannot be written any more, what is told of the file is what is in it.
#[test]
fn a_second_that_found_no_room_is_not_counted() {
    for keep in [None, Some(Nanos(2 * SEC))] {
        let bounds = Bounds {
            keep,
            ..Bounds::default()
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("capture", flags).expect("memory"));
        let b = service();
        let begun = file.try_clone().expect("a descriptor");
        let mut writer = Writer::create(begun, &b.header, bounds).expect("begins");
        let mut told = Told::default();
        for number in 0..3 {
            let news = told.news(&b.tables);
            writer.append(&news, &second(&b, number)).expect("writes");
        }
        let before = writer.summary();
        fcntl_add_seals(&file, SealFlags::GROW).expect("a disk that is full");
        let large = interval(&b, 3);
        assert!(writer.append(&told.news(&b.tables), &large).is_err());
        assert_eq!(writer.summary(), before);
        drop(writer);
        let length = keep.map_or(3, |_| 2);
        assert_eq!(before.length, Nanos(length * SEC));
        let capture = Capture::open(file).expect("a capture");
        assert_eq!(capture.dropped, before.dropped);
    }
}

/// Names cannot be dropped: where they alone are too much, the capture ends and stays readable.
#[test]
fn names_that_are_too_large_end_it() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.holdup");
    let bounds = Bounds {
        max_size: Some(2 << 20),
        ..Bounds::default()
    };
    let mut b = service();
    let mut writer = Writer::create(new_file(&path), &b.header, bounds).expect("begins");
    let mut told = Told::default();
    let news = told.news(&b.tables);
    writer.append(&news, &second(&b, 0)).expect("fits");
    for process in &mut b.tables.processes {
        process.cmdline = vec!["x".repeat(3 << 20)];
    }
    let news = told.news(&b.tables);
    let error = writer
        .append(&news, &second(&b, 1))
        .expect_err("does not fit");
    assert!(error.to_string().contains("--max-size"), "{error}");
    writer.end_early("no room").expect("says so");
    drop(writer);
    let capture = Capture::open(File::open(&path).expect("opens")).expect("a capture");
    assert_eq!(capture.end, End::Early("no room".into()));
}
