//! A process that was stopped from outside: a state of its own with times, and nobody's fault.

use super::check::{Complaints, ms};
use super::fixture::{Running, Variant};
use super::freezer::{Freezer, Version};
use super::live_recording::{Outcome, Recording, no_complaints};
use super::privilege;
use super::record::Recorded;
use super::report::{Report, Stopped, is_in};
use super::tracer::Tracer;
use super::truth::slowdown;
use libtest_mimic::Trial;
use rustix::process::Signal;
use std::thread;
use std::time::{Duration, SystemTime};

/// For how long the fixture has itself stopped.
const STOPPED: u64 = 700_000_000;
/// One of its sleeps, in which it was stopped once.
const SLEEP: u64 = 200_000_000;

pub(crate) fn by_signal(recorded: &Recorded) -> Complaints {
    let (report, mut complaints) = (&recorded.report, Complaints::new());
    let most = STOPPED + 150_000_000 * slowdown();
    match &report.stopped[..] {
        [held] if held.by == "signal" => {
            let lengths = [held.total_ns, held.longest_ns];
            let is_so = |length: &u64| (STOPPED - 50_000_000..=most).contains(length);
            if held.stops != 1 || !lengths.iter().all(is_so) {
                complaints.push(format!("{held:?}, in truth {} once", ms(STOPPED)));
            }
            // The two workers and the first thread.
            if held.threads < 3 {
                complaints.push(format!("{} threads were stopped", held.threads));
            }
        }
        other => complaints.push(format!("stopped: {other:?}")),
    }
    let states = report
        .runtimes
        .iter()
        .filter_map(|runtime| runtime.states.get("stopped"));
    let in_state: u64 = states.sum();
    if in_state < STOPPED {
        complaints.push(format!(
            "the workers were {} in state stopped",
            ms(in_state)
        ));
    }
    complaints.extend(sleeps(report));
    complaints
}

/// No sleep is longer for a stop in it.
fn sleeps(report: &Report) -> Complaints {
    let mut complaints = Complaints::new();
    let sites = report.sites.iter();
    let sleeps: Vec<_> = sites
        .filter(|site| is_in(&site.function, "block_by_stopped_sleep"))
        .collect();
    if sleeps.is_empty() {
        complaints.push("the sleeps have no site".into());
    }
    for site in sleeps {
        if site.max_ns > SLEEP + 40_000_000 * slowdown() {
            let longest = ms(site.max_ns);
            complaints.push(format!("a sleep of 200 ms was told as one of {longest}"));
        }
    }
    if let Some(poll) = report
        .long_polls
        .iter()
        .find(|poll| poll.longest.length_ns > SLEEP + 40_000_000 * slowdown())
    {
        let longest = ms(poll.longest.length_ns);
        complaints.push(format!("the stop is in a poll of {longest}"));
    }
    complaints
}

/// Who stops a process, and until when.
enum Stopper {
    Signal,
    Debugger,
    /// That of the control groups.
    Freezer(Freezer),
}

/// A process that is held; dropped, it goes on.
enum Held<'a> {
    Signal(&'a Running),
    Debugger(Tracer),
    Freezer(&'a Freezer),
}

impl Stopper {
    /// What the report calls it.
    fn name(&self) -> &'static str {
        match self {
            Stopper::Signal => "signal",
            Stopper::Debugger => "debugger",
            Stopper::Freezer(_) => "freezer",
        }
    }

    /// Of how many threads it is seen at the least.
    fn threads(&self) -> u32 {
        match self {
            Stopper::Freezer(freezer) if freezer.is_of_version_1() => 1,
            // The two workers and the first thread.
            _ => 3,
        }
    }

    fn stop<'a>(&'a self, fixture: &'a Running) -> Result<Held<'a>, String> {
        Ok(match self {
            Stopper::Signal => {
                fixture.signal(Signal::STOP)?;
                Held::Signal(fixture)
            }
            Stopper::Debugger => Held::Debugger(Tracer::attach(fixture.pid())?),
            Stopper::Freezer(freezer) => {
                freezer.freeze(true)?;
                Held::Freezer(freezer)
            }
        })
    }
}

impl Held<'_> {
    fn let_go(self) -> Result<(), String> {
        match self {
            Held::Signal(fixture) => fixture.signal(Signal::CONT),
            Held::Debugger(tracer) => tracer.detach(),
            Held::Freezer(freezer) => freezer.freeze(false),
        }
    }
}

/// One stop as it was.
struct TrueStop {
    /// At the latest.
    begun: SystemTime,
    /// At least and at most.
    length: [Duration; 2],
}

/// For how long the trials stop a process, one stop after another.
const STOPS: [Duration; 2] = [Duration::from_millis(600), Duration::from_millis(150)];
/// So long workers that idle may be blocked: their timers share locks, and who is stopped, or loses
/// the CPU, while it holds one keeps the other waiting. The stops themselves last much longer.
const MOST_BLOCKED: Duration = Duration::from_millis(20);
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(450);

pub(crate) fn trials() -> Vec<Trial> {
    type Stopping = fn(&str) -> Outcome;
    type Missing = fn() -> Option<String>;
    let stoppings: [(&str, Stopping, Missing); 4] = [
        (
            "by_a_signal",
            |mode| stopped(mode, |_| Ok(Stopper::Signal)),
            || None,
        ),
        (
            "by_a_debugger",
            |mode| stopped(mode, |_| Ok(Stopper::Debugger)),
            || None,
        ),
        (
            "by_the_freezer",
            |mode| frozen(mode, Version::V2),
            || Version::V2.missing(),
        ),
        (
            "by_the_freezer_of_version_1",
            |mode| frozen(mode, Version::V1),
            || Version::V1.missing(),
        ),
    ];
    let trials = stoppings.into_iter().flat_map(|(by, stopping, missing)| {
        // The freezer of version 1 leaves a thread that sleeps where it is, without a switch (docs/limits.md).
        let sleeps = (by != "by_the_freezer_of_version_1").then_some("sleeps-on");
        sleeps.into_iter().chain(["idles"]).map(move |mode| {
            Trial::ignorable_test(format!("stops::{by}-{mode}"), move || {
                let missing = privilege::missing().or_else(missing);
                privilege::unless_skipped(missing, || stopping(mode))
            })
        })
    });
    trials.collect()
}

fn frozen(mode: &str, version: Version) -> Outcome {
    stopped(mode, |pid| Ok(Stopper::Freezer(Freezer::of(version, pid)?)))
}

/// Stops a mode of the fixture while it is recorded, and looks at what the report says of that.
fn stopped(mode: &str, stopper: impl FnOnce(u32) -> Result<Stopper, String>) -> Outcome {
    let mut fixture = Variant::DEFAULT.start(mode)?;
    let pid = fixture.pid();
    let stopper = stopper(pid)?;
    let recording = Recording::start(&["-p", &pid.to_string()])?;
    fixture.go()?;
    let mut stops = Vec::new();
    for length in STOPS {
        thread::sleep(PAUSE);
        let asked = SystemTime::now();
        let held = stopper.stop(&fixture)?;
        let begun = SystemTime::now();
        thread::sleep(length);
        let least = begun.elapsed().unwrap_or_default();
        held.let_go()?;
        let most = asked.elapsed().unwrap_or_default();
        stops.push(TrueStop {
            begun,
            length: [least, most],
        });
    }
    fixture.truth()?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    let report = &recorded.report;
    let mut complaints = match &report.stopped[..] {
        [held] if held.by == stopper.name() => told(report, held, &stops, stopper.threads()),
        other => vec![format!("stopped: {other:?}")],
    };
    let sum = format!("stopped from outside {} times, for ", stops.len());
    let text: Vec<&str> = recorded.text.split_whitespace().collect();
    if !text.join(" ").contains(&sum) {
        complaints.push(format!("the text does not say {sum:?}:\n{}", recorded.text));
    }
    if mode == "idles" {
        let blocked = report
            .runtimes
            .iter()
            .filter_map(|of| of.states.get("blocked"));
        let blocked: u64 = blocked.sum();
        if report.verdict.kind != "healthy" || blocked > MOST_BLOCKED.as_nanos() as u64 {
            let kind = &report.verdict.kind;
            complaints.push(format!("{kind}, blocked for {}", ms(blocked)));
        }
    } else {
        complaints.extend(sleeps(report));
    }
    no_complaints(complaints)
}

/// Each stop is told with its times.
fn told(report: &Report, held: &Stopped, stops: &[TrueStop], threads: u32) -> Complaints {
    let mut complaints = Complaints::new();
    let late = 60_000_000 * slowdown();
    let started: Result<jiff::Timestamp, _> = report.started_at.parse();
    let started = match started {
        Ok(time) => time.as_millisecond().unsigned_abs(),
        Err(error) => return vec![format!("{}: {error}", report.started_at)],
    };
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(started);
    let count = stops.len() as u64;
    let sum: u64 = held.first.iter().map(|stop| stop.length_ns).sum();
    let longest = held.first.iter().map(|stop| stop.length_ns).max();
    if (held.stops, held.total_ns, Some(held.longest_ns)) != (count, sum, longest) {
        complaints.push(format!("the sums of {held:?}"));
    }
    for (truth, told) in stops.iter().zip(&held.first) {
        let [least, most] = truth.length.map(|length| length.as_nanos() as u64);
        // The last thread is held a little later than the first.
        if !(least.saturating_sub(10_000_000)..=most + late).contains(&told.length_ns) {
            complaints.push(format!(
                "stopped for {}, in truth {} to {}",
                ms(told.length_ns),
                ms(least),
                ms(most)
            ));
        }
        let begun = truth.begun.duration_since(started).unwrap_or_default();
        let begun = begun.as_nanos() as u64;
        if told.from_ns.abs_diff(begun) > late {
            complaints.push(format!(
                "from {} on, in truth {}",
                ms(told.from_ns),
                ms(begun)
            ));
        }
        if told.threads < threads || told.goes_on {
            complaints.push(format!("{told:?}"));
        }
    }
    complaints
}
