//! How much the text report tells, and with which signs.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::build;
use holdup::recording::{Recording, Stack};
use holdup::render::{Format, Options, render};
use holdup::runtime::State;
use holdup::runtime::tokio::RuntimeHandle;
use holdup::units::Addr;

fn text(recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    render(Format::Text, &build(recording), options, &mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn nothing_is_cut_where_there_is_no_terminal() {
    for (name, recording) in recordings::all() {
        let whole = Options {
            cut: false,
            width: 60,
            ..Options::default()
        };
        let text = text(&recording, &whole);
        let cut = |line: &&str| {
            line.split_whitespace()
                .any(|word| word != "…" && (word.starts_with('…') || word.ends_with('…')))
        };
        let cut: Vec<&str> = text.lines().filter(cut).collect();
        assert!(cut.is_empty(), "{name}: {cut:?}");
    }
}

#[test]
fn who_stands_still_beside_idle_workers_is_named() {
    let width = Options {
        width: 400,
        ..Options::default()
    };
    let said = text(&recordings::main_waits(), &width);
    let names = "look first at claims_api (4242), which has been blocked in claims_api::serve";
    assert!(
        said.contains(names) && !said.contains("no thread shows that"),
        "{said}"
    );
    let said = text(&recordings::stuck_pool(), &width);
    assert!(!said.contains("no thread shows that"), "{said}");
}

#[test]
fn a_worker_that_never_moved_may_be_of_a_runtime_of_its_own() {
    use recordings::builder::{Builder, MS, SEC, WORKER, app, park, stack};
    let hint = "one of which all workers are blocked may be among them";
    let said = |blocked: u64, runtime: Option<RuntimeHandle>| {
        let mut b = Builder::new("/srv/claims_api", 10 * SEC);
        let park = b.stack(Stack { runtime, ..park() });
        let frames = vec![app("claims_api::lock::{{closure}}")];
        let lock = stack(State::Blocked, WORKER, "worker-poll", frames);
        let lock = b.stack(Stack { runtime, ..lock });
        for tid in 4250..4254 {
            b.thread(tid, "tokio-rt-worker", 2 * MS, 0);
        }
        b.wait(4250, lock, MS, blocked, "");
        b.rest(4250..4254, park);
        text(
            &b.recording(),
            &Options {
                width: 400,
                ..Options::default()
            },
        )
    };
    assert!(said(9990 * MS, None).contains(hint));
    assert!(!said(4 * SEC, None).contains(hint), "it moved");
    let known = Some(RuntimeHandle(Addr(0x5000)));
    assert!(
        !said(9990 * MS, known).contains(hint),
        "they are of one runtime"
    );
}

#[test]
fn stops_are_told_with_their_times() {
    let width = Options {
        width: 1_000,
        ..Options::default()
    };
    let once = text(&recordings::stopped(), &width);
    let told = "The process was stopped from outside for 7.00 s, from 2.00 s on, by a debugger or tracer: its \
                threads could not run then.";
    assert!(once.contains(told), "{once}");
    let often = text(&recordings::stopped_often(), &width);
    for told in [
        "The process was stopped from outside 5 times, for 113 ms together, 24.6 ms at the longest, by a \
         debugger or tracer: from 1.00 s on for 20.6 ms, from 1.70 s on for 21.6 ms, from 2.40 s on for \
         22.6 ms, and 2 more; its threads could not run then.",
        "1 of the 5 threads of the process was stopped from outside for 600 ms, from 9.40 s on and still when \
         the recording ended, by a signal (SIGSTOP or its like): it could not run then.",
    ] {
        assert!(often.contains(told), "{often}");
    }
}

#[test]
fn a_plain_terminal_gets_plain_text() {
    for (name, recording) in recordings::all() {
        let plain = Options {
            ascii: true,
            ..Options::default()
        };
        let text = text(&recording, &plain);
        assert!(text.is_ascii(), "{name}: {text}");
    }
}

#[test]
fn more_or_less_is_told() {
    let recording = recordings::crowded();
    let sites = |options: &Options| {
        let text = text(&recording, options);
        let numbered = |line: &&str| {
            let first = line.split_whitespace().next().unwrap_or_default();
            let number = first.strip_suffix('.');
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let blocked = text.split("\nLong polls").next().unwrap_or_default();
        (
            blocked.lines().filter(numbered).count(),
            blocked.matches("      waits ").count(),
        )
    };
    let ten = Options::default();
    let (listed, in_full) = sites(&ten);
    assert!(
        in_full <= 2 * ten.sites_in_full && in_full < listed,
        "{listed} {in_full}"
    );
    let all = Options {
        max_sites: usize::MAX,
        sites_in_full: usize::MAX,
        ..Options::default()
    };
    let (all_listed, all_in_full) = sites(&all);
    assert!(
        all_listed > listed && all_in_full == all_listed,
        "{all_listed} {all_in_full}"
    );
    let brief = Options {
        brief: true,
        ..Options::default()
    };
    assert_eq!(sites(&brief), (listed, 0));
    assert!(text(&recording, &brief).lines().count() * 2 < text(&recording, &ten).lines().count());
}

#[test]
fn advice_is_given_once_for_each_cause() {
    for (name, recording) in recordings::all() {
        let text = text(
            &recording,
            &Options {
                width: 10_000,
                ..Options::default()
            },
        );
        let mut advice: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("instead"))
            .map(str::trim)
            .filter(|advice| *advice != "as above")
            .collect();
        let all = advice.len();
        advice.sort_unstable();
        advice.dedup();
        assert_eq!(advice.len(), all, "{name}: {advice:?}");
    }
}

/// Whoever was just paged reads the first screen: what it is, where, how bad. What to do stands there or
/// with the site.
#[test]
fn ten_faults_are_told_on_the_first_screen() {
    let faults: [(&str, &str, &[&str], &str); 10] = [
        (
            "starved",
            "STARVED",
            &["src/store/ledger.rs:88", "7.28 s"],
            "tokio::sync::Mutex",
        ),
        (
            "hung",
            "WEDGED",
            &["claims_api::transfer::credit", "5.00 s"],
            "held by thread",
        ),
        (
            "hog",
            "CPU HOG",
            &["src/score.rs:31", "411 ms"],
            "spawn_blocking",
        ),
        (
            "quota",
            "NO CPU",
            &["/kubepods.slice/claims", "57.0 %"],
            "raise it",
        ),
        (
            "held_lock",
            "BLOCKED",
            &["src/ledger.rs:88", "90.0 ms"],
            "hold the mutex for less",
        ),
        (
            "in_pieces",
            "BLOCKED",
            &["src/retry.rs:31", "505 ms"],
            "tokio::time::sleep",
        ),
        (
            "stopped",
            "STOPPED",
            &["outside the program", "70.0 %"],
            "by a debugger",
        ),
        (
            "current_thread",
            "BLOCKED",
            &["src/push.rs:19", "2.05 s"],
            "tokio::net::lookup_host",
        ),
        (
            "full_pool",
            "POOL FULL",
            &["src/archive.rs:77", "7.80 s"],
            "max_blocking_threads",
        ),
        (
            "too_old",
            "UNCLEAR",
            &["too old to be understood"],
            "tokio 1.20 or newer",
        ),
    ];
    for (name, verdict, first_screen, fix) in faults {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        let text = text(recording, &Options::default());
        let joined = |lines: &[&str]| {
            let words: Vec<&str> = lines
                .iter()
                .flat_map(|line| line.split_whitespace())
                .collect();
            words.join(" ")
        };
        let lines: Vec<&str> = text.lines().collect();
        let screen = joined(&lines[..lines.len().min(24)]);
        for told in [verdict].iter().chain(first_screen) {
            assert!(screen.contains(told), "{name}: no {told:?} in\n{text}");
        }
        assert!(
            joined(&lines).contains(fix),
            "{name}: no {fix:?} in\n{text}"
        );
    }
}
