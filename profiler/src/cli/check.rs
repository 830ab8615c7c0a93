//! `holdup check`.

use super::check_target;
use super::output::write_stdout;
use super::run::permission_hint;
use super::settings::{CheckFormat, CheckSettings};
use crate::error::{Error, Exit, Result};
use crate::host::{HostFacts, Refusal, Requirement, State, first_refusal, requirements};
use crate::recording::{Host, Tool};
use crate::render::{self, check::Check};

/// Prints every requirement. Returns what `holdup record` would end with before it recorded
/// anything.
///
/// # Errors
/// Where the machine cannot be looked at at all, or standard output cannot be written to.
pub(crate) fn check(settings: &CheckSettings) -> Result<Exit> {
    let mut list = requirements(&HostFacts::gather()?);
    let target = settings.pid.map(|pid| {
        let (target, of_target) = check_target::requirements(pid);
        list.extend(of_target);
        target
    });
    for requirement in &mut list {
        advise(requirement);
    }
    let exit = first_refusal(&list).map_or(Exit::Success, |error| error.exit_status());
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
        requirements: list,
    };
    let defaults = render::Options::default();
    let options = render::Options {
        color: settings.color,
        width: settings.width.map_or(defaults.width, usize::from),
        ..defaults
    };
    write_stdout(|out| match settings.format {
        CheckFormat::Text => render::check::text(&check, &options, out),
        CheckFormat::Json => render::check::json(&check, &options, out),
    })
    .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(exit)
}

/// How to get a permission is for the command line to say: it knows what was typed.
fn advise(requirement: &mut Requirement) {
    let State::Missing(refusal) = &requirement.state else {
        return;
    };
    let is_permission = match refusal {
        Refusal::Capability(_) => true,
        other => other.exit() == Exit::Permission,
    };
    if is_permission && requirement.remedy.is_none() {
        requirement.remedy = Some(permission_hint());
    }
}
