//! `cargo xtask fuzz`: hostile bytes for what reads the target's files and the kernel's data.
//!
//! Needs a nightly compiler and cargo-fuzz. Everybody else has `profiler/tests/fuzz_corpus.rs`,
//! which runs the same functions over what the fuzzer has found so far.

use crate::{paths, process, toolchain};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Fuzz only this target, one of the programs in fuzz/fuzz_targets
    target: Option<String>,
    /// Fuzz each target for so many seconds
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

/// Seconds after which one input counts as a hang, and MiB above which it counts as a leak.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// Builds and runs the targets, one after the other.
///
/// # Errors
/// The tools are not there, there is no such target, or an input breaks a target: the fuzzer has
/// then said where it keeps that input.
pub fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    let chosen: Vec<&String> = match &args.target {
        Some(name) => {
            let found = targets.iter().find(|target| *target == name);
            vec![found.with_context(|| {
                format!("no fuzz target {name:?}; there are: {}", targets.join(", "))
            })?]
        }
        None => targets.iter().collect(),
    };
    let cargo_fuzz = cargo_fuzz()?;
    for target in chosen {
        let corpus = paths::fuzz_workspace().join("corpus").join(target);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        let mut command = cargo_fuzz.command();
        command.args(["fuzz", "run", "--fuzz-dir"]);
        command.arg(paths::fuzz_workspace()).arg(target);
        // What the fuzzer finds goes into the first folder.
        command.arg(corpus).args(seeds(target)).arg("--");
        command.arg(format!("-max_total_time={}", args.seconds));
        command.args(LIMITS);
        process::run(&mut command).with_context(|| {
            format!(
                "the fuzzer broke {target}; once that is fixed, put the input that it kept into \
                 fuzz/seeds/{target}"
            )
        })?;
    }
    Ok(())
}

/// The programs, by name.
fn targets() -> Result<Vec<String>> {
    let folder = paths::fuzz_workspace().join("fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    targets.sort();
    Ok(targets)
}

/// The folders that a target begins with, as in `profiler/tests/fuzz_support`.
fn seeds(target: &str) -> Vec<PathBuf> {
    let folders = match target {
        "symbols" => vec!["symbols", "elf"],
        "copy" => vec!["copy", "elf", "symbols"],
        "texts" => vec!["texts", "maps"],
        _ => vec![target],
    };
    let seeds = paths::fuzz_workspace().join("seeds");
    folders
        .into_iter()
        .map(|folder| seeds.join(folder))
        .collect()
}

/// cargo-fuzz, and the compiler for it.
struct CargoFuzz {
    /// Whether rustup chooses the compiler; else it is the one on the `PATH`, which is nightly.
    rustup: bool,
}

impl CargoFuzz {
    fn command(&self) -> Command {
        let mut cargo = process::detached("cargo");
        cargo.current_dir(paths::root());
        if self.rustup {
            cargo
                .env("RUSTUP_TOOLCHAIN", "nightly")
                .env("RUSTUP_AUTO_INSTALL", "0");
        }
        cargo
    }
}

fn cargo_fuzz() -> Result<CargoFuzz> {
    let found = CargoFuzz {
        rustup: toolchain::has_rustup(),
    };
    let version = process::output(found.command().arg("--version")).unwrap_or_default();
    if !version.contains("nightly") {
        bail!(
            "sanitizers need a nightly compiler\n\
             run: rustup toolchain install nightly --profile minimal"
        );
    }
    if process::output(found.command().args(["fuzz", "--version"])).is_err() {
        bail!("cargo-fuzz is not here\nrun: cargo install cargo-fuzz --locked");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds() {
        let targets = targets().unwrap();
        assert!(targets.contains(&"elf".to_owned()), "{targets:?}");
        for target in targets {
            for folder in seeds(&target) {
                let files = std::fs::read_dir(&folder).map(Iterator::count).unwrap_or(0);
                assert!(files > 0, "{} is empty", folder.display());
            }
        }
    }

    #[test]
    fn an_unknown_target_is_told_with_those_that_there_are() {
        let args = Args {
            target: Some("elves".to_owned()),
            seconds: 1,
        };
        let text = run(&args).unwrap_err().to_string();
        assert!(
            text.contains("elves") && text.contains("eh_frame"),
            "{text}"
        );
    }
}
