//! Files whose names and lines cost whoever reads them more than they are worth: reading them
//! ends in time, takes no memory to speak of, and is told.

mod hostile_support;

use holdup::symbolize::{FrameRef, ModuleSource, Naming, Symbolizer};
use holdup::units::{Addr, Svma};
use hostile_support::{
    COMPRESSED, bomb, compression_headers, line_program, nested_inlining, shared_object,
    slow_line_program, symbol,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// For reading debug information.
const MEMORY: u64 = 64 * MIB;

fn source(path: &Path) -> ModuleSource {
    ModuleSource {
        name: path.file_name().expect("a name").to_string_lossy().into(),
        path: path.to_owned(),
        build_id: None,
        image: None,
        in_place: None,
        may_hold_tokio: false,
        functions: Arc::default(),
    }
}

fn frame(symbolizer: &mut Symbolizer, path: &Path, svma: u64) -> FrameRef {
    let mut frames = Vec::new();
    symbolizer.user(Some(&source(path)), Svma(svma), Addr(svma), &mut frames);
    frames.pop().expect("a frame")
}

/// The most memory that this process, or any that it made, ever had.
fn peak() -> u64 {
    let of = |who| {
        // SAFETY: zeros are valid, and it outlives the call.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { libc::getrusage(who, &raw mut usage) };
        usage.ru_maxrss.cast_unsigned() * 1024
    };
    of(libc::RUSAGE_SELF).max(of(libc::RUSAGE_CHILDREN))
}

fn wanted(path: &Path, symbolizer: &mut Symbolizer) -> FrameRef {
    frame(symbolizer, path, symbol(path, "wanted") + 4)
}

#[test]
fn a_line_program_is_read_unless_it_takes_too_much_memory() {
    let dir = tempfile::tempdir().expect("dir");
    let build = |name: &str, rows| shared_object(dir.path(), name, &line_program(rows), "s", &[]);
    let (small, large) = (build("small", 100), build("large", 48 * MIB));
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let good = wanted(&small, &mut symbolizer);
    assert_eq!(
        (&*good.function, good.line),
        ("wanted", Some(2)),
        "{good:?}"
    );
    assert_eq!(symbolizer.left_out().lines, 0);

    let begun = Instant::now();
    let bad = wanted(&large, &mut symbolizer);
    assert_eq!((&*bad.function, bad.line), ("wanted", None), "{bad:?}");
    assert_eq!(bad.naming, Naming::Symbol);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let left_out = symbolizer.left_out();
    assert_eq!((left_out.lines, left_out.names), (1, 0), "{left_out:?}");
    assert!(
        left_out.problems[0].starts_with("large.so: "),
        "{left_out:?}"
    );
    // One who takes too much costs nobody else his lines.
    let again = frame(&mut symbolizer, &small, symbol(&small, "wanted") + 8);
    assert_eq!(again.line, Some(2), "{again:?}");
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

#[test]
fn lines_that_take_too_long_cost_the_lines_only() {
    let dir = tempfile::tempdir().expect("dir");
    let program = slow_line_program(64, 64 * MIB);
    let slow = shared_object(dir.path(), "slow", &program, "s", &[]);
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let begin = symbol(&slow, "wanted");
    for svma in begin..begin + 64 {
        let frame = frame(&mut symbolizer, &slow, svma);
        assert_eq!(
            (&*frame.function, frame.naming),
            ("wanted", Naming::Symbol),
            "{:?}",
            symbolizer.left_out()
        );
    }
    let left_out = symbolizer.left_out();
    assert_eq!((left_out.lines, left_out.names), (1, 0), "{left_out:?}");
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

/// Nobody writes to the one, and the other never ends.
#[test]
fn fifos_and_devices_are_not_read() {
    let dir = tempfile::tempdir().expect("dir");
    let fifo = dir.path().join("fifo");
    let rights = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rights).expect("a FIFO");
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let begun = Instant::now();
    for path in [&*fifo, Path::new("/dev/zero"), Path::new("/dev/tty")] {
        let frame = frame(&mut symbolizer, path, 0x1000);
        assert_ne!(frame.naming, Naming::Symbol, "{frame:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn inlining_without_end_costs_the_lines_only() {
    let dir = tempfile::tempdir().expect("dir");
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let begun = Instant::now();
    for (name, depth) in [("shallow", 3), ("deep", 1 << 20)] {
        let path = shared_object(dir.path(), name, &nested_inlining(depth), "s", &[]);
        let svma = symbol(&path, "wanted") + 4;
        let mut frames = Vec::new();
        symbolizer.user(Some(&source(&path)), Svma(svma), Addr(svma), &mut frames);
        let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
        match depth {
            3 => assert_eq!(names, ["wanted"; 4], "{:?}", symbolizer.left_out()),
            _ => assert!((1..=257).contains(&names.len()), "{}", names.len()),
        }
        assert!(names.iter().all(|name| *name == "wanted"));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

#[test]
fn what_is_unpacked_counts_over_all_files() {
    let dir = tempfile::tempdir().expect("dir");
    let files: Vec<PathBuf> = (0..4)
        .map(|n| {
            let program = line_program(40 * MIB);
            shared_object(
                dir.path(),
                &format!("packed{n}"),
                &program,
                "s",
                &[COMPRESSED],
            )
        })
        .collect();
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    for path in &files {
        assert!(
            path.metadata().expect("there").len() < MIB,
            "it is packed well"
        );
        let frame = wanted(path, &mut symbolizer);
        assert_eq!(
            (&*frame.function, frame.line),
            ("wanted", None),
            "{frame:?}"
        );
    }
    assert_eq!(symbolizer.left_out().lines, 4);
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
    let small = line_program(100);
    let small = shared_object(dir.path(), "small", &small, "s", &[COMPRESSED]);
    assert_eq!(wanted(&small, &mut symbolizer).line, Some(2));
}

#[test]
fn what_claims_little_and_unpacks_to_much_is_not_unpacked_to_the_end() {
    let dir = tempfile::tempdir().expect("dir");
    let program = line_program(192 * MIB);
    let path = shared_object(dir.path(), "liar", &program, "s", &[COMPRESSED]);
    let mut image = std::fs::read(&path).expect("reads");
    let claims = compression_headers(&image).into_iter().map(|at| at + 8);
    let long = |at: &usize| image[at + 3] > 0;
    let long: Vec<usize> = claims.filter(long).collect();
    assert_eq!(long.len(), 1, "more than 16 MiB");
    image[long[0]..long[0] + 8].copy_from_slice(&3_u64.to_le_bytes());
    std::fs::write(&path, image).expect("writes");
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let frame = wanted(&path, &mut symbolizer);
    assert_eq!((&*frame.function, frame.line), ("wanted", None));
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

#[test]
fn many_files_with_lines_share_the_memory() {
    let dir = tempfile::tempdir().expect("dir");
    // Of 12 MiB each, and of some more while they are made: together they do not fit.
    let files: Vec<PathBuf> = (0..6)
        .map(|n| {
            shared_object(
                dir.path(),
                &format!("m{n}"),
                &line_program(MIB / 2),
                "s",
                &[],
            )
        })
        .collect();
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    for round in 0..2 {
        for path in &files {
            let frame = frame(&mut symbolizer, path, symbol(path, "wanted") + 4 + round);
            assert_eq!(frame.line, Some(2), "{frame:?} {:?}", symbolizer.left_out());
        }
    }
    assert_eq!(symbolizer.left_out().lines, 0);
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

#[test]
fn names_that_grow_without_end_are_cut() {
    let dir = tempfile::tempdir().expect("dir");
    let long = "x".repeat(1 << 20);
    let names: Vec<String> = (0..8).map(bomb).chain([long]).collect();
    let functions: String = names
        .iter()
        .map(|name| {
            format!(".globl {name}\n.type {name}, @function\n{name}:\n.fill 16, 1, 0x90\n.size {name}, 16\n")
        })
        .collect();
    let path = shared_object(
        dir.path(),
        "names",
        &format!(".text\n{functions}"),
        "s",
        &[],
    );
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    let begun = Instant::now();
    for name in &names {
        let frame = frame(&mut symbolizer, &path, symbol(&path, name) + 4);
        assert_eq!(frame.naming, Naming::Symbol);
        assert!(
            (1000..=16 << 10).contains(&frame.function.len()),
            "{}",
            frame.function.len()
        );
        assert!(frame.function.ends_with('…'));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(peak() < 400 * MIB, "{} MiB", peak() / MIB);
}

/// Whoever makes a file chooses its build ID. Names by it would let one program put words into the
/// stacks of another.
#[test]
fn files_of_one_build_id_have_names_of_their_own() {
    let dir = tempfile::tempdir().expect("dir");
    let build = |name: &str| {
        let code = format!(
            ".text\n.globl {name}\n.type {name}, @function\n{name}:\n.fill 16, 1, 0x90\n.size {name}, 16\n"
        );
        let path = shared_object(
            dir.path(),
            name,
            &code,
            "s",
            &["-Wl,--build-id=0x0123456789"],
        );
        let svma = symbol(&path, name) + 4;
        (
            ModuleSource {
                build_id: Some("0123456789".into()),
                ..source(&path)
            },
            svma,
        )
    };
    let mut symbolizer = Symbolizer::with_debug_memory(MEMORY);
    for name in ["forged", "honest"] {
        let (source, svma) = build(name);
        let mut frames = Vec::new();
        symbolizer.user(Some(&source), Svma(svma), Addr(svma), &mut frames);
        assert_eq!(&*frames[0].function, name);
    }
}
