//! The HTML report: its plain part and its data against golden files, and the page itself in a browser.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail. With
//! `HOLDUP_KEEP_PAGES` set to a folder, the pages that a browser opens stay there.

mod cost_support;
mod html_support;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;

use cost_support::{cpu_time, peak};
use holdup::analyze::{Analyzer, build_keeping};
use holdup::capture::Bounds;
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};
use holdup::report::Report;
use html_support::{Decoded, Page, browser};
use libtest_mimic::{Arguments, Failed, Trial};
use recordings::busy_service;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Those that are compared with golden files.
const GOLDEN: [&str; 4] = ["held_lock", "several", "hostile", "empty"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let plain: [(&str, fn()); 9] = [
        ("golden_pages", golden_pages),
        ("golden_data", golden_data),
        (
            "waits_are_those_of_the_recording",
            waits_are_those_of_the_recording,
        ),
        ("intervals_tell_cpu_time_only", intervals_tell_cpu_time_only),
        ("every_recording_has_a_page", every_recording_has_a_page),
        ("functions_share_no_frame", functions_share_no_frame),
        ("names_stay_text", names_stay_text),
        (
            "holdup_itself_is_told_as_a_waker",
            holdup_itself_is_told_as_a_waker,
        ),
        ("a_million_waits", a_million_waits),
    ];
    let mut trials: Vec<Trial> = Vec::new();
    for (name, check) in plain {
        trials.push(Trial::test(name, move || {
            check();
            Ok(())
        }));
    }
    type Driven = fn() -> Result<(), Failed>;
    let driven: [(&str, Driven); 3] = [
        ("driven_page", driven_page),
        ("driven_hostile_page", driven_hostile_page),
        (
            "driven_page_of_a_million_waits",
            driven_page_of_a_million_waits,
        ),
    ];
    for (name, check) in driven {
        trials.push(Trial::ignorable_test(name, move || {
            privilege::unless_skipped(browser::missing(), check)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn known(name: &str) -> Recording {
    let mut all = recordings::all().into_iter();
    let found = all.find_map(|(other, recording)| (other == name).then_some(recording));
    found.expect("known")
}

fn page_of(report: &Report) -> String {
    let mut out = Vec::new();
    render(Format::Html, report, &Options::default(), &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

fn page(recording: &Recording) -> String {
    page_of(&build_keeping(recording, Format::Html.keep()))
}

fn golden_pages() {
    for name in GOLDEN {
        let plain = Page::of(&page(&known(name))).plain;
        insta::assert_snapshot!(format!("{name}_page"), plain);
    }
}

fn golden_data() {
    for name in GOLDEN {
        let data = Decoded::of(&Page::of(&page(&known(name))).data);
        insta::assert_snapshot!(format!("{name}_data"), data.shown());
    }
}

/// Frames of the page are frames of one function.
fn functions_share_no_frame() {
    let recording = recordings::alike::alike();
    let decoded = Decoded::of(&Page::of(&page(&recording)).data);
    let frames = decoded.names["frames"].as_array().expect("frames");
    let names: Vec<&str> = frames
        .iter()
        .filter_map(|frame| frame[0].as_str())
        .collect();
    for name in recordings::alike::NAMES {
        let count = names.iter().filter(|known| **known == name).count();
        assert_eq!(count, 1, "{name}: {names:?}");
    }
}

/// Nothing is lost on the way: each wait of the recording is in the page, with its length and its task.
fn waits_are_those_of_the_recording() {
    let recording = recordings::incident::incident();
    let decoded = Decoded::of(&Page::of(&page(&recording)).data);
    let start = recording.header.start;
    let all = recording
        .intervals
        .iter()
        .flat_map(|interval| &interval.waits);
    let mut expected: Vec<_> = all
        .map(|wait| {
            let begin = (wait.start - start).0;
            (
                begin,
                (wait.wakeup - wait.start).0,
                (wait.end - wait.wakeup).0,
                wait.task_id,
            )
        })
        .collect();
    expected.sort_unstable();
    let waits = decoded.waits.iter().flatten();
    let mut found: Vec<_> = waits
        .map(|wait| (wait.start, wait.blocked, wait.runqueue, wait.task))
        .collect();
    found.sort_unstable();
    assert!(expected.len() > 300);
    assert_eq!(found, expected);
    let polls: usize = decoded.polls.iter().map(Vec::len).sum();
    assert_eq!(polls, 64);
    assert_eq!(decoded.intervals.len(), 8);
    // What ran is there to the nanosecond.
    let ran = decoded.intervals.iter().flat_map(|(.., threads)| threads);
    let times = recording
        .intervals
        .iter()
        .flat_map(|interval| &interval.threads);
    assert_eq!(
        ran.map(|thread| thread[1]).sum::<u64>(),
        times.map(|times| times.running.0).sum::<u64>()
    );
}

/// Into how many intervals a recording is cut is seen in its CPU time by interval, and nowhere else.
fn intervals_tell_cpu_time_only() {
    const SECOND: u64 = recordings::builder::SEC;
    let [whole, seconds] = [&[3 * SECOND][..], &[SECOND, 2 * SECOND, 3 * SECOND]]
        .map(|ends| Page::of(&page(&recordings::in_intervals(ends))));
    assert_eq!(whole.plain, seconds.plain);
    let [mut whole, mut seconds] = [whole, seconds].map(|page| Decoded::of(&page.data));
    let running = |data: &Decoded| -> u64 {
        let threads = data.intervals.iter().flat_map(|(.., threads)| threads);
        threads.map(|thread| thread[1]).sum()
    };
    assert_eq!((whole.intervals.len(), seconds.intervals.len()), (1, 3));
    assert_eq!(running(&whole), running(&seconds));
    for data in [&mut whole, &mut seconds] {
        data.intervals.clear();
        data.names["intervals"] = 0.into();
    }
    assert_eq!(whole.shown(), seconds.shown());
}

/// A page comes to be whatever there is to tell, and all that it names is there.
fn every_recording_has_a_page() {
    for (name, recording) in recordings::all() {
        let page = Page::of(&page(&recording));
        let data = Decoded::of(&page.data);
        let length = |table: &str| data.names[table].as_array().expect("a table").len() as u64;
        let tables = ["stacks", "objects", "wakers", "stacks"].map(length);
        for wait in data.waits.iter().flatten() {
            for (named, table) in wait.named.iter().zip(tables) {
                assert!(*named <= table, "{name}: {wait:?}");
            }
        }
        assert!(page.plain.contains("<section id=\"verdict\""), "{name}");
        // What the verdict refers to is there.
        assert_eq!(
            page.plain.contains("Threads wait for each other: see"),
            page.plain.contains("id=\"deadlock-0\""),
            "{name}"
        );
    }
    let hung = page(&known("hung"));
    assert!(
        hung.contains("id=\"deadlock-0\""),
        "both wait for each other"
    );
}

/// No name becomes an element, ends one, or turns the direction of writing.
fn names_stay_text() {
    let page = page(&known("hostile"));
    let tags = page.matches("<script").count();
    assert_eq!(tags, 2, "the data and the script");
    let Page { plain, data } = Page::of(&page);
    for bad in ["<img", "onerror=\"", "<svg/", "javascript:"] {
        assert!(!plain.contains(bad), "{bad}");
    }
    let names = Decoded::of(&data).names.to_string();
    let is_bad = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{200b}');
    for text in [&plain, &names] {
        assert_eq!(text.chars().filter(|&c| is_bad(c)).count(), 0);
        assert!(!text.contains("\\u001b") && !text.contains("\\u202e"));
    }
    // A check of nothing would pass, too.
    assert!(plain.contains("script&gt;") && names.contains("script>"));
}

/// Whoever maps memory may have to wait while holdup reads what is mapped. Page and JSON say so, and are not
/// deceived by a thread of the target that is called so.
fn holdup_itself_is_told_as_a_waker() {
    use recordings::builder::{
        Builder, MS, SEC, US, WORKER, app, library, park, stack, system, under_worker,
    };
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let park = b.stack(park());
    let frames = vec![
        system("mmap"),
        library("std::alloc"),
        app("claims_api::load"),
    ];
    let waits = b.stack(stack(
        holdup::runtime::State::Blocked,
        WORKER,
        "task-poll",
        under_worker(frames),
    ));
    b.thread(4250, "tokio-rt-worker", 20 * MS, 2 * MS);
    let own = b.waker(7, 8, "holdup-read");
    let targets = b.waker(4242, 4300, "holdup-read");
    for (n, waker) in [(1, own), (2, own), (3, targets)] {
        b.woken(4250, waits, n * SEC, 100 * MS + n * US, Some(waker));
    }
    b.rest([4250], park);
    let report = build_keeping(&b.recording(), Format::Html.keep());

    let mut json = Vec::new();
    render(Format::Json, &report, &Options::default(), &mut json).expect("memory");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let wakers = json["sites"][0]["wakers"].as_array().expect("wakers");
    let told: Vec<_> = wakers
        .iter()
        .map(|waker| {
            (
                waker["pid"].as_u64(),
                waker["waits"].as_u64(),
                waker["is_holdup"].as_bool(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(Some(7), Some(2), Some(true)), (Some(4242), Some(1), None)]
    );

    let page = Page::of(&page_of(&report));
    let own = page
        .plain
        .matches("holdup-read (pid 7): holdup itself")
        .count();
    assert_eq!(own, 1, "{}", page.plain);
    let names = Decoded::of(&page.data).names;
    let wakers: Vec<&str> = names["wakers"]
        .as_array()
        .expect("wakers")
        .iter()
        .filter_map(|waker| waker["name"].as_str())
        .collect();
    assert_eq!(wakers, ["holdup-read 8: holdup itself", "holdup-read 4300"]);
}

/// A service with a million waits.
fn million() -> Report {
    let b = busy_service::service();
    let mut analyzer = Analyzer::new(&b.header);
    analyzer.keep(Format::Html.keep());
    for number in 0..1_000_000 / busy_service::WAITS {
        analyzer.add(&b.tables, busy_service::interval(&b, number));
    }
    analyzer.report(&b.header, &b.tables)
}

/// Three seconds and 500 MiB are what an optimised build has to reach; this one is slower.
fn a_million_waits() {
    let report = million();
    let waits = report
        .detail
        .as_ref()
        .map_or(0, |detail| detail.waits.len());
    assert_eq!(waits, 1_000_000);
    let (before, begin) = (peak(), cpu_time());
    let page = page_of(&report);
    let took = cpu_time() - begin;
    let megabytes = page.len() as f64 / 1e6;
    println!(
        "a page of {waits} waits: {megabytes:.1} MB in {took:.1?} of CPU time, {before} MiB before, {} MiB after",
        peak()
    );
    assert!((5.0..30.0).contains(&megabytes), "{megabytes} MB");
    assert!(took < Duration::from_secs(15), "{took:?}");
    keep("million.html", &page);
}

/// The folder that pages are to stay in, if they are.
fn kept() -> Option<PathBuf> {
    std::env::var_os("HOLDUP_KEEP_PAGES").map(PathBuf::from)
}

fn keep(name: &str, page: &str) {
    if let Some(folder) = kept() {
        std::fs::write(folder.join(name), page).expect("writes");
    }
}

/// Has a page opened by a browser.
fn driven(way: &str, name: &str, page: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    std::fs::write(&path, page)?;
    keep(name, page);
    browser::drive(way, &path).map(|_| ())
}

/// The capture that is kept in the repository. With `HOLDUP_WRITE_CAPTURES` set it is written anew.
fn capture() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures");
    let path = folder.join("incident.holdup");
    if std::env::var_os("HOLDUP_WRITE_CAPTURES").is_some() {
        // It need not be there yet.
        let _ = std::fs::remove_file(&path);
        capture_support::write(&path, &recordings::incident::incident(), Bounds::default());
    }
    path
}

/// What the program makes of a capture, used as a reader would.
fn driven_page() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("incident.html");
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["report", "-q", "-o"])
        .arg(&path)
        .arg(capture())
        .env_remove("HOLDUP_LOG")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let page = std::fs::read_to_string(&path)?;
    assert_eq!(page, self::page(&recordings::incident::incident()));
    driven("use", "incident.html", &page)
}

fn driven_hostile_page() -> Result<(), Failed> {
    driven("look", "hostile.html", &page(&known("hostile")))
}

/// It opens in two seconds and zooms at 60 frames a second: in CPU time, since others may be at work here, too;
/// with `HOLDUP_MEASURED` also by the clock.
fn driven_page_of_a_million_waits() -> Result<(), Failed> {
    driven("measure", "million.html", &page_of(&million()))
}
