//! What reads holdup's files in the tests and comes from PyPI: `profiler/tests/consumers/requirements.txt`.

use crate::{paths, process};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// For which Python, and on which machine, the files that are pinned are meant.
const PYTHON: [&str; 6] = [
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--platform",
    "manylinux2014_x86_64",
];

fn list() -> PathBuf {
    paths::consumers().join("requirements.txt")
}

fn folder() -> PathBuf {
    paths::consumers().join("packages")
}

/// The list as it was when the packages were installed.
fn installed() -> PathBuf {
    folder().join("installed.txt")
}

/// Whether pip is here.
#[must_use]
pub fn has_pip() -> bool {
    process::output(process::detached("python3").args(["-m", "pip", "--version"])).is_ok()
}

/// Whether all packages are there, in the versions that are pinned.
#[must_use]
pub fn are_there() -> bool {
    let [wanted, found] = [list(), installed()].map(fs::read);
    wanted.is_ok_and(|wanted| found.is_ok_and(|found| found == wanted))
}

/// Installs the packages, exactly as they are pinned, into a folder beside their list.
///
/// # Errors
/// One of them cannot be fetched, or is not the one that is pinned.
pub fn install() -> Result<()> {
    let _ = fs::remove_dir_all(folder());
    let mut pip = process::detached("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(["--no-deps", "--no-compile", "--require-hashes"])
    .args(["--only-binary=:all:", "--root-user-action=ignore"])
    .args(PYTHON)
    .arg("--target")
    .arg(folder())
    .arg("--requirement")
    .arg(list());
    process::run(&mut pip)?;
    fs::copy(list(), installed())
        .with_context(|| format!("cannot write to {}", folder().display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is fetched is what was looked at.
    #[test]
    fn every_package_is_pinned_by_its_hash() {
        let list = fs::read_to_string(list()).expect("there");
        let is_package = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let packages: Vec<&str> = list.lines().filter(is_package).collect();
        assert!(packages.len() > 2, "{packages:?}");
        for package in packages {
            let (version, hash) = package.split_once(" --hash=sha256:").expect(package);
            assert!(version.contains("=="), "{package}");
            assert!(
                hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
                "{package}"
            );
        }
    }
}
