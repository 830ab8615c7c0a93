//! The files that a program finds, on a slow and on a quick file system, and their names in its arguments.

use super::super::slow_files::SlowFiles;
use super::Subject;
use crate::process;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// How long each open of a slow file takes.
const DELAY: Duration = Duration::from_millis(150);

pub(super) struct Places {
    pub(super) slow: SlowFiles,
    pub(super) quick: tempfile::TempDir,
    /// One that nobody listens on.
    pub(super) port: u16,
    binary: String,
}

impl Places {
    /// None where this machine has no FUSE.
    pub(super) fn new(
        subject: &Subject<'_>,
        slow: &BTreeMap<String, String>,
        quick: &BTreeMap<String, String>,
    ) -> Result<Option<Places>> {
        if !Path::new("/dev/fuse").exists() {
            return Ok(None);
        }
        Ok(Some(Places {
            slow: SlowFiles::mount(slow, DELAY)?,
            quick: quick_files(quick)?,
            // Free a moment ago; who else should take it?
            port: TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port(),
            binary: subject.binary.to_string_lossy().into_owned(),
        }))
    }

    /// With the names of places in it replaced by where they are.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{slow}", &self.slow.path().to_string_lossy())
            .replace("{quick}", &self.quick.path().to_string_lossy())
            .replace("{port}", &self.port.to_string())
            .replace("{binary}", &self.binary)
    }

    pub(super) fn fill_all(&self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.fill(text)).collect()
    }
}

/// Those that begin as a script does can be executed.
fn quick_files(files: &BTreeMap<String, String>) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("quick-").tempdir()?;
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::write(&path, text)?;
        if text.starts_with("#!") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(folder)
}

/// The machine's rustc itself, whatever stands in front of it in the path.
///
/// # Errors
/// There is none.
pub(super) fn rustc() -> Result<String> {
    let sysroot = process::output(process::detached("rustc").args(["--print", "sysroot"]))?;
    Ok(format!("{}/bin/rustc", sysroot.trim()))
}
