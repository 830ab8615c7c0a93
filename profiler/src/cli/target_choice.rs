//! Which processes are meant.

use crate::process::Selector;
use crate::units::Pid;
use std::ffi::OsString;

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetChoice {
    Pids(Vec<Pid>),
    Selected(Vec<Selector>),
    Command(Vec<OsString>),
}

/// Which processes join later.
pub(super) fn joining(target: &TargetChoice) -> Vec<Selector> {
    match target {
        TargetChoice::Selected(selectors) => selectors.clone(),
        TargetChoice::Pids(_) | TargetChoice::Command(_) => Vec::new(),
    }
}
