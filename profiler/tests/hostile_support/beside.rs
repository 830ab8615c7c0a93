//! Processes of other users that are recorded beside an honest one.

use children::Child;
use libtest_mimic::Failed;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Nobody's.
const OTHER: &str = "65534";
/// Threads of `stall.c` that stand on memory that is not served.
pub(crate) const STANDING: u64 = 64;
const READY: Duration = Duration::from_secs(20);

/// Starts one in a directory of its own.
pub(crate) type Start = fn(&Path) -> Result<Child, Failed>;

/// A program of this user's whose threads stand on memory that nobody serves: see `stall.c`.
fn stall(dir: &Path, mode: &str) -> Result<Child, Failed> {
    ready(stalling(dir, mode)?.stdin(Stdio::null()))
}

fn stalling(dir: &Path, mode: &str) -> Result<Command, Failed> {
    let program = compiled(dir, "stall", &["-O1", "-pthread"])?;
    let mount = dir.join("mount");
    std::fs::create_dir(&mount)?;
    let mut command = Command::new(program);
    command.arg(mode).arg(mount).arg(OTHER);
    Ok(command)
}

/// Compiles a program of `hostile_support` into `dir`.
pub(crate) fn compiled(dir: &Path, name: &str, options: &[&str]) -> Result<PathBuf, Failed> {
    let source = format!("tests/hostile_support/{name}.c");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let program = dir.join(name);
    let mut cc = Command::new("cc");
    let built = cc
        .args(options)
        .arg("-o")
        .args([&program, &source])
        .output()?;
    match built.status.success() {
        true => Ok(program),
        false => Err(String::from_utf8_lossy(&built.stderr).into()),
    }
}

pub(crate) fn ready(command: &mut Command) -> Result<Child, Failed> {
    let mut child = Child::spawn("the hostile program", command.stdout(Stdio::piped()))?;
    let mut lines = child.stdout()?;
    lines.find("`ready`", READY, |line| line == "ready")?;
    Ok(child)
}

pub(crate) fn userfaultfd(dir: &Path) -> Result<Child, Failed> {
    stall(dir, "userfaultfd")
}

pub(crate) fn fuse(dir: &Path) -> Result<Child, Failed> {
    stall(dir, "fuse")
}

pub(crate) fn slow_fuse(dir: &Path) -> Result<Child, Failed> {
    stall(dir, "150")
}

/// A library with a function that panics begin with, out of a file system that everybody may read and
/// that serves no page of it any more.
pub(crate) fn library_in_fuse(dir: &Path) -> Result<Child, Failed> {
    let library = compiled(dir, "panics", &["-shared", "-fPIC"])?;
    let mut command = stalling(dir, "library")?;
    ready(command.arg(library).stdin(Stdio::null()))
}

/// A shell of another user's.
pub(crate) fn shell(script: &str) -> Result<Child, Failed> {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", OTHER, "--regid", OTHER, "--clear-groups"])
        .args(["sh", "-c", &format!("ulimit -u 200; echo ready; {script}")]);
    // What the programs say is of no interest; what they inherit is closed with the shell.
    ready(command.stdin(Stdio::null()).stderr(Stdio::null()))
}

/// Executes programs that have root's rights from then on.
pub(crate) fn setuid_programs(_: &Path) -> Result<Child, Failed> {
    let programs = ["/usr/bin/passwd", "/usr/bin/su", "/bin/su", "/bin/mount"];
    let there: Vec<&str> = programs
        .into_iter()
        .filter(|program| Path::new(program).exists())
        .collect();
    let each = there.join(" --help >/dev/null; ");
    shell(&format!(
        "while :; do {each} --help >/dev/null; sleep 0.01; done"
    ))
}

/// 60,000 mappings of code, some of which are made anew all the time.
pub(crate) fn churn(dir: &Path) -> Result<Child, Failed> {
    let program = compiled(dir, "churn", &["-O1"])?;
    ready(Command::new(program).arg(OTHER).stdin(Stdio::null()))
}

pub(crate) fn forks(_: &Path) -> Result<Child, Failed> {
    shell("while :; do (:); (sleep 0.2) & done")
}
