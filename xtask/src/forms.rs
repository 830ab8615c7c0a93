//! `cargo xtask forms`: what each form of a report of a million waits takes, against what is promised.

use crate::artifacts::Artifacts;
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Tests that measure an optimised program where they are given one, and of which trial that is.
const MEASURING: [(&str, &str); 2] = [
    ("report_cost", "each_form_of_a_million_waits"),
    ("html", "driven_page_of_a_million_waits"),
];

/// What `cargo xtask forms` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Measure this program instead of the one that is built here, to compare two.
    #[arg(long, value_name = "FILE")]
    holdup: Option<PathBuf>,
}

/// Writes a capture of a million waits, has an optimised program draw it in every form and compare it, and a
/// browser open and zoom its page. Each prints its time and its memory beside what it may take.
///
/// # Errors
/// Something takes more than it may, or a build fails. Without Node or Chromium the page is left out.
pub fn run(args: &Args) -> Result<()> {
    let holdup = match &args.holdup {
        Some(holdup) => holdup
            .canonicalize()
            .with_context(|| format!("cannot find {}", holdup.display()))?,
        None => Artifacts::build_release(&["profiler"])?
            .executable("holdup")?
            .to_owned(),
    };
    let mut failed = Vec::new();
    for (test, trial) in MEASURING {
        let artifacts = Artifacts::build_test(test)?;
        let mut command = Command::new(artifacts.executable(test)?);
        command
            .current_dir(paths::root().join("profiler"))
            .env("HOLDUP_MEASURED", &holdup)
            .args([trial, "--nocapture"]);
        if let Err(error) = process::run(&mut command) {
            failed.push(format!("{trial}: {error}"));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("{}", failed.join("; ")),
    }
}
