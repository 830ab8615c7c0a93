//! The command line as types. Nothing is looked up or opened here.

use super::exit::with_exit_status;
use super::values;
use crate::render::Format;
use crate::units::{Nanos, Pid};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
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

The first Ctrl-C ends the recording and writes the reports. The second ends holdup at once.
"
);

const CHECK_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup check
      Check permissions and the kernel.

  sudo holdup check -p 4711
      Also check process 4711: tokio, symbols, line tables.

Each requirement is in one of four states:
  ok       it is met
  limited  recordings work, but lack something
  missing  nothing can be recorded
  unknown  it cannot be checked, because something else is missing

The exit status is the one with which holdup record would fail before it records anything.
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
                          holdup record [OPTIONS] -- COMMAND [ARGS]..."
    )]
    Record(RecordArgs),

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
// That there is a target is left to the settings, which say it better than clap would.
#[command(group = ArgGroup::new("target").args(["pid", "name", "command"]))]
pub(crate) struct RecordArgs {
    /// Record the process with this id, or several: -p 4711,4712
    #[arg(
        short,
        long,
        value_name = "PID",
        value_parser = values::pid,
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Target"
    )]
    pub(crate) pid: Vec<Pid>,

    /// Record every process with this name, or whose executable file has it
    #[arg(short, long, value_name = "NAME", value_parser = values::name, help_heading = "Target")]
    pub(crate) name: Option<String>,

    /// Start this command and record it from its first instruction
    #[arg(last = true, value_name = "COMMAND", help_heading = "Target")]
    pub(crate) command: Vec<OsString>,

    /// Also record the processes that the targets fork
    #[arg(long, help_heading = "Target")]
    pub(crate) follow: bool,

    /// Stop after this time: 30s, 500ms, 2m; a bare number is seconds
    ///
    /// By default the recording goes on until Ctrl-C, or until the last target ends.
    #[arg(short, long, value_name = "TIME", value_parser = values::duration, allow_negative_numbers = true)]
    pub(crate) duration: Option<Duration>,

    /// Record each wait of at least this time by itself: 1ms, 100us
    ///
    /// Shorter waits count in all totals, but are missing from the timeline. From 1us to 1h.
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
    /// every process; the README says by how much.
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

    /// Format of standard output, and of files whose extension selects none
    #[arg(short, long, value_enum, help_heading = "Output")]
    pub(crate) format: Option<Format>,

    /// Overwrite existing files
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Draw every frame in flamegraphs and folded stacks
    ///
    /// By default the runtime's frames outside a task are drawn as one, as is a library call with
    /// all that it calls. Instead of the kernel's frames stands why the thread waited.
    #[arg(long, help_heading = "Output")]
    pub(crate) full_stacks: bool,

    /// Draw flamegraphs from the top down
    #[arg(long, help_heading = "Output")]
    pub(crate) icicle: bool,

    #[command(flatten)]
    pub(crate) view: ViewArgs,
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

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Also check the process with this id
    #[arg(short, long, value_name = "PID", value_parser = values::one_pid, allow_negative_numbers = true)]
    pub(crate) pid: Option<Pid>,

    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Text)]
    pub(crate) format: CheckFormat,
}

/// A format of what `check` prints.
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
            record(&["-p", "12"]).map(|args| args.pid).ok(),
            Some(vec![Pid(12)])
        );
        assert_eq!(
            record(&["-p", "12,13", "-p", "14"])
                .map(|args| args.pid)
                .ok(),
            Some(vec![Pid(12), Pid(13), Pid(14)])
        );
        assert_eq!(
            record(&["-n", "x"]).map(|args| args.name).ok(),
            Some(Some("x".into()))
        );
        let args = record(&["-d", "1", "--", "prog", "-p", "7"]).expect("a command");
        assert_eq!(args.command, ["prog", "-p", "7"]);
        assert_eq!(args.pid, []);
        for words in [
            &["-p", "1", "-n", "x"][..],
            &["-p", "1", "--", "prog"],
            &["-n", "x", "--", "prog"],
            &["-p", "1,"],
            &["-p", ""],
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
