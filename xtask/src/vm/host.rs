//! What running guests takes on this machine.

use super::version::natural;
use crate::{debian, process};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Debian's packages.
const PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "busybox-static",
    "kmod",
    "e2fsprogs",
    "xz-utils",
];

/// The first QEMU whose emulation may run each CPU of the guest in a thread of its own: 7.2
/// executes stale code after the kernel has patched itself, and guests die of `int3: Oops`.
const THREADED_SINCE: u64 = 10;

/// Where kernels and emulators are kept: `holdup-vm` in the user's cache folder.
///
/// # Errors
/// There is no such folder, and none can be made.
pub(super) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let cache = base.join("holdup-vm");
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the folder {}", cache.display()))?;
    Ok(cache)
}

/// A program of the system's administrator, which a user's PATH may not lead to.
pub(super) fn tool(name: &str) -> OsString {
    ["/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .map_or_else(|| name.into(), PathBuf::into_os_string)
}

/// How the guest's code is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accel {
    /// By the processor.
    Kvm,
    /// By software, many times slower.
    Tcg,
}

impl Accel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "KVM",
            Accel::Tcg => "software emulation",
        }
    }

    fn find() -> Accel {
        // Other providers of /dev/kvm do not run unmodified kernels.
        let real = ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|module| Path::new("/sys/module").join(module).exists());
        let may = || {
            fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .is_ok()
        };
        if real && may() {
            Accel::Kvm
        } else {
            Accel::Tcg
        }
    }
}

/// A QEMU that can do it.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) program: PathBuf,
    /// Folders with its firmware; none for those that it knows itself.
    pub(super) firmware: Vec<PathBuf>,
    pub(super) accel: Accel,
    pub(super) version: String,
}

impl Emulator {
    /// The machine's own QEMU, or where that is too old the one beside it.
    ///
    /// # Errors
    /// Something is missing; the message names the command that installs it.
    pub(super) fn find(cache: &Path) -> Result<Emulator> {
        const HINT: &str = "run: cargo xtask setup --vm";
        let missing = debian::missing(PACKAGES);
        if !missing.is_empty() {
            bail!("these packages are missing: {}\n{HINT}", missing.join(" "));
        }
        let accel = Accel::find();
        let own = Emulator::at("qemu-system-x86_64".into(), Vec::new(), accel)?;
        if own.is_fit() {
            return Ok(own);
        }
        Emulator::beside(cache).with_context(|| {
            format!(
                "QEMU {} cannot emulate two CPUs at once without faults, {THREADED_SINCE}.0 can\n\
                 {HINT}",
                own.version
            )
        })
    }

    fn beside(cache: &Path) -> Result<Emulator> {
        let usr = cache.join("qemu/usr");
        let firmware = vec![usr.join("share/qemu"), "/usr/share/seabios".into()];
        let other = Emulator::at(usr.join("bin/qemu-system-x86_64"), firmware, Accel::Tcg)?;
        if !other.is_fit() {
            bail!("{} is too old as well", other.program.display());
        }
        Ok(other)
    }

    fn at(program: PathBuf, firmware: Vec<PathBuf>, accel: Accel) -> Result<Emulator> {
        let text = process::output(process::detached(&program).arg("--version"))?;
        let version = text
            .split_ascii_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .with_context(|| format!("{} tells no version: {text}", program.display()))?
            .to_owned();
        Ok(Emulator {
            program,
            firmware,
            accel,
            version,
        })
    }

    fn is_fit(&self) -> bool {
        self.accel == Accel::Kvm
            || natural(&self.version)
                .first()
                .is_some_and(|major| *major >= THREADED_SINCE)
    }
}

/// Installs what is missing: packages into the system, and where its QEMU is too old another one
/// into the cache.
///
/// # Errors
/// Something cannot be installed.
pub(crate) fn install(dry_run: bool) -> Result<()> {
    if !debian::has_apt() {
        bail!(
            "on Debian these packages bring what is needed: {}\ninstall their like",
            PACKAGES.join(" ")
        );
    }
    let now = if dry_run {
        "missing, would do"
    } else {
        "missing, now"
    };
    let missing = debian::missing(PACKAGES);
    if missing.is_empty() {
        println!("already there: {}", PACKAGES.join(" "));
    } else {
        println!("{now}: apt-get install {}", missing.join(" "));
        if dry_run {
            return Ok(());
        }
        debian::install(&missing)?;
    }
    let cache = cache()?;
    let Err(why) = Emulator::find(&cache) else {
        println!("already there: a QEMU that can do it");
        return Ok(());
    };
    eprintln!("{}", why.to_string().lines().next().unwrap_or_default());
    let suite = format!("{}-backports", debian::codename()?);
    println!(
        "{now}: unpack qemu-system-x86 of {suite} into {}",
        cache.join("qemu").display()
    );
    if dry_run {
        return Ok(());
    }
    let options = debian::private_apt(&suite, &cache.join("apt").join(&suite))?;
    let work = tempfile::tempdir_in(&cache).context("cannot write to the cache")?;
    let (packed, tree) = (work.path().join("packed"), work.path().join("tree"));
    for folder in [&packed, &tree] {
        fs::create_dir(folder).context("cannot make a temporary folder")?;
    }
    let packages = ["qemu-system-x86", "qemu-system-data"].map(str::to_owned);
    debian::download(&packages, &options, &packed, &tree)?;
    let place = cache.join("qemu");
    if place.exists() {
        fs::remove_dir_all(&place).context("cannot replace a folder of the cache")?;
    }
    fs::rename(&tree, &place).context("cannot move the emulator into the cache")?;
    let emulator = Emulator::find(&cache)?;
    println!(
        "installed: QEMU {} at {}",
        emulator.version,
        emulator.program.display()
    );
    Ok(())
}
