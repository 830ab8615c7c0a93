//! `cargo xtask lint`: formatting, clippy, documentation, dependencies.

mod rooms;

use crate::artifacts::cargo;
use crate::toolchain::Toolchain;
use crate::{paths, process};
use anyhow::{Result, bail};

/// Arguments of `cargo xtask lint`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only check which room names which (xtask/rooms.toml) and that there are no circles
    #[arg(long)]
    rooms: bool,
}

/// Runs every check, also after one has failed.
///
/// # Errors
/// Some checks fail; their own output says why.
pub fn run(args: &Args) -> Result<()> {
    if args.rooms {
        return rooms::check();
    }
    let mut doc = cargo();
    // With private items: the rooms' overviews point at the files within.
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ])
    .env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    );
    let checks = [
        process::run(cargo().args(["fmt", "--all", "--check"])),
        process::run(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])),
        process::run(
            cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked"])
                .args(DENY),
        ),
        process::run(&mut doc),
        kernel_programs(),
        rooms::check(),
        dependencies(),
    ];
    let failed: Vec<String> = checks
        .into_iter()
        .filter_map(|check| Some(format!("{:#}", check.err()?)))
        .collect();
    if !failed.is_empty() {
        bail!("{} checks failed:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(())
}

const DENY: [&str; 3] = ["--", "-D", "warnings"];

fn kernel_programs() -> Result<()> {
    let ready = Toolchain::find().ok().filter(Toolchain::has_rust_src);
    let Some(toolchain) = ready else {
        return skipped(
            "the kernel programs, whose toolchain is not here (cargo xtask setup)",
            process::in_ci(),
        );
    };
    let in_workspace = || {
        let mut cargo = toolchain.command("cargo");
        cargo
            .current_dir(paths::ebpf_workspace())
            .env("RUSTC_BOOTSTRAP", "1");
        cargo
    };
    process::run(in_workspace().args(["fmt", "--check"]))?;
    // Release, since the debug profile would compile core once more.
    process::run(
        in_workspace()
            .args(["clippy", "--release", "--locked"])
            .args(DENY),
    )
}

fn dependencies() -> Result<()> {
    if process::output(cargo().args(["deny", "--version"])).is_err() {
        // Not an error in CI: it takes longer to build than all the rest of lint.
        println!("skipped: deny.toml, cargo-deny is not here (cargo install cargo-deny --locked)");
        return Ok(());
    }
    let config = paths::root().join("deny.toml");
    // Not advisories: their database comes from a server that not every machine reaches.
    for manifest in ["Cargo.toml", "profiler-ebpf/Cargo.toml"] {
        let mut deny = cargo();
        deny.args(["deny", "--locked", "--manifest-path", manifest, "--config"]);
        deny.arg(&config).args([
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ]);
        process::run(&mut deny)?;
    }
    Ok(())
}

/// Says what is not checked.
///
/// # Errors
/// CI may not pass over anything.
fn skipped(what: &str, in_ci: bool) -> Result<()> {
    if in_ci {
        bail!("CI is set, and nothing may be skipped there: {what}");
    }
    println!("skipped: {what}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_be_made_fails_in_ci_only() {
        assert!(skipped("it", false).is_ok());
        let error = skipped("it", true).unwrap_err().to_string();
        assert!(error.ends_with("skipped there: it"), "{error}");
    }
}
