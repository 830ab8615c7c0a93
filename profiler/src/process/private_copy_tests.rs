use super::*;
use crate::process::module::{Elf, Functions, Module};
use crate::symbolize::{FrameRef, ModuleSource, Symbolizer};
use crate::units::{Addr, Svma};
use crate::unwind::{Effort, UnwindTable};
use object::{Object, ObjectSection};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

const PLENTY: u64 = 4 << 30;

/// More than the names and tables of this test's program take, and less than its debug information.
const LITTLE: u64 = 48 << 20;

fn plenty() -> Budget {
    Budget::new(PLENTY, PLENTY)
}

/// This test's own program, which has all sections that there are, and libc, which is stripped.
fn originals() -> Vec<File> {
    ["/proc/self/exe", "/lib/x86_64-linux-gnu/libc.so.6"]
        .map(|path| File::open(path).expect(path))
        .into()
}

fn whole(file: &File) -> Vec<u8> {
    let len = file.metadata().unwrap().len();
    read(&Reader::of(file).unwrap(), 0..len).unwrap()
}

fn file_with(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

/// What an address of the file is called.
fn frames(file: &File, svma: Svma, address: Addr) -> Vec<FrameRef> {
    let mut frames = Vec::new();
    Symbolizer::new().user(Some(&source(file, None)), svma, address, &mut frames);
    frames
}

/// The file, with debug information in another one.
fn source(file: &File, in_place: Option<&Arc<InPlace>>) -> ModuleSource {
    ModuleSource {
        name: "test".into(),
        path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        build_id: None,
        image: None,
        in_place: in_place.cloned(),
        may_hold_tokio: false,
        functions: [].into(),
    }
}

/// Bytes of memory, or of disk, that a file takes.
fn taken(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn readers_see_no_difference() {
    for original in originals() {
        let bytes = whole(&original);
        let copy = PrivateCopy::of(&original, &plenty()).unwrap();
        assert_eq!(copy.bytes().len(), bytes.len());
        assert_eq!(copy.module(), Module::from_elf(&bytes));
        // Code is not in the copy: what rows are read off is in the file.
        let from_file = |into: &mut [u8], at| original.read_exact_at(into, at).is_ok();
        assert_eq!(
            UnwindTable::from_elf_and_file(copy.bytes(), &from_file, &Effort::default()),
            UnwindTable::from_elf(&bytes)
        );
        assert_eq!(
            Functions::from_elf(copy.bytes()),
            Functions::from_elf(&bytes)
        );
        assert_eq!(copy.debug_left_out(), 0);
    }
}

/// In a position-independent program by an older linker the section is to be written to.
#[test]
fn unwinding_information_is_read_wherever_it_is() {
    let mut bytes = whole(&File::open("/proc/self/exe").unwrap());
    let wanted = UnwindTable::from_elf(&bytes).unwrap();
    let word = |bytes: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    };
    let svma = Elf::parse(&bytes)
        .unwrap()
        .section(".eh_frame")
        .unwrap()
        .svma;
    let headers = word(&bytes, 40);
    let header = (0..)
        .map(|n| headers + n * 64)
        .find(|at| word(&bytes, at + 16) as u64 == svma.0)
        .unwrap();
    bytes[header + 8] |= 1; // SHF_WRITE
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let copy = PrivateCopy::of(&file, &plenty()).unwrap();
    let from_file = |into: &mut [u8], at| file.read_exact_at(into, at).is_ok();
    let found =
        UnwindTable::from_elf_and_file(copy.bytes(), &from_file, &Effort::default()).unwrap();
    assert!(found.entries > 0);
    assert_eq!(found, wanted);
}

#[test]
fn code_and_relocations_take_no_memory() {
    for original in originals() {
        let bytes = whole(&original);
        let text = Elf::parse(&bytes)
            .unwrap()
            .section(".text")
            .unwrap()
            .bytes
            .len() as u64;
        let copy = PrivateCopy::of(&original, &plenty()).unwrap();
        let taken = taken(&copy.into_file());
        assert!(
            taken + text <= bytes.len() as u64 + 64 * 4096,
            "{taken} bytes of {}, with {text} of code",
            bytes.len()
        );
    }
}

/// This test's own program, and an address of its code that has a line: what both are in memory and
/// in the file.
fn own_code() -> (File, Svma, Addr) {
    let here = own_code as fn() -> (File, Svma, Addr) as usize as u64;
    let original = File::open("/proc/self/exe").unwrap();
    let module = Module::from_elf(&whole(&original)).unwrap();
    let maps = crate::process::parse_maps(&std::fs::read("/proc/self/maps").unwrap());
    let mapping = maps
        .iter()
        .find(|m| (m.range.start.0..m.range.end.0).contains(&here))
        .unwrap();
    let bias = module
        .bias_for(mapping.range.start, mapping.file_offset)
        .unwrap();
    (original, Svma(here - bias), Addr(here))
}

/// The same, with a section that names another file: nobody may follow it, so the file itself is not given to
/// who reads debug information.
fn with_supplement(original: &File) -> File {
    let mut bytes = whole(original);
    let (name, other) = (b".note.ABI-tag\0", b".debug_sup\0ag\0");
    let at = bytes.windows(name.len()).rposition(|text| text == name);
    bytes[at.unwrap()..][..name.len()].copy_from_slice(other);
    file_with(&bytes)
}

#[test]
fn names_and_lines_are_those_of_the_original() {
    let (original, svma, address) = own_code();
    let half = original.metadata().unwrap().len() / 2;
    let frames = |file: &File| frames(file, svma, address);
    let wanted = frames(&original);
    assert!(wanted[0].line.is_some(), "{wanted:?}");
    let original = with_supplement(&original);
    let of = |budget| {
        let copy = PrivateCopy::of(&original, &budget).unwrap();
        assert!(copy.in_place().is_none());
        (copy.debug_left_out(), frames(&copy.into_file()))
    };
    assert_eq!(of(plenty()), (0, wanted.clone()));

    // Without its debug information the name stays.
    for budget in [Budget::new(PLENTY, 4096), Budget::new(half, PLENTY)] {
        let (left_out, frames) = of(budget);
        assert!(left_out > 4096, "{left_out}");
        assert_eq!(
            frames.last().unwrap().function,
            wanted.last().unwrap().function
        );
        assert!(
            frames.iter().all(|frame| frame.line.is_none()),
            "{frames:?}"
        );
    }
}

#[test]
fn long_debug_information_is_read_in_the_file_itself() {
    let (original, svma, address) = own_code();
    let wanted = frames(&original, svma, address);
    assert!(wanted[0].line.is_some(), "{wanted:?}");
    // Of a machine with little memory the budget is what is too little, of others it is `MOST_COPIED`.
    for budget in [Budget::new(PLENTY, 4096), Budget::new(LITTLE, PLENTY)] {
        let copy = PrivateCopy::of(&original, &budget).unwrap();
        assert_eq!(copy.debug_left_out(), 0);
        assert!(copy.module().unwrap().has_debug_lines);
        let in_place = Arc::clone(copy.in_place().unwrap());
        let copy = copy.into_file();
        assert!(frames(&copy, svma, address)[0].line.is_none());
        let mut found = Vec::new();
        let source = source(&copy, Some(&in_place));
        let mut symbolizer = Symbolizer::new();
        symbolizer.warm_up(&source, svma);
        symbolizer.user(Some(&source), svma, address, &mut found);
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_file_that_is_written_to_loses_its_lines_and_nothing_else() {
    let (original, svma, address) = own_code();
    let wanted = frames(&original, svma, address);
    for (before_the_first, len) in [(true, 1), (false, 1), (false, 0)] {
        let file = file_with(&whole(&original));
        let copy = PrivateCopy::of(&file, &Budget::new(PLENTY, 4096)).unwrap();
        let in_place = Arc::clone(copy.in_place().unwrap());
        let copy = copy.into_file();
        let source = source(&copy, Some(&in_place));
        let mut symbolizer = Symbolizer::new();
        let lines = |symbolizer: &mut Symbolizer, svma: u64| {
            let mut found = Vec::new();
            symbolizer.user(Some(&source), Svma(svma), address, &mut found);
            let name = found.last().map(|frame| frame.function.clone());
            (name, found.iter().any(|frame| frame.line.is_some()))
        };
        if !before_the_first {
            assert!(lines(&mut symbolizer, svma.0).1);
        }
        file.set_len(len).unwrap();
        // Another address of the same function, since the first is known.
        let (name, has_lines) = lines(&mut symbolizer, svma.0 + 1);
        assert_eq!(name, wanted.last().map(|frame| frame.function.clone()));
        assert!(!has_lines);
        let left_out = symbolizer.left_out();
        assert_eq!((left_out.lines, left_out.names), (1, 0));
        let problem = left_out.problems.first().unwrap();
        assert!(problem.contains("written to"), "{problem}");
    }
}

#[test]
fn the_budget_is_for_all_copies_together() {
    let original = &originals()[1];
    let budget = Budget::new(whole(original).len() as u64, PLENTY);
    let mut copies = 0;
    let error = loop {
        match PrivateCopy::of(original, &budget) {
            Ok(_) => copies += 1,
            Err(error) => break error,
        }
    };
    // Code, data and relocations are more than half of it and less than nine tenths.
    assert!((2..10).contains(&copies), "{copies} copies");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert!(error.to_string().contains("MiB"), "{error}");
}

#[test]
fn what_is_no_elf_file_is_told_as_such() {
    use crate::process::module::ModuleError;
    let errors = [
        &b""[..],
        b"\x7fELF",
        b"#!/bin/sh\necho a script of some length\n",
    ]
    .map(|text| {
        let copy = PrivateCopy::of(&file_with(text), &plenty()).unwrap();
        assert_eq!(copy.bytes().len(), text.len());
        Module::from_elf(copy.bytes()).unwrap_err()
    });
    assert_eq!(
        errors,
        [
            ModuleError::NotElf,
            ModuleError::Malformed("file header"),
            ModuleError::NotElf
        ]
    );
}

#[test]
fn a_huge_file_of_holes_is_no_burden() {
    let file = file_with(&whole(&originals()[1]));
    file.set_len(1 << 42).unwrap();
    let copy = PrivateCopy::of(&file, &plenty()).unwrap();
    assert_eq!(copy.bytes().len() as u64, MAX_LEN);
    assert!(Module::from_elf(copy.bytes()).is_ok());
    assert!(UnwindTable::from_elf(copy.bytes()).is_ok());
    assert!(taken(&copy.into_file()) < 8 << 20);
}

#[test]
fn sections_that_name_other_files_are_gone() {
    // `.note.gnu.property` is long enough to be called so in the table of names; nothing moves.
    let mut bytes = whole(&originals()[1]);
    let old = memchr::memmem::rfind(&bytes, b".note.gnu.property\0").unwrap();
    let mut renamed = |name: &[u8]| {
        bytes[old..old + name.len()].copy_from_slice(name);
        let copy = PrivateCopy::of(&file_with(&bytes), &plenty()).unwrap();
        let name = std::str::from_utf8(name.strip_suffix(b"\0").unwrap()).unwrap();
        let elf = Elf::parse(copy.bytes()).unwrap();
        assert!(elf.has_section(".eh_frame"));
        elf.has_section(name)
    };
    assert!(renamed(b".gnu_harmless\0"));
    for link in [
        &b".gnu_debuglink\0"[..],
        b".gnu_debugaltlink\0",
        b".debug_sup\0",
    ] {
        assert!(!renamed(link));
    }
}

/// Truncating the original while it is copied, and afterwards, does no harm: a mapping of it would
/// end this test by SIGBUS.
#[test]
fn an_original_that_shrinks_does_no_harm() {
    let bytes = whole(&originals()[1]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shrinking.so");
    std::fs::write(&path, &bytes).unwrap();
    let original = File::open(&path).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = File::options().write(true).open(&path).unwrap();
            for round in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                writer.set_len(round * 4099 % bytes.len() as u64).unwrap();
                writer.write_all_at(&bytes, 0).unwrap();
            }
        });
        let mut lengths = std::collections::BTreeSet::new();
        // On a busy machine the writer may have to wait for its turn.
        for round in 0..4000 {
            if round >= 40 && lengths.len() > 1 {
                break;
            }
            let copy = PrivateCopy::of(&original, &plenty()).unwrap();
            lengths.insert(copy.bytes().len());
            let _ = Module::from_elf(copy.bytes());
            let _ = UnwindTable::from_elf(copy.bytes());
        }
        done.store(true, Ordering::Relaxed);
        assert!(lengths.len() > 1, "it never shrank");
    });
    let copy = PrivateCopy::of(&original, &plenty()).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    assert_eq!(original.metadata().unwrap().size(), 0);
    assert!(UnwindTable::from_elf(copy.bytes()).is_ok());
}

/// This test's own program, with a section that is a hole of a GiB and has these flags too.
fn with_a_hole(name: &str, flags: elf::SectionFlags) -> File {
    let mut bytes = whole(&originals()[0]);
    let file = object::File::parse(&*bytes).unwrap();
    let index = file.section_by_name(name).unwrap().index();
    let header = FileHeader64::<LE>::parse(&*bytes).unwrap();
    let one = size_of::<SectionHeader64<LE>>();
    let at = header.e_shoff(LE) as usize + one * index.0;
    let end = bytes.len().next_multiple_of(4096);
    let section = &mut bytes[at..at + one];
    let (section, _) = object::pod::from_bytes_mut::<SectionHeader64<LE>>(section).unwrap();
    section.sh_flags.set(LE, section.sh_flags(LE) | flags);
    section.sh_offset.set(LE, end as u64);
    // Symbols are of 24 bytes.
    section.sh_size.set(LE, (1 << 30) / 24 * 24);
    let file = file_with(&bytes);
    file.set_len(end as u64 + (1 << 30)).unwrap();
    file
}

/// Everything that reads copies reads this one.
fn read_all(copy: PrivateCopy) -> File {
    let _ = Module::from_elf(copy.bytes());
    let _ = UnwindTable::from_elf(copy.bytes());
    let _ = Functions::from_elf(copy.bytes());
    let file = copy.into_file();
    let _ = frames(&file, Svma(0x1000), Addr(0x1000));
    file
}

#[test]
fn a_section_that_was_not_copied_cannot_be_read_whatever_it_is_called() {
    for (name, flags) in [
        (".rodata", elf::SHF_WRITE),
        (".symtab", elf::SHF_EXECINSTR),
        (".strtab", elf::SHF_EXECINSTR),
        (".eh_frame", elf::SHF_EXECINSTR),
    ] {
        let copy = PrivateCopy::of(&with_a_hole(name, flags), &plenty()).unwrap();
        let elf = Elf::parse(copy.bytes()).unwrap();
        assert!(elf.section(name).is_none(), "{name}");
        let before = taken(&copy.file);
        // Pages of zeros in what was copied are made when they are read.
        assert!(taken(&read_all(copy)) < before + (64 << 20), "{name}");
    }
}

#[test]
fn holes_between_sections_take_no_memory_however_they_are_read() {
    let file = file_with(&whole(&originals()[1]));
    file.set_len(1 << 30).unwrap();
    let copy = PrivateCopy::of(&file, &plenty()).unwrap();
    let before = taken(&copy.file);
    assert!(copy.bytes().iter().step_by(4096).any(|byte| *byte != 0));
    assert!(copy.bytes().iter().skip(1 << 29).all(|byte| *byte == 0));
    assert_eq!(taken(&copy.file), before);
}

/// The number of sections, and where their names are, can be stated in ways that some readers
/// understand and others do not.
#[test]
fn there_are_sections_for_every_reader_or_for_none() {
    let bytes = whole(&originals()[0]);
    type Change = fn(&mut FileHeader64<LE>);
    let changes: [(&str, Change); 6] = [
        ("many", |header| header.e_shnum.set(LE, 0xff00)),
        ("elsewhere", |header| header.e_shnum.set(LE, 0)),
        ("no names", |header| header.e_shstrndx = Default::default()),
        ("names elsewhere", |header| {
            header.e_shstrndx.set(LE, elf::SHN_XINDEX)
        }),
        ("names nowhere", |header| {
            header.e_shstrndx.set(LE, elf::SymbolSection(0xfe00))
        }),
        ("of another size", |header| header.e_shentsize.set(LE, 32)),
    ];
    for (name, change) in changes {
        let mut bytes = bytes.clone();
        let (header, _) = object::pod::from_bytes_mut::<FileHeader64<LE>>(&mut bytes).unwrap();
        change(header);
        let copy = PrivateCopy::of(&file_with(&bytes), &plenty()).unwrap();
        assert!(!Elf::parse(copy.bytes()).unwrap().has_sections(), "{name}");
        let parsed = object::File::parse(copy.bytes()).expect(name);
        assert_eq!(parsed.sections().count(), 0, "{name}");
    }
}
