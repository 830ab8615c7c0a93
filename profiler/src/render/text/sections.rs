//! The order of the report.

use super::page::Page;
use super::{calls, cpu, footer, header, open, polls, sites, totals, workers};
use crate::render::Options;
use crate::report::Report;
use std::io;

/// Writes the report: verdict, workers, causes and tasks, sites, long polls, system calls, allowed
/// waits, open waits, what ran, panics, losses, notes.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let mut page = Page::new(report, options, out);
    header::target(&mut page)?;
    header::verdict(&mut page)?;
    workers::runtimes(&mut page)?;
    totals::totals(&mut page)?;
    if !options.brief {
        totals::harm(&mut page)?;
    }
    sites::blocked(&mut page)?;
    if options.brief {
        return footer::losses(&mut page);
    }
    polls::long_polls(&mut page)?;
    calls::sites(&mut page)?;
    sites::apart(&mut page)?;
    open::open_waits(&mut page)?;
    cpu::sites(&mut page)?;
    calls::panics(&mut page)?;
    footer::losses(&mut page)?;
    footer::notes(&mut page)
}
