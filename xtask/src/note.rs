//! The note beside the eBPF object: TOML, of strings only.

use anyhow::{Context, Result, bail};

/// What the object was made from, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// SHA-256 of the object.
    pub object_sha256: String,
    /// [`crate::inputs::hash`] of what it was made from.
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
    #[must_use]
    pub fn render(&self) -> String {
        let Note {
            object_sha256,
            inputs_sha256,
            rustc,
            bpf_linker,
            bpf_linker_llvm,
        } = self;
        format!(
            "{HEAD}object_sha256 = \"{object_sha256}\"\n\
             inputs_sha256 = \"{inputs_sha256}\"\n\
             rustc = \"{rustc}\"\n\
             bpf_linker = \"{bpf_linker}\"\n\
             bpf_linker_llvm = \"{bpf_linker_llvm}\"\n"
        )
    }

    /// Reads what [`Note::render`] wrote.
    ///
    /// # Errors
    /// A line is not `key = "value"`, or a key is missing.
    pub fn parse(text: &str) -> Result<Note> {
        let mut pairs = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let Some((key, value)) = line
                .split_once(" = ")
                .and_then(|(key, value)| Some((key, value.strip_prefix('"')?.strip_suffix('"')?)))
            else {
                bail!("not of the form key = \"value\": {line:?}");
            };
            pairs.push((key, value));
        }
        let get = |wanted: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == wanted)
                .map(|(_, value)| (*value).to_owned())
                .with_context(|| format!("the key {wanted} is missing"))
        };
        Ok(Note {
            object_sha256: get("object_sha256")?,
            inputs_sha256: get("inputs_sha256")?,
            rustc: get("rustc")?,
            bpf_linker: get("bpf_linker")?,
            bpf_linker_llvm: get("bpf_linker_llvm")?,
        })
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
        assert_eq!(Note::parse(&note.render()).unwrap(), note);
    }

    #[test]
    fn broken_notes_are_errors() {
        assert!(Note::parse("rustc = 1").is_err());
        assert!(
            Note::parse("")
                .unwrap_err()
                .to_string()
                .contains("object_sha256")
        );
    }
}
