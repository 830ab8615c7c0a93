//! Targets whose owner wants holdup's memory, its time, its words or its rights. Each is recorded
//! in a control group with a limit, and within a time: the report is there, holds what else there
//! was, and tells what it lacks.
//!
//! Trials that cannot run here are shown as ignored, with the reason; in CI they fail.

#[path = "hostile_support/beside.rs"]
mod beside;
#[path = "hostile_support/capable.rs"]
mod capable;
#[path = "hostile_support/cgroup.rs"]
mod cgroup;
#[path = "support/check.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod check;
#[path = "support/check_modes.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod check_modes;
#[path = "support/fixture.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod fixture;
#[path = "hostile_support/forged.rs"]
mod forged;
#[path = "hostile_support/honest.rs"]
mod honest;
mod hostile_support;
#[path = "support/live_recording.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod live_recording;
#[path = "hostile_support/neighbours.rs"]
mod neighbours;
#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[path = "support/record.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod record;
#[path = "support/report.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod report;
#[path = "hostile_support/signals.rs"]
mod signals;
#[path = "hostile_support/squatters.rs"]
mod squatters;
#[path = "hostile_support/sudo.rs"]
mod sudo;
#[path = "hostile_support/targets.rs"]
mod targets;
#[path = "hostile_support/told.rs"]
mod told;
#[path = "support/truth.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod truth;

use cgroup::Cgroup;
use fixture::{Running, Variant};
use libtest_mimic::{Arguments, Failed, Trial};
use live_recording::{Recording, no_complaints};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use told::Told;
use truth::Truth;

/// What holdup may have at most, whatever it records.
const MAX_PEAK: u64 = 400 << 20;
/// What it is asked for: longer than the honest program takes.
const ASKED: Duration = Duration::from_secs(3);
/// How much later than asked it may begin, or end.
const LATE: Duration = Duration::from_secs(2);

type Build = fn(&Path) -> Vec<PathBuf>;

/// An honest program, and what is hostile.
struct Case {
    name: &'static str,
    /// Libraries that it loads.
    build: Build,
    /// A process that is recorded beside it, with its children.
    beside: Option<beside::Start>,
    /// Options of the recording.
    with: &'static [&'static str],
    /// What is lost of the hostile part, and where that has to be said.
    told: &'static [Told],
}

impl Case {
    const fn library(name: &'static str, build: Build, told: &'static [Told]) -> Case {
        Case {
            name,
            build,
            beside: None,
            with: &[],
            told,
        }
    }

    const fn beside(name: &'static str, start: beside::Start, told: &'static [Told]) -> Case {
        Case {
            name,
            build: |_| Vec::new(),
            beside: Some(start),
            with: &["--follow"],
            told,
        }
    }
}

const CASES: &[Case] = &[
    // Constants and symbols that are said to be written to, or executed, are none and are not read. The
    // library has no function that anybody waits in, so that nobody misses its names.
    Case::library(
        "constants_that_are_a_hole",
        targets::hole_in_rodata,
        &[Told::Nothing],
    ),
    Case::library(
        "symbols_that_are_a_hole",
        targets::hole_in_symtab,
        &[Told::Nothing],
    ),
    // Nobody waits in this one either.
    Case::library(
        "a_hole_where_it_is_read",
        targets::honest_hole,
        &[Told::Said("MiB more than may be read of all modules")],
    ),
    // Lines are missing, and names are not.
    Case::library(
        "lines_that_unpack_to_all_memory",
        targets::packed_lines,
        &[
            Told::Said("more than may be unpacked: source lines are missing"),
            Told::Lost("lines_left_out", 4),
            Told::Named("wanted"),
        ],
    ),
    Case::library(
        "lines_that_take_all_memory",
        targets::lines,
        &[
            Told::Said("takes too much memory: source lines are missing"),
            Told::Lost("lines_left_out", 1),
            Told::Named("wanted"),
        ],
    ),
    // What is lost are the ends of names, which show that.
    Case::library(
        "names_that_grow_without_end",
        targets::names,
        &[Told::Named("pair<pair<pair<")],
    ),
    Case::library(
        "names_that_take_long_together",
        targets::dear_names,
        &[
            Told::Said("its names take too long to read"),
            Told::Lost("names_left_out", 1),
        ],
    ),
    Case::library(
        "a_name_with_readings_without_end",
        targets::endless_names,
        &[
            Told::Said("its names take too long to read"),
            Told::Lost("names_left_out", 1),
        ],
    ),
    Case::library(
        "rows_that_take_all_memory",
        targets::rows,
        &[
            Told::Said("more unwinding information than may be read"),
            Told::Lost("rows_full", 1),
        ],
    ),
    // The library has its symbols, and lines of elsewhere are never asked for: nothing is lost.
    Case::library(
        "debug_information_in_a_fifo",
        targets::linked,
        &[Told::Named("wanted")],
    ),
    // The kernel refuses at once to read it, so nothing is given up.
    Case::beside(
        "stacks_in_userfaultfd",
        beside::userfaultfd,
        &[
            Told::Lost("unreadable", beside::STANDING),
            Told::Waits("stand_on"),
        ],
    ),
    Case::beside(
        "stacks_in_fuse",
        beside::fuse,
        &[
            Told::Said("does not answer"),
            Told::Lost("reads_given_up", 1),
            Told::Lost("unreadable", beside::STANDING),
            Told::Waits("stand_on"),
        ],
    ),
    // Some are served in time: how many, the machine decides.
    Case::beside(
        "stacks_that_are_served_slowly",
        beside::slow_fuse,
        &[
            Told::Said("does not answer in time"),
            Told::Lost("reads_given_up", 1),
            Told::Lost("unreadable", 1),
            Told::Waits("stand_on"),
        ],
    ),
    Case {
        with: &["--panics"],
        ..Case::beside(
            "panics_in_a_library_that_is_not_served",
            beside::library_in_fuse,
            &[Told::NoPanics(
                "its file system (fuse) is served by a program",
            )],
        )
    },
    // That they have root's rights hides nothing from root: what is lost of such short lives is lost of
    // others', too.
    Case::beside(
        "setuid_programs",
        beside::setuid_programs,
        &[Told::Ran("/usr/bin/passwd")],
    ),
    Case::beside(
        "forks_without_end",
        beside::forks,
        &[
            Told::Said("places for processes are taken"),
            Told::Lost("processes_left_out", 1),
        ],
    ),
    Case::beside(
        "mappings_without_end",
        beside::churn,
        &[
            Told::Said("mappings more than fit"),
            // All but those that the table has room for.
            Told::Lost("mappings_left_out", 50_000),
        ],
    ),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Recordings side by side would make each other late; whoever asks for it gets it.
    arguments.test_threads.get_or_insert(1);
    let mut trials: Vec<Trial> = CASES.iter().map(trial).collect();
    trials.push(Trial::ignorable_test("a_forged_build_id", || {
        privilege::unless_skipped(privilege::missing_root(), forged::trial)
    }));
    trials.push(Trial::ignorable_test(
        "signals_beside_stalled_memory",
        || privilege::unless_skipped(privilege::missing_root(), signals::trial),
    ));
    trials.push(Trial::ignorable_test("sudo_for_holdup_alone", || {
        let missing = privilege::missing_root().or_else(sudo::missing);
        privilege::unless_skipped(missing, sudo::trial)
    }));
    trials.push(Trial::ignorable_test("file_capabilities", || {
        let missing = privilege::missing_root().or_else(capable::missing);
        privilege::unless_skipped(missing, capable::trial)
    }));
    trials.push(Trial::ignorable_test("processes_of_the_same_name", || {
        privilege::unless_skipped(privilege::missing_root(), squatters::trial)
    }));
    for (name, trial) in [
        (
            "neighbours_of_costly_walks",
            neighbours::trial as fn() -> Result<(), Failed>,
        ),
        (
            "neighbours_on_the_cpu_of_costly_walks",
            neighbours::on_one_cpu,
        ),
        ("neighbours_that_are_recorded", neighbours::handicapped),
    ] {
        trials.push(Trial::ignorable_test(name, move || {
            let missing = privilege::missing_root().or_else(neighbours::missing);
            privilege::unless_skipped(missing, trial)
        }));
    }
    trials.push(Trial::ignorable_test("namespaces_of_its_own", || {
        privilege::unless_skipped(privilege::missing_root(), namespaces)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case) -> Trial {
    Trial::ignorable_test(case.name, || {
        let missing = privilege::missing_root().or_else(Cgroup::missing);
        privilege::unless_skipped(missing, || {
            // What else goes on on the machine may come between two clocks, so what is late once has
            // to be late the second time, too. It counts as flaky where it is not.
            if let Late::Yes(how) = recorded(case)? {
                println!("recorded again, because of: {how}");
                if let Late::Yes(how) = recorded(case)? {
                    return Err(how.into());
                }
            }
            Ok(())
        })
    })
}

/// Whether something was late, and what.
enum Late {
    No,
    Yes(String),
}

/// A recording, and what the honest program did meanwhile.
struct Trace {
    report: Report,
    said: String,
    /// Which is still there.
    fixture: Running,
    truth: Truth,
    stolen_ns: u64,
    peak: u64,
    /// From the start to the beginning, to the last wait of the honest program, and to the end, the
    /// latter two from the beginning.
    began: Duration,
    played: Duration,
    ended: Duration,
}

fn recorded(case: &Case) -> Result<Late, Failed> {
    let trace = trace(case)?;
    let pid = trace.fixture.pid();
    let figures = format!(
        "begun after {:?}, played until {:?}, ended after {:?}, {} MiB",
        trace.began,
        trace.played,
        trace.ended,
        trace.peak >> 20
    );
    let compared = honest::compared(&trace.report, pid, trace.truth, trace.stolen_ns);
    let late = LATE * u32::try_from(truth::slowdown())?;
    if trace.played > ASKED || trace.began > late || trace.ended > ASKED + late {
        return Ok(Late::Yes(figures));
    }
    let mut wrong = compared.waits;
    if trace.peak > MAX_PEAK {
        wrong.push(format!("it took {} MiB", trace.peak >> 20));
    }
    for told in case.told {
        wrong.extend(told.complaint(&trace.report, &trace.said, pid)?);
    }
    if !wrong.is_empty() {
        wrong.push(trace.said);
        return Err(wrong.join("\n").into());
    }
    if !compared.times.is_empty() {
        return Ok(Late::Yes(compared.times.join("; ")));
    }
    println!("{figures}");
    Ok(Late::No)
}

fn trace(case: &Case) -> Result<Trace, Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let libraries = (case.build)(dir.path());
    let preload: Vec<String> = libraries
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut command = Command::new(Variant::DEFAULT.build()?);
    command.arg(honest::MODE).arg(dir.path());
    command.env("LD_PRELOAD", preload.join(":"));
    let mut fixture = Running::start(command)?;
    // Ended when it is dropped.
    let beside = case.beside.map(|start| start(dir.path())).transpose()?;

    let cgroup = Cgroup::new(1 << 30)?;
    let path = dir.path().join("report.json");
    let pid = fixture.pid();
    let mut command = cgroup.command(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(["record", "--color", "never", "-o"])
        .arg(&path)
        .args(["-d", &format!("{}ms", ASKED.as_millis())])
        .args(["-p", &pid.to_string()])
        .args(
            beside
                .iter()
                .flat_map(|other| ["-p".to_owned(), other.id().to_string()]),
        )
        .args(case.with)
        .env_remove("HOLDUP_LOG");
    let asked = Instant::now();
    let (mut holdup, mut messages) = record::spawn_record(&mut command)?;
    let watch = cgroup.watch();
    record::until_recording(&mut messages)?;
    let (beginning, stolen) = (Instant::now(), honest::stolen());
    fixture.go()?;
    let truth = fixture.truth()?;
    let played = beginning.elapsed();
    let status = holdup.wait(record::ATTACHED)?;
    let (began, ended) = (beginning - asked, beginning.elapsed());
    let peak = watch.peak();
    messages.drain(Duration::from_secs(1));
    let said = messages.transcript();
    if !status.success() {
        return Err(format!("holdup ended with {status}; {said}").into());
    }
    Ok(Trace {
        report: Report::parse(&std::fs::read_to_string(&path)?)?,
        said,
        fixture,
        truth,
        stolen_ns: honest::stolen().saturating_sub(stolen),
        peak,
        began,
        played,
        ended,
    })
}

/// A program that is process 1 of its own `/proc`, as another user sees it.
fn namespaces() -> Result<(), Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--mount-proc",
            "--fork",
        ])
        .arg("--kill-child")
        .arg(Variant::DEFAULT.build()?)
        .arg(honest::MODE)
        .arg(dir.path());
    let mut fixture = Running::start(command)?;
    let outer = fixture.pid();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    let pid = children.trim();
    let recording = Recording::start(&["-p", pid])?;
    fixture.go()?;
    let truth = fixture.truth()?;
    let report = recording.stop()?.report;
    no_complaints(honest::compared(&report, pid.parse()?, truth, 0).waits)
}
