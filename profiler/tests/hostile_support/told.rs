//! What has to be told of a hostile part: what it cost, or that it cost nothing.

use crate::check;
use crate::report::Report;
use libtest_mimic::Failed;
use std::process::{Command, Stdio};

/// One thing that has to be told.
pub(crate) enum Told {
    /// On standard error, in these words.
    Said(&'static str),
    /// In the report, as a cause of losses that is counted so often at least.
    Lost(&'static str, u64),
    /// That nothing was lost.
    Nothing,
    /// In the report, as a function in which threads wait, by their stacks or what is left of them.
    Waits(&'static str),
    /// In the report, as a program that a process became.
    Ran(&'static str),
    /// In the report, as a reason why panics are not seen.
    NoPanics(&'static str),
    /// By `holdup dump`, as the name of a function of a thread that is not tokio's.
    Named(&'static str),
}

/// The longest line that a cut name may make, some padding included.
const LONGEST_LINE: usize = 17 << 10;

impl Told {
    /// That it is not told, with the reason, where it is not. `said` is what the recording wrote to
    /// standard error.
    pub(crate) fn complaint(
        &self,
        report: &Report,
        said: &str,
        pid: u32,
    ) -> Result<Option<String>, Failed> {
        let (is_told, what) = match self {
            Told::Said(words) => (said.contains(words), format!("{words:?}")),
            Told::Lost(cause, least) => {
                let (count, all) = (report.losses.cause(cause), &report.losses.by_cause);
                let what = format!("that {least} are {cause}, but {count} of {all:?}");
                (count >= *least, what)
            }
            Told::Nothing => {
                let lost = check::losses(report);
                (lost.is_empty(), format!("that nothing was lost: {lost:?}"))
            }
            Told::Waits(function) => {
                let mut sites = report.sites.iter();
                let waits = sites.any(|site| site.function == *function);
                (waits, format!("who waits in {function}"))
            }
            Told::Ran(program) => {
                let mut targets = report.targets.iter();
                let ran = targets.any(|target| {
                    // Before that it was a shell, forked.
                    target.cmdline.first().is_some_and(|name| name == program)
                        && !target.earlier.is_empty()
                });
                (ran, format!("of {program}"))
            }
            Told::NoPanics(words) => {
                let problems = report.panics.iter().flat_map(|panics| &panics.problems);
                let mut problems = problems.filter(|text| text.contains(words));
                let what = format!("{words:?}: {:?}", report.panics);
                (problems.next().is_some(), what)
            }
            Told::Named(name) => {
                let dump = dump(pid)?;
                let longest = dump.lines().map(str::len).max().unwrap_or(0);
                let is_told = dump.contains(name) && longest <= LONGEST_LINE;
                // It may be what is too long.
                let shown: String = dump.chars().take(4000).collect();
                (is_told, format!("{name} in {longest} bytes: {shown}"))
            }
        };
        Ok((!is_told).then(|| format!("nobody tells {what}")))
    }
}

/// What all threads of a process are doing, with whole stacks.
fn dump(pid: u32) -> Result<String, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(["dump", "--color", "never", "--all", "--stacks", "-p"])
        .arg(pid.to_string())
        .env_remove("HOLDUP_LOG")
        .stdin(Stdio::null())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{output:?}").into()),
    }
}
