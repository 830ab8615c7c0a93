//! Libraries for a target to load.

use crate::hostile_support::{COMPRESSED, bomb, line_program_of, shared_object};
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
    let path = shared_object(
        dir,
        "hole",
        "int answer(void) { return 42; }\nconst char text[] = \"constant\";",
        "c",
        &[],
    );
    let mut bytes = std::fs::read(&path).expect("reads");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let index = file.section_by_name(section).expect(section).index().0;
    let header = FileHeader64::<LE>::parse(&*bytes).expect("a header");
    let one = size_of::<SectionHeader64<LE>>();
    let at = usize::try_from(header.e_shoff(LE)).expect("small") + one * index;
    let end = bytes.len().next_multiple_of(4096) as u64;
    let (header, _) =
        from_bytes_mut::<SectionHeader64<LE>>(&mut bytes[at..at + one]).expect("a header");
    header.sh_flags.set(LE, header.sh_flags(LE) | flags);
    header.sh_offset.set(LE, end);
    // Symbols are of 24 bytes.
    header.sh_size.set(LE, HOLE / 24 * 24);
    std::fs::write(&path, bytes).expect("writes");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opens");
    file.set_len(end + HOLE).expect("a hole");
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
    let code = dir.join("names-code.c");
    std::fs::write(&code, sleeper(&names)).expect("writes");
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
    vec![shared_object(
        dir,
        "names",
        &format!(".text\n{functions}"),
        "s",
        &flags,
    )]
}
