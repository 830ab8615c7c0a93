//! C++ names, each within a time.
//!
//! The library's parser tries one reading of a symbol after another. A made-up symbol of a hundred bytes has
//! more of them than can be tried in a year, and the library has no bound for that. So it works in a
//! thread of its own, which is left behind where it takes too long, and ends with holdup at the latest.

use super::limits::{Bounded, MODULE_TIME};
use super::time::{charge, time_of};
use rustix::process::{Pid, setpriority_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

/// CPU time that one name may take. The longest symbols that are read take a few tens of
/// milliseconds.
const MOST: Duration = Duration::from_millis(500);

/// Threads that may be left behind and still at work. Beyond that no C++ symbol is read.
const MOST_LEFT: usize = 4;

/// Between two looks at the CPU time of a thread.
const LOOK: Duration = Duration::from_millis(20);

/// Deeper names than this end the library, and not the thread's stack. Real ones have some dozens.
const MAX_DEPTH: u32 = 128;

/// The stack of a thread that reads one. Only what is used of it is memory.
const STACK: usize = 8 << 20;

/// The nice value of what was left behind.
const LOWEST: i32 = 19;

/// Threads that were left behind and are still at work.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// The name of a symbol; none where it is no C++ symbol, or takes too long. What it took is this
/// thread's CPU time for [`super::time::thread_time`].
pub(super) fn name(symbol: &str) -> Option<String> {
    if LEFT.load(Ordering::Relaxed) >= MOST_LEFT {
        return None;
    }
    let symbol = symbol.to_owned();
    within(MOST, move || read(&symbol)).flatten()
}

/// What the library reads of it.
fn read(symbol: &str) -> Option<String> {
    let symbol = cpp_demangle::Symbol::new(symbol).ok()?;
    let options = cpp_demangle::DemangleOptions::new().recursion_limit(MAX_DEPTH);
    Bounded::written(|out| symbol.structured_demangle(out, &options))
}

/// The end of a thread, also by a panic. Whichever of this and [`leave`] comes second takes a thread that was
/// left behind out of the count.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        if self.0.swap(true, Ordering::AcqRel) {
            LEFT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

enum Message<T> {
    Begun(Pid),
    /// With the CPU time that it took.
    Done(T, Duration),
}

/// What `work` gives; none where it panics, or takes more CPU time than `most`.
fn within<T: Send + 'static>(
    most: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, messages) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let end = End(Arc::clone(&over));
    let run = move || {
        let _end = end;
        let tid = rustix::thread::gettid();
        // Whoever waits for it has not gone, unless it takes too long.
        let _ = sender.send(Message::Begun(tid));
        let done = work();
        let _ = sender.send(Message::Done(done, time_of_thread(tid)));
    };
    let thread = Builder::new().name("holdup-names".into()).stack_size(STACK);
    thread.spawn(run).ok()?;
    let mut tid = None;
    loop {
        match messages.recv_timeout(LOOK) {
            Ok(Message::Begun(begun)) => tid = Some(begun),
            Ok(Message::Done(done, took)) => {
                charge(took);
                return Some(done);
            }
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(tid) = tid.filter(|tid| time_of_thread(*tid) > most) {
                    leave(tid, &over);
                    return None;
                }
            }
        }
    }
}

/// Leaves a thread to itself: whatever has work to do on its CPU goes before it. The module whose name it
/// was has had its time.
fn leave(tid: Pid, over: &AtomicBool) {
    LEFT.fetch_add(1, Ordering::Relaxed);
    if over.swap(true, Ordering::AcqRel) {
        // It has just come to its end.
        LEFT.fetch_sub(1, Ordering::Relaxed);
    }
    if let Err(error) = setpriority_process(Some(tid), LOWEST) {
        tracing::debug!("the thread that reads a name keeps its priority: {error}");
    }
    charge(MODULE_TIME);
}

/// CPU time of a thread of this process.
fn time_of_thread(tid: Pid) -> Duration {
    // `MAKE_THREAD_CPUCLOCK` of the kernel's `include/linux/posix-timers_types.h`, of the scheduler's kind.
    let clock = (!tid.as_raw_pid() << 3) | 0b110;
    time_of(clock).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::time::thread_time;
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_it_took_is_charged() {
        let before = thread_time();
        let busy = || {
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(60) {}
            7
        };
        assert_eq!(within(MOST, busy), Some(7));
        assert!(thread_time() - before >= Duration::from_millis(60));
        assert_eq!(within(MOST, || -> u32 { panic!("on purpose") }), None);
        assert_eq!(
            name("_ZN5space3fooEibc").as_deref(),
            Some("space::foo(int, bool, char)")
        );
        assert_eq!(name("main"), None);
    }

    /// Each `dl` doubles the number of readings.
    #[test]
    fn a_name_with_readings_without_end_is_none() {
        let symbol = format!("_ZD04pairIX{}{}", "dl".repeat(30), "E".repeat(32));
        let (begun, before) = (Instant::now(), thread_time());
        assert_eq!(name(&symbol), None);
        assert!(thread_time() - before >= MODULE_TIME);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        // The next ones are read all the same.
        assert!(name("_ZN5space3fooEibc").is_some());
    }
}
