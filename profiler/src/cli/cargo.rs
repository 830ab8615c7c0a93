//! `cargo holdup`: builds a package with the names that a report needs, and records what was built.

mod args;
mod build;
mod profile;
mod recording;

use self::args::{Build, CargoCli, Kind};
use self::build::{Executable, Workspace};
use self::recording::Plan;
use super::args::When;
use super::error::{Error, Result};
use super::exit::Exit;
use super::progress::{Progress, stderr_is_terminal};
use super::settings::ConsoleSettings;
use super::terminal::may_color;
use clap::Parser;
use std::ffi::OsString;

/// Does what `cargo holdup` asks for.
#[must_use]
pub fn run_cargo() -> Exit {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    // cargo gives the name of the subcommand as the first argument.
    if words.get(1).is_some_and(|word| word == "holdup") {
        words.remove(1);
    }
    let cli = match CargoCli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Who does not read it needs none.
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage,
                false => Exit::Success,
            };
        }
    };
    let progress = Progress::new(ConsoleSettings {
        quiet: cli.quiet,
        verbose: 0,
        color: may_color(
            When::Auto,
            &|name| std::env::var_os(name),
            stderr_is_terminal(),
        ),
        spinner: false,
        // It says nothing of its own that is not.
        ascii: false,
    });
    go(cli, &progress).unwrap_or_else(|error| {
        progress.error(&error);
        error.exit_status()
    })
}

fn go(cli: CargoCli, progress: &Progress) -> Result<Exit> {
    let (kind, verb) = cli.verb.parts();
    let plan = Plan::new(verb.recording, cli.quiet, verb.args)?;
    let workspace = Workspace::ask(&verb.build)?;
    let executables = built(kind, &verb.build, &workspace, progress)?;
    let mut worst = Exit::Success;
    let mut without_tokio = 0;
    for executable in &executables {
        let several = executables.len() > 1;
        let exit = plan.record(kind, executable, &workspace, several, progress)?;
        match exit {
            // Of several test programs only some have a runtime.
            Exit::NoRuntime if several => without_tokio += 1,
            Exit::Interrupted => return Ok(exit),
            exit => worst = graver(worst, exit),
        }
    }
    match without_tokio == executables.len() {
        true => Ok(Exit::NoRuntime),
        false => Ok(worst),
    }
}

/// A test that fails outweighs a condition that holds, and holdup's own failures both.
fn graver(one: Exit, other: Exit) -> Exit {
    let weight = |exit: Exit| match exit {
        Exit::Success => 0,
        Exit::NoRuntime => 1,
        Exit::Finding => 2,
        Exit::CommandFailed => 3,
        _ => 4,
    };
    match weight(other) > weight(one) {
        true => other,
        false => one,
    }
}

fn built(
    kind: Kind,
    build: &Build,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Vec<Executable>> {
    let profile = build.profile(kind);
    let names = profile::names(&profile, workspace.manifest(), &workspace.configs());
    for (variable, value) in &names {
        progress.say(&format!("for names in the report: {variable}={value}"));
    }
    let executables = build::executables(kind, build, &names)?;
    if kind != Kind::Run {
        return match executables.is_empty() {
            true => Err(Error::new("cargo has built nothing that runs")),
            false => Ok(executables),
        };
    }
    workspace.chosen(executables).map(|one| vec![one])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_exit_is_the_last() {
        for (all, last) in [
            (
                vec![Exit::Success, Exit::Finding, Exit::Success],
                Exit::Finding,
            ),
            (
                vec![Exit::Finding, Exit::CommandFailed],
                Exit::CommandFailed,
            ),
            (
                vec![Exit::Permission, Exit::CommandFailed],
                Exit::Permission,
            ),
        ] {
            let worst = all.into_iter().fold(Exit::Success, graver);
            assert_eq!(worst, last);
        }
    }
}
