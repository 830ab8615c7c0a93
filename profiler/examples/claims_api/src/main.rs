//! A health-insurance claims service that makes every classic mistake of an async program once,
//! and does the same work the right way beside it. See the README for the table of both.

mod app;
mod clearinghouse;
mod cli;
mod directory;
mod fraud;
mod handlers;
mod ledger;
mod report;
mod server;
mod store;
mod upstream;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    cli::Args::parse().run()
}
