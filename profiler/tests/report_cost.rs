//! What the program takes to draw a capture of a million waits in each form, and to compare two.
//!
//! The tests' own build is not optimised for that. It draws a tenth of them here; `HOLDUP_MEASURED` names an
//! optimised one, which gets all, and has to keep to what is promised.

#[allow(dead_code, unreachable_pub, unused_imports, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;

use capture_support::new_file;
use holdup::capture::{Bounds, Told, Writer};
use holdup::render::Format;
use recordings::busy_service::{WAITS, interval, service};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many waits, and how long each form may take: by the clock of an optimised build, which is measured where
/// nobody disturbs it; in CPU time otherwise.
const OPTIMISED: (u64, Duration) = (1_000_000, Duration::from_secs(3));
const OTHERWISE: (u64, Duration) = (100_000, Duration::from_secs(5));
/// Whatever the build, in MiB.
const MEMORY: i64 = 500;

fn capture_of(waits: u64, path: &Path) {
    let b = service();
    let mut told = Told::default();
    let mut writer = Writer::create(new_file(path), &b.header, Bounds::default()).expect("begins");
    let intervals = waits / WAITS;
    for number in 0..intervals {
        let interval = interval(&b, number);
        let news = told.news(&b.tables);
        let written = match number + 1 == intervals {
            true => writer.finish(&news, &interval),
            false => writer.append(&news, &interval),
        };
        written.expect("writes");
    }
}

/// CPU time of all children that have ended, and the most memory that one of them had, in MiB.
fn of_children() -> (Duration, i64) {
    // SAFETY: numbers alone, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value of ours of the type that the call fills.
    let done = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(done, 0);
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    (
        time(usage.ru_utime) + time(usage.ru_stime),
        usage.ru_maxrss >> 10,
    )
}

/// Runs the program; the CPU time that it took, and how long.
fn run(program: &OsStr, words: &[&OsStr]) -> (Duration, Duration) {
    let (before, begun) = (of_children().0, Instant::now());
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("starts");
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (of_children().0 - before, begun.elapsed())
}

#[test]
fn each_form_of_a_million_waits() {
    let dir = tempfile::tempdir().expect("dir");
    let capture = dir.path().join("million.holdup");
    let measured = std::env::var_os("HOLDUP_MEASURED");
    let (program, (waits, bound)) = match &measured {
        Some(program) => (program.as_os_str(), OPTIMISED),
        None => (OsStr::new(env!("CARGO_BIN_EXE_holdup")), OTHERWISE),
    };
    capture_of(waits, &capture);
    let mut too_slow = Vec::new();
    let mut check = |what: &str, words: &[&OsStr]| {
        let (cpu, took) = run(program, words);
        let peak = of_children().1;
        println!("{what:14} {took:>10.2?}, {cpu:.2?} of CPU time, {peak} MiB at most so far");
        assert!(peak <= MEMORY, "{what}: {peak} MiB");
        let counted = if measured.is_some() { took } else { cpu };
        if counted > bound {
            too_slow.push(format!("{what}: {counted:?}"));
        }
    };
    let capture = capture.as_os_str();
    for format in Format::ALL {
        let mut words: Vec<&OsStr> = vec!["report".as_ref(), capture, "-q".as_ref()];
        words.extend(["-f".as_ref(), OsStr::new(format.name())]);
        if format == Format::Junit {
            // It has conditions; this one does not hold.
            words.extend(["--fail-if".as_ref(), OsStr::new("stall>60s")]);
        }
        check(format.name(), &words);
    }
    for format in ["text", "json", "svg"] {
        let words = [
            "diff".as_ref(),
            capture,
            capture,
            "-q".as_ref(),
            "-f".as_ref(),
            format.as_ref(),
        ];
        check(&format!("diff {format}"), &words);
    }
    assert!(too_slow.is_empty(), "{too_slow:?}");
}
