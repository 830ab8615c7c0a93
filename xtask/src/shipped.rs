//! `cargo xtask shipped`: public packages as their makers ship them, each made to block in a way whose
//! length is known, against what holdup says of it.

mod fetch;
mod list;
mod outcome;
mod peer;
mod report;
mod slow_files;
mod ways;

use crate::artifacts::Artifacts;
use crate::process;
use anyhow::{Result, bail};
use children::interrupt;
use outcome::{Outcome, Row};
use std::process::ExitCode;

/// Arguments of `cargo xtask shipped`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The packages (default: all in xtask/shipped.toml)
    names: Vec<String>,
    /// Two small ones only; skipping them is no failure, even in continuous integration
    #[arg(long, conflicts_with = "names")]
    quick: bool,
}

/// Fetches the packages, makes each block while it is recorded, and prints a table of what was true
/// and what was said; the last line is the sum.
///
/// # Errors
/// holdup cannot be built, or a name is not in the list. Failed checks are no error but a failing
/// exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    interrupt::watch()?;
    let mut packages = list::read()?;
    for name in &args.names {
        if !packages.iter().any(|package| package.name == *name) {
            let known: Vec<_> = packages.iter().map(|p| p.name.as_str()).collect();
            bail!("no package {name:?}; there are: {}", known.join(", "));
        }
    }
    packages.retain(|package| {
        let named = args.names.is_empty() || args.names.contains(&package.name);
        named && (package.quick || !args.quick)
    });
    let artifacts = Artifacts::build_release(&["profiler"])?;
    let holdup = artifacts.executable("holdup")?;
    let mut rows = Vec::new();
    for package in packages {
        eprintln!("shipped: {}", package.name);
        let row = Row::of(&package, ways::check(&package, holdup));
        eprintln!("shipped: {}", row.line());
        rows.push(row);
        interrupt::check()?;
    }
    println!("{}", outcome::table(&rows));
    let count = |outcome| rows.iter().filter(|row| row.outcome() == outcome).count();
    let (passed, mut failed, skipped) = (
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
    );
    if process::in_ci() && !args.quick && skipped > 0 {
        println!("FAILED: CI is set, and nothing may be skipped there");
        failed += 1;
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
