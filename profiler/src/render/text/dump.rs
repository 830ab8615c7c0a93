//! What every thread does just now, on a terminal: the finding first, then whoever is blocked.

mod circles;
mod groups;
mod head;
mod sheet;
mod words;

use self::groups::Grouped;
use self::sheet::Sheet;
use crate::render::Options;
use crate::report::dump::Dump;
use std::io;

/// What of a dump is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// Whole stacks.
    pub stacks: bool,
    /// Also threads that are idle or belong to no runtime, each by itself.
    pub all: bool,
}

/// Writes the finding, circles of threads, the threads of each runtime, the others, and what could
/// not be seen.
///
/// # Errors
/// Those of writing to `out`.
pub fn render(
    dump: &Dump,
    shown: DumpOptions,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut sheet = Sheet::new(dump, shown, options, out);
    head::target(&mut sheet)?;
    head::verdict(&mut sheet)?;
    circles::deadlocks(&mut sheet)?;
    let grouped = Grouped::of(dump);
    for runtime in &dump.runtimes {
        groups::of_runtime(&mut sheet, &grouped, runtime)?;
    }
    groups::elsewhere(&mut sheet, &grouped)?;
    head::unseen(&mut sheet)
}
