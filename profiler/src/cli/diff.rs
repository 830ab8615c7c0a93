//! `holdup diff`.

use super::captured::{self, HowToRead};
use super::closed;
use super::drawing::Drawing;
use super::error::Result;
use super::exit::Exit;
use super::output;
use super::progress::Progress;
use super::settings::DiffSettings;
use crate::analyze;
use crate::capture::End;
use crate::render::{self, Format};
use crate::report::Keep;
use std::io;
use std::time::SystemTime;

/// Compares two captures.
///
/// # Errors
/// Where one of them cannot be read, or an output could not be written.
pub(crate) fn diff(settings: &DiffSettings, progress: &Progress) -> Result<Exit> {
    closed::refuse_without_place(output::has_files(&settings.outputs))?;
    let invoker = settings.invoker.as_ref();
    let how = HowToRead {
        range: settings.range,
        filter: &settings.filter,
        symbols: None,
        servers: None,
        keep: Keep::NOTHING,
        invoker,
    };
    // Both at once: each is read and summed up for itself.
    let (before, after) = std::thread::scope(|scope| {
        let after = scope.spawn(|| captured::read(&settings.after, &how));
        let before = captured::read(&settings.before, &how);
        let after = after.join();
        (
            before,
            after.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    let (before, after) = (before?, after?);
    let names = [&settings.before, &settings.after].map(|path| path.display().to_string());
    let [before_name, after_name] = &names;
    for (name, captured) in [(before_name, &before), (after_name, &after)] {
        if captured.end != End::Complete {
            progress.say(&format!(
                "{name} is compared as far as it goes: its end is missing"
            ));
        }
    }
    if before.reports.shown().lists_nothing() && after.reports.shown().lists_nothing() {
        after.reports.tell(progress);
    }
    let (before, after) = (before.reports.shown(), after.reports.shown());
    let diff = analyze::diff((before_name, before), (after_name, after), settings.by);
    let pid = after.target.pid;
    let outputs = output::prepare(
        &settings.outputs,
        pid,
        SystemTime::now(),
        settings.force,
        invoker,
    )?;
    let drawing = Drawing::new(&settings.rendering);
    let written = output::write_all(outputs, |format, stdout, out: &mut dyn io::Write| {
        let options = drawing.options(stdout);
        match format {
            Format::Json => render::diff::json(&diff, out),
            Format::Svg => render::diff::svg(before, after, options, out),
            _ => render::diff_text(&diff, (before, after), options, out),
        }
    });
    for failure in &written.failures {
        progress.error(failure);
    }
    if !written.files.is_empty() {
        progress.say(&format!("wrote {}", written.files.join(", ")));
    }
    match written.failures.is_empty() {
        true => Ok(Exit::Success),
        false => Ok(Exit::Failure),
    }
}
