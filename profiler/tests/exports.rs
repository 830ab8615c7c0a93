//! The formats of other programs: golden files, and each format's own rules. The programs themselves read a capture
//! in `consumers`.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI those fail that need what
//! `cargo xtask setup --tests` brings.

mod exports_support;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use exports_support::profile::{Message, Profile};
use holdup::analyze::build_keeping;
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// Those that are compared with golden files: single waits of every kind.
const GOLDEN: [&str; 5] = ["held_lock", "hog", "several", "hostile", "empty"];

/// Of speedscope's package.
const SPEEDSCOPE_SCHEMA: &str = "web/node_modules/speedscope/dist/release/file-format-schema.json";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    let plain: [(&str, fn()); 13] = [
        ("golden_pprof", golden_pprof),
        ("golden_timelines", golden_timelines),
        ("pprof_has_the_reports_time", pprof_has_the_reports_time),
        ("otlp_has_the_reports_time", otlp_has_the_reports_time),
        ("speedscope_nests", speedscope_nests),
        ("traces_nest", traces_nest),
        ("firefox_tables_agree", firefox_tables_agree),
        ("lines_are_objects", lines_are_objects),
        ("functions_share_no_frame", functions_share_no_frame),
        ("names_stay_text", names_stay_text),
        (
            "waits_are_as_long_as_reported",
            waits_are_as_long_as_reported,
        ),
        ("a_million_waits", a_million_waits),
        ("without_single_waits", without_single_waits),
    ];
    for (name, check) in plain {
        trials.push(Trial::test(name, move || {
            check();
            Ok(())
        }));
    }
    trials.push(Trial::ignorable_test("speedscope_schema", || {
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join(SPEEDSCOPE_SCHEMA);
        let help = "no packages in profiler/web; cargo xtask setup --tests brings them";
        let missing = (!schema.exists()).then(|| help.to_owned());
        privilege::unless_skipped(missing, || speedscope_schema(&schema))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn known(name: &str) -> Recording {
    let mut all = recordings::all().into_iter();
    let found = all.find_map(|(other, recording)| (other == name).then_some(recording));
    found.expect("known")
}

fn bytes_of(recording: &Recording, format: Format) -> Vec<u8> {
    let report = build_keeping(recording, format.keep());
    let mut out = Vec::new();
    render(format, &report, &Options::default(), &mut out).expect("writing to memory");
    out
}

fn text_of(recording: &Recording, format: Format) -> String {
    String::from_utf8(bytes_of(recording, format)).expect("UTF-8")
}

fn json_of(recording: &Recording, format: Format) -> Value {
    serde_json::from_slice(&bytes_of(recording, format)).expect("JSON")
}

fn golden_pprof() {
    for name in GOLDEN {
        let profile = Profile::read(&bytes_of(&known(name), Format::Pprof));
        insta::assert_snapshot!(format!("{name}_pprof"), profile.shown());
    }
}

fn golden_timelines() {
    let formats = [
        Format::Speedscope,
        Format::Firefox,
        Format::Trace,
        Format::Ndjson,
    ];
    for name in GOLDEN {
        for format in formats {
            let text = text_of(&known(name), format);
            // One line of a profile is some kilobytes: golden files are looked at by people.
            let text = match format {
                Format::Firefox => {
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    serde_json::to_string_pretty(&value).expect("memory")
                }
                _ => text,
            };
            insta::assert_snapshot!(format!("{name}_{}", format.name()), text);
        }
    }
}

/// What flamegraphs call functions of one name, all other forms call them, too.
fn functions_share_no_frame() {
    let recording = recordings::alike::alike();
    let formats = [
        Format::Folded,
        Format::Svg,
        Format::WallFolded,
        Format::Speedscope,
        Format::Firefox,
        Format::Pprof,
        Format::Otlp,
    ];
    for format in formats {
        let bytes = bytes_of(&recording, format);
        let text = match format {
            Format::Pprof => Profile::read(&bytes).shown(),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let text = text.replace("&lt;", "<").replace("&gt;", ">");
        for name in recordings::alike::NAMES {
            assert!(text.contains(name), "{}: {name}", format.name());
        }
    }
}

/// Each state's waits and blocked time are those of the report, whatever they are split by.
fn pprof_has_the_reports_time() {
    for (name, recording) in recordings::all() {
        let report = build_keeping(&recording, Format::Pprof.keep());
        let mut expected: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        let states = Options::default().states;
        for stack in report
            .stacks
            .iter()
            .filter(|stack| states.contains(&stack.state))
        {
            let sum = expected.entry(stack.state.name().to_owned()).or_default();
            sum[0] += stack.waits;
            sum[1] += stack.blocked.0;
        }
        let mut found: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for sample in Profile::read(&bytes_of(&recording, Format::Pprof)).samples {
            let sum = found.entry(sample.labels["state"].clone()).or_default();
            sum[0] += sample.values[0];
            sum[1] += sample.values[1];
        }
        assert_eq!(found, expected, "{name}");
    }
}

/// Every index is within its table, whose first entry stands for none.
fn otlp_has_the_reports_time() {
    for (name, recording) in recordings::all() {
        let report = build_keeping(&recording, Format::Otlp.keep());
        let states = Options::default().states;
        let stacks = report
            .stacks
            .iter()
            .filter(|stack| states.contains(&stack.state));
        let expected = stacks.fold([0, 0], |sum, stack| {
            [sum[0] + stack.blocked.0, sum[1] + stack.waits]
        });
        let bytes = bytes_of(&recording, Format::Otlp);
        let data = Message::of(&bytes);
        let dictionary = data.messages(2).remove(0);
        let length = |table: u64| dictionary.bytes(table).len() as u64;
        for table in [1, 2, 3, 4, 5, 6, 7] {
            assert!(
                dictionary.bytes(table)[0].is_empty(),
                "{name}: table {table}"
            );
        }
        let within = |indices: Vec<u64>, table: u64| {
            assert!(
                indices.iter().all(|index| *index < length(table)),
                "{name}: table {table}"
            );
        };
        for stack in dictionary.messages(7) {
            within(stack.numbers(1), 2);
        }
        for location in dictionary.messages(2) {
            within(location.numbers(1), 1);
            within(location.numbers(4), 6);
            for line in location.messages(3) {
                within(line.numbers(1), 3);
            }
        }
        for function in dictionary.messages(3) {
            within([1, 2, 3].map(|field| function.number(field)).to_vec(), 5);
        }
        let mut found = [0, 0];
        for resource in data.messages(1) {
            for scope in resource.messages(2) {
                for (index, profile) in scope.messages(2).iter().enumerate() {
                    for sample in profile.messages(2) {
                        within(sample.numbers(1), 7);
                        within(sample.numbers(2), 6);
                        found[index] += sample.numbers(4).iter().sum::<u64>();
                    }
                }
            }
        }
        assert_eq!(found, expected, "{name}");
    }
}

/// Frames close in the order in which they opened, and time never goes back.
fn speedscope_nests() {
    let mut evented = 0;
    for (name, recording) in recordings::all() {
        let file = json_of(&recording, Format::Speedscope);
        let frames = file["shared"]["frames"].as_array().expect("frames").len() as u64;
        for profile in file["profiles"].as_array().expect("profiles") {
            let end = profile["endValue"].as_u64().expect("an end");
            if profile["type"] == "sampled" {
                let of = |what: &str| profile[what].as_array().expect("an array").clone();
                assert_eq!(of("samples").len(), of("weights").len(), "{name}");
                let sum: u64 = of("weights").iter().filter_map(Value::as_u64).sum();
                assert_eq!(sum, end, "{name}");
                continue;
            }
            evented += 1;
            let (mut open, mut now) = (Vec::new(), 0);
            for event in profile["events"].as_array().expect("events") {
                let at = event["at"].as_u64().expect("a time");
                assert!(at >= now && at <= end, "{name}: {event}");
                now = at;
                let frame = event["frame"].as_u64().filter(|frame| *frame < frames);
                match event["type"].as_str() {
                    Some("O") => open.push(frame.expect("a frame")),
                    Some("C") => assert_eq!(open.pop(), frame, "{name}: {event}"),
                    _ => panic!("{name}: {event}"),
                }
            }
            assert!(open.is_empty(), "{name}");
        }
    }
    assert!(evented > 20, "{evented} profiles");
}

/// Of two slices of a row one holds the other, or they are apart. That is what Chrome and Perfetto ask
/// of complete events.
fn traces_nest() {
    let mut slices = 0;
    for (name, recording) in recordings::all() {
        let trace = json_of(&recording, Format::Trace);
        let mut rows: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
        // Processes, and threads of theirs.
        let mut named: BTreeSet<(u64, Option<u64>)> = BTreeSet::new();
        for event in trace["traceEvents"].as_array().expect("events") {
            let number = |what: &str| event[what].as_u64().expect("a number");
            let row = (number("pid"), number("tid"));
            assert!(
                event["name"].is_string() && event["args"].is_object(),
                "{event}"
            );
            if event["ph"] == "M" {
                let name = &event["args"]["name"];
                match event["name"].as_str() {
                    Some("process_name") => assert!(named.insert((row.0, None)), "{event}"),
                    Some("thread_name") => assert!(named.insert((row.0, Some(row.1))), "{event}"),
                    Some("thread_sort_index") => continue,
                    _ => panic!("{name}: {event}"),
                }
                assert!(
                    name.as_str().is_some_and(|name| !name.is_empty()),
                    "{event}"
                );
                continue;
            }
            assert_eq!(event["ph"], "X", "{name}");
            let nanos = |what: &str| (event[what].as_f64().expect("a time") * 1e3).round() as u64;
            rows.entry(row)
                .or_default()
                .push((nanos("ts"), nanos("ts") + nanos("dur")));
            slices += 1;
        }
        let length = recording.intervals.last().expect("one").end - recording.header.start;
        for (row, slices) in rows {
            let has_names = [(row.0, None), (row.0, Some(row.1))].map(|of| named.contains(&of));
            assert_eq!(has_names, [true, true], "{name} {row:?}");
            let mut open: Vec<u64> = Vec::new();
            let mut last = 0;
            for (start, end) in slices {
                assert!(
                    start >= last && end <= length.0,
                    "{name} {row:?} {start} {end}"
                );
                last = start;
                open.retain(|until| *until > start);
                assert!(
                    open.iter().all(|until| *until >= end),
                    "{name} {row:?} {start} {end}"
                );
                open.push(end);
            }
        }
    }
    assert!(slices > 500, "{slices} slices");
}

/// What a table names in another is there.
fn firefox_tables_agree() {
    for (name, recording) in recordings::all() {
        let profile = json_of(&recording, Format::Firefox);
        let schemas = profile["meta"]["markerSchema"].as_array().expect("schemas");
        for thread in profile["threads"].as_array().expect("threads") {
            let column = |table: &str, column: &str| {
                let values = thread[table][column].as_array();
                values
                    .unwrap_or_else(|| panic!("{name}: {table}.{column}"))
                    .clone()
            };
            let length = |table: &str| thread[table]["length"].as_u64().expect("a length");
            let within = |values: Vec<Value>, length: u64| {
                values
                    .iter()
                    .filter_map(Value::as_u64)
                    .all(|value| value < length)
            };
            assert!(
                within(column("samples", "stack"), length("stackTable")),
                "{name}"
            );
            assert!(
                within(column("stackTable", "frame"), length("frameTable")),
                "{name}"
            );
            assert!(
                within(column("frameTable", "func"), length("funcTable")),
                "{name}"
            );
            assert_eq!(
                column("samples", "weight").len() as u64,
                length("samples"),
                "{name}"
            );
            for data in column("markers", "data") {
                let has_schema = schemas.iter().any(|schema| schema["name"] == data["type"]);
                assert!(has_schema, "{name}: {data}");
            }
        }
    }
}

fn lines_are_objects() {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for (name, recording) in recordings::all() {
        let text = text_of(&recording, Format::Ndjson);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(
            lines.first().expect("a line")["type"],
            "recording",
            "{name}"
        );
        assert_eq!(lines.last().expect("a line")["type"], "end", "{name}");
        for line in lines {
            let kind = line["type"].as_str().expect("a type").to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let known: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(known, ["end", "poll", "recording", "wait"]);
    assert!(kinds["wait"] > 300 && kinds["poll"] > 1, "{kinds:?}");
}

fn names_stay_text() {
    let hostile = known("hostile");
    let is_bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{200b}';
    for format in [
        Format::Speedscope,
        Format::Firefox,
        Format::Trace,
        Format::Ndjson,
    ] {
        let text = text_of(&hostile, format);
        let bad: Vec<char> = text.chars().filter(|&c| is_bad(c)).collect();
        assert_eq!(bad, [], "{}", format.name());
        // Nor in what a reader of JSON makes of it, but for the lines, which are the names themselves.
        if format != Format::Ndjson {
            assert!(
                !text.contains("\\u001b") && !text.contains("\\u202e"),
                "{}",
                format.name()
            );
        }
    }
    let profile = Profile::read(&bytes_of(&hostile, Format::Pprof));
    let bad: Vec<&String> = profile
        .strings
        .iter()
        .filter(|string| string.contains(|c: char| is_bad(c) || c == '\n'))
        .collect();
    assert_eq!(bad, Vec::<&String>::new());
    // A check of nothing would pass, too.
    assert!(
        profile
            .strings
            .iter()
            .any(|string| string.contains("script>"))
    );
}

/// In all timelines the waits of a thread take the time that they took.
fn waits_are_as_long_as_reported() {
    let recording = known("held_lock");
    let interval = recording.intervals.first().expect("one");
    let waits = interval.waits.iter();
    let all: u64 = waits.map(|wait| (wait.wakeup - wait.start).0).sum();
    let sum = |values: Vec<f64>| values.iter().sum::<f64>().round() as u64;

    let trace = json_of(&recording, Format::Trace);
    let events = trace["traceEvents"].as_array().expect("events").iter();
    let waits = events.filter_map(|event| event["args"]["blocked_ns"].as_f64());
    assert_eq!(sum(waits.collect()), all);

    let lines = text_of(&recording, Format::Ndjson);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let waits = lines.filter_map(|line| {
        let is_wait = line["type"] == "wait";
        line["blocked_ns"].as_f64().filter(|_| is_wait)
    });
    assert_eq!(sum(waits.collect()), all);

    let profile = json_of(&recording, Format::Firefox);
    let threads = profile["threads"].as_array().expect("threads").iter();
    let weights = threads.flat_map(|thread| {
        let weights = thread["samples"]["weight"].as_array().expect("weights");
        weights.iter().filter_map(Value::as_f64).collect::<Vec<_>>()
    });
    // Whole milliseconds: less than one is missing of each stack of a thread.
    let millis = sum(weights.collect());
    assert!(
        millis <= all / 1_000_000 && millis + 8 >= all / 1_000_000,
        "{millis} of {all}"
    );
}

/// Counts what is written.
struct Counter(u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What other programs can open has a size, however many waits there are.
fn a_million_waits() {
    let recording = known("held_lock");
    let mut report = build_keeping(&recording, Format::Trace.keep());
    let detail = report.detail.as_mut().expect("kept");
    let waits = detail.waits.to_vec();
    let length = detail.end - detail.start;
    let mut all = Vec::with_capacity(1_000_000);
    for round in 0..1_000_000 / waits.len() as u64 {
        all.extend(waits.iter().map(|wait| {
            let mut wait = *wait;
            for time in [&mut wait.start, &mut wait.wakeup, &mut wait.end] {
                time.0 += round * length.0;
            }
            wait
        }));
    }
    detail.end.0 += 1_000_000 * length.0;
    detail.waits = all.into();
    let bounds = [
        (Format::Speedscope, 200),
        (Format::Firefox, 250),
        (Format::Trace, 500),
        (Format::Ndjson, 500),
    ];
    for (format, megabytes) in bounds {
        let begun = std::time::Instant::now();
        let mut counter = Counter(0);
        render(format, &report, &Options::default(), &mut counter).expect("counting");
        let (took, size) = (begun.elapsed(), counter.0 / 1_000_000);
        println!("{}: {size} MB in {took:.1?}", format.name());
        assert!(
            (20..megabytes).contains(&size),
            "{}: {size} MB",
            format.name()
        );
    }
}

/// A file that was asked for comes to be, whatever there is to tell.
fn without_single_waits() {
    let report = holdup::analyze::build(&known("held_lock"));
    for format in Format::ALL {
        let mut out = Vec::new();
        render(format, &report, &Options::default(), &mut out).expect("writing to memory");
        assert!(!out.is_empty(), "{}", format.name());
    }
}

fn speedscope_schema(path: &Path) -> Result<(), Failed> {
    let mut schema: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    schema["$ref"] = "#/definitions/FileFormat.File".into();
    let schema = jsonschema::validator_for(&schema)?;
    for (name, recording) in recordings::all() {
        let file = json_of(&recording, Format::Speedscope);
        let errors: Vec<String> = schema.iter_errors(&file).map(|e| e.to_string()).collect();
        if !errors.is_empty() {
            return Err(format!("{name}: {errors:?}").into());
        }
    }
    Ok(())
}
