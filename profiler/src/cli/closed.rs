//! Whether standard output was closed when the program began (`holdup … >&-`).
//!
//! Before `main`, std puts `/dev/null` in the place of a closed descriptor, and what is written there is lost
//! without an error. Who opened a `/dev/null` cannot be told afterwards, so the descriptor is looked at
//! earlier still, when the loader initialises the program.

use super::error::{Error, Result};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: it asks the kernel for a number, and touches no memory.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    WAS_CLOSED.store(flags == -1, Ordering::Relaxed);
}

// SAFETY: the loader calls the functions of this section, one by one, before any other code of the
// program. This one needs nothing that std has to set up.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Whether there was no standard output.
pub(super) fn was_stdout_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}

/// What writing to it fails with.
pub(super) fn cannot_write() -> io::Result<()> {
    if was_stdout_closed() {
        return Err(io::Error::other("it was closed when holdup began"));
    }
    Ok(())
}

/// Fails where a report would have no place but a standard output that was closed.
///
/// # Errors
/// That, with what to do.
pub(super) fn refuse_without_place(has_files: bool) -> Result<()> {
    if has_files {
        return Ok(());
    }
    cannot_write().map_err(|why| {
        Error::new("the report could be written nowhere: standard output is not there")
            .because(why)
            .hint("write it to a file with -o report.html, or to nowhere with > /dev/null")
    })
}
