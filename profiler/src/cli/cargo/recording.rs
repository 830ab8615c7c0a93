//! The recording of what was built.

use super::args::{Kind, RecordWords};
use super::build::{Executable, Workspace};
use crate::cli::args::Cli;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::hint::shell_word;
use crate::cli::progress::Progress;
use crate::render::Format;
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// How each program is recorded.
#[derive(Debug)]
pub(super) struct Plan {
    /// `holdup`, beside this program.
    holdup: PathBuf,
    /// Where this user needs it.
    sudo: Option<PathBuf>,
    words: RecordWords,
    quiet: bool,
    args: Vec<OsString>,
}

impl Plan {
    /// # Errors
    /// Where holdup would refuse the words, or is not there, or may not record.
    pub(super) fn new(words: RecordWords, quiet: bool, args: Vec<OsString>) -> Result<Plan> {
        let mut plan = Plan {
            holdup: "holdup".into(),
            sudo: None,
            words,
            quiet,
            args,
        };
        // Before anything is built.
        let trial = [OsString::from("holdup")].into_iter();
        let trial = trial.chain(plan.record_words(Path::new("x"), &[]));
        if let Err(error) = Cli::try_parse_from(trial) {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let first = text.lines().next().unwrap_or_default();
            return Err(Error::usage(first).hint("holdup record --help"));
        }
        plan.holdup = holdup()?;
        plan.sudo = sudo(plan.words.no_sudo)?;
        Ok(plan)
    }

    /// Records one program.
    ///
    /// # Errors
    /// Where holdup cannot be started.
    pub(super) fn record(
        &self,
        kind: Kind,
        executable: &Executable,
        workspace: &Workspace,
        several: bool,
        progress: &Progress,
    ) -> Result<Exit> {
        let files = self.files(&executable.name, workspace)?;
        let mut command = self.command(kind, executable, &files);
        if self.sudo.is_some() || several {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words: Vec<String> = words
                .map(|word| shell_word(&word.to_string_lossy()))
                .collect();
            progress.say(&words.join(" "));
        }
        let package = executable.manifest.parent().unwrap_or(Path::new("."));
        // As cargo has it: tests run in their package, and programs where one is.
        if kind != Kind::Run {
            command.current_dir(package);
        }
        command
            .env("CARGO_MANIFEST_DIR", package)
            .env("CARGO_MANIFEST_PATH", &executable.manifest);
        let status = wait(command)?;
        let exit = status.code().map_or(Exit::Failure, exit_of);
        Ok(exit)
    }

    fn command(
        &self,
        kind: Kind,
        executable: &Executable,
        files: &[OsString],
    ) -> std::process::Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(sudo) = &self.sudo {
            // sudo has a PATH of its own; the program is to have the user's.
            words.extend([
                sudo.into(),
                "--preserve-env".into(),
                "--".into(),
                "env".into(),
            ]);
            for name in ["PATH", "LD_LIBRARY_PATH"] {
                let value = std::env::var_os(name);
                words.extend(value.map(|value| {
                    let mut word = OsString::from(format!("{name}="));
                    word.push(value);
                    word
                }));
            }
        }
        words.push((&self.holdup).into());
        words.extend(self.record_words(&executable.path, files));
        if kind == Kind::Bench {
            words.push("--bench".into());
        }
        words.extend(self.args.iter().cloned());
        let mut words = words.into_iter();
        let mut command = std::process::Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// `record … -- PROGRAM`.
    fn record_words(&self, program: &Path, files: &[OsString]) -> Vec<OsString> {
        let asked = &self.words;
        let mut words: Vec<OsString> = vec!["record".into(), "--fail-with-command".into()];
        let mut add = |name: &str, value: &OsStr| {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            words.push(word);
        };
        if let Some(duration) = &asked.duration {
            add("--duration", duration.as_ref());
        }
        if let Some(format) = &asked.format {
            add("--format", format.as_ref());
        }
        for condition in &asked.fail_if {
            add("--fail-if", condition.as_ref());
        }
        if let Some(accept) = &asked.accept {
            let path = std::path::absolute(accept);
            add("--accept", path.as_deref().unwrap_or(accept).as_os_str());
        }
        for file in asked.output.iter().chain(files) {
            add("--output", file);
        }
        if asked.follow {
            words.push("--follow".into());
        }
        if self.quiet {
            words.push("--quiet".into());
        }
        if !files.is_empty() {
            // They are remade each time, as what is built is.
            words.push("--force".into());
        }
        words.extend(asked.with.iter().cloned());
        words.extend(["--".into(), program.into()]);
        words
    }

    /// The files that are left where nobody says which.
    fn files(&self, name: &str, workspace: &Workspace) -> Result<Vec<OsString>> {
        if !self.words.output.is_empty() {
            return Ok(Vec::new());
        }
        let dir = workspace.reports();
        std::fs::create_dir_all(&dir)
            .map_err(|error| Error::new(format!("cannot make {}", dir.display())).because(error))?;
        let endings = [Format::Html.extension(), Format::Json.extension(), "holdup"];
        let file = |ending: &&str| {
            let path = dir.join(format!("{name}.{ending}"));
            // A percent sign would be the begin of a placeholder.
            path.to_string_lossy().replace('%', "%%").into()
        };
        Ok(endings.iter().map(file).collect())
    }
}

/// `holdup`, as it was installed with this program.
fn holdup() -> Result<PathBuf> {
    let here = std::env::current_exe()
        .map_err(|error| Error::new("cannot find this program").because(error))?;
    let beside = here.with_file_name("holdup");
    match beside.is_file() {
        true => Ok(beside),
        false => Err(Error::new(format!("{} is not there", beside.display()))
            .hint("cargo install --locked --path profiler, which installs both")),
    }
}

/// What gives the rights to record to who has them not.
fn sudo(refused: bool) -> Result<Option<PathBuf>> {
    if refused || rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("sudo"));
    found.find(|file| file.is_file()).map(Some).ok_or_else(|| {
        Error::new("to record needs root, and there is no sudo here")
            .exit(Exit::Permission)
            .hint("give holdup its capabilities, and say --no-sudo")
    })
}

/// Waits for a program, which gets the terminal's Ctrl-C as well and ends in its own way.
fn wait(command: std::process::Command) -> Result<std::process::ExitStatus> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let cannot = |error: std::io::Error| Error::new(format!("cannot run {shown}")).because(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut quit = signal(SignalKind::hangup()).map_err(cannot)?;
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .map_err(cannot)?;
        loop {
            tokio::select! {
                status = child.wait() => return status.map_err(cannot),
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
        }
    })
}

/// The exit by its number.
fn exit_of(code: i32) -> Exit {
    let all = [
        Exit::Success,
        Exit::Usage,
        Exit::NoRuntime,
        Exit::Finding,
        Exit::CommandFailed,
        Exit::Unsupported,
        Exit::Permission,
        Exit::Interrupted,
    ];
    let mut all = all.into_iter();
    all.find(|exit| exit.code() == code)
        .unwrap_or(Exit::Failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sudo: Option<&str>) -> Plan {
        Plan {
            holdup: "/h/holdup".into(),
            sudo: sudo.map(PathBuf::from),
            words: RecordWords {
                fail_if: vec!["stall>10ms".to_owned()],
                with: vec!["--panics".into()],
                ..RecordWords::default()
            },
            quiet: false,
            args: vec!["--port".into(), "1".into()],
        }
    }

    #[test]
    fn words_that_holdup_would_refuse_are_refused_before_the_build() {
        let words = RecordWords {
            fail_if: vec!["stall>".to_owned()],
            ..RecordWords::default()
        };
        let error = Plan::new(words, false, Vec::new()).expect_err("no condition");
        assert_eq!(error.exit_status(), Exit::Usage);
        assert!(error.chain().contains("--fail-if"), "{}", error.chain());
    }

    #[test]
    fn sudo_keeps_the_users_environment() {
        let executable = Executable::built("a", "/t/a", "/p/Cargo.toml");
        let shown = |sudo, kind| {
            let command = plan(sudo).command(kind, &executable, &[]);
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words = words.map(|word| word.to_string_lossy().into_owned());
            let words = words.filter(|word| !word.starts_with("LD_LIBRARY_PATH="));
            words.collect::<Vec<_>>().join(" ")
        };
        let plain = "/h/holdup record --fail-with-command --fail-if=stall>10ms --panics -- /t/a";
        assert_eq!(shown(None, Kind::Run), format!("{plain} --port 1"));
        assert_eq!(
            shown(None, Kind::Bench),
            format!("{plain} --bench --port 1")
        );
        let path = std::env::var("PATH").expect("a PATH");
        assert_eq!(
            shown(Some("/s/sudo"), Kind::Test),
            format!("/s/sudo --preserve-env -- env PATH={path} {plain} --port 1")
        );
    }

    #[test]
    fn exits_come_back() {
        for exit in [
            Exit::Finding,
            Exit::CommandFailed,
            Exit::Permission,
            Exit::Success,
        ] {
            assert_eq!(exit_of(exit.code()), exit);
        }
        assert_eq!(exit_of(99), Exit::Failure);
    }

    #[test]
    fn files_are_remade_and_arguments_come_last() {
        let words = plan(None).record_words(Path::new("/t/a"), &["x.svg".into()]);
        let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into()).collect();
        assert_eq!(
            words.join(" "),
            "record --fail-with-command --fail-if=stall>10ms --output=x.svg --force --panics -- /t/a"
        );
    }
}
