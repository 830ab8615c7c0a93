//! Targets that end before the recording begins.

use super::fixture::{Running, Variant};
use super::intervals::{options, text};
use super::live_recording::{Outcome, ensure};
use super::privilege;
use holdup::collect::Collector;
use holdup::host::KernelBtf;
use holdup::process::Target;
use holdup::units::Pid;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "life::one_of_several_has_ended_by_then",
        || privilege::unless_skipped(privilege::missing(), left_out),
    )]
}

/// A process that was chosen and has ended since is no reason not to record the others.
fn left_out() -> Outcome {
    let goes = Variant::DEFAULT.start("scenarios")?;
    let stays = Variant::DEFAULT.start("scenarios")?;
    let of = |running: &Running| Target::open(Pid(running.pid())).map(Arc::new);
    let (gone, other) = (of(&goes).map_err(text)?, of(&stays).map_err(text)?);
    goes.kill()?;
    let types = KernelBtf::load().map_err(text)?;
    let attach = |targets: &[Arc<Target>]| {
        Collector::attach(targets, &types, options(Duration::from_secs(1)))
    };
    let alone = attach(&[Arc::clone(&gone)]);
    ensure(alone.is_err(), || "there is nothing to record".to_owned())?;
    let collector = attach(&[gone, other]).map_err(text)?;
    let (_, tables, _) = collector.finish(None).map_err(text)?;
    let pids: Vec<Pid> = tables.processes.iter().map(|process| process.pid).collect();
    ensure(pids == [Pid(stays.pid())], || format!("{pids:?}"))?;
    Ok(stays.kill()?)
}
