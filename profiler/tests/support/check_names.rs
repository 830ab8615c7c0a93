//! Names of functions that line tables alone give.

use super::check::Complaints;
use std::collections::BTreeSet;

/// What line tables call alike (`{closure#0}`, `lock`) is told apart in folded stacks by its line.
pub(crate) fn frames_apart(folded: &str) -> Complaints {
    let stacks = folded.lines().filter_map(|line| line.rsplit_once(' '));
    let frames: BTreeSet<&str> = stacks.flat_map(|(stack, _)| stack.split(';')).collect();
    let inlined = frames.iter().filter_map(|frame| frame.strip_suffix("_[i]"));
    let inlined: Vec<&str> = inlined.collect();
    let bare = |frame: &&&str| !frame.contains("::") || frame.contains("::{");
    let has_line = |frame: &&&str| {
        let place = frame.rsplit_once(".rs:");
        place.is_some_and(|(_, line)| line.parse::<u32>().is_ok())
    };
    let mut complaints: Complaints = inlined
        .iter()
        .filter(bare)
        .filter(|frame| !has_line(frame))
        .map(|frame| format!("{frame} may be one function or another"))
        .collect();
    if !inlined.iter().filter(bare).any(|frame| has_line(&frame)) {
        complaints.push("no frame of a closure or a bare name was drawn".to_owned());
    }
    complaints
}
