//! The packages in `xtask/shipped.toml`.

use super::peer::Speaks;
use crate::paths;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;

/// A package and how it is checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    pub(super) name: String,
    /// In which form, as the table shows it.
    pub(super) shipped: String,
    /// The first one is the package, the others are what it needs.
    pub(super) files: Vec<Source>,
    /// The file with tokio in it, in the unpacked package.
    pub(super) binary: String,
    /// What loads it, where it is no program by itself.
    pub(super) host: Option<Host>,
    /// One of the small ones for continuous integration.
    #[serde(default)]
    pub(super) quick: bool,
    /// What is known to stay unknown of it.
    pub(super) gap: Option<Gap>,
    pub(super) check: Check,
}

/// A program that loads libraries. In a check's arguments `{binary}` is the library.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Host {
    Python,
    Node,
}

/// A share of unknown waits that is larger than elsewhere, until what causes it is fixed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gap {
    /// From 0 to 1.
    pub(super) at_most: f64,
    /// Why; the table shows it.
    pub(super) because: String,
}

/// A file of a public registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) from: Registry,
    pub(super) name: String,
    pub(super) version: String,
    /// Of the file that the registry serves, in hexadecimal.
    pub(super) sha256: String,
    /// The only Python that can load it, as `3.11`.
    pub(super) python: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Registry {
    Pip,
    Npm,
    Cargo,
}

/// How it is made to block, so that the truth is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "way", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Check {
    /// Python's lock is held while a result is on its way: whoever brings it waits for the lock.
    Gil {
        /// Python statements; `url` and `port` are those of the peer.
        setup: String,
        /// A Python expression to await.
        call: String,
        #[serde(default)]
        speaks: Speaks,
        /// The call asks no peer, but has its result after so many milliseconds.
        after: Option<u64>,
        expect: Expect,
    },
    /// It opens files of a slow file system, and ends.
    SlowFiles {
        arguments: Vec<String>,
        /// Paths and texts on the slow file system.
        files: BTreeMap<String, String>,
        /// The same on a quick one: `{quick}`.
        #[serde(default)]
        quick_files: BTreeMap<String, String>,
        expect: Expect,
        /// The smallest number of opens that makes it a test.
        at_least: usize,
        besides: Option<Besides>,
    },
    /// It serves files of a slow file system until it is ended.
    Serve {
        arguments: Vec<String>,
        files: BTreeMap<String, String>,
        /// The same on a quick one: `{quick}`.
        #[serde(default)]
        quick_files: BTreeMap<String, String>,
        /// The path that is asked for.
        get: String,
        rounds: usize,
        expect: Expect,
    },
    /// It serves a client, which is run for each round, and opens files of a slow file system for it.
    Daemon {
        arguments: Vec<String>,
        /// Of the server and its client.
        #[serde(default)]
        environment: BTreeMap<String, String>,
        /// Of the server alone.
        #[serde(default)]
        server_environment: BTreeMap<String, String>,
        files: BTreeMap<String, String>,
        /// The same on a quick one: `{quick}`.
        #[serde(default)]
        quick_files: BTreeMap<String, String>,
        /// The client, with its arguments.
        ask: Vec<String>,
        rounds: usize,
        expect: Expect,
        /// How the threads are called whose opens count. All of them, if not given.
        threads: Option<String>,
    },
    /// It has nothing to do, and is only watched.
    Idle {
        arguments: Vec<String>,
        #[serde(default)]
        environment: BTreeMap<String, String>,
        /// Files in the folder in which it runs.
        #[serde(default)]
        files: BTreeMap<String, String>,
    },
    /// It has no tokio.
    NoTokio { arguments: Vec<String> },
}

/// What a program waits for inside task polls besides the slow files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Besides {
    /// The system calls of these waits.
    pub(super) calls: Vec<String>,
    /// The milliseconds that they take at least, all in one poll.
    pub(super) at_least: u64,
    /// What it is, for the table.
    pub(super) what: String,
}

/// In which state the waits are, by what the program's source says.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Expect {
    /// Inside task polls of workers, all of them.
    Blocked,
    /// In the root future of a `multi_thread` runtime's `block_on`, which no worker polls: it holds up
    /// itself alone, and workers are idle.
    BlockOn,
    /// On threads of the blocking pool, all of them; workers are idle.
    Pool,
    /// On threads that tokio does not run, all of them; workers are idle.
    Other,
}

impl Expect {
    pub(super) const ALL: [Expect; 4] = [
        Expect::Blocked,
        Expect::BlockOn,
        Expect::Pool,
        Expect::Other,
    ];

    /// The name in holdup's report.
    pub(super) fn state(self) -> &'static str {
        match self {
            Expect::Blocked | Expect::BlockOn => "blocked",
            Expect::Pool => "pool",
            Expect::Other => "other",
        }
    }

    /// Whether threads of this role, as holdup's report calls it, may wait so.
    pub(super) fn has_role(self, role: &str) -> bool {
        match self {
            Expect::Blocked => role != "block-on",
            Expect::BlockOn => role == "block-on",
            Expect::Pool | Expect::Other => true,
        }
    }

    /// The name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Expect::BlockOn => "blocked in block_on",
            _ => self.state(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    package: Vec<Package>,
}

/// All packages.
///
/// # Errors
/// The list cannot be read or parsed.
pub(super) fn read() -> Result<Vec<Package>> {
    let path = paths::root().join("xtask/shipped.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let list: List = toml::from_str(&text).context("cannot parse xtask/shipped.toml")?;
    Ok(list.package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_can_be_read_and_pins_every_file() {
        let packages = read().unwrap();
        assert!(packages.len() >= 12, "{}", packages.len());
        let names: BTreeSet<_> = packages.iter().map(|package| &package.name).collect();
        assert_eq!(names.len(), packages.len());
        assert_eq!(packages.iter().filter(|package| package.quick).count(), 2);
        for gap in packages.iter().filter_map(|package| package.gap.as_ref()) {
            assert!(gap.at_most < 0.5, "{}", gap.because);
        }
        for source in packages.iter().flat_map(|package| &package.files) {
            assert_eq!(source.sha256.len(), 64, "{}", source.name);
        }
    }
}
