//! A wrong layout of tokio's thread-local context: memory that looks like a context and says of each
//! thread that it polls a task. It is noticed, counts for nothing, and is told.

use super::library;
use super::live_recording::Recording;
use super::privilege;
use super::report::Report;
use libtest_mimic::Trial;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// For the program to begin, and to end.
const SOON: Duration = Duration::from_secs(30);

/// Its program's name, as far as `--skip` is concerned.
pub(crate) const NAME: &str = "lookalike::";

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "lookalike::a_wrong_layout_is_noticed_and_told",
        || privilege::unless_skipped(privilege::missing(), || Ok(noticed()?)),
    )]
}

fn noticed() -> Result<(), String> {
    let (mut running, _lines) = library::ready("the program", Command::new(built()?))?;
    let recording = Recording::start(&["-d", "1s", "-p", &running.id().to_string()])?;
    let recorded = recording.end()?;
    drop(running.stdin()?);
    running.wait(SOON)?;
    complaint(&recorded.report, &recorded.text).map_or(Ok(()), Err)
}

/// What is wrong with a report of it, if anything.
pub(crate) fn complaint(report: &Report, text: &str) -> Option<String> {
    let verdict = &report.verdict;
    let context = report.target.tokio.context.kind.as_str();
    let is_told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if verdict.kind != "unclear" || verdict.reason.as_deref() != Some("context_contradicted") {
        Some(format!("the verdict is {verdict:?}"))
    } else if context != "contradicted" {
        Some(format!("the context is {context}"))
    } else if !report.runtimes.is_empty() || report.judges.by_context > 0 {
        Some(format!("it counted: {:?}", report.judges))
    } else if !is_told.contains("contradicted tokio's thread-local context") {
        Some(format!("it is not told: {text}"))
    } else {
        None
    }
}

/// The program, built where it is not up to date.
pub(crate) fn built() -> Result<PathBuf, String> {
    library::program("lookalike")
}
