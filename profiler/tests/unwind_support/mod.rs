//! What the unwinding tests share: the images of this process and of the system.

#![allow(dead_code, unreachable_pub, missing_docs)]

use holdup::process::module::Module;
use holdup::units::Addr;
use holdup::unwind::{Mapped, Reference, Regs, RemoteMemory, Sections, Tables, UnwindTable};
use memmap2::Mmap;
use profiler_common::walk::Memory;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn map_file(path: &Path) -> Mmap {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // SAFETY: system libraries and this test's binary are not written to while the test runs.
    unsafe { Mmap::map(&file) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An executable mapping of a process and the image behind it.
pub struct Loaded {
    pub path: String,
    pub begin: u64,
    pub end: u64,
    pub offset: u64,
    pub image: Vec<u8>,
}

/// The executable mappings of `pid` that have an image: files and the vDSO.
pub fn loaded(pid: u32) -> Vec<Loaded> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let path = *fields.get(5)?;
            if !fields[1].contains('x') {
                return None;
            }
            let (begin, end) = fields[0].split_once('-').unwrap();
            let begin = u64::from_str_radix(begin, 16).unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            let image = if path == "[vdso]" {
                let mut image = vec![0; (end - begin) as usize];
                let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
                memory.read_exact_at(&mut image, begin).unwrap();
                image
            } else if path.starts_with('/') {
                std::fs::read(path).unwrap()
            } else {
                return None;
            };
            Some(Loaded {
                path: path.to_owned(),
                begin,
                end,
                offset: u64::from_str_radix(fields[2], 16).unwrap(),
                image,
            })
        })
        .collect()
}

pub fn tables(modules: &[Loaded]) -> Tables {
    Tables::new(
        modules
            .iter()
            .map(|m| Mapped {
                range: Addr(m.begin)..Addr(m.end),
                bias: Module::from_elf(&m.image)
                    .unwrap()
                    .bias_for(Addr(m.begin), m.offset)
                    .unwrap_or_else(|| panic!("no bias for {}", m.path)),
                table: Arc::new(UnwindTable::from_elf(&m.image).unwrap()),
            })
            .collect(),
    )
}

/// The libraries that every stack goes through, this test itself, and cargo.
pub fn images() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = loaded(std::process::id())
        .into_iter()
        .filter(|m| m.path.starts_with('/'))
        .map(|m| PathBuf::from(m.path))
        .collect();
    for name in [
        "libc.so.6",
        "libm.so.6",
        "ld-linux-x86-64.so.2",
        "libgcc_s.so.1",
    ] {
        paths.push(Path::new("/lib/x86_64-linux-gnu").join(name));
    }
    if let Some(cargo) = option_env!("CARGO") {
        paths.push(cargo.into());
    }
    let mut paths: Vec<PathBuf> = paths.iter().filter_map(|p| p.canonicalize().ok()).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The vDSO of this process.
pub fn vdso() -> Vec<u8> {
    loaded(std::process::id())
        .into_iter()
        .find(|m| m.path == "[vdso]")
        .expect("this kernel maps no vDSO")
        .image
}

/// framehop, made ready for the mappings of one process: the second opinion.
pub struct Framehop(Reference);

impl Framehop {
    pub fn new(modules: &[Loaded]) -> Framehop {
        let mut reference = Reference::new();
        for module in modules {
            let bias = Module::from_elf(&module.image)
                .unwrap()
                .bias_for(Addr(module.begin), module.offset)
                .unwrap();
            let range = Addr(module.begin)..Addr(module.end);
            let sections = Sections::of(&module.image).unwrap();
            reference.add(module.path.clone(), range, bias, sections);
        }
        Framehop(reference)
    }

    /// The frames that framehop sees, and what it thought of the end.
    pub fn walk(
        &self,
        regs: Regs,
        memory: &mut RemoteMemory,
    ) -> (Vec<Addr>, Result<(), framehop::Error>) {
        self.0.walk(regs, |addr| memory.read_u64_uncached(addr))
    }
}
