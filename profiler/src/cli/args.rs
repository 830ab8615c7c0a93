//! The command line as types. Nothing is looked up or opened here.

use super::exit::with_exit_status;
pub(crate) use super::filter_args::FilterArgs;
pub(crate) use super::shared_args::{FormArgs, GateArgs, ViewArgs};
use super::target_args::{TARGET, TargetArgs, USER};
use super::top_args::{TOP_AFTER_HELP, TopArgs};
use super::values;
use crate::units::Nanos;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup record -n claims_api -d 30s
      Record the process claims_api for 30 seconds and print the report.

  sudo holdup check -p 4711
      Check whether process 4711 can be recorded, and what the report could not show.

  holdup help record
      Show everything that can be recorded and every form of output.
"
);

const RECORD_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup record -p 4711 -d 30s
      Record process 4711 for 30 seconds and print the report.

  sudo holdup record -n claims_api -o blocked.svg -o report.json
      Record until Ctrl-C. Also write a flamegraph and a report for programs.

  sudo holdup record --min-block 1ms -o '%p-%t.folded' -- ./claims_api --port 8080
      Start the program and record it from its first instruction to its end.

The report goes to standard output, messages go to standard error. holdup overwrites an existing
file only with --force, and never writes through a symbolic link.

Under sudo, COMMAND runs as the user who called sudo, and that user owns the files. If COMMAND is
still running when the recording ends, holdup sends it SIGTERM.

Processes that --name, --unit, --cgroup and --container mean join the recording when they begin
later, as after a restart, and it goes on when none is left for the moment.

The first Ctrl-C ends the recording and writes the reports. The second ends holdup at once. SIGUSR1
writes a report of so far, and the recording goes on.
"
);

const REPORT_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  holdup report incident.holdup
      Print the report that holdup record printed.

  holdup report incident.holdup --from 10s --to 20s -o blocked.svg
      Report on ten seconds of it, and draw them as a flamegraph.

  holdup report incident.holdup -f json
      Print the report for programs.

No privileges are needed, and neither the program nor the machine that was recorded. A capture of
which the end is missing, since holdup was killed or the disk was full, is reported as far as it goes.
"
);

const DIFF_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  holdup diff before.holdup after.holdup
      Compare verdicts, workers and sites.

  holdup diff before.holdup after.holdup --per-wait
      Compare how long one wait takes, however many there were.

  holdup diff before.holdup after.holdup -o changed.svg
      Also draw a flamegraph of the second one, in which red has become worse and blue better.

Sites are the same where function, cause and state are, so that they are found again when lines have
moved. Recordings of different lengths are compared by the second.
"
);

const DUMP_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup dump -p 4711
      Show what every tokio thread of process 4711 does right now.

  sudo holdup dump -n claims_api --stacks
      The same, by name and with whole stacks.

  sudo holdup dump -q -p 4711 > stuck.txt || [ $? -ne 4 ] || page-somebody
      Act where the service is wedged.

It takes two looks, a tenth of a second apart, and about a third of a second in all. Threads are
neither stopped nor signalled. A runtime is wedged if each of its workers has been blocked in one
wait for a second, or if some wait for each other; it is stopped if a signal, a debugger or the
freezer holds all of them.
"
);

const LIST_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup list
      List the processes that hold tokio, in their executables or in libraries.

  sudo holdup list --look
      Also record all of them for a second, the most blocked first.

Without sudo only your own processes are seen; how many others there are is said. Of each file the
constants are read, once, and no more than 128 MiB.
"
);

const CHECK_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup check
      Check permissions and the kernel.

  sudo holdup check -p 4711
      Also check process 4711: tokio, symbols, line tables.

  sudo holdup check -n claims_api
      Check every process of this name, each for itself.

Each requirement is in one of four states:
  ok       it is met
  limited  recordings work, but lack something
  missing  nothing can be recorded
  unknown  it cannot be checked, because something else is missing

The exit status is the one with which holdup record would fail before it records anything. Of several
processes one with tokio is enough.
"
);

/// Find out which tokio workers are held up inside a task, by what, and from where.
#[derive(Debug, Parser)]
#[command(
    name = "holdup",
    version,
    max_term_width = 100,
    after_help = AFTER_HELP,
    // Bare `holdup` is a question, not a mistake: the caller prints help and succeeds.
    subcommand_required = false,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print only errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more on standard error: what is done (-v), why (-vv), everything (-vvv)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colors; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Record a process and report where its tokio workers were blocked
    #[command(
        after_long_help = RECORD_AFTER_HELP,
        override_usage = "holdup record [OPTIONS] --pid PID[,PID...]\n       \
                          holdup record [OPTIONS] --name NAME\n       \
                          holdup record [OPTIONS] --unit NAME | --cgroup PATH | --container ID\n       \
                          holdup record [OPTIONS] -- COMMAND [ARGS]..."
    )]
    Record(RecordArgs),

    /// Watch a process live, full-screen
    #[command(
        after_long_help = TOP_AFTER_HELP,
        override_usage = "holdup top [OPTIONS] --pid PID[,PID...]\n       \
                          holdup top [OPTIONS] --name NAME\n       \
                          holdup top [OPTIONS] --unit NAME | --cgroup PATH | --container ID\n       \
                          holdup top [OPTIONS] -- COMMAND [ARGS]..."
    )]
    Top(TopArgs),

    /// Show a capture that record has written, in any form
    #[command(after_long_help = REPORT_AFTER_HELP)]
    Report(ReportArgs),

    /// Compare two captures: what has become better, and what worse
    #[command(after_long_help = DIFF_AFTER_HELP)]
    Diff(DiffArgs),

    /// Show what every tokio thread does right now, and who waits for whom
    #[command(after_long_help = DUMP_AFTER_HELP)]
    Dump(DumpArgs),

    /// List the processes of this machine that hold tokio
    #[command(after_long_help = LIST_AFTER_HELP)]
    List(ListArgs),

    /// Check whether this machine can record, and say what to do if not
    #[command(after_long_help = CHECK_AFTER_HELP)]
    Check(CheckArgs),

    /// Load the kernel programs without attaching them, and print what verifying each one took
    #[command(hide = true)]
    Probe,

    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print a manual page, in roff: holdup man record | man -l -
    Man {
        /// The verb to describe; without one, the program
        verb: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Start this command and record it from its first instruction
    #[arg(last = true, value_name = "COMMAND", group = TARGET, conflicts_with = USER, help_heading = "Target")]
    pub(crate) command: Vec<OsString>,

    /// Exit with 5 if COMMAND fails, whatever else was found
    #[arg(
        long,
        requires = "command",
        help_heading = "For continuous integration"
    )]
    pub(crate) fail_with_command: bool,

    /// Also record the processes that the targets fork
    #[arg(long, help_heading = "Target")]
    pub(crate) follow: bool,

    /// Stop after this time: 30s, 500ms, 1h30m; a bare number is seconds, as in every option
    ///
    /// By default the recording goes on until Ctrl-C; of processes given by --pid, or a COMMAND, also until the
    /// last one ends.
    #[arg(short, long, value_name = "TIME", value_parser = values::duration, allow_negative_numbers = true)]
    pub(crate) duration: Option<Duration>,

    /// End when a worker has stood still in a poll for this time: 200ms
    ///
    /// The report is of the 30 seconds before, and of two more after it. Until then nothing older is kept,
    /// however long the recording takes.
    #[arg(long, value_name = "TIME", value_parser = values::until_stall)]
    pub(crate) until_stall: Option<Nanos>,

    /// Record each wait of at least this time by itself: 1ms, 100us
    ///
    /// Shorter waits count in all totals, but are missing from the timeline. From 1us to 10s.
    #[arg(
        short,
        long,
        value_name = "TIME",
        value_parser = values::min_block,
        allow_negative_numbers = true,
        default_value = "100us"
    )]
    pub(crate) min_block: Nanos,

    /// Sample running threads of the target this many times per second on each CPU
    ///
    /// The report shows what they do apart from what they wait for. 0 turns sampling off; at most
    /// 1000.
    #[arg(
        short = 'F',
        long,
        value_name = "HZ",
        value_parser = values::freq,
        allow_negative_numbers = true,
        default_value = "99"
    )]
    pub(crate) freq: u32,

    /// List task polls that take at least this time, waiting or computing: 10ms, 500us
    ///
    /// Samples find polls that compute, so one shorter than two sampling periods (see --freq) is found
    /// only by chance.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = values::long_poll,
        allow_negative_numbers = true,
        default_value = "10ms"
    )]
    pub(crate) long_poll: Nanos,

    /// Find single system calls that keep a CPU busy for --min-block or longer
    ///
    /// For example a read of 100 MB from the page cache. This slows down every system call of
    /// every process; docs/cost.md says by how much.
    #[arg(long, overrides_with = "no_syscalls")]
    pub(crate) syscalls: bool,

    /// Undo an earlier --syscalls
    #[arg(long)]
    pub(crate) no_syscalls: bool,

    /// Count panics, and show where they began
    ///
    /// A panic in a task ends only that task, so it is easily overlooked. Needs the program's
    /// symbol table.
    #[arg(long)]
    pub(crate) panics: bool,

    /// Unwind about one stack in N again with a second unwinder, and count the differences
    ///
    /// The kernel programs copy up to 32 KiB of each such stack, and choose it at random. N = 1000
    /// costs next to nothing; N = 1 (every stack) slows the target down.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shadow_check: Option<u32>,

    /// Also write a report to this file; may be given several times
    #[arg(
        short,
        long,
        value_name = "FILE",
        long_help = values::output_help(),
        help_heading = "Output"
    )]
    pub(crate) output: Vec<OsString>,

    /// Keep only about this much of the recording in the capture: 10m, 1h
    ///
    /// Older seconds are dropped from the file, and the end of the recording says so.
    #[arg(long, value_name = "TIME", value_parser = values::keep, help_heading = "Output")]
    pub(crate) keep: Option<Nanos>,

    /// Keep the capture smaller than this, by dropping its oldest seconds: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = "Output")]
    pub(crate) max_size: Option<u64>,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The capture: a file that holdup record -o NAME.holdup has written
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) range: RangeArgs,

    /// Name what had no name when it was recorded, by debug files in this folder
    ///
    /// A file is taken if it has the build ID of the program or library: from .build-id/ab/cdef.debug or
    /// ab/cdef.debug as distributions lay them out, or from the folder itself under any name. An
    /// executable that was not stripped serves as well.
    ///
    /// Where DEBUGINFOD_URLS is set, its servers are asked for what else has no name.
    #[arg(long, value_name = "DIR")]
    pub(crate) symbols: Option<PathBuf>,

    /// Also write a report to this file; may be given several times
    #[arg(
        short,
        long,
        value_name = "FILE",
        long_help = values::report_output_help(),
        help_heading = "Output"
    )]
    pub(crate) output: Vec<OsString>,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// Which part of a capture is read.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RangeArgs {
    /// Begin this long after the beginning of the recording: 10s, 1m30s
    ///
    /// A capture is divided into intervals of about a second. Those that have a part in the range are
    /// taken as a whole, and the report says which range that is.
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    pub(crate) from: Option<Nanos>,

    /// End this long after the beginning of the recording
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    pub(crate) to: Option<Nanos>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The capture to compare with
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,

    /// The capture to look at
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,

    /// Compare the blocked time of one wait, not of one second of the recording
    #[arg(long)]
    pub(crate) per_wait: bool,

    #[command(flatten)]
    pub(crate) range: RangeArgs,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Also write the comparison to this file; its extension (.svg, .json, .txt) chooses the format
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Vec<OsString>,

    /// Format of standard output, and of files whose extension selects none
    #[arg(short, long, value_enum, default_value_t = DiffFormat::Text, help_heading = "Output")]
    pub(crate) format: DiffFormat,

    /// Overwrite existing files
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,
}

/// A format of what `diff` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    /// For people
    #[value(alias = "txt")]
    Text,
    /// For programs, with a versioned schema
    Json,
    /// Flamegraph of what has changed
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Show whole stacks
    #[arg(long, help_heading = "Output")]
    pub(crate) stacks: bool,

    /// Also show threads that are idle or not tokio's
    #[arg(long, help_heading = "Output")]
    pub(crate) all: bool,

    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Text, help_heading = "Output")]
    pub(crate) format: CheckFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Record them for a second: how many runtimes and workers they have, and for which share of it these
    /// were blocked
    #[arg(long)]
    pub(crate) look: bool,

    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Text)]
    pub(crate) format: CheckFormat,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,

    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Text)]
    pub(crate) format: CheckFormat,
}

/// A format of what `check`, `dump` and `list` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    #[value(alias = "txt")]
    Text,
    /// For programs, with a versioned schema
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Selector;
    use crate::units::Pid;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn record(words: &[&str]) -> Result<RecordArgs, clap::Error> {
        let all = ["holdup", "record"].iter().chain(words);
        match Cli::try_parse_from(all)?.verb {
            Some(Verb::Record(args)) => Ok(args),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn at_most_one_target() {
        assert_eq!(
            record(&["-p", "12"]).map(|args| args.target.pid).ok(),
            Some(vec![Pid(12)])
        );
        assert_eq!(
            record(&["-p", "12,13", "-p", "14"])
                .map(|args| args.target.pid)
                .ok(),
            Some(vec![Pid(12), Pid(13), Pid(14)])
        );
        assert_eq!(
            record(&["-n", "x", "-n", "/y"])
                .map(|args| args.target.name)
                .ok(),
            Some(vec![Selector::Name("x".into()), Selector::Exe("/y".into())])
        );
        for words in [&["-n", "x", "--user", "0"][..], &["--user", "root"]] {
            let args = record(words).expect("of a user");
            assert_eq!(args.target.user, Some(0), "{words:?}");
        }
        let args = record(&["-d", "1", "--", "prog", "-p", "7"]).expect("a command");
        assert_eq!(args.command, ["prog", "-p", "7"]);
        assert_eq!(args.target.pid, []);
        for words in [
            &["-p", "1", "-n", "x"][..],
            &["-p", "1", "--", "prog"],
            &["-n", "x", "--", "prog"],
            &["-n", "x", "--unit", "y"],
            &["--cgroup", "/a", "--container", "0123"],
            &["--container", "claims"],
            &["--container", "012"],
            &["--unit", "a/b"],
            &["--unit", "x", "--", "prog"],
            &["-p", "1,"],
            &["-p", ""],
            &["-p", "1", "--user", "0"],
            &["--user", "0", "--", "prog"],
            &["--user", "no such user"],
            &["prog"],
        ] {
            assert!(record(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other() {
        assert!(Cli::try_parse_from(["holdup", "-q", "record", "-p", "1"]).is_ok());
        assert!(Cli::try_parse_from(["holdup", "record", "-p", "1", "-vv"]).is_ok());
        assert!(Cli::try_parse_from(["holdup", "record", "-p", "1", "-q", "-v"]).is_err());
    }
}
