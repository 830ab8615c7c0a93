//! `cargo xtask demo --compare`: the demo with its mistakes and repaired, under the same load, side by side.

use super::{RATE, Service, say, start_warm_load};
use crate::artifacts::Artifacts;
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use children::{Child, interrupt};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For what was asked last to be answered, and for a recording to begin and to be written.
const SLACK: Duration = Duration::from_secs(60);

/// What the two are called, how they are started, and what their files are called.
const TEAMS: [Team; 2] = [
    Team {
        name: "with mistakes",
        file: "mistakes",
        args: &[],
    },
    Team {
        name: "repaired",
        file: "repaired",
        args: &["--repaired"],
    },
];

struct Team {
    name: &'static str,
    file: &'static str,
    args: &'static [&'static str],
}

/// The pictures of each, by their endings.
const PICTURES: [&str; 4] = ["html", "svg", "wakers.svg", "wall.svg"];

/// What was seen of one of the two.
struct Seen {
    /// Of the clients: answers a second, and milliseconds.
    answers: f64,
    p50: f64,
    p99: f64,
    health_p99: f64,
    report: Value,
}

/// Records both for `seconds`, prints the table and the diff, and draws pictures into a folder.
///
/// # Errors
/// Something cannot be started or read, or Ctrl-C came.
pub(super) fn run(
    artifacts: &Artifacts,
    recorder: &[PathBuf],
    seconds: u64,
    pictures: Option<&Path>,
) -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let drawn = pictures.unwrap_or(dir.path());
    std::fs::create_dir_all(drawn)
        .with_context(|| format!("cannot make the folder {}", drawn.display()))?;
    let mut seen = Vec::new();
    for team in &TEAMS {
        say(&format!(
            "the service {}, asked {RATE} times a second, recorded for {seconds} s",
            team.name
        ));
        seen.push(one(artifacts, recorder, team, seconds, dir.path())?);
        interrupt::check()?;
    }
    let [mistakes, repaired] = seen.as_slice() else {
        bail!("there are two to compare");
    };
    print!("{}", table(mistakes, repaired));
    println!();
    let holdup = artifacts.executable("holdup")?;
    // By their names alone, which the comparison shows.
    let captures = TEAMS.map(|team| format!("{}.holdup", team.file));
    let mut diff = Command::new(holdup);
    diff.current_dir(dir.path()).arg("diff").args(&captures);
    println!("{}", process::output(&mut diff)?);
    if pictures.is_none() {
        return Ok(());
    }
    let captures = captures.map(|name| dir.path().join(name));
    draw(holdup, &captures, drawn)
}

/// Both as flamegraphs, and what has changed.
fn draw(holdup: &Path, captures: &[PathBuf], folder: &Path) -> Result<()> {
    for (team, capture) in TEAMS.iter().zip(captures) {
        let mut report = Command::new(holdup);
        report.arg("report").arg(capture).arg("--force");
        for ending in PICTURES {
            report
                .arg("-o")
                .arg(folder.join(format!("{}.{ending}", team.file)));
        }
        process::output(&mut report)?;
    }
    let mut diff = Command::new(holdup);
    diff.arg("diff")
        .args(captures)
        .args(["--force", "-o"])
        .arg(folder.join("changed.svg"));
    process::output(&mut diff)?;
    say(&format!("pictures: {}", folder.display()));
    Ok(())
}

/// Starts the service, loads it and records it.
fn one(
    artifacts: &Artifacts,
    recorder: &[PathBuf],
    team: &Team,
    seconds: u64,
    dir: &Path,
) -> Result<Seen> {
    let service = Service::start(artifacts, team.args)?;
    let mut load = start_warm_load(artifacts, &service.addr, "mistakes")?;
    let (program, before) = recorder.split_first().context("nothing records")?;
    let files = ["holdup", "json"].map(|ending| dir.join(format!("{}.{ending}", team.file)));
    let [capture, json] = &files;
    let mut record = Command::new(program);
    record
        .args(before)
        .current_dir(paths::root())
        .args(["record", "--quiet", "-p", &service.child.id().to_string()])
        .args(["-d", &format!("{seconds}s"), "-f", "json", "-o"])
        .arg(capture)
        .arg("-o")
        .arg(json);
    record.stdout(std::process::Stdio::null());
    let mut recording = Child::start_in_foreground("holdup", &mut record)?;
    let status = recording.wait(Duration::from_secs(seconds) + SLACK)?;
    if !status.success() {
        bail!(
            "holdup ended with {status}; the command was\n  {}",
            process::shown(&record)
        );
    }
    load.signal(Signal::TERM)?;
    load.wait(SLACK)?;
    let lines = load.remaining_lines();
    let text = std::fs::read_to_string(json).context("holdup left no report")?;
    let report = serde_json::from_str(&text).context("the report is no JSON")?;
    seen(&lines, report)
}

/// What the clients' lines and the report say.
fn seen(lines: &[String], report: Value) -> Result<Seen> {
    let figures = |name: &str| -> Result<[f64; 2]> {
        let line = lines.iter().find(|line| line.starts_with(name));
        let line = line.with_context(|| format!("the load said nothing of {name}: {lines:?}"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = |from_end: usize| {
            let word = words
                .len()
                .checked_sub(from_end)
                .and_then(|at| words.get(at));
            word.and_then(|word| word.parse::<f64>().ok())
                .with_context(|| format!("no figures: {line}"))
        };
        Ok([figure(3)?, figure(2)?])
    };
    let answers = lines.iter().find_map(|line| {
        let (number, _) = line.split_once(" answers a second")?;
        number.trim().parse().ok()
    });
    let [p50, p99] = figures("all ")?;
    let [_, health_p99] = figures("GET  /health")?;
    Ok(Seen {
        answers: answers.context("the load did not say how much was answered")?,
        p50,
        p99,
        health_p99,
        report,
    })
}

/// The two beside each other.
fn table(mistakes: &Seen, repaired: &Seen) -> String {
    let ms = |ms: f64| match ms {
        ms if ms >= 1_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    type Figure<'a> = (&'static str, &'a dyn Fn(&Seen) -> String);
    let rows: [Figure<'_>; 9] = [
        ("answers a second", &|seen| format!("{:.1}", seen.answers)),
        ("latency, p50", &|seen| ms(seen.p50)),
        ("latency, p99", &|seen| ms(seen.p99)),
        ("latency of /health, p99", &|seen| ms(seen.health_p99)),
        ("CPU, of all", &|seen| {
            percent(seen.report["cpu"]["share"].as_f64().unwrap_or_default())
        }),
        ("CPU time of an answer", &|seen| ms(cpu_of_an_answer(seen))),
        ("workers blocked", &|seen| percent(blocked(&seen.report))),
        ("no task could run", &|seen| percent(starved(&seen.report))),
        ("verdict", &|seen| {
            let kind = seen.report["verdict"]["kind"].as_str().unwrap_or("none");
            kind.to_uppercase().replace('_', " ")
        }),
    ];
    let [left, right] = TEAMS.map(|team| team.name);
    let mut text = format!("{:26}{left:>16}{right:>16}\n", "");
    for (name, figure) in rows {
        let (left, right) = (figure(mistakes), figure(repaired));
        text.push_str(&format!("{name:26}{left:>16}{right:>16}\n"));
    }
    text
}

/// In milliseconds.
fn cpu_of_an_answer(seen: &Seen) -> f64 {
    let running = seen.report["cpu"]["running_ns"]
        .as_f64()
        .unwrap_or_default();
    let length = seen.report["duration_ns"].as_f64().unwrap_or_default();
    if length <= 0.0 || seen.answers <= 0.0 {
        return 0.0;
    }
    running / 1e6 / (length / 1e9 * seen.answers)
}

/// The share of the workers' time in which they were blocked.
fn blocked(report: &Value) -> f64 {
    let runtimes = report["runtimes"].as_array().map_or(&[][..], Vec::as_slice);
    let time = |state: Option<&str>| -> f64 {
        let states = runtimes
            .iter()
            .filter_map(|runtime| runtime["states"].as_object());
        let times = states.flatten();
        let times = times.filter(|(name, _)| state.is_none_or(|state| *name == state));
        let times = times.filter_map(|(_, time)| time.as_f64());
        // The sum of nothing is minus zero.
        times.fold(0.0, |sum, time| sum + time)
    };
    time(Some("blocked")) / time(None).max(1.0)
}

/// The share of the recording in which no task of a runtime could run.
fn starved(report: &Value) -> f64 {
    let runtimes = report["runtimes"].as_array().map_or(&[][..], Vec::as_slice);
    let starved = runtimes
        .iter()
        .filter_map(|runtime| runtime["starved_ns"].as_f64());
    let length = report["duration_ns"].as_f64().unwrap_or_default();
    starved.fold(0.0, f64::max) / length.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_set_beside_each_other() -> Result<()> {
        let lines = |answers: &str, p50: &str| -> Vec<String> {
            [
                "endpoint  requests errors p50 ms p99 ms max ms",
                "GET  /health  900 0  1.10 7.25 9.00",
                &format!("all  of these  700 0 {p50} 2500.00 3000.00"),
                &format!("{answers} answers a second, /health aside"),
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let report = serde_json::json!({
            "duration_ns": 2e9, "verdict": { "kind": "cpu_hog" },
            "cpu": { "share": 0.25, "running_ns": 5e8 },
            "runtimes": [{ "starved_ns": 1e9, "states": { "blocked": 3e9, "idle": 1e9 } }],
        });
        let one = seen(&lines("61.2", "12.0"), report.clone())?;
        let other = seen(&lines("120.0", "0.4"), report)?;
        let text = table(&one, &other);
        let rows: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for row in [
            "answers a second 61.2 120.0",
            "latency, p50 12 ms 0.4 ms",
            "latency, p99 2.50 s 2.50 s",
            "latency of /health, p99 7.2 ms 7.2 ms",
            "CPU, of all 25.0 % 25.0 %",
            "CPU time of an answer 4.1 ms 2.1 ms",
            "workers blocked 75.0 % 75.0 %",
            "no task could run 50.0 % 50.0 %",
            "verdict CPU HOG CPU HOG",
        ] {
            assert!(rows.iter().any(|line| line == row), "{row}: {text}");
        }
        assert!(seen(&[], Value::Null).is_err());
        Ok(())
    }
}
