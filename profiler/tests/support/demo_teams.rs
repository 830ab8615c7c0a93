//! The demo with its mistakes and repaired, as `cargo xtask demo --compare` shows both; and the demo's own
//! integration test, recorded as a pipeline does it.

use super::cargo::{OF_A_PACKAGE, without};
use super::demo::{not_built, program};
use super::privilege;
use libtest_mimic::Trial;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("demo::repaired_is_better_in_each_row", || {
            let missing = privilege::missing().or_else(not_built).or_else(no_xtask);
            privilege::unless_skipped(missing, || Ok(compare()?))
        }),
        Trial::ignorable_test(
            "demo::its_own_test_fails_where_a_worker_stands_still",
            || {
                let missing = privilege::missing().or_else(not_built);
                let missing = missing.or_else(not_ready);
                privilege::unless_skipped(missing, || Ok(pipeline()?))
            },
        ),
    ]
}

fn no_xtask() -> Option<String> {
    let missing = !program("xtask").is_file();
    missing.then(|| "xtask is not built: cargo build -p xtask".to_owned())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn compare() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let programs = program("holdup");
    let output = Command::new(program("xtask"))
        .args(["demo", "--compare", "--seconds", "6", "--programs"])
        .arg(programs.parent().unwrap_or(Path::new(".")))
        .arg("--pictures")
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Err(format!("{}\n{stdout}\n{stderr}", output.status));
    }
    println!("{stdout}");
    for (row, more_is_better) in [
        ("answers a second", true),
        ("latency, p50", false),
        ("latency, p99", false),
        ("latency of /health, p99", false),
        ("workers blocked", false),
        ("no task could run", false),
    ] {
        let [mistakes, repaired] = figures(&stdout, row)?;
        let is_better = match more_is_better {
            true => repaired > mistakes,
            false => repaired < mistakes,
        };
        if !is_better {
            return Err(format!("{row}: {mistakes} and {repaired}\n{stdout}"));
        }
    }
    let verdicts = stdout.lines().find_map(|line| line.strip_prefix("verdict"));
    let verdicts: Vec<&str> = verdicts.unwrap_or_default().split_whitespace().collect();
    if verdicts.first() != Some(&"STARVED") || verdicts.get(1) == Some(&"STARVED") {
        return Err(format!("the verdicts are {verdicts:?}"));
    }
    // The comparison of the two captures follows.
    let site = stdout.lines().find(|line| line.contains("ask_blocking"));
    if !site.is_some_and(|line| line.trim_start().starts_with("gone")) {
        return Err(format!("the worst site is not told as gone:\n{stdout}"));
    }
    for name in ["mistakes.svg", "repaired.wall.svg", "changed.svg"] {
        let picture = std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        if !picture.contains("<svg") {
            return Err(format!("no {name}: {stderr}"));
        }
    }
    Ok(())
}

/// The two figures of a row, in one unit.
fn figures(table: &str, row: &str) -> Result<[f64; 2], String> {
    let rest = table.lines().find_map(|line| line.strip_prefix(row));
    let rest = rest.ok_or_else(|| format!("no row {row}:\n{table}"))?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let mut figures = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let Ok(figure) = word.parse::<f64>() else {
            continue;
        };
        let unit = words.get(index + 1).copied();
        figures.push(if unit == Some("s") {
            figure * 1e3
        } else {
            figure
        });
    }
    figures.try_into().map_err(|all| format!("{row}: {all:?}"))
}

/// The demo's integration test as a pipeline runs it. What is built for all tests is what cargo wants for
/// this one, where the same packages are named.
fn own_test() -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--test", "endpoints"]);
    command
}

/// In the workspace, with the environment of a shell.
fn in_workspace(mut command: Command) -> Command {
    without(&mut command, &OF_A_PACKAGE);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    command.current_dir(root.unwrap_or(Path::new(".")));
    command.stdin(Stdio::null());
    command
}

/// Why it cannot be run at once, if it cannot: the compiler is not what is to be recorded.
fn not_ready() -> Option<String> {
    let mut build = in_workspace(own_test());
    let built = build.arg("--no-run").output();
    let built = built.map(|output| (output.status.success(), text(&output.stderr)));
    match built {
        Ok((true, _)) => None,
        Ok((false, said)) => Some(format!("the demo's test cannot be built: {said}")),
        Err(error) => Some(format!("the demo's test needs cargo: {error}")),
    }
}

/// The test starts the service, whose mistakes hold its workers up for 200 ms.
fn pipeline() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let junit = dir.path().join("stalls.junit.xml");
    let json = dir.path().join("stalls.json");
    let mut record = Command::new(program("holdup"));
    record
        .args(["record", "--follow", "--fail-with-command"])
        .args(["--fail-if", "stall>150ms"])
        .args(["--fail-if", "cause=gil:blocked>0us", "-o"])
        .arg(&junit)
        .arg("-o")
        .arg(&json)
        .arg("--");
    let test = own_test();
    record.arg(test.get_program()).args(test.get_args());
    record.env("RES_OPTIONS", "timeout:1 attempts:1");
    let output = in_workspace(record)
        .output()
        .map_err(|error| error.to_string())?;
    let said = text(&output.stderr);
    if output.status.code() != Some(4) {
        return Err(format!(
            "{}\n{}\n{said}",
            output.status,
            text(&output.stdout)
        ));
    }
    if !said.contains("fail: stall>150ms holds") || !said.contains("Gateway::ask_blocking") {
        return Err(said);
    }
    let xml = std::fs::read_to_string(&junit).map_err(|error| error.to_string())?;
    let document = roxmltree::Document::parse(&xml).map_err(|error| error.to_string())?;
    if document.root_element().attribute("failures") != Some("1") {
        return Err(xml);
    }
    let report = std::fs::read_to_string(&json).map_err(|error| error.to_string())?;
    let report: Value = serde_json::from_str(&report).map_err(|error| error.to_string())?;
    match report["conditions"][0]["holds"] == true && report["conditions"][1]["holds"] == false {
        true => Ok(()),
        false => Err(report["conditions"].to_string()),
    }
}
