//! A recording comes out of its capture as it went in.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;

use capture_support::{read, write};
use holdup::analyze::build;
use holdup::capture::Bounds;
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};

fn drawn(recording: &Recording, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    render(format, &build(recording), &Options::default(), &mut out).expect("writing to memory");
    out
}

fn probes(recording: &Recording) -> String {
    let processes = recording.tables.processes.iter();
    let probes: Vec<_> = processes.map(|process| &process.panic_probes).collect();
    format!("{probes:?}")
}

#[test]
fn every_recording_and_every_report_of_it_is_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let in_seconds = [1, 2, 3].map(|seconds| seconds * recordings::builder::SEC);
    let mut all = recordings::all();
    all.push(("in_intervals", recordings::in_intervals(&in_seconds)));
    // As the collector hands them out: nothing after the last wait.
    for (_, recording) in &mut all {
        let sums = recording
            .intervals
            .iter_mut()
            .flat_map(|interval| &mut interval.sums);
        for histogram in sums.map(|sum| &mut sum.histogram) {
            let len = histogram.iter().rposition(|count| *count > 0);
            histogram.truncate(len.map_or(0, |last| last + 1));
        }
    }
    // It names a stack that is not there, as no collector does.
    all.retain(|(name, _)| *name != "lossy");
    for (name, recording) in all {
        let path = dir.path().join(name);
        write(&path, &recording, Bounds::default());
        let again = read(&path);
        assert_eq!(again.header, recording.header, "{name}");
        assert_eq!(again.intervals, recording.intervals, "{name}");
        let tables = |recording: &Recording| {
            let mut named = recording.tables.clone();
            // JSON has no maps by thread.
            let names = std::mem::take(&mut named.thread_names);
            (serde_json::to_string(&named).expect("JSON"), names)
        };
        assert_eq!(tables(&again), tables(&recording), "{name}");
        assert_eq!(probes(&again), probes(&recording), "{name}");
        for format in Format::ALL {
            assert!(drawn(&again, format) == drawn(&recording, format), "{name}");
        }
    }
}
