//! All tests but the live ones: by cargo-nextest where it is installed, else by cargo.

use super::live::LIVE;
use super::run::{Says, Summary, run as observe};
use crate::{artifacts, process};
use anyhow::Result;
use std::collections::BTreeSet;
use std::process::Command;

/// Runs those whose names contain `filter`.
///
/// # Errors
/// They cannot be built or started.
pub(super) fn run(filter: Option<&str>, summary: &mut Summary) -> Result<()> {
    if process::output(artifacts::cargo().args(["nextest", "--version"])).is_ok() {
        observe(&mut nextest(filter), "nextest", Says::OnStderr, summary)?;
    } else {
        println!(
            "cargo-nextest is not here, so cargo runs the tests; it is quicker with it: \
             cargo install cargo-nextest --locked"
        );
        observe(
            &mut cargo_test(filter)?,
            "cargo test",
            Says::OnStdout,
            summary,
        )?;
    }
    // nextest has none for these.
    let mut doc = artifacts::cargo();
    doc.args(["test", "--doc", "--workspace", "--locked"])
        .args(filter);
    observe(&mut doc, "documentation", Says::OnStdout, summary)
}

/// Nothing is ignored in this tree: a test that is marked so is run, too, and no test is skipped.
fn nextest(filter: Option<&str>) -> Command {
    let mut command = artifacts::cargo();
    command.args([
        "nextest",
        "run",
        "--workspace",
        "--locked",
        "--no-fail-fast",
    ]);
    command.args(["--no-tests", "pass", "--run-ignored", "all"]);
    command.args(["--failure-output", "final", "--color", "never"]);
    let others = LIVE
        .map(|name| format!("not binary(={name})"))
        .join(" and ");
    command.args(["--filterset", &others]);
    command.args(filter);
    command
}

fn cargo_test(filter: Option<&str>) -> Result<Command> {
    let mut command = artifacts::cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(["--lib", "--bins"]);
    for name in integration_tests()? {
        command.args(["--test", &name]);
    }
    command.args(filter).args(["--", "--include-ignored"]);
    Ok(command)
}

/// The names of the workspace's integration tests but the live ones.
fn integration_tests() -> Result<BTreeSet<String>> {
    let mut cargo = artifacts::cargo();
    let metadata = artifacts::metadata(cargo.args(["--locked"]))?;
    let packages = metadata.workspace_packages().into_iter();
    let targets = packages.flat_map(|package| &package.targets);
    Ok(targets
        .filter(|target| target.is_test() && !LIVE.contains(&&*target.name))
        .map(|target| target.name.clone())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_tests_are_not_among_the_others() {
        let tests = integration_tests().unwrap();
        assert!(tests.contains("object_is_current"), "{tests:?}");
        assert!(
            tests.contains("fuzz_corpus") && !LIVE.iter().any(|name| tests.contains(*name)),
            "{tests:?}"
        );
    }
}
