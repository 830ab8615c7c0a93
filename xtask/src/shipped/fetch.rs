//! Fetching packages by the ordinary clients, and unpacking them.

use super::list::{Host, Package, Registry, Source};
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What came of it.
pub(super) enum Fetched {
    /// The folder with what was unpacked.
    Here(PathBuf),
    /// It cannot be had on this machine, because of this.
    Skipped(String),
}

/// The cache, and where what was recorded is kept.
pub(super) fn folder(name: &str) -> PathBuf {
    paths::root().join("target/shipped").join(name)
}

/// Fetches all files of a package that are not in the cache, and unpacks them.
///
/// # Errors
/// A file is not the one that is pinned, or cannot be unpacked.
pub(super) fn package(package: &Package) -> Result<Fetched> {
    let folder = folder(&package.name);
    let unpacked = folder.join("unpacked");
    for source in &package.files {
        let done = folder.join(format!("{}.sha256", source.sha256));
        if done.exists() {
            continue;
        }
        fs::create_dir_all(&unpacked)?;
        if let Some(reason) = missing(source) {
            return Ok(Fetched::Skipped(reason));
        }
        let file = match fetch(source, &folder) {
            Ok(file) => file,
            Err(error) => return Ok(Fetched::Skipped(format!("cannot be fetched: {error:#}"))),
        };
        compare(&file, source)?;
        unpack(source, &file, &unpacked)?;
        fs::write(&done, "")?;
    }
    Ok(Fetched::Here(unpacked))
}

/// What this machine lacks for it.
fn missing(source: &Source) -> Option<String> {
    let (tool, version) = match source.from {
        Registry::Pip => ("pip", python().args(["-m", "pip", "--version"]).output()),
        Registry::Npm => ("npm", Command::new("npm").arg("--version").output()),
        Registry::Cargo => return None,
    };
    if !version.is_ok_and(|output| output.status.success()) {
        return Some(format!("no {tool} here"));
    }
    let wanted = source.python.as_deref()?;
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let found = process::output(python().args(["-c", script])).unwrap_or_default();
    (found != wanted).then(|| format!("it is pinned for Python {wanted}, here is {found}"))
}

/// The machine's Python.
pub(super) fn python() -> Command {
    process::detached("python3")
}

/// The program itself that loads libraries, whatever stands in front of it in the path.
///
/// # Errors
/// It is not there.
pub(super) fn host(host: Host) -> Result<PathBuf> {
    let path = match host {
        Host::Python => process::output(python().args(["-c", "import sys; print(sys.executable)"])),
        Host::Node => process::output(process::detached("node").args(["-p", "process.execPath"])),
    };
    Ok(PathBuf::from(path?.trim()))
}

/// Downloads a file, and says where it is.
fn fetch(source: &Source, folder: &Path) -> Result<PathBuf> {
    let Source { name, version, .. } = source;
    let into = folder.join("download");
    let _ = fs::remove_dir_all(&into);
    fs::create_dir_all(&into)?;
    match source.from {
        Registry::Pip => {
            let mut pip = python();
            pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
                .args(["--quiet", "--disable-pip-version-check", "--dest"])
                .arg(&into)
                .arg(format!("{name}=={version}"));
            process::output(&mut pip)?;
        }
        Registry::Npm => {
            let mut npm = process::detached("npm");
            npm.args(["pack", "--silent", "--pack-destination"])
                .arg(&into)
                .arg(format!("{name}@{version}"));
            process::output(&mut npm)?;
        }
        Registry::Cargo => {
            let mut cargo = process::detached("cargo");
            cargo
                .args(["install", "--locked", "--quiet", name, "--version", version])
                .arg("--root")
                .arg(folder.join("unpacked"))
                .arg("--target-dir")
                .arg(folder.join("build"));
            process::run(&mut cargo)?;
            // It is built: only the program is needed from now on.
            let _ = fs::remove_dir_all(folder.join("build"));
            return crate_file(source);
        }
    }
    let mut files = fs::read_dir(&into)?;
    let file = files.next().context("nothing was downloaded")??;
    Ok(file.path())
}

/// Where cargo keeps the crate that it installed.
fn crate_file(source: &Source) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::home_dir().unwrap_or_default().join(".cargo"),
        PathBuf::from,
    );
    let name = format!("{}-{}.crate", source.name, source.version);
    let registries = fs::read_dir(home.join("registry/cache"))?;
    let mut files = registries.flatten().map(|entry| entry.path().join(&name));
    files
        .find(|file| file.exists())
        .with_context(|| format!("cargo did not keep {name}"))
}

fn compare(file: &Path, source: &Source) -> Result<()> {
    let mut found = String::new();
    for byte in Sha256::digest(fs::read(file)?) {
        write!(found, "{byte:02x}")?;
    }
    if found != source.sha256 {
        bail!(
            "{} {} is not the file that is pinned: sha256 {found}, expected {}",
            source.name,
            source.version,
            source.sha256
        );
    }
    Ok(())
}

fn unpack(source: &Source, file: &Path, into: &Path) -> Result<()> {
    let mut command = match source.from {
        Registry::Pip => {
            let mut unzip = python();
            unzip.args(["-m", "zipfile", "-e"]).arg(file).arg(into);
            unzip
        }
        Registry::Npm => {
            let mut tar = process::detached("tar");
            tar.arg("-xzf").arg(file).arg("-C").arg(into);
            tar
        }
        Registry::Cargo => return Ok(()),
    };
    process::output(&mut command)?;
    // It is as large again as what came out of it.
    Ok(fs::remove_file(file)?)
}

/// Makes the program executable, which archives of some registries do not say it is.
///
/// # Errors
/// It is not there.
pub(super) fn make_executable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let context = || format!("the package has no {}", program.display());
    let mut permissions = fs::metadata(program).with_context(context)?.permissions();
    permissions.set_mode(permissions.mode() | 0o111);
    fs::set_permissions(program, permissions).with_context(context)
}

/// The compiler that made a binary, as its `.comment` section tells.
pub(super) fn rustc(binary: &Path) -> Option<String> {
    use object::{Object as _, ObjectSection as _};
    let bytes = fs::read(binary).ok()?;
    let file = object::File::parse(bytes.as_slice()).ok()?;
    let comment = file.section_by_name(".comment")?.data().ok()?;
    let text = String::from_utf8_lossy(comment);
    let (_, rest) = text.split_once("rustc version ")?;
    rest.split([' ', '\0']).next().map(str::to_owned)
}
