//! From what the command line names to the processes that are meant.

use super::error::{Error, Result};
use super::settings::TargetChoice;
use crate::bpf::MAX_PROCESSES;
use crate::process::{Found, Invoker, Launched, Selection, Streams, Target, find};
use crate::units::Pid;
use rustix::process::getuid;
use std::collections::HashSet;
use std::sync::Arc;

/// The processes that are meant.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Each once.
    pub(crate) targets: Vec<Arc<Target>>,
    /// The command, where it was started for this.
    pub(crate) launched: Option<Launched>,
}

/// Finds and pins them.
///
/// # Errors
/// Where there is none, or one that was named by its id cannot be looked into.
pub(crate) fn open(choice: &TargetChoice, invoker: Option<&Invoker>) -> Result<Chosen> {
    open_with(choice, invoker, Streams::Inherited)
}

/// As many as can be recorded at once; those of root and of the caller first, whom nobody keeps from it
/// by processes of the same name.
fn recordable(mut found: Vec<Found>, selection: &Selection, invoker: Option<&Invoker>) -> Vec<Pid> {
    if found.len() > MAX_PROCESSES {
        let more = found.len() - MAX_PROCESSES;
        let caller = invoker.map_or_else(getuid, |invoker| invoker.uid).as_raw();
        let is_ours = |found: &Found| found.user.is_some_and(|user| user == 0 || user == caller);
        found.sort_by_key(|found| (!is_ours(found), found.pid));
        tracing::warn!(
            "{} processes are {selection}, and {MAX_PROCESSES} can be recorded at once: {more} left \
             out, root's and yours last; --user USER chooses one user's",
            found.len()
        );
        found.truncate(MAX_PROCESSES);
    }
    found.into_iter().map(|found| found.pid).collect()
}

/// As [`open`]; a command is started with these standard streams.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_with(
    choice: &TargetChoice,
    invoker: Option<&Invoker>,
    streams: Streams,
) -> Result<Chosen> {
    let (mut pids, launched) = match choice {
        TargetChoice::Pids(pids) => (pids.clone(), None),
        TargetChoice::Selected(selection) => {
            (recordable(find(selection)?, selection, invoker), None)
        }
        TargetChoice::Command(command) => {
            let launched = Launched::spawn_with(command, invoker, streams)?;
            (vec![launched.pid()], Some(launched))
        }
    };
    let mut seen = HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    let open = |pid: &Pid| Target::open(*pid).map(Arc::new).map_err(Error::from);
    let targets: Vec<_> = match choice {
        // One of many may have ended since it was found, or not be ours: the others are meant too.
        TargetChoice::Selected(_) if pids.len() > 1 => {
            let mut opened: Vec<_> = pids.iter().map(open).collect();
            if opened.iter().all(Result::is_err) {
                opened.truncate(1);
            } else {
                opened.retain(Result::is_ok);
            }
            opened.into_iter().collect::<Result<_>>()?
        }
        _ => pids.iter().map(open).collect::<Result<_>>()?,
    };
    Ok(Chosen { targets, launched })
}
