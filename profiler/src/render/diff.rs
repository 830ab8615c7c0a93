//! Two recordings compared, for programs and as a flamegraph.

use super::flamegraph::settings;
use super::folded::fold;
use super::{Options, duration, sanitize};
use crate::report::Report;
use crate::report::diff::Diff;
use crate::units::Nanos;
use inferno::flamegraph;
use std::collections::BTreeMap;
use std::io;

/// Writes the comparison as JSON, as the JSON report is written.
///
/// # Errors
/// Those of writing to `out`.
pub fn json(diff: &Diff, out: &mut dyn io::Write) -> io::Result<()> {
    super::json::write(diff, out)
}

/// Writes a flamegraph of the second recording, in which red frames have more blocked time than in the
/// first one and blue frames less. Both are as of recordings of one length.
///
/// # Errors
/// Those of writing to `out`.
pub fn svg(
    before: &Report,
    after: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut lines: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (stack, micros) in fold(before, options).lines {
        let micros = scaled(micros, before.duration_ns, after.duration_ns);
        lines.entry(stack).or_default()[0] = micros;
    }
    for (stack, micros) in fold(after, options).lines {
        lines.entry(stack).or_default()[1] = micros;
    }
    // inferno has no frames where nothing is left.
    if lines.values().all(|[_, after]| *after == 0) {
        return super::flamegraph::empty(after, options, TITLE, out);
    }
    let lines: Vec<String> = lines
        .into_iter()
        .map(|(stack, [before, after])| format!("{stack} {before} {after}"))
        .collect();
    let subtitle = format!(
        "{} before, {} after, as if of one length; red has more blocked time than before, blue less",
        recording(before),
        recording(after)
    );
    let mut settings = settings(TITLE, subtitle, options);
    flamegraph::from_lines(&mut settings, lines.iter().map(String::as_str), out)?;
    Ok(())
}

const TITLE: &str = "Blocked time compared";

fn recording(report: &Report) -> String {
    let name = sanitize(report.target.exe_name());
    let filter = report.filter.as_ref().map_or_else(String::new, |filter| {
        format!(" (only {})", sanitize(&filter.to_string()))
    });
    let part = report.part.map_or_else(String::new, |part| {
        format!(" from {}", duration(part.from_ns))
    });
    format!("{name} for {}{part}{filter}", duration(report.duration_ns))
}

/// The time that a recording of another length would have.
fn scaled(micros: u64, own: Nanos, other: Nanos) -> u64 {
    let scaled = u128::from(micros) * u128::from(other.0) / u128::from(own.0.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
