//! The checks of recordings of stripped programs: with the names of the same build that was not
//! stripped, every scenario has to be in its right state.

use super::check::{Complaints, ms, stray_ns};
use super::fixture::Variant;
use super::record::Recorded;
use super::report::{Report, Site, is_in};
use super::truth::{Late, TrueSite, Truth};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::collections::BTreeMap;

/// Waits at most, of [`stray_ns`] together, in which two workers met in a lock of the allocator or
/// the runtime: they are truly blocked.
const STRAY_WAITS: u64 = 20;

/// The functions of a stripped program, by where they start.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<u64, String>);

impl Names {
    fn of(variant: Variant) -> Result<Names, String> {
        let twin = variant.named().ok_or("the program is not stripped")?;
        let read = |variant: Variant| {
            let path = variant.build()?;
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (stripped, named) = (read(variant)?, read(twin)?);
        let parse = |bytes: &[u8]| -> Result<(Vec<u8>, BTreeMap<u64, String>), String> {
            let file = object::File::parse(bytes).map_err(|error| error.to_string())?;
            let text = file.section_by_name(".text").ok_or("no .text")?;
            let code = text.data().map_err(|error| error.to_string())?.to_vec();
            let named = file.symbols().filter_map(|symbol| {
                let name = rustc_demangle::demangle(symbol.name().ok()?);
                Some((symbol.address(), format!("{name:#}")))
            });
            Ok((code, named.collect()))
        };
        let ((code, none), (twins_code, names)) = (parse(&stripped)?, parse(&named)?);
        if code != twins_code {
            return Err(format!(
                "{} is other code than {}",
                variant.name(),
                twin.name()
            ));
        }
        if !none.is_empty() {
            return Err(format!("{} has {} symbols", variant.name(), none.len()));
        }
        Ok(Names(names))
    }

    /// Whether a function, which is shown as `blockers@0x1234` unless it has a name, is that one.
    fn is(&self, shown: &str, function: &str) -> bool {
        let start = shown.split_once("@0x").map(|(_, start)| start);
        let start = start.and_then(|start| u64::from_str_radix(start, 16).ok());
        let name = start.and_then(|start| self.0.get(&start));
        is_in(name.map_or(shown, String::as_str), function)
    }

    fn is_at(&self, site: &Site, function: &str) -> bool {
        let mut stack = site.stack.iter();
        self.is(&site.function, function) || stack.any(|frame| self.is(&frame.function, function))
    }
}

/// Every scenario's waits are in their right state.
pub(crate) fn states(recorded: &Recorded) -> Complaints {
    match Names::of(recorded.variant) {
        Ok(names) => states_by(&names, recorded),
        Err(error) => vec![error],
    }
}

/// As [`states`], with the names of functions.
pub(crate) fn states_by(names: &Names, recorded: &Recorded) -> Complaints {
    let (report, truth) = (&recorded.report, &recorded.truth);
    let mut complaints = blocked(report, truth);
    complaints.extend(blocked_at(names, recorded));
    let mut late = Late::at_most(recorded.stolen_ns);
    for site in truth.allowed() {
        complaints.extend(allowed(names, report, site, &mut late));
    }
    let unknown: u64 = report
        .threads
        .iter()
        .filter_map(|thread| thread.states.get("unknown"))
        .sum();
    if unknown > stray_ns() {
        let sites = report.sites.iter().filter(|site| site.state == "unknown");
        let sites: Vec<String> = sites.map(Site::describe).collect();
        complaints.push(format!("{} unknown: {sites:#?}", ms(unknown)));
    }
    if report.judges.disagreed > 0 || report.judges.by_context == 0 {
        complaints.push(format!("the judges: {:?}", report.judges));
    }
    complaints
}

/// All waits of all blockers, and no others.
fn blocked(report: &Report, truth: &Truth) -> Complaints {
    let sites = report.sites.iter().filter(|site| site.state == "blocked");
    let (waits, blocked) = sites.fold((0, 0), |(waits, time), site| {
        (waits + site.waits, time + site.total_ns)
    });
    let counted: u64 = truth.blocked().map(|site| site.waits).sum();
    let measured: u64 = truth.blocked().map(TrueSite::blocked_ns).sum();
    let tolerance: u64 = truth.blocked().map(TrueSite::tolerance_ns).sum();
    let mut complaints = Vec::new();
    if waits < counted || waits > counted + STRAY_WAITS {
        complaints.push(format!(
            "{waits} waits blocked, the kernel counted {counted}"
        ));
    }
    if blocked.abs_diff(measured) > tolerance + stray_ns() {
        complaints.push(format!(
            "{} blocked, measured {}",
            ms(blocked),
            ms(measured)
        ));
    }
    complaints
}

/// Each blocker's time, by the folded stacks: a site without names is the library's function for
/// all that call it.
fn blocked_at(names: &Names, recorded: &Recorded) -> Complaints {
    let mut complaints = Vec::new();
    let mut late = Late::at_most(recorded.stolen_ns);
    for site in recorded.truth.blocked().filter(|site| site.waits > 0) {
        let mut stacks = 0;
        let mut micros = 0;
        for line in recorded.folded.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap_or((line, "0"));
            let mut frames = stack.split(';');
            if frames.any(|frame| names.is(frame, &site.function)) {
                stacks += 1;
                micros += count.parse::<u64>().unwrap_or(0);
            }
        }
        // Each line is rounded to a microsecond.
        let (time, rounding) = (micros * 1_000, stacks * 1_000);
        let nearby = [time, time.saturating_sub(rounding), time + rounding];
        if !nearby
            .iter()
            .any(|time| site.may_be_blocked_for(*time, &mut late))
        {
            complaints.push(format!(
                "{}: {} blocked, measured {} ± {}",
                site.function,
                ms(time),
                ms(site.blocked_ns()),
                ms(site.tolerance_ns())
            ));
        }
    }
    complaints
}

/// A wait that is nobody's fault is in the state that it belongs in; with its number and its time
/// where that state lists sites.
fn allowed(names: &Names, report: &Report, truth: &TrueSite, late: &mut Late) -> Complaints {
    let mut complaints = Vec::new();
    let (mut waits, mut time) = (0, 0);
    let sites = report.sites.iter();
    for site in sites.filter(|site| names.is_at(site, &truth.function)) {
        if !truth.states.contains(&site.state) {
            let name = &truth.function;
            complaints.push(format!(
                "{name}: expected {:?}: {}",
                truth.states,
                site.describe()
            ));
        }
        waits += site.waits;
        time += site.total_ns;
    }
    let listed =
        matches!(truth.states.as_slice(), [state] if state == "pool" || state == "handed-off");
    let wrong = waits != truth.waits || !truth.may_be_blocked_for(time, late);
    if listed && wrong {
        complaints.push(format!(
            "{}: {waits} waits of {} {}, the kernel counted {} of {}",
            truth.function,
            ms(time),
            truth.states.join(" or "),
            truth.waits,
            ms(truth.blocked_ns())
        ));
    }
    complaints
}

/// A thread that has nothing to do with tokio is said to be one all of its life.
pub(crate) fn bystander(recorded: &Recorded) -> Complaints {
    let threads = &recorded.report.threads;
    let Some(thread) = threads.iter().find(|thread| thread.name == "bystander") else {
        return vec!["the bystander is not there".into()];
    };
    let strange: Vec<_> = thread
        .states
        .iter()
        .filter(|(state, time)| {
            !["other", "running", "runnable"].contains(&state.as_str()) && **time > 0
        })
        .collect();
    if strange.is_empty() && thread.states.contains_key("other") {
        Vec::new()
    } else {
        vec![format!("the bystander was {:?}", thread.states)]
    }
}
