//! What continuous integration reads: JUnit's XML, GitHub's workflow commands, GitLab's code quality.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

#[allow(dead_code, unreachable_pub, missing_docs)]
mod kept_support;

use holdup::analyze::build;
use holdup::render::{Format, Options, render};
use holdup::report::{Asked, CheckedCondition, ConditionSite, Report};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

fn text_of(report: &Report, format: Format, sources: Option<&str>) -> String {
    let options = Options {
        sources: sources.map(str::to_owned),
        ..Options::default()
    };
    let mut out = Vec::new();
    render(format, report, &options, &mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

/// A report of which three things were asked: two conditions hold, one because of every site.
fn asked(mut report: Report) -> Report {
    let sites: Vec<ConditionSite> = report.sites.iter().map(ConditionSite::of).collect();
    let first = sites.iter().take(1).cloned().collect();
    let condition = |text: &str, asks, holds, found: &str, sites| CheckedCondition {
        condition: text.to_owned(),
        asks,
        holds,
        found: found.to_owned(),
        sites,
    };
    report.conditions = vec![
        condition(
            "stall>10ms",
            Asked::Stall,
            true,
            "a worker stood still, 100 %: <2 s> & \"more\"",
            sites,
        ),
        condition(
            "starved>1%",
            Asked::Starved,
            false,
            "no task of rt0 could run for 0 ns",
            Vec::new(),
        ),
        condition(
            "site=a::b<c>:blocked>1ms",
            Asked::Blocked,
            true,
            "blocked\nfor 3 s",
            first,
        ),
    ];
    report
}

fn golden(format: Format, name: &str) {
    let (starved, hostile) = (
        asked(build(&recordings::starved())),
        asked(build(&recordings::hostile())),
    );
    for (of, report) in [("starved", starved), ("hostile", hostile)] {
        insta::assert_snapshot!(
            format!("{of}_{name}"),
            text_of(&report, format, Some("/root/claims"))
        );
    }
}

#[test]
fn junit() {
    golden(Format::Junit, "junit");
}

#[test]
fn github() {
    golden(Format::Github, "github");
}

#[test]
fn codequality() {
    golden(Format::CodeQuality, "codequality");
}

#[test]
fn junit_is_xml_with_a_case_for_each_condition() {
    for (name, recording) in recordings::all() {
        let report = asked(build(&recording));
        let text = text_of(&report, Format::Junit, None);
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let suite = root.first_element_child().expect("a suite");
        for element in [root, suite] {
            assert_eq!(element.attribute("tests"), Some("3"), "{name}");
            assert_eq!(element.attribute("failures"), Some("2"), "{name}");
        }
        let cases: Vec<_> = suite
            .children()
            .filter(|node| node.has_tag_name("testcase"))
            .collect();
        assert_eq!(cases.len(), report.conditions.len());
        for (case, condition) in cases.iter().zip(&report.conditions) {
            assert_eq!(case.attribute("name"), Some(condition.condition.as_str()));
            let failure = case.children().find(|node| node.has_tag_name("failure"));
            assert_eq!(failure.is_some(), condition.holds, "{name}");
            let Some(failure) = failure else { continue };
            assert_eq!(failure.attribute("type"), Some(condition.asks.name()));
            let lines = failure
                .text()
                .unwrap_or_default()
                .trim_end()
                .lines()
                .count();
            assert_eq!(lines, 1 + condition.sites.len(), "{name}: {text}");
        }
        let found = cases[0]
            .first_element_child()
            .and_then(|f| f.attribute("message"));
        assert_eq!(found, Some(report.conditions[0].found.as_str()));
    }
}

/// A command and its properties and message, read by the rules of GitHub's runner.
fn command(line: &str) -> (String, Vec<(String, String)>, String) {
    let rest = line.strip_prefix("::").expect("a command");
    let (head, message) = rest.split_once("::").expect("an end");
    let (name, properties) = head.split_once(' ').expect("properties");
    let plain = |text: &str| {
        let text = text.replace("%3A", ":").replace("%2C", ",");
        text.replace("%0D", "\r")
            .replace("%0A", "\n")
            .replace("%25", "%")
    };
    let properties = properties.split(',').map(|property| {
        let (name, value) = property.split_once('=').expect("a value");
        (name.to_owned(), plain(value))
    });
    (name.to_owned(), properties.collect(), plain(message))
}

#[test]
fn each_line_is_one_command_of_githubs() {
    for (name, recording) in recordings::all() {
        for report in [build(&recording), asked(build(&recording))] {
            let text = text_of(&report, Format::Github, None);
            let commands: Vec<_> = text.lines().map(command).collect();
            let (last, before) = commands.split_last().expect("the verdict");
            assert_eq!(last.0, "notice", "{name}");
            let level = if report.conditions.is_empty() {
                "warning"
            } else {
                "error"
            };
            for (of, properties, message) in before.iter().filter(|(of, ..)| of != "notice") {
                assert_eq!(of, level, "{name}");
                let known = ["file", "line", "title"];
                assert!(
                    properties
                        .iter()
                        .all(|(name, _)| known.contains(&name.as_str()))
                );
                assert!(!message.is_empty());
            }
            assert!(
                before.iter().filter(|(of, ..)| of == level).count() <= 10,
                "{name}"
            );
        }
    }
}

#[test]
fn issues_have_what_gitlab_asks_for() {
    let mut places = 0;
    for (name, recording) in recordings::all() {
        let report = asked(build(&recording));
        let text = text_of(&report, Format::CodeQuality, None);
        let issues: Value = serde_json::from_str(&text).expect("JSON");
        let issues = issues.as_array().expect("an array");
        let mut fingerprints = BTreeSet::new();
        for issue in issues {
            let members: Vec<&String> = issue.as_object().expect("an object").keys().collect();
            let documented = [
                "check_name",
                "description",
                "fingerprint",
                "location",
                "severity",
            ];
            assert_eq!(members, documented, "{name}");
            let severities = ["info", "minor", "major", "critical", "blocker"];
            assert!(severities.contains(&issue["severity"].as_str().expect("a word")));
            let path = issue["location"]["path"].as_str().expect("a path");
            assert!(!path.starts_with('/') && !path.starts_with("./"), "{path}");
            assert!(issue["location"]["lines"]["begin"].as_u64() >= Some(1));
            let fingerprint = issue["fingerprint"].as_str().expect("text");
            assert!(
                fingerprints.insert(fingerprint.to_owned()),
                "{name}: {fingerprint} twice"
            );
        }
        let lines = report.sites.iter();
        let lines = lines.filter(|site| {
            let is_below = site
                .file
                .as_deref()
                .is_some_and(|file| !file.starts_with('/'));
            is_below && site.line.is_some()
        });
        assert!(issues.len() <= lines.count());
        places += issues.len();
    }
    assert!(places > 3, "{places}");
}

/// Where the lines of a function have moved it is the same finding.
#[test]
fn fingerprints_outlive_lines() {
    let of = |report: &Report| -> Vec<String> {
        let text = text_of(report, Format::CodeQuality, None);
        let issues: Value = serde_json::from_str(&text).expect("JSON");
        let issues = issues.as_array().expect("an array").iter();
        issues
            .map(|issue| issue["fingerprint"].to_string())
            .collect()
    };
    let report = asked(build(&recordings::starved()));
    let mut moved = report.clone();
    for site in moved.conditions.iter_mut().flat_map(|of| &mut of.sites) {
        site.line = site.line.map(|line| line + 7);
    }
    assert!(!of(&report).is_empty());
    assert_eq!(of(&moved), of(&report));
}

fn holdup(args: &[&str], dir: &Path) -> Output {
    let mut command = kept_support::command(args);
    command.current_dir(dir).output().expect("holdup runs")
}

#[test]
fn conditions_are_in_every_form_of_one_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = [
        "-o",
        "a.junit.xml",
        "-o",
        "a.codequality.json",
        "-o",
        "a.json",
        "-f",
        "github",
    ];
    let conditions = ["--fail-if", "blocked>0us", "--fail-if", "stall>1h"];
    let output = holdup(&[&files[..], &conditions[..]].concat(), dir.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.starts_with("::error "), "{stdout}");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a file");
    let xml = read("a.junit.xml");
    let document = roxmltree::Document::parse(&xml).expect("XML");
    assert_eq!(document.root_element().attribute("failures"), Some("1"));
    let report: Value = serde_json::from_str(&read("a.json")).expect("JSON");
    let conditions = report["conditions"].as_array().expect("conditions");
    let holds: Vec<bool> = conditions.iter().map(|of| of["holds"] == true).collect();
    assert_eq!(holds, [true, false]);
    assert!(
        conditions[0]["sites"]
            .as_array()
            .is_some_and(|sites| !sites.is_empty())
    );
    let issues: Value = serde_json::from_str(&read("a.codequality.json")).expect("JSON");
    assert!(issues.is_array());
}

#[test]
fn junit_needs_conditions() {
    let dir = tempfile::tempdir().expect("a folder");
    for args in [&["-f", "junit"][..], &["-o", "a.junit.xml"]] {
        let output = holdup(args, dir.path());
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--fail-if"), "{said}");
    }
}
