//! Captures for tests.

#![allow(dead_code, unreachable_pub, missing_docs)]

use holdup::capture::{Bounds, Capture, Range, Told, Writer};
use holdup::recording::Recording;
use std::fs::File;
use std::path::Path;

/// An empty file, as a capture is made in.
pub fn new_file(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.open(path).expect("a new file")
}

/// A capture of a whole recording.
pub fn write(path: &Path, recording: &Recording, bounds: Bounds) {
    let file = new_file(path);
    let mut writer = Writer::create(file, &recording.header, bounds).expect("begins");
    let mut told = Told::default();
    let Some((last, others)) = recording.intervals.split_last() else {
        return;
    };
    for interval in others {
        let news = told.news(&recording.tables);
        writer.append(&news, interval).expect("appends");
    }
    let news = told.news(&recording.tables);
    writer.finish(&news, last).expect("finishes");
}

/// What is in a capture.
pub fn read(path: &Path) -> Recording {
    let capture = Capture::open(File::open(path).expect("opens")).expect("a capture");
    let mut intervals = Vec::new();
    let all = capture.intervals(Range::ALL, |interval| intervals.push(interval));
    all.expect("intervals");
    Recording {
        header: capture.header,
        tables: capture.tables,
        intervals,
    }
}
