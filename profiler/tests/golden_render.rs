//! Golden files: every renderer over every recording of `tests/data/recordings`.
//!
//! To accept changed output, look at it first and then run the tests with `INSTA_UPDATE=always`.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::{build, build_keeping, build_range};
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};

fn text_of(recording: &Recording, format: Format, options: &Options) -> String {
    let mut out = Vec::new();
    render(format, &build(recording), options, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("every format is UTF-8")
}

/// In any format, also of those that are no text.
fn bytes_of(recording: &Recording, format: Format) -> Vec<u8> {
    let report = build_keeping(recording, format.keep());
    let mut out = Vec::new();
    render(format, &report, &Options::default(), &mut out).expect("writing to memory");
    out
}

fn with_width(width: usize) -> Options {
    Options {
        width,
        ..Options::default()
    }
}

#[test]
fn text_at_80_columns() {
    for (name, recording) in recordings::all() {
        let text = text_of(&recording, Format::Text, &with_width(80));
        insta::assert_snapshot!(format!("{name}_text"), text);
    }
}

#[test]
fn text_at_120_columns() {
    for name in ["starved", "crowded"] {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        let text = text_of(recording, Format::Text, &with_width(120));
        insta::assert_snapshot!(format!("{name}_text_120"), text);
    }
}

#[test]
fn text_in_colour() {
    let options = Options {
        color: true,
        ..Options::default()
    };
    let text = text_of(&recordings::starved(), Format::Text, &options);
    insta::assert_snapshot!("starved_text_colour", text.replace('\u{1b}', "␛"));
}

#[test]
fn json() {
    for (name, recording) in recordings::all() {
        let text = text_of(&recording, Format::Json, &Options::default());
        insta::assert_snapshot!(format!("{name}_json"), text);
    }
}

#[test]
fn folded() {
    for (name, recording) in recordings::all() {
        let text = text_of(&recording, Format::Folded, &Options::default());
        insta::assert_snapshot!(format!("{name}_folded"), text);
    }
    let options = Options {
        collapse_runtime: false,
        ..Options::default()
    };
    let text = text_of(&recordings::starved(), Format::Folded, &options);
    insta::assert_snapshot!("starved_folded_full", text);
}

#[test]
fn flamegraph() {
    for name in ["starved", "lossy", "hostile", "empty"] {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        let svg = text_of(recording, Format::Svg, &Options::default());
        insta::assert_binary_snapshot!(&format!("{name}.svg"), svg.into_bytes());
    }
}

#[test]
fn blame() {
    for name in ["held_lock", "several", "hostile", "empty"] {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        let text = text_of(recording, Format::BlameFolded, &Options::default());
        insta::assert_snapshot!(format!("{name}_blame_folded"), text);
    }
    let svg = text_of(
        &recordings::held_lock(),
        Format::BlameSvg,
        &Options::default(),
    );
    insta::assert_binary_snapshot!("held_lock_blame_svg.svg", svg.into_bytes());
}

#[test]
fn an_icicle_hangs_from_the_top() {
    let depth_of = |icicle: bool| {
        let options = Options {
            icicle,
            ..Options::default()
        };
        let svg = text_of(&recordings::starved(), Format::Svg, &options);
        let document = roxmltree::Document::parse_with_options(
            &svg,
            roxmltree::ParsingOptions {
                allow_dtd: true,
                ..roxmltree::ParsingOptions::default()
            },
        );
        let document = document.expect("XML");
        let y = |name: &str| {
            let title = document.descendants().find(|node| {
                node.has_tag_name(("http://www.w3.org/2000/svg", "title"))
                    && node.text().is_some_and(|text| text.starts_with(name))
            });
            let rect = title.and_then(|title| title.next_sibling_element());
            let y = rect.and_then(|rect| rect.attribute("y"));
            y.and_then(|y| y.parse::<f64>().ok()).expect("a place")
        };
        (y("rt0"), y("blocked"))
    };
    let (root, state) = depth_of(false);
    assert!(root > state, "{root} {state}");
    let (root, state) = depth_of(true);
    assert!(root < state, "{root} {state}");
}

#[test]
fn wakers_and_wall_clock() {
    for name in ["hog", "held_lock", "starved", "hostile", "empty"] {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        for format in [Format::WakersFolded, Format::WallFolded] {
            let text = text_of(recording, format, &Options::default());
            let format = format.name().replace('-', "_");
            insta::assert_snapshot!(format!("{name}_{format}"), text);
        }
    }
    for (name, format) in [("held_lock", Format::WakersSvg), ("hog", Format::WallSvg)] {
        let recordings = recordings::all();
        let (_, recording) = recordings.iter().find(|(n, _)| *n == name).expect("known");
        let svg = text_of(recording, format, &Options::default());
        let name = format!("{name}_{}.svg", format.name().replace('-', "_"));
        insta::assert_binary_snapshot!(&name, svg.into_bytes());
    }
}

#[test]
fn three_ways_to_come_to_a_halt_have_three_verdicts() {
    let kind = |recording: &Recording| {
        let verdict = build(recording).verdict;
        let json = serde_json::to_value(verdict).expect("JSON");
        json["kind"].as_str().expect("a kind").to_owned()
    };
    assert_eq!(kind(&recordings::hog()), "cpu_hog");
    assert_eq!(kind(&recordings::held_lock()), "blocked");
    assert_eq!(kind(&recordings::quota()), "no_cpu");
}

/// Three seconds at once, and the one in the middle by itself.
#[test]
fn intervals() {
    const SECOND: u64 = recordings::builder::SEC;
    let whole = recordings::in_intervals(&[3 * SECOND]);
    let seconds = recordings::in_intervals(&[SECOND, 2 * SECOND, 3 * SECOND]);
    // The page shows CPU time by interval; what else is in it is compared in `html`.
    let formats = Format::ALL.into_iter();
    for format in formats.filter(|format| *format != Format::Html) {
        let (one, three) = [&whole, &seconds]
            .map(|recording| bytes_of(recording, format))
            .into();
        assert!(one == three, "{}", format.name());
    }
    insta::assert_snapshot!(
        "in_intervals_text",
        text_of(&seconds, Format::Text, &with_width(80))
    );
    let mut out = Vec::new();
    let middle = build_range(&seconds, 1..2);
    render(Format::Text, &middle, &with_width(80), &mut out).expect("writing to memory");
    let text = String::from_utf8(out).expect("every format is UTF-8");
    insta::assert_snapshot!("in_the_middle_text", text);
}

/// A service that waits is not told with the CPU time of the program beside it.
#[test]
fn each_process_has_its_own_share_of_the_cpus() {
    let text = text_of(&recordings::beside_hog(), Format::Text, &with_width(200));
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains("used 0.2 % of 4 CPUs: it waited"), "{text}");
}

/// The golden files would catch this too, but not tell that it matters.
#[test]
fn names_stay_text() {
    let hostile = recordings::hostile();
    let svg = text_of(&hostile, Format::Svg, &Options::default());
    // inferno's own script is the only one.
    assert_eq!(svg.matches("<script").count(), 1);
    assert!(!svg.contains("<title></title>") && svg.contains("&lt;!-- &amp;"));
    for format in [
        Format::Text,
        Format::Folded,
        Format::Svg,
        Format::WakersFolded,
        Format::WakersSvg,
        Format::WallFolded,
        Format::BlameFolded,
        Format::BlameSvg,
    ] {
        let text = text_of(&hostile, format, &Options::default());
        let is_bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{200b}';
        // inferno's script and style hold tabs and line ends of their own.
        let bad: Vec<char> = text.chars().filter(|&c| is_bad(c) && c != '\t').collect();
        assert_eq!(bad, [], "{}", format.name());
    }
    for line in text_of(&hostile, Format::Folded, &Options::default()).lines() {
        let (stack, micros) = line.rsplit_once(' ').expect("a count");
        assert!(
            micros.parse::<u64>().is_ok() && stack.split(';').count() > 3,
            "{line}"
        );
    }
}

#[test]
fn reports_are_the_same_bytes_every_time() {
    for (name, recording) in recordings::all() {
        for format in Format::ALL {
            let first = bytes_of(&recording, format);
            let second = bytes_of(&recording, format);
            assert!(first == second, "{name}, {}", format.name());
        }
    }
}

#[test]
fn no_line_is_wider_than_asked() {
    for (name, recording) in recordings::all() {
        for width in [60, 80, 120] {
            let text = text_of(&recording, Format::Text, &with_width(width));
            for line in text.lines() {
                // A name in running text is never cut, it has a line to itself.
                let columns = unicode_width::UnicodeWidthStr::width(line);
                let words = line.split_whitespace().count();
                assert!(columns <= width || words == 1, "{name} at {width}: {line}");
            }
        }
    }
}
