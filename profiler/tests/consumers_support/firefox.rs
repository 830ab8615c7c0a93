//! The Firefox Profiler without its page: `profiler-cli`, which its authors make of the same sources.

use super::programs::{npm, output};
use libtest_mimic::Failed;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// Where the program is below `node_modules`.
pub(crate) const PROGRAM: &str = "@firefox-devtools/profiler-cli/dist/profiler-cli.js";

/// How often a daemon that is late is started again.
const TRIES: u32 = 4;

/// A profile that is loaded: a process answers questions about it until it is told to stop.
pub(crate) struct Loaded {
    sessions: TempDir,
}

impl Loaded {
    /// Loads a profile. The program gives its own daemon half a second to start, which a busy machine may
    /// not have, and says itself that retrying helps.
    pub(crate) fn of(profile: &Path) -> Result<Loaded, Failed> {
        let mut tries = 0..TRIES;
        loop {
            let loaded = Loaded {
                sessions: tempfile::tempdir()?,
            };
            let last = tries.next().is_none();
            match output(loaded.command().arg("load").arg(profile)) {
                Ok(_) => return Ok(loaded),
                Err(error) if last || !is_late(&error) => {
                    return Err(error);
                }
                Err(_) => sleep(Duration::from_secs(1)),
            }
        }
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

fn is_late(error: &Failed) -> bool {
    let said = error.message();
    said.is_some_and(|said| said.contains("did not become ready"))
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Where it failed to begin there is nothing to stop.
        let _ = output(self.command().args(["stop", "--all"]));
    }
}
