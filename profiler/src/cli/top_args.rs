//! The words of `holdup top`.

use super::exit::with_exit_status;
use super::shared_args::ViewArgs;
use super::target_args::{TARGET, TargetArgs, USER};
use super::values;
use crate::units::Nanos;
use clap::Args;
use std::ffi::OsString;

pub(crate) const TOP_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup top -p 4711
      Watch process 4711.

  sudo holdup top -n claims_api -o seen.html
      Watch every claims_api. The key s saves a report to seen.html, and a capture to seen.holdup.

Keys: q quits and prints the report of everything recorded, s saves a capture of it, for holdup
report, ? explains the others. Runtimes and sites are those of the last 5 seconds; the key r takes
more of them. Harm is the time in which no task could run, and would without the waits of a site.

A worker's lane has a letter where it was blocked, by the cause, and a sign where it was not.
Nothing depends on colours. Where there is no terminal, or TERM is dumb, use holdup record.

COMMAND runs without input and output, as top needs the terminal. To keep its output:
  -- sh -c 'exec service > log'
"
);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Start this command, without input and output, and watch it from its first instruction
    #[arg(last = true, value_name = "COMMAND", group = TARGET, conflicts_with = USER, help_heading = "Target")]
    pub(crate) command: Vec<OsString>,

    /// Also watch the processes that the targets fork
    #[arg(long, help_heading = "Target")]
    pub(crate) follow: bool,

    /// Record each wait of at least this time by itself: 1ms, 100us
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = values::min_block,
        allow_negative_numbers = true,
        default_value = "100us"
    )]
    pub(crate) min_block: Nanos,

    /// Sample running threads of the target this many times per second on each CPU; 0: not at all
    #[arg(
        short = 'F',
        long,
        value_name = "HZ",
        value_parser = values::freq,
        allow_negative_numbers = true,
        default_value = "99"
    )]
    pub(crate) freq: u32,

    /// The file to which the key s saves what was seen [default: holdup-%p-%t.holdup]
    ///
    /// The key saves a capture of everything recorded so far, for holdup report: the last 128 MiB of it, and
    /// the screen says how far they go back. A FILE with the extension of a report gets that report, and the
    /// capture is called FILE with the extension .holdup. Of a FILE with that extension everything is written
    /// from the start, without a key and without a limit. %p stands for the pid, %t for the time. A second
    /// one of the same name replaces the first.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<OsString>,

    /// Overwrite an existing file
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) view: ViewArgs,
}
