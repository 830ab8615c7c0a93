//! Which processes are meant.

use crate::process::Selection;
use crate::units::Pid;
use std::ffi::OsString;

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetChoice {
    Pids(Vec<Pid>),
    Selected(Selection),
    Command(Vec<OsString>),
}

/// Which processes join later.
pub(super) fn joining(target: &TargetChoice) -> Selection {
    match target {
        TargetChoice::Selected(selection) => selection.clone(),
        TargetChoice::Pids(_) | TargetChoice::Command(_) => Selection::default(),
    }
}
