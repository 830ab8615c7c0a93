//! Which crates a binary was built from, told by the binary itself.

use std::collections::BTreeSet;

/// The third-party crates whose code is in `image`, under the names that paths in symbols begin
/// with (`tokio_util` of package `tokio-util`).
///
/// A panic keeps the path of its source file in the binary's read-only data, in a release build
/// too: `…/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-util-0.7.15/src/codec.rs`.
/// So do `cargo vendor`-less git dependencies: `…/git/checkouts/NAME-HASH/REV/…/CRATE/src/…`.
/// The list lacks crates that cannot panic, and everything where paths were remapped.
#[must_use]
pub fn dependency_crates(image: &[u8]) -> BTreeSet<String> {
    const REGISTRY: &[u8] = b"/registry/src/";
    const CHECKOUTS: &[u8] = b"/git/checkouts/";
    let mut crates = BTreeSet::new();
    for at in memchr::memmem::find_iter(image, REGISTRY) {
        crates.extend(path_at(image, at + REGISTRY.len()).and_then(registry_crate));
    }
    for at in memchr::memmem::find_iter(image, CHECKOUTS) {
        crates.extend(path_at(image, at + CHECKOUTS.len()).and_then(checkout_crate));
    }
    crates
}

/// The text from `start` on, as far as it can be a path. Strings in read-only data follow each
/// other without a gap: what comes behind the directories that we look at is anybody's.
fn path_at(image: &[u8], start: usize) -> Option<&str> {
    // The longest that the kernel takes for a path, PATH_MAX.
    let window = image.get(start..)?;
    let window = window.get(..4096).unwrap_or(window);
    let len = window
        .iter()
        .take_while(|b| b.is_ascii_graphic() || **b == b' ')
        .count();
    str::from_utf8(window.get(..len)?).ok()
}

/// `INDEX/NAME-VERSION/…` to the crate's name.
pub(super) fn registry_crate(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    let package = parts.nth(1)?;
    // Without a following directory the package's name may be cut, or run into other text.
    parts.next()?;
    package_name(package).map(crate_name)
}

/// `REPOSITORY-HASH/REVISION/[DIRECTORY/…]src/…` to the crate's name: the directory that holds
/// `src`, or the repository where that is its root.
fn checkout_crate(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let src = parts.iter().position(|&part| part == "src")?;
    let name = match src {
        0 | 1 => return None,
        2 => parts.first()?.rsplit_once('-')?.0,
        _ => parts.get(src - 1)?,
    };
    is_package(name).then(|| crate_name(name))
}

/// `tokio-util` of `tokio-util-0.7.15` and of `tokio-util-0.7.15-rc.1+build`.
fn package_name(package: &str) -> Option<&str> {
    let (at, _) = package.match_indices('-').find(|(at, _)| {
        let version = package.get(at + 1..).unwrap_or("");
        let mut numbers = version.splitn(3, '.');
        let number = |part: Option<&str>| {
            part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        number(numbers.next())
            && number(numbers.next())
            && numbers
                .next()
                .is_some_and(|patch| patch.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    package.get(..at).filter(|name| is_package(name))
}

/// Whether cargo would take `name` for a package.
fn is_package(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A package's name as paths in symbols have it.
pub(super) fn crate_name(package: &str) -> String {
    package.replace('-', "_")
}

/// The crate that a binary of this file name was built from: the executable of package
/// `claims-api` has crate `claims_api`. Cargo's own copies bear a hash (`claims_api-0123…`).
pub(super) fn own_crate(file_name: &str) -> Option<String> {
    let name = file_name.strip_suffix(" (deleted)").unwrap_or(file_name);
    let name = match name.split_once(".so") {
        Some((stem, _)) => stem.strip_prefix("lib").unwrap_or(stem),
        None => name,
    };
    let name = match name.rsplit_once('-') {
        Some((stem, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            stem
        }
        _ => name,
    };
    is_package(name).then(|| crate_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(image: &str) -> Vec<String> {
        dependency_crates(image.as_bytes()).into_iter().collect()
    }

    #[test]
    fn registry_paths_without_gaps_between_strings() {
        let image = "x/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-util-0.7.15/src/a.rs\
            assertion failed/home/u/.cargo/registry/src/github.com-1ecc6299db9ec823/foo-2d-1.0.0-rc.1/src/lib.rs\
            \0/registry/src/index/rusqlite-0.31.0/src/lib.rs";
        assert_eq!(scan(image), ["foo_2d", "rusqlite", "tokio_util"]);
    }

    #[test]
    fn git_checkouts() {
        assert_eq!(
            scan(
                "/root/.cargo/git/checkouts/tower-0a1b2c3d4e5f6071/abc1234/tower-http/src/lib.rs\0\
                  /root/.cargo/git/checkouts/my-lib-0a1b2c3d4e5f6071/abc1234/src/lib.rs"
            ),
            ["my_lib", "tower_http"]
        );
    }

    #[test]
    fn cut_and_made_up_paths_give_nothing() {
        for image in [
            "/registry/src/",
            "/registry/src/index",
            "/registry/src/index/tokio-1.0.0",
            "/registry/src/index/tokio/src",
            "/registry/src/index/to!kio-1.0.0/src",
            "/registry/src/index/-1.0.0/src",
            "/git/checkouts/",
            "/git/checkouts/src",
            "/git/checkouts/a/src/b",
        ] {
            assert_eq!(scan(image), [""; 0], "{image}");
        }
        assert!(dependency_crates(&[0xff; 64]).is_empty());
    }

    #[test]
    fn own_crate_of_file_names() {
        for (file, krate) in [
            ("claims-api", Some("claims_api")),
            ("claims_api-0123456789abcdef", Some("claims_api")),
            ("claims-api (deleted)", Some("claims_api")),
            ("libplugin.so", Some("plugin")),
            ("libplugin.so.1", Some("plugin")),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(own_crate(file).as_deref(), krate, "{file}");
        }
    }
}
