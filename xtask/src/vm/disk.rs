//! The guest's disk: a file system with the programs, and nothing of this machine besides.

use super::host::tool;
use super::programs::Programs;
use crate::{paths, process};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The first program on the disk.
const START: &str = include_str!("guest/start.sh");

/// Room on the disk; what is not used takes none.
const SIZE: &str = "2G";

/// Folders that the guest mounts something on or writes to.
const FOLDERS: &[&str] = &["dev", "proc", "sys", "tmp", "root", "run", "bin"];

/// Makes the disk's image in the folder `work`.
///
/// # Errors
/// Something cannot be read or written.
pub(super) fn make(
    programs: &Programs,
    environment: &[(&str, String)],
    work: &Path,
) -> Result<PathBuf> {
    let stage = tempfile::tempdir_in(work)
        .with_context(|| format!("cannot write to {}", work.display()))?;
    let root = stage.path();
    for folder in FOLDERS {
        fs::create_dir(root.join(folder)).context("cannot make a folder of the disk")?;
    }
    fs::copy(busybox(), root.join("bin/busybox")).context("cannot copy busybox")?;
    for name in ["sh", "unshare"] {
        symlink("busybox", root.join("bin").join(name)).context("cannot make a link")?;
    }
    // What a fixture starts and a test records: under its own name, which no link has.
    fs::copy(busybox(), root.join("bin/sleep")).context("cannot copy busybox")?;
    let libraries = programs.libraries()?;
    for path in programs
        .executables()
        .chain(libraries.iter().map(PathBuf::as_path))
    {
        place(path, root)?;
    }
    // The live tests read the fixtures' versions from these.
    let fixtures = paths::root().join("profiler/tests/fixtures");
    for entry in fs::read_dir(&fixtures).context("cannot list the fixtures")? {
        let lock = entry
            .context("cannot list the fixtures")?
            .path()
            .join("Cargo.lock");
        if lock.is_file() {
            place(&lock, root)?;
        }
    }
    let temporary = below(root, &programs.temporary_folder()?);
    fs::create_dir_all(temporary).context("cannot make a folder of the disk")?;
    fs::write(root.join("job"), job(programs, environment)).context("cannot write the job")?;
    let start = root.join("start");
    fs::write(&start, START).context("cannot write the disk's first program")?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755))
        .context("cannot make the disk's first program executable")?;

    let image = work.join("disk.img");
    // With what is left from the last time, the new files would take room twice.
    if image.exists() {
        fs::remove_file(&image).context("cannot replace the disk's image")?;
    }
    let mut make = process::detached(tool("mke2fs"));
    make.args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0"])
        // No more than the oldest kernel knows, whatever this mke2fs would like.
        .args(["-O", "none,has_journal,ext_attr,dir_index,filetype,extent,sparse_super,large_file"])
        .arg("-d")
        .arg(root)
        .arg(&image)
        .arg(SIZE);
    process::output(&mut make)?;
    Ok(image)
}

/// The program that is all of the guest's tools.
pub(super) fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| "/bin/busybox".into())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Puts a file of this machine under its own path.
fn place(path: &Path, root: &Path) -> Result<()> {
    let to = below(root, path);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).context("cannot make a folder of the disk")?;
    }
    fs::copy(path, &to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", path.display(), to.display()))
}

/// What `start.sh` reads: variables, and the arguments of the live tests.
fn job(programs: &Programs, environment: &[(&str, String)]) -> String {
    let mut job = String::new();
    for (name, value) in environment {
        job += &format!("export {name}={}\n", word(value));
    }
    job += &format!("holdup={}\n", word(&programs.holdup.to_string_lossy()));
    job += &format!("live={}\n", word(&programs.live.to_string_lossy()));
    job += "set --";
    for argument in &programs.arguments {
        job += " ";
        job += &word(argument);
    }
    job + "\n"
}

/// A word that a shell takes for what it is.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_by_a_shell_as_it_was_meant() {
        let programs = Programs {
            holdup: "/a b/holdup".into(),
            live: "/it's/live".into(),
            fixtures: Vec::new(),
            arguments: vec!["$x".into(), "--skip".into(), String::new()],
        };
        let job = job(&programs, &[("CI", "1 ; 2".into())]);
        let script = format!("{job}printf '%s|' \"$CI\" \"$holdup\" \"$live\" \"$@\"");
        let mut shell = std::process::Command::new("sh");
        let read = process::output(shell.args(["-c", &script])).expect("a shell");
        assert_eq!(read, "1 ; 2|/a b/holdup|/it's/live|$x|--skip||");
    }
}
