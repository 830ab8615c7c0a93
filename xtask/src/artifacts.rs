//! The programs of this workspace, built as users build them.

use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, Metadata, MetadataCommand};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where cargo has put the executables that it built.
#[derive(Clone, Debug)]
pub struct Artifacts {
    executables: HashMap<String, PathBuf>,
}

impl Artifacts {
    /// Builds each of `packages` with `cargo build --release --package`, one at a time: together
    /// they would be built with each other's features, and not be what users build. cargo's
    /// progress goes to standard error.
    ///
    /// # Errors
    /// cargo cannot be started, or a build fails.
    pub fn build_release(packages: &[&str]) -> Result<Artifacts> {
        let mut found = HashMap::new();
        for package in packages {
            found.extend(build(&["build", "--release", "--package", package])?);
        }
        Ok(Artifacts { executables: found })
    }

    /// Those that somebody has built into `folder`.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn in_folder(folder: &Path, names: &[&str]) -> Result<Artifacts> {
        let folder = std::path::absolute(folder)?;
        let mut executables = HashMap::new();
        for name in names {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{} is not there", path.display());
            }
            executables.insert((*name).to_owned(), path);
        }
        Ok(Artifacts { executables })
    }

    /// Builds the integration test `test`, and the programs that it may start, as
    /// `cargo test --workspace` does: what that has built already is taken as it is.
    ///
    /// # Errors
    /// cargo cannot be started, or the build fails.
    pub fn build_test(test: &str) -> Result<Artifacts> {
        let arguments = [
            "test",
            "--no-run",
            "--workspace",
            "--locked",
            "--test",
            test,
        ];
        build(&arguments).map(|executables| Artifacts { executables })
    }

    /// The path of the executable `name`.
    ///
    /// # Errors
    /// No package that was built has such an executable.
    pub fn executable(&self, name: &str) -> Result<&Path> {
        let path = self.executables.get(name).map(PathBuf::as_path);
        path.with_context(|| format!("cargo has not built an executable called {name}"))
    }
}

/// The cargo that runs this program, so the same toolchain, in the workspace's folder.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}

/// What cargo tells of a workspace, asked by a command of its cargo.
///
/// # Errors
/// cargo cannot be started, or there is no workspace.
pub fn metadata(cargo: &mut Command) -> Result<Metadata> {
    cargo.args(["metadata", "--format-version", "1"]);
    MetadataCommand::parse(process::output(cargo)?).context("`cargo metadata` cannot be read")
}

/// Runs a cargo that builds, and returns which executables it says are up to date now.
fn build(arguments: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut command = cargo();
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", process::shown(&command), output.status);
    }
    let messages = Message::parse_stream(output.stdout.as_slice());
    Ok(messages
        .filter_map(|message| match message.ok()? {
            Message::CompilerArtifact(artifact) => {
                let executable = artifact.executable?.into();
                Some((artifact.target.name, executable))
            }
            _ => None,
        })
        .collect())
}
