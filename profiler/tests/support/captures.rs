//! Captures of real recordings: they say what the recording said, and are there whatever happens to
//! whoever writes them.

use super::check;
use super::fixture::{Profile, Running, Variant};
use super::privilege;
use super::record::{spawn_record, until_recording};
use super::report::Report;
use super::truth::Truth;
use children::{Child, Lines};
use libtest_mimic::{Failed, Trial};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

const WRITTEN: Duration = Duration::from_secs(60);
/// The forms of a report, by how the names of their files end.
const FORMS: [&str; 8] = [
    "txt",
    "json",
    "folded",
    "svg",
    "wakers.folded",
    "wakers.svg",
    "wall.folded",
    "wall.svg",
];
const SECOND: i64 = 1_000_000_000;

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;
type Missing = fn() -> Option<String>;

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test, Missing); 7] = [
        ("the_same_report", same_report, privilege::missing),
        ("a_part_of_it", part, privilege::missing),
        ("killed_in_the_middle", killed, privilege::missing),
        (
            "read_while_it_is_written",
            read_meanwhile,
            privilege::missing,
        ),
        ("a_full_disk", full_disk, privilege::missing_root),
        ("a_target_that_ends", target_ends, privilege::missing),
        ("names_come_later", late_names, privilege::missing),
    ];
    let trials = trials.into_iter();
    trials
        .map(|(name, trial, missing)| {
            Trial::ignorable_test(format!("captures::{name}"), move || {
                privilege::unless_skipped(missing(), trial)
            })
        })
        .collect()
}

const STRIPPED: Variant = Variant {
    profile: Profile::Stripped,
    ..Variant::DEFAULT
};

/// A recording under way.
struct Recording {
    fixture: Running,
    holdup: Child,
    messages: Lines,
    dir: tempfile::TempDir,
}

impl Recording {
    /// Records into these files in a folder of its own.
    fn start(mode: &str, files: &[&str]) -> Result<Recording, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let paths: Vec<PathBuf> = files.iter().map(|file| dir.path().join(file)).collect();
        Recording::start_in(Variant::DEFAULT.start(mode)?, &paths, dir)
    }

    fn start_in(
        fixture: Running,
        paths: &[PathBuf],
        dir: tempfile::TempDir,
    ) -> Result<Recording, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
        command.args(["record", "-p", &fixture.pid().to_string()]);
        for path in paths {
            command.arg("-o").arg(path);
        }
        let (holdup, mut messages) = spawn_record(&mut command)?;
        until_recording(&mut messages)?;
        Ok(Recording {
            fixture,
            holdup,
            messages,
            dir,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets the fixture do what it is to do.
    fn run(&mut self) -> Result<(), String> {
        self.fixture.go()?;
        self.fixture.truth()?;
        Ok(())
    }

    /// Waits until holdup has ended. Returns its exit code and what it said.
    fn end(&mut self) -> Result<(Option<i32>, String), String> {
        let status = self.holdup.wait(WRITTEN)?;
        self.messages.drain(Duration::from_secs(1));
        Ok((status.code(), self.messages.transcript().to_string()))
    }

    fn stop(&mut self) -> Result<(), String> {
        self.holdup.interrupt()?;
        match self.end()? {
            (Some(0), _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

/// `holdup report`, by nobody in particular.
fn report(capture: &Path, args: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command
        .arg("report")
        .arg(capture)
        .args(args)
        .env("NO_COLOR", "1");
    command.output().map_err(|error| error.to_string())
}

/// What a plain SQLite says of a capture.
fn number(capture: &Path, sql: &str) -> Result<i64, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let opened = Connection::open_with_flags(capture, flags).map_err(|error| error.to_string())?;
    opened
        .busy_timeout(Duration::from_secs(5))
        .and_then(|()| {
            let check: String = opened.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            if check == "ok" {
                opened.query_row(sql, [], |row| row.get(0))
            } else {
                Err(rusqlite::Error::InvalidColumnName(check))
            }
        })
        .map_err(|error| format!("{}: {error}", capture.display()))
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every form is the same, byte for byte, whether record or report has written it.
fn same_report() -> Outcome {
    let names = FORMS.map(|form| format!("recorded.{form}"));
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("x.holdup");
    let mut recording = Recording::start("scenarios", &all)?;
    recording.run()?;
    recording.stop()?;
    let capture = recording.path("x.holdup");
    let mut wrong = Vec::new();
    for form in FORMS {
        let path = recording.path(&format!("reported.{form}"));
        let output = report(&capture, &["-q", "-o", &path.to_string_lossy()])?;
        let recorded = fs::read(recording.path(&format!("recorded.{form}")))?;
        if !output.status.success() || !output.stderr.is_empty() {
            wrong.push(format!("{form}: {output:?}"));
        } else if recorded != fs::read(&path)? || recorded.is_empty() {
            wrong.push(format!("{form} is not as it was recorded"));
        }
    }
    let json = report(&capture, &["-f", "json"])?;
    if json.stdout != fs::read(recording.path("recorded.json"))? {
        wrong.push("standard output is not as the file".into());
    }
    if number(&capture, "SELECT count(*) FROM waits")? < 50 {
        wrong.push("there are few waits in it".into());
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// `--from` and `--to` take whole intervals, and say which.
fn part() -> Outcome {
    let mut recording = Recording::start("scenarios", &["x.holdup"])?;
    recording.run()?;
    sleep(Duration::from_millis(2500));
    recording.stop()?;
    let capture = recording.path("x.holdup");
    let length = number(&capture, "SELECT max(ended) FROM intervals")?;
    let to = number(
        &capture,
        "SELECT ended FROM intervals WHERE began < 2000000000 ORDER BY id DESC LIMIT 1",
    )?;
    let from = number(
        &capture,
        "SELECT began FROM intervals WHERE ended > 1500000000 ORDER BY id LIMIT 1",
    )?;
    let output = report(&capture, &["-f", "json", "--from", "1.5s", "--to", "2s"])?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let part = &json["part"];
    let got = [
        &part["from_ns"],
        &part["to_ns"],
        &part["of_ns"],
        &json["duration_ns"],
    ];
    let want = [from, to, length, to - from];
    if got.map(serde_json::Value::as_i64) != want.map(Some) {
        return Err(format!("{got:?}, not {want:?}").into());
    }
    let text = report(&capture, &["--from", "1.5s", "--to", "2s"])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    if !text.contains(" of a recording of ") {
        return Err(format!("the report does not say that it is of a part:\n{text}").into());
    }
    let beyond = report(&capture, &["--from", "1h"])?;
    let said = String::from_utf8_lossy(&beyond.stderr).into_owned();
    match beyond.status.code() == Some(1) && said.contains("has nothing after 1 h") {
        true => Ok(()),
        false => Err(said.into()),
    }
}

/// All but the last second is there, in one file.
fn killed() -> Outcome {
    let mut recording = Recording::start("scenarios", &["x.holdup"])?;
    let begun = Instant::now();
    recording.run()?;
    sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
    recording.holdup.kill()?;
    let lived = begun.elapsed();
    let status = recording.holdup.wait(WRITTEN)?;
    if status.signal() != Some(libc::SIGKILL) {
        return Err(format!("holdup ended by itself: {status}").into());
    }
    if files(recording.dir.path()) != ["x.holdup"] {
        return Err(format!("there are {:?}", files(recording.dir.path())).into());
    }
    let capture = recording.path("x.holdup");
    let length = number(&capture, "SELECT max(ended) FROM intervals")?;
    // An interval may take longer while a program is being loaded, and the disk may be slow.
    let lost = i64::try_from(lived.as_nanos())? - length;
    if lost > 3 * SECOND {
        return Err(format!("{lost} ns of {lived:?} are lost").into());
    }
    let named = "SELECT count(*) FROM waits JOIN stacks ON stacks.id = waits.stack \
                 WHERE kernel_frames <> '[]'";
    if number(&capture, named)? == 0 {
        return Err("no kernel frame has a name".into());
    }
    let output = report(&capture, &[])?;
    let (said, text) = (
        String::from_utf8_lossy(&output.stderr).into_owned(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    if !output.status.success() || !said.contains("the end of the recording is not in the capture")
    {
        return Err(format!("{output:?}").into());
    }
    match text.contains("BLOCKED") {
        true => Ok(()),
        false => Err(text.into()),
    }
}

/// Whoever reads it meanwhile sees whole seconds, by holdup and by SQLite.
fn read_meanwhile() -> Outcome {
    let mut recording = Recording::start("scenarios", &["x.holdup"])?;
    recording.fixture.go()?;
    let capture = recording.path("x.holdup");
    let begun = Instant::now();
    let (mut seen, mut read) = (Vec::new(), 0);
    while begun.elapsed() < Duration::from_secs(4) {
        let intervals = number(&capture, "SELECT count(*) FROM intervals")?;
        if seen.last().is_some_and(|last| *last > intervals) {
            return Err(format!("{intervals} intervals after {seen:?}").into());
        }
        seen.push(intervals);
        if intervals > 0 {
            let output = report(&capture, &["-f", "json"])?;
            if output.status.code() != Some(0) && output.status.code() != Some(3) {
                return Err(format!("{output:?}").into());
            }
            read += 1;
        }
    }
    recording.fixture.truth()?;
    recording.stop()?;
    seen.dedup();
    match read >= 3 && seen.len() >= 3 {
        true => Ok(()),
        false => Err(format!("read {read} times: {seen:?}").into()),
    }
}

/// A file system of its own, gone with the value.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Result<Small, String> {
        fs::create_dir(at).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()
            .map_err(|error| error.to_string())?;
        match mounted.status.success() {
            true => Ok(Small(at.to_owned())),
            false => Err(format!("{mounted:?}")),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The capture ends, the recording does not.
fn full_disk() -> Outcome {
    let dir = tempfile::tempdir()?;
    let small = Small::mount(&dir.path().join("small"), "160k")?;
    let (capture, json) = (small.0.join("x.holdup"), dir.path().join("x.json"));
    let paths = [capture.clone(), json.clone()];
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let mut recording = Recording::start_in(fixture, &paths, tempfile::tempdir()?)?;
    recording.run()?;
    sleep(Duration::from_millis(1500));
    recording.holdup.interrupt()?;
    let (code, said) = recording.end()?;
    if code != Some(1) || !said.contains("ends here") || !said.contains("No space left") {
        return Err(format!("{code:?}: {said}").into());
    }
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&json)?)?;
    let length = number(&capture, "SELECT coalesce(max(ended), 0) FROM intervals")?;
    if whole["duration_ns"].as_i64() <= Some(length) {
        return Err("the recording ended with the capture".into());
    }
    if files(&small.0) != ["x.holdup"] {
        return Err(format!("there are {:?}", files(&small.0)).into());
    }
    let output = report(&capture, &["-f", "json"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_short = said.contains("before the recording: ") || said.contains("nothing in it");
    match is_short || said.contains("is not in the capture") {
        true => Ok(()),
        false => Err(format!("{output:?}").into()),
    }
}

/// The capture of a target that ends by itself is whole.
fn target_ends() -> Outcome {
    let mut recording = Recording::start("exit-midway", &["x.holdup", "x.json"])?;
    recording.fixture.go()?;
    let (code, said) = recording.end()?;
    if code != Some(0) || !said.contains("x.holdup (") {
        return Err(format!("{code:?}: {said}").into());
    }
    let capture = recording.path("x.holdup");
    if number(&capture, "SELECT ended = 'complete' FROM capture")? != 1 {
        return Err("the capture is not complete".into());
    }
    let json = report(&capture, &["-q", "-f", "json"])?;
    match json.stdout == fs::read(recording.path("x.json"))? {
        true => Ok(()),
        false => Err("the report is not as it was recorded".into()),
    }
}

/// What was stripped when it was recorded has the names of the build that it was made of.
fn late_names() -> Outcome {
    let named = STRIPPED
        .named()
        .ok_or("it is made of no other build")?
        .build()?;
    let dir = tempfile::tempdir()?;
    let capture = dir.path().join("x.holdup");
    let fixture = STRIPPED.start("scenarios")?;
    let mut recording = Recording::start_in(
        fixture,
        std::slice::from_ref(&capture),
        tempfile::tempdir()?,
    )?;
    recording.fixture.go()?;
    let truth = recording.fixture.truth()?;
    recording.stop()?;
    let build_id: String = text(&capture, "SELECT build_id FROM processes")?;

    // By any name in the folder, and as distributions have it.
    let (flat, tree) = (dir.path().join("flat"), dir.path().join("tree"));
    let (folder, name) = build_id.split_at(2);
    let within = tree.join(".build-id").join(folder);
    fs::create_dir(&flat)?;
    fs::create_dir_all(&within)?;
    fs::copy(&named, flat.join("whatever"))?;
    fs::write(flat.join("no-elf"), "file")?;
    fs::copy(&named, within.join(format!("{name}.debug")))?;
    for symbols in [&flat, &tree] {
        let output = report(
            &capture,
            &["-f", "json", "--symbols", &symbols.to_string_lossy()],
        )?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || !said.contains("named by the debug files of blockers") {
            return Err(said.into());
        }
        let report = Report::parse(&String::from_utf8_lossy(&output.stdout))?;
        let missing = check::recall(&report, &truth);
        if !missing.is_empty() {
            return Err(missing.join("\n").into());
        }
    }
    // The folder has nothing of it.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty)?;
    let output = report(
        &capture,
        &["-f", "json", "--symbols", &empty.to_string_lossy()],
    )?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.contains(&build_id) {
        return Err(said.into());
    }
    late_names_of_a_server(&capture, (&named, &build_id), &truth)
}

/// The same, with the debug file on a server.
fn late_names_of_a_server(
    capture: &Path,
    (named, build_id): (&Path, &str),
    truth: &Truth,
) -> Outcome {
    let cache = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let wanted = format!("GET /buildid/{build_id}/debuginfo ");
    let file = fs::read(named)?;
    // It ends with the tests' process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            let (status, body): (&str, &[u8]) =
                match request[..length].starts_with(wanted.as_bytes()) {
                    true => ("200 OK", &file),
                    false => ("404 Not Found", b""),
                };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // Whoever asked may have gone.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command.arg("report").arg(capture).args(["-f", "json"]);
    command
        .env("DEBUGINFOD_URLS", &url)
        .env("DEBUGINFOD_CACHE_PATH", cache.path());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.contains("named by the debug files of blockers") {
        return Err(said.into());
    }
    let report = Report::parse(&String::from_utf8_lossy(&output.stdout))?;
    let missing = check::recall(&report, truth);
    if !missing.is_empty() {
        return Err(missing.join("\n").into());
    }
    match cache.path().join(build_id).join("debuginfo").is_file() {
        true => Ok(()),
        false => Err("the file was not kept".into()),
    }
}

/// One text of a capture.
fn text(capture: &Path, sql: &str) -> Result<String, String> {
    let opened = Connection::open_with_flags(capture, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let text = opened.and_then(|opened| opened.query_row(sql, [], |row| row.get(0)));
    text.map_err(|error| error.to_string())
}
