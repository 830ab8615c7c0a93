//! Golden files: two recordings compared.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::{build, diff};
use holdup::recording::Recording;
use holdup::render::{Options, diff as render_diff, diff_text};
use holdup::report::Report;
use holdup::report::diff::{Change, Diff, Measure};
use holdup::symbolize::{Frame, FrameRef};

fn compared(before: &Report, after: &Report, by: Measure) -> Diff {
    diff(("before.holdup", before), ("after.holdup", after), by)
}

fn text(before: &Recording, after: &Recording, by: Measure) -> String {
    let (before, after) = (build(before), build(after));
    let mut out = Vec::new();
    let all = compared(&before, &after, by);
    diff_text(&all, (&before, &after), &Options::default(), &mut out).expect("writing to memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn on_a_terminal() {
    let (starved, healthy) = (recordings::starved(), recordings::healthy());
    insta::assert_snapshot!(
        "starved_to_healthy",
        text(&starved, &healthy, Measure::PerSecond)
    );
    insta::assert_snapshot!(
        "healthy_to_starved",
        text(&healthy, &starved, Measure::PerSecond)
    );
    let per_wait = text(&starved, &recordings::crowded(), Measure::PerWait);
    insta::assert_snapshot!("starved_to_crowded_per_wait", per_wait);
    let hostile = recordings::hostile();
    insta::assert_snapshot!(
        "hostile_to_hostile",
        text(&hostile, &hostile, Measure::PerSecond)
    );
}

#[test]
fn as_json() {
    let (before, after) = (
        build(&recordings::starved()),
        build(&recordings::held_lock()),
    );
    let mut out = Vec::new();
    let all = compared(&before, &after, Measure::PerSecond);
    render_diff::json(&all, &mut out).expect("writing to memory");
    insta::assert_snapshot!(
        "starved_to_held_lock_json",
        String::from_utf8(out).expect("UTF-8")
    );
}

#[test]
fn as_a_flamegraph() {
    let draw = |before: &Recording, after: &Recording| {
        let (before, after) = (build(before), build(after));
        let mut out = Vec::new();
        render_diff::svg(&before, &after, &Options::default(), &mut out)
            .expect("writing to memory");
        String::from_utf8(out).expect("UTF-8")
    };
    let (starved, held) = (recordings::starved(), recordings::held_lock());
    let svg = draw(&starved, &held);
    assert_eq!(svg, draw(&starved, &held), "the same bytes every time");
    let document = roxmltree::Document::parse_with_options(
        &svg,
        roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        },
    );
    let document = document.expect("XML");
    let titles = document
        .descendants()
        .filter(|node| node.has_tag_name("title"));
    let changed = titles
        .filter_map(|node| node.text())
        .filter(|text| text.contains("%; "));
    assert!(
        changed.count() > 3,
        "frames that are new have no difference"
    );
    // What is gone has nothing to be drawn.
    assert!(draw(&starved, &recordings::empty()).contains("<svg"));
    assert!(draw(&recordings::empty(), &starved).contains("<svg"));
}

#[test]
fn a_recording_and_itself_are_the_same() {
    for (name, recording) in recordings::all() {
        let report = build(&recording);
        for by in [Measure::PerSecond, Measure::PerWait] {
            let diff = compared(&report, &report, by);
            let same = |change: Change| change == Change::Same;
            assert!(diff.sites.iter().all(|site| same(site.change)), "{name}");
            assert_eq!(diff.before.verdict, diff.after.verdict);
        }
    }
}

/// Lines move with every commit, and addresses with every build.
#[test]
fn lines_and_addresses_may_move() {
    let before = recordings::starved();
    let mut after = before.clone();
    for stack in &mut after.tables.stacks {
        for frame in &mut stack.frames {
            let moved = Frame {
                line: frame.line.map(|line| line + 17),
                address: holdup::units::Addr(frame.address.0 + 0x40),
                ..Frame::clone(frame)
            };
            *frame = FrameRef::new(moved);
        }
    }
    let (before, after) = (build(&before), build(&after));
    let diff = compared(&before, &after, Measure::PerSecond);
    assert!(
        diff.sites
            .iter()
            .any(|site| site.after.as_ref().is_some_and(|s| s.line.is_some()))
    );
    for site in diff.sites {
        assert_eq!(site.change, Change::Same, "{}", site.function);
        let lines = [&site.before, &site.after].map(|side| side.as_ref().and_then(|s| s.line));
        assert_eq!(lines[1], lines[0].map(|line| line + 17));
    }
}

/// Twice as long with twice as many waits is no change; half as long with as many is one.
#[test]
fn recordings_of_different_lengths_are_compared_by_the_second() {
    const SECOND: u64 = recordings::builder::SEC;
    let whole = recordings::in_intervals(&[SECOND, 2 * SECOND, 3 * SECOND]);
    let report = build(&whole);
    let mut longer = report.clone();
    longer.duration_ns = holdup::units::Nanos(2 * report.duration_ns.0);
    let blocked = |diff: &Diff| {
        let sites = diff.sites.iter();
        let sites = sites.filter(|site| site.state == holdup::runtime::State::Blocked);
        sites.map(|site| site.change).collect::<Vec<_>>()
    };
    let halved = compared(&report, &longer, Measure::PerSecond);
    assert!(!blocked(&halved).is_empty());
    assert!(
        blocked(&halved)
            .iter()
            .all(|change| *change == Change::Better)
    );
    let per_wait = compared(&report, &longer, Measure::PerWait);
    assert!(
        blocked(&per_wait)
            .iter()
            .all(|change| *change == Change::Same)
    );
}
