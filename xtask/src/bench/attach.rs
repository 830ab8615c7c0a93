//! How long it takes from the start of holdup until it records a process with a large binary.

use super::programs;
use super::recorder::Recorder;
use super::spread::Spread;
use super::{Bench, say};
use anyhow::{Context as _, Result};
use object::elf::{PF_X, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct AttachTime {
    /// The file whose code is mapped into the target, beside its own.
    library: String,
    library_bytes: u64,
    /// From the start until it says that it records.
    seconds: Spread,
}

/// Records an idle tokio program into which the compiler's largest library is mapped as the loader
/// would map it. The file is in the page cache: reading it from a disk takes what the disk takes.
pub(super) fn measure(bench: &Bench, rounds: u16) -> Result<AttachTime> {
    say("from the start to recording");
    let library = library()?;
    let bytes = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
    let (offset, len) = code(&bytes)
        .with_context(|| format!("{} has no code that could be mapped", library.display()))?;
    let (offset, len) = (offset.to_string(), len.to_string());
    let path = library.to_str().context("a path that is no text")?;
    let args = ["idle", "--map", path, "--offset", &offset, "--length", &len];
    let target = programs::start_with(bench, &args)?;
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let recorder = Recorder::holdup(bench, target.id())?;
        seconds.push(recorder.ready_after.as_secs_f64());
        recorder.stop()?;
    }
    let name = library.file_name().unwrap_or_default();
    Ok(AttachTime {
        library: name.to_string_lossy().into_owned(),
        library_bytes: bytes.len() as u64,
        seconds: Spread::of(&seconds),
    })
}

/// The library of rustc: every toolchain has it, and it has a million rows.
fn library() -> Result<PathBuf> {
    let sysroot = crate::process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let lib = Path::new(sysroot.trim()).join("lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("librustc_driver-") && name.ends_with(".so")
        })
        .with_context(|| format!("there is no librustc_driver in {}", lib.display()))
}

/// Where in the file its executable segment is: offset and length.
fn code(bytes: &[u8]) -> Result<(u64, u64)> {
    let header = object::elf::FileHeader64::<object::LittleEndian>::parse(bytes)?;
    let endian = header.endian()?;
    header
        .program_headers(endian, bytes)?
        .iter()
        .find(|segment| segment.p_type(endian) == PT_LOAD && segment.p_flags(endian).contains(PF_X))
        .map(|segment| segment.file_range(endian))
        .context("no executable segment")
}

impl AttachTime {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mib = self.library_bytes >> 20;
        Spread::write_head(out, "start")?;
        let name = format!("s to recording, {mib} MiB mapped");
        self.seconds.write(out, &name, 3)
    }
}
