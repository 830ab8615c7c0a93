//! The command line of `cargo holdup`.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  cargo holdup run --bin claims_api -- --port 8080
      Build it as a release with line tables, run it until Ctrl-C, and report.

  cargo holdup test --test service --fail-if 'stall>10ms'
      Run an integration test, and fail where a worker stands still.

  cargo holdup bench --bench throughput -d 30s
      Record half a minute of a benchmark.

The report goes to standard output. Reports for a browser and for programs, and the capture that
holdup report and holdup diff read, are left in target/holdup, unless -o says where.

Recording needs root: where you are not, sudo runs holdup, and holdup runs the program as you.

Exit status: that of holdup record; 5 where the program itself failed.";

/// Build a package with the names that a report needs, and find out what holds up its tokio workers.
#[derive(Debug, Parser)]
#[command(
    name = "cargo holdup",
    bin_name = "cargo holdup",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP
)]
pub(super) struct CargoCli {
    /// Print only errors on standard error
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Record a binary or an example; as a release, unless told otherwise
    Run(Words),
    /// Record tests, each test program by itself
    Test(Words),
    /// Record benchmarks, each by itself
    Bench(Words),
}

/// What cargo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Test,
    Bench,
}

impl Verb {
    pub(super) fn parts(self) -> (Kind, Words) {
        match self {
            Verb::Run(words) => (Kind::Run, words),
            Verb::Test(words) => (Kind::Test, words),
            Verb::Bench(words) => (Kind::Bench, words),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Words {
    #[command(flatten)]
    pub(super) build: Build,

    #[command(flatten)]
    pub(super) recording: RecordWords,

    /// Arguments of the program
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<OsString>,
}

/// What cargo is to build: its own options.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to build")]
pub(super) struct Build {
    /// The package
    #[arg(short, long, value_name = "SPEC")]
    pub(super) package: Option<String>,

    /// This binary
    #[arg(long, value_name = "NAME")]
    pub(super) bin: Vec<String>,

    /// This example
    #[arg(long, value_name = "NAME")]
    pub(super) example: Vec<String>,

    /// This integration test
    #[arg(long, value_name = "NAME")]
    pub(super) test: Vec<String>,

    /// This benchmark
    #[arg(long, value_name = "NAME")]
    pub(super) bench: Vec<String>,

    /// The library's unit tests
    #[arg(long)]
    pub(super) lib: bool,

    /// With the release profile; run does so by itself
    #[arg(long, conflicts_with_all = ["dev", "profile"])]
    pub(super) release: bool,

    /// With the dev profile
    #[arg(long, conflicts_with = "profile")]
    pub(super) dev: bool,

    /// With this profile
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,

    /// Features, separated by commas
    #[arg(short = 'F', long, value_name = "FEATURES")]
    pub(super) features: Vec<String>,

    /// All features
    #[arg(long)]
    pub(super) all_features: bool,

    /// Not the default features
    #[arg(long)]
    pub(super) no_default_features: bool,

    /// Where Cargo.toml is
    #[arg(long, value_name = "PATH")]
    pub(super) manifest_path: Option<PathBuf>,
}

impl Build {
    /// The name of the profile that cargo is told.
    pub(super) fn profile(&self, kind: Kind) -> String {
        let by_itself = match kind {
            Kind::Run => "release",
            Kind::Test => "test",
            Kind::Bench => "bench",
        };
        match (&self.profile, self.release, self.dev) {
            (Some(name), ..) => name.clone(),
            (None, true, _) => "release".to_owned(),
            (None, false, true) => "dev".to_owned(),
            (None, false, false) => by_itself.to_owned(),
        }
    }
}

/// Options of `holdup record`, which checks them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What to record and to report")]
pub(super) struct RecordWords {
    /// Stop after this time; else at the program's end or at Ctrl-C
    #[arg(short, long, value_name = "TIME")]
    pub(super) duration: Option<String>,

    /// Also record the processes that the program forks
    #[arg(long)]
    pub(super) follow: bool,

    /// Exit with 4 if this holds: stall>10ms, starved>1%, blocked>5%
    #[arg(long, value_name = "CONDITION")]
    pub(super) fail_if: Vec<String>,

    /// Sites in this file count for nothing in --fail-if
    #[arg(long, value_name = "FILE", requires = "fail_if")]
    pub(super) accept: Option<PathBuf>,

    /// Write a report to this file, in place of those in target/holdup
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Vec<OsString>,

    /// The form of standard output
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) format: Option<String>,

    /// Any other option of holdup record: --with=--panics --with=--min-block=1ms
    #[arg(long, value_name = "OPTION")]
    pub(super) with: Vec<OsString>,

    /// Do not call sudo: holdup has the capabilities that it needs
    #[arg(long)]
    pub(super) no_sudo: bool,
}
