//! Chromium, driven by `profiler/web/test/drive.mjs`.

use libtest_mimic::Failed;
use std::path::{Path, PathBuf};
use std::process::Command;

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

/// Where the browser is.
pub(crate) fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    all.into_iter().find(|program| program.exists())
}

/// Why no page can be driven here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let help = "cargo xtask setup --tests brings it";
    if Command::new("node").arg("--version").output().is_err() {
        return Some(format!("no node; {help}"));
    }
    if chromium().is_none() {
        return Some(format!("no chromium; {help}"));
    }
    let packages = web().join("node_modules/playwright-core");
    (!packages.exists()).then(|| format!("no packages in profiler/web; {help}"))
}

/// Has a page looked at in one of the script's ways. What the script prints is what it measured; it fails
/// with the first thing that is not as it should be.
pub(crate) fn drive(way: &str, page: &Path) -> Result<String, Failed> {
    let chromium = chromium().ok_or("no chromium")?;
    let output = Command::new("node")
        .arg(web().join("test/drive.mjs"))
        .arg(way)
        .arg(page)
        .arg(chromium)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).into())
}
