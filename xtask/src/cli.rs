//! The command line.

use crate::{
    bench, compare, demo, ebpf, forms, fuzz, lint, pictures, setup, shipped, test, vm, web,
};
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
    /// Draw a million waits in every form, and see that time and memory stay within their limits
    Forms(forms::Args),
    /// Run holdup and other tools on the demo, and write docs/comparison.md
    Compare(compare::Args),
    /// Draw the README's pictures from a recording of the demo
    Pictures(pictures::Args),
    /// Record a loaded service for a long time, and see that memory stays flat and times add up
    Soak(bench::soak::Args),
    /// Build and run every test; the last line is the sum
    Test(test::Args),
    /// Check public packages as they are shipped: what they are made to do against what holdup says
    Shipped(shipped::Args),
    /// Run the live tests under other kernels, in virtual machines
    VmTest(vm::Args),
    /// Fuzz what reads the target's files (needs nightly Rust and cargo-fuzz)
    Fuzz(fuzz::Args),
    /// Check formatting, clippy, documentation, rooms and dependencies
    Lint(lint::Args),
    /// Install what rebuilding the kernel programs needs, or vm-test (nothing else needs it)
    Setup(setup::Args),
    /// Build the kernel programs into profiler/bpf
    Ebpf(ebpf::Args),
    /// Build the script and the style of the HTML report from profiler/web
    Web(web::Args),
}

/// Runs the verb that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(error) = ebpf::rustc_wrapper::take_over() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let result = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Forms(args) => forms::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Compare(args) => compare::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Pictures(args) => pictures::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Soak(args) => bench::soak::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Test(args) => test::run(&args),
        Verb::Shipped(args) => shipped::run(&args),
        Verb::VmTest(args) => vm::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Lint(args) => lint::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Setup(args) => setup::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Ebpf(args) => ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Web(args) => web::run(&args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
