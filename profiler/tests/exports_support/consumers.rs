//! The programs that the formats are for.

use libtest_mimic::Failed;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why `go tool pprof` cannot be run here, if it cannot.
pub(crate) fn no_go() -> Option<String> {
    let there = Command::new("go").arg("version").output();
    there
        .is_err()
        .then(|| "no go; apt-get install golang-go, or cargo xtask setup --tests".into())
}

/// What `go tool pprof` says of a profile.
pub(crate) fn pprof(profile: &Path, arguments: &[&str]) -> Result<String, Failed> {
    let output = Command::new("go")
        .args(["tool", "pprof"])
        .args(arguments)
        .arg(profile)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("go tool pprof: {error}").into())
    }
}

/// speedscope's JSON Schema, where its npm package is installed.
pub(crate) fn speedscope_schema() -> Option<PathBuf> {
    let root = Command::new("npm")
        .args(["root", "--global"])
        .output()
        .ok()?;
    let root = String::from_utf8_lossy(&root.stdout).trim().to_owned();
    let schema = "speedscope/dist/release/file-format-schema.json";
    Some(Path::new(&root).join(schema)).filter(|path| path.exists())
}
