//! `--fail-if` and `--accept`, on the capture that is kept in the repository.

#[allow(dead_code, unreachable_pub, missing_docs)]
mod kept_support;

use kept_support::{report, said};
use std::process::Output;

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

/// The sites of the capture in which workers were blocked, by the JSON report.
fn blocked_functions() -> Vec<String> {
    let output = report(&["-f", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sites = report["sites"].as_array().expect("sites");
    let is_blocked = |site: &&serde_json::Value| site["state"] == "blocked";
    let functions = sites.iter().filter(is_blocked);
    functions
        .map(|site| site["function"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_condition_that_holds_is_told_and_is_the_exit_code() {
    let functions = blocked_functions();
    let worst = functions.first().expect("the capture has a blocked site");
    for condition in [
        "stall>1us",
        "blocked>0%",
        "cause=lock:blocked>1us",
        "blocked>1us",
    ] {
        let output = report(&["--fail-if", condition]);
        let said = said(&output);
        if code(&output) == 0 {
            assert!(condition.starts_with("cause="), "{condition}: {said}");
            continue;
        }
        assert_eq!(code(&output), 4, "{condition}: {said}");
        assert!(
            said.contains(&format!("holdup: fail: {condition} holds: ")),
            "{said}"
        );
        // The report is there all the same.
        assert!(!output.stdout.is_empty());
    }
    let of_site = format!("site={worst}:blocked>1us");
    let output = report(&["--fail-if", &of_site]);
    assert_eq!(code(&output), 4);
    assert!(said(&output).contains(worst), "{}", said(&output));
    let output = report(&[
        "--fail-if",
        "stall>1h",
        "--fail-if",
        "site=nobody:blocked>0us",
    ]);
    assert_eq!((code(&output), said(&output).contains("fail:")), (0, false));
}

#[test]
fn accepted_sites_count_for_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let list = dir.path().join("accepted.toml");
    let mut text = String::new();
    for function in blocked_functions() {
        text += &format!("[[accept]]\nfunction = {function:?}\nreason = \"known\"\n");
    }
    text += "[[accept]]\nfunction = \"nobody\"\nreason = \"gone\"\n";
    text += "[[accept]]\nfunction = \"old\"\nreason = \"old\"\nuntil = \"2020-01-01\"\n";
    std::fs::write(&list, text).expect("written");
    let list = list.to_str().expect("UTF-8");
    let output = report(&["--fail-if", "blocked>0%", "--accept", list]);
    let told = said(&output);
    assert_eq!(code(&output), 0, "{told}");
    assert!(
        told.contains("nobody is accepted, and did not wait"),
        "{told}"
    );
    assert!(told.contains("old was accepted until 2020-01-01"), "{told}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for args in [
        &["--fail-if", "stall>5%"][..],
        &["--fail-if", "nonsense"],
        &["--accept", "x.toml"],
        &["--fail-if", "stall>1s", "--accept", "/nowhere/x.toml"],
    ] {
        let output = report(args);
        assert!(
            [1, 2].contains(&code(&output)),
            "{args:?}: {}",
            said(&output)
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
