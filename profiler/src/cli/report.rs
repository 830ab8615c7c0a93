//! `holdup report`.

use super::captured::{self, Captured, HowToRead};
use super::closed;
use super::drawing::Drawing;
use super::error::Result;
use super::exit::Exit;
use super::gate::tell_placeless;
use super::output;
use super::progress::Progress;
use super::record::{no_runtime, tell_left_out};
use super::settings::ReportSettings;
use crate::capture::{End, LateNames};
use crate::counted::counted;
use std::time::SystemTime;

/// Draws a capture.
///
/// # Errors
/// Where it cannot be read, or an output could not be written.
pub(crate) fn report(settings: &ReportSettings, progress: &Progress) -> Result<Exit> {
    closed::refuse_without_place(output::has_files(&settings.outputs))?;
    let mut gate = settings.gate.open()?;
    let how = HowToRead {
        range: settings.range,
        filter: &settings.filter,
        symbols: settings.symbols.as_deref(),
        servers: settings.servers.as_ref(),
        keep: settings.kept(),
        invoker: settings.invoker.as_ref(),
    };
    let Captured {
        mut reports,
        end,
        late,
    } = captured::read(&settings.file, &how)?;
    reports.ask(&mut gate);
    let report = reports.shown();
    if settings.annotates() {
        tell_placeless(&report.conditions, progress);
    }
    if let Some(late) = &late {
        late.remarks.iter().for_each(|remark| progress.say(remark));
        // With servers alone, nobody has asked for anything that a capture with all names lacks.
        if settings.symbols.is_some() || !late.found.is_empty() || !late.missing.is_empty() {
            progress.say(&late_text(late));
        }
    }
    tell_left_out(report, progress);
    let pid = report.target.pid;
    let invoker = settings.invoker.as_ref();
    let time = SystemTime::now();
    let outputs = output::prepare(&settings.outputs, pid, time, settings.force, invoker)?;
    let drawing = Drawing::new(&settings.rendering);
    let written = output::write_all(outputs, drawing.of(report));
    for failure in &written.failures {
        progress.error(failure);
    }
    reports.tell(progress);
    match end {
        End::Complete => {}
        End::Early(why) => progress.say(&format!("the capture ends before the recording: {why}")),
        End::Open => progress.say(
            "the end of the recording is not in the capture: holdup was killed, or is still at work",
        ),
    }
    if !written.files.is_empty() {
        progress.say(&format!("wrote {}", written.files.join(", ")));
    }
    if !written.failures.is_empty() {
        return Ok(Exit::Failure);
    }
    match no_runtime(report) {
        Some(error) => {
            progress.error(&error);
            Ok(Exit::NoRuntime)
        }
        None if gate.passes(&report.conditions, progress) => Ok(Exit::Success),
        None => Ok(Exit::Finding),
    }
}

/// What was named late, and what could not be.
fn late_text(late: &LateNames) -> String {
    let mut text = match late.found.is_empty() {
        true => "no debug file there is of a module in the capture".to_owned(),
        false => {
            let modules: Vec<&str> = late.found.iter().map(String::as_str).collect();
            let frames = counted(late.named, "frame", "frames");
            format!(
                "{frames} named by the debug files of {}",
                modules.join(", ")
            )
        }
    };
    for (module, build_id) in &late.missing {
        text.push_str(&format!("; none has {module}'s build ID {build_id}"));
    }
    text
}
