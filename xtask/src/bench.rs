//! `cargo xtask bench`: what recording costs the recorded program, the kernel and the recorder.
//!
//! Throughput is that of a ping-pong over loopback whose two ends share one CPU: it is never
//! idle, parks after every message, and so shows each nanosecond that a switch takes longer. The
//! recorder has another CPU. Slices with and without it alternate, since the speed of a machine
//! drifts. What a switch costs by its kind comes from the kernel's own statistics of its programs;
//! what these take themselves, an empty program tells.

mod attach;
pub(crate) mod beside;
mod bpf;
mod calls;
mod cost;
mod cpus;
mod kinds;
mod proc;
mod programs;
mod recorder;
mod report;
pub mod soak;
mod spread;
pub(crate) use recorder::OFFCPUTIME;
pub(crate) use spread::Spread;
mod throughput;

use crate::artifacts::Artifacts;
use crate::verified::Verified;
use anyhow::{Context as _, Result};
use children::interrupt;
use std::path::PathBuf;
use std::time::Duration;

/// What `cargo xtask bench` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Recorded slices; there is an unrecorded one before and after each.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Length of a slice.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    slice_seconds: u64,

    /// The CPU of the ping-pong [default: the first one].
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,

    /// The CPU of the recorder [default: the next one].
    #[arg(long, value_name = "CPU")]
    recorder_cpu: Option<usize>,

    /// Measure these parts only.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// Measure this program instead of the one that is built here, to compare two.
    #[arg(long, value_name = "FILE")]
    holdup: Option<PathBuf>,

    /// Give the recorder this argument, too; may be given several times.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    recorder_arg: Vec<String>,

    /// Write the results to this file as well, in JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What recording costs a busy server.
    Throughput,
    /// From the start to recording.
    Attach,
    /// In the kernel, a switch of another process.
    Others,
    /// A page fault of another process.
    Faults,
    /// A park, out and in.
    Parks,
    /// A park where threads preempt each other.
    Preempted,
    /// A wait whose stack is walked.
    Captured,
    /// What `--syscalls` costs each system call.
    Calls,
}

/// Builds what is measured, measures it, and prints a table to standard output.
///
/// # Errors
/// A build fails, a program does not do what it should, a recorder cannot record (it needs
/// root), there is only one CPU, or Ctrl-C came.
pub fn run(args: &Args) -> Result<()> {
    interrupt::watch()?;
    let (artifacts, holdup) = match &args.holdup {
        Some(holdup) => (Artifacts::build_release(&["pingpong"])?, holdup.clone()),
        None => {
            let artifacts = Artifacts::build_release(&["profiler", "pingpong"])?;
            let holdup = artifacts.executable("holdup")?.to_owned();
            (artifacts, holdup)
        }
    };
    let cpus = cpus::choose(args.cpu, args.recorder_cpu)?;
    let bench = Bench {
        pingpong: artifacts.executable("pingpong")?.to_owned(),
        holdup,
        cpu: cpus.measured,
        recorder_cpu: cpus.recorder,
        slice: Duration::from_secs(args.slice_seconds),
        recorder_args: args.recorder_arg.clone(),
    };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut results = report::Results::new(&cpus);
    // On all CPUs, as users start it.
    if wanted(Part::Attach) {
        results.attach = Some(attach::measure(&bench, args.rounds)?);
    }
    // Recorders inherit it; the ping-pong moves itself away.
    cpus::pin(cpus.recorder)?;
    if wanted(Part::Throughput) {
        let (recorded, peer) = throughput::measure(&bench, args.rounds)?;
        results.throughput = Some(recorded);
        results.peer = Some(peer);
    }
    if wanted(Part::Calls) {
        results.calls = Some(calls::measure(&bench, args.rounds)?);
    }
    results.costs = cost::measure(&bench, &wanted)?;
    results.verified = Verified::ask(&bench.holdup)?;
    results.write_table(&mut std::io::stdout().lock())?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&results)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What all parts share.
#[derive(Debug)]
struct Bench {
    pingpong: PathBuf,
    holdup: PathBuf,
    /// Where the measured programs run.
    cpu: usize,
    /// Where this program and the recorders run.
    recorder_cpu: usize,
    slice: Duration,
    /// What else the recorder is given.
    recorder_args: Vec<String>,
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
