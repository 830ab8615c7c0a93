//! The library that reads symbol tables and debug information, as it is used here.

use crate::units::Svma;
use blazesym::symbolize::source::Source;
use blazesym::symbolize::{Input, Sym};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A reader without any file yet. It looks for no file that another one names.
pub(super) fn new_blazesym() -> blazesym::symbolize::Symbolizer {
    blazesym::symbolize::Symbolizer::builder()
        .set_debug_dirs(Some(std::iter::empty::<&std::path::Path>()))
        // The mangled name tells what the demangled one does not: see `v0_crate`.
        .enable_demangling(false)
        // Files are held open and cannot change under their path.
        .enable_auto_reload(false)
        .build()
}

/// Looks `svma` up in one table.
///
/// The tables are the target's file, which may be anything: where the library panics on it (it
/// adds numbers of the file's unchecked, which builds with overflow checks notice), that is one
/// more way for the file to be unreadable.
pub(super) fn find<'a>(
    blazesym: &'a blazesym::symbolize::Symbolizer,
    table: &Source<'_>,
    svma: Svma,
) -> Result<Option<Sym<'a>>, String> {
    // What a lookup leaves half done it does again: its caches hold finished tables only.
    let lookup = AssertUnwindSafe(|| blazesym.symbolize_single(table, Input::VirtOffset(svma.0)));
    match catch_unwind(lookup) {
        Ok(Ok(symbolized)) => Ok(symbolized.into_sym()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("the symbol reader panicked".to_owned()),
    }
}
