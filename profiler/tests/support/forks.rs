//! Forked processes of which the kernel side could not tell.

use super::fixture::Variant;
use super::live_recording::{Outcome, Recording, ensure};
use super::privilege;
use libtest_mimic::Trial;
use rustix::process::Signal;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "forks::lost_ones_are_counted",
        || privilege::unless_skipped(privilege::missing(), lost),
    )]
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
