//! Which crates a binary was built from, told by the binary itself.

use std::collections::BTreeSet;

/// The third-party crates whose code is in `image`, under the names that paths in symbols begin
/// with (`tokio_util` of package `tokio-util`).
///
/// A panic keeps the path of its source file in the binary's read-only data, in a release build
/// too: `…/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-util-0.7.15/src/codec.rs`.
/// Git dependencies are in `…/git/checkouts/NAME-HASH/REVISION/…/CRATE/src/…`, vendored ones in
/// `…/vendor/NAME/src/…`, and those that std itself was built with in `/rust/deps/NAME-VERSION/…`.
/// The list lacks crates that cannot panic, and everything where paths were remapped.
#[must_use]
pub fn dependency_crates(image: &[u8]) -> BTreeSet<String> {
    type Rule = fn(&str) -> Option<String>;
    const RULES: [(&[u8], Rule); 4] = [
        (b"/registry/src/", registry_crate),
        (b"/git/checkouts/", checkout_crate),
        (b"/vendor/", vendored_crate),
        (b"/rust/deps/", versioned_crate),
    ];
    let mut crates = BTreeSet::new();
    for (mark, rule) in RULES {
        for at in memchr::memmem::find_iter(image, mark) {
            crates.extend(path_at(image, at + mark.len()).and_then(rule));
        }
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
    versioned_crate(path.split_once('/')?.1)
}

/// `NAME-VERSION/…` to the crate's name.
fn versioned_crate(path: &str) -> Option<String> {
    // Without a following directory the package's name may be cut, or run into other text.
    package_name(path.split_once('/')?.0).map(crate_name)
}

/// `NAME/src/…`, or `NAME-VERSION/src/…` with `cargo vendor --versioned-dirs`.
pub(super) fn vendored_crate(path: &str) -> Option<String> {
    let (package, rest) = path.split_once('/')?;
    let name = package_name(package).unwrap_or(package);
    (rest.starts_with("src/") && is_package(name)).then(|| crate_name(name))
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

/// Whether two source files are of one crate, as far as their paths tell: both are below the same `src`, and
/// neither is that of a further program there.
pub(super) fn is_of_one_crate(file: &str, other: &str) -> bool {
    let parts = |file: &str| {
        let (package, inside) = file.rsplit_once("/src/")?;
        (!inside.starts_with("bin/")).then(|| package.to_owned())
    };
    file == other || parts(file).is_some_and(|package| parts(other) == Some(package))
}

/// The crate and the modules that a source file stands for, as cargo lays packages out:
/// `claims_api::handlers::v1` for `…/claims-api/src/handlers/v1.rs`. `own` is the crate of the binary,
/// for paths that begin with `src/`, and `krate` that of other paths, where it is known: the folder that
/// holds a package may have any name, a checkout's, or /app in a container. None for other layouts.
pub(super) fn modules_of(file: &str, own: Option<&str>, krate: Option<&str>) -> Option<String> {
    let (package, inside) = match file.strip_prefix("src/") {
        Some(inside) => (own.map(str::to_owned), inside),
        None => {
            let (before, inside) = file.rsplit_once("/src/")?;
            let directory = before.rsplit('/').next()?;
            let package = package_name(directory).unwrap_or(directory);
            let named = || krate.map_or_else(|| crate_name(package), str::to_owned);
            (is_package(package).then(named), inside)
        }
    };
    let mut modules: Vec<&str> = inside.strip_suffix(".rs")?.split('/').collect();
    let is_program = modules.first() == Some(&"bin") && modules.len() > 1;
    if is_program {
        modules.remove(0);
    }
    if matches!(modules.last(), Some(&("lib" | "main" | "mod"))) {
        modules.pop();
    }
    let package = if is_program && !modules.is_empty() {
        modules.remove(0).replace('-', "_")
    } else {
        package?
    };
    let path: Vec<&str> = std::iter::once(&*package).chain(modules).collect();
    let is_module = |name: &&str| {
        let mut letters = name.chars();
        !name.is_empty() && letters.all(|c| c.is_alphanumeric() || c == '_')
    };
    path.iter().all(is_module).then(|| path.join("::"))
}

/// What a source file outside cargo's usual folders is called by: `load` for `examples/load.rs` and for
/// `examples/load/main.rs`, where that is the crate's name.
pub(super) fn folder_of(file: &str) -> Option<String> {
    let mut parts = file.strip_suffix(".rs")?.rsplit('/');
    let mut name = parts.next()?;
    if matches!(name, "lib" | "main" | "mod") {
        name = parts.next()?;
    }
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
    fn vendored_and_stds_own() {
        assert_eq!(
            scan(
                "/srv/build/vendor/r2d2/src/lib.rs/srv/build/vendor/md-5-0.10.6/src/lib.rs\0\
                  /rust/deps/hashbrown-0.16.1/src/raw/mod.rs"
            ),
            ["hashbrown", "md_5", "r2d2"]
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
            "/vendor/",
            "/vendor/a/lib.rs",
            "/rust/deps/a/src/lib.rs",
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

    #[test]
    fn files_tell_modules() {
        let of = |file| modules_of(file, Some("own"), None);
        for (file, modules) in [
            (
                "/srv/claims-api/src/handlers/v1.rs",
                Some("claims_api::handlers::v1"),
            ),
            (
                "/srv/claims-api/src/handlers/mod.rs",
                Some("claims_api::handlers"),
            ),
            ("/srv/claims-api/src/lib.rs", Some("claims_api")),
            ("/srv/x/src/bin/every_profile.rs", Some("every_profile")),
            ("/srv/x/src/bin/tool/main.rs", Some("tool")),
            ("/srv/x/src/bin/tool/parse.rs", Some("tool::parse")),
            ("src/api.rs", Some("own::api")),
            (
                "/r/registry/src/index-1/hyper-1.6.0/src/proto/h1.rs",
                Some("hyper::proto::h1"),
            ),
            ("/srv/x/build.rs", None),
            ("/srv/x y/src/a.rs", None),
            ("/srv/x/src/a b.rs", None),
            ("/srv/x/src/a.c", None),
            ("", None),
        ] {
            assert_eq!(of(file).as_deref(), modules, "{file}");
        }
        assert_eq!(modules_of("src/api.rs", None, None), None);
        for (file, name) in [
            ("/srv/x/examples/load-test.rs", Some("load_test")),
            ("examples/load/main.rs", Some("load")),
            ("/srv/x/tests/common/mod.rs", Some("common")),
            ("/tmp/.tmpA1/main.rs", None),
            ("main.rs", None),
            ("/srv/x/a b.rs", None),
            ("/srv/x/a.c", None),
        ] {
            assert_eq!(folder_of(file).as_deref(), name, "{file}");
        }
    }
}
