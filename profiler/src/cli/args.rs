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

  holdup record --help
      All that can be recorded, and what can be made of it.
"
);

const RECORD_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup record -p 4711 -d 30s
      Record process 4711 for 30 seconds and print the report.

  sudo holdup record -n claims_api -o blocked.svg -o report.json
      Record until Ctrl-C; leave a flamegraph and the report for programs, too.

  sudo holdup record --min-block 1ms -o '%p-%t.folded' -- ./claims_api --port 8080
      Start the program and record it from its first instruction to its end.

The report goes to standard output, messages go to standard error. A file that exists is
overwritten only with --force, and never through a symbolic link. Under sudo, COMMAND runs as the
user who called sudo, and the files belong to that user. A COMMAND that still runs when the
recording ends is asked to end (SIGTERM).

A first Ctrl-C ends the recording and writes the report, a second one ends holdup at once.
"
);

const CHECK_AFTER_HELP: &str = with_exit_status!(
    "\
Examples:
  sudo holdup check
      Test permissions and kernel.

  sudo holdup check -p 4711
      Test process 4711 too: tokio, symbols, line tables.

A requirement is ok, limited (recordings work, and lack something), missing (there can be no
recording) or unknown (something else must be there to tell). The exit status is the one that
holdup record would end with before it recorded anything.
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
    disable_help_subcommand = true,
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
    /// Print nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more on standard error: what is done (-v), why (-vv), everything (-vvv)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Colors: by default on a terminal, unless NO_COLOR is set
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

    /// Tell what recordings need of this machine, whether it is there, and what to do if not
    #[command(after_long_help = CHECK_AFTER_HELP)]
    Check(CheckArgs),

    /// Load the kernel programs, attach none, and print what verifying each one took
    #[command(hide = true)]
    Probe,

    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print a manual page, in roff
    #[command(hide = true)]
    Man {
        /// The verb to describe; without one, the program
        verb: Option<String>,
    },
}

#[derive(Debug, Args)]
// That there is a target is left to the settings, which say it better than clap would.
#[command(group = ArgGroup::new("target").args(["pid", "name", "command"]))]
pub(crate) struct RecordArgs {
    /// Record the process with this id; several, separated by commas, at once
    #[arg(
        short,
        long,
        value_name = "PID",
        value_parser = values::pid,
        value_delimiter = ',',
        help_heading = "Target"
    )]
    pub(crate) pid: Vec<Pid>,

    /// Record all processes whose name or executable file is called so
    #[arg(short, long, value_name = "NAME", value_parser = values::name, help_heading = "Target")]
    pub(crate) name: Option<String>,

    /// Start this command, and record it from its first instruction
    #[arg(last = true, value_name = "COMMAND", help_heading = "Target")]
    pub(crate) command: Vec<OsString>,

    /// Record the processes that the targets fork, too
    #[arg(long, help_heading = "Target")]
    pub(crate) follow: bool,

    /// End after this time: 30s, 500ms, 2m; a bare number is seconds
    ///
    /// By default the recording ends with Ctrl-C or with the last of the targets.
    #[arg(short, long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) duration: Option<Duration>,

    /// Record single waits of at least this time: 1ms, 100us
    ///
    /// Shorter waits are in all sums, but not in the timeline. From 1us to 1h.
    #[arg(short, long, value_name = "TIME", value_parser = values::min_block, default_value = "100us")]
    pub(crate) min_block: Nanos,

    /// Sample threads of the target on a CPU, so many times a second and CPU
    ///
    /// What they do there is reported apart from waits. 0 for no samples, at most 1000.
    #[arg(short = 'F', long, value_name = "HZ", value_parser = values::freq, default_value = "99")]
    pub(crate) freq: u32,

    /// List task polls that take a CPU for at least this time: 10ms, 500us
    ///
    /// They are found by samples: those shorter than two periods of --freq only by chance.
    #[arg(long, value_name = "TIME", value_parser = values::long_poll, default_value = "10ms")]
    pub(crate) long_poll: Nanos,

    /// Measure time inside single system calls without leaving the CPU
    ///
    /// As in a read of 100 MB that are in the page cache. This slows all system calls of all
    /// processes down: see the README.
    #[arg(long, overrides_with = "no_syscalls")]
    pub(crate) syscalls: bool,

    /// Leave the time inside single system calls out
    #[arg(long)]
    pub(crate) no_syscalls: bool,

    /// Count panics, with where they began
    ///
    /// A task's panic is swallowed by its JoinHandle. This needs the symbol table of the program.
    #[arg(long)]
    pub(crate) panics: bool,

    /// Walk one stack in N a second time with another unwinder, and count the differences
    ///
    /// The kernel side copies up to 32 KiB of such a stack. N is chosen at random: one stack in
    /// 1000 costs next to nothing, every stack (1) slows the target down.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) shadow_check: Option<u32>,

    /// Write a report to this file too; may be given several times
    ///
    /// The format follows the extension: .svg (flamegraph), .folded (folded stacks), .json (for
    /// programs), .txt (for people); .wakers.svg and .wakers.folded show who ended the waits,
    /// .wall.svg and .wall.folded all time: on a CPU, in line for one, blocked. `-` is standard output, which always gets a report: see
    /// --format. In the name, %p becomes the (first) target's pid, %t the time as 20261123T224500Z, %% a
    /// percent sign.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Vec<OsString>,

    /// Format of standard output, and of files whose extension does not tell it
    #[arg(short, long, value_enum, help_heading = "Output")]
    pub(crate) format: Option<Format>,

    /// Overwrite files that exist
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Leave the frames of the runtime out of flamegraphs
    #[arg(long, help_heading = "Output")]
    pub(crate) collapse_runtime: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Test the process with this id, too
    #[arg(short, long, value_name = "PID", value_parser = values::one_pid)]
    pub(crate) pid: Option<Pid>,

    /// Format of what is printed
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
