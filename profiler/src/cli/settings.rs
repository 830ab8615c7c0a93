//! What is to be done, resolved once from the command line and the environment.

pub(crate) use super::args::CheckFormat;
use super::args::{
    CheckArgs, Common, DiffArgs, DiffFormat, DumpArgs, FormArgs, ListArgs, RangeArgs, RecordArgs,
    ReportArgs, ViewArgs,
};
use super::ci_settings::{annotate, gate, sources};
use super::conditions::Gate;
use super::error::{Error, Result};
use super::filter_args;
use super::names::Template;
use super::servers;
pub(crate) use super::target_choice::TargetChoice;
use super::target_choice::joining;
use super::terminal::{is_dumb, is_plain, may_color};
use super::values::CAPTURE;
use crate::capture::{Bounds, Debuginfod, Range};
use crate::collect;
use crate::limits::Limits;
use crate::process::{Invoker, Selection};
use crate::render::{self, Format};
use crate::report::diff::Measure;
use crate::report::{Filter, Keep};
use crate::units::Nanos;
use rustix::process::Uid;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
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
    /// Whether nothing but ASCII may be shown.
    pub(crate) ascii: bool,
}

impl ConsoleSettings {
    pub(crate) fn resolve(common: &Common, environment: &Environment<'_>) -> ConsoleSettings {
        ConsoleSettings {
            quiet: common.quiet,
            verbose: common.verbose,
            color: may_color(
                common.color,
                environment.var,
                environment.stderr_is_terminal,
            ),
            spinner: environment.stderr_is_terminal
                && !is_dumb(environment.var)
                && !common.quiet
                && common.verbose == 0,
            ascii: environment.stderr_is_terminal && is_plain(environment.var),
        }
    }
}

/// Makes tables small, for tests.
const TEST_LIMITS: &str = "HOLDUP_TEST_LIMITS";

/// Everything `check` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CheckSettings {
    /// What else is checked.
    pub(crate) target: Option<TargetChoice>,
    pub(crate) format: CheckFormat,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
}

impl CheckSettings {
    pub(crate) fn resolve(
        args: &CheckArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> CheckSettings {
        CheckSettings {
            target: args.target.clone().choice(),
            format: args.format,
            rendering: rendering(common, environment),
        }
    }
}

/// What formats need that the report's sums have not.
fn kept(outputs: &[OutputSpec]) -> Keep {
    // Lines are written as they come: nothing has to be kept for them.
    let all = outputs
        .iter()
        .filter(|output| output.format != Format::Ndjson);
    let all = all.map(|output| output.format.keep());
    all.fold(Keep::NOTHING, Keep::or)
}

/// Everything `dump` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DumpSettings {
    pub(crate) target: TargetChoice,
    pub(crate) looking: collect::Options,
    pub(crate) format: CheckFormat,
    /// What of it is shown to people.
    pub(crate) shown: render::DumpOptions,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

/// A look is one interval.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// Threads on a CPU are sampled so often during a dump: each that is on one all the time is met
/// some tens of times.
const DUMP_SAMPLES: Nanos = Nanos(2_000_000);

impl DumpSettings {
    /// # Errors
    /// Where no target is given.
    pub(crate) fn resolve(
        args: DumpArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<DumpSettings> {
        let target = args.target.choice().ok_or_else(|| no_target("dump"))?;
        Ok(DumpSettings {
            target,
            looking: looking(DUMP_SAMPLES, environment),
            format: args.format,
            shown: render::DumpOptions {
                stacks: args.stacks,
                all: args.all,
            },
            rendering: rendering(common, environment),
            invoker: invoker(environment),
        })
    }
}

fn no_target(verb: &str) -> Error {
    Error::usage("no target is given").hint(format!("holdup {verb} -p PID, or -n NAME"))
}

/// A recording of a moment.
fn looking(sample_period: Nanos, environment: &Environment<'_>) -> collect::Options {
    collect::Options {
        interval: LONGEST_LOOK,
        launched: false,
        follow: false,
        joining: Selection::default(),
        min_block: Nanos(100_000),
        sample_period: Some(sample_period),
        long_poll: Nanos(10_000_000),
        shadow_every: 0,
        calls: false,
        panics: false,
        limits: test_limits(environment),
    }
}

/// Everything `list` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListSettings {
    /// Which processes; none for all.
    pub(crate) target: Option<TargetChoice>,
    /// Whether the processes are recorded.
    pub(crate) look: bool,
    pub(crate) looking: collect::Options,
    pub(crate) format: CheckFormat,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

/// Threads on a CPU are sampled as by a recording.
const LIST_SAMPLES: Nanos = Nanos(10_101_010);

impl ListSettings {
    pub(crate) fn resolve(
        args: &ListArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> ListSettings {
        ListSettings {
            target: args.target.clone().choice(),
            look: args.look,
            looking: looking(LIST_SAMPLES, environment),
            format: if args.json {
                CheckFormat::Json
            } else {
                args.format
            },
            rendering: rendering(common, environment),
            invoker: invoker(environment),
        }
    }
}

/// The user for whom files are touched.
pub(super) fn invoker(environment: &Environment<'_>) -> Option<Invoker> {
    Invoker::from_sudo(environment.effective_uid, environment.var).or_else(Invoker::of_setuid)
}

/// Everything `record` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordSettings {
    pub(crate) target: TargetChoice,
    pub(crate) duration: Option<Duration>,
    pub(crate) recording: collect::Options,
    pub(crate) outputs: Vec<OutputSpec>,
    /// A capture to write besides.
    pub(crate) capture: Option<CaptureSpec>,
    /// Whether files that exist are overwritten.
    pub(crate) force: bool,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
    /// How long a worker stands still that ends the recording.
    pub(crate) until_stall: Option<Nanos>,
    /// Whether a command that fails is a failure.
    pub(crate) fail_with_command: bool,
    /// What is listed.
    pub(crate) filter: Filter,
    /// When what was found is a failure.
    pub(crate) gate: Gate,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

/// One report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputSpec {
    pub(crate) destination: Destination,
    pub(crate) format: Format,
}

/// A capture to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaptureSpec {
    pub(crate) path: Template,
    pub(crate) bounds: Bounds,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(Template),
}

fn formats(outputs: &[OutputSpec]) -> impl Iterator<Item = Format> {
    outputs.iter().map(|output| output.format)
}

impl RecordSettings {
    /// Whether any of the outputs annotates sources.
    pub(crate) fn annotates(&self) -> bool {
        annotate(formats(&self.outputs))
    }

    /// What has to be kept one by one for the outputs.
    pub(crate) fn kept(&self) -> Keep {
        kept(&self.outputs)
    }

    /// # Errors
    /// Where the words make no sense together.
    pub(crate) fn resolve(
        args: RecordArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<RecordSettings> {
        let target = args.target.choice_or(args.command);
        let target = target.ok_or_else(|| {
            Error::usage("no target is given")
                .hint("holdup record -p PID, or -n NAME, or -- COMMAND")
        })?;
        let launched = matches!(target, TargetChoice::Command(_));
        let (captures, reports): (Vec<_>, Vec<_>) =
            args.output.into_iter().partition(|name| is_capture(name));
        let filter = Filter::from(args.filter);
        let outputs = outputs(&reports, args.form.format, environment)?;
        let gate = gate(args.form.gate.clone(), formats(&outputs))?;
        filter_args::of_recording(&filter, formats(&outputs))?;
        let bounds = Bounds {
            max_size: args.max_size,
            keep: args.keep,
        };
        Ok(RecordSettings {
            duration: args.duration,
            recording: collect::Options {
                interval: collect::INTERVAL,
                launched,
                follow: args.follow,
                joining: joining(&target),
                min_block: args.min_block,
                sample_period: (args.freq > 0).then(|| Nanos(1_000_000_000 / u64::from(args.freq))),
                long_poll: args.long_poll,
                shadow_every: args.shadow_check.unwrap_or(0),
                calls: args.syscalls && !args.no_syscalls,
                panics: args.panics,
                limits: test_limits(environment),
            },
            target,
            outputs,
            capture: capture(&captures, bounds)?,
            force: args.form.force,
            rendering: in_form(&args.form, common, environment),
            until_stall: args.until_stall,
            fail_with_command: args.fail_with_command,
            filter,
            gate,
            invoker: invoker(environment),
        })
    }
}

/// Everything `report` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReportSettings {
    pub(crate) file: PathBuf,
    pub(crate) range: Range,
    /// What is listed.
    pub(crate) filter: Filter,
    /// Where debug files are.
    pub(crate) symbols: Option<PathBuf>,
    /// Servers that have more of them.
    pub(crate) servers: Option<Debuginfod>,
    pub(crate) outputs: Vec<OutputSpec>,
    /// Whether files that exist are overwritten.
    pub(crate) force: bool,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
    /// When what was found is a failure.
    pub(crate) gate: Gate,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

impl ReportSettings {
    /// Whether any of the outputs annotates sources.
    pub(crate) fn annotates(&self) -> bool {
        annotate(formats(&self.outputs))
    }

    /// What has to be kept one by one for the outputs.
    pub(crate) fn kept(&self) -> Keep {
        let all = self.outputs.iter().map(|output| output.format.keep());
        all.fold(Keep::NOTHING, Keep::or)
    }

    /// # Errors
    /// Where the words make no sense together.
    pub(crate) fn resolve(
        args: ReportArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<ReportSettings> {
        if args.output.iter().any(|name| is_capture(name)) {
            return Err(Error::usage("holdup report writes no capture").hint("copy the file"));
        }
        let range = range(args.range)?;
        let outputs = outputs(&args.output, args.form.format, environment)?;
        let gate = gate(args.form.gate.clone(), formats(&outputs))?;
        let invoker = invoker(environment);
        // Root fetches nothing for somebody else.
        let servers = servers::of(environment.var).filter(|_| invoker.is_none());
        Ok(ReportSettings {
            file: args.file,
            range,
            filter: args.filter.into(),
            symbols: args.symbols,
            servers,
            outputs,
            force: args.form.force,
            rendering: in_form(&args.form, common, environment),
            gate,
            invoker,
        })
    }
}

/// Everything `diff` goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DiffSettings {
    pub(crate) before: PathBuf,
    pub(crate) after: PathBuf,
    pub(crate) by: Measure,
    /// Of both.
    pub(crate) range: Range,
    /// What is listed.
    pub(crate) filter: Filter,
    pub(crate) outputs: Vec<OutputSpec>,
    /// Whether files that exist are overwritten.
    pub(crate) force: bool,
    /// How to draw on standard output.
    pub(crate) rendering: render::Options,
    /// Who called `sudo`.
    pub(crate) invoker: Option<Invoker>,
}

impl DiffSettings {
    /// # Errors
    /// Where the words make no sense together.
    pub(crate) fn resolve(
        args: DiffArgs,
        common: &Common,
        environment: &Environment<'_>,
    ) -> Result<DiffSettings> {
        let format = match args.format {
            DiffFormat::Text => Format::Text,
            DiffFormat::Json => Format::Json,
            DiffFormat::Svg => Format::Svg,
        };
        let outputs = outputs(&args.output, Some(format), environment)?;
        let known = [Format::Text, Format::Json, Format::Svg];
        if let Some(other) = outputs.iter().find(|spec| !known.contains(&spec.format)) {
            let error = Error::usage(format!("holdup diff has no format {}", other.format.name()));
            return Err(error.hint("end the name with .svg, .json or .txt"));
        }
        Ok(DiffSettings {
            before: args.before,
            after: args.after,
            by: match args.per_wait {
                true => Measure::PerWait,
                false => Measure::PerSecond,
            },
            range: range(args.range)?,
            filter: args.filter.into(),
            outputs,
            force: args.force,
            rendering: rendering(common, environment),
            invoker: invoker(environment),
        })
    }
}

/// Which part of a capture is read.
fn range(args: RangeArgs) -> Result<Range> {
    let range = Range {
        from: args.from.unwrap_or(Range::ALL.from),
        to: args.to.unwrap_or(Range::ALL.to),
    };
    if range.from >= range.to {
        return Err(Error::usage("--from is not before --to"));
    }
    Ok(range)
}

/// How to draw a report on standard output in the form that was asked for.
fn in_form(form: &FormArgs, common: &Common, environment: &Environment<'_>) -> render::Options {
    render::Options {
        collapse_runtime: !form.full_stacks,
        icicle: form.icicle,
        sources: sources(environment.var),
        ..view(form.view, rendering(common, environment))
    }
}

/// How much to tell.
pub(crate) fn view(args: ViewArgs, defaults: render::Options) -> render::Options {
    let asked = args.top.and_then(|top| usize::try_from(top).ok());
    let asked = if args.all { Some(usize::MAX) } else { asked };
    render::Options {
        brief: args.brief,
        max_sites: asked.unwrap_or(defaults.max_sites),
        sites_in_full: asked.unwrap_or(defaults.sites_in_full),
        ..defaults
    }
}

/// How to draw on standard output.
pub(super) fn rendering(common: &Common, environment: &Environment<'_>) -> render::Options {
    let defaults = render::Options::default();
    render::Options {
        color: may_color(
            common.color,
            environment.var,
            environment.stdout_is_terminal,
        ),
        width: environment.stdout_width.map_or(defaults.width, usize::from),
        cut: environment.stdout_is_terminal,
        ascii: environment.stdout_is_terminal && is_plain(environment.var),
        ..defaults
    }
}

pub(super) fn test_limits(environment: &Environment<'_>) -> Limits {
    let Some(text) = (environment.var)(TEST_LIMITS) else {
        return Limits::default();
    };
    tracing::warn!("tables are made small by {TEST_LIMITS}: this recording is a test's");
    Limits::parse(&text.to_string_lossy())
}

/// Standard output always gets a report; `-o -` only says so.
fn outputs(
    names: &[OsString],
    format: Option<Format>,
    environment: &Environment<'_>,
) -> Result<Vec<OutputSpec>> {
    let stdout = OutputSpec {
        destination: Destination::Stdout,
        format: format.unwrap_or(Format::Text),
    };
    if environment.stdout_is_terminal && stdout.format.is_binary() {
        let extension = stdout.format.extension();
        return Err(Error::usage(format!(
            "{} is not for a terminal, and standard output is one",
            stdout.format.name()
        ))
        .hint(format!("write it to a file: -o profile.{extension}")));
    }
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

/// Whether the name is that of a capture.
pub(super) fn is_capture(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    name.len() > CAPTURE.len() && name.to_ascii_lowercase().ends_with(CAPTURE)
}

fn capture(names: &[OsString], bounds: Bounds) -> Result<Option<CaptureSpec>> {
    match names {
        [] if bounds != Bounds::default() => Err(Error::usage(
            "--max-size and --keep are for a capture, and none is written",
        )
        .hint("add -o incident.holdup")),
        [] => Ok(None),
        [name] => Ok(Some(CaptureSpec {
            path: Template::parse(name)?,
            bounds,
        })),
        [first, second, ..] => Err(Error::usage(format!(
            "one recording has one capture: {} or {}",
            first.to_string_lossy(),
            second.to_string_lossy()
        ))
        .hint("copy the file afterwards")),
    }
}

/// The format that a name tells, else `fallback`.
pub(super) fn format_of(name: &OsStr, fallback: Option<Format>) -> Result<Format> {
    Format::of_file_name(name).or(fallback).ok_or_else(|| {
        Error::usage(format!(
            "the name {} does not select a format",
            name.to_string_lossy()
        ))
        .hint("end it as one of those in `holdup record --help`, or give --format")
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
