//! CPU time.

use std::time::Duration;

/// What this thread has used.
pub(super) fn thread_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
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
