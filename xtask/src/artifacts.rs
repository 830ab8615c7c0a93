//! The programs of this workspace, built as users build them.

use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where cargo has put the executables that it built.
#[derive(Clone, Debug)]
pub struct Artifacts {
    executables: HashMap<String, PathBuf>,
}

/// The part of cargo's messages that is of use here; see `cargo build --message-format`.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
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

    /// Builds the integration test `test` of a package, and the programs of the package, which
    /// it may start, as `cargo test` does.
    ///
    /// # Errors
    /// cargo cannot be started, or the build fails.
    pub fn build_test(package: &str, test: &str) -> Result<Artifacts> {
        let arguments = ["test", "--no-run", "--package", package, "--test", test];
        build(&arguments).map(|executables| Artifacts { executables })
    }

    /// Builds the integration test `test` as a part of the whole workspace's tests, and the programs
    /// that it may start.
    ///
    /// # Errors
    /// cargo cannot be started, or the build fails.
    pub fn build_workspace_test(test: &str) -> Result<Artifacts> {
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
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

fn executables(messages: &str) -> HashMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_executables_count() {
        let found = executables(concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#,
            "\nnot JSON\n",
            r#"{"reason":"compiler-artifact","target":{"name":"holdup"},"executable":"/t/holdup"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        ));
        assert_eq!(
            found,
            HashMap::from([("holdup".to_owned(), PathBuf::from("/t/holdup"))])
        );
    }
}
