//! `cargo xtask test`: every test of the workspace, summed up in one line.

mod live;
mod others;
mod run;

use crate::results::Tally;
use crate::{process, setup};
use anyhow::{Result, bail};
use run::Summary;
use std::process::ExitCode;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// Builds all tests, runs them, and ends with the sum over all of them.
///
/// # Errors
/// The tests cannot be built or started. Failed tests are no error but a failing exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let filter = args.filter.as_deref();
    let mut summary = Summary::default();
    if filter.is_none()
        && let Err(error) = setup::for_tests()
    {
        eprintln!("{error:#}");
        summary.hint = Some(setup::FOR_TESTS);
    }
    others::run(filter, &mut summary)?;
    // The live tests last: they take longest, and what they need is tested by the others.
    live::run(filter, &mut summary)?;
    if let Some(filter) = filter
        && summary.tally == Tally::default()
    {
        bail!("no test's name contains {filter:?}");
    }
    let passed = summary.judge(process::in_ci());
    println!();
    for line in summary.lines() {
        println!("{line}");
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
