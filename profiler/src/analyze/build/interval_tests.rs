//! Intervals of one recording, together and each by itself.

use super::{build, build_range};
use crate::analyze::Analyzer;
use crate::analyze::testing::story::{Random, Story, Told, thread};
use crate::analyze::totals::Bounds;
use crate::recording::{Recording, StackId};
use crate::report::{Report, Verdict};
use crate::runtime::State;
use crate::units::{Nanos, Pid, Tid};
use std::collections::BTreeMap;

/// Stacks of the first process in a [`Story`]: a blocked worker, a parked one.
const BLOCKED: StackId = StackId(0);
const PARKED: StackId = StackId(2);

fn random_cuts(seed: u64, length: u64) -> Vec<u64> {
    let mut random = Random::new(seed ^ 0xC0FFEE);
    let number = 1 + random.below(12);
    let mut cuts: Vec<u64> = (0..number).map(|_| random.below(length)).collect();
    cuts.sort_unstable();
    cuts.retain(|cut| *cut > 0);
    cuts.dedup();
    cuts
}

/// The whole report, with what is in no JSON.
fn text(report: &Report) -> String {
    format!("{report:#?}")
}

fn assert_same(one: &Report, other: &Report, what: &str) {
    let (one, other) = (text(one), text(other));
    let differing = one.lines().zip(other.lines()).filter(|(a, b)| a != b);
    let differing: Vec<_> = differing.take(5).collect();
    assert!(one == other, "{what}: {differing:#?}");
}

#[test]
fn where_a_recording_is_cut_makes_no_difference() {
    for seed in 0..400 {
        for min_block in [0, 500] {
            let story = Story::random(seed, min_block);
            let cuts = random_cuts(seed, story.length);
            let whole = build(&story.cut(&[]));
            let cut = build(&story.cut(&cuts));
            assert_same(&whole, &cut, &format!("seed {seed}, {cuts:?}"));
        }
    }
}

#[test]
fn waits_that_are_swept_over_early_make_no_difference() {
    for seed in 0..200 {
        let mut story = Story::random(seed, 100);
        // Who was a worker is known from the first wait on.
        for thread in story.threads.clone() {
            let first = story.waits.iter_mut().find(|wait| wait.thread == thread);
            if let Some(wait) = first {
                wait.stack = StackId(thread.process.0);
            }
        }
        let cuts = random_cuts(seed, story.length);
        let recording = story.cut(&cuts);
        let mut analyzer = Analyzer::new(&recording.header).keeping(4);
        for interval in &recording.intervals {
            analyzer.add(&recording.tables, interval.clone());
        }
        let report = analyzer.report(&recording.header, &recording.tables);
        assert_same(&build(&story.cut(&[])), &report, &format!("seed {seed}"));
    }
}

type Times = BTreeMap<(Pid, Tid, State), Nanos>;
type SiteTimes = BTreeMap<(Pid, Option<u32>, State), [Nanos; 2]>;

fn add_sites(times: &mut SiteTimes, report: &Report) {
    for site in &report.sites {
        let [blocked, runqueue] = times.entry((site.pid, site.line, site.state)).or_default();
        *blocked += site.total_ns;
        *runqueue += site.runqueue_ns;
    }
}

fn add_times(times: &mut Times, report: &Report) {
    for thread in &report.threads {
        for (state, time) in &thread.states {
            *times.entry((thread.pid, thread.tid, *state)).or_default() += *time;
        }
    }
}

#[test]
fn each_interval_is_sound_by_itself_and_all_are_the_whole() {
    for seed in 0..300 {
        let story = Story::random(seed, 0);
        let recording = story.cut(&random_cuts(seed, story.length));
        let (mut all, mut whole) = (Times::new(), Times::new());
        let (mut all_sites, mut sites) = (SiteTimes::new(), SiteTimes::new());
        for index in 0..recording.intervals.len() {
            let report = build_range(&recording, index..index + 1);
            assert_eq!(report.clamped_ns, Nanos::ZERO, "seed {seed}, {index}");
            for thread in &report.threads {
                let sum: Nanos = thread.states.values().copied().sum();
                assert_eq!(sum, thread.lived_ns, "seed {seed}, {index}");
                assert!(!thread.states.contains_key(&State::Unknown), "seed {seed}");
            }
            for runtime in &report.runtimes {
                let sum: Nanos = runtime.blocked_at_once.iter().copied().sum();
                assert_eq!(sum, report.duration_ns);
                let blocked = runtime.states.get(&State::Blocked).copied();
                let times = (0..).zip(&runtime.blocked_at_once);
                let at_once: u64 = times.map(|(count, time)| count * time.0).sum();
                assert_eq!(
                    at_once,
                    blocked.unwrap_or_default().0,
                    "seed {seed}, {index}"
                );
            }
            add_times(&mut all, &report);
            add_sites(&mut all_sites, &report);
        }
        add_times(&mut whole, &build(&recording));
        add_sites(&mut sites, &build(&recording));
        assert_eq!(all_sites, sites, "seed {seed}");
        assert_eq!(all, whole, "seed {seed}");
    }
}

/// Whether a wait is worth to be counted is known only when it has lasted.
#[test]
fn a_wait_that_is_short_yet_is_not_swept_over() {
    let mut story = one_wait(0, 990, 990);
    story.base.header.min_block = Nanos(100);
    story.length = 2_000;
    for (tid, start, end) in [(2, 950, 1_200), (3, 0, 995), (4, 960, 1_010)] {
        story.threads.push(thread(0, tid));
        story.waits.push(Told {
            thread: thread(0, tid),
            start,
            wakeup: end,
            end,
            ..story.waits[0]
        });
    }
    let recording = story.cut(&[1_000, 1_100]);
    let mut analyzer = Analyzer::new(&recording.header).keeping(1);
    for interval in &recording.intervals {
        analyzer.add(&recording.tables, interval.clone());
    }
    let report = analyzer.report(&recording.header, &recording.tables);
    assert_same(&build(&story.cut(&[])), &report, "swept early");
    let at_once = &report.runtimes[0].blocked_at_once;
    assert_eq!(at_once[..4], [800, 205, 955, 40].map(Nanos), "{at_once:?}");
}

/// A worker that waits in one wait from `start` to `end`, is woken before that at `wakeup`.
fn one_wait(start: u64, wakeup: u64, end: u64) -> Story {
    let mut story = Story::new(1_000, 0);
    story.threads.push(thread(0, 1));
    story.waits.push(Told {
        thread: thread(0, 1),
        stack: BLOCKED,
        object: None,
        start,
        wakeup,
        end,
        waker: None,
        task_id: None,
    });
    story
}

#[test]
fn a_wait_that_goes_on_counts_only_with_its_part() {
    let recording = one_wait(100, 950, 950).cut(&[300, 600]);
    for (index, part) in [(0, 200), (1, 300), (2, 350)] {
        let report = build_range(&recording, index..index + 1);
        let thread = &report.threads[0];
        assert_eq!(thread.states[&State::Blocked], Nanos(part), "{index}");
        assert_eq!(report.sites[0].total_ns, Nanos(part), "{index}");
        assert_eq!(report.runtimes[0].starved_ns, Nanos(part), "{index}");
        let open: Vec<u64> = report
            .open_waits
            .iter()
            .map(|open| open.since_ns.0)
            .collect();
        let lasted = [vec![200], vec![500], vec![]];
        assert_eq!(
            open, lasted[index],
            "an open wait is told in its whole length"
        );
    }
    // It was longer than the interval in which it ended.
    assert_eq!(build_range(&recording, 2..3).sites[0].max_ns, Nanos(850));
}

#[test]
fn an_open_wait_that_was_woken_waits_for_a_cpu_only() {
    let recording = one_wait(100, 400, 900).cut(&[600, 800]);
    let report = build_range(&recording, 0..1);
    assert!(report.open_waits.is_empty(), "{:?}", report.open_waits);
    let states = &report.threads[0].states;
    assert_eq!(states[&State::Blocked], Nanos(300));
    assert_eq!(states[&State::Runnable], Nanos(200));
    assert_eq!(report.sites[0].runqueue_ns, Nanos(200));
    assert_eq!(report.runtimes[0].wedged_ns, Nanos::ZERO);
    let report = build_range(&recording, 1..2);
    let states = &report.threads[0].states;
    assert_eq!(states.get(&State::Blocked), None);
    assert_eq!(states[&State::Runnable], Nanos(200));
}

/// The timeline of a recording was full after 524,288 waits: what came later was not in "blocked
/// at once", which was a share of the whole all the same.
#[test]
fn a_stall_after_many_waits_is_told_in_full() {
    const WORKERS: u32 = 16;
    const STALL: u64 = 3_000_000_000;
    const ROUNDS: u64 = 40_000;
    let mut story = Story::new(ROUNDS * 100_000 + STALL + 1_000_000, 0);
    story.threads.extend((0..WORKERS).map(|tid| thread(0, tid)));
    let wait = |tid: u32, start: u64, end: u64| Told {
        thread: thread(0, tid),
        stack: BLOCKED,
        object: None,
        start,
        wakeup: end,
        end,
        waker: None,
        task_id: None,
    };
    for tid in 0..WORKERS {
        for round in 0..ROUNDS {
            let start = round * 100_000 + u64::from(tid) * 6_000;
            story.waits.push(wait(tid, start, start + 5_000));
        }
        let start = ROUNDS * 100_000;
        story.waits.push(wait(tid, start, start + STALL));
    }
    let quarter = story.length / 4;
    for cuts in [vec![], vec![quarter, 2 * quarter, 3 * quarter]] {
        let report = build(&story.cut(&cuts));
        let Verdict::Starved {
            total_ns,
            longest_ns,
            ..
        } = report.verdict
        else {
            panic!("{:?}", report.verdict);
        };
        assert_eq!((total_ns, longest_ns), (Nanos(STALL), Nanos(STALL)));
    }
}

#[test]
fn what_finds_no_room_is_counted_and_makes_no_other_figure_wrong() {
    let all = (0..).map(|seed| Story::random(seed, 0));
    let story = { all }
        .find(|story| story.threads.len() == 6)
        .expect("one of many");
    let recording = story.cut(&[story.length / 2]);
    let full = build(&recording);
    let bounds = Bounds {
        threads: 3,
        sums: 4,
        wakers: 2,
        others: 1,
    };
    let mut analyzer = Analyzer::new(&recording.header).within(bounds);
    for interval in &recording.intervals {
        analyzer.add(&recording.tables, interval.clone());
    }
    let report = analyzer.report(&recording.header, &recording.tables);
    assert!(full.threads.len() > 3 && report.threads.len() == 3);
    let lost = &report.losses.by_cause;
    for count in [
        lost.threads_left_out,
        lost.sums_left_out,
        lost.wakers_left_out,
        lost.samples_left_out,
        lost.calls_left_out,
        lost.panics_left_out,
        report.losses.objects,
    ] {
        assert!(count > 0, "{lost:?}");
    }
    // Each once, in however many intervals it lived.
    assert_eq!(lost.threads_left_out, 3);
    for thread in &report.threads {
        let sum: Nanos = thread.states.values().copied().sum();
        assert_eq!(sum, thread.lived_ns);
    }
    // Sites come from sums by stack alone.
    let sites = |report: &Report| -> Vec<_> {
        let sites = report.sites.iter();
        let mut sites: Vec<_> = sites
            .map(|site| {
                let wakers: u64 = site.wakers.iter().map(|waker| waker.waits).sum();
                (
                    site.line,
                    site.pid,
                    site.waits,
                    site.total_ns,
                    site.p50_ns,
                    wakers,
                )
            })
            .collect();
        // Whose harm is known comes first, and how many workers there are is not known here.
        sites.sort_unstable();
        sites
    };
    assert_eq!(sites(&report), sites(&full));
    let named_others = |waker: &crate::report::WakerTotal| waker.thread == "others";
    assert!(
        report
            .sites
            .iter()
            .any(|site| site.wakers.iter().any(named_others))
    );
}

/// A service that waits beside a program that computes has its own share of the CPUs.
#[test]
fn a_busy_neighbour_is_not_the_services_cpu_use() {
    let mut story = one_wait(0, 900, 900);
    for tid in 0..4 {
        let hog = thread(1, 100 + tid);
        story.threads.push(hog);
        story.waits.push(Told {
            thread: hog,
            stack: StackId(PARKED.0 + 1),
            start: 0,
            wakeup: 1,
            end: 1,
            ..story.waits[0]
        });
    }
    let report = build(&story.cut(&[]));
    let Verdict::WorkersBlocked {
        runtime, cpu_share, ..
    } = &report.verdict
    else {
        panic!("{:?}", report.verdict);
    };
    let of = report.runtimes.iter().find(|of| of.id == *runtime);
    assert_eq!(of.map(|of| of.pid), Some(Pid(1)));
    assert!((cpu_share - 100.0 / 4_000.0).abs() < 1e-9, "{cpu_share}");
    assert!(
        report.cpu.share > 0.9,
        "theirs together: {}",
        report.cpu.share
    );
}

#[test]
fn no_interval_is_no_data() {
    let recording = Recording {
        intervals: Vec::new(),
        ..Story::new(1_000, 0).base
    };
    let report = build(&recording);
    assert_eq!(report.verdict, Verdict::NothingSeen);
    assert_eq!(report.duration_ns, Nanos::ZERO);
    assert_eq!(build_range(&recording, 3..9).verdict, Verdict::NothingSeen);
}

#[test]
fn a_wait_is_unknown_only_while_its_stack_is() {
    let recording = Story::random(1, 0).cut(&[]);
    let waits_of = |wanted: StackId| -> u64 {
        let sums = recording
            .intervals
            .iter()
            .flat_map(|interval| &interval.sums);
        let sums = sums.filter(|sum| sum.stack == wanted);
        sums.map(|sum| sum.waits).sum()
    };
    let mut later = recording.tables.clone();
    let mut before = recording.tables.clone();
    for (tables, state) in [(&mut before, State::Unknown), (&mut later, State::Blocked)] {
        tables.stacks[BLOCKED.index()].class.state = state;
        tables.processes[0].tokio.present = true;
    }
    let mut analyzer = Analyzer::new(&recording.header);
    for interval in &recording.intervals {
        analyzer.add(&before, interval.clone());
    }
    assert!(waits_of(BLOCKED) > 0);
    let mut without = before.clone();
    without.processes[0].tokio.present = false;
    let unknown = |tables| {
        let report = analyzer.report(&recording.header, tables);
        report.losses.unknown_waits
    };
    assert_eq!(unknown(&before) - unknown(&later), waits_of(BLOCKED));
    // Of a process without tokio there is no state to be known.
    assert_eq!(unknown(&without), unknown(&later));
}
