//! Throughput of the ping-pong with and without a recorder, in alternating slices.

use super::programs::PingPong;
use super::recorder::{Recorder, offcputime_is_there};
use super::spread::Spread;
use super::{Bench, proc, say};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// Recorders learn the idle waits first; what is measured is the steady state.
const SETTLE: Duration = Duration::from_millis(700);

/// What recording costs a busy server.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    base_per_second: Spread,
    recorded_per_second: Spread,
    /// Recorded against unrecorded.
    ratio: Spread,
    own: Own,
}

/// libbpf-tools' `offcputime -p`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    Measured { ratio: Spread },
    LeftOut { because: String },
}

/// What holdup itself used.
#[derive(Debug, Serialize)]
struct Own {
    /// Of one CPU, 1.0 being all of it.
    cpu_share: Spread,
    resident_bytes: u64,
    seconds_to_recording: Spread,
}

impl Own {
    fn of(slices: &[OwnCosts]) -> Own {
        let spread =
            |value: fn(&OwnCosts) -> f64| Spread::of(&slices.iter().map(value).collect::<Vec<_>>());
        Own {
            cpu_share: spread(|own| own.cpu_share),
            resident_bytes: slices
                .iter()
                .map(|own| own.resident)
                .max()
                .unwrap_or_default(),
            seconds_to_recording: spread(|own| own.ready_after.as_secs_f64()),
        }
    }
}

impl Throughput {
    /// Beside what the tool of comparison costs.
    pub(super) fn write(&self, peer: Option<&Peer>, out: &mut impl Write) -> io::Result<()> {
        Spread::write_head(out, "throughput")?;
        self.base_per_second
            .write(out, "round trips/s, unrecorded", 0)?;
        self.recorded_per_second
            .write(out, "round trips/s, under holdup", 0)?;
        self.ratio.write(out, "ratio under holdup", 3)?;
        match peer {
            Some(Peer::Measured { ratio }) => {
                ratio.write(out, "ratio under offcputime -p", 3)?;
                let (own, peer) = (1.0 - self.ratio.median, 1.0 - ratio.median);
                if peer > 0.0 {
                    let name = "loss against offcputime's";
                    writeln!(out, "{name:34} {:>10.2}", own / peer)?;
                }
            }
            Some(Peer::LeftOut { because }) => writeln!(out, "offcputime left out: {because}")?,
            None => (),
        }
        let own = &self.own;
        let percent = own.cpu_share.times(100.0);
        percent.write(out, "holdup's own CPU, % of one", 2)?;
        own.seconds_to_recording
            .write(out, "s from start to recording", 3)?;
        let mib = own.resident_bytes as f64 / f64::from(1 << 20);
        writeln!(out, "{:34} {mib:>10.1}", "holdup's resident MiB")
    }
}

/// holdup's effect and, measured in the same run, offcputime's.
pub(super) fn measure(bench: &Bench, rounds: u16) -> Result<(Throughput, Peer)> {
    let peer_is_there = offcputime_is_there();
    if let Err(why) = &peer_is_there {
        say(&format!("offcputime is left out: {why}"));
    }
    let mut pair = PingPong::start(bench)?;
    let server = pair.server.id();

    let mut bases = vec![pair.slice(bench.slice)?];
    let mut recorded = Vec::new();
    let mut peers = Vec::new();
    let mut own = Vec::new();
    for round in 1..=rounds {
        let recorder = Recorder::holdup(bench, server)?;
        let (rate, costs) = with_recorder(bench, &mut pair, recorder)?;
        recorded.push(rate);
        own.push(costs);
        bases.push(pair.slice(bench.slice)?);
        if peer_is_there.is_ok() {
            let recorder = Recorder::offcputime(server)?;
            peers.push(with_recorder(bench, &mut pair, recorder)?.0);
            bases.push(pair.slice(bench.slice)?);
        }
        say(&format!(
            "round {round} of {rounds}: {:.0} round trips a second without, {rate:.0} with holdup",
            bases.last().copied().unwrap_or_default()
        ));
    }

    // In the order of their slices: base, holdup, base, (offcputime, base,) holdup, …
    let stride = if peers.is_empty() { 1 } else { 2 };
    let throughput = Throughput {
        base_per_second: Spread::of(&bases),
        recorded_per_second: Spread::of(&recorded),
        ratio: Spread::of(&ratios(&bases, &recorded, 0, stride)),
        own: Own::of(&own),
    };
    let peer = match peer_is_there {
        Ok(()) => Peer::Measured {
            ratio: Spread::of(&ratios(&bases, &peers, 1, stride)),
        },
        Err(why) => Peer::LeftOut {
            because: format!("{why:#}"),
        },
    };
    Ok((throughput, peer))
}

/// Each slice against the mean of the unrecorded ones right before and after it: a drift of the
/// machine's speed cancels out.
fn ratios(bases: &[f64], slices: &[f64], first: usize, stride: usize) -> Vec<f64> {
    let neighbours = bases.windows(2).skip(first).step_by(stride);
    neighbours
        .zip(slices)
        .map(|(around, slice)| slice / (around.iter().sum::<f64>() / 2.0))
        .collect()
}

/// What a recorder used itself during one slice.
#[derive(Clone, Copy, Debug)]
struct OwnCosts {
    cpu_share: f64,
    resident: u64,
    ready_after: Duration,
}

fn with_recorder(
    bench: &Bench,
    pair: &mut PingPong,
    recorder: Recorder,
) -> Result<(f64, OwnCosts)> {
    pair.begin_slice(SETTLE)?;
    pair.end_slice(SETTLE)?;
    let before = (proc::cpu_time(recorder.pid())?, std::time::Instant::now());
    let rate = pair.slice(bench.slice)?;
    let used = proc::cpu_time(recorder.pid())?.saturating_sub(before.0);
    let costs = OwnCosts {
        cpu_share: used.as_secs_f64() / before.1.elapsed().as_secs_f64(),
        resident: proc::resident(recorder.pid())?,
        ready_after: recorder.ready_after,
    };
    recorder.stop()?;
    Ok((rate, costs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_held_against_its_own_neighbours() {
        let drifting = [100.0, 80.0, 60.0, 40.0, 20.0];
        // 0.9 of what the machine could do at the time, in all slices.
        assert_eq!(ratios(&drifting, &[81.0, 63.0, 45.0, 27.0], 0, 1), [0.9; 4]);
        let (holdup, peer) = ([81.0, 45.0], [35.0, 15.0]);
        assert_eq!(ratios(&drifting, &holdup, 0, 2), [0.9; 2]);
        assert_eq!(ratios(&drifting, &peer, 1, 2), [0.5; 2]);
    }
}
