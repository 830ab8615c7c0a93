//! What `setup` asks of Debian's package tools.

use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this machine has apt and dpkg.
#[must_use]
pub fn has_apt() -> bool {
    ["apt-get", "dpkg-deb"]
        .iter()
        .all(|tool| process::output(process::detached(tool).arg("--version")).is_ok())
}

/// Those of `packages` that are not installed.
#[must_use]
pub fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        let mut query = process::detached("dpkg-query");
        query.args(["--show", "--showformat", "${db:Status-Status}", package]);
        process::output(&mut query).is_ok_and(|status| status == "installed")
    };
    packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect()
}

/// Installs packages, as root or by sudo.
///
/// # Errors
/// `apt-get` fails; what it said is on standard error.
pub fn install(packages: &[&str]) -> Result<()> {
    process::run(as_root("apt-get").args(["update", "-qq"]))?;
    let mut install = as_root("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    process::run(&mut install)
        .with_context(|| format!("these packages are needed: {}", packages.join(" ")))
}

/// A command that runs as root; by sudo where this process is not.
fn as_root(program: &str) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        process::detached(program)
    } else {
        let mut sudo = process::detached("sudo");
        sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", program]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A package in an archive that apt can download from.
#[derive(Debug)]
pub struct Package {
    name: String,
    /// Debian's version, as `1.95.0+dfsg1-1`.
    pub version: String,
    /// The suite in which it was found.
    pub suite: String,
    options: Vec<String>,
}

impl Package {
    /// Looks for a package of the upstream version `upstream` in the archive that apt is set up
    /// for, suite by suite. Suites that the machine does not use are read into `state`, a folder
    /// that stands in for apt's own, so that the machine's package lists stay as they are.
    ///
    /// # Errors
    /// None of the suites has it; the message names the versions that there are.
    pub fn find(name: &str, upstream: &str, state: &Path) -> Result<Package> {
        let codename = codename()?;
        let mut suites: Vec<String> = vec![codename.clone(), format!("{codename}-backports")];
        for suite in [
            "stable-backports",
            "trixie-backports",
            "testing",
            "unstable",
        ] {
            if suites.iter().all(|known| known != suite) {
                suites.push(suite.to_owned());
            }
        }
        let mut seen = Vec::new();
        for suite in suites {
            let options = match private_apt(&suite, &state.join(&suite)) {
                Ok(options) => options,
                Err(error) => {
                    seen.push(format!("{suite}: {error:#}"));
                    continue;
                }
            };
            let versions = process::output(
                process::detached("apt-cache")
                    .args(&options)
                    .args(["madison", name]),
            )?;
            for version in versions.lines().filter_map(|line| line.split('|').nth(1)) {
                let version = version.trim();
                if upstream_of(version) == upstream {
                    let (name, version) = (name.to_owned(), version.to_owned());
                    return Ok(Package {
                        name,
                        version,
                        suite,
                        options,
                    });
                }
                seen.push(format!("{suite}: {version}"));
            }
        }
        bail!(
            "no package {name} of version {upstream}; there are:\n  {}",
            seen.join("\n  ")
        );
    }

    /// Downloads and unpacks the package into the folder `into`; apt checks its signature.
    ///
    /// # Errors
    /// The download or the unpacking fails.
    pub fn unpack(&self, into: &Path) -> Result<()> {
        let packed = tempfile::tempdir().context("cannot make a temporary folder")?;
        let package = format!("{}={}", self.name, self.version);
        download(&[package], &self.options, packed.path(), into)
    }
}

/// Downloads packages by an apt with `options` into the folder `packed`, and unpacks them into
/// the folder `into`; apt checks their signatures.
///
/// # Errors
/// The download or the unpacking fails.
pub fn download(packages: &[String], options: &[String], packed: &Path, into: &Path) -> Result<()> {
    let mut apt = process::detached("apt-get");
    apt.current_dir(packed)
        .args(options)
        .arg("download")
        .args(packages);
    process::run(&mut apt)?;
    let mut found = false;
    for entry in fs::read_dir(packed).context("cannot list what was downloaded")? {
        let file = entry.context("cannot list what was downloaded")?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            found = true;
            let mut unpack = process::detached("dpkg-deb");
            process::run(unpack.arg("--extract").arg(&file).arg(into))?;
        }
    }
    if !found {
        bail!("`apt-get download` left no package");
    }
    Ok(())
}

/// The upstream part of a Debian version: `1.95.0` of `1:1.95.0+dfsg1-1~bpo13+1`.
fn upstream_of(version: &str) -> &str {
    let version = version
        .split_once(':')
        .map_or(version, |(_epoch, rest)| rest);
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

/// The code name of this machine's Debian.
///
/// # Errors
/// This is no Debian.
pub fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    if field("ID").as_deref() != Some("debian") {
        bail!("this is not Debian, whose packages are known here");
    }
    field("VERSION_CODENAME").context("/etc/os-release names no VERSION_CODENAME")
}

/// Options that make apt know one suite only, with its state below `folder`, and its package
/// list brought up to date. The suite is taken from the mirror that this machine uses, and the
/// machine's own package lists stay as they are.
///
/// # Errors
/// This is no Debian, or the mirror does not have the suite.
pub fn private_apt(suite: &str, folder: &Path) -> Result<Vec<String>> {
    let mirror = mirror(&codename()?)?;
    for part in ["lists/partial", "cache/archives/partial", "none"] {
        fs::create_dir_all(folder.join(part)).context("cannot make a folder for apt")?;
    }
    fs::write(folder.join("status"), "").context("cannot write apt's status file")?;
    let keyring = keyring().map_or(String::new(), |path| {
        format!("[signed-by={}] ", path.display())
    });
    fs::write(
        folder.join("sources.list"),
        format!("deb {keyring}{mirror} {suite} main\n"),
    )
    .context("cannot write apt's sources")?;
    let at = |name: &str| folder.join(name).display().to_string();
    let settings = [
        format!("Dir::State={}", at("")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::Cache={}", at("cache")),
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        format!("Dir::Etc::sourceparts={}", at("none")),
        format!("Dir::Etc::preferencesparts={}", at("none")),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=2".to_owned(),
        "Acquire::http::Timeout=30".to_owned(),
        "APT::Update::Error-Mode=any".to_owned(),
        // The folder is not readable for the user `_apt`.
        "APT::Sandbox::User=root".to_owned(),
    ];
    let mut options = vec!["-qq".to_owned()];
    options.extend(
        settings
            .into_iter()
            .flat_map(|setting| ["-o".to_owned(), setting]),
    );
    process::output(process::detached("apt-get").args(&options).arg("update"))?;
    Ok(options)
}

/// The mirror from which this machine takes the suite `codename`.
fn mirror(codename: &str) -> Result<String> {
    let mut query = process::detached("apt-get");
    query.args([
        "indextargets",
        "--format",
        "$(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    ]);
    let targets = process::output(&mut query)?;
    let found = targets
        .lines()
        .find_map(|line| line.strip_prefix(codename)?.strip_prefix(' '));
    found
        .map(str::to_owned)
        .with_context(|| format!("apt is set up here for no suite {codename}\nrun: apt-get update"))
}

fn keyring() -> Option<PathBuf> {
    ["pgp", "gpg"]
        .map(|ending| {
            PathBuf::from(format!(
                "/usr/share/keyrings/debian-archive-keyring.{ending}"
            ))
        })
        .into_iter()
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_part_of_a_version() {
        assert_eq!(upstream_of("1.95.0+dfsg1-1~bpo13+1"), "1.95.0");
        assert_eq!(upstream_of("1:22.1.8-1~deb12u1"), "22.1.8");
        assert_eq!(upstream_of("1.95.0"), "1.95.0");
        // A release candidate is not the release.
        assert_ne!(upstream_of("1.95.00~beta.1-1"), "1.95.0");
    }
}
