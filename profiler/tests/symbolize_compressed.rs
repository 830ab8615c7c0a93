//! Compressed debug information: read where it is what it claims to be, and left alone where it
//! would take all memory.

mod hostile_support;

use holdup::symbolize::{FrameRef, ModuleSource, Naming, Symbolizer};
use holdup::units::{Addr, Svma};
use hostile_support::compression_headers;
use object::{Object, ObjectSymbol};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = "fn main() {}\n#[unsafe(no_mangle)]\npub fn wanted() {\n    println!();\n}\n";

/// Bytes of an executable with compressed debug information.
fn build(dir: &Path) -> Vec<u8> {
    let (source, path) = (dir.join("main.rs"), dir.join("program"));
    std::fs::write(&source, PROGRAM).expect("writes");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "-Cdebuginfo=1", "-Clink-dead-code"])
        .args(["-Clink-arg=-Wl,--compress-debug-sections=zlib", "-o"])
        .args([&path, &source])
        .output()
        .expect("rustc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    std::fs::read(path).expect("the program")
}

fn frame(dir: &Path, image: &[u8]) -> FrameRef {
    let elf = object::File::parse(image).expect("an ELF file");
    let symbol = elf.symbol_by_name("wanted").expect("the function");
    let path = dir.join("changed");
    std::fs::write(&path, image).expect("writes");
    let module = ModuleSource {
        name: "changed".into(),
        path,
        build_id: None,
        image: None,
        in_place: None,
        may_hold_tokio: false,
        functions: Arc::default(),
    };
    let mut frames = Vec::new();
    let svma = Svma(symbol.address() + 4);
    Symbolizer::new().user(Some(&module), svma, Addr(svma.0), &mut frames);
    frames.pop().expect("a frame")
}

#[test]
fn what_claims_too_much_is_not_unpacked_and_costs_the_lines_only() {
    let dir = tempfile::tempdir().expect("dir");
    let image = build(dir.path());
    let headers = compression_headers(&image);
    assert!(headers.len() > 2, "{headers:?}");
    let honest = frame(dir.path(), &image);
    assert_eq!(&*honest.function, "wanted");
    assert!(honest.line.is_some(), "{honest:?}");
    for claim in [1_u64 << 45, u64::MAX, 1 << 30, 3] {
        let mut image = image.clone();
        for at in &headers {
            image[at + 8..at + 16].copy_from_slice(&claim.to_le_bytes());
        }
        let frame = frame(dir.path(), &image);
        assert_eq!(frame.naming, Naming::Symbol, "{claim:#x}");
        assert_eq!(&*frame.function, "wanted");
        // Of what claims too little, optimized builds of the reader read all that there is.
        assert!(frame.line.is_none() || claim == 3, "{claim:#x}: {frame:?}");
    }
}
