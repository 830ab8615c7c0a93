//! Options that choose what is listed.

use super::error::{Error, Result};
use super::values;
use crate::cause::Cause;
use crate::render::Format;
use crate::report::Filter;
use crate::units::Nanos;
use clap::Args;

/// What a report is to list. Each may be given several times, and then any of them has to fit.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// List only what threads of this runtime did: rt0, or a part of its threads' names
    ///
    /// Filters choose what is listed and drawn. The verdict, the times of workers, the losses and what
    /// --fail-if asks stay those of the whole recording, and the report says so. Each filter may be given
    /// several times: one of them has to fit. Of several filters all have to. In a name, * stands for
    /// anything. A capture has everything all the same.
    #[arg(long, value_name = "RUNTIME", value_parser = values::pattern, help_heading = "Filters")]
    pub(crate) runtime: Vec<String>,

    /// List only what this thread did: its id, or a part of its name
    #[arg(long, value_name = "THREAD", value_parser = values::pattern, help_heading = "Filters")]
    pub(crate) thread: Vec<String>,

    /// List only what this task did: a part of its outermost async function
    #[arg(long, value_name = "FUNCTION", value_parser = values::pattern, help_heading = "Filters")]
    pub(crate) task: Vec<String>,

    /// List only sites with this function, or at this line: a part of the name, or ledger.rs:88
    #[arg(long, value_name = "FUNCTION", value_parser = values::pattern, help_heading = "Filters")]
    pub(crate) site: Vec<String>,

    /// List only waits with this cause: lock, file-io, network, as reports name them
    #[arg(
        long,
        value_name = "CAUSE",
        value_parser = values::cause,
        value_delimiter = ',',
        help_heading = "Filters"
    )]
    pub(crate) cause: Vec<Cause>,

    /// List only sites of which one wait took as long as this, and such polls and calls: 5ms
    ///
    /// In timelines, only such waits. What ran is listed all the same.
    #[arg(long, value_name = "TIME", value_parser = values::limit, help_heading = "Filters")]
    pub(crate) min: Option<Nanos>,
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Filter {
        Filter {
            runtime: args.runtime,
            thread: args.thread,
            task: args.task,
            site: args.site,
            cause: args.cause,
            min_ns: args.min.unwrap_or_default(),
        }
    }
}

/// Which runtimes there are is known only at the end.
///
/// # Errors
/// Where lines that are written meanwhile were to be chosen by runtime.
pub(crate) fn of_recording(filter: &Filter, formats: impl Iterator<Item = Format>) -> Result<()> {
    let mut formats = formats;
    if filter.runtime.is_empty() || !formats.any(|format| format == Format::Ndjson) {
        return Ok(());
    }
    let error = Error::usage(
        "lines of ndjson are written while the recording goes on, and its runtimes are known at the end",
    );
    Err(error.hint("-o x.holdup, and then: holdup report x.holdup -f ndjson --runtime …"))
}
