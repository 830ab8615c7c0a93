//! What measuring system calls (`holdup record --syscalls`) costs each of them: those of the
//! recorded process, and those of all others, which pass the tracepoints too.

use super::programs::Caller;
use super::recorder::Recorder;
use super::report::{CallCosts, Spread};
use super::{Bench, programs, say};
use anyhow::Result;
use std::thread;
use std::time::Duration;

/// From the begin of the recording until it is in its steady state.
const SETTLE: Duration = Duration::from_millis(500);

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
