//! What recording costs processes that are not recorded, beside a target whose every walk is as dear
//! as it can be made.
//!
//! The target, holdup's own threads and this test have one CPU, and the neighbour has another. What is
//! compared is so what the kernel does for a recording: its programs at the switches, wakeups and page faults
//! of everybody, and the interrupts and caches that the CPUs share. What holdup takes of a CPU as any other
//! process does is left out.

use crate::beside::{compiled, ready};
use crate::live_recording::{Recorded, Recording, ensure};
use children::{Child, Lines};
use libtest_mimic::Failed;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// What a neighbour has left of its throughput at the least.
const LEAST: f64 = 0.98;
/// The same of one that shares the target's CPU.
const LEAST_BESIDE: f64 = 0.5;
/// The recordings, and what is measured while each goes on. As often it is measured between them.
const RECORDINGS: usize = 4;
const EACH: usize = 3;
/// Copies of a library between which the target's stacks go back and forth.
const COPIES: usize = 48;
/// So many stacks have been walked at the least, in each recording.
const WALKED: u64 = 500;
/// For one measurement, with somebody else's interrupts and an emulated CPU.
const MEASURED: Duration = Duration::from_secs(30);
/// What a recording is told: that no wait is too short for it.
const EVERY_WAIT: [&str; 2] = ["--min-block", "1us"];

/// The first two CPUs that this process may use.
fn cpus() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Some([cpus.next()?, cpus.next()?])
}

/// Why this cannot be tried here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    cpus()
        .is_none()
        .then(|| "a single CPU, which the target and its neighbour would share".into())
}

/// A process that is not recorded.
struct Neighbour {
    child: Child,
    lines: Lines,
}

/// What its work took.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall_ns: u64,
    cpu_ns: u64,
}

impl Neighbour {
    fn start(dir: &Path, cpu: usize) -> Result<Neighbour, Failed> {
        let program = compiled(dir, "neighbour", &["-O1", "-pthread"])?;
        let mut command = Command::new(program);
        command.arg(cpu.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::spawn("the neighbour", &mut command)?;
        let lines = child.stdout()?;
        let mut neighbour = Neighbour { child, lines };
        neighbour
            .lines
            .find("`ready`", MEASURED, |line| line == "ready")?;
        // Its memory is there from then on, and its code in the caches.
        neighbour.work()?;
        Ok(neighbour)
    }

    fn work(&mut self) -> Result<Took, Failed> {
        self.child.write_line("once more")?;
        let line = self.lines.find("what it took", MEASURED, |_| true)?;
        let mut figures = line.split_ascii_whitespace().map(str::parse);
        match (figures.next(), figures.next()) {
            (Some(Ok(wall_ns)), Some(Ok(cpu_ns))) => Ok(Took { wall_ns, cpu_ns }),
            _ => Err(format!("the neighbour says {line:?}").into()),
        }
    }

    fn works(&mut self, times: usize) -> Result<Vec<Took>, Failed> {
        (0..times).map(|_| self.work()).collect()
    }
}

/// Starts a target of the costly kind.
fn target(dir: &Path) -> Result<Child, Failed> {
    let program = compiled(dir, "dear", &["-O1", "-pthread"])?;
    let step = compiled(dir, "step", &["-O1", "-shared", "-fPIC"])?;
    let mut copies = Vec::new();
    for copy in 0..COPIES {
        let path = dir.join(format!("step{copy}.so"));
        std::fs::copy(&step, &path)?;
        copies.push(path.display().to_string());
    }
    ready(
        Command::new(program)
            .arg(copies.join(" "))
            .stdin(Stdio::null()),
    )
}

/// What is left of a neighbour's throughput.
#[derive(Debug)]
struct Left {
    by_wall: Vec<f64>,
    by_cpu: Vec<f64>,
}

impl Left {
    fn of(without: &[Took], with: &[Took]) -> Left {
        let ratios = |of: fn(&Took) -> u64| {
            let pairs = without.iter().zip(with);
            let mut ratios: Vec<f64> = pairs
                .map(|(without, with)| of(without) as f64 / of(with) as f64)
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        };
        Left {
            by_wall: ratios(|took| took.wall_ns),
            by_cpu: ratios(|took| took.cpu_ns),
        }
    }

    /// By the clock, and by CPU time.
    fn medians(&self) -> [f64; 2] {
        [&self.by_wall, &self.by_cpu].map(|sorted| sorted[sorted.len() / 2])
    }
}

/// Measures a neighbour in turn without a recording and with one of another process, which is stopped
/// while a recording begins and ends: they have one CPU.
fn beside(neighbour: &mut Neighbour, target: &Child) -> Result<Left, Failed> {
    let pid = target.id().to_string();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..RECORDINGS {
        without.extend(neighbour.works(EACH)?);
        target.signal(Signal::STOP)?;
        let recording = Recording::start(&[&["-p", &pid], &EVERY_WAIT[..]].concat())?;
        target.signal(Signal::CONT)?;
        with.extend(neighbour.works(EACH)?);
        target.signal(Signal::STOP)?;
        is_costly(&recording.stop()?)?;
        target.signal(Signal::CONT)?;
    }
    Ok(Left::of(&without, &with))
}

/// The same of a neighbour that is recorded itself.
fn recorded(neighbour: &mut Neighbour) -> Result<Left, Failed> {
    let pid = neighbour.child.id().to_string();
    let args = [&["-p", &pid, "--shadow-check", "1"], &EVERY_WAIT[..]].concat();
    let without = neighbour.works(EACH)?;
    let recording = Recording::start(&args)?;
    let with = neighbour.works(EACH)?;
    recording.stop()?;
    Ok(Left::of(&without, &with))
}

/// Real-time priority, for this thread and what it starts from then on: with that of everybody, the target
/// would have as much of its CPU as the machine's other work leaves it.
fn before_all_others() -> Result<(), Failed> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: `priority` outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const priority) } {
        0 => Ok(()),
        _ => Err(format!("SCHED_RR: {}", std::io::Error::last_os_error()).into()),
    }
}

/// Gives this thread, and what it starts from then on, one CPU.
fn give(cpu: usize) -> Result<(), Failed> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Does all of it in a thread that has the first CPU, as what it starts has.
fn on_the_first_cpu(
    trial: impl FnOnce(&Path, usize) -> Result<(), Failed> + Send + 'static,
) -> Result<(), Failed> {
    let [first, second] = cpus().ok_or("a single CPU")?;
    let pinned = move || {
        give(first)?;
        before_all_others()?;
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        trial(dir.path(), second)
    };
    let trial = thread::spawn(pinned);
    trial.join().unwrap_or_else(|_| Err("it panicked".into()))
}

/// A neighbour hardly notices that a costly target is recorded.
pub(crate) fn trial() -> Result<(), Failed> {
    on_the_first_cpu(|dir, second| {
        let target = target(dir)?;
        let mut neighbour = Neighbour::start(dir, second)?;
        let left = beside(&mut neighbour, &target)?;
        println!("{left:.4?}");
        ensure(left.medians().iter().all(|left| *left >= LEAST), || {
            format!("a neighbour has less than {LEAST} of its throughput: {left:.4?}")
        })
    })
}

/// A neighbour on the target's own CPU pays for the target's walks, since the kernel counts what is done at a
/// switch to the thread that comes next: for the part of them that every stack takes, and for no more than a
/// share of the CPU beyond.
pub(crate) fn on_one_cpu() -> Result<(), Failed> {
    on_the_first_cpu(|dir, second| {
        let here = sched_getaffinity(None)?;
        give(second)?;
        let target = target(dir)?;
        sched_setaffinity(None, &here)?;
        let mut neighbour = Neighbour::start(dir, second)?;
        let left = beside(&mut neighbour, &target)?;
        println!("{left:.4?}");
        let [_, by_cpu] = left.medians();
        ensure(by_cpu >= LEAST_BESIDE, || {
            format!("a neighbour has less than {LEAST_BESIDE} of its throughput: {left:.4?}")
        })
    })
}

/// What the neighbour measures shows what is done to it: here it is recorded itself, with a copy of each
/// stack.
pub(crate) fn handicapped() -> Result<(), Failed> {
    on_the_first_cpu(|dir, second| {
        let mut neighbour = Neighbour::start(dir, second)?;
        let left = recorded(&mut neighbour)?;
        println!("{left:.4?}");
        ensure(left.medians().iter().all(|left| *left < LEAST), || {
            format!("a neighbour that is recorded has all of its throughput: {left:.4?}")
        })
    })
}

/// Stacks were walked, and those that were sampled have more frames than are kept.
fn is_costly(recorded: &Recorded) -> Result<(), Failed> {
    let losses = &recorded.report.losses;
    let is_deep = recorded.text.contains("[frames left out]");
    ensure(losses.walked >= WALKED && is_deep, || {
        format!("{losses:?}: {}", recorded.text)
    })
}
