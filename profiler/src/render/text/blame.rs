//! What was to blame for the waits of a site, and what they cost.

use crate::render::{display_name, duration, percent};
use crate::report::{Blame, BlameChain, BlameEnd, Harm, Report, Site};
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Ends of chains named for each site.
const NAMED: usize = 3;
/// Less than this share is not named.
const LEAST: f64 = 0.005;
/// If less than this share is known, nothing is told.
const LEAST_KNOWN: f64 = 0.1;

/// What the threads that ended the waits did meanwhile: `91.8 % in Gateway::ask_blocking (network)`.
pub(in crate::render) fn meanwhile(report: &Report, site: &Site) -> Option<String> {
    let blame = site.blame.as_ref()?;
    let mut ends: BTreeMap<String, Nanos> = BTreeMap::new();
    for chain in &blame.chains {
        *ends.entry(end(chain, report.min_block_ns)).or_default() += chain.total_ns;
    }
    let mut ends: Vec<(String, Nanos)> = ends.into_iter().collect();
    ends.sort_by_key(|(_, time)| Reverse(*time));
    let share = |time: Nanos| time.share_of(blame.total_ns);
    let named = ends.iter().filter(|(_, time)| share(*time) >= LEAST);
    let named: Vec<String> = named
        .take(NAMED)
        .map(|(text, time)| format!("{} {text}", percent(share(*time))))
        .collect();
    (!named.is_empty() && says_something(blame)).then(|| named.join(", "))
}

/// That a thread woke another one while it ran is what every wakeup is.
fn says_something(blame: &Blame) -> bool {
    let says = |chain: &&BlameChain| !chain.links.is_empty() || chain.end.is_known();
    let known = blame.chains.iter().filter(says);
    let known: Nanos = known.map(|chain| chain.total_ns).sum();
    known.share_of(blame.total_ns) >= LEAST_KNOWN
}

fn end(chain: &BlameChain, min_block: Nanos) -> String {
    let place = chain.links.last().map(|link| {
        let cause = link.cause.name();
        format!("in {} ({cause})", display_name(&link.function))
    });
    let short = || format!("in waits of less than {}", duration(min_block));
    let (alone, waited_for) = match chain.end {
        BlameEnd::Outside => {
            return place.unwrap_or_else(|| "unknown".to_owned());
        }
        BlameEnd::Running => ("running".to_owned(), "ran".to_owned()),
        BlameEnd::RunQueue => ("in line for a CPU".to_owned(), "wanted a CPU".to_owned()),
        BlameEnd::ShortWaits => (short(), format!("was {}", short())),
        BlameEnd::Idle => ("idle".to_owned(), "was idle".to_owned()),
        BlameEnd::Stopped => {
            let stopped = "stopped from outside";
            (stopped.to_owned(), format!("was {stopped}"))
        }
        BlameEnd::RunningOrIdle => {
            let which = format!("running, idle, or {}", short());
            (which.clone(), format!("was {which}"))
        }
        BlameEnd::Cycle => {
            let circle = "waiting for this very thread, a circle";
            (
                circle.to_owned(),
                "waits for one of these, a circle".to_owned(),
            )
        }
        BlameEnd::Unknown => ("unknown".to_owned(), String::new()),
    };
    match place {
        None => alone,
        Some(place) if waited_for.is_empty() => {
            format!("{place} for a thread of which no more is known")
        }
        Some(place) => format!("{place} for a thread that {waited_for}"),
    }
}

/// What would be gained without the waits of a site: that of the runtime where it is most.
pub(in crate::render) fn harm(report: &Report, site: &Site) -> Option<String> {
    let harm = site.harm.first()?;
    let runtime = report.runtimes.iter();
    let starved = runtime.filter(|runtime| runtime.id == harm.runtime);
    let starved: Nanos = starved.map(|runtime| runtime.starved_ns).sum();
    let share = harm.starved_ns.share_of(starved);
    (share >= LEAST).then(|| {
        format!(
            "{} of the time in which no task could run: without it {}",
            percent(share),
            left(harm, true)
        )
    })
}

/// `310 ms of 7.28 s would be left, 40 ms at a stretch`. Where the time has not just been told, with what
/// it is.
pub(super) fn left(harm: &Harm, is_told: bool) -> String {
    let starved = duration(harm.starved_ns + harm.starved_left_ns);
    let is_all = harm.starved_left_ns == Nanos::ZERO;
    let time = match (is_told, is_all) {
        (true, true) => format!("these {starved}"),
        (true, false) => starved,
        (false, _) => format!(
            "the {starved} in which no task of {} could run",
            harm.runtime
        ),
    };
    if is_all {
        return format!("nothing of {time} would be left");
    }
    format!(
        "{} of {time} would be left, {} at a stretch",
        duration(harm.starved_left_ns),
        duration(harm.longest_left_ns)
    )
}
