//! Ctrl-C or SIGTERM: the first asks the work to end, the second ends the program at once. A terminal
//! that goes away asks too, and never ends it. SIGUSR1 asks for a report of so far.

use super::error::{Error, Result};
use super::exit::Exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// Signals that come so soon after the first are the same request: `timeout` sends its signal to us and then
/// to the whole process group, and a terminal's Ctrl-C may be passed on by whoever started us.
const TOGETHER: Duration = Duration::from_millis(300);

/// The work's side: tells when it is asked to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: watch::Receiver<bool>,
    wants_report: WantsReport,
}

/// Whether somebody wants a report of so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantsReport(Arc<AtomicBool>);

impl WantsReport {
    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for since this was called last.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// Set as long as one is wanted.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Stop {
    /// Whether a report is wanted before the end.
    pub(crate) fn wants_report(&self) -> WantsReport {
        self.wants_report.clone()
    }

    /// Done once the work is asked to end.
    pub(crate) async fn requested(&mut self) {
        // The sender goes only with the whole program: then there is nobody left to ask.
        if self.asked.wait_for(|&asked| asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A stop with the switch for it.
    #[cfg(test)]
    pub(crate) fn switch() -> (watch::Sender<bool>, Stop) {
        let (sender, asked) = watch::channel(false);
        let wants_report = WantsReport::default();
        (
            sender,
            Stop {
                asked,
                wants_report,
            },
        )
    }
}

/// Ignores SIGUSR1 until [`supervise`] listens: there is nothing to report of yet, and whoever asks every
/// holdup of a host for a report must not end one that is just starting.
pub(crate) fn ignore_early_requests() {
    // SAFETY: takes no pointers, and no handler of ours is there before.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
}

/// Does `work` on a thread of its own, so that a second signal is heard whatever the work is
/// busy with. Returns the work's exit, or [`Exit::Interrupted`] without waiting for the work.
///
/// # Errors
/// Where signals cannot be watched.
pub(crate) fn supervise(work: impl FnOnce(Stop) -> Exit + Send + 'static) -> Result<Exit> {
    let cannot = |error: std::io::Error| Error::new("cannot watch for signals").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(cannot)?;
    runtime.block_on(async {
        // Before the work starts, so that no signal ends it halfway.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut hangup = Hangup::watch().map_err(cannot)?;
        let mut report = signal(SignalKind::user_defined1()).map_err(cannot)?;
        let (ask, asked) = watch::channel(false);
        let wants_report = WantsReport::default();
        let stop = Stop {
            asked,
            wants_report: wants_report.clone(),
        };
        let (done, mut exit) = oneshot::channel();
        let worker = std::thread::Builder::new()
            .name("holdup-work".into())
            .spawn(move || {
                // Nobody listens only after a second signal.
                let _ = done.send(work(stop));
            })
            .map_err(|error| Error::new("cannot start a thread").because(error))?;
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                exit = &mut exit => {
                    // A panic drops the sender; its message is on standard error already.
                    let exit = exit.unwrap_or(Exit::Failure);
                    let _ = worker.join();
                    return Ok(exit);
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = report.recv() => {
                    wants_report.ask();
                    continue;
                }
                () = hangup.received() => {
                    // The shell and the kernel may each send one: that is no hurry. Nor does it make
                    // a Ctrl-C the second, which may have come before and be heard after.
                    let _ = ask.send(true);
                    continue;
                }
            }
            if first.is_some_and(|first| first.elapsed() >= TOGETHER) {
                return Ok(Exit::Interrupted);
            }
            first = first.or_else(|| Some(Instant::now()));
            // The work may be past listening.
            let _ = ask.send(true);
        }
    })
}

/// SIGHUP, which a terminal sends that goes away: a closed window, a dropped ssh.
struct Hangup(Option<Signal>);

impl Hangup {
    /// Where it is ignored, as `nohup` has it, that stays so.
    fn watch() -> std::io::Result<Hangup> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if is_hangup_ignored(&status) {
            return Ok(Hangup(None));
        }
        Ok(Hangup(Some(signal(SignalKind::hangup())?)))
    }

    async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// By `/proc/PID/status`: the lowest bit of `SigIgn` is signal 1.
fn is_hangup_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};
    use std::sync::mpsc;

    fn listen(mut stop: Stop) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime.block_on(stop.requested());
    }

    /// One test, since signals reach the whole process.
    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        let interrupt = || kill_process(getpid(), Number::INT).expect("signal");

        ignore_early_requests();
        kill_process(getpid(), Number::USR1).expect("signal");

        let asked = supervise(move |stop| {
            interrupt();
            listen(stop);
            Exit::NoRuntime
        });
        assert_eq!(asked.expect("watched"), Exit::NoRuntime);

        let (_release, stuck) = mpsc::channel::<()>();
        let ended = supervise(move |stop| {
            interrupt();
            listen(stop);
            std::thread::sleep(TOGETHER + Duration::from_millis(100));
            interrupt();
            // Deaf, as work in the middle of a long computation is.
            let _ = stuck.recv_timeout(Duration::from_secs(60));
            Exit::Success
        });
        assert_eq!(ended.expect("watched"), Exit::Interrupted);

        // As `timeout` sends them.
        let together = supervise(|stop| {
            kill_process(getpid(), Number::TERM).expect("signal");
            listen(stop);
            kill_process(getpid(), Number::TERM).expect("signal");
            std::thread::sleep(Duration::from_millis(100));
            Exit::Success
        });
        assert_eq!(together.expect("watched"), Exit::Success);

        let terminated = supervise(|stop| {
            kill_process(getpid(), Number::TERM).expect("signal");
            listen(stop);
            Exit::Success
        });
        assert_eq!(terminated.expect("watched"), Exit::Success);

        let reported = supervise(|stop| {
            kill_process(getpid(), Number::USR1).expect("signal");
            let wants_report = stop.wants_report();
            let begun = std::time::Instant::now();
            while !wants_report.take() {
                assert!(begun.elapsed() < Duration::from_secs(5), "never heard");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!wants_report.take(), "one is one");
            Exit::Success
        });
        assert_eq!(reported.expect("watched"), Exit::Success);

        let hung_up = supervise(|stop| {
            for _ in 0..2 {
                kill_process(getpid(), Number::HUP).expect("signal");
                std::thread::sleep(Duration::from_millis(20));
            }
            listen(stop);
            Exit::Success
        });
        assert_eq!(hung_up.expect("watched"), Exit::Success);

        // As a Ctrl-C is heard that came just before the terminal went.
        let both = supervise(|stop| {
            kill_process(getpid(), Number::HUP).expect("signal");
            listen(stop);
            kill_process(getpid(), Number::INT).expect("signal");
            std::thread::sleep(Duration::from_millis(100));
            Exit::Success
        });
        assert_eq!(both.expect("watched"), Exit::Success);
    }

    #[test]
    fn nohup_is_respected() {
        assert!(is_hangup_ignored("Name:\tx\nSigIgn:\t0000000000000001\n"));
        assert!(!is_hangup_ignored("SigIgn:\t0000000000001000\n"));
        assert!(!is_hangup_ignored(""));
    }
}
