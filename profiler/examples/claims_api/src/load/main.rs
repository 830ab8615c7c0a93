//! Load for the claims service: a mix of its endpoints over a few connections, and the latency
//! of each. Only for a service on this machine.

mod client;
mod endpoints;
mod latency;
mod run;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    run::Args::parse().run()
}
