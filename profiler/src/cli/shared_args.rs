//! Options that several verbs have.

use super::conditions::Condition;
use crate::render::Format;
use clap::Args;
use std::path::PathBuf;

/// In which form reports are written, and when what they say is a failure.
#[derive(Clone, Debug, Args)]
pub(crate) struct FormArgs {
    /// Format of standard output, and of files whose extension selects none
    #[arg(short, long, value_enum, help_heading = "Output")]
    pub(crate) format: Option<Format>,

    /// Overwrite existing files
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Draw every frame in flamegraphs and folded stacks
    ///
    /// By default the runtime's frames outside a task are drawn as one, as is a library call with
    /// all that it calls. Kernel frames are replaced by the cause of the wait.
    #[arg(long, help_heading = "Output")]
    pub(crate) full_stacks: bool,

    /// Draw flamegraphs from the top down
    #[arg(long, help_heading = "Output")]
    pub(crate) icicle: bool,

    #[command(flatten)]
    pub(crate) view: ViewArgs,

    #[command(flatten)]
    pub(crate) gate: GateArgs,
}

/// When a recording is a failure.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct GateArgs {
    /// Exit with 4 if this holds: stall>10ms, starved>1%, blocked>5%; may be given several times
    ///
    /// stall is the longest time in which a worker stood still in a poll, starved the time in which no task
    /// of a runtime could run, blocked the time in which workers waited in polls. Of some sites alone:
    /// site=NAME:blocked>1ms, cause=lock:blocked>1ms.
    #[arg(
        long,
        value_name = "CONDITION",
        help_heading = "For continuous integration"
    )]
    pub(crate) fail_if: Vec<Condition>,

    /// Sites in this file count for nothing in --fail-if
    ///
    /// A TOML file with a table in the list accept for each: function (a part of its name, * for
    /// anything), reason, and if wanted cause and until (a day).
    #[arg(
        long,
        value_name = "FILE",
        requires = "fail_if",
        help_heading = "For continuous integration"
    )]
    pub(crate) accept: Option<PathBuf>,
}

/// How much the text report tells.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ViewArgs {
    /// List this many sites of each kind in the text report, with all that is known of them
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["all", "brief"],
        help_heading = "Text report"
    )]
    pub(crate) top: Option<u32>,

    /// List every site in the text report, with all that is known of it
    #[arg(long, conflicts_with = "brief", help_heading = "Text report")]
    pub(crate) all: bool,

    /// End the text report after the verdict, the workers and a line for each site
    #[arg(long, help_heading = "Text report")]
    pub(crate) brief: bool,
}
