//! The command line.

use crate::{bench, demo, ebpf, rustc_wrapper};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The chores of this repository"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build and start the demo service, load it, record it, and show the verdict
    Demo(demo::Args),
    /// Measure what recording costs
    Bench(bench::Args),
    /// Build the kernel programs into profiler/bpf (needs what `setup` installs)
    Ebpf(ebpf::Args),
}

/// Runs the verb that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(error) = rustc_wrapper::take_over() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let result = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Ebpf(args) => ebpf::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
