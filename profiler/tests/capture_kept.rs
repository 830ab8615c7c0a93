//! Captures that are kept: what was written once is read for good, in every form.
//!
//! With `HOLDUP_WRITE_CAPTURES` set they are written anew.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;

use capture_support::{read, write};
use holdup::analyze::build_keeping;
use holdup::capture::Bounds;
use holdup::render::{Format, Options, render};
use holdup::report::Keep;
use std::path::{Path, PathBuf};
use std::process::Command;

fn kept(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures");
    let path = dir.join(name);
    if std::env::var_os("HOLDUP_WRITE_CAPTURES").is_some() {
        let seconds = [1, 2, 3].map(|seconds| seconds * recordings::builder::SEC);
        std::fs::create_dir_all(&dir).expect("makes the folder");
        let _ = std::fs::remove_file(&path);
        write(
            &path,
            &recordings::in_intervals(&seconds),
            Bounds::default(),
        );
    }
    path
}

fn holdup(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("HOLDUP_LOG");
    command.output().expect("runs")
}

/// What the golden files of this recording hold, which were drawn without a capture.
#[test]
fn version_1_in_every_form() {
    let path = kept("version-1.holdup");
    let seconds = [1, 2, 3].map(|seconds| seconds * recordings::builder::SEC);
    let all = Keep {
        sums: true,
        singles: true,
    };
    let report = build_keeping(&recordings::in_intervals(&seconds), all);
    for format in Format::ALL {
        let mut want = Vec::new();
        let options = Options::default().for_files();
        render(format, &report, &options, &mut want).expect("writing to memory");
        let mut got = Vec::new();
        let read = build_keeping(&read(&path), all);
        render(format, &read, &options, &mut got).expect("writing to memory");
        assert!(got == want, "{}", format.name());
        // Test cases are conditions, and there are none.
        if format.name() == "junit" {
            continue;
        }
        // The same by the program.
        let dir = tempfile::tempdir().expect("dir");
        let out = dir.path().join("report");
        let args = [
            "report",
            &path.to_string_lossy(),
            "-f",
            format.name(),
            "-o",
            &out.to_string_lossy(),
        ];
        let output = holdup(&args);
        assert!(output.status.success(), "{output:?}");
        assert!(
            std::fs::read(&out).expect("there") == want,
            "{}",
            format.name()
        );
    }
}

#[test]
fn a_part_says_that_it_is_one() {
    let path = kept("version-1.holdup");
    let path = path.to_string_lossy();
    let output = holdup(&["report", &path, "--from", "1.2s", "--to", "1.5s", "-q"]);
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!("part_of_a_capture", String::from_utf8_lossy(&output.stdout));
    let json = holdup(&[
        "report", &path, "--from", "1.2s", "--to", "1.5s", "-q", "-f", "json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let second = 1_000_000_000u64;
    assert_eq!(json["part"]["from_ns"], second);
    assert_eq!(json["part"]["to_ns"], 2 * second);
    assert_eq!(json["part"]["of_ns"], 3 * second);
    assert_eq!(json["duration_ns"], second);
}

#[test]
fn compared_with_itself_nothing_has_changed() {
    let path = kept("version-1.holdup");
    let path = path.to_string_lossy();
    let output = holdup(&["diff", &path, &path, "-f", "json"]);
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sites = json["sites"].as_array().expect("a list");
    assert!(!sites.is_empty() && sites.iter().all(|site| site["change"] == "same"));
}

/// What failed, why, and what to try next.
#[test]
fn files_that_are_no_captures() {
    let dir = tempfile::tempdir().expect("dir");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("text"), "some text\n").expect("writes");
    std::fs::write(path("empty"), "").expect("writes");
    std::fs::copy("/bin/sh", path("elf")).expect("copies");
    std::fs::create_dir(path("folder")).expect("makes");
    let good = std::fs::read(kept("version-1.holdup")).expect("reads");
    std::fs::write(path("cut"), &good[..good.len() / 2]).expect("writes");
    let changed = |name: &str, sql: &str| {
        std::fs::write(path(name), &good).expect("writes");
        let other = rusqlite::Connection::open(path(name)).expect("opens");
        other.execute_batch(sql).expect("changes");
    };
    changed("newer", "PRAGMA user_version = 9");
    changed("others", "PRAGMA application_id = 1");
    changed("damaged", "UPDATE waits SET stack = 77777");
    let made = Command::new("mkfifo")
        .arg(path("pipe"))
        .status()
        .expect("runs");
    assert!(made.success());
    let names = [
        "missing", "text", "empty", "elf", "folder", "pipe", "cut", "newer", "others", "damaged",
    ];
    let mut all = String::new();
    for name in names {
        let output = holdup(&["report", &path(name)]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(output.stdout.is_empty(), "{name}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        all.push_str(&said.replace(&*dir.path().to_string_lossy(), "/dir"));
    }
    insta::assert_snapshot!("no_captures", all);
    let diff = holdup(&[
        "diff",
        &kept("version-1.holdup").to_string_lossy(),
        &path("text"),
    ]);
    assert_eq!(diff.status.code(), Some(1));
}
