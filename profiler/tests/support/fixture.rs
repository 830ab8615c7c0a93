//! Fixture programs: built once a variant, started, spoken to.

use super::truth::Truth;
use children::{Child, Lines};
use rustix::process::Signal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

const READY: Duration = Duration::from_secs(20);
const TRUTH: Duration = Duration::from_secs(150);
const READ_ELSEWHERE: &str = "somebody else reads what the fixture prints";

/// How the compiler is told to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What `cargo build --release` makes of a new package.
    Release,
    /// One crate in the end, with nearly everything inlined.
    FatLto,
    /// File and line for every instruction, inlined functions known.
    Lines,
    /// No symbol table.
    Stripped,
    /// What is put into containers: optimized for size over all crates, without symbols, and a panic
    /// aborts.
    Small,
    /// Linked against musl, which is all in the program and has no unwinding information.
    Musl,
    /// No unwinding information for the program's own code, as some builds for small size have it.
    NoUnwindTables,
    /// The same with frame pointers, which are all that leads from a frame to its caller.
    FramePointers,
    /// Both without their symbols.
    StrippedNoUnwindTables,
    StrippedFramePointers,
    /// Neither symbols nor calls that inlining could spare.
    StrippedFatLto,
    /// With tokio's unstable features, which `tokio-console` and the counters of runtimes take.
    Unstable,
    /// The same without its symbols.
    StrippedUnstable,
}

impl Profile {
    /// `fat-lto`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::FatLto => "fat-lto",
            Profile::Lines => "lines",
            Profile::Stripped => "stripped",
            Profile::Small => "small",
            Profile::Musl => "musl",
            Profile::NoUnwindTables => "no-unwind-tables",
            Profile::FramePointers => "frame-pointers",
            Profile::StrippedNoUnwindTables => "stripped-no-unwind-tables",
            Profile::StrippedFramePointers => "stripped-frame-pointers",
            Profile::StrippedFatLto => "stripped-fat-lto",
            Profile::Unstable => "unstable",
            Profile::StrippedUnstable => "stripped-unstable",
        }
    }
}

/// The target of [`Profile::Musl`].
const MUSL: &str = "x86_64-unknown-linux-musl";

/// The options of [`Profile::Small`].
const SMALL: [(&str, &str); 5] = [
    ("OPT_LEVEL", "z"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
];

/// One build of the fixture program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// Directory under `tests/fixtures`.
    pub(crate) package: &'static str,
    pub(crate) profile: Profile,
}

/// A fixture that has said `ready`.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    stdin: Option<ChildStdin>,
    /// Until somebody else reads it.
    output: Option<Output>,
    // Deleted when the process has gone.
    _dir: Option<tempfile::TempDir>,
}

/// What a fixture prints.
#[derive(Debug)]
pub(crate) struct Output {
    lines: Lines,
    pid: u32,
}

impl Output {
    /// The next line of truth.
    pub(crate) fn truth(&mut self) -> Result<Truth, String> {
        let line = self
            .lines
            .find("ground truth", TRUTH, |line| line.starts_with('{'))
            .map_err(|error| format!("{error}\n{}", threads(self.pid)))?;
        serde_json::from_str(&line).map_err(|error| format!("bad ground truth: {error}: {line}"))
    }
}

impl Variant {
    /// The build on which everything is tried that is about threads and processes, which no
    /// compiler option changes.
    pub(crate) const DEFAULT: Variant = Variant {
        package: "tokio-newest",
        profile: Profile::Release,
    };

    /// The program that waits in the crates that people use. Their functions are inlined into
    /// their callers, which line tables tell.
    pub(crate) const CRATES: Variant = Variant {
        package: "crates",
        profile: Profile::Lines,
    };

    /// `tokio-1.38-fat-lto`.
    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.package, self.profile.name())
    }

    fn package_dir(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(self.package)
    }

    /// Builds the program where it is not up to date, and tells its path. With
    /// `HOLDUP_FIXTURES=prebuilt` only the latter: then there need be no cargo.
    pub(crate) fn build(self) -> Result<PathBuf, String> {
        let target = target_dir().join("fixtures").join(self.name());
        let program = match self.profile {
            Profile::Musl => target.join(MUSL).join("release/blockers"),
            _ => target.join("release/blockers"),
        };
        if std::env::var_os("HOLDUP_FIXTURES").is_some_and(|how| how == "prebuilt") {
            return if program.is_file() {
                Ok(program)
            } else {
                Err(format!("{} is not there, but should be", program.display()))
            };
        }
        if let Some(named) = self.named() {
            strip(&named.build()?, &program)?;
            return Ok(program);
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(self.package_dir().join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            // The variant is exactly what its profile says, whatever the caller's environment.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("CARGO_INCREMENTAL");
        match self.profile {
            Profile::Release => {}
            Profile::FatLto => {
                cargo.env("CARGO_PROFILE_RELEASE_LTO", "fat");
            }
            Profile::Lines => {
                cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
            }
            Profile::Small => {
                for (option, value) in SMALL {
                    cargo.env(format!("CARGO_PROFILE_RELEASE_{option}"), value);
                }
            }
            Profile::Musl => musl(&mut cargo, &target)?,
            Profile::NoUnwindTables => {
                cargo
                    .env("RUSTFLAGS", "-C force-unwind-tables=no")
                    .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
            }
            Profile::FramePointers => {
                let flags = "-C force-unwind-tables=no -C force-frame-pointers=yes";
                cargo
                    .env("RUSTFLAGS", flags)
                    .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
            }
            Profile::Unstable => {
                cargo.env("RUSTFLAGS", "--cfg tokio_unstable");
            }
            Profile::Stripped
            | Profile::StrippedNoUnwindTables
            | Profile::StrippedFramePointers
            | Profile::StrippedFatLto
            | Profile::StrippedUnstable => {
                unreachable!("made of another build")
            }
        }
        let output = cargo
            .output()
            .map_err(|error| format!("cargo cannot be run: {error}"))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!(
                "fixture {} does not build:\n{message}",
                self.name()
            ));
        }
        Ok(program)
    }

    /// The shared library that is built beside the program.
    pub(crate) fn library(self, name: &str) -> Result<PathBuf, String> {
        let of = |variant: Variant| -> Result<PathBuf, String> {
            let program = variant.build()?;
            Ok(program.with_file_name(format!("lib{name}.so")))
        };
        let library = of(self)?;
        if let Some(named) = self.named() {
            strip(&of(named)?, &library)?;
        }
        Ok(library)
    }

    /// The build that is stripped to make this one, so that what has a name there has its address
    /// here. cargo's `strip = "symbols"` has the linker leave out the same, but orders functions
    /// anew.
    pub(crate) fn named(self) -> Option<Variant> {
        let profile = match self.profile {
            // There is no other build of it.
            Profile::Stripped if self.package == Variant::CRATES.package => Profile::Lines,
            Profile::Stripped => Profile::Release,
            Profile::StrippedFatLto => Profile::FatLto,
            Profile::StrippedUnstable => Profile::Unstable,
            Profile::StrippedNoUnwindTables => Profile::NoUnwindTables,
            Profile::StrippedFramePointers => Profile::FramePointers,
            _ => return None,
        };
        Some(Variant { profile, ..self })
    }

    /// Why the program cannot be built here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        let prebuilt = std::env::var_os("HOLDUP_FIXTURES").is_some_and(|how| how == "prebuilt");
        if self.profile != Profile::Musl || prebuilt {
            return None;
        }
        if Command::new("musl-gcc").arg("--version").output().is_err() {
            return Some("no musl-gcc; apt-get install musl-tools".into());
        }
        let sysroot = output("rustc", &["--print", "sysroot"]).unwrap_or_default();
        let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std");
        (!source.is_dir()).then(|| "no source of std; run cargo xtask setup".into())
    }

    /// tokio's version by the variant's lock file.
    pub(crate) fn tokio_version(self) -> Result<String, String> {
        let path = self.package_dir().join("Cargo.lock");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let mut lines = text.lines().skip_while(|line| *line != "name = \"tokio\"");
        lines
            .nth(1)
            .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
            .map(str::to_owned)
            .ok_or_else(|| format!("{} names no tokio", path.display()))
    }

    /// Starts the program in a mode, and waits until it is ready.
    pub(crate) fn start(self, mode: &str) -> Result<Running, String> {
        let program = self.build()?;
        // Into the page cache: a worker that waits for the program's own code is blocked, but that
        // is not what is tried here.
        std::fs::read(&program)
            .map_err(|error| format!("{} cannot be read: {error}", program.display()))?;
        // Under target/ and not in /tmp, which may be in memory: some waits are for a disk.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .map_err(|error| format!("no directory for the fixture: {error}"))?;
        let mut command = Command::new(program);
        command.arg(mode).arg(dir.path());
        let mut running = Running::start(command)?;
        running._dir = Some(dir);
        Ok(running)
    }
}

impl Running {
    /// Starts the program by a command of the caller's, and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Result<Running, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Child::spawn("the fixture", &mut command)?;
        let mut lines = process.stdout()?;
        let pid = process.id();
        let stdin = Some(process.stdin()?);
        lines.find("`ready`", READY, |line| line.starts_with("ready "))?;
        Ok(Running {
            process,
            stdin,
            output: Some(Output { lines, pid }),
            _dir: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        Ok(self.process.signal(signal)?)
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(self) -> Result<(), String> {
        Ok(self.process.kill()?)
    }

    pub(crate) fn go(&mut self) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("standard input is closed")?;
        stdin
            .write_all(b"go\n")
            .map_err(|error| format!("the fixture does not listen: {error}"))
    }

    /// The next line of truth.
    pub(crate) fn truth(&mut self) -> Result<Truth, String> {
        self.output.as_mut().ok_or(READ_ELSEWHERE)?.truth()
    }

    /// What it prints, for another thread to read.
    pub(crate) fn take_output(&mut self) -> Result<Output, String> {
        Ok(self.output.take().ok_or(READ_ELSEWHERE)?)
    }

    /// Closes its standard input, at which it has to end well.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.stdin = None;
        let status = self.process.wait(READY)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the fixture ended with {status}"))
        }
    }
}

/// Makes a copy of a program without its symbols, where there is none that is up to date.
fn strip(program: &Path, stripped: &Path) -> Result<(), String> {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    if changed(stripped).is_some_and(|made| changed(program).is_some_and(|built| built <= made)) {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", stripped.display());
    let folder = stripped.parent().unwrap_or(stripped);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let made = folder.join("being-stripped");
    let status = Command::new("strip")
        .arg("--strip-all")
        .arg("-o")
        .args([&made, program])
        .status()
        .map_err(|error| format!("strip cannot be run: {error}"))?;
    if !status.success() {
        return Err(format!("{} cannot be stripped", program.display()));
    }
    std::fs::rename(made, stripped).map_err(failed)
}

/// What each thread of a process waits in: of a fixture that hangs nothing else is left to see.
fn threads(pid: u32) -> String {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let threads = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lines = threads.map(|thread| {
        let read = |file: &str| {
            let text = std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            text.trim_end().to_owned()
        };
        let parts = ["comm", "wchan", "syscall", "stat"].map(read);
        format!("    {}: {}\n", thread.path().display(), parts.join(" | "))
    });
    lines.collect()
}

/// The distribution's musl and a std built for it: rustc's own copies of both are not there where
/// rustup's server is out of reach.
fn musl(cargo: &mut Command, target: &Path) -> Result<(), String> {
    // std wants libunwind; the compiler's own library has the same functions.
    let library = output("gcc", &["-print-file-name=libgcc_eh.a"])?;
    let libraries = target.join("libraries");
    let link = libraries.join("libunwind.a");
    std::fs::create_dir_all(&libraries).map_err(|error| error.to_string())?;
    if std::fs::read_link(&link).is_err() {
        std::os::unix::fs::symlink(library, &link).map_err(|error| error.to_string())?;
    }
    let flags = format!(
        "-C link-self-contained=no -C target-feature=+crt-static -C relocation-model=static \
         -L native={}",
        libraries.display()
    );
    cargo
        .args(["--target", MUSL, "-Z", "build-std=std,panic_abort"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "musl-gcc")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS", flags);
    Ok(())
}

/// What a program prints, without the end of the line.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn target_dir() -> &'static Path {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp)
}
