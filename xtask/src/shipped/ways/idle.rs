//! Programs that have nothing to do: all workers are idle, and nothing is blocked.

use super::super::fetch;
use super::super::outcome::{Checked, Seen};
use super::{Subject, expect_verdict, gap, shown, tokio_version, unknown};
use crate::process;
use anyhow::{Result, bail};
use children::Child;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// Until it has started.
const START: Duration = Duration::from_secs(5);
const RECORDED: Duration = Duration::from_secs(5);
/// Which part of the time its workers must be idle, and may be blocked.
const IDLE: f64 = 0.95;
const BLOCKED: f64 = 0.01;

pub(super) fn check(
    subject: &Subject<'_>,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    files: &BTreeMap<String, String>,
) -> Result<Checked> {
    fetch::make_executable(&subject.binary)?;
    let folder = tempfile::Builder::new().prefix("shipped-").tempdir()?;
    for (path, text) in files {
        std::fs::write(folder.path().join(path), text)?;
    }
    let mut command = process::detached(&subject.binary);
    command
        .args(arguments)
        .envs(environment)
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut program = Child::start(&subject.package.name, &mut command, None)?;
    thread::sleep(START);
    if let Some(status) = program.ended()? {
        bail!("it ended: {status}");
    }
    let recording = subject.recorder.attach(program.id())?;
    thread::sleep(RECORDED);
    let report = recording.end()?;
    drop(program);
    let mut wrong = Vec::new();
    if report.runtimes.is_empty() {
        wrong.push("no runtime was seen".to_owned());
    }
    let (idle, blocked) = (report.share("idle"), report.share("blocked"));
    if idle < IDLE || blocked > BLOCKED {
        wrong.push(format!("blocked {:.1} %", blocked * 100.0));
    }
    expect_verdict(&report, "healthy", &mut wrong);
    let unknown = unknown(subject.package, &report, false, &mut wrong);
    Ok(Checked::Seen(Seen {
        rustc: None,
        tokio: tokio_version(&report),
        truth: "nothing: it has nothing to do".to_owned(),
        said: format!(
            "{}: idle {:.1} % ({}){}",
            shown(report.verdict()),
            idle * 100.0,
            report.runtimes_line(),
            gap(subject.package)
        ),
        unknown: Some(unknown),
        wrong,
    }))
}
