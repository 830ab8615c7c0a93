//! `holdup report` on the capture that is kept in the repository.

use std::path::Path;
use std::process::{Command, Output};

/// The command, with `args`.
pub fn command(args: &[&str]) -> Command {
    let capture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures/version-1.holdup");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .arg("report")
        .arg(capture)
        .args(args)
        .env("NO_COLOR", "1");
    command
}

/// What it does.
pub fn report(args: &[&str]) -> Output {
    command(args).output().expect("holdup runs")
}

/// What it says on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
