//! This program as cargo's `RUSTC_WRAPPER`: the same crates give the same bytes wherever the
//! checkout, cargo's home and the toolchain lie.
//!
//! Two things carry a machine's paths into compiled code. File names, in line information and
//! panic messages: `--remap-path-prefix` replaces them. And cargo's `-C metadata`, a hash that
//! covers the paths of crates outside the workspace and the flags, so the remapping flags too;
//! it ends up in mangled names. It is only there to tell crates apart, for which name, version,
//! target and features are enough.

use super::inputs;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that this process is the wrapper, and holds the mappings: `FROM=TO` a line.
const MAPPINGS: &str = "HOLDUP_XTASK_REMAP";

/// One replaced path prefix.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The folder on this machine.
    pub from: PathBuf,
    /// What takes its place.
    pub to: String,
}

/// Makes `cargo` run its compilers through this program with these mappings; where several
/// match a path, the last one holds.
///
/// # Errors
/// This program does not know its own path, or a path has a line break or is not UTF-8.
pub fn install(cargo: &mut Command, mappings: &[Mapping]) -> Result<()> {
    let me = std::env::current_exe().context("cannot tell the path of xtask itself")?;
    let mut lines = Vec::new();
    for Mapping { from, to } in mappings {
        let from = from
            .to_str()
            .filter(|path| !path.contains('\n'))
            .with_context(|| format!("{} cannot be passed to rustc", from.display()))?;
        lines.push(format!("{from}={to}"));
    }
    cargo
        .env("RUSTC_WRAPPER", me)
        .env(MAPPINGS, lines.join("\n"));
    Ok(())
}

/// Becomes rustc if this process was started as the wrapper; returns only if it was not
/// (nothing), or if rustc could not be started (why).
#[must_use]
pub fn take_over() -> Option<anyhow::Error> {
    let mappings = std::env::var(MAPPINGS).ok()?;
    let mut args = std::env::args_os().skip(1);
    let Some(rustc) = args.next() else {
        return Some(anyhow::anyhow!(
            "{MAPPINGS} is set, but cargo named no compiler"
        ));
    };
    let args: Vec<OsString> = args.collect();
    let mut command = Command::new(&rustc);
    command
        .args(rewrite(&args, &package()))
        .env_remove(MAPPINGS);
    if args.iter().any(|arg| arg == "--crate-name") {
        command.args(mappings.lines().map(|m| format!("--remap-path-prefix={m}")));
    }
    let error = command.exec();
    Some(anyhow::Error::new(error).context(format!("cannot start {}", Path::new(&rustc).display())))
}

fn package() -> String {
    ["CARGO_PKG_NAME", "CARGO_PKG_VERSION"]
        .map(|name| std::env::var(name).unwrap_or_default())
        .join(" ")
}

/// `args` with a `-C metadata` that depends on no path.
fn rewrite(args: &[OsString], package: &str) -> Vec<OsString> {
    let Some(at) = args
        .iter()
        .position(|arg| arg.as_encoded_bytes().starts_with(b"metadata="))
    else {
        return args.to_vec();
    };
    let mut identity = BTreeSet::new();
    for pair in args.windows(2) {
        if let [flag, value] = pair
            && ["--crate-name", "--crate-type", "--target", "--cfg"].contains(&lossy(flag).as_str())
        {
            identity.insert(format!("{} {}", lossy(flag), lossy(value)));
        }
    }
    identity.insert(format!("package {package}"));
    let identity = identity.into_iter().collect::<Vec<_>>().join("\n");
    let mut args = args.to_vec();
    if let Some(metadata) = args.get_mut(at) {
        let hash = inputs::sha256(identity.as_bytes());
        *metadata = format!("metadata={}", hash.get(..16).unwrap_or(&hash)).into();
    }
    args
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn metadata_depends_on_the_crate_and_not_on_what_cargo_hashed() {
        let crate_a = "--crate-name a /x/lib.rs --cfg feature=\"f\" -C metadata=";
        let one = rewrite(&args(&format!("{crate_a}11 --out-dir /1")), "a 1.0");
        let two = rewrite(&args(&format!("{crate_a}22 --out-dir /2")), "a 1.0");
        assert_eq!(one[6], two[6]);
        assert_ne!(one[6], "metadata=11");
        assert_eq!(one[8], "/1");
        let other_version = rewrite(&args(&format!("{crate_a}11")), "a 2.0");
        assert_ne!(one[6], other_version[6]);
        let other_crate = rewrite(
            &args("--crate-name b /x/lib.rs --cfg f -C metadata=11"),
            "a 1.0",
        );
        assert_ne!(one[6], other_crate[6]);
    }

    #[test]
    fn questions_to_the_compiler_pass_unchanged() {
        let question = args("-vV");
        assert_eq!(rewrite(&question, ""), question);
    }
}
