//! What the built program says of itself.

use std::process::{Command, Output};

fn holdup(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdup"))
        .args(args)
        // What decides on width, color and logging must not come from whoever runs the tests.
        .env_remove("COLUMNS")
        .env_remove("HOLDUP_LOG")
        .env_remove("CLICOLOR_FORCE")
        .output()
        .expect("holdup runs")
}

fn stdout(args: &[&str]) -> String {
    let output = holdup(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// clap leaves spaces on empty lines, which editors and git take away from snapshots.
fn trimmed(text: &str) -> String {
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn bare_it_prints_help() {
    assert_eq!(stdout(&[]), stdout(&["-h"]));
}

#[test]
fn help() {
    insta::assert_snapshot!(trimmed(&stdout(&["--help"])));
}

#[test]
fn record_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["record", "--help"])));
}

#[test]
fn record_short_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["record", "-h"])));
}

#[test]
fn top_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["top", "--help"])));
}

#[test]
fn report_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["report", "--help"])));
}

#[test]
fn diff_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["diff", "--help"])));
}

#[test]
fn dump_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["dump", "--help"])));
}

#[test]
fn check_help() {
    insta::assert_snapshot!(trimmed(&stdout(&["check", "--help"])));
}

#[test]
fn version() {
    assert_eq!(
        stdout(&["--version"]),
        concat!("holdup ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn verbs_that_do_not_exist_are_not_offered() {
    let help = stdout(&["--help"]);
    let verb = "agent";
    assert!(!help.contains(&format!("\n  {verb} ")), "{verb} is offered");
    assert_eq!(holdup(&[verb]).status.code(), Some(2), "{verb}");
}

#[test]
fn help_lists_every_verb() {
    let help = stdout(&["--help"]);
    for verb in [
        "record",
        "top",
        "dump",
        "report",
        "diff",
        "check",
        "completions",
        "man",
        "help",
    ] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
    }
    assert_eq!(stdout(&["help"]), stdout(&["--help"]));
    assert_eq!(stdout(&["help", "record"]), stdout(&["record", "--help"]));
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("min-block"), "{shell}");
    }
    assert!(stdout(&["man"]).contains(".TH holdup 1"));
    let page = stdout(&["man", "record"]);
    assert!(
        page.contains("min\\-block") && page.contains("Exit status"),
        "{page}"
    );
    let unknown = holdup(&["man", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2));
}
