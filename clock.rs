//! What the kernel says of the calling thread: CPU time, time on the run queue, switches.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The thread's own counters at one moment.
#[derive(Clone, Copy, Default)]
pub struct Counters {
    /// CPU time, up to this very moment.
    pub cpu_ns: u64,
    /// Time spent runnable without a CPU (second field of `schedstat`).
    pub run_delay_ns: u64,
    /// Switches by which the thread went to wait.
    pub voluntary: u64,
    /// Switches by which it was preempted.
    pub involuntary: u64,
}

thread_local! {
    // Kept open, since opening it inside a measured stretch would cost more than reading it.
    static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

impl Counters {
    pub fn now() -> Counters {
        let run_delay_ns = SCHEDSTAT.with(|file| file.as_ref().and_then(run_delay)).unwrap_or(0);
        // SAFETY: rusage is plain data for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live rusage.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
        let mut cpu = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a live timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut cpu) };
        Counters {
            cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            run_delay_ns,
            voluntary: usage.ru_nvcsw as u64,
            involuntary: usage.ru_nivcsw as u64,
        }
    }
}

fn run_delay(file: &File) -> Option<u64> {
    let mut text = [0; 96];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}
