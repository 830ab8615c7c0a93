//! Who ended the waits of a site.

use super::line::cut_right;
use crate::cause::Cause;
use crate::counted::counted;
use crate::render::name::file_name;
use crate::render::{count, display_name, percent, sanitize};
use crate::report::{Report, Site, WakerTotal};
use crate::units::Pid;
use std::collections::BTreeMap;

/// Wakers named for each site.
const NAMED: usize = 3;
/// Columns of a thread's name.
const NAME: usize = 40;

/// One text for each of those that ended the most waits, and one for how many others there are.
pub(in crate::render) fn texts(report: &Report, site: &Site) -> Vec<String> {
    let all: u64 = site.wakers.iter().map(|waker| waker.waits).sum();
    let known = |pid: Pid| report.targets.iter().any(|target| target.pid == pid);
    // Each child is a process of its own, and they are many.
    let mut strangers: BTreeMap<(&str, bool), (u64, Vec<Pid>)> = BTreeMap::new();
    let mut merged: Vec<(u64, String)> = Vec::new();
    for waker in &site.wakers {
        if waker.pid == Pid(0) || waker.function.is_some() || known(waker.pid) {
            merged.push((waker.waits, one(site, waker)));
        } else {
            let stranger = strangers.entry((&waker.thread, waker.is_holdup));
            let stranger = stranger.or_default();
            stranger.0 += waker.waits;
            stranger.1.push(waker.pid);
        }
    }
    for ((name, is_holdup), (waits, mut pids)) in strangers {
        pids.sort_unstable();
        pids.dedup();
        merged.push((waits, stranger(name, &pids, is_holdup)));
    }
    // The sort is stable: of equals those that came first stay first.
    merged.sort_by_key(|(waits, _)| std::cmp::Reverse(*waits));
    let mut texts: Vec<String> = merged
        .iter()
        .take(NAMED)
        .map(|(waits, text)| match merged.len() {
            1 => text.clone(),
            _ => format!("{} {text}", percent(*waits as f64 / all as f64)),
        })
        .collect();
    let others = merged.len().saturating_sub(NAMED) as u64;
    if others > 0 {
        texts.push(counted(others, "other", "others"));
    }
    texts.extend(known_of(all, site.waits));
    texts
}

/// Of how many waits the wakers are known, where a reader would take a few for all.
fn known_of(known: u64, waits: u64) -> Option<String> {
    // What is nearly all says as much as all.
    let is_few = known > 0 && known < waits - waits / 10;
    is_few.then(|| format!("(known of {} of {} waits)", count(known), count(waits)))
}

/// A thread's name that processes have which are not recorded.
fn stranger(name: &str, pids: &[Pid], is_holdup: bool) -> String {
    let whose = match pids {
        [pid] => format!("pid {pid}"),
        pids => counted(pids.len() as u64, "process", "processes"),
    };
    // Whoever maps memory may have to wait while we read what is mapped.
    let own = if is_holdup { ": holdup itself" } else { "" };
    format!("{} ({whose}){own}", thread(name))
}

fn one(site: &Site, waker: &WakerTotal) -> String {
    if waker.pid == Pid(0) {
        return interrupt(site.cause, &waker.thread);
    }
    let Some(function) = &waker.function else {
        return thread(&waker.thread);
    };
    let mut text = format!("{} in {}", thread(&waker.thread), display_name(function));
    if let (Some(file), Some(line)) = (&waker.file, waker.line) {
        text.push_str(&format!(" ({}:{line})", sanitize(file_name(file))));
    }
    text
}

/// What kind of interrupt ends waits of a cause. Others are named as they are.
fn interrupt(cause: Cause, name: &str) -> String {
    match (name, cause) {
        ("interrupt", Cause::Sleep) => "a timer interrupt".to_owned(),
        ("interrupt", Cause::Network | Cause::Dns) => "a network interrupt".to_owned(),
        ("interrupt", _) => "an interrupt".to_owned(),
        _ => thread(name),
    }
}

fn thread(name: &str) -> String {
    cut_right(&sanitize(name), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wakers_do_not_stand_for_all_waits() {
        let text = "(known of 41 of 1,074 waits)";
        assert_eq!(known_of(41, 1_074).as_deref(), Some(text));
        assert_eq!(known_of(95, 100), None);
        assert_eq!(known_of(0, 100), None, "nobody is named");
    }

    #[test]
    fn what_holdup_itself_ended_is_told_as_that() {
        let pids = [Pid(7), Pid(8)];
        assert_eq!(stranger("sh", &pids, false), "sh (2 processes)");
        let own = "holdup-read (pid 7): holdup itself";
        assert_eq!(stranger("holdup-read", &pids[..1], true), own);
    }

    #[test]
    fn interrupts_are_told_by_what_was_waited_for() {
        assert_eq!(interrupt(Cause::Sleep, "interrupt"), "a timer interrupt");
        assert_eq!(interrupt(Cause::Lock, "interrupt"), "an interrupt");
        assert_eq!(interrupt(Cause::Sleep, "swapper/0"), "swapper/0");
    }
}
