//! From the words of the command line to the exit.

use super::args::{Cli, Verb};
use super::check;
use super::diff;
use super::dump;
use super::engine::Recorder;
use super::error::{Error, Result};
use super::exit::Exit;
use super::held_log::HeldLog;
use super::hint;
use super::interrupt::{ignore_early_requests, supervise};
use super::list;
use super::misunderstood::misunderstood;
use super::output::write_stdout;
use super::probe;
use super::progress::{Progress, stderr_is_terminal};
use super::record;
use super::report;
use super::screen;
use super::settings::{
    CheckSettings, ConsoleSettings, DiffSettings, DumpSettings, Environment, ListSettings,
    RecordSettings, ReportSettings,
};
use super::top;
use super::top_settings::TopSettings;
use crate::host;
use crate::host::privileges::is_more_than_its_caller;
use clap::{CommandFactory, Parser};
use std::io::IsTerminal;
use std::sync::Arc;

/// Does what the command line asks for.
#[must_use]
pub fn run() -> Exit {
    run_with::<super::live::Live>()
}

fn run_with<R: Recorder>() -> Exit {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    hint::note_verb(&words);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let environment = Environment {
        var: &|name| std::env::var_os(name).filter(|_| !is_more_than_its_caller()),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: stderr_is_terminal(),
        stdout_width: rustix::termios::tcgetwinsize(std::io::stdout())
            .ok()
            .map(|size| size.ws_col)
            .filter(|&columns| columns > 0),
        effective_uid: rustix::process::geteuid(),
    };
    let console = ConsoleSettings::resolve(&cli.common, &environment);
    let progress = Arc::new(Progress::new(console));
    start_log(console, &environment);
    let done = match cli.verb {
        None => print_help(),
        Some(Verb::Record(args)) => RecordSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| run_record::<R>(settings, &progress)),
        Some(Verb::Report(args)) => ReportSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| report::report(&settings, &progress)),
        Some(Verb::Diff(args)) => DiffSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| diff::diff(&settings, &progress)),
        Some(Verb::Check(args)) => {
            check::check(&CheckSettings::resolve(&args, &cli.common, &environment))
        }
        Some(Verb::Top(args)) => TopSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| run_top(settings, &progress)),
        Some(Verb::Dump(args)) => DumpSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| run_dump(settings, &progress)),
        Some(Verb::List(args)) => run_list(
            ListSettings::resolve(&args, &cli.common, &environment),
            &progress,
        ),
        Some(Verb::Probe) => probe::probe(),
        Some(Verb::Completions { shell }) => print_completions(shell),
        Some(Verb::Man { verb }) => print_manual(verb.as_deref()),
    };
    done.unwrap_or_else(|error| fail(&progress, error))
}

fn run_record<R: Recorder>(settings: RecordSettings, progress: &Arc<Progress>) -> Result<Exit> {
    ignore_early_requests();
    let features = host::preflight()?;
    let progress = Arc::clone(progress);
    supervise(move |stop| {
        record::record::<R>(&settings, &features, &progress, stop)
            .unwrap_or_else(|error| fail(&progress, error))
    })
}

fn run_top(settings: TopSettings, progress: &Arc<Progress>) -> Result<Exit> {
    ignore_early_requests();
    let features = host::preflight()?;
    let progress = Arc::clone(progress);
    let exit = supervise(move |stop| {
        top::top(&settings, &features, &progress, stop).unwrap_or_else(|error| {
            // Or nobody would see it.
            screen::restore();
            fail(&progress, error)
        })
    });
    // A second signal ends the work halfway.
    screen::restore();
    exit
}

fn run_dump(settings: DumpSettings, progress: &Arc<Progress>) -> Result<Exit> {
    let features = host::preflight()?;
    let progress = Arc::clone(progress);
    supervise(move |_| {
        dump::dump(&settings, &features).unwrap_or_else(|error| fail(&progress, error))
    })
}

fn run_list(settings: ListSettings, progress: &Arc<Progress>) -> Result<Exit> {
    let progress = Arc::clone(progress);
    supervise(move |_| list::list(&settings).unwrap_or_else(|error| fail(&progress, error)))
}

/// Prints an error. Returns how to end for it.
fn fail(progress: &Progress, error: Error) -> Exit {
    let error = error.with_permission_hint();
    progress.error(&error);
    error.exit_status()
}

fn print_help() -> Result<Exit> {
    print(Cli::command().render_help().to_string().as_bytes())
}

fn print_completions(shell: clap_complete::Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "holdup", &mut script);
    print(&script)
}

fn print_manual(verb: Option<&str>) -> Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let described = match verb {
        None => &command,
        Some(verb) => command.find_subcommand(verb).ok_or_else(|| {
            Error::usage(format!("no verb is called {verb}")).hint("holdup --help")
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(described.clone())
        .render(&mut page)
        .map_err(|error| Error::new("cannot render the manual page").because(error))?;
    print(&page)
}

fn print(content: &[u8]) -> Result<Exit> {
    write_stdout(|out| out.write_all(content))
        .map_err(|error| Error::new("cannot write to standard output").because(error))?;
    Ok(Exit::Success)
}

/// Log lines go to standard error; `HOLDUP_LOG` overrides `-q` and `-v`, as `holdup=trace`.
fn start_log(console: ConsoleSettings, environment: &Environment<'_>) {
    use tracing_subscriber::{EnvFilter, fmt};
    let level = match (console.quiet, console.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = (environment.var)("HOLDUP_LOG")
        .and_then(|filter| EnvFilter::try_new(filter.to_str()?).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    // Fails only where a log is set up already, which then serves.
    let _ = fmt()
        .with_env_filter(filter)
        .with_writer(|| HeldLog)
        .with_ansi(console.color)
        // Where in holdup it was said is for whoever works on it.
        .with_target(console.verbose > 1)
        .without_time()
        .try_init();
}
