//! What an ELF image says of the tokio that is linked into it, told without symbols: its version,
//! and where its thread-local context is.

mod context;
mod cores;
mod signs;

pub use context::{ContextAt, Contexts, NoContext, Variables};

use crate::process::module::{Elf, ModuleError};

/// What an image says of tokio.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokioImage {
    /// Every version named, sorted as text, without duplicates. Two versions in one program
    /// are two runtimes; none with `present` is a tokio whose paths do not name it.
    pub versions: Vec<String>,
    /// Whether there is any sign of tokio.
    pub present: bool,
    /// Where its contexts are.
    pub contexts: Contexts,
}

impl TokioImage {
    /// Looks for tokio in an image.
    #[must_use]
    pub fn of(elf: &Elf<'_>) -> TokioImage {
        let signs = signs::signs(elf);
        let contexts = if signs.present {
            Contexts::of(elf, &signs)
        } else {
            Contexts::default()
        };
        TokioImage {
            versions: signs.versions,
            present: signs.present,
            contexts,
        }
    }

    /// As [`TokioImage::of`], of the image's bytes.
    ///
    /// # Errors
    /// Those of [`Elf::parse`].
    pub fn from_elf(data: &[u8]) -> Result<TokioImage, ModuleError> {
        Elf::parse(data).map(|elf| TokioImage::of(&elf))
    }

    /// The first version that the rules do not understand: 0.x, and 1.0 to 1.19.
    #[must_use]
    pub fn not_understood(&self) -> Option<&str> {
        too_old(&self.versions)
    }
}

fn too_old(versions: &[String]) -> Option<&str> {
    let old = |version: &&String| !is_understood(version);
    versions.iter().find(old).map(String::as_str)
}

/// Whether the rules understand a version: 1.20 and newer, and what is no version to us.
#[must_use]
pub fn is_understood(version: &str) -> bool {
    release(version).is_none_or(|release| release >= FIRST)
}

/// Which tokio is linked into an image, if one is, and no more: what can be told of a file whose
/// constants alone were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokioSigns {
    /// As [`TokioImage::versions`].
    pub versions: Vec<String>,
    /// As [`TokioImage::present`].
    pub present: bool,
}

impl TokioSigns {
    /// Looks for tokio in an image's bytes.
    ///
    /// # Errors
    /// Those of [`Elf::parse`].
    pub fn from_elf(data: &[u8]) -> Result<TokioSigns, ModuleError> {
        let signs = signs::signs(&Elf::parse(data)?);
        Ok(TokioSigns {
            versions: signs.versions,
            present: signs.present,
        })
    }

    /// As [`TokioImage::not_understood`].
    #[must_use]
    pub fn not_understood(&self) -> Option<&str> {
        too_old(&self.versions)
    }
}

/// The first version whose functions the rules know.
const FIRST: (u32, u32) = (1, 20);

/// As [`release`], with the third number.
fn patch_release(version: &str) -> Option<(u32, u32, u32)> {
    let (major, minor) = release(version)?;
    let patch = version.split('.').nth(2)?;
    let digits = patch
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(patch.len());
    Some((major, minor, patch.get(..digits)?.parse().ok()?))
}

/// The major and the minor number of a version (`1.54.1`).
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_1_20_are_not_understood() {
        let of = |versions: &[&str]| TokioImage {
            versions: versions.iter().map(|v| (*v).to_owned()).collect(),
            present: true,
            contexts: Contexts::default(),
        };
        assert_eq!(of(&["1.20.0", "1.54.1"]).not_understood(), None);
        assert_eq!(of(&["0.2.25", "1.54.1"]).not_understood(), Some("0.2.25"));
        assert_eq!(of(&["1.19.2"]).not_understood(), Some("1.19.2"));
        assert_eq!(
            of(&["1.0.0-alpha.2"]).not_understood(),
            Some("1.0.0-alpha.2")
        );
        assert_eq!(of(&["2.0.0"]).not_understood(), None);
        assert_eq!(of(&[]).not_understood(), None);
    }
}
