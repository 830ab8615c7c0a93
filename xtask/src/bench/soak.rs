//! `cargo xtask soak`: a loaded service recorded for a long time. Memory has to stay flat, the times
//! have to balance, and the recorder must not cost much.

use super::proc;
use super::recorder::says_that_it_records;
use crate::artifacts::Artifacts;
use crate::demo::{Service, start_load};
use anyhow::{Context as _, Result, bail};
use children::interrupt;
use children::{Child, Stream};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `cargo xtask soak` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to record.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
}

const ATTACH: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(120);
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(5);
/// From here on everything has been seen once: stacks, names, the classifier's tables.
const WARM: Duration = Duration::from_secs(30);

/// What the recorder may have resident, and how much of a CPU it may use.
const MOST_RESIDENT: u64 = 150 << 20;
const MOST_CPU: f64 = 0.01;
/// By how much its memory may grow after [`WARM`], in bytes, but for the timeline: that has a
/// bound of its own, in waits.
const MOST_GROWTH: u64 = 8 << 20;
const TIMELINE_WAITS: u64 = 1 << 19;
const TIMELINE_BYTES: u64 = 72;
/// By how much a thread's states may miss its life.
const BOOKS: f64 = 0.001;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    resident: u64,
    maps: u64,
    cpu: Duration,
}

/// Builds the demo service and holdup, records one with the other under load, and prints what it
/// measured to standard output.
///
/// # Errors
/// Something cannot be built, started or recorded (that needs root), Ctrl-C came, or one of the
/// promises was broken; each that was is listed.
pub fn run(args: &Args) -> Result<()> {
    interrupt::watch()?;
    let artifacts = Artifacts::build_release(&["profiler", "claims_api"])?;
    let length = Duration::from_secs(args.minutes * 60);
    let service = Service::start(&artifacts, &[])?;
    let _load = start_load(&artifacts, &service.addr, args.minutes * 60 + 300)?;
    let dir = tempfile::tempdir()?;
    let json = dir.path().join("report.json");
    let mut command = Command::new(artifacts.executable("holdup")?);
    command
        .args(["record", "--shadow-check", "1000", "-p"])
        .arg(service.child.id().to_string())
        .arg("-o")
        .arg(&json)
        .env("NO_COLOR", "1")
        .stdout(Stdio::null());
    let mut holdup = Child::start("holdup", &mut command, Stream::Stderr)?;
    holdup.find_line("line that says that it records", ATTACH, |line| {
        let records = says_that_it_records(line);
        if !records {
            say(line);
        }
        records
    })?;
    let samples = watch(&mut holdup, length)?;
    holdup.signal(Signal::INT)?;
    let status = holdup.wait(END)?;
    let said = holdup.remaining_lines().join("\n");
    if !status.success() {
        bail!("holdup ended with {status}: {said}");
    }
    say(&said);
    let report = std::fs::read_to_string(&json)
        .with_context(|| format!("cannot read {}", json.display()))?;
    let report: Value = serde_json::from_str(&report).context("the report is no JSON")?;
    let (text, broken) = judge(&samples, &report);
    print!("{text}");
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("{}", broken.join("\n       "))
    }
}

fn say(what: &str) {
    eprintln!("soak: {what}");
}

fn watch(holdup: &mut Child, length: Duration) -> Result<Vec<Sample>> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        interrupt::check()?;
        if let Some(status) = holdup.ended()? {
            bail!(
                "holdup ended too early: {status}; {}",
                holdup.remaining_lines().join("\n")
            );
        }
        let sample = Sample {
            at: begun.elapsed(),
            resident: proc::resident(holdup.id())?,
            maps: proc::bpf_map_bytes(holdup.id())?,
            cpu: proc::cpu_time(holdup.id())?,
        };
        if samples.len() % 12 == 0 {
            say(&format!(
                "{:>4} s: {} resident, {} in maps, {:.2} s of CPU time",
                sample.at.as_secs(),
                mib(sample.resident),
                mib(sample.maps),
                sample.cpu.as_secs_f64()
            ));
        }
        samples.push(sample);
        thread::sleep(SAMPLE.min(length.saturating_sub(begun.elapsed())));
    }
    Ok(samples)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What was measured, and which promises were broken.
fn judge(samples: &[Sample], report: &Value) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut broken = Vec::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<34} {value}");
    };
    let warm: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= WARM).collect();
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else {
        return (text, vec!["there are no samples".to_owned()]);
    };
    let most = samples.iter().map(|sample| sample.resident).max();
    let most = most.unwrap_or_default();
    line("resident after 30 s", mib(first.resident));
    line("resident at the end", mib(last.resident));
    line("resident at most", mib(most));
    if most > MOST_RESIDENT {
        broken.push(format!("{} resident", mib(most)));
    }
    let waits = sum(report, "/sites", "waits");
    let timeline = waits.min(TIMELINE_WAITS) * TIMELINE_BYTES;
    line("of it timeline, at most", mib(timeline));
    let growth = last.resident.saturating_sub(first.resident);
    if growth > MOST_GROWTH + timeline {
        broken.push(format!("memory grew by {}", mib(growth)));
    }
    line(
        "kernel memory of the maps",
        format!("{} to {}", mib(first.maps), mib(last.maps)),
    );
    if last.maps > first.maps {
        broken.push(format!("maps grew by {}", mib(last.maps - first.maps)));
    }
    let time = (last.at - first.at).as_secs_f64();
    let share = (last.cpu.saturating_sub(first.cpu)).as_secs_f64() / time.max(1.0);
    line("of one CPU", format!("{:.2} %", 100.0 * share));
    if share > MOST_CPU {
        broken.push(format!("it used {:.2} % of a CPU", 100.0 * share));
    }
    line("waits at sites", waits.to_string());
    accounting(report, &mut line, &mut broken);
    losses(report, &mut line, &mut broken);
    (text, broken)
}

fn sum(report: &Value, list: &str, field: &str) -> u64 {
    let items = report.pointer(list).and_then(Value::as_array);
    let count = |item: &Value| item.get(field).and_then(Value::as_u64);
    items.into_iter().flatten().filter_map(count).sum()
}

fn accounting(report: &Value, line: &mut impl FnMut(&str, String), broken: &mut Vec<String>) {
    let threads = report.get("threads").and_then(Value::as_array);
    let threads = threads.map_or(&[][..], Vec::as_slice);
    let mut worst = 0.0_f64;
    for thread in threads {
        let lived = thread.get("lived_ns").and_then(Value::as_u64).unwrap_or(0);
        let states = thread.get("states").and_then(Value::as_object);
        let states: u64 = states
            .into_iter()
            .flat_map(|states| states.values())
            .filter_map(Value::as_u64)
            .sum();
        worst = worst.max(lived.abs_diff(states) as f64 / lived.max(1) as f64);
    }
    line(
        "accounting",
        format!(
            "{} threads, off by {:.4} % at most",
            threads.len(),
            100.0 * worst
        ),
    );
    if threads.is_empty() || worst > BOOKS {
        broken.push(format!("the times are off by {:.3} %", 100.0 * worst));
    }
}

fn losses(report: &Value, line: &mut impl FnMut(&str, String), broken: &mut Vec<String>) {
    let count = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let causes = report
        .pointer("/losses/by_cause")
        .and_then(Value::as_object);
    let causes: BTreeMap<&str, u64> = causes
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_u64()?)))
        .filter(|(_, value)| *value > 0)
        .collect();
    line("lost", format!("{causes:?}"));
    let (waits, summed) = (count("/losses/waits"), count("/losses/summed"));
    line("finished waits", format!("{waits}, {summed} in sums"));
    let lost = ["aggregate_full", "sums_left_out"];
    let lost: u64 = lost.iter().filter_map(|name| causes.get(name)).sum();
    if waits == 0 || waits != summed + lost {
        broken.push(format!(
            "{waits} waits, but {summed} in sums and {lost} lost"
        ));
    }
    let (compared, differing) = (
        count("/losses/shadow/compared"),
        count("/losses/shadow/differing"),
    );
    line(
        "walks compared with framehop's",
        format!("{compared}, {differing} differ"),
    );
    if differing > 0 {
        broken.push(format!("{differing} walks differ from framehop's"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn samples(resident: [u64; 2], cpu: u64) -> Vec<Sample> {
        let sample = |at, resident, cpu| Sample {
            at: Duration::from_secs(at),
            resident: resident << 20,
            maps: 40 << 20,
            cpu: Duration::from_millis(cpu),
        };
        vec![sample(40, resident[0], 0), sample(140, resident[1], cpu)]
    }

    fn report(states: u64, summed: u64, differing: u64) -> Value {
        json!({
            "threads": [{"lived_ns": 10_000, "states": {"idle": states}}],
            "sites": [{"waits": 100}],
            "losses": {
                "waits": 200,
                "summed": summed,
                "by_cause": {"aggregate_full": 5, "too_deep": 0},
                "shadow": {"compared": 9, "differing": differing}
            }
        })
    }

    fn broken(samples: &[Sample], report: &Value) -> usize {
        judge(samples, report).1.len()
    }

    #[test]
    fn every_promise_can_be_broken() {
        let good = samples([80, 85], 900);
        assert_eq!(broken(&good, &report(10_000, 195, 0)), 0);
        assert_eq!(broken(&good, &report(9_980, 195, 0)), 1, "accounting");
        assert_eq!(broken(&good, &report(10_000, 194, 0)), 1, "sums");
        assert_eq!(broken(&good, &report(10_000, 195, 1)), 1, "walks");
        assert_eq!(broken(&samples([80, 90], 900), &report(10_000, 195, 0)), 1);
        assert_eq!(
            broken(&samples([80, 85], 1_100), &report(10_000, 195, 0)),
            1
        );
        assert_eq!(broken(&samples([148, 151], 1), &report(10_000, 195, 0)), 1);
        assert!(broken(&[], &report(10_000, 195, 0)) > 0);
        assert!(broken(&good, &json!({})) > 0);
    }
}
