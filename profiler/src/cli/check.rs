//! `holdup check`.

use super::check_target;
use super::error::{Error, Result};
use super::exit::Exit;
use super::hint;
use super::output::write_stdout;
use super::settings::{CheckFormat, CheckSettings, TargetChoice};
use crate::host::{self, HostFacts, Refusal, RefusalKind, State, first_refusal, requirements};
use crate::process::find;
use crate::recording::{Host, Tool};
use crate::render;
use crate::report::check::{Check, CheckArea, CheckRefusal, CheckState, Requirement};
use crate::units::Pid;
use std::collections::HashSet;

/// Prints every requirement. Returns what `holdup record` would end with before it recorded
/// anything.
///
/// # Errors
/// Where the machine cannot be looked at at all, or standard output cannot be written to.
pub(crate) fn check(settings: &CheckSettings) -> Result<Exit> {
    let facts = HostFacts::gather()
        .map_err(|error| Error::new("cannot read my own capabilities").because(error))?;
    let of_host = requirements(&facts);
    let mut refused = first_refusal(&of_host).map(Error::from);
    let list: Vec<Requirement> = of_host.into_iter().map(row).collect();
    let (pids, each) = chosen(settings)?;
    let mut targets = Vec::new();
    let mut found = Vec::new();
    for one in pids.into_iter().map(check_target::requirements) {
        targets.push(one.target);
        found.push((one.opened, one.refused));
    }
    refused = refused.or_else(|| refusal(found, each));
    let exit = refused.as_ref().map_or(Exit::Success, Error::exit_status);
    let check = Check {
        tool: Tool {
            name: "holdup".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        host: Host {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        },
        targets,
        refusal: refused.map(|error| CheckRefusal {
            exit: exit.code(),
            message: error.chain(),
        }),
        requirements: list,
    };
    write_stdout(|out| match settings.format {
        CheckFormat::Text => render::check_text(&check, &settings.rendering, out),
        CheckFormat::Json => render::check_json(&check, out),
    })
    .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(exit)
}

/// The processes to look at, each once, and whether each of them has to be there: not those that were
/// found by what they have in common.
fn chosen(settings: &CheckSettings) -> Result<(Vec<Pid>, bool)> {
    let (mut pids, each) = match &settings.target {
        None | Some(TargetChoice::Command(_)) => (Vec::new(), true),
        Some(TargetChoice::Pids(pids)) => (pids.clone(), true),
        Some(TargetChoice::Selected(selection)) => {
            let found = find(selection)?;
            (found.iter().map(|found| found.pid).collect(), false)
        }
    };
    let mut seen = HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    Ok((pids, each))
}

/// Why `record` would not record these processes, of which each was opened or not and would be refused
/// alone or not. One without a tokio is no reason where another one has it.
fn refusal(found: Vec<(bool, Option<Error>)>, each: bool) -> Option<Error> {
    let any_open = found.iter().any(|(opened, _)| *opened);
    let mut all_refused = true;
    let mut first = None;
    for (opened, refused) in found {
        if !opened && (each || !any_open) {
            return refused;
        }
        if opened {
            all_refused &= refused.is_some();
            first = first.or(refused);
        }
    }
    first.filter(|_| all_refused)
}

/// A requirement of this machine, with what to do about it in the words of the command line.
fn row(requirement: host::Requirement) -> Requirement {
    let remedy = match (requirement.fix, &requirement.state) {
        (Some(fix), _) => Some(hint::of_fix(fix)),
        // How to get a permission is for the command line to say: it knows what was typed.
        (None, State::Missing(refusal)) if is_permission(refusal) => Some(hint::of_permission()),
        _ => None,
    };
    Requirement {
        id: requirement.id,
        area: match requirement.area {
            host::Area::Permission => CheckArea::Permission,
            host::Area::Kernel => CheckArea::Kernel,
            host::Area::Setting => CheckArea::Setting,
        },
        name: requirement.name,
        state: match requirement.state {
            State::Ok => CheckState::Ok,
            State::Limited => CheckState::Limited,
            State::Missing(_) => CheckState::Missing,
            State::Unknown => CheckState::Unknown,
        },
        purpose: requirement.purpose,
        found: requirement.found,
        remedy,
    }
}

fn is_permission(refusal: &Refusal) -> bool {
    refusal.kind() == RefusalKind::Permission
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_refused_where_a_recording_would_be() {
        let error = |text: &'static str| Some(Error::new(text));
        let of = |found: Vec<(bool, Option<Error>)>, each| {
            refusal(found, each).map(|error| error.chain())
        };
        let fine = || (true, None);
        let plain = || (true, error("no tokio"));
        let gone = || (false, error("gone"));
        assert_eq!(of(vec![], true), None);
        assert_eq!(of(vec![fine(), fine()], true), None);
        assert_eq!(of(vec![plain(), fine()], true), None);
        assert_eq!(
            of(vec![plain(), plain()], true).as_deref(),
            Some("no tokio")
        );
        assert_eq!(of(vec![fine(), gone()], true).as_deref(), Some("gone"));
        // Of those of a name one may have ended.
        assert_eq!(of(vec![fine(), gone()], false), None);
        assert_eq!(
            of(vec![plain(), gone()], false).as_deref(),
            Some("no tokio")
        );
        assert_eq!(of(vec![gone(), gone()], false).as_deref(), Some("gone"));
    }
}
