//! What came of each package, and the table of all.

use super::list::Package;
use anyhow::Result;

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) rustc: Option<String>,
    pub(super) tokio: Option<String>,
    /// What was made to block, and how long it did.
    pub(super) truth: String,
    /// What holdup said of it.
    pub(super) said: String,
    /// The share of waits whose state holdup did not know, from 0 to 1.
    pub(super) unknown: Option<f64>,
    /// What is wrong; nothing: the check passed.
    pub(super) wrong: Vec<String>,
}

/// What a check came to, if nothing failed on the way.
#[derive(Debug)]
pub(super) enum Checked {
    Seen(Seen),
    Skipped(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    package: String,
    shipped: String,
    result: Result<Checked>,
}

impl Row {
    pub(super) fn of(package: &Package, result: Result<Checked>) -> Row {
        let version = package.files.first().map(|file| file.version.as_str());
        Row {
            package: format!("{} {}", package.name, version.unwrap_or_default()),
            shipped: package.shipped.clone(),
            result,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match &self.result {
            Ok(Checked::Seen(seen)) if seen.wrong.is_empty() => Outcome::Passed,
            Ok(Checked::Skipped(_)) => Outcome::Skipped,
            _ => Outcome::Failed,
        }
    }

    /// One line of Markdown.
    pub(super) fn line(&self) -> String {
        let dash = || "–".to_owned();
        let (rustc, tokio, truth, said, unknown) = match &self.result {
            Ok(Checked::Seen(seen)) => {
                let wrong: Vec<_> = seen.wrong.iter().map(|w| format!("; WRONG: {w}")).collect();
                (
                    seen.rustc.clone().unwrap_or_else(dash),
                    seen.tokio.clone().unwrap_or_else(dash),
                    seen.truth.clone(),
                    format!("{}{}", seen.said, wrong.concat()),
                    seen.unknown
                        .map_or_else(dash, |share| format!("{:.1} %", share * 100.0)),
                )
            }
            Ok(Checked::Skipped(reason)) => {
                let said = format!("skipped: {}", reason.replace(['\n', '|'], " "));
                (dash(), dash(), dash(), said, dash())
            }
            Err(error) => {
                let said = format!("FAILED: {}", format!("{error:#}").replace(['\n', '|'], " "));
                (dash(), dash(), dash(), said, dash())
            }
        };
        let (package, shipped) = (&self.package, &self.shipped);
        format!("| {package} | {shipped} | {rustc} | {tokio} | {truth} | {said} | {unknown} |")
    }
}

/// The table, in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        "| package | shipped as | rustc | tokio | what was made to block | holdup said | unknown |"
            .to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows.iter().map(Row::line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn row(result: Result<Checked>) -> Row {
        Row {
            package: "a 1.0".to_owned(),
            shipped: "stripped".to_owned(),
            result,
        }
    }

    #[test]
    fn what_is_wrong_fails_a_package_and_is_told() {
        let seen = Seen {
            wrong: vec!["idle threads".to_owned()],
            ..Seen::default()
        };
        let wrong = row(Ok(Checked::Seen(seen)));
        assert_eq!(wrong.outcome(), Outcome::Failed);
        assert!(wrong.line().contains("WRONG: idle threads"));
        let right = row(Ok(Checked::Seen(Seen::default())));
        assert_eq!(right.outcome(), Outcome::Passed);
    }

    #[test]
    fn an_error_is_a_failure_and_a_reason_a_skip() {
        assert_eq!(row(Err(anyhow!("no"))).outcome(), Outcome::Failed);
        let skipped = row(Ok(Checked::Skipped("no npm here".to_owned())));
        assert_eq!(skipped.outcome(), Outcome::Skipped);
        assert!(skipped.line().contains("skipped: no npm here"));
    }
}
