//! Images made for the test: what no system library has.

use gimli::write::{
    Address, CallFrameInstruction as Cfi, CommonInformationEntry, DebugFrame, EhFrame, EndianVec,
    FrameDescriptionEntry, FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, X86_64};
use holdup::process::module::{Functions, Module};
use holdup::units::Svma;
use holdup::unwind::UnwindTable;
use profiler_common::row::{Rule, kind};

const BASE: u64 = 0x1000;
const TEXT_LEN: u64 = 0x1000;

/// Functions as (start, length, instructions at offsets).
type Function<'a> = (u64, u32, &'a [(u32, Cfi)]);

fn frame_table(functions: &[Function<'_>], signal: bool) -> FrameTable {
    let mut table = FrameTable::default();
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 1,
        address_size: 8,
    };
    let mut cie = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    cie.signal_trampoline = signal;
    cie.add_instruction(Cfi::Cfa(X86_64::RSP, 8));
    cie.add_instruction(Cfi::Offset(X86_64::RA, -8));
    let cie = table.add_cie(cie);
    for (start, len, instructions) in functions {
        let mut fde = FrameDescriptionEntry::new(Address::Constant(*start), *len);
        for (offset, instruction) in *instructions {
            fde.add_instruction(*offset, instruction.clone());
        }
        table.add_fde(cie, fde);
    }
    table
}

fn eh_frame(functions: &[Function<'_>]) -> Vec<u8> {
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    frame_table(functions, false)
        .write_eh_frame(&mut section)
        .unwrap();
    section.0.into_vec()
}

/// An ELF image with one executable segment of zeros at [`BASE`] and one more section.
fn image(name: &str, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{name}\0.shstrtab\0");
    let name_at = [0u32, 1, 2 + name.len() as u32];
    let text_at = BASE as usize;
    let content_at = text_at + TEXT_LEN as usize;
    let names_at = content_at + content.len();
    let headers_at = (names_at + names.len()).next_multiple_of(8);

    let mut out = vec![0; headers_at];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(0x10, 3u16), (0x12, 62), (0x34, 64), (0x36, 56), (0x38, 1)] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(0x3a, 64u16), (0x3c, 3), (0x3e, 2)] {
        put(at, &value.to_le_bytes());
    }
    put(0x14, &1u32.to_le_bytes());
    put(0x20, &64u64.to_le_bytes());
    put(0x28, &(headers_at as u64).to_le_bytes());
    // PT_LOAD, readable and executable.
    put(64, &1u32.to_le_bytes());
    put(68, &5u32.to_le_bytes());
    let words = [BASE, BASE, BASE, TEXT_LEN, TEXT_LEN, 4096];
    for (i, word) in words.into_iter().enumerate() {
        put(72 + 8 * i, &word.to_le_bytes());
    }
    put(content_at, content);
    put(names_at, names.as_bytes());

    let mut header = |name: u32, kind: u32, addr: usize, at: usize, len: usize| {
        out.extend(name.to_le_bytes());
        out.extend(kind.to_le_bytes());
        for word in [0, addr, at, len, 0, 1, 0] {
            out.extend((word as u64).to_le_bytes());
        }
    };
    header(0, 0, 0, 0, 0);
    header(name_at[1], 1, content_at, content_at, content.len());
    header(name_at[2], 3, 0, names_at, names.len());
    out
}

fn rsp(offset: i64) -> Rule {
    Rule::encode(kind::RSP, offset, 0)
}

fn rule_at(table: &UnwindTable, svma: u64) -> Rule {
    table.rule(Svma(svma))
}

#[test]
fn holes_are_gaps_and_padding_is_not() {
    let push = [(1, Cfi::CfaOffset(16))];
    let content = eh_frame(&[
        (0x1010, 0x18, &push),
        // Eight bytes of padding up to the alignment.
        (0x1030, 0x10, &push),
        // A hole as big as an aligned function.
        (0x1050, 0x0c, &push),
        // A small hole that ends unaligned: code without an entry.
        (0x1064, 0x1c, &push),
    ]);
    let data = image(".eh_frame", &content);
    let table = UnwindTable::from_elf(&data).unwrap();
    assert_eq!((table.entries, table.skipped), (4, 0));
    for (svma, want) in [
        (0xfff, Rule::GAP),
        (0x1000, Rule::GAP),
        (0x100f, Rule::GAP),
        (0x1010, rsp(8)),
        (0x1011, rsp(16)),
        (0x1027, rsp(16)),
        (0x1028, rsp(16)),
        (0x1030, rsp(8)),
        (0x103f, rsp(16)),
        (0x1040, Rule::GAP),
        (0x1050, rsp(8)),
        (0x105c, Rule::GAP),
        (0x1064, rsp(8)),
        (0x107f, rsp(16)),
        (0x1080, Rule::GAP),
        (0x1fff, Rule::GAP),
        (0x2000, Rule::GAP),
        (0x1_0000_1010, Rule::GAP),
    ] {
        assert_eq!(rule_at(&table, svma), want, "{svma:#x}");
    }
    let functions = Functions::from_elf(&data).unwrap();
    assert_eq!(functions.base, Svma(BASE));
    assert_eq!(
        functions.ranges,
        [(0x10, 0x18), (0x30, 0x10), (0x50, 0x0c), (0x64, 0x1c)]
    );
    assert_eq!(
        functions.containing(Svma(0x1027)),
        Some(Svma(0x1010)..Svma(0x1028))
    );
    assert_eq!(functions.containing(Svma(0x1028)), None);
    assert_eq!(functions.containing(Svma(0x100f)), None);
}

#[test]
fn entries_out_of_order_and_of_dropped_functions() {
    let content = eh_frame(&[
        (0x1100, 0x10, &[]),
        (0x0, 0x10, &[]),
        (0x1080, 0x10, &[(4, Cfi::CfaOffset(32))]),
        (0x1ff8, 0x10, &[]),
    ]);
    let table = UnwindTable::from_elf(&image(".eh_frame", &content)).unwrap();
    assert_eq!((table.entries, table.skipped), (2, 0));
    assert!(table.rows.is_sorted());
    assert_eq!(rule_at(&table, 0x1084), rsp(32));
    assert_eq!(rule_at(&table, 0x1090), Rule::GAP);
    assert_eq!(rule_at(&table, 0x1100), rsp(8));
    assert_eq!(rule_at(&table, 0x1ff8), Rule::GAP);
}

/// Linkers leave a terminator in the middle where start files come in an unusual order.
#[test]
fn entries_behind_a_terminator_count() {
    let mut content = eh_frame(&[(0x1010, 0x10, &[])]);
    content.extend([0; 4]);
    content.extend(eh_frame(&[(0x1020, 0x10, &[])]));
    let table = UnwindTable::from_elf(&image(".eh_frame", &content)).unwrap();
    assert_eq!((table.entries, table.skipped), (2, 0));
    assert_eq!(rule_at(&table, 0x102f), rsp(8));
}

#[test]
fn a_broken_entry_costs_only_itself() {
    let mut content = eh_frame(&[
        (0x1010, 0x10, &[]),
        (0x1020, 0x10, &[]),
        (0x1030, 0x10, &[]),
    ]);
    // The second entry points at a CIE that is not there.
    let cie_len = 4 + u32::from_le_bytes(content[..4].try_into().unwrap()) as usize;
    let fde_len = 4 + u32::from_le_bytes(content[cie_len..][..4].try_into().unwrap()) as usize;
    let second = cie_len + fde_len;
    content[second + 4..second + 8].copy_from_slice(&0x7fff_0000u32.to_le_bytes());
    let table = UnwindTable::from_elf(&image(".eh_frame", &content)).unwrap();
    assert_eq!((table.entries, table.skipped), (2, 1));
    assert_eq!(rule_at(&table, 0x101f), rsp(8));
    assert_eq!(rule_at(&table, 0x1020), Rule::GAP);
    assert_eq!(rule_at(&table, 0x1030), rsp(8));
}

#[test]
fn instructions_that_fail_leave_the_rest_unsupported() {
    // Restores a state that was never remembered.
    let content = eh_frame(&[(
        0x1010,
        0x20,
        &[(4, Cfi::CfaOffset(16)), (8, Cfi::RestoreState)],
    )]);
    let table = UnwindTable::from_elf(&image(".eh_frame", &content)).unwrap();
    assert_eq!((table.entries, table.skipped), (1, 1));
    assert_eq!(rule_at(&table, 0x1013), rsp(8));
    assert_eq!(rule_at(&table, 0x1014), rsp(16));
    assert_eq!(rule_at(&table, 0x1018), Rule::UNSUPPORTED);
    assert_eq!(rule_at(&table, 0x102f), Rule::UNSUPPORTED);
}

#[test]
fn rules_of_all_kinds() {
    let content = eh_frame(&[
        (0x1010, 0x10, &[(0, Cfi::Undefined(X86_64::RA))]),
        (
            0x1020,
            0x10,
            &[
                (0, Cfi::Cfa(X86_64::RBP, 16)),
                (0, Cfi::Offset(X86_64::RBP, -16)),
            ],
        ),
        (0x1030, 0x10, &[(0, Cfi::Cfa(X86_64::RBX, 16))]),
        (0x1040, 0x10, &[(0, Cfi::CfaOffset(1 << 30))]),
        (0x1050, 0x10, &[(0, Cfi::Register(X86_64::RA, X86_64::RDI))]),
        (0x1060, 0x10, &[(0, Cfi::Offset(X86_64::RBP, 8))]),
        (0x1070, 0x10, &[(0, Cfi::Offset(X86_64::RBP, 0))]),
    ]);
    let table = UnwindTable::from_elf(&image(".eh_frame", &content)).unwrap();
    assert_eq!(table.skipped, 0);
    assert_eq!(rule_at(&table, 0x1010), Rule::END);
    assert_eq!(rule_at(&table, 0x1020), Rule::encode(kind::RBP, 16, -16));
    for svma in [0x1030, 0x1040, 0x1050, 0x1060, 0x1070] {
        assert_eq!(rule_at(&table, svma), Rule::UNSUPPORTED, "{svma:#x}");
    }
}

/// A frame marked as a signal's, but whose registers are not where the kernel puts them.
#[test]
fn an_unknown_signal_frame_is_unsupported() {
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    frame_table(&[(0x1010, 0x10, &[])], true)
        .write_eh_frame(&mut section)
        .unwrap();
    let table = UnwindTable::from_elf(&image(".eh_frame", section.0.slice())).unwrap();
    assert_eq!(rule_at(&table, 0x1010), Rule::UNSUPPORTED);
}

#[test]
fn debug_frame_serves_where_there_is_no_eh_frame() {
    let mut section = DebugFrame(EndianVec::new(LittleEndian));
    frame_table(&[(0x1010, 0x10, &[(4, Cfi::CfaOffset(16))])], false)
        .write_debug_frame(&mut section)
        .unwrap();
    let table = UnwindTable::from_elf(&image(".debug_frame", section.0.slice())).unwrap();
    assert_eq!((table.entries, table.skipped), (1, 0));
    assert_eq!(rule_at(&table, 0x1014), rsp(16));
}

#[test]
fn a_module_without_unwinding_information_is_one_gap() {
    let data = image(".comment", b"hand-made");
    let table = UnwindTable::from_elf(&data).unwrap();
    assert_eq!((table.entries, table.skipped), (0, 0));
    assert_eq!(table.rows.len(), 1);
    assert_eq!(rule_at(&table, 0x1234), Rule::GAP);
    let module = Module::from_elf(&data).unwrap();
    assert_eq!(module.build_id, None);
    assert!(!module.has_symtab && !module.has_dynsym && !module.has_debug_lines);
}

/// An entry over and over itself must not make more rows than the index can search.
#[test]
fn overlapping_entries_keep_one_row_an_address() {
    let all: Vec<(u32, Cfi)> = (1..200)
        .map(|i| (i, Cfi::CfaOffset(8 + 8 * i as i32)))
        .collect();
    let functions: Vec<Function<'_>> = (0..50).map(|_| (0x1000, 0x100, &all[..])).collect();
    let table = UnwindTable::from_elf(&image(".eh_frame", &eh_frame(&functions))).unwrap();
    assert!(table.rows.len() <= 201, "{}", table.rows.len());
    assert_eq!(rule_at(&table, 0x1064), rsp(8 + 8 * 100));
}
