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
    let mut list: Vec<Requirement> = of_host.into_iter().map(row).collect();
    let target = chosen(settings)?.map(|pid| {
        let found = check_target::requirements(pid);
        list.extend(found.requirements);
        refused = refused.take().or(found.refused);
        found.target
    });
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
        target,
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

/// The process to look at, if one is.
fn chosen(settings: &CheckSettings) -> Result<Option<Pid>> {
    let (found, which) = match &settings.target {
        None | Some(TargetChoice::Command(_)) => return Ok(None),
        Some(TargetChoice::Pids(pids)) => (pids.clone(), "processes are given".to_owned()),
        Some(TargetChoice::Selected(selectors)) => {
            let which: Vec<String> = selectors.iter().map(ToString::to_string).collect();
            let which = format!("processes are {}", which.join(", or "));
            (find(selectors)?, which)
        }
    };
    match found.as_slice() {
        [only] => Ok(Some(*only)),
        several => {
            let named: Vec<String> = several.iter().map(ToString::to_string).collect();
            let error = Error::usage(format!(
                "{} {which}, and `holdup check` looks at one: {}",
                several.len(),
                named.join(", ")
            ));
            let first = several.first();
            Err(error.maybe_hint(first.map(|pid| format!("holdup check -p {pid}"))))
        }
    }
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
