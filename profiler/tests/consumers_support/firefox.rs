//! The Firefox Profiler without its page: `profiler-cli`, which its authors make of the same sources.

use super::programs::{npm, output};
use libtest_mimic::Failed;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Where the program is below `node_modules`.
pub(crate) const PROGRAM: &str = "@firefox-devtools/profiler-cli/dist/profiler-cli.js";

/// A profile that is loaded: a process answers questions about it until it is told to stop.
pub(crate) struct Loaded {
    sessions: TempDir,
}

impl Loaded {
    /// Loads a profile.
    pub(crate) fn of(profile: &Path) -> Result<Loaded, Failed> {
        let loaded = Loaded {
            sessions: tempfile::tempdir()?,
        };
        output(loaded.command().arg("load").arg(profile))?;
        Ok(loaded)
    }

    fn command(&self) -> Command {
        let mut node = Command::new("node");
        node.env("PROFILER_CLI_SESSION_DIR", self.sessions.path());
        node.arg(npm(PROGRAM));
        node
    }

    /// What it answers, as JSON.
    pub(crate) fn ask(&self, question: &[&str]) -> Result<Value, Failed> {
        let answer = output(self.command().args(question).arg("--json"))?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Where it failed to begin there is nothing to stop.
        let _ = output(self.command().args(["stop", "--all"]));
    }
}
