//! The note beside the eBPF object.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What the object was made from, and with what.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// SHA-256 of the object.
    pub object_sha256: String,
    /// [`super::inputs::hash`] of what it was made from.
    pub inputs_sha256: String,
    /// rustc, as `1.95.0 (59807616e…, LLVM 22.1.2)`.
    pub rustc: String,
    /// bpf-linker's version.
    pub bpf_linker: String,
    /// The LLVM that bpf-linker uses; the last hand on the object's code.
    pub bpf_linker_llvm: String,
}

const HEAD: &str =
    "# Written by `cargo xtask ebpf`: of what holdup.bpf.o was made, and with what.\n";

impl Note {
    /// The text of the file.
    ///
    /// # Errors
    /// A field cannot be written as TOML.
    pub fn render(&self) -> Result<String> {
        let text = toml::to_string(self).context("cannot write the note")?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Reads what [`Note::render`] wrote.
    ///
    /// # Errors
    /// It is no TOML, or a key is missing or unknown.
    pub fn parse(text: &str) -> Result<Note> {
        toml::from_str(text).context("this is no note of `cargo xtask ebpf`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let note = Note {
            object_sha256: "a".into(),
            inputs_sha256: "b".into(),
            rustc: "1.95.0 (LLVM 22.1.2)".into(),
            bpf_linker: "0.13.0".into(),
            bpf_linker_llvm: "22.1.8".into(),
        };
        let text = note.render().unwrap();
        assert!(text.ends_with("\nbpf_linker_llvm = \"22.1.8\"\n"), "{text}");
        assert_eq!(Note::parse(&text).unwrap(), note);
        assert!(Note::parse(&text.replace("bpf_linker =", "linker =")).is_err());
    }
}
