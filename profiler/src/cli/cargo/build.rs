//! cargo: what there is to build, and where it put what it built.

use super::args::{Build, Kind};
use crate::cli::error::{Error, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use toml::Table;

/// A program that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Executable {
    /// The target's name.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The id of its package.
    package: String,
    /// The package's manifest.
    pub(super) manifest: PathBuf,
}

#[cfg(test)]
impl Executable {
    pub(super) fn built(name: &str, path: &str, manifest: &str) -> Executable {
        Executable {
            name: name.to_owned(),
            path: path.into(),
            package: "p".to_owned(),
            manifest: manifest.into(),
        }
    }
}

/// A line that cargo writes for programs.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct Profile {
    #[serde(default)]
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What `cargo metadata` tells.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    default_run: Option<String>,
}

/// The workspace.
#[derive(Debug)]
pub(super) struct Workspace {
    metadata: Metadata,
    manifest: Table,
}

impl Workspace {
    /// # Errors
    /// Where there is none, or cargo cannot be asked.
    pub(super) fn ask(build: &Build) -> Result<Workspace> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        if let Some(path) = &build.manifest_path {
            command.arg("--manifest-path").arg(path);
        }
        let metadata: Metadata = serde_json::from_slice(&output(&mut command)?)
            .map_err(|error| Error::new("cannot read what cargo metadata says").because(error))?;
        let path = metadata.workspace_root.join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Table>().map_err(|error| error.to_string()))
            .map_err(|error| {
                Error::new(format!("cannot read {}", path.display())).because(error)
            })?;
        Ok(Workspace { metadata, manifest })
    }

    /// Its manifest.
    pub(super) fn manifest(&self) -> &Table {
        &self.manifest
    }

    /// Where reports are left.
    pub(super) fn reports(&self) -> PathBuf {
        self.metadata.target_directory.join("holdup")
    }

    /// cargo's own settings, nearest first; what cannot be read is cargo's to refuse.
    pub(super) fn configs(&self) -> Vec<Table> {
        let here = std::env::current_dir().unwrap_or_default();
        let mut folders: Vec<PathBuf> = here.ancestors().map(|dir| dir.join(".cargo")).collect();
        folders.extend(std::env::var_os("CARGO_HOME").map(PathBuf::from));
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
        folders.extend(home);
        let files = folders
            .iter()
            .flat_map(|dir| ["config.toml", "config"].map(|name| dir.join(name)));
        files
            .filter_map(|file| std::fs::read_to_string(file).ok()?.parse().ok())
            .collect()
    }

    /// The one to run, as `cargo run` chooses it.
    ///
    /// # Errors
    /// Where there is none, or several.
    pub(super) fn chosen(&self, mut executables: Vec<Executable>) -> Result<Executable> {
        if executables.len() > 1 {
            let packages = self.metadata.packages.iter();
            let default = |one: &Executable| {
                let mut packages = packages.clone();
                let package = packages.find(|package| package.id == one.package);
                package.and_then(|package| package.default_run.as_deref()) == Some(&one.name)
            };
            if executables.iter().filter(|one| default(one)).count() == 1 {
                executables.retain(default);
            }
        }
        let names: Vec<&str> = executables.iter().map(|one| one.name.as_str()).collect();
        match names.as_slice() {
            [] => Err(Error::new("cargo has built nothing that runs")
                .hint("name a binary or an example: --bin NAME, --example NAME")),
            [_] => Ok(executables.remove(0)),
            several => {
                let names = several.join(", ");
                Err(Error::usage(format!("which one is to be run: {names}?"))
                    .hint("--bin NAME, or default-run in Cargo.toml"))
            }
        }
    }
}

/// The cargo that called us, else the one in the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds, and tells what can be run. cargo's own messages go to standard error.
///
/// # Errors
/// Where the build fails.
pub(super) fn executables(
    kind: Kind,
    build: &Build,
    variables: &[(String, &str)],
) -> Result<Vec<Executable>> {
    let mut command = cargo();
    command
        .args(words(kind, build))
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let lines = output(&mut command)?;
    let lines = String::from_utf8_lossy(&lines);
    Ok(lines
        .lines()
        .filter_map(|line| executable(line, kind))
        .collect())
}

/// The words after `cargo`.
fn words(kind: Kind, build: &Build) -> Vec<OsString> {
    let verb: &[&str] = match kind {
        Kind::Run => &["build"],
        Kind::Test => &["test", "--no-run"],
        Kind::Bench => &["bench", "--no-run"],
    };
    let mut words: Vec<OsString> = verb.iter().map(OsString::from).collect();
    words.push("--message-format=json-render-diagnostics".into());
    let mut add = |name: &str, value: &str| words.extend([name.into(), value.into()]);
    if let Some(package) = &build.package {
        add("--package", package);
    }
    let lists = [
        ("--bin", &build.bin),
        ("--example", &build.example),
        ("--test", &build.test),
        ("--bench", &build.bench),
        ("--features", &build.features),
    ];
    for (name, values) in lists {
        values.iter().for_each(|value| add(name, value));
    }
    let profile = build.profile(kind);
    // The names of their own profiles are none that these take.
    if !matches!(
        (kind, profile.as_str()),
        (Kind::Test, "test") | (Kind::Bench, "bench")
    ) {
        add("--profile", &profile);
    }
    let chosen = [&build.bin, &build.example, &build.test, &build.bench];
    if kind == Kind::Run && chosen.iter().all(|names| names.is_empty()) {
        words.push("--bins".into());
    }
    let flags = [
        ("--lib", build.lib),
        ("--all-features", build.all_features),
        ("--no-default-features", build.no_default_features),
    ];
    words.extend(flags.iter().filter(|flag| flag.1).map(|flag| flag.0.into()));
    if let Some(path) = &build.manifest_path {
        words.extend(["--manifest-path".into(), path.into()]);
    }
    words
}

fn executable(line: &str, kind: Kind) -> Option<Executable> {
    let message: Message = serde_json::from_str(line).ok()?;
    let target = message.target?;
    // Integration tests have the package's binaries built beside them.
    let is_one_of = |kinds: [&str; 2]| target.kind.iter().any(|of| kinds.contains(&of.as_str()));
    let is_wanted = match kind {
        Kind::Run => is_one_of(["bin", "example"]),
        // With a test harness, or in place of one.
        Kind::Test | Kind::Bench => message.profile.test || is_one_of(["test", "bench"]),
    };
    (message.reason == "compiler-artifact" && is_wanted).then_some(())?;
    Some(Executable {
        name: target.name,
        path: message.executable?,
        package: message.package_id?,
        manifest: message.manifest_path?,
    })
}

/// What a command writes to standard output.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::new("cannot start cargo").because(error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        // It has said why.
        false => Err(Error::new("cargo failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(name: &str) -> Executable {
        Executable::built(name, &format!("/t/{name}"), "/p/Cargo.toml")
    }

    fn line(name: &str, kind: &str, test: bool, executable: Option<&str>) -> String {
        serde_json::json!({
            "reason": "compiler-artifact", "package_id": "p", "manifest_path": "/p/Cargo.toml",
            "target": { "name": name, "kind": [kind] }, "profile": { "test": test },
            "executable": executable,
        })
        .to_string()
    }

    #[test]
    fn what_runs_is_found_among_cargos_lines() {
        let of = |line: &str, kind| executable(line, kind).map(|one| one.name);
        let name = Some("a".to_owned());
        assert_eq!(of(&line("a", "bin", false, Some("/t/a")), Kind::Run), name);
        assert_eq!(
            of(&line("a", "example", false, Some("/t/a")), Kind::Run),
            name
        );
        assert_eq!(of(&line("a", "lib", false, None), Kind::Run), None);
        // Beside the tests.
        assert_eq!(of(&line("a", "bin", false, Some("/t/a")), Kind::Test), None);
        assert_eq!(of(&line("a", "lib", true, Some("/t/a")), Kind::Test), name);
        // Without a harness.
        assert_eq!(
            of(&line("a", "bench", false, Some("/t/a")), Kind::Bench),
            name
        );
        assert_eq!(of("{\"reason\":\"build-finished\"}", Kind::Run), None);
        assert_eq!(of("no JSON", Kind::Run), None);
    }

    #[test]
    fn the_one_to_run_is_chosen_as_cargo_does() {
        let workspace = |default_run: Option<&str>| Workspace {
            metadata: Metadata {
                packages: vec![Package {
                    id: "p".to_owned(),
                    default_run: default_run.map(ToOwned::to_owned),
                }],
                workspace_root: "/p".into(),
                target_directory: "/p/target".into(),
            },
            manifest: Table::new(),
        };
        let two = || vec![built("a"), built("b")];
        let chosen = |default_run, all| workspace(default_run).chosen(all).map(|one| one.name);
        assert_eq!(chosen(Some("b"), two()).expect("one"), "b");
        assert_eq!(chosen(None, vec![built("a")]).expect("one"), "a");
        let error = chosen(None, two()).expect_err("two");
        assert!(error.chain().contains("a, b"), "{}", error.chain());
        assert!(chosen(None, Vec::new()).is_err());
    }

    #[test]
    fn cargo_is_told_what_to_build() {
        let said = |kind, build: &Build| {
            let words = words(kind, build);
            let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into()).collect();
            words
                .join(" ")
                .replace("--message-format=json-render-diagnostics ", "")
        };
        let build = Build::default();
        assert_eq!(said(Kind::Run, &build), "build --profile release --bins");
        assert_eq!(
            said(Kind::Test, &build).trim_end_matches(" --message-format=json-render-diagnostics"),
            "test --no-run"
        );
        let build = Build {
            package: Some("p".to_owned()),
            bin: vec!["b".to_owned()],
            all_features: true,
            ..Build::default()
        };
        let expected = "build --package p --bin b --profile release --all-features";
        assert_eq!(said(Kind::Run, &build), expected);
    }
}
