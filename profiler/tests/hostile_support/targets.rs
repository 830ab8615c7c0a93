//! Libraries for a target to load.

use crate::hostile_support::{COMPRESSED, bomb, dear, endless, line_program_of, shared_object};
use object::elf::{self, FileHeader64, SectionHeader64};
use object::pod::from_bytes_mut;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{LittleEndian as LE, Object, ObjectSection};
use std::path::{Path, PathBuf};

/// 20 KB on disk.
const HOLE: u64 = 8 << 30;

/// A thread that goes to sleep in every one of these functions, again and again.
fn sleeper(functions: &[String]) -> String {
    let declare =
        |(n, name): (usize, &String)| format!("extern void f{n}(void) __asm__(\"{name}\");\n");
    let declared: String = functions.iter().enumerate().map(declare).collect();
    let calls: String = (0..functions.len()).map(|n| format!("f{n}();")).collect();
    format!(
        "#include <pthread.h>\n#include <time.h>\n#include <signal.h>\n\
         __attribute__((visibility(\"hidden\"), noinline)) void nap(void) {{\n\
         struct timespec t = {{0, 5000000}}; nanosleep(&t, 0); __asm__ volatile(\"\");\n}}\n\
         {declared}\n\
         static void *run(void *x) {{ for (;;) {{ {calls} }} return x; }}\n\
         __attribute__((constructor)) static void begin(void) {{\n\
         pthread_t t; pthread_create(&t, 0, run, 0);\n}}\n"
    )
}

/// What a function does on its way to take a nap.
const NAP: &str =
    "subq $8, %rsp\n.cfi_adjust_cfa_offset 8\ncall nap\naddq $8, %rsp\n.cfi_adjust_cfa_offset -8";

/// A library of which a thread sleeps in `wanted`, whose line program has so many rows.
fn sleeping(dir: &Path, name: &str, rows: u64, flags: &[&str]) -> PathBuf {
    let code = dir.join(format!("{name}-code.c"));
    std::fs::write(&code, sleeper(&["wanted".into()])).expect("writes");
    let code = code.to_string_lossy();
    let program =
        line_program_of(NAP, rows).replace(".globl wanted", ".globl wanted\n.hidden wanted");
    let mut all = vec!["-O1", "-fasynchronous-unwind-tables", &code];
    all.extend(flags);
    shared_object(dir, name, &program, "s", &all)
}

/// A library one of whose sections is a hole, and has these flags too.
fn hole(dir: &Path, section: &str, flags: elf::SectionFlags) -> Vec<PathBuf> {
    // Symbols are of 24 bytes.
    let source = "int answer(void) { return 42; }\nconst char text[] = \"constant\";";
    let path = behind(dir, (source, "c"), section, flags, HOLE / 24 * 24);
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opens");
    let end = file.metadata().expect("there").len();
    file.set_len(end + HOLE).expect("a hole");
    vec![path]
}

/// A library one of whose sections is what comes behind it, has so many bytes, and these flags too.
fn behind(
    dir: &Path,
    (source, extension): (&str, &str),
    section: &str,
    flags: elf::SectionFlags,
    size: u64,
) -> PathBuf {
    let path = shared_object(dir, "behind", source, extension, &[]);
    let mut bytes = std::fs::read(&path).expect("reads");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let index = file.section_by_name(section).expect(section).index().0;
    let header = FileHeader64::<LE>::parse(&*bytes).expect("a header");
    let one = size_of::<SectionHeader64<LE>>();
    let at = usize::try_from(header.e_shoff(LE)).expect("small") + one * index;
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    let end = bytes.len() as u64;
    let (header, _) =
        from_bytes_mut::<SectionHeader64<LE>>(&mut bytes[at..at + one]).expect("a header");
    header.sh_flags.set(LE, header.sh_flags(LE) | flags);
    header.sh_offset.set(LE, end);
    header.sh_size.set(LE, size);
    std::fs::write(&path, bytes).expect("writes");
    path
}

/// A library whose unwinding information states six times a row for each of 16 Mi bytes of code.
pub(crate) fn rows(dir: &Path) -> Vec<PathBuf> {
    const CODE: u32 = 16 << 20;
    // Version 1, `zR`, factors 1 and -8, return address 16, pointers of 8 bytes; CFA = RSP + 8.
    let cie = b"\x01zR\0\x01\x78\x10\x01\x00\x0c\x07\x08\0\0\0";
    let mut section: Vec<u8> = Vec::new();
    section.extend((4 + cie.len() as u32).to_le_bytes());
    section.extend(0_u32.to_le_bytes());
    section.extend(cie);
    let source = format!(
        ".text\n.globl wanted\n.type wanted, @function\nwanted:\n.cfi_startproc\nret\n.cfi_endproc\n\
         .fill {CODE}, 1, 0x90\n.size wanted, . - wanted\n"
    );
    let size = section.len() as u64 + 6 * u64::from(4 + 4 + 8 + 8 + 1 + CODE);
    let path = behind(dir, (&source, "s"), ".eh_frame", elf::SHF_ALLOC, size);
    let code = crate::hostile_support::symbol(&path, "wanted");
    for _ in 0..6 {
        section.extend((4 + 8 + 8 + 1 + CODE).to_le_bytes());
        section.extend((section.len() as u32).to_le_bytes());
        section.extend(code.to_le_bytes());
        section.extend(u64::from(CODE).to_le_bytes());
        section.push(0);
        // On by a byte, again and again.
        section.resize(section.len() + CODE as usize, 0x41);
    }
    assert_eq!(section.len() as u64, size);
    let mut file = std::fs::File::options()
        .append(true)
        .open(&path)
        .expect("opens");
    std::io::Write::write_all(&mut file, &section).expect("writes");
    vec![path]
}

/// A library whose debug information is said to be in a file that nobody ever writes to.
pub(crate) fn linked(dir: &Path) -> Vec<PathBuf> {
    let path = sleeping(dir, "linked", 100, &[]);
    let fifo = dir.join("linked.debug");
    std::fs::copy(&path, &fifo).expect("copies");
    let done = std::process::Command::new("objcopy")
        .current_dir(dir)
        .args(["--strip-debug", "--add-gnu-debuglink=linked.debug"])
        .arg(&path)
        .status();
    assert!(done.expect("objcopy runs").success());
    std::fs::remove_file(&fifo).expect("removes");
    let rights = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rights).expect("a FIFO");
    vec![path]
}

pub(crate) fn hole_in_rodata(dir: &Path) -> Vec<PathBuf> {
    hole(dir, ".rodata", elf::SHF_WRITE)
}

pub(crate) fn hole_in_symtab(dir: &Path) -> Vec<PathBuf> {
    hole(dir, ".symtab", elf::SHF_EXECINSTR)
}

pub(crate) fn honest_hole(dir: &Path) -> Vec<PathBuf> {
    hole(dir, ".symtab", elf::SHF_MERGE)
}

pub(crate) fn packed_lines(dir: &Path) -> Vec<PathBuf> {
    let packed = |n: u32| sleeping(dir, &format!("packed{n}"), 128 << 20, &[COMPRESSED]);
    (0..4).map(packed).collect()
}

pub(crate) fn lines(dir: &Path) -> Vec<PathBuf> {
    vec![sleeping(dir, "lines", 48 << 20, &[])]
}

pub(crate) fn names(dir: &Path) -> Vec<PathBuf> {
    let names: Vec<String> = (0..8).map(bomb).collect();
    vec![sleeping_in(dir, "names", &names)]
}

/// Many names of which none takes too long.
pub(crate) fn dear_names(dir: &Path) -> Vec<PathBuf> {
    let names: Vec<String> = (0..128).map(dear).collect();
    vec![sleeping_in(dir, "dear", &names)]
}

/// One that takes too long.
pub(crate) fn endless_names(dir: &Path) -> Vec<PathBuf> {
    vec![sleeping_in(dir, "endless", &[endless()])]
}

/// A library of which a thread sleeps in functions of these names, in turn.
fn sleeping_in(dir: &Path, name: &str, names: &[String]) -> PathBuf {
    let code = dir.join(format!("{name}-code.c"));
    std::fs::write(&code, sleeper(names)).expect("writes");
    let functions: String = names
        .iter()
        .map(|name| {
            format!(
                ".globl {name}\n.hidden {name}\n.type {name}, @function\n{name}:\n.cfi_startproc\n{NAP}\nret\n.cfi_endproc\n.size {name}, . - {name}\n"
            )
        })
        .collect();
    let flags = [
        "-O1",
        "-fasynchronous-unwind-tables",
        &*code.to_string_lossy(),
    ];
    shared_object(dir, name, &format!(".text\n{functions}"), "s", &flags)
}
