//! What one event costs in the kernel, by its kind.

use super::programs::{self, PingPong};
use super::recorder::Recorder;
use super::report::{KindCost, ProgramCost};
use super::{Bench, bpf_stats, proc, say};
use crate::interrupt;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// From the begin of the recording until it is in its steady state.
const SETTLE: Duration = Duration::from_secs(1);

/// Counts that are to belong together must be read within this time.
const SNAPSHOT_TIME: Duration = Duration::from_millis(1);
const SNAPSHOT_TRIES: u32 = 1000;

/// All kinds, one after another.
pub(super) fn measure_all(bench: &Bench) -> Result<Vec<KindCost>> {
    let _counting = bpf_stats::Counting::start()?;
    Ok(vec![others(bench)?, parks(bench)?, captured(bench)?])
}

/// Switches of other processes: an idle one is recorded while the ping-pong runs.
fn others(bench: &Bench) -> Result<KindCost> {
    say("cost of other processes' switches");
    let idle = programs::start(bench, "idle")?;
    let mut pair = PingPong::start(bench)?;
    during_ping_pong(
        bench,
        &mut pair,
        idle.id(),
        "other process",
        "switch",
        &proc::switches_of_all,
    )
}

/// Parks: the ping-pong's server is recorded, which parks after every message.
fn parks(bench: &Bench) -> Result<KindCost> {
    say("cost of parks");
    let mut pair = PingPong::start(bench)?;
    let server = pair.server.id();
    let parks = || proc::voluntary_switches(server);
    during_ping_pong(bench, &mut pair, server, "park", "park, out and in", &parks)
}

/// Blocked waits whose stacks have to be unwound: a worker sleeps some 20 calls deep in a poll.
fn captured(bench: &Bench) -> Result<KindCost> {
    say("cost of captured waits");
    let sleeper = programs::start(bench, "sleeper")?;
    let recorder = Recorder::holdup(bench, sleeper.id())?;
    thread::sleep(SETTLE);
    let waits = || proc::voluntary_switches(sleeper.id());
    let cost = between(
        bench,
        &recorder,
        "captured wait",
        "wait, out and in",
        &waits,
    )?;
    recorder.stop()?;
    Ok(cost)
}

fn during_ping_pong(
    bench: &Bench,
    pair: &mut PingPong,
    target: u32,
    kind: &'static str,
    event: &'static str,
    count: &dyn Fn() -> Result<u64>,
) -> Result<KindCost> {
    let recorder = Recorder::holdup(bench, target)?;
    // The messages must go on for a little longer than what is measured of them.
    let whole = SETTLE + bench.slice + Duration::from_secs(1);
    pair.begin_slice(whole)?;
    thread::sleep(SETTLE);
    let cost = between(bench, &recorder, kind, event, count)?;
    pair.end_slice(whole)?;
    recorder.stop()?;
    Ok(cost)
}

/// Counts events, and what the recorder's programs did, for the length of a slice.
fn between(
    bench: &Bench,
    recorder: &Recorder,
    kind: &'static str,
    event: &'static str,
    count: &dyn Fn() -> Result<u64>,
) -> Result<KindCost> {
    let ids = proc::bpf_programs(recorder.pid())?;
    ensure!(!ids.is_empty(), "the recorder holds no eBPF program");
    let snapshot = || {
        for _ in 0..SNAPSHOT_TRIES {
            let (begin, events) = (Instant::now(), count()?);
            let runs = ids.iter().map(|id| Ok((*id, bpf_stats::runs(*id)?)));
            let runs = runs.collect::<Result<BTreeMap<_, _>>>()?;
            // Events go on meanwhile, and more of them if this process has to wait for its CPU.
            if begin.elapsed() < SNAPSHOT_TIME {
                return Ok((runs, events));
            }
        }
        bail!("CPU {} is too busy to measure on", bench.recorder_cpu)
    };

    let (before, events_before) = snapshot()?;
    let end = Instant::now() + bench.slice;
    while Instant::now() < end {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
    }
    let (after, events_after) = snapshot()?;

    let programs = before.iter().filter_map(|(id, before)| {
        let after = after.get(id)?;
        let runs = after.runs.saturating_sub(before.runs);
        let nanos = after.nanos.saturating_sub(before.nanos);
        (runs > 0).then(|| ProgramCost {
            program: after.name.clone(),
            runs,
            nanos,
        })
    });
    Ok(KindCost {
        kind,
        event,
        events: events_after.saturating_sub(events_before),
        programs: programs.collect(),
    })
}
