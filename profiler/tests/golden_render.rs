//! Golden files: every renderer over every recording of `tests/data/recordings`.
//!
//! To accept changed output, look at it first and then run the tests with `INSTA_UPDATE=always`.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::model::{Recording, build};
use holdup::render::{Format, Options, render};

fn text_of(recording: &Recording, format: Format, options: &Options) -> String {
    let mut out = Vec::new();
    render(format, &build(recording), options, &mut out).expect("writing to memory");
    String::from_utf8(out).expect("every format is UTF-8")
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
        collapse_runtime: true,
        ..Options::default()
    };
    let text = text_of(&recordings::starved(), Format::Folded, &options);
    insta::assert_snapshot!("starved_folded_collapsed", text);
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
