//! System calls that do next to nothing, one after the other.

use anyhow::Context as _;
use rustix::process::getppid;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// Looking at the clock costs as well: do so once in this many calls.
const CALLS_PER_LOOK: u64 = 1024;

pub(crate) fn run() -> anyhow::Result<()> {
    writeln!(io::stdout(), "ready")?;
    for line in io::stdin().lines() {
        let millis = line?
            .trim()
            .parse()
            .context("the length of a slice is not a number")?;
        let (length, begin) = (Duration::from_millis(millis), Instant::now());
        let mut calls = 0;
        while begin.elapsed() < length {
            for _ in 0..CALLS_PER_LOOK {
                black_box(getppid());
            }
            calls += CALLS_PER_LOOK;
        }
        let seconds = begin.elapsed().as_secs_f64();
        writeln!(io::stdout(), "round_trips={calls} seconds={seconds:.6}")?;
    }
    Ok(())
}
