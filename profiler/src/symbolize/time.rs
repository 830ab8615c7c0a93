//! CPU time.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// What other threads have used for this one.
    static CHARGED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What this thread has used, and others for it.
pub(super) fn thread_time() -> Duration {
    let own = time_of(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default();
    own.saturating_add(CHARGED.get())
}

/// Adds what another thread has used for this one.
pub(super) fn charge(time: Duration) {
    CHARGED.set(CHARGED.get().saturating_add(time));
}

/// What a clock of CPU time shows; none where its process is gone.
pub(super) fn time_of(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` outlives the call.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    (read == 0).then(|| Some(Duration::new(seconds.ok()?, nanos.ok()?)))?
}
