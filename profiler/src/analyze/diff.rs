//! Two reports compared.

use crate::recording::Tool;
use crate::report::diff::{Change, Diff, Measure, Side, SiteChange, SiteSide, WorkerShares};
use crate::report::{Report, Site};
use crate::runtime::State;
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of [`Diff`].
const SCHEMA: u32 = 1;
/// A change of less than this share of the greater one is none.
const LEAST_SHARE: f64 = 0.1;
/// Nor is one of less than this in a second, which is a hundredth of a percent, or in a wait.
const LEAST_PER_SECOND: i64 = 100_000;
const LEAST_PER_WAIT: i64 = 1_000;

/// What makes places the same in both: neither lines, which move, nor addresses.
type Key = (Arc<str>, crate::cause::Cause, State);

/// Compares two reports, which were read from these files.
#[must_use]
pub fn diff(before: (&str, &Report), after: (&str, &Report), by: Measure) -> Diff {
    let mut places: BTreeMap<Key, [Option<SiteSide>; 2]> = BTreeMap::new();
    for (index, report) in [before.1, after.1].into_iter().enumerate() {
        for (key, side) in sides(report) {
            if let Some(place) = places.entry(key).or_default().get_mut(index) {
                *place = Some(side);
            }
        }
    }
    let changes = places.into_iter();
    let mut sites: Vec<SiteChange> = changes.map(|(key, sides)| change(key, sides, by)).collect();
    // What the bug is comes first.
    sites.sort_by_key(|site| {
        let size = site.difference_ns.unsigned_abs();
        (
            site.state != State::Blocked,
            site.change == Change::Same,
            Reverse(size),
        )
    });
    Diff {
        schema: SCHEMA,
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        by,
        filter: after.1.filter.clone(),
        before: side(before.0, before.1),
        after: side(after.0, after.1),
        sites,
    }
}

fn change((function, cause, state): Key, sides: [Option<SiteSide>; 2], by: Measure) -> SiteChange {
    let [before, after] = sides;
    let time = |side: &Option<SiteSide>| {
        let time = side.as_ref().map_or(Nanos::ZERO, |side| side.measured(by));
        i64::try_from(time.0).unwrap_or(i64::MAX)
    };
    let (old, new) = (time(&before), time(&after));
    let difference = new.saturating_sub(old);
    let least = match by {
        Measure::PerSecond => LEAST_PER_SECOND,
        Measure::PerWait => LEAST_PER_WAIT,
    };
    let least = (LEAST_SHARE * old.max(new) as f64).max(least as f64);
    let change = match (&before, &after) {
        (None, _) => Change::Gained,
        (_, None) => Change::Lost,
        _ if (difference.unsigned_abs() as f64) < least => Change::Same,
        _ if difference > 0 => Change::Worse,
        _ => Change::Better,
    };
    SiteChange {
        change,
        function,
        cause,
        state,
        before,
        after,
        difference_ns: difference,
    }
}

/// The places of one report.
fn sides(report: &Report) -> BTreeMap<Key, SiteSide> {
    let mut sides: BTreeMap<Key, (SiteSide, Nanos)> = BTreeMap::new();
    for site in &report.sites {
        for (cause, waits, total) in parts(site) {
            let key = (Arc::clone(&site.function), cause, site.state);
            let (side, most) = sides.entry(key).or_default();
            side.waits = side.waits.saturating_add(waits);
            side.total_ns += total;
            side.max_ns = side.max_ns.max(site.max_ns);
            if side.file.is_none() || total > *most {
                (side.file, side.line) = (site.file.clone(), site.line);
                *most = total;
            }
        }
    }
    let finish = |(key, (mut side, _)): (Key, (SiteSide, Nanos))| {
        side.ns_per_second = per_second(side.total_ns, report.duration_ns);
        side.ns_per_wait = Nanos(side.total_ns.0 / side.waits.max(1));
        (key, side)
    };
    sides.into_iter().map(finish).collect()
}

/// A site's waits by cause.
fn parts(site: &Site) -> Vec<(crate::cause::Cause, u64, Nanos)> {
    if site.causes.is_empty() {
        return vec![(site.cause, site.waits, site.total_ns)];
    }
    let causes = site.causes.iter();
    causes
        .map(|part| (part.cause, part.waits, part.total_ns))
        .collect()
}

fn side(file: &str, report: &Report) -> Side {
    let runtimes = report.runtimes.iter();
    let starved = runtimes.clone().map(|runtime| runtime.starved_ns).sum();
    let polls: u64 = runtimes
        .clone()
        .fold(0, |sum, runtime| sum.saturating_add(runtime.polls.polls));
    let longest = runtimes.map(|runtime| runtime.starved_max_ns).max();
    let seconds = report.duration_ns.0 as f64 / 1e9;
    Side {
        file: file.to_owned(),
        exe: report.target.exe.clone(),
        pid: report.target.pid,
        started_at: report.started_at.clone(),
        duration_ns: report.duration_ns,
        part: report.part,
        verdict: report.verdict.clone(),
        workers: shares(report),
        starved_ns_per_second: per_second(starved, report.duration_ns),
        starved_max_ns: longest.unwrap_or_default(),
        long_polls_per_second: match seconds > 0.0 {
            true => polls as f64 / seconds,
            false => 0.0,
        },
        lossy: Side::is_lossy(report),
    }
}

fn shares(report: &Report) -> WorkerShares {
    let of = |state: State| -> Nanos {
        let runtimes = report.runtimes.iter();
        runtimes
            .filter_map(|runtime| runtime.states.get(&state).copied())
            .sum()
    };
    let all = State::ALL.into_iter().map(of).sum();
    WorkerShares {
        blocked: of(State::Blocked).share_of(all),
        running: of(State::Running).share_of(all),
        runnable: of(State::Runnable).share_of(all),
        idle: of(State::Idle).share_of(all),
    }
}

/// `time` in a second of a recording of this length.
fn per_second(time: Nanos, length: Nanos) -> Nanos {
    let nanos = u128::from(time.0) * 1_000_000_000 / u128::from(length.0.max(1));
    Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
