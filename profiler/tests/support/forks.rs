//! Forked processes: those of which the kernel side could not tell, and those that execute something.

use super::fixture::Variant;
use super::live_recording::{Outcome, Recording, ensure};
use super::privilege;
use libtest_mimic::Trial;
use rustix::process::Signal;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(_, fn() -> Outcome); 2] = [
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
