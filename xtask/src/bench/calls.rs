//! What measuring system calls (`holdup record --syscalls`) costs each of them: those of the
//! recorded process, and those of all others, which pass the tracepoints too.

use super::programs::Caller;
use super::recorder::Recorder;
use super::spread::Spread;
use super::{Bench, programs, say};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// From the start of the recording until it is in its steady state.
const SETTLE: Duration = Duration::from_millis(500);

/// Nanoseconds of one system call that does next to nothing.
#[derive(Debug, Serialize)]
pub(super) struct CallCosts {
    unrecorded_ns: Spread,
    /// While another process is recorded with `--syscalls`.
    of_others_ns: Spread,
    /// While the caller itself is.
    of_target_ns: Spread,
}

impl CallCosts {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        Spread::write_head(out, "a system call, with --syscalls")?;
        self.unrecorded_ns.write(out, "ns, unrecorded", 0)?;
        self.of_others_ns.write(out, "ns, of another process", 0)?;
        self.of_target_ns
            .write(out, "ns, of the recorded process", 0)
    }
}

/// Nanoseconds a call, unrecorded and recorded in turn.
pub(super) fn measure(bench: &Bench, rounds: u16) -> Result<CallCosts> {
    say("cost of system calls");
    let idle = programs::start(bench, "idle")?;
    let mut caller = Caller::start(bench)?;
    let own = caller.program.id();
    let (mut base, mut others, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        base.push(nanos(caller.slice(bench.slice)?));
        for (target, into) in [(idle.id(), &mut others), (own, &mut recorded)] {
            let recorder = Recorder::holdup_with(bench, target, &["--syscalls"])?;
            thread::sleep(SETTLE);
            into.push(nanos(caller.slice(bench.slice)?));
            recorder.stop()?;
        }
    }
    base.push(nanos(caller.slice(bench.slice)?));
    Ok(CallCosts {
        unrecorded_ns: Spread::of(&base),
        of_others_ns: Spread::of(&others),
        of_target_ns: Spread::of(&recorded),
    })
}

fn nanos(calls_per_second: f64) -> f64 {
    1e9 / calls_per_second
}
