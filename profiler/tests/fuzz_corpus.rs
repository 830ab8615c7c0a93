//! Every seed of the fuzzer, and what a few thousand blind mutations make of them, through the
//! same functions: what the fuzzer found once stays found, without the fuzzer.

mod fuzz_support;
#[path = "fuzz_support/mutate.rs"]
mod mutate;
#[path = "fuzz_support/seeds.rs"]
mod seeds;

use fuzz_support::{TARGETS, Target, image};
use mutate::Random;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest that one input may take, in an unoptimised build and on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Most memory that one input may take: this, and so many bytes for each of its own.
const MAX_MEMORY: (usize, usize) = (16 << 20, 256);
/// Mutations of one target: their number is fixed, so that every run does the same.
const ROUNDS: usize = 3000;

/// Counts what is allocated, to find an input that takes memory beyond all proportion.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: our caller keeps the promises that `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: our caller keeps the promises that `dealloc` asks for.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One input at a time: the counters are the whole process's.
static ONE: Mutex<()> = Mutex::new(());

/// Runs one input; where it breaks a promise, keeps it and says so.
fn feed(target: &Target, input: &[u8], origin: &str) {
    let one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = started.elapsed();
    let memory = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    drop(one);
    let complaint = if outcome.is_err() {
        "panicked".to_owned()
    } else if took > MAX_TIME {
        format!("took {took:?}")
    } else if memory > MAX_MEMORY.0 + MAX_MEMORY.1 * input.len() {
        format!("took {memory} bytes for {}", input.len())
    } else {
        return;
    };
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-broken", target.name));
    std::fs::write(&kept, input).expect("the temporary folder is writable");
    panic!(
        "{} {complaint} on {origin}; the input is kept in {}",
        target.name,
        kept.display()
    );
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target)
}

/// The files of a target, by name.
fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in target.seeds.iter().map(|name| folder(name)) {
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let before = files.len();
        files.extend(entries.map(|entry| {
            let path = entry.unwrap().path();
            let file = std::fs::read(&path).unwrap();
            (path.display().to_string(), file)
        }));
        assert!(files.len() > before, "no seeds in {}", folder.display());
    }
    files
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(target);
    for (name, seed) in &corpus {
        feed(target, seed, name);
    }
    let seeds: Vec<&Vec<u8>> = corpus.values().collect();
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds(name) {
        let input = mutate::mutated(&seeds, &mut random);
        feed(target, &input, &format!("mutation {round}"));
    }
}

/// So many that a target takes less than a second in an unoptimised build.
fn rounds(name: &str) -> usize {
    match name {
        "symbols" | "copy" => ROUNDS / 2,
        // `capture_hostile` has ten thousand more.
        "capture" => ROUNDS / 10,
        // One type that holds itself takes the whole budget of a search.
        "btf" => ROUNDS / 10,
        _ => ROUNDS,
    }
}

#[test]
fn elf() {
    run("elf");
}

#[test]
fn eh_frame() {
    run("eh_frame");
}

#[test]
fn btf() {
    run("btf");
}

#[test]
fn events() {
    run("events");
}

#[test]
fn maps() {
    run("maps");
}

#[test]
fn perf_map() {
    run("perf_map");
}

/// The reader finds in the seeds what is there to be found.
#[test]
fn the_seeds_of_made_code_have_names() {
    let target = TARGETS.iter().find(|target| target.name == "perf_map");
    for (name, seed) in corpus(target.unwrap()) {
        assert!(
            !holdup::symbolize::PerfMap::parse(&seed).is_empty(),
            "{name}"
        );
    }
}

#[test]
fn crates() {
    run("crates");
}

#[test]
fn names() {
    run("names");
}

#[test]
fn copy() {
    run("copy");
}

#[test]
fn texts() {
    run("texts");
}

#[test]
fn capture() {
    run("capture");
}

/// The reader gets beyond the file's beginning.
#[test]
fn the_seeds_of_captures_are_captures() {
    let target = TARGETS.iter().find(|target| target.name == "capture");
    let seeds = corpus(target.unwrap());
    for (name, seed) in seeds {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seed, 0).unwrap();
        let capture = holdup::capture::Capture::open(file).expect(&name);
        let mut waits = 0;
        let all = holdup::capture::Range::ALL;
        let read = capture.intervals(all, |interval| waits += interval.waits.len());
        assert!(read.is_ok() && waits > 0, "{name}");
    }
}

#[test]
fn symbols() {
    run("symbols");
}

/// A target that the fuzzer has and this test has not would be no test at all.
#[test]
fn every_target_is_fuzzed_and_tested() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let mut programs: Vec<String> = std::fs::read_dir(programs)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    programs.sort();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets.sort_unstable();
    assert_eq!(programs, targets);
}

/// With `HOLDUP_WRITE_SEEDS` set, writes them.
#[test]
fn the_crafted_seeds_are_those_in_the_repository() {
    let write = std::env::var_os("HOLDUP_WRITE_SEEDS").is_some();
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(name);
        if write {
            std::fs::create_dir_all(folder(target)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        assert!(
            kept == bytes,
            "{} differs; run the test with HOLDUP_WRITE_SEEDS=1",
            path.display()
        );
    }
}

#[test]
fn the_corpus_is_small() {
    let files: BTreeMap<String, Vec<u8>> = TARGETS.iter().flat_map(corpus).collect();
    let bytes: usize = files.values().map(Vec::len).sum();
    assert!(bytes < 500_000, "{bytes} bytes");
}

/// The promises are tested by what breaks them.
#[test]
fn broken_promises_are_found() {
    let breaks = |run: fn(&[u8])| {
        let target = Target {
            name: "selftest",
            seeds: &[],
            run,
        };
        catch_unwind(|| feed(&target, b"x", "itself")).is_err()
    };
    assert!(breaks(|_| panic!("on purpose")));
    assert!(breaks(|_| drop(std::hint::black_box(vec![1u8; 32 << 20]))));
    assert!(!breaks(|_| drop(std::hint::black_box(vec![1u8; 1 << 20]))));
    assert!(!image::with_frames(0, &[]).is_empty());
}
