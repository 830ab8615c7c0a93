//! From the words of the command line to the exit.

use super::args::{Cli, Verb};
use super::check;
use super::engine::Engine;
use super::interrupt::supervise;
use super::output::write_stdout;
use super::probe;
use super::progress::{Progress, stderr_is_terminal};
use super::record;
use super::settings::{CheckSettings, ConsoleSettings, Environment, RecordSettings};
use crate::error::{Error, Exit, Result, shell_word};
use crate::host;
use crate::host::privileges::is_more_than_its_caller;
use clap::{CommandFactory, Parser};
use std::io::{IsTerminal, Write};
use std::sync::Arc;

/// Does what the command line asks for.
#[must_use]
pub fn run() -> Exit {
    run_with::<super::live::Live>()
}

fn run_with<E: Engine>() -> Exit {
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
    start_log(console);
    let done = match cli.verb {
        None => print_help(),
        Some(Verb::Record(args)) => RecordSettings::resolve(args, &cli.common, &environment)
            .and_then(|settings| run_record::<E>(settings, &progress)),
        Some(Verb::Check(args)) => {
            check::check(&CheckSettings::resolve(&args, &cli.common, &environment))
        }
        Some(Verb::Probe) => probe::probe(),
        Some(Verb::Completions { shell }) => print_completions(shell),
        Some(Verb::Man { verb }) => print_manual(verb.as_deref()),
    };
    done.unwrap_or_else(|error| fail(&progress, error))
}

/// Prints what clap has to say instead of doing something: an error, the help or the version.
fn misunderstood(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        // Named like every other error, since it may stand among those of other programs.
        let _ = std::io::stderr().write_all(b"holdup: ");
    }
    // Who does not read it needs none.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Success
    }
}

fn run_record<E: Engine>(settings: RecordSettings, progress: &Arc<Progress>) -> Result<Exit> {
    let features = host::preflight()?;
    let progress = Arc::clone(progress);
    supervise(move |stop| {
        record::record::<E>(&settings, &features, &progress, stop)
            .unwrap_or_else(|error| fail(&progress, error))
    })
}

/// Tells of an error, and how to end for it.
fn fail(progress: &Progress, error: Error) -> Exit {
    let exit = error.exit_status();
    let error = if exit == Exit::Permission && error.suggestion().is_none() {
        error.hint(permission_hint())
    } else {
        error
    };
    progress.error(&error);
    exit
}

/// The same command with sudo; for root, who lacks capabilities only in a container, the way to
/// give them.
pub(super) fn permission_hint() -> String {
    if rustix::process::geteuid().is_root() {
        return "give the container CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (docker run --cap-add)"
            .into();
    }
    let mut words = std::env::args_os();
    let typed = words.next().unwrap_or_default();
    // sudo looks in its own PATH, where a program under a home directory is not found.
    let program = match std::env::current_exe() {
        Ok(path) if !path.starts_with("/usr") && !path.starts_with("/bin") => path.into(),
        _ => typed,
    };
    let mut hint = format!("sudo {}", shell_word(&program.to_string_lossy()));
    for word in words {
        hint.push(' ');
        hint.push_str(&shell_word(&word.to_string_lossy()));
    }
    hint
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
fn start_log(console: ConsoleSettings) {
    use tracing_subscriber::{EnvFilter, fmt};
    let level = match (console.quiet, console.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("HOLDUP_LOG")
        .ok()
        .filter(|_| !is_more_than_its_caller())
        .unwrap_or_else(|| EnvFilter::new(level));
    // Fails only where a log is set up already, which then serves.
    let _ = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console.color)
        .without_time()
        .try_init();
}
