//! What a test takes of the machine.

use std::time::Duration;

/// The most memory that this process has had, in MiB.
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// The CPU time of this thread: others may keep the machine busy.
pub(crate) fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let running = times.split(' ').next().and_then(|time| time.parse().ok());
    Duration::from_nanos(running.expect("nanoseconds"))
}
