//! What is to be done, resolved once from the command line and the environment.

pub(crate) use super::args::CheckFormat;
use super::args::{CheckArgs, Common, RecordArgs, When};
use super::engine::{Format, SessionOptions};
use super::names::Template;
use crate::error::{Error, Result};
use crate::process::Invoker;
use crate::units::{Nanos, Pid};
use rustix::process::Uid;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What the environment tells.
pub(crate) struct Environment<'a> {
    /// Looks an environment variable up.
    pub(crate) var: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether standard output is a terminal.
    pub(crate) stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub(crate) stderr_is_terminal: bool,
    /// Columns of the terminal on standard output.
    pub(crate) stdout_width: Option<u16>,
    /// Our effective user id.
    pub(crate) effective_uid: Uid,
}

/// How to talk to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsoleSettings {
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    /// Colors on standard error.
    pub(crate) color: bool,
    /// Whether a line may be drawn over again.
    pub(crate) spinner: bool,
}

impl ConsoleSettings {
    pub(crate) fn resolve(common: &Common, environment: &Environment<'_>) -> ConsoleSettings {
        ConsoleSettings {
            quiet: common.quiet,
            verbose: common.verbose,
            color: may_color(common.color, environment, environment.stderr_is_terminal),
            spinner: environment.stderr_is_terminal && !common.quiet && common.verbose == 0,
        }
    }
}

/// Everything `check` goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckSettings {
    pub(crate) pid: Option<Pid>,
    pub(crate) format: CheckFormat,
    /// Colors on standard output.
    pub(crate) color: bool,
    /// Columns of the terminal on standard output.
    pub(crate) width: Option<u16>,
}

impl CheckSettings {
    pub(crate) fn resolve(
        args: &CheckArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> CheckSettings {
        CheckSettings {
            pid: args.pid,
            format: args.format,
            color: may_color(common.color, environment, environment.stdout_is_terminal),
            width: environment.stdout_width,
        }
    }
}

/// Everything `record` goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordSettings {
    pub(crate) target: TargetChoice,
    pub(crate) duration: Option<Duration>,
    pub(crate) session: SessionOptions,
    pub(crate) outputs: Vec<OutputSpec>,
    /// Whether files that exist are overwritten.
    pub(crate) force: bool,
    pub(crate) collapse_runtime: bool,
    /// Colors on standard output.
    pub(crate) color: bool,
    /// Columns of the terminal on standard output.
    pub(crate) width: Option<u16>,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetChoice {
    Pids(Vec<Pid>),
    Name(String),
    Command(Vec<OsString>),
}

/// One report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    pub(crate) destination: Destination,
    pub(crate) format: Format,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(Template),
}

impl RecordSettings {
    /// # Errors
    /// Where the words make no sense together.
    pub(crate) fn resolve(
        args: RecordArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<RecordSettings> {
        let target = match (args.pid, args.name, args.command) {
            (pids, _, _) if !pids.is_empty() => TargetChoice::Pids(pids),
            (_, Some(name), _) => TargetChoice::Name(name),
            (_, _, command) if !command.is_empty() => TargetChoice::Command(command),
            _ => {
                return Err(Error::usage("no target is given")
                    .hint("holdup record -p PID, or -n NAME, or -- COMMAND"));
            }
        };
        let launched = matches!(target, TargetChoice::Command(_));
        Ok(RecordSettings {
            target,
            duration: args.duration,
            session: SessionOptions {
                launched,
                follow: args.follow,
                min_block: args.min_block,
                sample_period: (args.freq > 0).then(|| Nanos(1_000_000_000 / u64::from(args.freq))),
                long_poll: args.long_poll,
                shadow_every: args.shadow_check.unwrap_or(0),
                calls: args.syscalls && !args.no_syscalls,
                panics: args.panics,
            },
            outputs: outputs(&args.output, args.format)?,
            force: args.force,
            collapse_runtime: args.collapse_runtime,
            color: may_color(common.color, environment, environment.stdout_is_terminal),
            width: environment.stdout_width,
            invoker: Invoker::from_sudo(environment.effective_uid, environment.var)
                .or_else(Invoker::of_setuid),
        })
    }
}

fn may_color(when: When, environment: &Environment<'_>, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        // https://no-color.org: set and not empty.
        When::Auto => {
            let refused = (environment.var)("NO_COLOR").is_some_and(|value| !value.is_empty());
            is_terminal && !refused
        }
    }
}

/// Standard output always gets a report; `-o -` only says so.
fn outputs(names: &[OsString], format: Option<Format>) -> Result<Vec<OutputSpec>> {
    let stdout = OutputSpec {
        destination: Destination::Stdout,
        format: format.unwrap_or(Format::Text),
    };
    if names.iter().filter(|name| *name == "-").count() > 1 {
        return Err(Error::usage(
            "`-o -` is given more than once: there is one standard output",
        ));
    }
    let mut specs = vec![stdout];
    for name in names.iter().filter(|name| *name != "-") {
        let destination = Destination::File(Template::parse(name)?);
        let format = format_of(name, format)?;
        if specs.iter().any(|spec| spec.destination == destination) {
            return Err(Error::usage(format!(
                "`-o {}` is given twice",
                name.to_string_lossy()
            )));
        }
        specs.push(OutputSpec {
            destination,
            format,
        });
    }
    Ok(specs)
}

/// The format that a name tells, else `fallback`.
fn format_of(name: &OsStr, fallback: Option<Format>) -> Result<Format> {
    let lower = name.as_bytes().to_ascii_lowercase();
    let ends = |suffix: &str| lower.ends_with(suffix.as_bytes());
    // Other tools' formats that end in `.json`, too: ours under such a name would mislead.
    let foreign = ends(".firefox.json") || ends(".speedscope.json");
    let told = [
        (".wakers.svg", Format::WakersSvg),
        (".wakers.folded", Format::WakersFolded),
        (".wall.svg", Format::WallSvg),
        (".wall.folded", Format::WallFolded),
        (".svg", Format::Svg),
        (".folded", Format::Folded),
        (".json", Format::Json),
        (".txt", Format::Text),
    ]
    .into_iter()
    .find_map(|(suffix, format)| {
        // `wakers.svg` is a whole name, too.
        let whole = suffix.trim_start_matches('.');
        let base = lower.rsplit(|byte| *byte == b'/').next();
        let named = whole.contains('.') && base == Some(whole.as_bytes());
        (ends(suffix) || named).then_some(format)
    });
    match told.filter(|_| !foreign).or(fallback) {
        Some(format) => Ok(format),
        None => Err(Error::usage(format!(
            "the name {} does not tell a format",
            name.to_string_lossy()
        ))
        .hint("end it with .svg, .folded, .json or .txt, or give --format")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
