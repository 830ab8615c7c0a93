//! What is written while a recording goes on: single waits as lines of JSON. They come during it, and
//! are those of the report; other programs' formats have the same time.

use super::fixture::Variant;
use super::privilege;
use super::record::{ATTACHED, until_recording};
use super::report::Report;
use children::Child;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// From the interrupt to the written files.
const WRITTEN: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("streams::lines", || {
            privilege::unless_skipped(privilege::missing(), lines)
        }),
        Trial::ignorable_test("streams::reader_leaves", || {
            privilege::unless_skipped(privilege::missing(), reader_leaves)
        }),
    ]
}

/// `holdup record -f ndjson | head`: without a reader there is nothing left to record for.
fn reader_leaves() -> Result<(), Failed> {
    let mut fixture = Variant::DEFAULT.start("scenarios")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "-p", &fixture.pid().to_string(), "-f", "ndjson"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut holdup = std::process::Command::spawn(&mut command)?;
    let mut reader = BufReader::new(holdup.stdout.take().ok_or("no standard output")?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    drop(reader);
    // Only now there is more to tell.
    fixture.go()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = holdup.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > WRITTEN {
            holdup.kill()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    fixture.finish()?;
    let status = status.ok_or("holdup went on without a reader")?;
    let mut said = String::new();
    let stderr = holdup.stderr.take().ok_or("no standard error")?;
    BufReader::new(stderr).read_to_string(&mut said)?;
    match line.starts_with("{\"type\":\"recording\"")
        && status.success()
        && said.contains("nobody reads")
    {
        true => Ok(()),
        false => Err(format!("{status}: {line}{said}").into()),
    }
}

/// The file is written right after standard output.
fn until_a_wait_is_in(path: &Path) -> Result<(), Failed> {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.contains("\n{\"type\":\"wait\"") && text.ends_with('\n') {
            return Ok(());
        }
        if begun.elapsed() > ATTACHED {
            return Err(format!("the file lags behind: {text}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines() -> Result<(), Failed> {
    let mut fixture = Variant::DEFAULT.start("scenarios")?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "-p", &fixture.pid().to_string(), "-f", "ndjson"])
        .args(["-o".as_ref(), path("r.json").as_os_str()])
        .args(["-o".as_ref(), path("r.trace.json").as_os_str()])
        .args(["-o".as_ref(), path("r.pb.gz").as_os_str()])
        .args(["-o".as_ref(), path("r.ndjson").as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut holdup = Child::spawn("holdup", &mut command)?;
    let (mut messages, mut output) = (holdup.stderr()?, holdup.stdout()?);
    until_recording(&mut messages)?;
    fixture.go()?;
    // Before anybody asks it to end.
    output.find("first line", ATTACHED, |line| {
        line.starts_with("{\"type\":\"recording\"")
    })?;
    output.find("wait", ATTACHED, |line| {
        line.starts_with("{\"type\":\"wait\"")
    })?;
    until_a_wait_is_in(&path("r.ndjson"))?;
    fixture.truth()?;
    holdup.interrupt()?;
    let mut rest = output.drain(WRITTEN);
    let status = holdup.wait(WRITTEN)?;
    messages.drain(Duration::from_secs(1));
    fixture.finish()?;
    if !status.success() {
        return Err(format!("holdup ended with {status}").into());
    }
    let last: Value = serde_json::from_str(&rest.pop().ok_or("no last line")?)?;
    if last["type"] != "end" {
        return Err(format!("the last line is {last}").into());
    }
    let text = output.transcript();
    let of_file = std::fs::read_to_string(path("r.ndjson"))?.lines().count();
    // The transcript has a line of its own before them.
    let of_stdout = text
        .lines()
        .filter(|line| line.trim_start().starts_with('{'))
        .count();
    if of_file != of_stdout {
        return Err(format!("{of_file} lines in the file, {of_stdout} on standard output").into());
    }
    let known: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let report = std::fs::read_to_string(path("r.json"))?;
    let report = Report::parse(&report)?;
    let trace: Value = serde_json::from_slice(&std::fs::read(path("r.trace.json"))?)?;
    if std::fs::read(path("r.pb.gz"))?.get(..2) != Some(&[0x1f, 0x8b]) {
        return Err("the profile is not gzipped".into());
    }
    let events = trace["traceEvents"].as_array().ok_or("no events")?;
    let of_trace = events.iter().map(|event| &event["args"]);
    let of_trace = of_trace.filter(|args| args["state"] == "blocked");
    let of_trace: u64 = of_trace
        .filter_map(|args| args["blocked_ns"].as_u64())
        .sum();
    let mut of_lines: BTreeMap<String, u64> = BTreeMap::new();
    for wait in known
        .iter()
        .filter(|line| line["type"] == "wait" && line["state"] == "blocked")
    {
        let function = wait["function"].as_str().ok_or("no function")?.to_owned();
        *of_lines.entry(function).or_default() += wait["blocked_ns"].as_u64().ok_or("no time")?;
    }
    let mut wrong = Vec::new();
    let mut of_sites: BTreeMap<String, u64> = BTreeMap::new();
    for site in report.sites.iter().filter(|site| site.state == "blocked") {
        *of_sites.entry(site.function.clone()).or_default() += site.total_ns;
    }
    // Waits of less than 100 µs are in the sums only.
    for (function, total) in of_sites.iter().filter(|(_, total)| **total > 20_000_000) {
        let told = of_lines.get(function).copied().unwrap_or(0);
        if told > *total || told < total / 20 * 19 {
            wrong.push(format!(
                "{function}: {told} ns in lines, {total} ns in the report"
            ));
        }
    }
    let told: u64 = of_lines.values().sum();
    if told.abs_diff(of_trace) > told / 100 {
        wrong.push(format!("{told} ns in lines, {of_trace} ns in the trace"));
    }
    if of_sites.len() < 5 {
        wrong.push(format!("only {} sites", of_sites.len()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
