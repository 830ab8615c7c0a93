//! Running programs with tests, and what all of them came to.

use crate::process;
use crate::results::{MOST_FLAKY, Results, Tally};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};

/// What libtest and libtest-mimic exit with where tests failed.
const FAILED_TESTS: i32 = 101;

/// The stream on which a program says how its tests went; the other one is let through unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    OnStdout,
    OnStderr,
}

/// What all programs came to.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) tally: Tally,
    /// Flaky checks and reasons of skipped ones, of all programs.
    all: Results,
    failures: Vec<String>,
    /// What brings what tests were skipped without.
    pub(super) hint: Option<&'static str>,
}

impl Summary {
    /// Takes the results of a program in that ended well or not. One that failed tests ends with an error
    /// also if each of them has passed since, when it was run once more.
    pub(super) fn add(&mut self, name: &str, results: Results, status: ExitStatus) {
        let mut tally = results.tally.unwrap_or_default();
        let failed_tests = status.code() == Some(FAILED_TESTS);
        let passed_again = failed_tests && !results.flaky.is_empty() && results.none_failed();
        if !status.success() && !passed_again {
            let (sum, reasons) = (tally.line(), results.reasons());
            self.failures
                .push(format!("{name}: {sum}, {status}{reasons}"));
            if tally.failed == 0 {
                // It died on the way: a test did not pass, and nothing else would say so.
                tally.failed = 1;
            }
        } else if results.tally.is_none() {
            self.failures
                .push(format!("{name}: ended without a result"));
            tally.failed += 1;
        }
        self.tally.add(tally);
        self.all.flaky.extend(results.flaky);
        for (reason, count) in results.skipped {
            *self.all.skipped.entry(reason).or_default() += count;
        }
    }

    /// Whether the run passed as a whole; what makes it fail besides failed tests is counted as a
    /// failed one.
    pub(super) fn judge(&mut self, in_ci: bool) -> bool {
        if self.all.is_too_flaky() {
            self.failures.push("too many flaky checks".to_owned());
            self.tally.failed += 1;
        }
        if in_ci && self.tally.skipped > 0 {
            self.failures
                .push("CI is set, and nothing may be skipped there".to_owned());
            self.tally.failed += 1;
        }
        self.failures.is_empty() && self.tally.failed == 0
    }

    /// What to print at the end; the sum last.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .failures
            .iter()
            .map(|failure| format!("FAILED: {failure}"))
            .collect();
        for (reason, count) in &self.all.skipped {
            lines.push(format!("{count} skipped: {reason}"));
        }
        if self.tally.skipped > 0 {
            lines.extend(self.hint.map(str::to_owned));
        }
        lines.extend(self.all.flaky_line());
        lines.push(self.tally.line());
        lines
    }
}

/// Runs a program with tests, lets its output through and adds its results.
///
/// # Errors
/// It cannot be started, or its output cannot be read.
pub(super) fn run(
    command: &mut Command,
    name: &str,
    says: Says,
    summary: &mut Summary,
) -> Result<()> {
    let (results, status) = observe(command, name, says)?;
    summary.add(name, results, status);
    Ok(())
}

/// Runs a program with tests and lets its output through.
///
/// # Errors
/// As [`run`].
pub(super) fn observe(
    command: &mut Command,
    name: &str,
    says: Says,
) -> Result<(Results, ExitStatus)> {
    println!("\n== {name}");
    let shown = process::shown(command);
    let context = || format!("cannot run the tests of {name}: {shown}");
    match says {
        Says::OnStdout => command.stdout(Stdio::piped()),
        Says::OnStderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.stdin(Stdio::null()).spawn().with_context(context)?;
    let stream: Option<Box<dyn Read>> = match says {
        Says::OnStdout => child.stdout.take().map(|stream| Box::new(stream) as _),
        Says::OnStderr => child.stderr.take().map(|stream| Box::new(stream) as _),
    };
    let mut results = Results::default();
    for line in BufReader::new(stream.with_context(context)?).split(b'\n') {
        let line = line.with_context(context)?;
        let line = String::from_utf8_lossy(&line);
        // Not by the stream itself: of the tests of this function libtest would capture nothing, and
        // whoever counts their lines would count these.
        println!("{line}");
        results.read(&line);
    }
    let status = child.wait().with_context(context)?;
    Ok((results, status))
}

/// Runs a program with live tests, and those that fail once more, each alone: `command` makes the
/// command, for one test where it is given a name. Where more fail than may be flaky, none is.
///
/// # Errors
/// As [`run`].
pub(super) fn run_twice(
    command: impl Fn(Option<&str>) -> Command,
    name: &str,
    summary: &mut Summary,
) -> Result<()> {
    let (mut results, status) = observe(&mut command(None), name, Says::OnStdout)?;
    let failed = results.failed().to_vec();
    if failed.len() <= MOST_FLAKY {
        for test in failed {
            let shown = format!("{name}, once more: {test}");
            let (second, status) = observe(&mut command(Some(&test)), &shown, Says::OnStdout)?;
            if status.success() && second.tally.is_some_and(|tally| tally.passed > 0) {
                results.passed_again(&test);
            }
        }
    }
    summary.add(name, results, status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Summary {
        let mut summary = Summary::default();
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        run(&mut command, "script", Says::OnStdout, &mut summary).unwrap();
        summary
    }

    #[test]
    fn a_program_that_dies_counts_as_a_failure() {
        let mut summary = script("kill -9 $$");
        assert!(!summary.judge(false));
        assert_eq!(
            summary.lines().last().unwrap(),
            "0 passed, 1 failed, 0 skipped"
        );
    }

    #[test]
    fn a_program_without_a_result_counts_as_a_failure() {
        let mut summary = script("echo hello");
        assert!(!summary.judge(false));
        assert_eq!(
            summary.lines(),
            [
                "FAILED: script: ended without a result",
                "0 passed, 1 failed, 0 skipped"
            ]
        );
    }

    #[test]
    fn both_streams_can_be_read() {
        let mut summary = Summary::default();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo ' Summary [ 1s] 2 tests run: 2 passed, 0 skipped' >&2",
        ]);
        run(&mut command, "script", Says::OnStderr, &mut summary).unwrap();
        assert!(summary.judge(true));
        assert_eq!(summary.lines(), ["2 passed, 0 failed, 0 skipped"]);
    }

    #[test]
    fn the_reasons_are_said_again() {
        let summary = script(
            "printf 'test a ... FAILED\n\nfailures:\n\n---- a ----\nit is red\n\n\nfailures:\n    a\n'; \
             echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'; exit 101",
        );
        let wanted = "FAILED: script: 0 passed, 1 failed, 0 skipped, exit status: 101\n  \
                      ---- a ----\n  it is red";
        assert_eq!(summary.lines()[0], wanted);
    }

    /// A program with three tests: the whole run says `first`, each test alone `second`.
    fn twice(first: &str, second: &str) -> Summary {
        let mut summary = Summary::default();
        let command = |test: Option<&str>| {
            let mut command = Command::new("sh");
            command.args(["-c", if test.is_some() { second } else { first }]);
            command
        };
        run_twice(command, "script", &mut summary).unwrap();
        summary
    }

    #[test]
    fn a_test_that_fails_is_run_once_more() {
        let passes = "echo 'test a ... ok'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
        let fails = "echo 'test a ... FAILED'; \
                     echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";
        let mut summary = twice(fails, passes);
        assert!(summary.judge(true));
        let lines = summary.lines();
        assert!(lines[0].starts_with("1 flaky "), "{lines:?}");
        assert_eq!(lines[1], "3 passed, 0 failed, 0 skipped");
        // Twice is no accident; neither is a death, whatever was said before it.
        assert!(!twice(fails, fails).judge(false));
        assert!(!twice(&fails.replace("exit 101", "kill -9 $$"), passes).judge(false));
        let skips =
            "echo 'test a ... ignored'; echo 'test result: ok. 0 passed; 0 failed; 1 ignored'";
        assert!(!twice(fails, skips).judge(false));
    }

    #[test]
    fn three_tests_that_fail_are_not_run_again() {
        let fail = "for t in a b c; do echo \"test $t ... FAILED\"; done; \
                    echo 'test result: FAILED. 0 passed; 3 failed; 0 ignored'; exit 101";
        let mut summary = twice(fail, "exit 0");
        assert!(!summary.judge(false));
        assert_eq!(
            summary.lines().last().unwrap(),
            "0 passed, 3 failed, 0 skipped"
        );
    }

    #[test]
    fn skipped_tests_are_told_and_fail_in_ci_only() {
        let text = "echo 'test a   ... ignored (skipped: no root)'; \
                    echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'";
        let mut summary = script(text);
        assert!(summary.judge(false));
        assert_eq!(
            summary.lines(),
            ["1 skipped: no root", "2 passed, 0 failed, 1 skipped"]
        );
        summary.hint = Some("run: it");
        assert_eq!(summary.lines()[1], "run: it");
        assert!(!summary.judge(true));
    }

    #[test]
    fn two_flaky_checks_are_told_and_a_third_fails_the_run() {
        let again = "echo 'test a   ... recorded again, because of: x'; echo ok; ";
        let end = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured'";
        let mut summary = script(&(again.repeat(2) + end));
        assert!(summary.judge(false));
        let lines = summary.lines();
        assert!(lines[0].starts_with("2 flaky "), "{lines:?}");
        assert_eq!(lines[1], "3 passed, 0 failed, 0 skipped");
        let mut summary = script(&(again.repeat(3) + end));
        assert!(!summary.judge(false));
        let lines = summary.lines();
        assert_eq!(lines.last().unwrap(), "3 passed, 1 failed, 0 skipped");
    }
}
