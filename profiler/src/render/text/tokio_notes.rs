//! What was found of tokio in each process, and how sure it is.

use crate::counted::counted;
use crate::recording::Process;
use crate::render::{process_name, sanitize};
use crate::report::Report;
use crate::runtime::tokio::{Certainty, MissingContext, NoContext};
use crate::units::Pid;

/// Notes on tokio.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes: Vec<String> = by_context(report).into_iter().collect();
    for process in &report.targets {
        notes.extend(contradicted(report, process));
        notes.extend(without_context(report, process));
        notes.extend(not_understood(report, process));
    }
    notes
}

/// ` of claims_api (4242)`, where it has to be said.
fn of(report: &Report, pid: Pid) -> String {
    let name = process_name(report, pid);
    name.map_or_else(String::new, |name| format!(" of {}", sanitize(&name)))
}

/// How many waits were judged by the thread-local context, and how sure that is.
fn by_context(report: &Report) -> Option<String> {
    let waits = report.classified.by_context;
    let sure = report.targets.iter().filter_map(|process| {
        let context = process.tokio.context;
        let sure = how_sure(context).filter(|_| waits > 0 || is_unnamed(context))?;
        Some(match process_name(report, process.pid) {
            Some(name) => format!("{}: {sure}", sanitize(&name)),
            None => sure,
        })
    });
    let sure: Vec<String> = sure.collect();
    let sure = if sure.is_empty() {
        String::new()
    } else {
        format!(" ({})", sure.join("; "))
    };
    if waits > 0 {
        Some(format!(
            "{} judged by tokio's thread-local context{sure}, the others by their frames.",
            counted(waits, "wait was", "waits were")
        ))
    } else if sure.is_empty() {
        None
    } else {
        // Waits that have not ended are not among those that were counted.
        Some(format!(
            "Where functions have no names, waits were judged by tokio's thread-local context{sure}."
        ))
    }
}

/// Whether it was needed, as names of functions said nothing.
const fn is_unnamed(context: Certainty) -> bool {
    matches!(
        context,
        Certainty::Alone
            | Certainty::CorroboratedByParks { .. }
            | Certainty::Confirmed { named: 0, .. }
    )
}

/// In words; none where it does not count.
fn how_sure(context: Certainty) -> Option<String> {
    match context {
        Certainty::Nothing | Certainty::Contradicted { .. } => None,
        Certainty::Alone => Some("context alone".to_owned()),
        Certainty::CorroboratedByParks { parks } => Some(format!(
            "context, corroborated by {}",
            counted(parks, "park", "parks")
        )),
        Certainty::Confirmed {
            named,
            driver_parks,
        } => {
            let by = [
                (named > 0).then(|| format!("names of {}", counted(named, "stack", "stacks"))),
                (driver_parks > 0).then(|| {
                    let parks = counted(driver_parks, "park", "parks");
                    format!("{parks} in the I/O driver")
                }),
            ];
            let by: Vec<String> = by.into_iter().flatten().collect();
            Some(format!("context, confirmed by {}", by.join(" and ")))
        }
    }
}

fn contradicted(report: &Report, process: &Process) -> Option<String> {
    let Certainty::Contradicted { stacks } = process.tokio.context else {
        return None;
    };
    Some(format!(
        "{} contradicted tokio's thread-local context{}, so it was ignored. Waits in functions \
         without names are unknown.{}",
        counted(stacks, "stack", "stacks"),
        of(report, process.pid),
        names_would_tell(process)
    ))
}

fn without_context(report: &Report, process: &Process) -> Option<String> {
    let old = process.tokio.not_understood.as_ref();
    // Of one that is too old that is reported, which is the graver.
    let is_new = |missing: &&MissingContext| !matches!(&missing.reason, NoContext::MadeAtFirstUse(version) if Some(version) == old);
    let mut missing = process.tokio.without_context.iter().filter(is_new);
    let first = missing.next()?;
    let more = match missing.count() {
        0 => String::new(),
        more => {
            let more = counted(more as u64, "other tokio", "other tokios");
            format!(" Nor was that of {more}.")
        }
    };
    Some(format!(
        "The thread-local context of the tokio in {}{} was not found: {}.{more}{}",
        sanitize(&first.module),
        of(report, process.pid),
        sanitize(&first.reason.to_string()),
        names_would_tell(process)
    ))
}

/// What would help where functions have no names.
fn names_would_tell(process: &Process) -> &'static str {
    if process.has_symbols {
        ""
    } else {
        " Symbols would identify them."
    }
}

fn not_understood(report: &Report, process: &Process) -> Option<String> {
    let version = process.tokio.not_understood.as_deref()?;
    Some(format!(
        "tokio {}{} is older than what holdup understands (1.20 and newer): waits of its threads \
         may be unknown, or taken for others.",
        sanitize(version),
        of(report, process.pid)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_sure_it_is_in_words() {
        let confirmed = |named, driver_parks| Certainty::Confirmed {
            named,
            driver_parks,
        };
        for (context, words) in [
            (Certainty::Nothing, None),
            (Certainty::Contradicted { stacks: 3 }, None),
            (Certainty::Alone, Some("context alone")),
            (
                Certainty::CorroboratedByParks { parks: 2 },
                Some("context, corroborated by 2 parks"),
            ),
            (
                confirmed(12, 0),
                Some("context, confirmed by names of 12 stacks"),
            ),
            (
                confirmed(0, 1),
                Some("context, confirmed by 1 park in the I/O driver"),
            ),
            (
                confirmed(1, 2),
                Some("context, confirmed by names of 1 stack and 2 parks in the I/O driver"),
            ),
        ] {
            assert_eq!(how_sure(context).as_deref(), words, "{context:?}");
        }
    }
}
