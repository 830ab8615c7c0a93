//! The live tests: programs of their own kind, in which many trials look at one recording, so that
//! they cannot be run one process a test. They need privileges.

use super::run::{Summary, run_twice};
use crate::artifacts::Artifacts;
use crate::{paths, process};
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// The test targets that record processes. The last one takes longest.
pub(super) const LIVE: [&str; 2] = ["hostile", "live"];

/// What cargo and rustup need to find the user's toolchain, and what the live tests read.
const KEPT_BY_SUDO: &[&str] = &[
    "PATH",
    "HOME",
    "CARGO",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CI",
];

/// Runs those whose names contain `filter`; as root where sudo asks for no password.
///
/// # Errors
/// They cannot be built or started.
pub(super) fn run(filter: Option<&str>, summary: &mut Summary) -> Result<()> {
    let sudo = Sudo::find();
    let observed = LIVE
        .into_iter()
        .try_for_each(|name| run_one(name, filter, sudo.as_ref(), summary));
    if let Some(sudo) = &sudo {
        sudo.give_back();
    }
    observed
}

fn run_one(
    name: &str,
    filter: Option<&str>,
    sudo: Option<&Sudo>,
    summary: &mut Summary,
) -> Result<()> {
    let artifacts = Artifacts::build_test(name)?;
    let program = artifacts.executable(name)?;
    // As `cargo test` does it: in the package's folder, which it can also ask for.
    let folder = paths::root().join("profiler");
    let command = |test: Option<&str>| {
        let mut command = match sudo {
            Some(_) => Sudo::env(),
            None => Command::new("env"),
        };
        command
            .current_dir(&folder)
            .arg(set("CARGO_MANIFEST_DIR", folder.as_os_str()))
            .arg(program);
        match test {
            Some(test) => command.args(["--exact", test]),
            None => command.args(filter),
        };
        command
    };
    run_twice(command, &format!("profiler ({name})"), summary)
}

/// An argument of `env`.
fn set(name: &str, value: &OsStr) -> OsString {
    let mut pair = OsString::from(name);
    pair.push("=");
    pair.push(value);
    pair
}

/// Root's rights without a password, for a user who is not root.
#[derive(Debug)]
struct Sudo {
    uid: u32,
    gid: u32,
}

impl Sudo {
    fn find() -> Option<Sudo> {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return None;
        }
        process::output(Command::new("sudo").args(["-n", "true"])).ok()?;
        Some(Sudo {
            uid: uid.as_raw(),
            gid: rustix::process::getegid().as_raw(),
        })
    }

    /// The beginning of a command that runs as root.
    fn env() -> Command {
        let mut command = Command::new("sudo");
        command.args(["-n", "env"]);
        for name in KEPT_BY_SUDO {
            command.args(std::env::var_os(name).map(|value| set(name, &value)));
        }
        command
    }

    /// Files that the live tests built as root become the user's, who could not clean up
    /// otherwise.
    fn give_back(&self) {
        let owner = format!("{}:{}", self.uid, self.gid);
        let folders = ["target", "profiler/tests/fixtures"].map(|name| paths::root().join(name));
        let mut chown = Command::new("sudo");
        chown.args(["-n", "chown", "--recursive", "--from=0", &owner]);
        chown.args(folders.iter().filter(|folder| folder.is_dir()));
        if let Err(error) = process::output(&mut chown) {
            eprintln!("{error:#}");
        }
    }
}
