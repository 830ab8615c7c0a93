//! The JSON report, for other programs: schema 1.
//!
//! One object, pretty-printed, its members always in the same order; times are nanoseconds.
//! Members are added without notice, and [`Report::schema`] grows when one goes or changes its
//! meaning. Names are the target's own, unescaped but for what JSON demands.

use super::Options;
use crate::report::Report;
use std::io;

/// Writes the report.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(report: &Report, _: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}
