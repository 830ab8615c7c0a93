//! A target that chose every name to deceive: its threads, its functions, its program, its
//! arguments. Whatever is printed has to show them, and to stay what it is.

use super::fixture::{Running, Variant};
use super::privilege;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Name of a directory, and the program's name behind it.
const DIR: &str = "\u{1b}]0;title\u{7}<img src=x onerror=alert(1)>\"'&;\n\u{202e} (deleted)";
const PROGRAM: &str = "\u{1b}[2J<script>alert(1)\"'&;\nholdup: error: forged\r\u{202e}x 1";
/// What the fixture calls its workers.
const THREAD: &str = "\u{1b}[2J<i>\"';\n\u{202e}";

/// The trials.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "hostile::names_stay_text_in_every_format",
        || privilege::unless_skipped(privilege::missing(), every_format),
    )]
}

/// All that holdup printed and wrote.
struct Written {
    /// By where it went; what a terminal shows.
    shown: Vec<(&'static str, String)>,
    svg: String,
    json: String,
    folded: String,
    check: String,
}

fn every_format() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let inner = dir.path().join(DIR);
    std::fs::create_dir(&inner)?;
    let program = inner.join(PROGRAM);
    std::fs::copy(Variant::DEFAULT.build()?, &program)?;
    let written = record(&program, dir.path())?;
    let mut wrong = Vec::new();
    for (place, text) in &written.shown {
        wrong.extend(deceptive(text).map(|c| format!("{place} holds {c:?}:\n{text:?}")));
        if text
            .lines()
            .any(|line| line.starts_with("holdup: error: forged"))
        {
            wrong.push(format!("{place} holds a forged line:\n{text}"));
        }
    }
    wrong.extend(svg(&written.svg));
    wrong.extend(json(&written.json, &program));
    wrong.extend(folded(&written.folded));
    let check: serde_json::Value = serde_json::from_str(&written.check)?;
    if check["target"]["exe"].as_str() != program.to_str() {
        wrong.push(format!(
            "check changed the program's name: {}",
            check["target"]
        ));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

fn start(program: &Path) -> Result<Running, String> {
    let mut command = Command::new(program);
    // It runs in no place of its own: the argument is only one more name.
    command.arg("hostile").arg(DIR);
    Running::start(command)
}

fn holdup(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(args)
        .env_remove("HOLDUP_LOG")
        .stdin(Stdio::null());
    command
}

fn record(program: &Path, dir: &Path) -> Result<Written, Failed> {
    let mut fixture = start(program)?;
    let pid = fixture.pid().to_string();
    let path = |name: &str| -> PathBuf { dir.join(name) };
    let mut command = holdup(&["record", "-vv", "--color", "always", "-p", &pid]);
    for name in ["r.json", "r.svg", "r.folded", "r.txt"] {
        command.arg("-o").arg(path(name));
    }
    let stderr = path("stderr");
    command
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&stderr)?);
    let recording = command.spawn()?;
    let interrupt = rustix::process::Pid::from_child(&recording);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !std::fs::read_to_string(&stderr)?.contains("recording ") {
        if std::time::Instant::now() > deadline {
            return Err("it never said that it records".into());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fixture.go()?;
    fixture.truth()?;
    rustix::process::kill_process(interrupt, rustix::process::Signal::INT)?;
    let recorded = recording.wait_with_output()?;
    if !recorded.status.success() {
        return Err(format!("{recorded:?}: {}", std::fs::read_to_string(stderr)?).into());
    }

    // A second one of the same name: both are recorded, and listed.
    let second = start(program)?;
    let by_name = ["record", "--color", "always", "-d", "500ms", "-n", PROGRAM];
    let listed = holdup(&by_name).output()?;
    let told = String::from_utf8(listed.stdout.clone())?;
    for pid in [&pid, &second.pid().to_string()] {
        let is_its_own = |line: &str| line.contains(pid.as_str()) && line.contains("<script>");
        if !told.lines().any(is_its_own) {
            return Err(format!("{pid} is not listed: {listed:?}").into());
        }
    }
    let checked = holdup(&["check", "--color", "always", "-p", &pid]).output()?;
    let check = holdup(&["check", "--format", "json", "-p", &pid]).output()?;
    drop(second);
    fixture.finish()?;
    let read = |name: &str| std::fs::read_to_string(path(name));
    let text = |output: &Output| String::from_utf8(output.stdout.clone());
    Ok(Written {
        shown: vec![
            ("the report", text(&recorded)?),
            ("the text file", read("r.txt")?),
            ("standard error", read("stderr")?),
            ("the list of candidates", told),
            ("the check", text(&checked)?),
            ("folded stacks", read("r.folded")?),
        ],
        svg: read("r.svg")?,
        json: read("r.json")?,
        folded: read("r.folded")?,
        check: text(&check)?,
    })
}

/// The first character that a terminal obeys or a reader does not see, colours (SGR, ECMA-48
/// 8.3.117) left out: none of the names holds one.
fn deceptive(text: &str) -> Option<char> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';');
        rest = match end.map(|end| after.split_at(end)) {
            Some((_, tail)) if tail.starts_with('m') => tail.get(1..).unwrap_or_default(),
            _ => {
                plain.push('\u{1b}');
                after
            }
        };
    }
    plain.push_str(rest);
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    plain
        .chars()
        .find(|&c| c.is_control() && c != '\n' || turns(c))
}

fn svg(text: &str) -> Vec<String> {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    let document = match roxmltree::Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(error) => return vec![format!("the flamegraph is no XML: {error}")],
    };
    let mut wrong = Vec::new();
    let named = |name: &str| {
        document
            .descendants()
            .filter(|node| node.tag_name().name() == name)
            .collect::<Vec<_>>()
    };
    // The library's own, and nobody else's.
    if named("script").len() != 1 || !named("i").is_empty() || !named("img").is_empty() {
        wrong.push("the flamegraph has elements of the target's making".to_owned());
    }
    let titles = named("title");
    if !titles
        .iter()
        .filter_map(|title| title.text())
        .any(is_function)
    {
        wrong.push("the flamegraph does not show the function".to_owned());
    }
    let texts = document.descendants().filter(|node| node.is_text());
    let script = |node: &roxmltree::Node<'_, '_>| {
        node.parent()
            .is_some_and(|parent| matches!(parent.tag_name().name(), "script" | "style"))
    };
    for node in texts.filter(|node| !script(node)) {
        let bad = node
            .text()
            .and_then(|text| text.chars().find(|c| c.is_control() && *c != '\n'));
        wrong.extend(bad.map(|c| format!("the flamegraph holds {c:?} in {:?}", node.text())));
    }
    wrong
}

/// Whether the whole name of the function is there: what looks like generic arguments is left
/// out, and there are escapes in between.
fn is_function(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("hostile ") else {
        return false;
    };
    rest.split_once("alert(1)")
        .is_some_and(|(_, rest)| rest.contains("end"))
}

fn json(text: &str, program: &Path) -> Vec<String> {
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return vec![format!("the report is no JSON: {error}")],
    };
    let mut wrong = Vec::new();
    let process = &value["processes"][0];
    if process["exe"].as_str() != program.to_str() {
        wrong.push(format!("the program is called {}", process["exe"]));
    }
    if process["cmdline"][2].as_str() != Some(DIR) {
        wrong.push(format!("the arguments are {}", process["cmdline"]));
    }
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let threads = list("threads");
    if !threads.iter().any(|thread| thread["name"] == THREAD) {
        wrong.push(format!("no thread is called {THREAD:?}: {threads:?}"));
    }
    let (frames, stacks) = (list("frames"), list("stacks"));
    let at = |index: &serde_json::Value| usize::try_from(index.as_u64()?).ok();
    let on_stack = |site: &serde_json::Value| {
        let stack = at(&site["stack"]).and_then(|index| stacks.get(index)?.as_array());
        let frames_of = stack.into_iter().flatten();
        let mut named = frames_of.filter_map(|index| frames.get(at(index)?));
        named.any(|frame| frame.to_string().contains("hostile \\u001b"))
    };
    if !list("sites").iter().any(on_stack) {
        wrong.push("the function is on no stack".to_owned());
    }
    wrong
}

fn folded(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in text.lines() {
        let parsed = line
            .rsplit_once(' ')
            .map(|(stack, count)| (stack, count.parse::<u64>()));
        match parsed {
            Some((stack, Ok(_))) if stack.split(';').all(|frame| !frame.is_empty()) => {}
            _ => wrong.push(format!("no folded stack: {line:?}")),
        }
    }
    // In one frame, although a separator is in the middle of it.
    let whole = text.lines().any(|line| line.split(';').any(is_function));
    if !whole {
        wrong.push(format!("the function is cut up or missing:\n{text}"));
    }
    wrong
}
