//! `cargo xtask lint`: formatting, clippy, documentation, dependencies.

use crate::toolchain::Toolchain;
use crate::{paths, process};
use anyhow::Result;
use std::process::Command;

/// Runs every check.
///
/// # Errors
/// A check fails; its own output says why.
pub fn run() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    process::run(
        cargo()
            .args(["clippy", "--workspace", "--all-targets", "--locked"])
            .args(DENY),
    )?;
    let mut doc = cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut doc)?;
    kernel_programs()?;
    dependencies()
}

const DENY: [&str; 3] = ["--", "-D", "warnings"];

/// The cargo that runs this program, so the same toolchain.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}

fn kernel_programs() -> Result<()> {
    let ready = Toolchain::find().ok().filter(Toolchain::has_rust_src);
    let Some(toolchain) = ready else {
        println!("skipped: the kernel programs, whose toolchain is not here (cargo xtask setup)");
        return Ok(());
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
        println!("skipped: deny.toml, cargo-deny is not here (cargo install cargo-deny --locked)");
        return Ok(());
    }
    // Not advisories: their database comes from a server that not every machine reaches.
    for manifest in ["Cargo.toml", "profiler-ebpf/Cargo.toml"] {
        let mut deny = cargo();
        deny.args(["deny", "--manifest-path", manifest, "check", "--config"]);
        deny.arg(paths::root().join("deny.toml"))
            .args(["bans", "licenses", "sources"]);
        process::run(&mut deny)?;
    }
    Ok(())
}
