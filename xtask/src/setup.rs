//! `cargo xtask setup`: what rebuilding the kernel programs needs, and the tests with musl.
//!
//! Building and testing the profiler itself needs none of this: the compiled kernel programs
//! are in the repository, and the tests with musl are skipped where it is not there.

use crate::toolchain::{self, BPF_LINKER, BpfLinker, LLVM, Toolchain};
use crate::{debian, process, readers, vm, web};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only say what is missing
    #[arg(long)]
    dry_run: bool,

    /// Install what `cargo xtask vm-test` needs, and nothing else
    #[arg(long, conflicts_with = "tests")]
    vm: bool,

    /// Install what some tests are skipped without, and nothing else: musl, std's source, Go, tmux, jq, Chromium, readers
    /// of the files that are exported
    #[arg(long)]
    tests: bool,
}

/// Installs what is missing.
///
/// # Errors
/// Something is missing and cannot be installed; the message says what it is.
pub fn run(args: &Args) -> Result<()> {
    if args.vm {
        return vm::install(args.dry_run);
    }
    if args.tests {
        return tests(args);
    }
    let toolchain = rustc(args)?;
    if let Some(toolchain) = &toolchain {
        rust_src(args, toolchain)?;
    }
    bpf_linker(args, toolchain.as_ref())?;
    tests(args)
}

/// Installs what some tests are skipped without, where this may be done: as root, by apt.
///
/// # Errors
/// Something is missing that cannot be installed here; the message ends with the one command.
pub fn for_tests() -> Result<()> {
    let is_there = TOOLS.iter().all(Tool::is_there)
        && web::has_packages()
        && readers::are_there()
        && Toolchain::current()?.has_rust_src();
    if is_there || !debian::has_apt() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("{FOR_TESTS}");
    }
    let (dry_run, vm) = (false, false);
    let args = Args {
        dry_run,
        vm,
        tests: true,
    };
    tests(&args).context(FOR_TESTS)
}

/// A program that some tests are skipped without.
struct Tool {
    name: &'static str,
    /// What it says its version by.
    version: &'static str,
    /// Debian's package with it.
    package: &'static str,
}

const TOOLS: [Tool; 8] = [
    Tool::of("musl-gcc", "--version", "musl-tools"),
    // `go tool pprof` reads profiles.
    Tool::of("go", "version", "golang-go"),
    // The terminal in which `holdup top` is driven.
    Tool::of("tmux", "-V", "tmux"),
    // It answers the questions of `docs/triage.md`.
    Tool::of("jq", "--version", "jq"),
    // These build the page of the HTML report, and drive it.
    Tool::of("node", "--version", "nodejs"),
    Tool::of("npm", "--version", "npm"),
    Tool::of("chromium", "--version", "chromium"),
    // It brings readers of what is exported.
    Tool::of("pip3", "--version", "python3-pip"),
];

impl Tool {
    const fn of(name: &'static str, version: &'static str, package: &'static str) -> Tool {
        Tool {
            name,
            version,
            package,
        }
    }

    fn is_there(&self) -> bool {
        process::output(process::detached(self.name).arg(self.version)).is_ok()
    }

    fn bring(&self, args: &Args) -> Result<()> {
        let Tool { name, package, .. } = self;
        if self.is_there() {
            println!("already there: {name}");
        } else if !debian::has_apt() {
            println!("left out: {name}, which {package} brings on Debian");
        } else if announce(args, &format!("apt-get install {package}")) {
            debian::install(&[package])?;
        }
        Ok(())
    }
}

/// What brings all that tests may be skipped without.
pub(crate) const FOR_TESTS: &str = "some tests (with musl, with Go, in tmux, with jq, in a browser, with readers from npm and PyPI) need more than is here\nrun: cargo xtask setup --tests";

/// Compiler and C library of the statically linked fixture, readers of what is made, and the source of std,
/// which is built for the fixture: that of the compiler that builds the tests.
fn tests(args: &Args) -> Result<()> {
    for tool in &TOOLS {
        tool.bring(args)?;
    }
    if web::has_packages() {
        println!("already there: the packages of profiler/web");
    } else if !web::has_npm() {
        println!("left out: the packages of profiler/web, for want of npm");
    } else if announce(args, "npm ci in profiler/web")
        && let Err(error) = web::install()
    {
        // Without a network the tests that need them say that they are skipped.
        println!("left out: the packages of profiler/web: {error:#}");
    }
    if readers::are_there() {
        println!("already there: the packages of profiler/tests/consumers");
    } else if !readers::has_pip() {
        println!("left out: the packages of profiler/tests/consumers, for want of pip");
    } else if announce(args, "pip install for profiler/tests/consumers")
        && let Err(error) = readers::install()
    {
        println!("left out: the packages of profiler/tests/consumers: {error:#}");
    }
    rust_src(args, &Toolchain::current()?)
}

/// Says what is there or what comes next; true where it is to be done.
fn announce(args: &Args, what: &str) -> bool {
    println!(
        "{}: {what}",
        if args.dry_run {
            "missing, would do"
        } else {
            "missing, now"
        }
    );
    !args.dry_run
}

fn rustc(args: &Args) -> Result<Option<Toolchain>> {
    let missing = match Toolchain::find() {
        Ok(toolchain) => {
            println!(
                "already there: rustc {} in {}",
                toolchain.release,
                toolchain.sysroot.display()
            );
            return Ok(Some(toolchain));
        }
        Err(error) => error,
    };
    if !toolchain::has_rustup() {
        return Err(missing);
    }
    let version = toolchain::pinned()?;
    let mut install = process::detached("rustup");
    install.args(["toolchain", "install", &version, "--profile", "minimal"]);
    if !announce(args, &process::shown(&install)) {
        return Ok(None);
    }
    process::run(&mut install)?;
    Toolchain::find().map(Some)
}

fn rust_src(args: &Args, toolchain: &Toolchain) -> Result<()> {
    let folder = toolchain.rust_src();
    if toolchain.has_rust_src() {
        println!(
            "already there: the standard library's source in {}",
            folder.display()
        );
        return Ok(());
    }
    if let Some(name) = toolchain.rustup_name() {
        let mut add = process::detached("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", name]);
        if !announce(args, &process::shown(&add)) {
            return Ok(());
        }
        match process::run(&mut add) {
            Ok(()) if toolchain.has_rust_src() => return Ok(()),
            Ok(()) => eprintln!("rustup is content, but {} is not there", folder.display()),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    let version = &toolchain.release;
    let what = format!(
        "the distribution's package rust-src {version}, unpacked to {}",
        folder.display()
    );
    if !announce(args, &what) {
        return Ok(());
    }
    rust_src_from_debian(version, &folder).with_context(|| {
        format!(
            "put the source of the standard library of rustc {version} into {}",
            folder.display()
        )
    })
}

fn rust_src_from_debian(version: &str, folder: &Path) -> Result<()> {
    if !debian::has_apt() {
        bail!("neither rustup nor apt can bring it here");
    }
    if folder.symlink_metadata().is_ok() {
        bail!(
            "{} is in the way: it is there, but is not the source",
            folder.display()
        );
    }
    let parent = folder.parent().context("the folder has no parent")?;
    let state = tempfile::tempdir().context("cannot make a temporary folder")?;
    let package = debian::Package::find("rust-src", version, state.path())?;
    println!("found rust-src {} in {}", package.version, package.suite);
    fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    // On the same file system, so that the folder appears whole or not at all.
    let unpacked = tempfile::tempdir_in(parent)
        .with_context(|| format!("cannot write to {}", parent.display()))?;
    package.unpack(unpacked.path())?;
    let source = unpacked.path().join(format!("usr/src/rustc-{version}"));
    fs::rename(&source, folder)
        .with_context(|| format!("cannot move {} to {}", source.display(), folder.display()))
}

/// What strips the object. A linker that was built elsewhere may have come without it.
fn objcopy(args: &Args, linker: &BpfLinker) -> Result<()> {
    let has = |program: &Path| process::output(process::detached(program).arg("--version")).is_ok();
    let program = linker.objcopy();
    if has(&program) {
        println!("already there: {}", program.display());
        return Ok(());
    }
    let package = format!("llvm-{LLVM}");
    if !debian::has_apt() {
        bail!("llvm-objcopy is not here; on Debian {package} brings it");
    }
    if !announce(args, &format!("apt-get install {package}")) {
        return Ok(());
    }
    debian::install(&[&package])?;
    let program = linker.objcopy();
    if !has(&program) {
        bail!(
            "{package} is installed, but {} does not run",
            program.display()
        );
    }
    Ok(())
}

fn bpf_linker(args: &Args, toolchain: Option<&Toolchain>) -> Result<()> {
    match BpfLinker::find() {
        Ok(linker) => {
            println!(
                "already there: bpf-linker {} at {}",
                linker.version,
                linker.path.display()
            );
            return objcopy(args, &linker);
        }
        Err(error) => eprintln!("{}", error.to_string().lines().next().unwrap_or_default()),
    }
    let [llvm, polly] = [format!("llvm-{LLVM}-dev"), format!("libpolly-{LLVM}-dev")];
    // g++ for libstdc++, which LLVM's libraries need.
    let packages = [&llvm, &polly, "libzstd-dev", "zlib1g-dev", "g++"];
    if !debian::has_apt() {
        bail!(
            "bpf-linker {BPF_LINKER} is built against LLVM {LLVM}; on Debian these packages bring \
             what it needs: {}\ninstall their like, then run: cargo install bpf-linker --version \
             {BPF_LINKER} --locked --no-default-features --features llvm-{LLVM}",
            packages.join(" ")
        );
    }
    let missing = debian::missing(&packages);
    if missing.is_empty() {
        println!("already there: {}", packages.join(" "));
    } else if announce(args, &format!("apt-get install {}", missing.join(" "))) {
        debian::install(&missing)?;
    }

    let mut install = match toolchain {
        Some(toolchain) => toolchain.command("cargo"),
        None => process::detached("cargo"),
    };
    install.args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"]);
    install.args([
        "--no-default-features",
        "--features",
        &format!("llvm-{LLVM}"),
    ]);
    if !announce(
        args,
        &format!("{} (some minutes)", process::shown(&install)),
    ) {
        return Ok(());
    }
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        std::iter::once(Path::new(&prefix).join("bin")).chain(std::env::split_paths(&path)),
    )
    .context("the PATH cannot be extended")?;
    process::run(install.env("LLVM_PREFIX", prefix).env("PATH", path))?;
    let linker = BpfLinker::find()?;
    println!("installed: {}", linker.path.display());
    objcopy(args, &linker)
}
