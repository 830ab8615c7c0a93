//! `cargo xtask compare`: holdup and other tools on the same demo, under the same load; writes
//! `docs/comparison.md`.
//!
//! A tool that is not installed, or cannot run under this kernel, is listed with the reason. What a tool
//! finds is what its own output names: a function that makes a mistake counts as found if it is anywhere in
//! a stack, so no tool is asked for more than a patient reader could take from it.

mod entry;
mod page;
mod peers;
mod read;

use crate::artifacts::Artifacts;
use crate::bench::{Spread, beside};
use crate::demo::{Service, start_warm_load};
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use children::{Child, interrupt};
use entry::Score;
use peers::{Peer, Place};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For a recording to begin, and to be written.
const SLACK: Duration = Duration::from_secs(60);

/// What `cargo xtask compare` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long each tool records.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=120))]
    seconds: u64,

    /// Slices of the ping-pong under each tool.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Take the programs from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// Where hud is [default: looked for in PATH].
    #[arg(long, value_name = "FILE")]
    hud: Option<PathBuf>,

    /// Write the page here.
    #[arg(long, value_name = "FILE", default_value = "docs/comparison.md")]
    output: PathBuf,
}

/// What was seen of one tool.
struct Seen {
    peer: &'static Peer,
    version: String,
    score: Score,
    /// What it left, in bytes.
    size: u64,
    /// Round trips a second under it against those without: median, least, most.
    throughput: Option<Spread>,
}

/// A tool that was left out, and why.
struct LeftOut {
    peer: &'static Peer,
    because: String,
}

/// Builds the demo, runs each tool on it, and writes the page.
///
/// # Errors
/// A build fails, the demo cannot be started, or Ctrl-C came. A tool that fails is no error: the page
/// says how it failed.
pub fn run(args: &Args) -> Result<()> {
    interrupt::watch()?;
    let names = ["holdup", "claims_api", "claims_load", "pingpong"];
    let artifacts = match &args.programs {
        Some(dir) => Artifacts::in_folder(dir, &names)?,
        None => Artifacts::build_release(&["profiler", "claims_api", "pingpong"])?,
    };
    // Before the ping-pong is given a CPU.
    let conditions = page::Conditions::of(args)?;
    let place = Place {
        holdup: artifacts.executable("holdup")?.to_owned(),
        hud: args.hud.clone(),
        dir: tempfile::tempdir().context("cannot make a temporary folder")?,
        seconds: args.seconds,
    };
    let (mut seen, mut left_out) = (Vec::new(), Vec::new());
    for peer in peers::ALL {
        interrupt::check()?;
        let outcome = place.version(peer).and_then(|version| {
            say(&format!("{} ({version})", peer.name));
            let (score, size) = one(&artifacts, &place, peer)?;
            let throughput = None;
            Ok(Seen {
                peer,
                version,
                score,
                size,
                throughput,
            })
        });
        match outcome {
            Ok(outcome) => {
                say(&format!("  found {:?}", outcome.score.found));
                seen.push(outcome);
            }
            Err(error) => {
                interrupt::check()?;
                say(&format!("  left out: {error:#}"));
                left_out.push(LeftOut {
                    peer,
                    because: format!("{error:#}"),
                });
            }
        }
    }
    if !seen.iter().any(|seen| seen.peer.is_ours()) {
        bail!("holdup itself did not record; this needs root");
    }
    measure_cost(&artifacts, &place, args, &mut seen)?;
    let output = paths::root().join(&args.output);
    let text = page::page(&seen, &left_out, &conditions);
    std::fs::write(&output, text).with_context(|| format!("cannot write {}", output.display()))?;
    say(&format!("written: {}", output.display()));
    Ok(())
}

fn say(what: &str) {
    eprintln!("compare: {what}");
}

/// Starts the demo, loads it, records it by one tool, and reads what that says.
fn one(artifacts: &Artifacts, place: &Place, peer: &'static Peer) -> Result<(Score, u64)> {
    let service = Service::start(artifacts, &[])?;
    let mut load = start_warm_load(artifacts, &service.addr, "all")?;
    let pid = service.child.id();
    let mut command = place.recorder(peer, pid)?;
    let status = run_to_end(
        peer.name,
        &mut command,
        Duration::from_secs(place.seconds) + SLACK,
    )?;
    load.signal(Signal::TERM)?;
    load.wait(SLACK)?;
    every_mistake_was_asked_for(&load.remaining_lines())?;
    // perf passes on how its command ended, and hud is ended by its own time.
    let entries = place
        .entries(peer, pid)
        .with_context(|| format!("it ended with {status}"))?;
    Ok((Score::of(&entries), place.size(peer)))
}

fn run_to_end(
    name: &str,
    command: &mut Command,
    within: Duration,
) -> Result<std::process::ExitStatus> {
    let mut child = Child::start_in_foreground(name, command)?;
    child
        .wait(within)
        .with_context(|| format!("the command was\n  {}", process::shown(command)))
}

/// What is not asked for cannot be found.
fn every_mistake_was_asked_for(lines: &[String]) -> Result<()> {
    let asked = lines.iter().filter(|line| line.contains(" /v1/"));
    let asked = asked.filter(|line| {
        let requests = line.split_whitespace().nth(2);
        requests
            .and_then(|word| word.parse::<u64>().ok())
            .is_some_and(|requests| requests > 0)
    });
    match asked.count() {
        count if count == entry::MISTAKES.len() => Ok(()),
        count => bail!("only {count} of the mistakes were asked for"),
    }
}

/// The throughput of a ping-pong under each tool that was seen.
fn measure_cost(
    artifacts: &Artifacts,
    place: &Place,
    args: &Args,
    seen: &mut [Seen],
) -> Result<()> {
    let pingpong = artifacts.executable("pingpong")?.to_owned();
    say("the ping-pong under each tool, and without any");
    let recorders = seen
        .iter()
        .map(|seen| move |pid: u32| place.beside(seen.peer, pid));
    let recorders: Vec<_> = recorders.collect();
    let ratios = beside::measure(pingpong, args.rounds, &recorders)?;
    drop(recorders);
    for (seen, ratio) in seen.iter_mut().zip(ratios) {
        seen.throughput = Some(ratio);
    }
    Ok(())
}

/// The size of a file, 0 of one that is not there.
fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_that_nobody_asked_for_is_told() {
        let line = |n: u32, requests: u32| format!("GET  /v1/{n}      {requests}      0    1.0");
        let mut lines: Vec<String> = (0..8).map(|n| line(n, 5)).collect();
        assert!(every_mistake_was_asked_for(&lines).is_ok());
        lines[3] = line(3, 0);
        assert!(every_mistake_was_asked_for(&lines).is_err());
    }
}
