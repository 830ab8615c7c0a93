//! Which programs are here, and how they are run.

use libtest_mimic::Failed;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const HELP: &str = "cargo xtask setup --tests brings it";

/// A file or a folder below `profiler`.
fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Why a program cannot be run here, if it cannot.
pub(crate) fn no(program: &str, version: &str) -> Option<String> {
    let mut command = Command::new(program);
    let found = command.arg(version).stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    (!is_there).then(|| format!("no {program}; {HELP}"))
}

/// Why a file of a program is not here, if it is not.
fn no_file(path: &Path) -> Option<String> {
    (!path.exists()).then(|| format!("no {}; {HELP}", path.display()))
}

/// A file of a package of npm's.
pub(crate) fn npm(path: &str) -> PathBuf {
    below("web/node_modules").join(path)
}

/// A file of a package of PyPI's.
pub(crate) fn pypi(path: &str) -> PathBuf {
    below("tests/consumers/packages").join(path)
}

/// Why a package of npm's cannot be used here, if it cannot.
pub(crate) fn no_npm(path: &str) -> Option<String> {
    no("node", "--version").or_else(|| no_file(&npm(path)))
}

/// Why a package of PyPI's cannot be used here, if it cannot.
pub(crate) fn no_pypi(path: &str) -> Option<String> {
    no("python3", "--version").or_else(|| no_file(&pypi(path)))
}

/// What a command says, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String, Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {text}{error}").into())
}

/// What `go tool pprof` says of a profile.
pub(crate) fn pprof(profile: &Path, arguments: &[&str]) -> Result<String, Failed> {
    let mut go = Command::new("go");
    output(go.args(["tool", "pprof"]).args(arguments).arg(profile))
}

/// What a script in `tests/consumers` says of files, which is JSON.
pub(crate) fn python(script: &str, files: &[PathBuf]) -> Result<Value, Failed> {
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", pypi(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(below("tests/consumers").join(script))
        .args(files);
    Ok(serde_json::from_str(&output(&mut python)?)?)
}

/// What is to be seen of a file in the pages of the program that it is for.
pub(crate) fn viewer(
    way: &str,
    file: &Path,
    pages: &Path,
    chromium: &Path,
) -> Result<Value, Failed> {
    let mut node = Command::new("node");
    node.arg(below("web/test/viewers.mjs"))
        .arg(way)
        .args([file, pages, chromium]);
    Ok(serde_json::from_str(&output(&mut node)?)?)
}
