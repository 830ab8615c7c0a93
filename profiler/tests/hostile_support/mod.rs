//! Files that cost whoever reads them more than they are worth, made with the C compiler that
//! links Rust programs, too.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` (`.s` or `.c`) to a shared object.
///
/// # Panics
/// Where there is no compiler, or it does not like what it gets.
pub(crate) fn shared_object(
    dir: &Path,
    name: &str,
    source: &str,
    extension: &str,
    flags: &[&str],
) -> PathBuf {
    let text = dir.join(format!("{name}.{extension}"));
    let made = dir.join(format!("{name}.so"));
    std::fs::write(&text, source).expect("writes");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-nostdlib", "-o"])
        .args([&made, &text])
        .args(flags)
        .output()
        .expect("cc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    made
}

/// Makes the linker compress debug information.
pub(crate) const COMPRESSED: &str = "-Wl,--compress-debug-sections=zlib";

/// A function `wanted` in a unit whose line program has so many rows, of one byte each.
pub(crate) fn line_program(rows: u64) -> String {
    line_program_of("", rows)
}

/// The same, of a function that does something on its way.
pub(crate) fn line_program_of(code: &str, rows: u64) -> String {
    // The same line, at the next address.
    program(code, UNIT, &format!(".fill {rows}, 1, 0x20"))
}

/// A function `wanted` each of whose first bytes, of which there are `units`, has a unit of its own.
/// They have one line program, of so many bytes and without rows: it takes time, and no memory, for
/// each unit.
pub(crate) fn slow_line_program(units: u64, bytes: u64) -> String {
    let unit = UNIT.replace(
        "wanted\n    .quad end - wanted\n    .long 0",
        "wanted + nth\n    .quad 1\n    .long 0",
    );
    let units = format!(".set nth, 0\n.rept {units}\n{unit}\n.set nth, nth + 1\n.endr");
    // Statements begin here, and do not.
    program("", &units, &format!(".fill {bytes}, 1, 6"))
}

/// A function `wanted` into which itself is inlined, into which itself is inlined, and so on.
pub(crate) fn nested_inlining(depth: u64) -> String {
    // The function's entry is 32 bytes from the unit's beginning.
    let inlined = ".uleb128 3\n.long 32\n.quad wanted\n.quad end - wanted";
    let unit = UNIT.replace(
        ".quad end - wanted\n    .byte 0\n1:",
        &format!(
            ".quad end - wanted\n.rept {depth}\n{inlined}\n.endr\n.fill {depth}, 1, 0\n.byte 0, 0\n1:"
        ),
    );
    assert_ne!(unit, UNIT);
    let text = program("", &unit, "");
    let abbreviation = "    .byte 0, 0\n    .uleb128 3, 0x1d\n    .byte 1\n    .uleb128 0x31, 0x13\n    \
        .uleb128 0x11, 0x01\n    .uleb128 0x12, 0x07\n    .byte 0, 0, 0\n    .section .debug_info";
    let nested = text
        .replace("# subprogram\n    .byte 0", "# subprogram\n    .byte 1")
        .replace("    .byte 0, 0, 0\n    .section .debug_info", abbreviation);
    assert_ne!(nested, text);
    nested
}

/// A unit of `wanted`.
const UNIT: &str = r#"
    .long 1f - 0f
0:
    .value 4
    .long 0
    .byte 8
    .uleb128 1
    .quad wanted
    .quad end - wanted
    .long 0
    .uleb128 2
    .asciz "wanted"
    .quad wanted
    .quad end - wanted
    .byte 0
1:
"#;

fn program(code: &str, units: &str, lines: &str) -> String {
    format!(
        r#"
    .text
    .globl wanted
    .type wanted, @function
wanted:
    .cfi_startproc
    .fill 64, 1, 0x90
    {code}
    ret
    .cfi_endproc
    .size wanted, . - wanted
end:
    .section .debug_abbrev,"",@progbits
    .uleb128 1
    .uleb128 0x11            # compile unit
    .byte 1
    .uleb128 0x11, 0x01      # low_pc, addr
    .uleb128 0x12, 0x07      # high_pc, data8
    .uleb128 0x10, 0x17      # stmt_list, sec_offset
    .byte 0, 0
    .uleb128 2
    .uleb128 0x2e            # subprogram
    .byte 0
    .uleb128 0x03, 0x08      # name, string
    .uleb128 0x11, 0x01
    .uleb128 0x12, 0x07
    .byte 0, 0, 0
    .section .debug_info,"",@progbits
    {units}
    .section .debug_line,"",@progbits
    .long line_end - line_begin
line_begin:
    .value 4
    .long program - header
header:
    .byte 1, 1, 1, -5, 14, 13
    .byte 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
    .byte 0
    .asciz "a.c"
    .uleb128 0, 0, 0
    .byte 0
program:
    .byte 0, 9, 2
    .quad wanted
    .byte 0x13                # the next line, at the same address
    {lines}
    .byte 2                   # on to the end
    .uleb128 256
    .byte 0, 1, 1
line_end:
"#
    )
}

/// Address of a symbol of an ELF file.
///
/// # Panics
/// Where it has none of that name.
pub(crate) fn symbol(path: &Path, name: &str) -> u64 {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read(path).expect("reads");
    let elf = object::File::parse(&*bytes).expect("an ELF file");
    elf.symbol_by_name(name).expect("the symbol").address()
}

/// Where in a file the headers of compressed sections (`Elf64_Chdr`) are. Eight bytes on, each
/// claims a length.
///
/// # Panics
/// Where it is no ELF file.
pub(crate) fn compression_headers(image: &[u8]) -> Vec<usize> {
    use object::{Object, ObjectSection, SectionFlags};
    let elf = object::File::parse(image).expect("an ELF file");
    elf.sections()
        .filter(|section| {
            matches!(section.flags(), SectionFlags::Elf { sh_flags, .. }
                if sh_flags.contains(object::elf::SHF_COMPRESSED))
        })
        .filter_map(|section| section.file_range().map(|(at, _)| at as usize))
        .collect()
}

/// A name that doubles with every letter of it: `f(T0, T1, …)`, each type made of two of the one
/// before it.
pub(crate) fn bomb(n: usize) -> String {
    let mut symbol = format!("_Z{}f{n}4pairIiiE", 1 + n.to_string().len());
    for level in 0..24 {
        let before = match level {
            0 => "S0_".to_owned(),
            n => {
                let digit = char::from_digit(n, 36).expect("few");
                format!("S{}_", digit.to_ascii_uppercase())
            }
        };
        symbol.push_str(&format!("S_I{before}{before}E"));
    }
    symbol
}

/// A name that takes some tens of milliseconds.
pub(crate) fn dear(n: usize) -> String {
    with_readings(&format!("dear{n}"), 18)
}

/// A name with more readings than can be tried in years.
pub(crate) fn endless() -> String {
    with_readings("endless", 30)
}

/// A name of which each `dl` doubles the readings, none of which is one.
fn with_readings(word: &str, doublings: usize) -> String {
    let readings = "dl".repeat(doublings);
    let ends = "E".repeat(doublings + 2);
    format!("_ZD0{}{word}IX{readings}{ends}", word.len())
}
