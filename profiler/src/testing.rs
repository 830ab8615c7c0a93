//! For the unit tests.

/// Says why a test, or the rest of it, proves nothing here.
///
/// # Panics
/// In CI, which may not pass over anything.
#[track_caller]
pub(crate) fn skipped(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "cannot be skipped in CI: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// Whether this process is root's; says so if not, as [`skipped`].
#[track_caller]
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("not root; run the tests as root");
    }
    root
}
