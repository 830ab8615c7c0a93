//! `holdup dump`.

use super::error::{Error, Result};
use super::exit::Exit;
use super::hint::of_fix;
use super::live::{failed, has_workers_names, no_runtime};
use super::output::write_stdout;
use super::settings::{CheckFormat, DumpSettings};
use super::targets::{self, Chosen};
use crate::analyze::{Looked, dump as analyze};
use crate::collect::Look;
use crate::host::privileges::{self, Keep};
use crate::host::{Features, Fix};
use crate::process::{Target, status_text};
use crate::render;
use crate::report::dump::Dump;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// From the first look to the second.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Looks at the targets, and prints what every thread does.
///
/// # Errors
/// Where nothing can be seen, or standard output cannot be written to.
pub(crate) fn dump(settings: &DumpSettings, features: &Features) -> Result<Exit> {
    let Chosen { targets, .. } = targets::open(&settings.target, settings.invoker.as_ref())?;
    may_read_stacks(&targets)?;
    let dump = look(settings, features, &targets)?;
    let exit = if dump.verdict.kind.is_standstill() {
        Exit::Finding
    } else {
        Exit::Success
    };
    write_stdout(|out| match settings.format {
        CheckFormat::Text => render::dump_text(&dump, settings.shown, &settings.rendering, out),
        CheckFormat::Json => render::dump_json(&dump, out),
    })
    .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(exit)
}

/// All that a dump shows is of waits from before it, whose stacks are read out of the processes' memory.
fn may_read_stacks(targets: &[Arc<Target>]) -> Result<()> {
    for target in targets {
        if let Err(error) = target.proc_dir().open_file("mem")
            && error.kind() == ErrorKind::PermissionDenied
        {
            let (name, pid) = (target.exe_name(), target.pid());
            let what = format!("not permitted to read the stacks of {name} (pid {pid})");
            let hint = of_fix(Fix::Give("CAP_DAC_READ_SEARCH"));
            return Err(Error::new(what)
                .because(error)
                .exit(Exit::Permission)
                .hint(hint));
        }
    }
    Ok(())
}

fn look(settings: &DumpSettings, features: &Features, targets: &[Arc<Target>]) -> Result<Dump> {
    let look = Look::begin(targets, &features.btf, settings.looking.clone())
        .map_err(failed("cannot look at the process"))?;
    if let Some(target) = targets.first()
        && !look.sees_tokio()
        && !targets.iter().any(|target| has_workers_names(target))
    {
        return Err(no_runtime(target));
    }
    let keep = Keep::least(privileges::RECORDING, settings.invoker.as_ref(), || true);
    privileges::drop_to(keep)
        .map_err(|error| Error::new("cannot give up privileges").because(error))?;
    std::thread::sleep(BETWEEN_LOOKS);
    let mut seen = look.finish().map_err(failed("cannot finish the look"))?;
    for target in targets.iter().filter(|target| target.ended()) {
        let mut processes = seen.tables.processes.iter_mut();
        if let Some(process) = processes.find(|process| process.pid == target.pid()) {
            process.ended = Some(status_text(target.exit_status()));
        }
    }
    if let Some(target) = targets.first()
        && targets.iter().all(|target| target.ended())
    {
        return Err(Error::new(format!(
            "{} (pid {}) {} while it was looked at",
            target.exe_name(),
            target.pid(),
            status_text(target.exit_status())
        )));
    }
    Ok(analyze(&Looked {
        header: &seen.header,
        tables: &seen.tables,
        interval: &seen.interval,
        asleep: &seen.asleep,
        queued: &seen.queued,
    }))
}
