//! Each interval makes a sound report by itself, and all of them together say what the whole says.

use super::{Complaints, Taken, text};
use crate::support::report::keeps_to_the_schema;
use holdup::analyze::Analyzer;
use holdup::render::{Format, Options, render};
use holdup::report::Report;
use holdup::units::Nanos;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What sites sum up to: by function, line and state, how often and for how long.
type Sites = BTreeMap<(Arc<str>, Option<u32>, &'static str), (u64, u64)>;

fn add_sites(sums: &mut Sites, report: &Report) {
    for site in &report.sites {
        let key = (Arc::clone(&site.function), site.line, site.state.name());
        let sum = sums.entry(key).or_default();
        sum.0 += site.waits;
        sum.1 += site.total_ns.0;
    }
}

/// What is wrong with the reports.
pub(super) fn check(taken: &Taken) -> Complaints {
    let mut complaints = Complaints::new();
    let (header, tables) = (&taken.header, &taken.tables);
    let mut all = Analyzer::new(header);
    let (mut parts, mut whole) = (Sites::new(), Sites::new());
    let (mut lived, mut length) = (0, 0);
    for (n, interval) in taken.intervals.iter().enumerate() {
        all.merge(tables, interval);
        let mut analyzer = Analyzer::new(header);
        analyzer.merge(tables, interval);
        let report = analyzer.report(header, tables);
        let found = sound(&report, interval.end - interval.start);
        complaints.extend(found.map(|text| format!("the report of interval {n}: {text}")));
        add_sites(&mut parts, &report);
        lived += report.threads.iter().map(|t| t.lived_ns.0).sum::<u64>();
        length += report.duration_ns.0;
    }
    let report = all.report(header, tables);
    let found = sound(&report, report.duration_ns);
    complaints.extend(found.map(|text| format!("the report of the whole: {text}")));
    add_sites(&mut whole, &report);
    let whole_lived: u64 = report.threads.iter().map(|t| t.lived_ns.0).sum();
    println!(
        "{} intervals with {} sites, {} in the whole",
        taken.intervals.len(),
        parts.len(),
        whole.len()
    );
    if (lived, length) != (whole_lived, report.duration_ns.0) {
        complaints.push(format!(
            "intervals of {length} ns with threads of {lived} ns, the whole says {} and {whole_lived}",
            report.duration_ns.0
        ));
    }
    if whole.is_empty() {
        complaints.push("no sites: nothing was compared".into());
    }
    // A wait that had not ended at a cut is in two reports, each with its part of the time.
    let cut = taken.intervals.iter().skip(1);
    let cut: u64 = cut.map(|interval| interval.carried.len() as u64).sum();
    let mut twice = 0;
    for (key, part) in &parts {
        let (waits, time) = whole.get(key).copied().unwrap_or_default();
        twice += part.0.saturating_sub(waits);
        if part.1 != time || part.0 < waits {
            complaints.push(format!(
                "{key:?}: {waits} and {time} ns in the whole, {part:?} in parts"
            ));
        }
    }
    if twice > cut || whole.len() != parts.len() {
        complaints.push(format!(
            "{twice} waits are in two intervals, {cut} had not ended at a cut"
        ));
    }
    complaints
}

/// What is wrong with a report of so long.
fn sound(report: &Report, length: Nanos) -> impl Iterator<Item = String> {
    let mut complaints = Complaints::new();
    for thread in &report.threads {
        let states: u64 = thread.states.values().map(|time| time.0).sum();
        // Its last switch may bear a time a little later than the cut's.
        if states != thread.lived_ns.0 || thread.lived_ns.0 > length.0 + 1_000_000 {
            complaints.push(format!("{states} ns of {thread:?} of {length:?}"));
        }
    }
    let mut drawn = Vec::new();
    let json = render(Format::Json, report, &Options::default(), &mut drawn).map_err(text);
    let json = json.and_then(|()| serde_json::from_slice(&drawn).map_err(text));
    if let Err(problem) = json.and_then(|json| keeps_to_the_schema(&json)) {
        complaints.push(problem);
    }
    complaints.into_iter()
}
