//! `cargo holdup`, and `holdup record -- cargo test` as a pipeline runs it, on a small service of which the
//! blocking call is known.

use super::privilege;
use libtest_mimic::Trial;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    type Check = fn() -> Result<(), String>;
    let trials: [(&str, Check); 6] = [
        ("cargo::run_records_what_it_builds", run),
        ("cargo::test_records_each_test_program", test),
        ("cargo::what_fails_is_told_apart", fails),
        ("cargo::words_are_checked_before_the_build", words),
        (
            "cargo::a_pipeline_fails_where_a_worker_stands_still",
            pipeline,
        ),
        ("filters::a_recording_lists_what_was_chosen", filters),
    ];
    let trial = |(name, check): (&str, Check)| {
        Trial::ignorable_test(name, move || {
            privilege::unless_skipped(privilege::missing(), || Ok(check()?))
        })
    };
    trials.into_iter().map(trial).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/booking")
}

/// Where the fixture is built.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("booking")
}

/// One build at a time, each with its reports.
static ONE: Mutex<()> = Mutex::new(());

/// With these cargo tells a program that it starts about a package.
pub(crate) const OF_A_PACKAGE: [&str; 4] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
];

/// Keeps variables that begin so from a command.
pub(crate) fn without(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// A command in the fixture's folder, with the environment of a user's shell.
fn in_fixture(program: &Path) -> Command {
    let mut command = Command::new(program);
    without(&mut command, &OF_A_PACKAGE);
    let of_the_build = [
        "CARGO_PROFILE_",
        "CARGO_INCREMENTAL",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ];
    without(&mut command, &of_the_build);
    command
        .current_dir(fixture())
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", target())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn cargo_holdup(args: &[&str]) -> Result<Output, String> {
    let _one = ONE.lock();
    let output = in_fixture(Path::new(env!("CARGO_BIN_EXE_cargo-holdup")))
        // As cargo calls it.
        .arg("holdup")
        .args(args)
        .output();
    output.map_err(|error| error.to_string())
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{}\n{out}\n{err}", output.status)
}

fn expect(output: &Output, code: i32) -> Result<(), String> {
    match output.status.code() == Some(code) {
        true => Ok(()),
        false => Err(format!("not {code}: {}", said(output))),
    }
}

fn left(name: &str) -> Result<Vec<u8>, String> {
    let path = target().join("holdup").join(name);
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The blocking call with its line, though the release is stripped.
fn names_the_call(report: &Value) -> Result<(), String> {
    let sites = report["sites"].as_array().ok_or("no sites")?;
    let site = sites
        .iter()
        .find(|site| site["function"] == "booking::reserve");
    let site = site.ok_or_else(|| format!("no booking::reserve in {sites:?}"))?;
    let file = site["file"].as_str().unwrap_or_default();
    if !file.ends_with("src/lib.rs") || site["line"].as_u64().is_none() || site["cause"] != "sleep"
    {
        return Err(format!("the site is {site}"));
    }
    if site["max_ns"].as_u64() < Some(25_000_000) {
        return Err(format!("the longest wait is {}", site["max_ns"]));
    }
    Ok(())
}

fn run() -> Result<(), String> {
    let output = cargo_holdup(&["run"])?;
    expect(&output, 0)?;
    let text = said(&output);
    // It runs where it was called, as with cargo run.
    let booked = format!("booked 30 in {}", fixture().display());
    for expected in [
        booked.as_str(),
        "booking::reserve",
        "CARGO_PROFILE_RELEASE_DEBUG=limited",
    ] {
        if !text.contains(expected) {
            return Err(format!("no {expected:?} in {text}"));
        }
    }
    let report: Value =
        serde_json::from_slice(&left("booking.json")?).map_err(|e| e.to_string())?;
    names_the_call(&report)?;
    let pictures = ["booking.html", "booking.svg"]
        .iter()
        .filter(|name| left(name).is_ok());
    if pictures.count() != 1 || !left("booking.holdup")?.starts_with(b"SQLite format 3") {
        return Err("no picture, or no capture".to_owned());
    }
    // They are remade, and conditions count.
    expect(&cargo_holdup(&["run", "--fail-if", "stall>10ms"])?, 4)?;
    expect(&cargo_holdup(&["run", "--fail-if", "stall>10s"])?, 0)
}

fn test() -> Result<(), String> {
    let output = cargo_holdup(&["test", "--fail-if", "stall>10ms"])?;
    // The unit tests and the binaries have no runtime, which is no failure beside the one that has.
    expect(&output, 4)?;
    let report: Value =
        serde_json::from_slice(&left("service.json")?).map_err(|e| e.to_string())?;
    names_the_call(&report)?;
    let text = said(&output);
    match text.contains("test result: ok. 1 passed") && text.contains("fail: stall>10ms holds") {
        true => Ok(()),
        false => Err(text),
    }
}

fn fails() -> Result<(), String> {
    let output = cargo_holdup(&["run", "--fail-if", "stall>10ms", "--", "--fail"])?;
    expect(&output, 5)?;
    let text = said(&output);
    for expected in ["fail: stall>10ms holds", "status 7"] {
        if !text.contains(expected) {
            return Err(format!("no {expected:?} in {text}"));
        }
    }
    let output = cargo_holdup(&["run", "--bin", "idle"])?;
    expect(&output, 3)?;
    let output = cargo_holdup(&["run", "--bin", "nobody"])?;
    expect(&output, 1)
}

fn words() -> Result<(), String> {
    let output = cargo_holdup(&["run", "--fail-if", "stall"])?;
    expect(&output, 2)?;
    match said(&output).contains("Compiling") {
        true => Err(said(&output)),
        false => Ok(()),
    }
}

/// Each form that a pipeline reads, of a test run by cargo.
fn pipeline() -> Result<(), String> {
    let _one = ONE.lock();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| dir.path().join(name);
    // The compiler is not what is to be recorded.
    let built = in_fixture(Path::new(env!("CARGO")))
        .args(["test", "--no-run"])
        .output();
    expect(&built.map_err(|error| error.to_string())?, 0)?;
    let go = |fails: bool| {
        let mut command = in_fixture(Path::new(env!("CARGO_BIN_EXE_holdup")));
        if fails {
            command.env("BOOKING_FAILS", "1");
        }
        command
            .args(["record", "--follow", "--fail-with-command", "--force"])
            .args([
                "--fail-if",
                "stall>10ms",
                "--fail-if",
                "cause=network:blocked>0us",
            ])
            .args(["-f", "github", "-o"])
            .arg(path("a.junit.xml"))
            .arg("-o")
            .arg(path("a.codequality.json"))
            .arg("--")
            .arg(env!("CARGO"))
            .args(["test", "--test", "service"])
            .output()
            .map_err(|error| error.to_string())
    };
    let output = go(false)?;
    expect(&output, 4)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = text
        .lines()
        .find(|line| line.starts_with("::error file=src/lib.rs,line="));
    if !error.is_some_and(|line| line.contains("booking::reserve")) {
        return Err(said(&output));
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).map_err(|error| error.to_string());
    let xml = read("a.junit.xml")?;
    let document = roxmltree::Document::parse(&xml).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if (root.attribute("tests"), root.attribute("failures")) != (Some("2"), Some("1")) {
        return Err(xml);
    }
    let issues: Value =
        serde_json::from_str(&read("a.codequality.json")?).map_err(|e| e.to_string())?;
    if issues[0]["location"]["path"] != "src/lib.rs" {
        return Err(issues.to_string());
    }
    expect(&go(true)?, 5)
}

/// What is shown is chosen; the verdict and the capture are of everything.
fn filters() -> Result<(), String> {
    let _one = ONE.lock();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let built = in_fixture(Path::new(env!("CARGO")))
        .args(["build", "--bin", "booking"])
        .output();
    expect(&built.map_err(|error| error.to_string())?, 0)?;
    let record = |args: &[&str]| {
        in_fixture(Path::new(env!("CARGO_BIN_EXE_holdup")))
            .current_dir(dir.path())
            .arg("record")
            .args(args)
            .arg("--")
            .arg(target().join("debug/booking"))
            .output()
            .map_err(|error| error.to_string())
    };
    let chosen = ["--cause", "sleep", "--min", "10ms", "--thread", "tokio"];
    let files = ["-f", "ndjson", "-o", "a.json", "-o", "a.holdup"];
    let output = record(&[&chosen[..], &files[..]].concat())?;
    expect(&output, 0)?;
    let mut waits = 0;
    // The program's own line is among them.
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in lines.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if line["type"] != "wait" {
            continue;
        }
        waits += 1;
        if line["cause"] != "sleep" || line["blocked_ns"].as_u64() < Some(10_000_000) {
            return Err(line.to_string());
        }
    }
    if waits < 25 {
        return Err(format!("{waits} of 30 waits: {}", said(&output)));
    }
    let read = |name: &str| std::fs::read(dir.path().join(name)).map_err(|error| error.to_string());
    let report: Value = serde_json::from_slice(&read("a.json")?).map_err(|e| e.to_string())?;
    names_the_call(&report)?;
    let sites = report["sites"].as_array().ok_or("no sites")?;
    if sites.len() != 1 || report["filter"]["cause"][0] != "sleep" {
        return Err(format!(
            "{} sites, filter {}",
            sites.len(),
            report["filter"]
        ));
    }
    let whole = in_fixture(Path::new(env!("CARGO_BIN_EXE_holdup")))
        .args(["report", "-f", "json"])
        .arg(dir.path().join("a.holdup"))
        .output();
    let whole = whole.map_err(|error| error.to_string())?;
    let whole: Value = serde_json::from_slice(&whole.stdout).map_err(|error| error.to_string())?;
    if whole.get("filter").is_some() || whole["verdict"]["kind"] != report["verdict"]["kind"] {
        return Err(format!("{} and {}", whole["verdict"], report["verdict"]));
    }
    if whole["threads"].as_array().map(Vec::len) <= report["threads"].as_array().map(Vec::len) {
        return Err("no thread was left out".to_owned());
    }
    let output = record(&["--thread", "nobody", "-o", "b.json"])?;
    expect(&output, 0)?;
    match said(&output).contains("nothing in the recording fits: thread nobody") {
        true => Ok(()),
        false => Err(said(&output)),
    }
}
