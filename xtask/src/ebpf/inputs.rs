//! The hash over everything from which the eBPF object is made.
//!
//! The object is in the repository, so that users need neither rust-src nor bpf-linker. The
//! hash of its inputs is in the note beside it, and a test compares: whoever changes the
//! kernel programs cannot forget to rebuild the object.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What decides the object's bytes, relative to the checkout: files, and folders of which all
/// Rust files count.
const INPUTS: &[&str] = &[
    "profiler-common/Cargo.toml",
    "profiler-common/src",
    "profiler-ebpf/.cargo/config.toml",
    "profiler-ebpf/Cargo.lock",
    "profiler-ebpf/Cargo.toml",
    "profiler-ebpf/rust-toolchain.toml",
    "profiler-ebpf/src",
];

/// SHA-256 over the inputs below `root` and over `recipe` (the parts of the build command that
/// are in no file), in hex.
///
/// Every item goes in as its length and its bytes, so that no two sets of inputs are one string.
///
/// # Errors
/// An input is missing or cannot be read.
pub fn hash(root: &Path, recipe: &[&str]) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for item in recipe {
        add(item.as_bytes());
    }
    for relative in list(root)? {
        let path = root.join(&relative);
        let content =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        add(relative.as_bytes());
        add(&content);
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of `bytes` in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Every input file, relative to `root` with `/` between, sorted by bytes.
///
/// # Errors
/// A folder cannot be read, or a file has a name that is not UTF-8.
pub fn list(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for input in INPUTS {
        let path = root.join(input);
        if path.is_dir() {
            walk(&path, &mut files)?;
        } else {
            files.push(path);
        }
    }
    let mut relative = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap_or(path);
            let name = name.to_str();
            name.map(str::to_owned)
                .with_context(|| format!("{} is not UTF-8", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    relative.sort();
    Ok(relative)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read the folder {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            // Only Rust files: an editor's backup is no input.
            files.push(path);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for input in INPUTS {
            let path = root.path().join(input);
            if input.ends_with("src") {
                std::fs::create_dir_all(path.join("inner")).unwrap();
                std::fs::write(path.join("main.rs"), "a").unwrap();
                std::fs::write(path.join("inner/mod.rs"), "b").unwrap();
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "c").unwrap();
            }
        }
        root
    }

    #[test]
    fn hash_depends_on_content_names_and_recipe_only() {
        let (one, two) = (checkout(), checkout());
        let first = hash(one.path(), &["-x"]).unwrap();
        assert_eq!(first, hash(two.path(), &["-x"]).unwrap());
        assert_ne!(first, hash(one.path(), &["-y"]).unwrap());

        std::fs::write(two.path().join("profiler-ebpf/src/main.rs~"), "backup").unwrap();
        assert_eq!(first, hash(two.path(), &["-x"]).unwrap());

        let deep = two.path().join("profiler-ebpf/src/inner/mod.rs");
        std::fs::write(&deep, "changed").unwrap();
        assert_ne!(first, hash(two.path(), &["-x"]).unwrap());
        std::fs::write(&deep, "b").unwrap();
        assert_eq!(first, hash(two.path(), &["-x"]).unwrap());
        std::fs::rename(&deep, deep.with_file_name("other.rs")).unwrap();
        assert_ne!(first, hash(two.path(), &["-x"]).unwrap());
    }

    #[test]
    fn a_missing_input_is_an_error() {
        let root = checkout();
        std::fs::remove_file(root.path().join("profiler-ebpf/Cargo.lock")).unwrap();
        assert!(
            hash(root.path(), &[])
                .unwrap_err()
                .to_string()
                .contains("Cargo.lock")
        );
    }

    #[test]
    fn known_sha256() {
        // FIPS 180-4, the example of one block.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
    }
}
