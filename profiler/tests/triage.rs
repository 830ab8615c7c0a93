//! Each line of `docs/triage.md` is run by jq, on recordings that are kept here.
//!
//! Without jq the trials are shown as ignored, with the reason; in CI they fail then.

#[path = "support/privilege.rs"]
#[allow(dead_code, reason = "shared with the live tests")]
mod privilege;
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::{build_keeping, diff};
use holdup::recording::Recording;
use holdup::render::{self, Format, Options};
use holdup::report::diff::Measure;
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/triage.md");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    type Check = fn() -> Result<(), Failed>;
    let trials: [(&str, Check); 3] = [
        ("answers_are_as_they_were", answers),
        ("every_line_has_an_answer_somewhere", somewhere),
        ("no_report_is_too_much_for_a_line", every_report),
    ];
    let trials = trials.map(|(name, check)| {
        Trial::ignorable_test(name, move || privilege::unless_skipped(no_jq(), check))
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn no_jq() -> Option<String> {
    let mut jq = Command::new("jq");
    let found = jq.arg("--version").stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    (!is_there).then(|| "no jq; run: cargo xtask setup --tests".to_owned())
}

/// The page's lines for jq, in their order.
fn lines() -> Vec<String> {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let mut lines = Vec::new();
    let mut is_code = false;
    for line in page.lines() {
        match line {
            "```sh" => is_code = true,
            "```" => is_code = false,
            line if is_code && line.starts_with("jq ") => lines.push(line.to_owned()),
            _ => {}
        }
    }
    assert!(lines.len() > 20, "{} lines", lines.len());
    lines
}

/// The files that the page speaks of, of a recording.
fn files(recording: &Recording) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: Vec<u8>| std::fs::write(dir.path().join(name), text).expect(name);
    for (name, format) in [
        ("report.json", Format::Json),
        ("waits.ndjson", Format::Ndjson),
    ] {
        let report = build_keeping(recording, format.keep());
        let mut text = Vec::new();
        render::render(format, &report, &Options::default(), &mut text).expect("memory");
        write(name, text);
    }
    let before = build_keeping(&recordings::healthy(), Format::Json.keep());
    let after = build_keeping(recording, Format::Json.keep());
    let compared = diff(
        ("before.holdup", &before),
        ("after.holdup", &after),
        Measure::PerSecond,
    );
    let mut text = Vec::new();
    render::diff::json(&compared, &mut text).expect("memory");
    write("diff.json", text);
    dir
}

/// What a line says in a folder, as a shell runs it.
fn said(line: &str, dir: &Path) -> Result<String, Failed> {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(dir)
        .output()?;
    if !output.status.success() || !output.stderr.is_empty() {
        return Err(format!("{line}\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn answers() -> Result<(), Failed> {
    let dir = files(&recordings::starved());
    let mut text = String::new();
    for line in lines() {
        text.push_str(&format!("$ {line}\n{}\n", said(&line, dir.path())?));
    }
    insta::assert_snapshot!("triage_starved", text);
    Ok(())
}

/// A line that is empty or null for each of these asks for what no report has.
fn somewhere() -> Result<(), Failed> {
    let all = ["starved", "held_lock", "hung", "hog", "healthy"];
    let known = recordings::all();
    let known: Vec<_> = known
        .iter()
        .filter(|(name, _)| all.contains(name))
        .collect();
    assert_eq!(known.len(), all.len());
    let folders: Vec<_> = known
        .iter()
        .map(|(_, recording)| files(recording))
        .collect();
    for line in lines() {
        let mut answered = false;
        for folder in &folders {
            let text = said(&line, folder.path())?;
            answered |= !["", "null", "[]"].contains(&text.trim());
        }
        if !answered {
            return Err(format!("nothing answers: {line}").into());
        }
    }
    Ok(())
}

fn every_report() -> Result<(), Failed> {
    for (name, recording) in recordings::all() {
        let dir = files(&recording);
        for line in lines() {
            said(&line, dir.path()).map_err(|error| {
                let text = error.message().unwrap_or_default();
                Failed::from(format!("{name}: {text}"))
            })?;
        }
    }
    Ok(())
}
