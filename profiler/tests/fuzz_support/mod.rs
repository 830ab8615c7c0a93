//! What is done with hostile bytes: one function a target, for the fuzzer (`fuzz/`) and for the
//! stable test that runs its corpus (`fuzz_corpus.rs`) alike.
//!
//! A target must end soon, in little memory and without a panic, whatever it is given; what it
//! makes of the bytes must be consistent.

#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod image;

use holdup::analyze::Analyzer;
use holdup::capture::{Capture, Range};
use holdup::decode::{Event, RawObject, StackSeen, Waker, decode};
use holdup::host::KernelBtf;
use holdup::process::module::{Functions, Module};
use holdup::process::{Budget, PrivateCopy, parse_comm, parse_maps};
use holdup::render::{Format, Options, render};
use holdup::runtime::tokio::TokioImage;
use holdup::symbolize::{
    Crates, ModuleSource, PerfMap, Symbolizer, dependency_crates, origin, readable, symbol_name,
};
use holdup::units::{Addr, Svma};
use holdup::unwind::{Regs, UnwindTable, walk, walk_outcome};
use profiler_common::record::{COMM_LEN, MAX_OBJECT_TEXT, RAW_PIECE_BYTES};
use profiler_common::row::{self, BLOCK_SHIFT};
use profiler_common::stack::{MAX_KERNEL_FRAMES, MAX_USER_FRAMES};
use profiler_common::walk::Memory;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};

/// Something that reads hostile bytes.
pub struct Target {
    /// Its program under `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Its folders under `fuzz/seeds`; its own first.
    pub seeds: &'static [&'static str],
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "elf",
        seeds: &["elf"],
        run: elf,
    },
    Target {
        name: "eh_frame",
        seeds: &["eh_frame"],
        run: eh_frame,
    },
    Target {
        name: "btf",
        seeds: &["btf"],
        run: btf,
    },
    Target {
        name: "events",
        seeds: &["events"],
        run: events,
    },
    Target {
        name: "maps",
        seeds: &["maps"],
        run: maps,
    },
    Target {
        name: "perf_map",
        seeds: &["perf_map"],
        run: perf_map,
    },
    Target {
        name: "crates",
        seeds: &["crates"],
        run: crates,
    },
    Target {
        name: "names",
        seeds: &["names"],
        run: names,
    },
    Target {
        name: "copy",
        seeds: &["copy", "elf", "symbols"],
        run: copy,
    },
    Target {
        name: "texts",
        seeds: &["texts", "maps"],
        run: texts,
    },
    Target {
        name: "capture",
        seeds: &["capture"],
        run: capture,
    },
    Target {
        name: "symbols",
        seeds: &["symbols", "elf"],
        run: symbols,
    },
];

/// A file that the target has mapped executable.
pub fn elf(data: &[u8]) {
    let functions = Functions::from_elf(data);
    if let Ok(functions) = &functions {
        assert!(functions.ranges.is_sorted());
        assert!(functions.ranges.len() <= data.len());
        for &(start, len) in functions.ranges.iter().take(64) {
            let begin = Svma(functions.base.0 + u64::from(start));
            let found = functions.containing(begin);
            assert!(len > 0 && found.is_some_and(|found| found.start == begin));
        }
        let _ = functions.containing(Svma(u64::MAX));
    }
    let module = Module::from_elf(data);
    assert_eq!(module.is_ok(), functions.is_ok());
    if let Ok(module) = &module {
        for offset in [0, 0x1000, 0x7fff_f000, u64::MAX - 0xfff, u64::MAX] {
            for begin in [0, 0x7f00_0000_0000, u64::MAX - 0xfff] {
                let bias = module.bias_for(Addr(begin), offset);
                assert!(bias.is_none_or(|bias| bias % 4096 == 0));
            }
        }
    }
    if let Ok(tokio) = TokioImage::from_elf(data) {
        assert!(tokio.versions.len() <= 16);
        assert!(tokio.contexts.found.len() <= 16);
    }
    if let Ok(table) = UnwindTable::from_elf(data) {
        check_table(&table, data.len());
    }
}

/// Unwinding information in a good image. The first byte says where it stands.
pub fn eh_frame(data: &[u8]) {
    let Some((&place, content)) = data.split_first() else {
        return;
    };
    let image = image::with_frames(place, content);
    let table = UnwindTable::from_elf(&image).expect("the image itself is good");
    check_table(&table, image.len());
    let functions = Functions::from_elf(&image).expect("the image itself is good");
    assert!(functions.ranges.len() <= content.len());
    // Stacks whose words are made of the input, so that they lead everywhere in the code.
    for start in 0..8 {
        let regs = Regs {
            ip: Addr(image::TEXT + 512 * start + 3),
            sp: Addr(0x7fff_0000_0000),
            bp: Addr(0x7fff_0000_0100),
        };
        let mut frames = Vec::new();
        let mut stack = Stack { words: content };
        let lookup = |pc: Addr| Some(table.rule(Svma(pc.0)));
        let _ = walk_outcome(walk(regs, lookup, &mut stack, &mut frames));
        assert!((1..=MAX_USER_FRAMES + 1).contains(&frames.len()));
    }
}

struct Stack<'a> {
    words: &'a [u8],
}

impl Memory for Stack<'_> {
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        let at = usize::try_from(addr % 4093).ok()? % self.words.len().max(1);
        let word = self.words.get(at).copied()?;
        Some(image::TEXT + 16 * u64::from(word))
    }
}

/// What every table must be, so that the kernel side finds in it what it looks for.
fn check_table(table: &UnwindTable, len: usize) {
    assert!(table.rows.len() <= len + 2, "more rows than bytes");
    assert!(table.index.len() <= len / 4 + 2, "a large index");
    assert!(
        table
            .rows
            .is_sorted_by(|a, b| row::pc_rel(*a) < row::pc_rel(*b))
    );
    assert!(table.rows.first().is_none_or(|row| row::pc_rel(*row) == 0));
    assert!(table.index.is_sorted());
    assert_eq!(table.index.last(), Some(&(table.rows.len() as u64)));
    let covered = (table.index.len() as u64 - 1) << BLOCK_SHIFT;
    for row in table.rows.iter().take(1024) {
        let rel = u64::from(row::pc_rel(*row));
        if rel < covered {
            let rule = table.rule(Svma(table.base.0.wrapping_add(rel)));
            assert_eq!(rule, row::rule(*row), "at {rel:#x}");
        }
    }
    for at in [0, table.base.0.wrapping_sub(1), u64::MAX] {
        let _ = table.rule(Svma(at));
    }
}

/// `/sys/kernel/btf/vmlinux`, and what is asked of it.
pub fn btf(data: &[u8]) {
    let Ok(btf) = KernelBtf::parse(data.to_vec()) else {
        return;
    };
    for (strukt, member) in [
        ("task_struct", "pid"),
        ("task_struct", "se.exec_start"),
        ("outer", "a"),
        ("outer", "b"),
        ("outer", "d"),
        ("outer", "e.x"),
        ("knot", "nothing"),
        ("", ""),
    ] {
        let _ = btf.member_offset(strukt, member);
    }
    let _ = btf.has_enum_value("small", "VALUE");
    let _ = btf.has_enum_value("wide", "WIDE");
    let _ = btf.has_enum_value("bpf_func_id", "BPF_FUNC_loop");
    let _ = btf.tracepoint_args("hit");
    let _ = btf.tracepoint_args("sched_switch");
}

/// A record of the ring buffer.
pub fn events(data: &[u8]) {
    match decode(data) {
        Ok(Event::Stack(seen)) => stack(&seen),
        Ok(Event::Sample(seen)) => stack(&seen.stack),
        Ok(Event::Wait(wait)) => {
            if let Waker::Thread { name, .. } = wait.waker {
                drop(name.to_string());
            }
        }
        Ok(Event::ThreadEnd(end)) => drop(end.name.to_string()),
        Ok(Event::Snapshot(snapshot)) => drop(snapshot.name.to_string()),
        Ok(Event::ChildExec(child)) => drop(child.name.to_string()),
        Ok(Event::Object(seen)) => match seen.object {
            RawObject::File { parts: text, .. } | RawObject::Path(text) => {
                assert!(text.len() <= MAX_OBJECT_TEXT);
            }
            RawObject::Socket(socket) => assert!(socket.path.len() <= MAX_OBJECT_TEXT),
            _ => {}
        },
        Ok(
            Event::Exec(_)
            | Event::Fork(_)
            | Event::Call(_)
            | Event::Panic(_)
            | Event::DriverGap(_),
        ) => {}
        Ok(Event::RawStack(piece) | Event::UnmappedStack(piece)) => {
            assert!(piece.memory.len() <= RAW_PIECE_BYTES);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn stack(seen: &StackSeen) {
    assert!(seen.user.len() <= MAX_USER_FRAMES + 1);
    assert!(seen.kernel.len() <= MAX_KERNEL_FRAMES);
    assert!(seen.name.to_string().len() <= 3 * COMM_LEN);
}

/// `/proc/PID/maps`, whose paths the target chooses, and a thread's name.
pub fn maps(data: &[u8]) {
    for mapping in parse_maps(data) {
        assert!(!mapping.is_empty());
        assert!(mapping.path.len() <= data.len());
        let _ = mapping.file_name();
    }
    let _ = parse_comm(data);
}

/// `perf-PID.map`, in which a process writes down the names of code that it made.
pub fn perf_map(data: &[u8]) {
    let map = PerfMap::parse(data);
    let lines = data.split(|byte| *byte == b'\n').take(256);
    let begins = lines.filter_map(|line| {
        let digits = line.split(|byte| *byte == b' ').next()?;
        let digits = std::str::from_utf8(digits).ok()?;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    });
    let around = |at: u64| [at.wrapping_sub(1), at, at.wrapping_add(1)];
    for at in begins.flat_map(around).chain([0, u64::MAX]) {
        let Some(name) = map.name(Addr(at)) else {
            continue;
        };
        assert!(!map.is_empty() && !name.is_empty(), "{at:#x}: {name:?}");
        // A byte that is no text is shown as one of three, and no name has a line's end.
        assert!(name.len() <= 3 * 256 && !name.contains('\n'), "{name:?}");
        assert!(name.len() <= 3 * data.len());
    }
}

/// The read-only data of the target's executable.
pub fn crates(data: &[u8]) {
    let found = dependency_crates(data);
    for name in &found {
        assert!(!name.is_empty() && !name.contains('-'), "{name:?}");
    }
    let of_binary = Crates::of_binary(&String::from_utf8_lossy(data), data);
    let _ = origin("app::f", None, &of_binary);
}

/// A symbol of the target's.
pub fn names(data: &[u8]) {
    let symbol = String::from_utf8_lossy(data);
    let none = Crates::of_binary("app", &[]);
    let name = symbol_name(&symbol);
    for full in [&*symbol, &name] {
        let shown = readable(full);
        // Only what the deepest types are shown as is longer than they are: `…` for one byte.
        assert!(shown.len() <= 3 * full.len() + 16, "{full:?}: {shown:?}");
        let _ = origin(full, None, &none);
        let _ = origin("", Some(full), &none);
    }
}

/// A file of the target's, as the reader of symbols and debug information gets it.
///
/// The library behind may panic: that is caught where it is called, and counts as "no name".
pub fn symbols(data: &[u8]) {
    tolerate_caught_panics();
    let functions = Functions::from_elf(data).unwrap_or_default();
    let source = ModuleSource {
        name: "hostile".into(),
        path: PathBuf::from("hostile"),
        build_id: None,
        image: Some(data.into()),
        in_place: None,
        may_hold_tokio: false,
        functions: [].into(),
    };
    let mut symbolizer = Symbolizer::new();
    symbolizer.open(&source);
    let mut frames = Vec::new();
    let starts = functions.ranges.iter().take(4).map(|range| range.0.into());
    for rel in starts.chain([0, 4, 0x1234]) {
        let svma = Svma(functions.base.0.wrapping_add(rel));
        symbolizer.user(Some(&source), svma, Addr(0x7f00_0000_0000), &mut frames);
    }
    assert!(frames.len() >= 3);
    assert!(frames.iter().all(|frame| !frame.function.is_empty()));
}

/// A file of the target's, while it is copied: what was not copied cannot be read, and what was is
/// as it was.
pub fn copy(data: &[u8]) {
    static FILE: Mutex<Option<File>> = Mutex::new(None);
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = file.get_or_insert_with(|| tempfile::tempfile().expect("a file"));
    file.set_len(0).expect("it is short");
    file.write_all_at(data, 0).expect("it is written");
    let Ok(copy) = PrivateCopy::of(file, &Budget::new(1 << 20, 1 << 19)) else {
        return;
    };
    assert!(copy.bytes().len() <= data.len());
    let rows = UnwindTable::from_elf(copy.bytes()).map(|table| table.rows);
    let functions = Functions::from_elf(copy.bytes());
    assert!(Module::from_elf(copy.bytes()).is_ok() || functions.is_err());
    let copied = copy.into_file();
    let mut again = vec![0; data.len()];
    let read = copied.read_at(&mut again, 0).expect("it is read");
    again.truncate(read);
    assert_eq!(
        UnwindTable::from_elf(&again).map(|table| table.rows).ok(),
        rows.ok()
    );
}

/// A file that somebody hands over as a capture: all that `holdup report` does with it.
pub fn capture(data: &[u8]) {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(data, 0).expect("it is written");
    let Ok(capture) = Capture::open(file) else {
        return;
    };
    let mut analyzer = Analyzer::new(&capture.header);
    analyzer.keep(Format::Ndjson.keep());
    // What was read before an error is summed up, too.
    let _ = capture.intervals(Range::ALL, |interval| {
        analyzer.add(&capture.tables, interval)
    });
    let report = analyzer.report(&capture.header, &capture.tables);
    for format in [Format::Text, Format::Json, Format::Ndjson] {
        render(format, &report, &Options::default(), &mut std::io::sink()).expect("it is drawn");
    }
}

/// A text of `/proc` about the target.
pub fn texts(data: &[u8]) {
    holdup::process::texts::read_every(data);
}

/// Keeps the panic hook, which under the fuzzer ends the process, from being called for panics in
/// libraries; those that nobody catches still end the target.
fn tolerate_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let inner = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let library = info
                .location()
                .is_some_and(|at| at.file().contains("/registry/src/"));
            if !library {
                inner(info);
            }
        }));
    });
}
