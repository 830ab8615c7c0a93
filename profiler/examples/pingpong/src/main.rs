//! The programs that `cargo xtask bench` measures with. Each prints a line that begins with
//! `ready` when it is, and ends with its standard input.

mod affinity;
mod caller;
mod cli;
mod client;
mod memory;
mod programs;
mod sleeper;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    cli::Args::parse().run()
}
