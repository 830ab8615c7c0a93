//! All that is known of one site, as the report has it.

use super::page::Page;
use super::sites::details;
use crate::render::Options;
use crate::report::{Report, Site};
use std::io;

/// Writes what the report would say of `site` below its name. It need not be one of the report's.
///
/// # Errors
/// Those of writing to `out`.
pub fn render(
    report: &Report,
    site: &Site,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    details(&mut Page::new(report, options, out), site)
}
