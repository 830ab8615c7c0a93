//! What test programs print: how many tests went which way, and why.

use std::collections::BTreeMap;

/// Lines of the reasons why tests failed that are said again at the end, for each program.
const MOST_REASONS: usize = 60;
/// So many checks of a run may pass only on their second recording.
pub(crate) const MOST_FLAKY: usize = 2;
/// What the live tests print of a check that they make again (see `OF_TIMES` there).
const MADE_AGAIN: &str = "recorded again, because of: ";

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }

    /// Reads the line with which libtest, and libtest-mimic, end a run:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    pub(crate) fn parse(line: &str) -> Option<Tally> {
        let rest = line.strip_prefix("test result: ")?;
        let (_verdict, counts) = rest.split_once(". ")?;
        let count = |word: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Tally {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }

    /// Reads the line with which nextest ends a run:
    /// `     Summary [   4.2s] 9/10 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped`,
    /// where skipped are those that a filter leaves out.
    fn parse_nextest(line: &str) -> Option<Tally> {
        let rest = line.trim_start().strip_prefix("Summary [")?;
        let (_run, counts) = rest.split_once(" run: ")?;
        let mut tally = Tally::default();
        for part in counts.split(", ") {
            // A note in parentheses may have a comma, and then a part of its own.
            let mut words = part.split_ascii_whitespace();
            let (Some(count), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => tally.passed += count,
                "failed" | "timed" | "exec" => tally.failed += count,
                _ => {}
            }
        }
        Some(tally)
    }
}

/// What a program with tests printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// The sum; none before the program says one.
    pub(crate) tally: Option<Tally>,
    /// Checks that passed only on a second recording.
    pub(crate) flaky: Vec<String>,
    /// Why tests were skipped, and how many for each reason.
    pub(crate) skipped: BTreeMap<String, u64>,
    /// The live tests that failed.
    failed: Vec<String>,
    reasons: Vec<String>,
    in_reasons: bool,
    made_again: Option<String>,
}

impl From<Tally> for Results {
    fn from(tally: Tally) -> Results {
        Results {
            tally: Some(tally),
            ..Results::default()
        }
    }
}

impl Results {
    /// Takes a line of output in.
    pub(crate) fn read(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(tally) = Tally::parse(line) {
            self.tally.get_or_insert_default().add(tally);
            self.in_reasons = false;
        } else if let Some(tally) = Tally::parse_nextest(line) {
            // Failed tests follow, with what they printed.
            self.tally.get_or_insert_default().add(tally);
            self.in_reasons = true;
        } else if line == "failures:" {
            // libtest begins the list of the reasons with it, and then the one of the names.
            self.in_reasons = !self.in_reasons;
        } else if self.in_reasons && !line.is_empty() {
            self.reasons.push(line.to_owned());
        }
        self.read_test(line);
    }

    fn read_test(&mut self, line: &str) {
        let test = line.strip_prefix("test ");
        let Some((name, outcome)) = test.and_then(|test| test.split_once("... ")) else {
            match line {
                "ok" => self.flaky.extend(self.made_again.take()),
                "FAILED" => self.failed.extend(self.made_again.take()),
                _ => {}
            }
            return;
        };
        let name = name.trim_end().to_owned();
        self.made_again = None;
        if outcome == "FAILED" {
            self.failed.push(name);
        } else if outcome.starts_with(MADE_AGAIN) {
            self.made_again = Some(name);
        } else if let Some(reason) = outcome.strip_prefix("ignored (skipped: ") {
            let reason = reason.strip_suffix(')').unwrap_or(reason);
            *self.skipped.entry(reason.to_owned()).or_default() += 1;
        }
    }

    /// For a second run after this one: tests that failed here and passed there are flaky, too.
    pub(crate) fn retried(self, mut second: Results) -> Results {
        let failed = self.failed.into_iter();
        let flaky = failed.filter(|name| !second.failed.contains(name));
        let flaky: Vec<String> = flaky.collect();
        second.flaky.extend(flaky);
        second
    }

    /// Takes in that the program was not run to its end. Counts as a test that failed.
    pub(crate) fn hung(&mut self) {
        self.failed.push("(hung)".to_owned());
    }

    /// The names of the live tests that failed.
    pub(crate) fn failed(&self) -> &[String] {
        &self.failed
    }

    /// Takes in that a test that failed passed when it was run once more: it counts as passed, and as flaky.
    pub(crate) fn passed_again(&mut self, name: &str) {
        let before = self.failed.len();
        self.failed.retain(|failed| failed != name);
        if self.failed.len() < before {
            self.flaky.push(name.to_owned());
            if let Some(tally) = &mut self.tally {
                tally.failed = tally.failed.saturating_sub(1);
                tally.passed += 1;
            }
        }
    }

    /// Whether every test passed or was skipped, some of them perhaps only the second time.
    pub(crate) fn none_failed(&self) -> bool {
        self.failed.is_empty() && self.tally.is_some_and(|tally| tally.failed == 0)
    }

    /// Why tests failed, as lines behind another one.
    pub(crate) fn reasons(&self) -> String {
        let shown = self.reasons.iter().take(MOST_REASONS);
        let mut text: String = shown.map(|line| format!("\n  {line}")).collect();
        let more = self.reasons.len().saturating_sub(MOST_REASONS);
        if more > 0 {
            text += &format!("\n  … and {more} more lines above");
        }
        text
    }

    /// How many checks were flaky, and which; nothing where none was.
    pub(crate) fn flaky_line(&self) -> Option<String> {
        let flaky = self.causes_of_flakiness();
        let count = flaky.len();
        let names = flaky.join(", ");
        (count > 0).then(|| {
            format!("{count} flaky (of {MOST_FLAKY} that may pass only the second time): {names}")
        })
    }

    /// Whether so many checks were flaky that the run counts as failed.
    pub(crate) fn is_too_flaky(&self) -> bool {
        self.causes_of_flakiness().len() > MOST_FLAKY
    }

    /// The flaky checks, without those that failed only because their recording did: where a
    /// recording could not be made, none of its checks can pass.
    fn causes_of_flakiness(&self) -> Vec<&str> {
        let of_failed_recording = |name: &str| {
            let group = name.rsplit_once("::").map(|(group, _)| group);
            group.is_some_and(|group| {
                let recording = format!("{group}::recording");
                name != recording && self.flaky.contains(&recording)
            })
        };
        let names = self.flaky.iter().map(String::as_str);
        names.filter(|name| !of_failed_recording(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        text.lines().for_each(|line| results.read(line));
        results
    }

    const fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered \
                    out; finished in 0.10s";
        assert_eq!(Tally::parse(line), tally(3, 2, 1));
        assert_eq!(Tally::parse("test a ... ok"), None);
        assert_eq!(
            Tally::parse("test result: ok. x passed; 0 failed; 0 ignored"),
            None
        );
    }

    #[test]
    fn summaries_of_nextest_are_read() {
        for (line, wanted) in [
            (
                "     Summary [   0.1s] 3 tests run: 3 passed, 0 skipped",
                tally(3, 0, 0),
            ),
            (
                "     Summary [  14.3s] 9/10 tests run: 4 passed (1 slow, 1 leaky), 2 failed, \
                 1 timed out, 1 exec failed, 5 skipped",
                tally(4, 4, 0),
            ),
            ("        PASS [   0.1s] xtask a", None),
        ] {
            assert_eq!(Tally::parse_nextest(line), wanted, "{line}");
        }
    }

    #[test]
    fn results_of_one_program_add_up() {
        let line = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n";
        assert_eq!(read(&line.repeat(2)).tally, tally(4, 0, 2));
        assert_eq!(read("hello").tally, None);
    }

    #[test]
    fn reasons_of_libtest_are_kept() {
        let results = read(
            "test a ... FAILED\n\nfailures:\n\n---- a ----\nit is red\n\n\nfailures:\n    a\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!(results.reasons(), "\n  ---- a ----\n  it is red");
    }

    #[test]
    fn reasons_of_nextest_are_kept() {
        let results = read(
            "        PASS [   0.1s] xtask a\n     Summary [   0.1s] 2 tests run: 1 passed, 1 failed, \
             0 skipped\n        FAIL [   0.1s] xtask b\n  stdout ───\n    it is red\n",
        );
        let reasons = "\n          FAIL [   0.1s] xtask b\n    stdout ───\n      it is red";
        assert_eq!(results.reasons(), reasons);
    }

    #[test]
    fn a_check_that_passes_the_second_time_is_flaky() {
        let again = |name: &str, end: &str| {
            format!("test {name}   ... recorded again, because of: 1 ms\n{end}\n")
        };
        let one = read(&(again("a::accounting", "ok") + &again("a::states", "FAILED") + "ok\n"));
        assert_eq!(one.flaky, ["a::accounting"]);
        assert!(!one.is_too_flaky());
        assert!(one.flaky_line().unwrap().starts_with("1 flaky "));
        assert_eq!(
            read("test a   ... ok\ntest b   ... ok\n").flaky_line(),
            None
        );
        let three = read(&again("a::accounting", "ok").repeat(3));
        assert!(three.is_too_flaky());
    }

    #[test]
    fn a_trial_that_passes_in_the_second_run_is_flaky() {
        let first = "test a::b   ... FAILED\ntest a::c   ... FAILED\n";
        let second = "test a::b   ... ok\ntest a::c   ... FAILED\n";
        assert_eq!(read(first).retried(read(second)).flaky, ["a::b"]);
    }

    #[test]
    fn a_test_that_passes_when_it_is_run_again_is_flaky() {
        let text = "test a::b   ... FAILED\ntest a::c   ... FAILED\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        let mut results = read(text);
        assert_eq!(results.failed(), ["a::b", "a::c"]);
        results.passed_again("a::b");
        results.passed_again("a::d");
        assert_eq!(results.tally, tally(2, 1, 0));
        assert_eq!(results.flaky, ["a::b"]);
        assert!(!results.none_failed());
        results.passed_again("a::c");
        assert!(results.none_failed());
        // A test that failed and is not known by name is none that can pass again.
        let mut results = read(&text.replace("test a::c   ... FAILED\n", ""));
        results.passed_again("a::b");
        assert!(!results.none_failed());
    }

    #[test]
    fn a_recording_that_failed_counts_once_and_not_once_a_check() {
        let failed = "test a::recording   ... FAILED\ntest a::b   ... FAILED\n\
                      test a::c   ... FAILED\ntest d::b   ... FAILED\n";
        let results = read(failed).retried(read(&failed.replace("FAILED", "ok")));
        assert!(!results.is_too_flaky());
        let line = results.flaky_line().unwrap();
        assert!(line.starts_with("2 flaky "), "{line}");
        assert!(line.ends_with(": a::recording, d::b"), "{line}");
    }

    #[test]
    fn reasons_of_skipped_tests_are_counted() {
        let line = "test musl::accounting   ... ignored (skipped: no musl-gcc (here))\n";
        let results = read(&line.repeat(2));
        assert_eq!(results.skipped["no musl-gcc (here)"], 2);
    }
}
