//! The loop of a recording.

use super::Collector;
use super::close::{ENDING_GAP, ENDING_TRIES};
use crate::collect::stacks::Naming;
use crate::recording::{Interval, Tables};
use anyhow::{Context, Result};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time::MissedTickBehavior;

/// From tick to tick. The ring buffer holds what 100,000 waits a second bring in this time many
/// times over.
const TICK: Duration = Duration::from_millis(25);

/// For how long one tick takes events in. Where they come as fast as that, whoever wants the
/// recording to end, or an interval, must not wait for them.
const TICK_BUDGET: Duration = Duration::from_millis(20);

/// From one tick that something asked for to the next such one.
const MIN_TICK_GAP: Duration = Duration::from_millis(1);

/// So often from tick to tick are mapping events listened to: where thousands of threads begin and
/// end a second, these must not keep us busy.
const MAX_MAPPING_WAKEUPS: u32 = 16;

/// While a program is being loaded an interval may become longer by this much: its stacks have no
/// names before, and reading them takes long.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// An interval that fills up ends early, but is at least this long.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Whether events are left that had arrived when a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    None,
    Left,
}

impl Collector {
    /// Records until `stop` is done, or every process that is recorded has ended and none can join. Each interval that
    /// ends meanwhile goes to `sink`; the one under way ends with [`Collector::interval`] or
    /// [`Collector::finish`]. To be called in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// Where the kernel refuses to be read, or those of `sink`.
    pub async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        mut sink: impl FnMut(&Tables, Interval) -> Result<()>,
    ) -> Result<()> {
        let wakeup = self.kernel.wakeup_fd().try_clone_to_owned();
        let wakeup = wakeup.context("cannot watch the ring buffer")?;
        let wakeup = listen(wakeup.as_fd()).context("cannot watch the ring buffer")?;
        let mappings = self
            .targets
            .mapping_fd()
            .context("cannot watch mapping events")?;
        let mut mapping_events = None;
        let mut wakeups = 0;
        let mut stop = pin!(stop);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = &mut stop => return Ok(()),
                _ = ticks.tick() => {
                    wakeups = 0;
                    false
                }
                ready = wakeup.readable() => {
                    ready.context("cannot watch the ring buffer")?.clear_ready();
                    true
                }
                ready = readable(mapping_events.as_ref()) => {
                    ready.context("cannot watch mapping events")?;
                    wakeups += 1;
                    if wakeups >= MAX_MAPPING_WAKEUPS {
                        mapping_events = None;
                    }
                    if !self.has_new_mappings() {
                        continue;
                    }
                    true
                }
            };
            if mapping_events.is_none() && wakeups < MAX_MAPPING_WAKEUPS {
                let fd = listen(mappings.as_fd()).context("cannot watch mapping events")?;
                mapping_events = Some(fd);
            }
            if self.tick()? == Backlog::Left {
                ticks.reset_immediately();
                // Where something is always ready, the runtime would not look whether `stop` is.
                tokio::task::yield_now().await;
            }
            if self.is_over() {
                return Ok(());
            }
            if self.is_interval_over() {
                let interval = match self.look_wanted.load(Ordering::Relaxed) {
                    true => self.interval_with_holders()?,
                    false => self.interval()?,
                };
                if self.names_kernel {
                    self.name_kernel_frames();
                }
                self.with_tables(|tables| sink(tables, interval))?;
            }
            if asked {
                // On a machine that starts many programs a second, events of their mappings must
                // not keep us busy.
                tokio::time::sleep(MIN_TICK_GAP).await;
            }
        }
    }

    /// Whether every process has ended, and none can join. The news of one that was forked before its parent
    /// ended may have come in after the tick had looked.
    fn is_over(&mut self) -> bool {
        // Each tick asks whether they have ended.
        let mut tries = ENDING_TRIES;
        while self.targets.are_over() {
            if tries == 0 {
                return true;
            }
            let known = self.targets.processes().as_slice().len();
            self.receive();
            self.targets.all_ended();
            if self.targets.processes().as_slice().len() == known {
                // Another CPU may have reserved room before it and be still at work.
                tries -= 1;
                std::thread::sleep(ENDING_GAP);
            }
        }
        false
    }

    /// Whether the interval under way is to end now.
    fn is_interval_over(&self) -> bool {
        let length = self.clock.length();
        let due = length >= self.options.interval
            || length >= MIN_INTERVAL && self.interval.is_filling_up();
        due && (length >= self.options.interval + MAX_DELAY || !self.targets.any_loading())
    }

    /// Takes in what the kernel reported of mappings; whether a target mapped code, so that
    /// [`Collector::tick`] should not wait. Mostly it did not: the kernel reports the threads and
    /// processes that begin and end anywhere, too.
    fn has_new_mappings(&mut self) -> bool {
        self.targets.receive_mappings(&mut self.kernel);
        self.targets.any_new_code()
    }

    /// Takes in what has arrived, and follows the targets' mappings and children. To be called
    /// every [`TICK`].
    fn tick(&mut self) -> Result<Backlog> {
        // New mappings first: until the kernel side has them, it cannot walk through them.
        let began = Instant::now();
        let behind = self.receive_while(|| began.elapsed() < TICK_BUDGET);
        self.targets.follow_mappings(&mut self.kernel)?;
        self.join_new()?;
        self.name_new(Naming::AsTimeAllows)?;
        for process in self.targets.release(&mut self.kernel)? {
            self.interval.process_ended(process);
        }
        if self.clock.wants_sums() {
            self.drain_sums()?;
        }
        Ok(if behind { Backlog::Left } else { Backlog::None })
    }

    /// Takes the kernel side's sums out so that they keep room, within an interval.
    fn drain_sums(&mut self) -> Result<()> {
        let cut = self.kernel.cut()?;
        self.take_sums(&cut)
    }
}

/// Has the runtime watch a descriptor.
fn listen(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the registration borrows the descriptor, which so is closed after it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// Waits until there is something to be read, for ever where there is no descriptor.
async fn readable(fd: Option<&AsyncFd<BorrowedFd<'_>>>) -> io::Result<()> {
    match fd {
        Some(fd) => fd.readable().await.map(|mut ready| ready.clear_ready()),
        None => std::future::pending().await,
    }
}
