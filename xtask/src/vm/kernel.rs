//! A distribution's kernel: found and fetched by apt once, then taken from the cache.

use super::version::natural;
use crate::{debian, process};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Debian's kernels for virtual machines: small, with all that QEMU's devices take.
const FLAVOUR: &str = "cloud-amd64";

/// What stands for the newest kernel of all.
pub(super) const NEWEST: &str = "newest";

/// The release whose main kernel a version is. All other versions are looked for in
/// [`MOVING_SUITES`].
const STABLE_SUITES: &[(&str, &str)] = &[
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
];

/// Suites whose kernels change.
const MOVING_SUITES: &[&str] = &["stable-backports", "trixie-backports", "unstable"];

/// The modules that reaching the disk takes, and so have to be there before it is; and those by
/// which the ends of sockets are found, which other systems load when they are asked for.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "tcp_diag", "unix_diag"];

/// Names the [`MODULES`] that a folder of the cache was made with.
const MADE_WITH: &str = "made-with";

/// A kernel that is ready to boot.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// In the order in which they have to be loaded.
    pub(super) modules: Vec<PathBuf>,
}

impl Kernel {
    /// The kernel that `wanted` stands for: the beginning of a version (`6.1`), or [`NEWEST`].
    /// What it stands for is noted in `cache` at the first time and stays so, without a look at
    /// the network, until `renew` is asked for.
    ///
    /// # Errors
    /// No suite has such a kernel, or it cannot be fetched.
    pub(super) fn get(wanted: &str, cache: &Path, renew: bool) -> Result<Kernel> {
        let note = cache.join("names").join(wanted);
        if !renew
            && let Ok(release) = fs::read_to_string(&note)
            && let Ok(kernel) = Kernel::cached(release.trim_end(), cache)
        {
            return Ok(kernel);
        }
        let found = Found::search(wanted, cache)?;
        let release = found.release.clone();
        if Kernel::cached(&release, cache).is_err() {
            found
                .fetch(cache)
                .with_context(|| format!("cannot fetch the kernel {release}"))?;
        }
        fs::create_dir_all(cache.join("names")).context("cannot make a folder in the cache")?;
        fs::write(&note, format!("{release}\n")).context("cannot write to the cache")?;
        Kernel::cached(&release, cache)
    }

    fn cached(release: &str, cache: &Path) -> Result<Kernel> {
        let folder = cache.join("kernels").join(release);
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot list the folder {}", folder.display()))?;
        let mut modules: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "ko"))
            .collect();
        modules.sort();
        let made_with = fs::read_to_string(folder.join(MADE_WITH)).unwrap_or_default();
        if made_with != MODULES.join(" ") {
            bail!("{} was made with other modules", folder.display());
        }
        let image = folder.join("vmlinuz");
        if !image.is_file() {
            bail!("{} is missing", image.display());
        }
        Ok(Kernel {
            release: release.to_owned(),
            image,
            modules,
        })
    }
}

/// A kernel in the archive.
#[derive(Debug)]
struct Found {
    release: String,
    /// The packages that its files lie in; the image's own may be an empty one that depends on
    /// the others.
    packages: Vec<String>,
    options: Vec<String>,
}

impl Found {
    fn search(wanted: &str, cache: &Path) -> Result<Found> {
        let suites: Vec<&str> = match STABLE_SUITES.iter().find(|(series, _)| *series == wanted) {
            Some((_, suite)) => vec![suite],
            None => MOVING_SUITES.to_vec(),
        };
        let mut best: Option<Found> = None;
        let mut troubles = Vec::new();
        for suite in suites {
            eprintln!("looking for the kernel {wanted} in {suite}");
            match Found::in_suite(wanted, suite, cache) {
                Ok(Some(found)) => {
                    let newer = best
                        .as_ref()
                        .is_none_or(|best| natural(&found.release) > natural(&best.release));
                    if newer {
                        best = Some(found);
                    }
                }
                Ok(None) => troubles.push(format!("{suite} has none")),
                Err(error) => troubles.push(format!("{suite}: {error:#}")),
            }
        }
        best.with_context(|| {
            format!(
                "no kernel {wanted} of the flavour {FLAVOUR} can be had:\n  {}",
                troubles.join("\n  ")
            )
        })
    }

    fn in_suite(wanted: &str, suite: &str, cache: &Path) -> Result<Option<Found>> {
        let options = debian::private_apt(suite, &cache.join("apt").join(suite))?;
        let names = process::output(
            process::detached("apt-cache")
                .args(&options)
                .args(["pkgnames", "linux-image-"]),
        )?;
        let mut releases: Vec<&str> = names
            .lines()
            .filter_map(|name| name.strip_prefix("linux-image-"))
            .filter(|release| is_wanted(release, wanted))
            .collect();
        releases.sort_by_key(|release| std::cmp::Reverse(natural(release)));
        // A name may only be one that others mention, and an old package may have gone.
        for release in releases {
            let packages = packages_of(release, &options);
            let mut uris = process::detached("apt-get");
            uris.args(&options)
                .args(["download", "--print-uris"])
                .args(&packages);
            if process::output(&mut uris).is_ok() {
                return Ok(Some(Found {
                    release: release.to_owned(),
                    packages,
                    options,
                }));
            }
        }
        Ok(None)
    }

    /// Puts the image and the modules of [`MODULES`] into the cache.
    fn fetch(&self, cache: &Path) -> Result<()> {
        let kernels = cache.join("kernels");
        fs::create_dir_all(&kernels).context("cannot make a folder in the cache")?;
        let work = tempfile::tempdir_in(&kernels).context("cannot write to the cache")?;
        let (packed, tree) = (work.path().join("packed"), work.path().join("tree"));
        for folder in [&packed, &tree] {
            fs::create_dir(folder).context("cannot make a temporary folder")?;
        }
        eprintln!("fetching {}", self.packages.join(" "));
        debian::download(&self.packages, &self.options, &packed, &tree)?;

        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|folder| tree.join(folder).join(&self.release))
            .into_iter()
            .find(|folder| folder.is_dir())
            .context("the package holds no modules")?;
        let usual = tree.join("lib/modules").join(&self.release);
        if modules != usual {
            fs::create_dir_all(tree.join("lib/modules")).context("cannot make a folder")?;
            fs::rename(&modules, &usual).context("cannot move the modules")?;
        }
        let image = [
            tree.join(format!("boot/vmlinuz-{}", self.release)),
            usual.join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.is_file())
        .context("the package holds no kernel")?;

        let ready = work.path().join("ready");
        fs::create_dir(&ready).context("cannot make a temporary folder")?;
        fs::rename(&image, ready.join("vmlinuz")).context("cannot move the kernel")?;
        for (n, module) in self.modules(&tree)?.iter().enumerate() {
            unpack_module(module, &ready, n)?;
        }
        fs::write(ready.join(MADE_WITH), MODULES.join(" ")).context("cannot write to the cache")?;
        // The folder appears whole or not at all.
        let place = kernels.join(&self.release);
        if place.exists() {
            fs::remove_dir_all(&place).context("cannot replace a folder of the cache")?;
        }
        fs::rename(&ready, &place).context("cannot move the kernel into the cache")
    }

    /// The files of [`MODULES`] and of what they need, each after those that it needs.
    fn modules(&self, tree: &Path) -> Result<Vec<PathBuf>> {
        process::output(
            process::detached(super::host::tool("depmod"))
                .arg("--basedir")
                .arg(tree)
                .arg(&self.release),
        )?;
        let mut list = process::detached(super::host::tool("modprobe"));
        list.arg("--dirname").arg(tree);
        list.args(["--set-version", &self.release, "--show-depends", "--all"])
            .args(MODULES);
        let mut modules = Vec::new();
        for line in process::output(&mut list)?.lines() {
            // The others are `builtin NAME`.
            if let Some(path) = line.strip_prefix("insmod ") {
                let path = PathBuf::from(path.trim_end());
                if !modules.contains(&path) {
                    modules.push(path);
                }
            }
        }
        Ok(modules)
    }
}

/// Whether `release` is of our flavour, and of the version that begins with `wanted`.
fn is_wanted(release: &str, wanted: &str) -> bool {
    let Some(version) = release
        .strip_suffix(FLAVOUR)
        .and_then(|rest| rest.strip_suffix('-'))
    else {
        return false;
    };
    let is_version = version.starts_with(|c: char| c.is_ascii_digit());
    is_version
        && (wanted == NEWEST
            || version
                .strip_prefix(wanted)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())))
}

/// The image's package, and those that hold its files where it is empty itself.
fn packages_of(release: &str, options: &[String]) -> Vec<String> {
    let image = format!("linux-image-{release}");
    let mut show = process::detached("apt-cache");
    show.args(options)
        .args(["show", "--no-all-versions", &image]);
    let fields = process::output(&mut show).unwrap_or_default();
    let depends = fields
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .unwrap_or_default();
    let parts: Vec<String> = depends
        .split([',', '|'])
        .filter_map(|one| one.split_ascii_whitespace().next())
        .filter(|name| {
            ["linux-base-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|prefix| {
                    name.strip_prefix(prefix)
                        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                })
        })
        .map(str::to_owned)
        .collect();
    std::iter::once(image).chain(parts).collect()
}

/// Unpacks a module, of which the guest's `insmod` knows the plain form only.
fn unpack_module(module: &Path, into: &Path, n: usize) -> Result<()> {
    let name = module
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (stem, unpacker) = if let Some(stem) = name.strip_suffix(".xz") {
        (stem, "xz")
    } else if let Some(stem) = name.strip_suffix(".zst") {
        (stem, "zstd")
    } else {
        (name.as_str(), "cat")
    };
    let place = into.join(format!("{n:03}-{stem}"));
    let file = fs::File::create(&place)
        .with_context(|| format!("cannot write the file {}", place.display()))?;
    let mut unpack = process::detached(unpacker);
    if unpacker != "cat" {
        unpack.args(["--decompress", "--stdout"]);
    }
    unpack
        .arg(module)
        .stdin(Stdio::null())
        .stdout(Stdio::from(file));
    let status = unpack
        .status()
        .with_context(|| format!("cannot start {unpacker}"))?;
    if !status.success() {
        bail!("`{}` failed: {status}", process::shown(&unpack));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_whole() {
        for (release, wanted, is) in [
            ("6.1.0-50-cloud-amd64", "6.1", true),
            ("6.12.117+deb13-cloud-amd64", "6.1", false),
            ("6.12.117+deb13-cloud-amd64", "6.12", true),
            ("6.12.117+deb13-cloud-amd64", "6.12.117", true),
            ("6.12.117+deb13-cloud-amd64", NEWEST, true),
            ("6.12.117+deb13-amd64", "6.12", false),
            ("6.12.117+deb13-cloud-amd64-unsigned", "6.12", false),
            ("cloud-amd64", NEWEST, false),
        ] {
            assert_eq!(is_wanted(release, wanted), is, "{release} for {wanted}");
        }
    }
}
