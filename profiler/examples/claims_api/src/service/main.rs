//! The claims service: what the library does, behind HTTP.

mod cli;
mod routes;
mod server;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    cli::Args::parse().run()
}
