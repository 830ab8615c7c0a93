//! How much the text report tells, and with which signs.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::build;
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};

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
