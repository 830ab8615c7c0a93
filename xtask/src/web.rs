//! `cargo xtask web`: the script and the style of the HTML report, built from TypeScript, reproducibly.
//!
//! What is built is in the repository, so that a user's build needs Rust alone. Node and npm are needed to
//! build it anew; `package-lock.json` pins every package by its hash.

use crate::{paths, process};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What is built: the script, the style, and the policy that names both by their hashes.
const BUILT: [&str; 3] = ["page.js", "page.css", "page.policy"];

/// Arguments of `cargo xtask web`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Build into a temporary folder and compare with the files in the repository
    #[arg(long)]
    check: bool,
}

/// Builds the files, and writes or compares them.
///
/// # Errors
/// Node or npm is missing, a package cannot be fetched, the build fails, or (`--check`) the files in the
/// repository are not what their sources give.
pub fn run(args: &Args) -> Result<()> {
    if !has_npm() {
        bail!("no npm here\nrun: cargo xtask setup --tests");
    }
    install()?;
    if !args.check {
        return build(&paths::page());
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    build(folder.path())?;
    let differing: Vec<&str> = BUILT
        .into_iter()
        .filter(|name| !are_equal(&folder.path().join(name), &paths::page().join(name)))
        .collect();
    if differing.is_empty() {
        println!("the page is what its sources give");
        return Ok(());
    }
    bail!(
        "{} in {} are not what profiler/web gives\nrun: cargo xtask web",
        differing.join(", "),
        paths::page().display()
    )
}

/// Whether npm is here.
#[must_use]
pub fn has_npm() -> bool {
    process::output(process::detached("npm").arg("--version")).is_ok()
}

/// Whether the packages are there that `package.json` names, in its versions.
#[must_use]
pub fn has_packages() -> bool {
    let read = |path: PathBuf| -> Option<Value> {
        serde_json::from_slice(&fs::read(paths::web().join(path)).ok()?).ok()
    };
    let list = read("package.json".into());
    let wanted = list
        .as_ref()
        .and_then(|list| list["devDependencies"].as_object());
    wanted.is_some_and(|wanted| {
        wanted.iter().all(|(name, version)| {
            let package = Path::new("node_modules").join(name).join("package.json");
            read(package).is_some_and(|found| found["version"] == *version)
        })
    })
}

/// Installs the packages that the build and the tests of the page need, exactly as they are locked.
///
/// # Errors
/// One of them cannot be fetched, or is not the one that was locked.
pub fn install() -> Result<()> {
    let mut npm = process::detached("npm");
    npm.current_dir(paths::web())
        // Browsers are Debian's, and no package runs anything when it is installed.
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    process::run(&mut npm)
}

fn build(into: &Path) -> Result<()> {
    let mut npm = process::detached("npm");
    npm.current_dir(paths::web())
        .args(["run", "--silent", "build", "--"])
        .arg(into);
    process::run(&mut npm)
}

fn are_equal(one: &Path, other: &Path) -> bool {
    match (fs::read(one), fs::read(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock file must be of use to everybody: it names packages by their hashes, and no registry of
    /// anybody's own.
    #[test]
    fn the_lock_file_names_hashes_and_no_hosts() {
        let lock = fs::read_to_string(paths::web().join("package-lock.json")).expect("there");
        let lock: serde_json::Value = serde_json::from_str(&lock).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        assert!(packages.len() > 4);
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].is_string(), "{name} has no hash");
            let resolved = package["resolved"].as_str();
            let is_public = |url: &str| url.starts_with("https://registry.npmjs.org/");
            assert!(resolved.is_none_or(is_public), "{name}: {resolved:?}");
        }
    }

    #[test]
    fn what_is_built_is_there() {
        for name in BUILT {
            let length = fs::metadata(paths::page().join(name)).expect(name).len();
            assert!(length > 100, "{name}");
        }
    }
}
