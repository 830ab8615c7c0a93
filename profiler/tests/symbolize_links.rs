//! Debug files that a binary names: nothing is opened on its word.

use holdup::symbolize::{FrameRef, ModuleSource, Symbolizer};
use holdup::units::{Addr, Svma};
use rustix::fs::{CWD, FileType, Mode};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Prints the address of a function in its own file.
const PROGRAM: &str = r#"
unsafe extern "C" { static __ehdr_start: u8; }
#[inline(never)]
fn wanted() -> usize { std::hint::black_box(wanted as fn() -> usize as usize) }
fn main() { println!("{}", wanted() - &raw const __ehdr_start as usize) }
"#;

struct Built {
    dir: tempfile::TempDir,
    path: PathBuf,
    wanted: Svma,
}

/// Compiles [`PROGRAM`] with line tables, and `section` of these bytes.
fn build(section: Option<(&str, &[u8])>) -> Built {
    let dir = tempfile::tempdir().expect("dir");
    let source = dir.path().join("main.rs");
    let named = section.map(|(name, bytes)| {
        let len = bytes.len();
        format!("#[used] #[unsafe(link_section = {name:?})] static NAMED: [u8; {len}] = {bytes:?};")
    });
    std::fs::write(&source, format!("{PROGRAM}\n{}", named.unwrap_or_default())).expect("writes");
    let path = dir.path().join("program");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-name=program",
            "-Cdebuginfo=1",
            "-o",
        ])
        .args([&path, &source])
        .output()
        .expect("rustc runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&path).output().expect("it runs");
    let wanted = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a number");
    Built {
        dir,
        path,
        wanted: Svma(wanted),
    }
}

/// A debug link: the name, zeros up to a multiple of four, the checksum.
fn debug_link(name: &Path, checksum: u32) -> Vec<u8> {
    let mut section = name.as_os_str().as_encoded_bytes().to_vec();
    section.push(0);
    section.resize(section.len().next_multiple_of(4), 0);
    section.extend(checksum.to_le_bytes());
    section
}

/// Names an address, or gives up waiting for that.
fn frames(path: &Path, svma: Svma) -> Vec<FrameRef> {
    let module = ModuleSource {
        name: "program".into(),
        path: path.to_owned(),
        build_id: None,
        image: None,
        in_place: None,
        may_hold_tokio: false,
        functions: Arc::new([]),
    };
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut out = Vec::new();
        Symbolizer::new().user(Some(&module), svma, Addr(svma.0), &mut out);
        let _ = send.send(out);
    });
    receive
        .recv_timeout(Duration::from_secs(60))
        .expect("it does not hang")
}

fn has_line(frames: &[FrameRef]) -> bool {
    frames.iter().any(|frame| frame.line.is_some())
}

fn is_named(frames: &[FrameRef]) -> bool {
    frames.iter().any(|frame| frame.function.contains("wanted"))
}

#[test]
fn a_link_to_a_pipe_or_anything_else_is_not_opened() {
    let plain = build(None);
    assert!(
        has_line(&frames(&plain.path, plain.wanted)),
        "or the others prove nothing"
    );

    // Opened for reading, it would block for as long as nobody writes.
    let pipes = tempfile::tempdir().expect("dir");
    let pipe = pipes.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let mut supplement = pipe.as_os_str().as_encoded_bytes().to_vec();
    supplement.extend([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (section, bytes) in [
        (".gnu_debuglink", debug_link(&pipe, 0)),
        (
            ".gnu_debuglink",
            debug_link(Path::new("../../../../../dev/zero"), 0),
        ),
        (".gnu_debugaltlink", supplement),
    ] {
        let built = build(Some((section, &bytes)));
        assert!(is_named(&frames(&built.path, built.wanted)), "{section}");
    }
    // Beside it, under the very name.
    let built = build(Some((".gnu_debuglink", &debug_link(Path::new("pipe"), 0))));
    let beside = built.dir.path().join("pipe");
    rustix::fs::mknodat(CWD, &beside, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    assert!(is_named(&frames(&built.path, built.wanted)));
}

/// Made with binutils, as packagers do it.
fn objcopy(args: &[&std::ffi::OsStr]) -> bool {
    Command::new("objcopy")
        .args(args)
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_debug_file_that_a_link_names_is_not_opened() {
    let built = build(None);
    let (program, debug) = (&built.path, built.dir.path().join("program.debug"));
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    let keep = [
        "--only-keep-debug".as_ref(),
        program.as_ref(),
        debug.as_ref(),
    ];
    let made = objcopy(&keep)
        && objcopy(&["--strip-all".as_ref(), program.as_ref()])
        && objcopy(&[&link, program.as_ref()]);
    assert!(
        made,
        "objcopy, of the package binutils, which the linker is in too"
    );
    let got = frames(&debug, built.wanted);
    assert!(has_line(&got), "it is worth opening: {got:?}");
    let got = frames(program, built.wanted);
    assert!(!is_named(&got) && !has_line(&got), "{got:?}");
}
