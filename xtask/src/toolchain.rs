//! The compiler that builds the kernel programs: one exact version, wherever it comes from.

use crate::{paths, process};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Version of bpf-linker; it must read the bitcode of the pinned rustc's LLVM.
pub const BPF_LINKER: &str = "0.13.0";
/// Major version of the LLVM that the pinned rustc and [`BPF_LINKER`] share.
pub const LLVM: &str = "22";

/// A rustc of the pinned version, and its cargo.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// What rustup calls it; none where rustc does not come from rustup.
    rustup_name: Option<String>,
    /// Release, as `1.95.0`.
    pub release: String,
    /// Git commit of the release.
    pub commit: String,
    /// Its LLVM, as `22.1.2`.
    pub llvm: String,
    /// `rustc --print sysroot`.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// Finds the version that `profiler-ebpf/rust-toolchain.toml` names: rustup's toolchain of
    /// that name, rustup's current one if it happens to be that version, or, without rustup,
    /// the rustc on the `PATH`. Installs nothing.
    ///
    /// # Errors
    /// None of them is that version.
    pub fn find() -> Result<Toolchain> {
        let pinned = pinned()?;
        let mut names = vec![None];
        if has_rustup() {
            // Not by the file: rustup would then want to manage the components that the file
            // lists, and rust-src may have come from elsewhere (see `setup`).
            let current = std::env::var("RUSTUP_TOOLCHAIN").ok();
            names = vec![
                Some(pinned.clone()),
                Some(current.unwrap_or_else(|| "stable".to_owned())),
            ];
        }
        let mut found = Vec::new();
        for name in names {
            match Toolchain::probe(name) {
                Ok(toolchain) if toolchain.release == pinned => return Ok(toolchain),
                Ok(toolchain) => found.push(toolchain.release),
                Err(_) => {}
            }
        }
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            found.join(", ")
        };
        bail!(
            "the kernel programs are built by rustc {pinned}, found here: {found}\n\
             run: rustup toolchain install {pinned} --profile minimal"
        );
    }

    /// The one that builds this workspace, of whatever version.
    ///
    /// # Errors
    /// There is no rustc that says its version.
    pub fn current() -> Result<Toolchain> {
        Toolchain::probe(std::env::var("RUSTUP_TOOLCHAIN").ok())
    }

    fn probe(rustup_name: Option<String>) -> Result<Toolchain> {
        let mut toolchain = Toolchain {
            rustup_name,
            release: String::new(),
            commit: String::new(),
            llvm: String::new(),
            sysroot: PathBuf::new(),
        };
        let version = process::output(toolchain.command("rustc").arg("-vV"))?;
        let field = |name: &str| {
            version
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
                .with_context(|| format!("`rustc -vV` says nothing of {name}"))
        };
        toolchain.release = field("release")?;
        toolchain.commit = field("commit-hash")?;
        toolchain.llvm = field("LLVM version")?;
        toolchain.sysroot =
            process::output(toolchain.command("rustc").args(["--print", "sysroot"]))?.into();
        Ok(toolchain)
    }

    /// A command of this toolchain: `cargo` or `rustc`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = process::detached(program);
        command.current_dir(paths::root());
        if let Some(name) = &self.rustup_name {
            command
                .env("RUSTUP_TOOLCHAIN", name)
                .env("RUSTUP_AUTO_INSTALL", "0");
        }
        command
    }

    /// The name by which `rustup component add --toolchain` knows it.
    #[must_use]
    pub fn rustup_name(&self) -> Option<&str> {
        self.rustup_name.as_deref()
    }

    /// Where `-Z build-std` looks for the standard library's source.
    #[must_use]
    pub fn rust_src(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Whether the standard library's source is there.
    #[must_use]
    pub fn has_rust_src(&self) -> bool {
        self.rust_src().join("library/core/src/lib.rs").is_file()
    }
}

/// Whether rustup answers.
#[must_use]
pub fn has_rustup() -> bool {
    process::output(process::detached("rustup").arg("--version")).is_ok()
}

/// The part of a `rust-toolchain.toml` that is of use here.
#[derive(serde::Deserialize)]
struct RustToolchain {
    toolchain: Channel,
}

#[derive(serde::Deserialize)]
struct Channel {
    channel: String,
}

/// The version that `profiler-ebpf/rust-toolchain.toml` names.
///
/// # Errors
/// The file cannot be read or names no channel.
pub fn pinned() -> Result<String> {
    let path = paths::ebpf_workspace().join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let file: RustToolchain =
        toml::from_str(&text).with_context(|| format!("{} names no channel", path.display()))?;
    Ok(file.toolchain.channel)
}

/// An installed bpf-linker.
#[derive(Clone, Debug)]
pub struct BpfLinker {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

impl BpfLinker {
    /// The bpf-linker of version [`BPF_LINKER`] on the `PATH`, or where `cargo install` puts it.
    ///
    /// # Errors
    /// There is none of that version.
    pub fn find() -> Result<BpfLinker> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(cargo_bin());
        let mut others = Vec::new();
        for program in folders.map(|folder| folder.join("bpf-linker")) {
            if let Some(version) = process::output(process::detached(&program).arg("--version"))
                .ok()
                .and_then(|text| text.strip_prefix("bpf-linker ").map(str::to_owned))
            {
                if version == BPF_LINKER {
                    return Ok(BpfLinker {
                        path: program,
                        version,
                    });
                }
                others.push(format!("{version} at {}", program.display()));
            }
        }
        let others = if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        };
        bail!("no bpf-linker {BPF_LINKER}, found here: {others}\nrun: cargo xtask setup");
    }

    /// The `PATH` with the linker's folder in front.
    ///
    /// # Errors
    /// The folder's name has a colon.
    pub fn path_with_it(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folder = self.path.parent().map(Path::to_owned);
        std::env::join_paths(folder.into_iter().chain(std::env::split_paths(&path)))
            .with_context(|| format!("{} cannot be on a PATH", self.path.display()))
    }

    /// The version of the LLVM library that it loads; `unknown` where it has its own copy, or
    /// where the library has no llvm-config beside it.
    #[must_use]
    pub fn llvm(&self) -> String {
        let config = self.llvm_tool("llvm-config");
        config
            .and_then(|config| process::output(process::detached(config).arg("--version")).ok())
            .unwrap_or_else(|| "unknown".to_owned())
    }

    /// llvm-objcopy: the one beside the LLVM library that it loads, else Debian's, else the one on the
    /// `PATH`. What it writes does not depend on its version.
    #[must_use]
    pub fn objcopy(&self) -> PathBuf {
        let debian = || {
            let path = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin/llvm-objcopy"));
            path.is_file().then_some(path)
        };
        self.llvm_tool("llvm-objcopy")
            .or_else(debian)
            .unwrap_or_else(|| "llvm-objcopy".into())
    }

    /// A program that was installed with the LLVM library that it loads.
    fn llvm_tool(&self, name: &str) -> Option<PathBuf> {
        let libraries = process::output(process::detached("ldd").arg(&self.path)).ok()?;
        let library = libraries
            .lines()
            .find(|line| line.contains("libLLVM"))?
            .split_whitespace()
            .find(|word| word.starts_with('/'))?;
        let real = Path::new(library).canonicalize().ok()?;
        // /usr/lib/llvm-22/lib/libLLVM.so.22.1 may be a link to /usr/lib/x86_64-linux-gnu.
        [Path::new(library), &real]
            .iter()
            .filter_map(|library| Some(library.parent()?.parent()?.join("bin").join(name)))
            .find(|tool| tool.is_file())
    }
}

fn cargo_bin() -> Option<PathBuf> {
    let home = ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
        .into_iter()
        .find_map(std::env::var_os);
    let home = home.map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    home.map(|home| home.join("bin"))
}
