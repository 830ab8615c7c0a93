//! `holdup record`.

use super::capture::{CaptureFile, CaptureSink};
use super::closed;
use super::drawing::Drawing;
use super::early_reports::EarlyReports;
use super::engine::{Recorder, Sink};
use super::error::{Error, Result};
use super::exit::Exit;
use super::gate::{OpenGate, tell_placeless};
use super::interrupt::Stop;
use super::observer::{News, Observer, Wanted};
use super::output::{self, Output, Written};
use super::progress::{Progress, SPIN};
#[cfg(test)]
use super::reports::Reports;
use super::settings::RecordSettings;
use super::stream::Streams;
use super::targets::{self, Chosen};
use crate::analyze::SoFar;
use crate::counted::counted;
use crate::host::Features;
use crate::host::privileges::{self, Keep};
use crate::process::{Launched, Target, status_text};
use crate::recording::Losses;
use crate::render;
use crate::report::{Report, Verdict};
use crate::units::{Nanos, Pid};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Processes named one by one in a message.
const NAMED: usize = 4;

/// How long is recorded after the first stall, where that is waited for.
const AFTER_STALL: Duration = Duration::from_secs(2);

/// How long a command that we started may take to end after we asked it to.
const GRACE: Duration = Duration::from_secs(5);

/// Records, and writes the reports.
///
/// # Errors
/// Where nothing was recorded, or an output could not be written.
pub(crate) fn record<R: Recorder>(
    settings: &RecordSettings,
    features: &Features,
    progress: &Progress,
    stop: Stop,
) -> Result<Exit> {
    closed::refuse_without_place(
        settings.capture.is_some() || output::has_files(&settings.outputs),
    )?;
    let Chosen {
        targets,
        mut launched,
    } = targets::open(&settings.target, settings.invoker.as_ref())?;
    let Some(target) = targets.first().map(Arc::clone) else {
        return Err(Error::new("there is no process to record"));
    };
    let mut gate = settings.gate.open()?;
    let (mut outputs, capture) = prepare(settings, target.pid())?;

    let cannot = |error| Error::new("cannot start tokio").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let keep = rights_to_keep(settings, (&outputs, capture.as_ref()), launched.is_some());
    let mut recorder =
        runtime.block_on(async { R::start(&targets, features, &settings.recording, keep) })?;
    let capture = capture.map(|capture| capture.begin(&recorder.header(), progress));
    let mut capture = capture.transpose()?;
    recorder.keep(settings.kept());
    recorder.filter(&settings.filter);
    let streams = Streams::take(&mut outputs, &settings.rendering, &settings.filter);
    if !streams.are_none() {
        recorder.stream(streams.clone());
    }
    if let Some(launched) = &mut launched {
        launched.release();
    }
    // A command goes on by itself, and what is asked of a recording is answered by its exit code.
    let is_for_readers = outputs.is_empty() && capture.is_none() && launched.is_none();
    let is_for_readers = is_for_readers && gate.asks_nothing();
    let joining = !settings.recording.joining.is_empty();
    let observer = Observer::new(Wanted {
        numbers: progress.has_spinner(),
        until_stall: settings.until_stall,
        lives: joining.then_some(targets.len()),
        report: stop.wants_report(),
    });
    recorder.observe(observer.clone());
    progress.say(&begin_line(&targets, settings.duration, joining));
    let begun = Instant::now();
    let drawing = Drawing::new(&settings.rendering);
    let early = EarlyReports::new(outputs, drawing.clone());
    let end = until_end(settings.duration, stop, progress, &observer, &early);
    let end = async {
        tokio::select! {
            () = end => {}
            () = streams.unread(), if is_for_readers => {
                progress.say("nobody reads standard output any more: the recording ends");
            }
        }
    };
    runtime.block_on(async {
        let ran = recorder.run(end, sink(&mut capture)).await;
        progress.clear();
        ran
    })?;
    let elapsed = begun.elapsed();
    let outputs = early.finish(&runtime, progress);

    let (status, launched) = ended_with(&target, launched);
    let ended = status.map(status_text);
    for line in ends(&targets, ended.as_deref(), elapsed, &observer) {
        progress.say(&line);
    }
    let mut reports = recorder.finish(ended, sink(&mut capture))?;
    reports.ask(&mut gate);
    let failed = settings.fail_with_command && has_failed(status);
    let report = reports.shown();
    tell_left_out(report, progress);
    if settings.annotates() {
        tell_placeless(&report.conditions, progress);
    }
    if let Some(launched) = launched {
        end_command(&target, launched, &runtime, progress);
    }

    let mut written = output::write_all(outputs, drawing.of(report));
    written.add(streams.finish(report));
    if let Some(mut capture) = capture {
        // Last: a disk that hangs keeps no report back.
        written.files.extend(capture.finish());
        written.capture_failed = capture.has_failed();
    }
    reports.tell(progress);
    let exit = conclude(reports.whole(), written, &gate, progress)?;
    Ok(match exit {
        Exit::Success | Exit::Finding | Exit::NoRuntime if failed => Exit::CommandFailed,
        exit => exit,
    })
}

/// What is said of the processes that have ended, unless it was said before. `first` tells how the first
/// one did.
fn ends(
    targets: &[Arc<Target>],
    first: Option<&str>,
    elapsed: Duration,
    observer: &Observer,
) -> Vec<String> {
    let ended = targets.iter().enumerate();
    let ended = ended.filter(|(_, target)| target.ended() && !observer.told_end(target.pid()));
    let line = |(n, target): (usize, &Arc<Target>)| {
        let first = first.filter(|_| n == 0);
        let ended = first.map_or_else(|| status_text(target.exit_status()), str::to_owned);
        end_line(target, &ended, elapsed)
    };
    ended.map(line).collect()
}

/// Opens every file that is to be written.
fn prepare(settings: &RecordSettings, pid: Pid) -> Result<(Vec<Output>, Option<CaptureFile>)> {
    let (time, invoker) = (SystemTime::now(), settings.invoker.as_ref());
    let outputs = output::prepare(&settings.outputs, pid, time, settings.force, invoker)?;
    let capture = settings.capture.as_ref();
    let capture =
        capture.map(|spec| CaptureFile::prepare(spec, pid, time, settings.force, invoker));
    let capture = capture.transpose()?;
    if let Some(file) = capture.as_ref().map(CaptureFile::file)
        && output::any_at(&outputs, file)
    {
        let path = file.path().display();
        return Err(Error::usage(format!("two outputs are called {path}")));
    }
    Ok((outputs, capture))
}

fn sink<'a>(capture: &'a mut Option<CaptureSink<'_>>) -> Option<&'a mut dyn Sink> {
    capture.as_mut().map(|capture| capture as &mut dyn Sink)
}

/// What the rest of the recording needs.
fn rights_to_keep(
    settings: &RecordSettings,
    (outputs, capture): (&[Output], Option<&CaptureFile>),
    launched: bool,
) -> Keep {
    let mut needed = privileges::RECORDING;
    if launched {
        needed |= privileges::ENDING;
    }
    let invoker = settings.invoker.as_ref();
    Keep::least(needed, invoker, || {
        output::can_finish(outputs) && capture.is_none_or(|capture| capture.file().can_commit())
    })
}

/// The line that says that recording goes on; scripts wait for its first word.
fn begin_line(targets: &[Arc<Target>], duration: Option<Duration>, joining: bool) -> String {
    let mut what: Vec<String> = targets
        .iter()
        .take(NAMED)
        .map(|target| format!("{} (pid {})", target.exe_name(), target.pid()))
        .collect();
    if targets.len() > NAMED {
        let more = (targets.len() - NAMED) as u64;
        what.push(counted(more, "more process", "more processes"));
    }
    let mut what = what.join(", ");
    if joining {
        what.push_str(", and new ones as they begin,");
    }
    match duration {
        Some(duration) => format!("recording {what} for {}, Ctrl-C to stop", seconds(duration)),
        None if joining => format!("recording {what} until Ctrl-C"),
        None => format!("recording {what}, Ctrl-C to stop"),
    }
}

pub(super) fn end_line(target: &Target, ended: &str, elapsed: Duration) -> String {
    format!("{} {ended} after {}", target.exe_name(), seconds(elapsed))
}

fn seconds(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if !(1_000_000..600_000_000_000).contains(&nanos) {
        return crate::render::duration(Nanos(nanos));
    }
    let text = format!("{:.3}", duration.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Done when the time is up or somebody asks.
async fn until_end(
    duration: Option<Duration>,
    mut stop: Stop,
    progress: &Progress,
    observer: &Observer,
    early: &EarlyReports,
) {
    let begun = Instant::now();
    let time_is_up = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let spin = async {
        if !progress.has_spinner() {
            return std::future::pending::<()>().await;
        }
        let mut ticks = tokio::time::interval(SPIN);
        for step in 0.. {
            let _ = ticks.tick().await;
            progress.spin(
                step,
                &so_far_text(
                    begun.elapsed(),
                    duration,
                    &observer.so_far(),
                    observer.starved(),
                ),
            );
        }
    };
    let after_a_stall = async {
        loop {
            match observer.news().await {
                News::Stall(length) => {
                    progress.clear();
                    progress.say(&stall_line(length));
                    tokio::time::sleep(AFTER_STALL).await;
                    return;
                }
                News::Lives(lines) => {
                    progress.clear();
                    lines.iter().for_each(|line| progress.say(line));
                }
                News::Report(report) => early.write(*report, progress).await,
            }
        }
    };
    tokio::select! {
        () = time_is_up => {}
        () = stop.requested() => {}
        () = spin => {}
        () = after_a_stall => {}
    }
}

fn stall_line(length: Nanos) -> String {
    let length = render::duration(length);
    let after = counted(AFTER_STALL.as_secs(), "second", "seconds");
    format!("a worker stood still for {length}: the recording ends in {after}")
}

/// `3 s of 5 min · blocked 78 % · starved 1.20 s · worst ask_blocking`.
fn so_far_text(
    elapsed: Duration,
    duration: Option<Duration>,
    so_far: &SoFar,
    starved: Nanos,
) -> String {
    let mut text = whole_seconds(Duration::from_secs(elapsed.as_secs()));
    if let Some(duration) = duration {
        text.push_str(&format!(" of {}", whole_seconds(duration)));
    }
    if let Some((function, _)) = &so_far.worst {
        let name = render::display_name(function);
        let last = name.rsplit("::").next().unwrap_or_default();
        let blocked = render::percent(so_far.blocked_share);
        text.push_str(&format!(" · blocked {blocked}"));
        if starved > Nanos::ZERO {
            text.push_str(&format!(" · starved {}", render::duration(starved)));
        }
        text.push_str(&format!(" · worst {last}"));
    }
    text
}

/// As one would say it: `45 s`, `5 min`, `1 h 30 min`; what is no whole number of seconds as it is.
fn whole_seconds(time: Duration) -> String {
    if time.subsec_nanos() != 0 {
        return render::duration(Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
    }
    let seconds = time.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    if parts.is_empty() {
        return "0 s".into();
    }
    parts.join(" ")
}

/// How the target ended, if it did; and the command, if we started it and it still runs.
pub(super) fn how_it_ended(
    target: &Target,
    launched: Option<Launched>,
) -> (Option<String>, Option<Launched>) {
    let (status, launched) = ended_with(target, launched);
    (status.map(status_text), launched)
}

/// The status with which the target ended, if it did and anybody knows; and the command, likewise.
fn ended_with(
    target: &Target,
    launched: Option<Launched>,
) -> (Option<Option<ExitStatus>>, Option<Launched>) {
    if !target.ended() {
        return (None, launched);
    }
    let status = match launched.map(Launched::wait) {
        Some(Ok(status)) => Some(status),
        _ => target.exit_status(),
    };
    (Some(status), None)
}

/// Whether the command has ended by itself, and not well.
fn has_failed(status: Option<Option<ExitStatus>>) -> bool {
    status.flatten().is_some_and(|status| !status.success())
}

/// Ends a command that we started and that outlived the recording.
pub(super) fn end_command(
    target: &Target,
    launched: Launched,
    runtime: &tokio::runtime::Runtime,
    progress: &Progress,
) {
    let (name, pid) = (target.exe_name(), target.pid());
    let asked = launched.terminate();
    let ended = asked.is_ok()
        && runtime.block_on(async {
            matches!(
                tokio::time::timeout(GRACE, target.until_ended()).await,
                Ok(Ok(()))
            )
        });
    if !ended {
        progress.say(&format!(
            "{name} (pid {pid}) was asked to end and still runs"
        ));
        return;
    }
    match launched.wait() {
        Ok(status) => progress.say(&format!(
            "ended {name} (pid {pid}): {}",
            status_text(Some(status))
        )),
        Err(error) => progress.error(
            &Error::new(format!("cannot learn how {name} (pid {pid}) ended")).because(error),
        ),
    }
}

/// The last words, and the exit.
pub(super) fn conclude(
    report: &Report,
    written: Written,
    gate: &OpenGate,
    progress: &Progress,
) -> Result<Exit> {
    for failure in &written.failures {
        progress.error(failure);
    }
    let exit = if !written.failures.is_empty() || written.capture_failed {
        Exit::Failure
    } else if let Some(error) = no_runtime(report) {
        progress.error(&error);
        Exit::NoRuntime
    } else if gate.passes(&report.conditions, progress) {
        Exit::Success
    } else {
        Exit::Finding
    };
    progress.say(&last_line(&written.files, &report.losses));
    Ok(exit)
}

/// What is said where no process showed a sign of tokio.
pub(super) fn no_runtime(report: &Report) -> Option<Error> {
    let no_sign = match report.verdict {
        Verdict::NoRuntime => true,
        Verdict::NothingSeen => report.targets.iter().all(|t| !t.tokio.present),
        _ => false,
    };
    let target = &report.target;
    let others = match report.targets.len() {
        0 | 1 => String::new(),
        2 => " nor in the other process".into(),
        n => format!(" nor in the {} other processes", n - 1),
    };
    no_sign.then(|| {
        Error::new(format!(
            "no sign of tokio showed in {} (pid {}){others}",
            target.exe, target.pid
        ))
    })
}

/// Says what is in no timeline.
pub(super) fn tell_left_out(report: &Report, progress: &Progress) {
    let left_out = report.detail.as_ref().map(render::export::left_out);
    for said in left_out.into_iter().flatten() {
        progress.say(&said);
    }
}

/// What was written, and what was lost.
fn last_line(files: &[String], losses: &Losses) -> String {
    let lost = losses_text(losses);
    match files {
        [] => lost,
        files => format!("wrote {}; {lost}", files.join(", ")),
    }
}

fn losses_text(losses: &Losses) -> String {
    // Every field by name: a new kind of loss must not be forgotten here.
    let Losses {
        events,
        stacks,
        truncated,
        unresolved,
        unknown_waits,
        timeline,
        objects,
        walked,
        functions_by_code: _,
        stacks_by_frame_pointers: _,
        waits: _,
        summed: _,
        by_cause,
        shadow,
        samples,
        calls,
        mistaken_parks,
    } = *losses;
    let differing = shadow.map_or(0, |shadow| shadow.differing);
    let compared = shadow.map_or(0, |shadow| shadow.compared);
    let counted =
        |number: u64, one: &str, many: &str| (number > 0).then(|| counted(number, one, many));
    let lost: Vec<String> = [
        counted(events, "event", "events"),
        counted(stacks, "wait without stack", "waits without stack"),
        (truncated > 0).then(|| format!("{truncated} of {walked} stacks truncated")),
        counted(unresolved, "frame unnamed", "frames unnamed"),
        counted(
            unknown_waits,
            "wait of unknown state",
            "waits of unknown state",
        ),
        counted(
            timeline,
            "wait left out of the timeline",
            "waits left out of the timeline",
        ),
        counted(
            objects,
            "wait summed without its object",
            "waits summed without their object",
        ),
        (differing > 0).then(|| format!("{differing} of {compared} stacks unwound twice differ")),
        counted(samples, "sample", "samples"),
        counted(
            calls,
            "long system call or panic",
            "long system calls or panics",
        ),
        counted(mistaken_parks, "park mistaken", "parks mistaken"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if lost.is_empty() {
        // What of the rest there is has its place in the report.
        let all: u64 = by_cause.named().map(|(count, _)| count).sum();
        if all == 0 {
            "nothing lost".into()
        } else {
            format!("{all} lost, see the report")
        }
    } else {
        format!("lost: {}", lost.join(", "))
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
