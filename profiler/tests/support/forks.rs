//! Forked processes: those of which the kernel side could not tell, those that execute something, and
//! more than are watched at once.

use super::check_modes::every_wait;
use super::fixture::Variant;
use super::live_recording::{Outcome, Recording, WRITTEN, ensure, no_complaints};
use super::privilege;
use super::report::Target;
use super::truth::{Truth, slowdown};
use libtest_mimic::Trial;
use rustix::process::Signal;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(_, fn() -> Outcome); 3] = [
        ("forks::more_than_a_thousand_come_and_go", many),
        ("forks::lost_ones_are_counted", lost),
        ("forks::what_a_child_executes_is_not_its_parents", executed),
    ];
    let trials = trials.into_iter().map(|(name, run)| {
        Trial::ignorable_test(name, move || {
            privilege::unless_skipped(privilege::missing(), run)
        })
    });
    trials.collect()
}

/// A child has its parent's tokio only until it executes another program.
fn executed() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("scenarios")?;
    let pid = fixture.pid().to_string();
    let recording = Recording::start(&["-p", &pid, "--follow"])?;
    fixture.go()?;
    fixture.truth()?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    let targets = recorded.report.targets.iter();
    let sleeps =
        targets.filter(|target| target.cmdline.first().is_some_and(|word| word == "sleep"));
    let with_tokio: Vec<bool> = sleeps.map(|target| target.tokio.present).collect();
    ensure(
        !with_tokio.is_empty() && with_tokio.iter().all(|has| !has),
        || format!("{:?}", recorded.report.targets),
    )
}

/// While nobody takes what the kernel side tells, a small ring buffer is soon full. Every process that
/// was forked is in the report, or counted among those that are not.
fn lost() -> Outcome {
    const CHILDREN: usize = 60;
    let mut fixture = Variant::DEFAULT.start("offspring")?;
    let pid = fixture.pid().to_string();
    let recording = Recording::start_with(&["-p", &pid, "--follow"], |command| {
        command.env("HOLDUP_TEST_LIMITS", "EVENTS=4096");
    })?;
    recording.holdup.signal(Signal::STOP)?;
    let played = fixture.go().and_then(|()| {
        // One line for each child, and one of its own.
        (0..=CHILDREN).try_for_each(|_| fixture.truth().map(drop))
    });
    recording.holdup.signal(Signal::CONT)?;
    played?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    let report = &recorded.report;
    let lost = report.losses.cause("processes_left_out");
    let known = report.targets.len() as u64;
    ensure(lost > 0 && known + lost == CHILDREN as u64 + 1, || {
        format!(
            "{known} processes in the report and {lost} lost of {CHILDREN} and their parent: {:?}",
            report.losses
        )
    })
}

/// Children that come one after another, far more than are watched at once and than have rows here, and
/// only then one that blocks: none of its waits is missing, and each process is a row, summed up in one,
/// or counted as left out.
fn many() -> Outcome {
    const CHILDREN: usize = 1100;
    let dir = tempfile::tempdir()?;
    // All that takes more than three seconds, after which the row of a process that has ended is for others
    // as well; the pause is for the places of those that end last. The last command is a child, too: with
    // something after it no shell becomes it.
    let script = format!(
        "i=0; while [ $i -lt {CHILDREN} ]; do sleep 0.003; i=$((i+1)); done; sleep 2; \
         \"$0\" exit-midway \"$1\"; exit $?"
    );
    let arguments = ["--follow", "--", "sh", "-c", &script];
    let program = Variant::DEFAULT.build()?;
    let mut recording = Recording::start_with(&arguments, |command| {
        command.arg(&program).arg(dir.path());
        command.env("HOLDUP_TEST_LIMITS", "processes=256");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    })?;
    let mut output = recording.holdup.stdout()?;
    let mut input = recording.holdup.stdin()?;
    let ready = output.find("`ready`", WRITTEN, |line| line.starts_with("ready "))?;
    let pid: u32 = ready.trim_start_matches("ready ").parse()?;
    // What is tried here is who is watched, not how soon: reading the tables of a program takes a
    // moment, and on a slow machine the processes before it are still being read.
    thread::sleep(Duration::from_millis(300) * u32::try_from(slowdown())?);
    input.write_all(b"go\n")?;
    let truth = output.find("ground truth", WRITTEN, |line| line.starts_with('{'))?;
    let truth: Truth = serde_json::from_str(&truth)?;
    drop(input);
    let recorded = recording.end()?;
    let report = &recorded.report;
    no_complaints(every_wait(&recorded.of(pid), &truth))?;
    let (rows, summed) = (report.targets.len(), summed_up(&report.targets));
    let left_out = usize::try_from(report.losses.cause("processes_left_out"))?;
    // The shell and its pause are processes as well.
    let all = CHILDREN + 3;
    let watched = rows + summed;
    ensure(watched + left_out == all && summed > 0, || {
        format!("{rows} rows with {summed} more, and {left_out} left out, of {all} processes")
    })?;
    // A shell that forks faster than ended ones are noticed finds no place for some.
    ensure(watched > all / 2, || {
        format!("only {watched} of {all} processes are known")
    })
}

/// How many processes the rows say are summed up in them besides their own.
pub(crate) fn summed_up(rows: &[Target]) -> usize {
    let ends = rows.iter().filter_map(|row| row.ended.as_deref());
    let more = ends.filter_map(|ended| {
        let (_, rest) = ended.split_once(", with ")?;
        rest.split(' ').next()?.parse::<usize>().ok()
    });
    more.sum()
}
