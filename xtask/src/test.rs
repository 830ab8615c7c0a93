//! `cargo xtask test`: every test of the workspace, summed up in one line.

use crate::{paths, process};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run only tests whose names contain this
    filter: Option<String>,
}

/// Lines of the reasons why tests failed that are said again at the end, for each program.
const MOST_REASONS: usize = 60;

/// The test targets that record processes, and so need privileges.
const LIVE: [&str; 2] = ["hostile", "live"];

/// Builds all tests, runs them, and ends with the sum over all of them.
///
/// # Errors
/// The tests cannot be built or started. Failed tests are no error but a failing exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut sum = Tally::default();
    let mut failures = Vec::new();
    let sudo = Sudo::find();
    for binary in build()? {
        let mut command = match &sudo {
            Some(sudo) if LIVE.contains(&&*binary.target) => sudo.command(&binary),
            _ => binary.command(),
        };
        command.args(&args.filter);
        sum.add(observe(&mut command, &binary.name(), &mut failures)?);
    }
    if let Some(sudo) = &sudo {
        sudo.give_back();
    }
    let mut doc = cargo();
    doc.args(["test", "--doc", "--workspace", "--locked"])
        .args(&args.filter);
    sum.add(observe(&mut doc, "documentation", &mut failures)?);

    if let Some(filter) = &args.filter
        && sum == Tally::default()
    {
        bail!("no test's name contains {filter:?}");
    }
    println!();
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    println!("{}", sum.line());
    Ok(if failures.is_empty() && sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }

    /// Reads the line with which libtest, and libtest-mimic, end a run:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    pub(crate) fn parse(line: &str) -> Option<Tally> {
        let rest = line.strip_prefix("test result: ")?;
        let (_verdict, counts) = rest.split_once(". ")?;
        let count = |word: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Tally {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }
}

/// Why tests failed: what libtest, and libtest-mimic, print between a line `failures:` and the
/// next one of the kind, which begins the list of their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons {
    lines: Vec<String>,
    reading: bool,
}

impl Reasons {
    /// Takes a line of output in.
    pub(crate) fn read(&mut self, line: &str) {
        if line == "failures:" {
            self.reading = !self.reading;
        } else if Tally::parse(line).is_some() {
            self.reading = false;
        } else if self.reading && !line.is_empty() {
            self.lines.push(line.to_owned());
        }
    }

    /// As lines behind another one.
    pub(crate) fn text(&self) -> String {
        let shown = self.lines.iter().take(MOST_REASONS);
        let mut text: String = shown.map(|line| format!("\n  {line}")).collect();
        let more = self.lines.len().saturating_sub(MOST_REASONS);
        if more > 0 {
            text += &format!("\n  … and {more} more lines above");
        }
        text
    }
}

/// An executable with tests.
#[derive(Debug)]
struct Binary {
    package: String,
    target: String,
    executable: PathBuf,
    manifest: PathBuf,
}

impl Binary {
    fn name(&self) -> String {
        format!("{} ({})", self.package, self.target)
    }

    fn folder(&self) -> &Path {
        self.manifest.parent().unwrap_or(paths::root())
    }

    /// Runs it as `cargo test` does: in the package's folder, which it can also ask for.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(self.folder());
        command
            .env("CARGO_MANIFEST_DIR", self.folder())
            .env("CARGO_PKG_NAME", &self.package);
        command
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}

/// Compiles everything and lists the executables with tests.
fn build() -> Result<Vec<Binary>> {
    let mut build = cargo();
    build.args(["test", "--workspace", "--no-run", "--locked"]);
    build
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    eprintln!("+ {}", process::shown(&build));
    let output = build.spawn().and_then(|child| child.wait_with_output());
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut binaries = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("cargo wrote no JSON: {line}"))?;
        if message["profile"]["test"] != true {
            continue;
        }
        let Some(executable) = message["executable"].as_str() else {
            continue;
        };
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let manifest = text(&message["manifest_path"]).context("an artifact without a manifest")?;
        let manifest = PathBuf::from(manifest);
        let folder = manifest
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default();
        binaries.push(Binary {
            package: folder.to_string_lossy().into_owned(),
            target: text(&message["target"]["name"]).context("an artifact without a name")?,
            executable: executable.into(),
            manifest,
        });
    }
    // The live tests last: they take longest, and what they need is tested by the others.
    binaries.sort_by_key(|binary| (LIVE.contains(&&*binary.target), binary.name()));
    Ok(binaries)
}

/// Runs a test program, lets its output through and sums up its results.
fn observe(command: &mut Command, name: &str, failures: &mut Vec<String>) -> Result<Tally> {
    println!("\n== {name}");
    let shown = process::shown(command);
    let context = || format!("cannot run the tests of {name}: {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(context)?;
    let mut sum = Tally::default();
    let mut ended = false;
    let mut reasons = Reasons::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(context)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            reasons.read(&line);
            if let Some(tally) = Tally::parse(&line) {
                sum.add(tally);
                ended = true;
            }
        }
    }
    let status = child.wait().with_context(context)?;
    if !status.success() {
        failures.push(format!(
            "{name}: {}, {status}{}",
            sum.line(),
            reasons.text()
        ));
        if sum.failed == 0 {
            // It died on the way: a test did not pass, and nothing else would say so.
            sum.failed = 1;
        }
    } else if !ended {
        failures.push(format!("{name}: ended without a result"));
        sum.failed += 1;
    }
    Ok(sum)
}

/// Root's rights without a password, for the live tests of a user who is not root.
#[derive(Debug)]
struct Sudo {
    uid: u32,
    gid: u32,
}

impl Sudo {
    fn find() -> Option<Sudo> {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return None;
        }
        process::output(Command::new("sudo").args(["-n", "true"])).ok()?;
        Some(Sudo {
            uid: uid.as_raw(),
            gid: rustix::process::getegid().as_raw(),
        })
    }

    /// The binary as root, with what cargo and rustup need to find the user's toolchain.
    fn command(&self, binary: &Binary) -> Command {
        let own = binary.command();
        let mut command = Command::new("sudo");
        command.current_dir(binary.folder()).args(["-n", "env"]);
        let set = |name: &str, value: OsString| {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            pair
        };
        for (name, value) in own.get_envs() {
            command.args(value.map(|value| set(&name.to_string_lossy(), value.to_owned())));
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CI",
        ] {
            command.args(std::env::var_os(name).map(|value| set(name, value)));
        }
        command.arg(&binary.executable);
        command
    }

    /// Files that the live tests built as root become the user's, who could not clean up
    /// otherwise.
    fn give_back(&self) {
        let owner = format!("{}:{}", self.uid, self.gid);
        let folders = ["target", "profiler/tests/fixtures"].map(|name| paths::root().join(name));
        let mut chown = Command::new("sudo");
        chown.args(["-n", "chown", "--recursive", "--from=0", &owner]);
        chown.args(folders.iter().filter(|folder| folder.is_dir()));
        if let Err(error) = process::output(&mut chown) {
            eprintln!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered \
                    out; finished in 0.10s";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(Tally::parse("test a ... ok"), None);
        assert_eq!(
            Tally::parse("test result: ok. x passed; 0 failed; 0 ignored"),
            None
        );
    }

    fn script(text: &str) -> (Tally, Vec<String>) {
        let mut failures = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        let tally = observe(&mut command, "script", &mut failures).unwrap();
        (tally, failures)
    }

    #[test]
    fn a_program_that_dies_counts_as_a_failure() {
        let (tally, failures) = script("kill -9 $$");
        assert_eq!(
            tally,
            Tally {
                passed: 0,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(failures.len(), 1);
    }

    #[test]
    fn a_program_without_a_result_counts_as_a_failure() {
        let (tally, failures) = script("echo hello");
        assert_eq!(tally.failed, 1);
        assert_eq!(failures.len(), 1);
    }

    #[test]
    fn the_reasons_are_said_again() {
        let (_, failures) = script(
            "printf 'test a ... FAILED\n\nfailures:\n\n---- a ----\nit is red\n\n\nfailures:\n    a\n'; \
             echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'; exit 101",
        );
        let wanted =
            "script: 0 passed, 1 failed, 0 skipped, exit status: 101\n  ---- a ----\n  it is red";
        assert_eq!(failures, [wanted]);
    }

    #[test]
    fn results_of_one_program_add_up() {
        let line = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured";
        let (tally, failures) = script(&format!("echo '{line}'; echo '{line}'"));
        assert_eq!(
            tally,
            Tally {
                passed: 4,
                failed: 0,
                skipped: 2
            }
        );
        assert!(failures.is_empty());
        assert_eq!(tally.line(), "4 passed, 0 failed, 2 skipped");
    }
}
