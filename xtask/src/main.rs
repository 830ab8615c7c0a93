//! `cargo xtask`: the chores of this repository.

use clap::Parser;

#[derive(clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    /// Build and start the demo service, load it, record it, and show the verdict
    Demo(xtask::demo::Args),
    /// Measure what recording costs
    Bench(xtask::bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Demo(args) => xtask::demo::run(&args),
        Verb::Bench(args) => xtask::bench::run(&args),
    }
}
