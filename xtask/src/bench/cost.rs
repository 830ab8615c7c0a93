//! What one event costs in the kernel, by its kind.

use super::bpf::Runs;
use super::kinds::{KindCost, ProgramCost};
use super::programs::{self, PingPong};
use super::recorder::Recorder;
use super::{Bench, Part, bpf, cpus, proc, say};
use anyhow::{Result, bail, ensure};
use children::interrupt;
use profiler_common::counter::Counter;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// From the start of the recording until it is in its steady state.
const SETTLE: Duration = Duration::from_secs(1);

/// Counts that are to belong together must be read within this time.
const SNAPSHOT_TIME: Duration = Duration::from_millis(1);
const SNAPSHOT_TRIES: u32 = 1000;

/// The kinds that are wanted, one after another.
pub(super) fn measure(bench: &Bench, wanted: &dyn Fn(Part) -> bool) -> Result<Vec<KindCost>> {
    type Measure = fn(Meter<'_>) -> Result<KindCost>;
    let all: [(Part, Measure); 6] = [
        (Part::Others, others),
        (Part::Faults, other_faults),
        (Part::Parks, parks),
        (Part::Preempted, parks_among_others),
        (Part::Captured, captured),
        (Part::Captured, captured_deep),
    ];
    let _counting = bpf::Counting::start()?;
    let nothing = bpf::Nothing::attach()?;
    let meter = Meter {
        bench,
        nothing: &nothing,
    };
    all.into_iter()
        .filter(|(part, _)| wanted(*part))
        .map(|(_, measure)| measure(meter))
        .collect()
}

/// Switches of other processes: an idle one is recorded while the ping-pong runs.
fn others(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of other processes' switches");
    let idle = programs::start(meter.bench, "idle")?;
    let mut pair = PingPong::start(meter.bench)?;
    let kind = Kind {
        kind: "other process",
        event: "switch",
        count: &proc::switches_of_all,
        programs: SWITCHES,
        also: &[],
    };
    meter.during_ping_pong(&mut pair, idle.id(), &kind)
}

/// Page faults of other processes.
fn other_faults(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of other processes' page faults");
    let idle = programs::start(meter.bench, "idle")?;
    let faulter = programs::start(meter.bench, "faulter")?;
    let faults = || proc::minor_faults(faulter.id());
    let kind = Kind {
        kind: "other process",
        event: "page fault",
        count: &faults,
        programs: &["page_fault_user"],
        also: &[],
    };
    meter.of_process(idle.id(), &kind)
}

/// Parks: the ping-pong's server is recorded, which parks after every message. The kernel is
/// told that neither end is in a hurry ([`cpus::no_preemption`]): so each switch is the start or
/// the end of a park, and each wakeup that of a park or of the client, which is not recorded.
fn parks(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of parks");
    let mut pair = PingPong::start(meter.bench)?;
    for end in [pair.server.id(), pair.client.id()] {
        cpus::no_preemption(end)?;
    }
    parks_of(meter, &mut pair, "park, out and in")
}

/// The same where each end preempts the other one when it is woken: a park comes with a switch
/// to and fro more, which is counted with it.
fn parks_among_others(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of parks with preemptions");
    parks_of(meter, &mut PingPong::start(meter.bench)?, "and preemptions")
}

fn parks_of(meter: Meter<'_>, pair: &mut PingPong, event: &'static str) -> Result<KindCost> {
    let server = pair.server.id();
    let parks = || proc::voluntary_switches(server);
    let kind = Kind {
        kind: "park",
        event,
        count: &parks,
        programs: SWITCHES,
        also: PARKS,
    };
    meter.during_ping_pong(pair, server, &kind)
}

/// Blocked waits whose stacks have to be unwound: a worker sleeps in a poll, about 20 frames deep.
fn captured(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of captured waits");
    sleeper(meter, "captured wait", "1")
}

/// The same with about twice as many frames.
fn captured_deep(meter: Meter<'_>) -> Result<KindCost> {
    say("cost of captured waits with deep stacks");
    sleeper(meter, "captured, deep", "20")
}

/// `depth` are the calls between the task and the sleep; how many frames that makes in all is
/// counted.
fn sleeper(meter: Meter<'_>, kind: &'static str, depth: &str) -> Result<KindCost> {
    let sleeper = programs::start_with(meter.bench, &["sleeper", "--depth", depth])?;
    let waits = || proc::voluntary_switches(sleeper.id());
    let kind = Kind {
        kind,
        event: "out and in",
        count: &waits,
        programs: SWITCHES,
        also: &[Counter::Walks, Counter::Frames],
    };
    meter.of_process(sleeper.id(), &kind)
}

/// What a switch runs, with the wakeup that it takes.
const SWITCHES: &[&str] = &["sched_switch", "sched_waking"];

const PARKS: &[Counter] = &[
    Counter::ParksKnown,
    Counter::SwitchOutRunnable,
    Counter::Walks,
];

/// A kind of event.
struct Kind<'a> {
    kind: &'static str,
    event: &'static str,
    /// How many there have been.
    count: &'a dyn Fn() -> Result<u64>,
    /// The programs that they run.
    programs: &'static [&'static str],
    /// What else to tell of them.
    also: &'static [Counter],
}

/// What measures.
#[derive(Clone, Copy)]
struct Meter<'a> {
    bench: &'a Bench,
    nothing: &'a bpf::Nothing,
}

/// Counts at one time.
struct Snapshot {
    runs: BTreeMap<u32, Runs>,
    nothing: Runs,
    events: u64,
    also: Vec<u64>,
}

impl Meter<'_> {
    fn during_ping_pong(
        self,
        pair: &mut PingPong,
        target: u32,
        kind: &Kind<'_>,
    ) -> Result<KindCost> {
        let recorder = Recorder::holdup(self.bench, target)?;
        // The messages must go on for a little longer than what is measured of them.
        let whole = SETTLE + self.bench.slice + Duration::from_secs(1);
        pair.begin_slice(whole)?;
        thread::sleep(SETTLE);
        let cost = self.between(&recorder, kind)?;
        pair.end_slice(whole)?;
        recorder.stop()?;
        Ok(cost)
    }

    fn of_process(self, target: u32, kind: &Kind<'_>) -> Result<KindCost> {
        let recorder = Recorder::holdup(self.bench, target)?;
        thread::sleep(SETTLE);
        let cost = self.between(&recorder, kind)?;
        recorder.stop()?;
        Ok(cost)
    }

    /// Counts events, and what the recorder's programs did, for the length of a slice.
    fn between(self, recorder: &Recorder, kind: &Kind<'_>) -> Result<KindCost> {
        let ids = proc::bpf_programs(recorder.pid())?;
        ensure!(!ids.is_empty(), "the recorder holds no eBPF program");
        let counters = bpf::Counters::find("COUNTERS", proc::bpf_maps(recorder.pid())?)?;
        let snapshot = || {
            for _ in 0..SNAPSHOT_TRIES {
                let (begin, events) = (Instant::now(), (kind.count)()?);
                let nothing = self.nothing.runs()?;
                let runs = ids.iter().map(|id| Ok((*id, bpf::runs(*id)?)));
                let runs = runs.collect::<Result<_>>()?;
                let also = kind.also.iter().map(|also| counters.get(*also as u32));
                let also = also.collect::<Result<_>>()?;
                // Events go on meanwhile, and more of them if this process has to wait for its CPU.
                if begin.elapsed() < SNAPSHOT_TIME {
                    return Ok(Snapshot {
                        runs,
                        nothing,
                        events,
                        also,
                    });
                }
            }
            bail!("CPU {} is too busy to measure on", self.bench.recorder_cpu)
        };

        let before = snapshot()?;
        let end = Instant::now() + self.bench.slice;
        while Instant::now() < end {
            interrupt::check()?;
            let left = end.saturating_duration_since(Instant::now());
            thread::sleep(Duration::from_millis(20).min(left));
        }
        let after = snapshot()?;

        let programs = before.runs.iter().filter_map(|(id, before)| {
            let cost = since(before, after.runs.get(id)?);
            (cost.runs > 0).then_some(cost)
        });
        let is_own = |cost: &ProgramCost| kind.programs.contains(&cost.program.as_str());
        let (own, meanwhile) = programs.partition(is_own);
        let nothing = since(&before.nothing, &after.nothing);
        let also = before.also.iter().zip(&after.also);
        let also = also.map(|(before, after)| after.saturating_sub(*before));
        Ok(KindCost {
            kind: kind.kind,
            event: kind.event,
            events: after.events.saturating_sub(before.events),
            statistics_nanos: nothing.per_run(),
            programs: own,
            meanwhile,
            also: kind.also.iter().map(|c| c.name()).zip(also).collect(),
        })
    }
}

fn since(before: &Runs, after: &Runs) -> ProgramCost {
    ProgramCost {
        program: after.name.clone(),
        runs: after.runs.saturating_sub(before.runs),
        nanos: after.nanos.saturating_sub(before.nanos),
    }
}
