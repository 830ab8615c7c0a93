//! What was lost, and what would make the next report better.

use super::others::{has_tokio, main_process};
use super::page::Page;
use super::stops;
use super::style::{DIM, GOOD, WARN};
use super::tokio_notes;
use crate::counted::counted;
use crate::render::name::file_name;
use crate::render::{count, duration, percent, sanitize};
use crate::report::Report;
use crate::runtime::State;
use crate::units::Nanos;
use std::io;

const INDENT: usize = 6;

/// What was lost; that nothing was is said too.
pub(super) fn losses(page: &mut Page<'_>) -> io::Result<()> {
    page.blank()?;
    let (parts, causes) = lost(page.report);
    if parts.is_empty() && !causes.is_empty() {
        page.labelled((WARN, "Lost"), INDENT, &causes.join("; "))?;
    } else if parts.is_empty() {
        page.labelled((GOOD, "Lost"), INDENT, &nothing_lost(page.report))?;
    } else {
        page.labelled((WARN, "Lost"), INDENT, &parts.join("; "))?;
        if !causes.is_empty() {
            page.labelled((DIM, "by"), INDENT, &causes.join("; "))?;
        }
    }
    shadow(page)
}

/// That nothing was lost, in words.
pub(in crate::render) fn nothing_lost(report: &Report) -> String {
    format!(
        "nothing: {} unwound, all complete and named",
        counted(report.losses.walked, "stack", "stacks")
    )
}

/// What was lost, by what it means and by what caused it.
pub(in crate::render) fn lost(report: &Report) -> (Vec<String>, Vec<String>) {
    let losses = &report.losses;
    let mut parts = Vec::new();
    if losses.events > 0 {
        parts.push(counted(losses.events, "record", "records"));
    }
    if losses.stacks > 0 {
        let waits = counted(losses.stacks, "wait", "waits");
        parts.push(format!("the stacks of {waits}"));
    }
    if losses.truncated > 0 {
        let share = losses.truncated as f64 / losses.walked.max(losses.truncated) as f64;
        parts.push(format!(
            "the outer frames of {} of {} stacks ({})",
            count(losses.truncated),
            count(losses.walked),
            percent(share)
        ));
    }
    if losses.unresolved > 0 {
        let names = counted(losses.unresolved, "frame", "frames");
        parts.push(format!("the names of {names}"));
    }
    if losses.unknown_waits > 0 {
        let waits = counted(losses.unknown_waits, "wait", "waits");
        parts.push(format!("the state of {waits}"));
    }
    if losses.mistaken_parks > 0 {
        let parks = counted(losses.mistaken_parks, "park", "parks");
        parts.push(format!(
            "{parks} (misidentified, so idle times are not reliable)"
        ));
    }
    if losses.timeline > 0 {
        let waits = counted(losses.timeline, "wait", "waits");
        parts.push(format!("the timeline of {waits} (they are in the sums)"));
    }
    if losses.objects > 0 {
        let waits = counted(losses.objects, "wait", "waits");
        parts.push(format!("the object of {waits}"));
    }
    if losses.samples > 0 {
        parts.push(counted(losses.samples, "sample", "samples"));
    }
    if losses.calls > 0 {
        parts.push(counted(
            losses.calls,
            "long system call or panic",
            "long system calls or panics",
        ));
    }
    if report.clamped_ns > Nanos::ZERO {
        let time = duration(report.clamped_ns);
        parts.push(format!("{time} to clocks that disagree"));
    }
    if let Some(shadow) = losses.shadow.filter(|shadow| shadow.differing > 0) {
        parts.push(format!(
            "the truth of {} of {} stacks unwound twice",
            count(shadow.differing),
            count(shadow.compared)
        ));
    }
    let causes = losses
        .by_cause
        .named()
        .filter(|(number, _)| *number > 0)
        .map(|(number, [one, many])| counted(number, one, many));
    (parts, causes.collect())
}

/// What the shadow check did, where it was asked for.
fn shadow(page: &mut Page<'_>) -> io::Result<()> {
    let Some(shadow) = page.report.losses.shadow else {
        return Ok(());
    };
    let mut text = format!(
        "{} of {} unwound again by framehop, {} differ",
        counted(shadow.compared, "stack", "stacks"),
        count(page.report.losses.walked),
        count(shadow.differing)
    );
    for (number, what) in [
        (shadow.given_up, "that framehop could not finish"),
        (shadow.lost, "whose copy was lost"),
    ] {
        if number > 0 {
            text.push_str(&format!("; {} more {what}", count(number)));
        }
    }
    let style = if shadow.differing > 0 { WARN } else { DIM };
    page.labelled((style, "Check"), INDENT, &text)
}

/// The blocked time of all runtimes, and the part of it that is in no stretch of the timeline.
fn short_waits(report: &Report) -> (Nanos, Nanos) {
    let (mut blocked, mut timed) = (Nanos::ZERO, Nanos::ZERO);
    for runtime in &report.runtimes {
        blocked += runtime
            .states
            .get(&State::Blocked)
            .copied()
            .unwrap_or_default();
        for (workers, time) in (0_u64..).zip(&runtime.blocked_at_once) {
            timed += Nanos(time.0.saturating_mul(workers));
        }
    }
    (blocked, blocked.saturating_sub(timed))
}

/// What the reader should know of the target, and can do about it.
pub(super) fn notes(page: &mut Page<'_>) -> io::Result<()> {
    for note in note_texts(page.report) {
        page.labelled((DIM, "Note"), INDENT, &note)?;
    }
    Ok(())
}

/// The notes, a text each.
pub(in crate::render) fn note_texts(report: &Report) -> Vec<String> {
    let target = main_process(report);
    let mut notes = Vec::new();
    // Of several processes the list at the top says it.
    if let Some(ended) = target.ended.as_ref().filter(|_| report.targets.len() == 1) {
        notes.push(format!(
            "The target ended during the recording: {}.",
            sanitize(ended)
        ));
    }
    let changed = report.targets.iter().filter(|t| !t.earlier.is_empty());
    // What a shell started became another program, too: of those nobody asks.
    for target in changed.filter(|t| report.targets.len() == 1 || has_tokio(report, t)) {
        let names: Vec<&str> = target.earlier.iter().map(|exe| file_name(exe)).collect();
        notes.push(format!(
            "Process {} executed {} before it became {}: what both did is in the sums.",
            target.pid,
            sanitize(&names.join(", then ")),
            sanitize(target.exe_name())
        ));
    }
    notes.extend(report.stopped.iter().map(|held| stops::told(report, held)));
    if !target.has_symbols {
        notes.push(
            "The binary is stripped, so that its functions have no names. Build it without \
             `strip = true` in [profile.release] to see them."
                .to_owned(),
        );
    } else if !target.has_lines {
        notes.push(
            "The binary has no line tables. Add `debug = \"limited\"` to [profile.release], \
             for your own crates at least, to see files, lines and inlined functions."
                .to_owned(),
        );
    }
    if let Some(throttling) = &report.throttling
        && throttling.throttled_periods > 0
    {
        notes.push(format!(
            "The CPU quota of control group {} kept threads from running for {}, in {} of {} \
             periods.",
            sanitize(&throttling.group),
            duration(throttling.throttled_ns),
            count(throttling.throttled_periods),
            count(throttling.periods)
        ));
    }
    notes.extend(tokio_notes::notes(report));
    let (blocked, short) = short_waits(report);
    if short.share_of(blocked) >= 0.01 {
        notes.push(format!(
            "Waits below {}, {} of the blocked time, are in the sums, but not in how many workers \
             were blocked at once.",
            duration(report.min_block_ns),
            percent(short.share_of(blocked))
        ));
    }
    notes
}
