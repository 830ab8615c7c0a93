//! A worker that is blocked all the time.

use crate::programs::{one_worker, ready_until_stdin_closes};
use rustix::thread::set_current_timer_slack;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

pub(crate) fn run(depth: u32, nanos: u64) -> anyhow::Result<()> {
    // The default slack would add 50 µs to each sleep. Threads inherit it.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let runtime = one_worker()?;
    let pause = Duration::from_nanos(nanos);
    runtime.spawn(async move {
        loop {
            // Other polls in between, so that it is many short polls and not one that never ends.
            for _ in 0..100 {
                descend(depth, pause);
            }
            tokio::task::yield_now().await;
        }
    });
    Ok(ready_until_stdin_closes("")?)
}

#[inline(never)]
fn descend(depth: u32, pause: Duration) -> u32 {
    if depth == 0 {
        thread::sleep(pause);
        return 0;
    }
    // What is done with the result keeps this from being a jump instead of a call.
    black_box(descend(black_box(depth - 1), pause)) + 1
}
