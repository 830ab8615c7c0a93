//! A program of the same build ID as another, recorded beside it: each keeps its words to itself.

use crate::check::Complaints;
use crate::check_modes::every_wait;
use crate::fixture::{Running, Variant};
use crate::honest;
use crate::live_recording::{Recorded, Recording, no_complaints};
use crate::report::Report;
use crate::truth::{Truth, slowdown};
use libtest_mimic::Failed;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HONEST: &str = "block_by_sleep";
const FORGED: &str = "forged_by_evil";
/// By far longer than a process of a known name takes to be found, and its file to be read.
const JOINS: Duration = Duration::from_secs(1);

/// A process, by the name that is its own.
struct Process {
    pid: u32,
    own: &'static str,
    truth: Truth,
}

/// The two programs in directories of their own, under the same file name.
struct Programs {
    _dir: tempfile::TempDir,
    name: String,
    honest: PathBuf,
    forged: PathBuf,
}

impl Programs {
    fn make() -> Result<Programs, Failed> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        // No other program's.
        let name = format!("twins-{}", std::process::id());
        let built = Variant::DEFAULT.build()?;
        let place = |folder: &str| -> std::io::Result<PathBuf> {
            std::fs::create_dir(dir.path().join(folder))?;
            Ok(dir.path().join(folder).join(&name))
        };
        let (honest, forged) = (place("honest")?, place("forged")?);
        let mut bytes = std::fs::read(&built)?;
        std::fs::write(&honest, &bytes)?;
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, HONEST).collect();
        for at in places {
            bytes[at..at + HONEST.len()].copy_from_slice(FORGED.as_bytes());
        }
        std::fs::write(&forged, bytes)?;
        for program in [&honest, &forged] {
            std::fs::set_permissions(program, std::fs::metadata(&built)?.permissions())?;
        }
        Ok(Programs {
            _dir: dir,
            name,
            honest,
            forged,
        })
    }
}

/// Starts one in its own directory, in which it makes files and sockets.
fn start(program: &Path) -> Result<Running, String> {
    honest::start(program, program.parent().unwrap_or(program))
}

/// Each time with programs of its own: what they made in their directories stays there.
pub(crate) fn trial() -> Result<(), Failed> {
    both_from_the_beginning(&Programs::make()?)?;
    for late in [FORGED, HONEST] {
        one_joins(&Programs::make()?, late)?;
    }
    Ok(())
}

/// The forged one comes first, so that its words are known before the other's are asked for.
fn both_from_the_beginning(programs: &Programs) -> Result<(), Failed> {
    let mut evil = start(&programs.forged)?;
    let mut victim = start(&programs.honest)?;
    let pids = [evil.pid(), victim.pid()].map(|pid| pid.to_string());
    let recording = Recording::start(&["-p", &pids[0], "-p", &pids[1]])?;
    let processes = played(&mut evil, &mut victim)?;
    no_complaints(mixed_up(&recording.stop()?, &processes))
}

/// The one whose word is `late` begins while the other is recorded, and is found by its name.
fn one_joins(programs: &Programs, late: &str) -> Result<(), Failed> {
    let (first, second) = match late {
        FORGED => (&programs.honest, &programs.forged),
        _ => (&programs.forged, &programs.honest),
    };
    let mut first = start(first)?;
    let recording = Recording::start(&["-n", &programs.name])?;
    let mut second = start(second)?;
    std::thread::sleep(JOINS * u32::try_from(slowdown())?);
    let processes = match late {
        FORGED => played(&mut second, &mut first)?,
        _ => played(&mut first, &mut second)?,
    };
    let wrong = mixed_up(&recording.stop()?, &processes).into_iter();
    no_complaints(
        wrong
            .map(|text| format!("{late} is late: {text}"))
            .collect(),
    )
}

/// Both at once, to their ends.
fn played(evil: &mut Running, victim: &mut Running) -> Result<[Process; 2], String> {
    evil.go()?;
    victim.go()?;
    let process = |running: &mut Running, own| -> Result<Process, String> {
        Ok(Process {
            pid: running.pid(),
            own,
            truth: running.truth()?,
        })
    };
    Ok([process(evil, FORGED)?, process(victim, HONEST)?])
}

/// A process without its own word, with the other's, or without some of its waits.
fn mixed_up(recorded: &Recorded, processes: &[Process; 2]) -> Complaints {
    let mut wrong = Complaints::new();
    for process in processes {
        let (pid, own) = (process.pid, process.own);
        let words = words(&recorded.of(pid));
        for name in [HONEST, FORGED] {
            let is_there = words.iter().any(|word| word.contains(name));
            if is_there != (name == own) {
                let has = if is_there { "has" } else { "lacks" };
                wrong.push(format!("process {pid}, of {own}, {has} {name}: {words:?}"));
            }
        }
        // By what it says of itself, which is forged, too.
        if !process.truth.sites.iter().any(|site| site.function == own) {
            wrong.push(format!("process {pid} says nothing of {own}"));
        }
        wrong.extend(every_wait(&recorded.of(pid), &process.truth));
    }
    wrong
}

/// All words of a process that are names of functions: on its stacks, and on those of who woke it.
fn words(report: &Report) -> Vec<String> {
    let mut words = Vec::new();
    for site in &report.sites {
        words.push(site.function.clone());
        words.extend(site.task.clone());
        words.extend(site.file.clone());
        words.extend(site.stack.iter().map(|frame| frame.function.clone()));
        let wakers = site.wakers.iter().filter(|waker| waker.pid == site.pid);
        words.extend(wakers.filter_map(|waker| waker.function.clone()));
    }
    words.sort_unstable();
    words.dedup();
    words
}
