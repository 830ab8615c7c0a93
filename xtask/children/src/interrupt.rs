//! Ctrl-C and its kin as a value to look at, so that what was started can be stopped first.

use crate::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first SIGINT, SIGTERM or SIGHUP is a request; the second one of a kind ends
/// this program at once.
///
/// # Errors
/// The kernel refuses the handlers.
pub fn watch() -> io::Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal must not find the flag that it sets itself.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, requested.clone())?;
        signal_hook::flag::register(signal, requested.clone())?;
    }
    Ok(())
}

/// Whether such a signal has come. Never without [`watch`].
#[must_use]
pub fn requested() -> bool {
    REQUESTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// [`requested`] as an error, for `?` in loops that wait.
///
/// # Errors
/// Such a signal has come.
pub fn check() -> Result<()> {
    if requested() {
        return Err(Error::new("interrupted"));
    }
    Ok(())
}
