//! `--runtime --thread --task --site --cause --min`: what is chosen is what the whole has of it, and the rest
//! stays as it is.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

#[allow(dead_code, unreachable_pub, missing_docs)]
mod kept_support;

use holdup::analyze::{build, build_filtered, build_keeping};
use holdup::cause::Cause;
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};
use holdup::report::{Filter, Keep, Report};
use holdup::units::Nanos;
use kept_support::{report, said};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

const ALL: Keep = Keep {
    sums: true,
    singles: true,
};

fn chosen(recording: &Recording, filter: &Filter) -> Report {
    build_filtered(recording, ALL, filter)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Waits and blocked time of each site, by everything that tells sites apart.
fn sites(report: &Report) -> BTreeMap<String, (u64, Nanos)> {
    let mut sites: BTreeMap<String, (u64, Nanos)> = BTreeMap::new();
    for site in &report.sites {
        let key = format!(
            "{} {:?} {:?} {:?} {:?} {}",
            site.function, site.file, site.line, site.state, site.role, site.pid
        );
        let sum = sites.entry(key).or_default();
        sum.0 += site.waits;
        sum.1 += site.total_ns;
    }
    sites
}

/// The sites of several reports together.
fn together(reports: impl Iterator<Item = Report>) -> BTreeMap<String, (u64, Nanos)> {
    let mut all: BTreeMap<String, (u64, Nanos)> = BTreeMap::new();
    for report in reports {
        for (key, (waits, time)) in sites(&report) {
            let sum = all.entry(key).or_default();
            sum.0 += waits;
            sum.1 += time;
        }
    }
    all
}

/// By threads and by causes each wait is in one part, and in no other.
#[test]
fn the_parts_are_the_whole() {
    let mut compared = 0;
    for (name, recording) in recordings::all() {
        let whole = build_keeping(&recording, ALL);
        let by_thread = whole.threads.iter().map(|thread| {
            let filter = Filter {
                thread: vec![thread.tid.to_string()],
                ..Filter::default()
            };
            chosen(&recording, &filter)
        });
        let mut tids: Vec<_> = whole.threads.iter().map(|thread| thread.tid).collect();
        tids.sort_unstable();
        tids.dedup();
        // Two processes of different namespaces may number alike.
        if tids.len() == whole.threads.len() {
            assert_eq!(together(by_thread), sites(&whole), "{name}, by thread");
            compared += whole.sites.len();
        }
        let by_cause = Cause::ALL.into_iter().map(|cause| {
            let filter = Filter {
                cause: vec![cause],
                ..Filter::default()
            };
            chosen(&recording, &filter)
        });
        assert_eq!(together(by_cause), sites(&whole), "{name}, by cause");
        let sums = |report: &Report| -> u64 {
            let detail = report.detail.as_ref();
            detail.map_or(0, |detail| detail.sums.iter().map(|sum| sum.waits).sum())
        };
        let of_any = Filter {
            thread: words(&[""]),
            ..Filter::default()
        };
        assert_eq!(sums(&chosen(&recording, &of_any)), sums(&whole), "{name}");
    }
    assert!(compared > 20, "{compared} sites");
}

#[test]
fn a_runtime_has_what_the_whole_says_is_its() {
    let mut compared = 0;
    for (name, recording) in recordings::all() {
        let whole = build(&recording);
        for runtime in &whole.runtimes {
            let filter = Filter {
                runtime: vec![runtime.id.clone()],
                ..Filter::default()
            };
            let of_one = chosen(&recording, &filter);
            let time: Nanos = of_one.sites.iter().map(|site| site.total_ns).sum();
            let shares = whole.sites.iter().flat_map(|site| &site.runtimes);
            let shares = shares.filter(|share| share.runtime == runtime.id);
            let expected: Nanos = shares.map(|share| share.total_ns).sum();
            assert_eq!(time, expected, "{name} {}", runtime.id);
            assert_eq!(of_one.runtimes.len(), 1, "{name} {}", runtime.id);
            let others = of_one.threads.iter();
            let mut others = others.filter(|thread| thread.runtime.as_ref() != Some(&runtime.id));
            assert_eq!(others.next().map(|thread| thread.tid), None);
            compared += 1;
        }
    }
    assert!(compared > 5, "{compared} runtimes");
}

/// A wait of another thread says nothing of those of this one.
#[test]
fn quantiles_objects_and_wakers_are_those_of_the_thread() {
    let recording = recordings::starved();
    let whole = build(&recording);
    let site = whole.sites.first().expect("a site");
    let mut seen = 0;
    for thread in &whole.threads {
        let filter = Filter {
            thread: vec![thread.tid.to_string()],
            site: vec![site.function.to_string()],
            ..Filter::default()
        };
        for one in chosen(&recording, &filter).sites {
            assert!(one.p50_ns <= one.max_ns && one.max_ns <= site.max_ns);
            let objects: u64 = one.objects.iter().map(|object| object.waits).sum();
            assert!(objects <= one.waits, "{objects} of {}", one.waits);
            assert!(one.waits_with_waker <= one.waits);
            seen += one.waits;
        }
    }
    assert_eq!(seen, site.waits);
}

#[test]
fn the_verdict_stays_and_names_its_site() {
    for (name, recording) in recordings::all() {
        let whole = build(&recording);
        let site_of = |report: &Report| {
            let index = report.verdict.clone().site_mut().copied().flatten();
            index.and_then(|index| Some(report.sites.get(index)?.function.clone()))
        };
        let Some(worst) = site_of(&whole) else {
            continue;
        };
        let of_site = Filter {
            site: vec![worst.to_string()],
            ..Filter::default()
        };
        let report = chosen(&recording, &of_site);
        assert_eq!(site_of(&report), Some(worst), "{name}");
        assert_eq!(report.losses.waits, whole.losses.waits, "{name}");
        let nothing = Filter {
            site: words(&["no such function"]),
            ..Filter::default()
        };
        let mut report = chosen(&recording, &nothing);
        assert!(
            report.lists_nothing() && report.threads.is_empty(),
            "{name}"
        );
        let kind = std::mem::discriminant(&whole.verdict);
        assert_eq!(std::mem::discriminant(&report.verdict), kind, "{name}");
        assert_eq!(report.verdict.site_mut().copied().flatten(), None, "{name}");
    }
}

#[test]
fn short_sites_waits_and_polls_are_left_out() {
    for (name, recording) in recordings::all() {
        let whole = build_keeping(&recording, ALL);
        let lengths: Vec<Nanos> = whole.sites.iter().map(|site| site.max_ns).collect();
        let Some(&min_ns) = lengths.get(lengths.len() / 2) else {
            continue;
        };
        let filter = Filter {
            min_ns,
            ..Filter::default()
        };
        let report = chosen(&recording, &filter);
        let expected = lengths.iter().filter(|length| **length >= min_ns).count();
        assert_eq!(report.sites.len(), expected, "{name}");
        assert!(report.sites.iter().all(|site| site.max_ns >= min_ns));
        assert!(
            report
                .long_polls
                .iter()
                .all(|polls| polls.longest.length_ns >= min_ns)
        );
        let detail = report.detail.as_ref().expect("kept");
        let blocked = |wait: &holdup::recording::Wait| wait.wakeup.min(wait.end) - wait.start;
        assert!(detail.waits.iter().all(|wait| blocked(wait) >= min_ns));
    }
}

fn text_of(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    render(format, report, &Options::default(), &mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn every_form_says_that_it_is_a_choice() {
    let recording = recordings::starved();
    let filter = Filter {
        cause: vec![Cause::FileIo, Cause::Lock],
        min_ns: Nanos(1_000),
        ..Filter::default()
    };
    let report = chosen(&recording, &filter);
    let told = "cause file-io or lock, at least 1us";
    for format in [
        Format::Text,
        Format::Svg,
        Format::WakersSvg,
        Format::WallSvg,
        Format::Firefox,
        Format::Trace,
        Format::Speedscope,
    ] {
        let text = text_of(&report, format);
        let flat: Vec<&str> = text.split_whitespace().collect();
        assert!(flat.join(" ").contains(told), "{}", format.name());
    }
    let json: Value = serde_json::from_str(&text_of(&report, Format::Json)).expect("JSON");
    assert_eq!(
        json["filter"]["cause"],
        serde_json::json!(["file-io", "lock"])
    );
    assert_eq!(json["filter"]["min_ns"], 1_000);
    let lines = text_of(&report, Format::Ndjson);
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["filter"]["min_ns"], 1_000);
    let whole = text_of(&build(&recording), Format::Json);
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert!(whole.get("filter").is_none());
}

#[test]
fn text_of_a_choice() {
    let filter = Filter {
        cause: vec![Cause::Lock],
        ..Filter::default()
    };
    let text = text_of(&chosen(&recordings::starved(), &filter), Format::Text);
    insta::assert_snapshot!("starved_only_locks", text);
}

#[test]
fn the_json_holds_to_its_schema() {
    let schema = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report-2.schema.json"),
    );
    let schema: Value = serde_json::from_str(&schema.expect("the schema")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let filter = Filter {
        runtime: words(&["rt0"]),
        site: words(&["claims"]),
        cause: vec![Cause::Lock],
        min_ns: Nanos(1),
        ..Filter::default()
    };
    for (name, recording) in recordings::all() {
        let text = text_of(&chosen(&recording, &filter), Format::Json);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn nothing_chosen_is_told_and_is_no_failure() {
    let output = report(&["--site", "nobody", "--runtime", "rt77"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("nothing in the recording fits: runtime rt77, site nobody"),
        "{text}"
    );
    assert!(text.contains("runtimes: rt0 ("), "{text}");
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(page.contains("Nothing in the recording fits"), "{page}");
}

#[test]
fn a_cause_that_there_is_not_lists_those_that_there_are() {
    let output = report(&["--cause", "locks"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("file-io, network, pipe") && text.contains("other"),
        "{text}"
    );
}

/// What is looked at is no way to pass.
#[test]
fn conditions_look_at_everything() {
    let condition = "blocked>0us";
    let whole = report(&["--fail-if", condition]);
    assert_eq!(whole.status.code(), Some(4), "{}", said(&whole));
    let chosen = report(&["--fail-if", condition, "--site", "nobody"]);
    assert_eq!(chosen.status.code(), Some(4), "{}", said(&chosen));
    let fail = |output: &Output| {
        let text = said(output);
        text.lines()
            .find(|line| line.contains("fail:"))
            .map(str::to_owned)
    };
    assert_eq!(fail(&chosen), fail(&whole));
    assert!(fail(&whole).is_some());
}

/// While it is recorded nobody knows which runtimes there will be.
#[test]
fn lines_cannot_be_chosen_by_runtime_while_they_are_written() {
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["record", "-p", "1", "-f", "ndjson", "--runtime", "rt0"])
        .output()
        .expect("holdup runs");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("holdup report"), "{}", said(&output));
}

#[test]
fn a_comparison_is_chosen_on_both_sides() {
    let capture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures/version-1.holdup");
    let diff = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
            .arg("diff")
            .args([&capture, &capture])
            .args(["-f", "json"])
            .args(args)
            .output()
            .expect("holdup runs");
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let all = diff(&[]);
    let sites = all["sites"].as_array().expect("sites");
    let first = sites.first().expect("a site")["cause"]
        .as_str()
        .expect("a cause");
    let of_cause = diff(&["--cause", first]);
    let chosen = of_cause["sites"].as_array().expect("sites");
    assert!(!chosen.is_empty() && chosen.iter().all(|site| site["cause"] == first));
    let expected = sites.iter().filter(|site| site["cause"] == first).count();
    assert_eq!(chosen.len(), expected);
    assert_eq!(of_cause["filter"]["cause"], serde_json::json!([first]));
    assert!(all.get("filter").is_none());
}

/// Both sides are of the same part of their recordings, and say so.
#[test]
fn a_part_is_compared_with_a_part() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures/incident.holdup");
    let diff = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command.arg("diff").args([&path, &path]).args(args);
        command.output().expect("holdup runs")
    };
    let json = |args: &[&str]| -> Value {
        let output = diff(args);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let all = json(&["-f", "json"]);
    assert_eq!(all["after"]["duration_ns"], 8_000_000_000_u64);
    assert!(all["after"].get("part").is_none());
    let part = json(&["-f", "json", "--from", "2s", "--to", "4s"]);
    for side in ["before", "after"] {
        assert_eq!(part[side]["duration_ns"], 2_000_000_000_u64);
        assert_eq!(part[side]["part"]["from_ns"], 2_000_000_000_u64);
        assert_eq!(part[side]["part"]["to_ns"], 4_000_000_000_u64);
        assert_eq!(part[side]["part"]["of_ns"], 8_000_000_000_u64);
    }
    let blocked = |diff: &Value| -> u64 {
        let sites = diff["sites"].as_array().expect("sites");
        sites
            .iter()
            .filter_map(|site| site["after"]["total_ns"].as_u64())
            .sum()
    };
    let (of_part, of_all) = (blocked(&part), blocked(&all));
    assert!(of_part > 0 && of_part < of_all, "{of_part} of {of_all}");
    let text = diff(&["--from", "2s", "--to", "4s"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(
        text.matches("2.00 s from 2.00 s of 8.00 s").count(),
        2,
        "{text}"
    );
    let none = diff(&["--from", "2s", "--to", "1s"]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    let after = diff(&["--from", "10s"]);
    assert!(
        said(&after).contains("has nothing after 10.0 s"),
        "{}",
        said(&after)
    );
}
