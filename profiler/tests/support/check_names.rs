//! Names of functions that line tables alone give.

use super::check::Complaints;
use super::report::{Frame, Report};
use std::collections::BTreeSet;

/// What line tables call alike (`{closure#0}`, `lock`) is told apart in folded stacks by its line.
pub(crate) fn frames_apart(folded: &str) -> Complaints {
    let stacks = folded.lines().filter_map(|line| line.rsplit_once(' '));
    let frames: BTreeSet<&str> = stacks.flat_map(|(stack, _)| stack.split(';')).collect();
    let inlined = frames.iter().filter_map(|frame| frame.strip_suffix("_[i]"));
    let inlined: Vec<&str> = inlined.collect();
    let has_line = |frame: &&&str| {
        let place = frame.rsplit_once(".rs:");
        place.is_some_and(|(_, line)| line.parse::<u32>().is_ok())
    };
    let of_closures = || inlined.iter().filter(|frame| frame.contains("::{"));
    let mut complaints: Complaints = of_closures()
        .filter(|frame| !has_line(frame))
        .map(|frame| format!("{frame} may be one function or another"))
        .collect();
    if !of_closures().any(|frame| has_line(&frame)) {
        complaints.push("no frame of a closure was drawn".to_owned());
    }
    let bare = inlined.iter().filter(|frame| !frame.contains("::"));
    complaints.extend(bare.map(|frame| format!("{frame} is drawn without a path")));
    complaints
}

/// Each inlined function of the program, of tokio and of std has a path, though line tables have none.
pub(crate) fn paths(report: &Report) -> Complaints {
    let sites = report.sites.iter().flat_map(|site| &site.stack);
    let polls = report.long_polls.iter().flat_map(|polls| &polls.stack);
    let inlined: BTreeSet<&str> = sites
        .chain(polls)
        .filter(|frame| frame.inlined && is_of_rust(frame))
        .map(|frame| frame.function.as_str())
        .collect();
    let has_path = |name: &str| {
        let path = name.split('<').next().unwrap_or_default();
        path.is_empty() || path.contains("::")
    };
    let bare = inlined.iter().filter(|name| !has_path(name));
    let mut complaints: Complaints = bare.map(|name| format!("{name} has no path")).collect();
    for krate in ["tokio::", "core::", "std::", "blockers::"] {
        if !inlined.iter().any(|name| name.starts_with(krate)) {
            complaints.push(format!("no inlined function of {krate} was seen"));
        }
    }
    complaints
}

fn is_of_rust(frame: &Frame) -> bool {
    let file = frame.file.as_deref();
    file.is_some_and(|file| file.ends_with(".rs"))
}
