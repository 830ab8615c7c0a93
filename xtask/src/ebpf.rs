//! `cargo xtask ebpf`: the kernel programs, compiled, reproducibly.

pub mod inputs;
pub mod note;
pub mod rustc_wrapper;
pub mod stack_depth;

use crate::toolchain::{BPF_LINKER, BpfLinker, Toolchain};
use crate::{artifacts, paths, process};
use anyhow::{Context, Result, bail, ensure};
use note::Note;
use rustc_wrapper::Mapping;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of the build; what is not said here is in `profiler-ebpf/.cargo/config.toml`.
const CARGO_ARGS: &[&str] = &[
    "build",
    "--release",
    "--target",
    TARGET,
    "-Z",
    "build-std=core",
];
const TARGET: &str = "bpfel-unknown-none";
/// What happens to paths, and to the linker's output; to be changed when [`rustc_wrapper`] does
/// something else, so that the object counts as stale.
const AFTERWARDS: &str = "metadata by crate, paths mapped: 1; llvm-objcopy --strip-debug";

/// Arguments of `cargo xtask ebpf`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Build in a temporary folder and compare with the object in the repository
    #[arg(long)]
    check: bool,
}

/// The parts of the build that are in none of the input files, for [`inputs::hash`].
#[must_use]
pub fn recipe() -> Vec<&'static str> {
    let mut recipe = CARGO_ARGS.to_vec();
    recipe.extend([BPF_LINKER, AFTERWARDS]);
    recipe
}

/// Builds the object, and writes it with its note or compares it.
///
/// # Errors
/// A tool is missing, the build fails, or (`--check`) the object in the repository is not what
/// its sources give.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = Toolchain::find()?;
    if !toolchain.has_rust_src() {
        bail!(
            "no source of the standard library for rustc {}\nrun: cargo xtask setup",
            toolchain.release
        );
    }
    let linker = BpfLinker::find()?;
    if args.check {
        let target = tempfile::tempdir().context("cannot make a temporary folder")?;
        let (object, note) = build(&toolchain, &linker, target.path(), true)?;
        check(&object, &note)
    } else {
        // Not what a plain `cargo build` uses: cargo would take that one's crates, in which the
        // paths are not mapped, for its own.
        let target = paths::ebpf_workspace().join("target/xtask");
        let (object, note) = build(&toolchain, &linker, &target, false)?;
        write(&object, &note)
    }
}

fn build(
    toolchain: &Toolchain,
    linker: &BpfLinker,
    target_dir: &Path,
    locked: bool,
) -> Result<(Vec<u8>, Note)> {
    let mappings = mappings(toolchain, target_dir, locked)?;
    let mut cargo = toolchain.command("cargo");
    cargo
        .current_dir(paths::ebpf_workspace())
        .args(CARGO_ARGS)
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        // Incremental code is cut into other units, and so other functions are inlined. Said here, since
        // a user's configuration can ask for it, too.
        .env("CARGO_INCREMENTAL", "0")
        .env("PATH", linker.path_with_it()?);
    if locked {
        cargo.arg("--locked");
    }
    rustc_wrapper::install(&mut cargo, &mappings)?;
    process::run(&mut cargo)?;

    let object = without_dwarf(linker, &target_dir.join(TARGET).join("release/holdup"))?;
    for Mapping { from, .. } in &mappings {
        ensure!(
            !contains(&object, from.as_os_str().as_encoded_bytes()),
            "the object names the folder {}, so its bytes depend on the machine",
            from.display()
        );
    }
    let note = Note {
        object_sha256: inputs::sha256(&object),
        inputs_sha256: inputs::hash(paths::root(), &recipe())?,
        rustc: format!(
            "{} ({}, LLVM {})",
            toolchain.release, toolchain.commit, toolchain.llvm
        ),
        bpf_linker: linker.version.clone(),
        bpf_linker_llvm: linker.llvm(),
    };
    Ok((object, note))
}

/// The linker's output without DWARF. BTF is made from DWARF at the linking, and only BTF is read
/// afterwards, by the loader and by the kernel. DWARF is three quarters of the file, and the file is
/// in the repository.
fn without_dwarf(linker: &BpfLinker, linked: &Path) -> Result<Vec<u8>> {
    let stripped = linked.with_extension("stripped");
    let mut objcopy = process::detached(linker.objcopy());
    objcopy.arg("--strip-debug").arg(linked).arg(&stripped);
    process::output(&mut objcopy).context("llvm-objcopy is needed; run: cargo xtask setup")?;
    fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))
}

/// Every folder whose name could end up in the object, and its stand-in.
fn mappings(toolchain: &Toolchain, target_dir: &Path, locked: bool) -> Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    let mut add = |from: &Path, to: String| {
        // Cargo resolves symbolic links in some paths and not in others.
        if let Ok(real) = from.canonicalize()
            && real != from
        {
            mappings.push(Mapping {
                from: real,
                to: to.clone(),
            });
        }
        mappings.push(Mapping {
            from: from.to_owned(),
            to,
        });
    };
    add(paths::root(), "/holdup".into());
    add(target_dir, "/holdup/target".into());
    for (folder, name) in dependencies(toolchain, locked)? {
        add(&folder, format!("/crates/{name}"));
    }
    add(
        &toolchain.rust_src(),
        format!("/rustc/{}", toolchain.commit),
    );
    Ok(mappings)
}

/// Folder and `name-version` of every crate that comes from a registry.
fn dependencies(toolchain: &Toolchain, locked: bool) -> Result<Vec<(PathBuf, String)>> {
    let mut cargo = toolchain.command("cargo");
    cargo.current_dir(paths::ebpf_workspace());
    if locked {
        cargo.arg("--locked");
    }
    artifacts::metadata(&mut cargo)?
        .packages
        .into_iter()
        .filter(|package| package.source.is_some())
        .map(|package| {
            let folder = package.manifest_path.parent();
            let folder = folder.context("a package without a folder")?.into();
            Ok((folder, format!("{}-{}", package.name, package.version)))
        })
        .collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn write(object: &[u8], note: &Note) -> Result<()> {
    let path = paths::object();
    let before = fs::read(&path).ok();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let text = note.render()?;
    for (path, bytes) in [(&path, object), (&paths::note(), text.as_bytes())] {
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let change = match before {
        None => "new",
        Some(before) if before == object => "unchanged",
        Some(_) => "changed",
    };
    println!(
        "{}: {} bytes, {change}, sha256 {}",
        path.display(),
        object.len(),
        note.object_sha256
    );
    Ok(())
}

fn check(object: &[u8], note: &Note) -> Result<()> {
    let path = paths::object();
    let kept = fs::read(&path)
        .with_context(|| format!("cannot read {}\nrun: cargo xtask ebpf", path.display()))?;
    let kept_note = fs::read_to_string(paths::note())
        .with_context(|| {
            format!(
                "cannot read {}\nrun: cargo xtask ebpf",
                paths::note().display()
            )
        })
        .and_then(|text| Note::parse(&text))?;
    ensure!(
        kept_note.inputs_sha256 == note.inputs_sha256,
        "{} was made from other sources\nrun: cargo xtask ebpf",
        path.display()
    );
    ensure!(
        kept_note.object_sha256 == inputs::sha256(&kept),
        "{} is not the file that its note describes\nrun: cargo xtask ebpf",
        path.display()
    );
    if kept == object {
        println!(
            "{}: the same {} bytes were built again",
            path.display(),
            kept.len()
        );
        return Ok(());
    }
    // rustc and bpf-linker are pinned, but distributions move to new patch releases of LLVM.
    if kept_note.bpf_linker_llvm != note.bpf_linker_llvm {
        println!(
            "{}: made from the same sources with LLVM {}; here is LLVM {}, which gives other \
             bytes, so the bytes could not be compared",
            path.display(),
            kept_note.bpf_linker_llvm,
            note.bpf_linker_llvm
        );
        return Ok(());
    }
    let first = kept
        .iter()
        .zip(object)
        .position(|(a, b)| a != b)
        .unwrap_or(kept.len().min(object.len()));
    bail!(
        "{} ({} bytes) is not what its sources give ({} bytes, first difference at {first:#x})\n\
         kept: {kept_note:?}\nhere: {note:?}\nrun: cargo xtask ebpf",
        path.display(),
        kept.len(),
        object.len(),
    )
}
