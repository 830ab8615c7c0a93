//! The kept capture in every form, made by the program as a user makes it.

use holdup::render::Format;
use libtest_mimic::Failed;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// What is asked of the capture: the first holds, the second does not.
pub(crate) const CONDITIONS: [&str; 2] = ["blocked>1%", "stall>1h"];

/// The folder with the files.
pub(crate) struct Files(TempDir);

impl Files {
    /// All of them; they are made once.
    pub(crate) fn get() -> Result<&'static Files, Failed> {
        static MADE: OnceLock<Result<Files, String>> = OnceLock::new();
        MADE.get_or_init(|| {
            Files::make().map_err(|error| error.message().unwrap_or_default().to_owned())
        })
        .as_ref()
        .map_err(Failed::from)
    }

    fn make() -> Result<Files, Failed> {
        let files = Files(tempfile::tempdir()?);
        let mut command = holdup(&capture());
        for format in Format::ALL {
            command.arg("-o").arg(files.path(format));
        }
        for condition in CONDITIONS {
            command.args(["--fail-if", condition]);
        }
        let output = command.output()?;
        // One of the conditions holds.
        if output.status.code() != Some(4) {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(files)
    }

    /// The capture in a format.
    pub(crate) fn path(&self, format: Format) -> PathBuf {
        let ending = format.extension();
        self.0.path().join(format!("incident.{ending}"))
    }

    /// The contents of one that is text.
    pub(crate) fn text(&self, format: Format) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(self.path(format))?)
    }

    /// The report for programs, which all others are compared with.
    pub(crate) fn report(&self) -> Result<Value, Failed> {
        Ok(serde_json::from_slice(&std::fs::read(
            self.path(Format::Json),
        )?)?)
    }
}

/// `holdup report -q CAPTURE`.
pub(crate) fn holdup(capture: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdup"));
    command.args(["report", "-q"]).arg(capture);
    command.env_remove("HOLDUP_LOG").env("NO_COLOR", "1");
    command
}

/// The capture that is kept in the repository for this.
pub(crate) fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/captures/incident.holdup")
}
