//! Throughput of the ping-pong under any command that records it, for `cargo xtask compare`.

use super::programs::PingPong;
use super::spread::Spread;
use super::{Bench, cpus};
use anyhow::{Result, bail};
use children::{Child, Stream, interrupt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_secs(2);
/// Not every tool says when it has begun: each has this long.
const ATTACH: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(60);

/// Measures each recorder, which makes the command that records the process with this id until it is
/// interrupted, `rounds` times, with a slice without any between two: round trips a second under it
/// against those right before and after it, 1.0 being as many.
pub(crate) fn measure<R: Fn(u32) -> Result<Command>>(
    pingpong: PathBuf,
    rounds: u16,
    recorders: &[R],
) -> Result<Vec<Spread>> {
    let cpus = cpus::choose(None, None)?;
    let bench = Bench {
        pingpong,
        holdup: PathBuf::new(),
        cpu: cpus.measured,
        recorder_cpu: cpus.recorder,
        slice: SLICE,
        recorder_args: Vec::new(),
    };
    // Recorders inherit it; the ping-pong moves itself away.
    cpus::pin(cpus.recorder)?;
    let mut pair = PingPong::start(&bench)?;
    let mut ratios = vec![Vec::new(); recorders.len()];
    let mut before = pair.slice(SLICE)?;
    for _ in 0..rounds {
        for (recorder, ratios) in recorders.iter().zip(&mut ratios) {
            let rate = under(recorder, &mut pair)?;
            let after = pair.slice(SLICE)?;
            ratios.push(rate / ((before + after) / 2.0));
            before = after;
        }
    }
    Ok(ratios.iter().map(|ratios| Spread::of(ratios)).collect())
}

/// Round trips a second while a recorder runs.
fn under(recorder: impl Fn(u32) -> Result<Command>, pair: &mut PingPong) -> Result<f64> {
    let mut command = recorder(pair.server.id())?;
    let mut child = Child::start("the recorder", &mut command, None::<Stream>)?;
    let started = Instant::now();
    while started.elapsed() < ATTACH {
        interrupt::check()?;
        if let Some(status) = child.ended()? {
            bail!(
                "{} ended too early: {status}",
                crate::process::shown(&command)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let rate = pair.slice(SLICE)?;
    child.interrupt()?;
    child.wait(END)?;
    Ok(rate)
}
