//! Names that may have been meant.

use super::comm::parse_comm;
use super::proc_dir::{ProcDir, all_pids, exe_file_name};
use super::stat::parse_stat;
use super::unit::{group_paths, units_of};
use crate::units::Pid;

/// Processes that are suggested at most.
const MAX_SUGGESTED: usize = 3;

/// Processes whose names are nearly `name`, the nearest first.
pub(super) fn near(name: &str) -> Vec<(Pid, String)> {
    nearest(|pid| {
        let called = called(pid)?;
        let distance = called.iter().filter_map(|own| distance(name, own)).min()?;
        Some((distance, called.into_iter().next()?))
    })
}

/// Units of processes that are nearly called `unit`, the nearest first, each with one of its processes.
pub(super) fn near_unit(unit: &str) -> Vec<(Pid, String)> {
    nearest(|pid| {
        let text = ProcDir::open(pid).ok()?.read("cgroup").ok()?;
        let text = String::from_utf8_lossy(&text);
        let units = group_paths(&text).flat_map(units_of);
        let near = units.filter_map(|own| Some((distance(unit, own)?, own)));
        near.min().map(|(distance, own)| (distance, own.to_owned()))
    })
}

/// The nearest names, where `of` tells how far from what was typed a process's is.
fn nearest(of: impl Fn(Pid) -> Option<(usize, String)>) -> Vec<(Pid, String)> {
    let pids = all_pids().unwrap_or_default().into_iter();
    let mut found: Vec<(usize, String, Pid)> = pids
        .filter_map(|pid| of(pid).map(|(distance, name)| (distance, name, pid)))
        .collect();
    found.sort();
    found.dedup_by(|next, last| next.1 == last.1);
    let nearest = found.into_iter().take(MAX_SUGGESTED);
    nearest.map(|(_, name, pid)| (pid, name)).collect()
}

/// The names by which a process is found: that of its executable's file, and its own.
fn called(pid: Pid) -> Option<Vec<String>> {
    let dir = ProcDir::open(pid).ok()?;
    let stat = parse_stat(&dir.read("stat").ok()?)?;
    if !stat.is_of_a_program() {
        return None;
    }
    let comm = parse_comm(&dir.read("comm").ok()?);
    let exe = dir.read_link("exe").unwrap_or_default();
    let exe = String::from_utf8_lossy(exe_file_name(&exe)).into_owned();
    let names = [exe, comm].into_iter();
    Some(names.filter(|name| !name.is_empty()).collect())
}

/// How far a name is from what was typed; none where it is another one. Dashes and underscores, and
/// the cases of letters, are easily mistaken.
fn distance(typed: &str, name: &str) -> Option<usize> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let (typed, name) = (plain(typed), plain(name));
    let letters = typed.chars().count();
    let edits = edits(&typed, &name);
    if edits <= (letters / 4).clamp(1, 3) && letters > 2 {
        return Some(edits);
    }
    // Half of a name, and names that the kernel cut off.
    let is_part =
        letters >= 4 && (name.contains(&typed) || name.len() >= 4 && typed.contains(&name));
    is_part.then_some(4 + edits)
}

/// Letters to be put in, taken out or changed, to make one text of the other (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in (1..).zip(one.chars().take(256)) {
        let mut diagonal = above - 1;
        let mut left = above;
        if let Some(first) = row.first_mut() {
            *first = above;
        }
        for (cell, own) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(letter != *own);
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (one, other, count) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("claims_api", "clams_api", 1),
            ("kitten", "sitting", 3),
            ("äb", "ab", 1),
        ] {
            assert_eq!(edits(one, other), count, "{one} {other}");
            assert_eq!(edits(other, one), count, "{other} {one}");
        }
    }

    #[test]
    fn what_may_have_been_meant() {
        for (typed, name) in [
            ("clams_api", "claims_api"),
            ("claims-api", "claims_api"),
            ("Claims_API", "claims_api"),
            ("claims", "claims_api"),
            ("claims_api_server", "claims_api_serv"),
            ("ngnix", "nginx"),
        ] {
            let far = distance(typed, name);
            // Two letters that changed places are two edits.
            assert_eq!(far.is_some(), typed != "ngnix", "{typed} {name}");
        }
        for (typed, name) in [("api", "postgres"), ("sh", "ssh"), ("claims_api", "redis")] {
            assert_eq!(distance(typed, name), None, "{typed} {name}");
        }
    }
}
