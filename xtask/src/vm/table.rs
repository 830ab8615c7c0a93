//! What came of it, in Markdown.

use super::guest::Outcome;
use anyhow::Result;
use std::fmt::Write as _;

/// One kernel.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) release: String,
    pub(super) outcome: Outcome,
    pub(super) verdict: Result<()>,
}

/// A line for each kernel; `date` is that of the run.
pub(super) fn table(rows: &[Row], date: &str) -> String {
    let mut table = String::from(
        "| kernel | date | live trials: passed, failed, skipped | programs loaded | booted | whole run | result |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (account, tally) = (&row.outcome.account, row.outcome.results.tally);
        let up = account
            .up
            .map_or_else(|| "no".to_owned(), |up| format!("{up:.1} s"));
        let loaded = match account.probe {
            Some(0) => {
                let sum: f64 = account.programs.iter().map(|one| one.milliseconds).sum();
                format!("in {:.2} s", sum / 1e3)
            }
            _ => "no".to_owned(),
        };
        let tests = tally.map_or_else(
            || "–".to_owned(),
            |tally| format!("{}, {}, {}", tally.passed, tally.failed, tally.skipped),
        );
        let result = if row.verdict.is_ok() {
            "passed"
        } else {
            "FAILED"
        };
        let took = row.outcome.took.as_secs();
        let _ = writeln!(
            table,
            "| {} | {date} | {tests} | {loaded} | in {up} | {took} s | {result} |",
            row.release
        );
    }
    table
}

/// What the verifier looked at, a line for each program and a column for each kernel that loaded
/// them.
pub(super) fn instructions(rows: &[Row]) -> String {
    let loaded: Vec<&Row> = rows
        .iter()
        .filter(|row| !row.outcome.account.programs.is_empty())
        .collect();
    let Some(first) = loaded.first() else {
        return String::new();
    };
    let mut table = String::from("| instructions verified |");
    for row in &loaded {
        let _ = write!(table, " {} |", row.release);
    }
    table += "\n|---|";
    table += &"---:|".repeat(loaded.len());
    for program in &first.outcome.account.programs {
        let _ = write!(table, "\n| {} |", program.name);
        for row in &loaded {
            let mut programs = row.outcome.account.programs.iter();
            let count = programs
                .find(|other| other.name == program.name)
                .and_then(|other| other.instructions);
            let _ = match count {
                Some(count) => write!(table, " {count} |"),
                None => write!(table, " ? |"),
            };
        }
    }
    table + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::guest::Account;
    use super::*;
    use crate::results::{Results, Tally};
    use crate::verified::Verified;

    fn row(release: &str, counts: &[Option<u64>]) -> Row {
        let programs = counts.iter().enumerate().map(|(n, count)| Verified {
            name: format!("p{n}"),
            instructions: *count,
            milliseconds: 250.0,
        });
        Row {
            release: release.to_owned(),
            outcome: Outcome {
                account: Account {
                    up: Some(2.0),
                    programs: programs.collect(),
                    probe: Some(0),
                    ..Account::default()
                },
                results: Results::from(Tally {
                    passed: 9,
                    failed: 0,
                    skipped: 0,
                }),
                ..Outcome::default()
            },
            verdict: Ok(()),
        }
    }

    #[test]
    fn a_kernel_is_a_line() {
        let text = table(&[row("6.1", &[Some(1), Some(2)])], "2026-11-24");
        assert!(
            text.contains("| 6.1 | 2026-11-24 | 9, 0, 0 | in 0.50 s | in 2.0 s | 0 s | passed |"),
            "{text}"
        );
    }

    #[test]
    fn programs_are_lines_and_kernels_columns() {
        let rows = [
            row("a", &[Some(1), Some(2)]),
            row("b", &[Some(3), None]),
            row("c", &[]),
        ];
        let text = instructions(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "| instructions verified | a | b |",
                "|---|---:|---:|",
                "| p0 | 1 | 3 |",
                "| p1 | 2 | ? |"
            ]
        );
    }
}
