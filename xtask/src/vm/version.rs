//! Versions of kernels.

use std::fmt;

/// The first two numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Version {
    /// The version that a release (`6.1.0-50-cloud-amd64`) or the beginning of one (`6.1`) has.
    pub(super) fn of(release: &str) -> Option<Version> {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().ok());
        Some(Version {
            major: numbers.next()??,
            minor: numbers.next()??,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A key by which releases sort as people expect: by their numbers.
pub(super) fn natural(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_and_not_digits() {
        assert!(natural("6.12.117+deb13") > natural("6.12.95+deb13"));
        assert!(natural("6.1.0-50") > natural("6.1.0-9"));
        assert!(natural("7.0.4") > natural("6.19.14"));
    }

    #[test]
    fn a_release_begins_with_its_version() {
        let version = Version::of("6.1.0-50-cloud-amd64").expect("a version");
        assert_eq!(version, Version { major: 6, minor: 1 });
        assert!(
            version
                < Version {
                    major: 6,
                    minor: 12
                }
        );
        assert_eq!(
            Version::of("7.3-cloud"),
            Some(Version { major: 7, minor: 3 })
        );
        assert_eq!(Version::of("newest"), None);
        assert_eq!(Version::of("6"), None);
    }
}
