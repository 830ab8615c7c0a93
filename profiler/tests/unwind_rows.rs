//! Rows against gimli: what a row says of an address is what the DWARF says.

mod unwind_support;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, EvaluationResult, LittleEndian,
    RegisterRule, UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
};
use holdup::process::module::{Functions, Module};
use holdup::units::Svma;
use holdup::unwind::{Image, UnwindTable, build_all};
use object::{Object, ObjectSection, ObjectSymbol};
use profiler_common::row::{self, Rule, kind};
use profiler_common::walk::{CONTINUE, Cursor, Memory, step};
use std::collections::BTreeMap;
use std::time::Instant;

type Section<'a> = EhFrame<EndianSlice<'a, LittleEndian>>;

/// Memory in which every word is a function of its address, and a plausible stack address.
struct Pattern;

fn word_at(addr: u64) -> u64 {
    0x7fff_0000_0000 + (addr.wrapping_mul(0x9e37_79b9) & 0xffff_fff8)
}

impl Memory for Pattern {
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        Some(word_at(addr))
    }
}

const SP: u64 = 0x7ffe_0000_1000;

/// The expression's value by gimli's own evaluator.
fn evaluate(
    section: &Section<'_>,
    encoding: gimli::Encoding,
    expression: &UnwindExpression<usize>,
    ip: u64,
) -> u64 {
    let mut evaluation = expression.get(section).unwrap().evaluation(encoding);
    let mut result = evaluation.evaluate().unwrap();
    loop {
        result = match result {
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = match register {
                    X86_64::RSP => SP,
                    X86_64::RA => ip,
                    _ => panic!("expression over {register:?}"),
                };
                evaluation
                    .resume_with_register(gimli::Value::Generic(value))
                    .unwrap()
            }
            EvaluationResult::RequiresMemory { address, .. } => evaluation
                .resume_with_memory(gimli::Value::Generic(word_at(address)))
                .unwrap(),
            EvaluationResult::Complete => break,
            other => panic!("expression needs {other:?}"),
        };
    }
    match evaluation.as_result() {
        [
            gimli::Piece {
                location: gimli::Location::Address { address },
                ..
            },
        ] => *address,
        other => panic!("expression gives {other:?}"),
    }
}

/// Where a step by `rule` leads, from `ip` with the stack at [`SP`].
fn stepped(rule: Rule, ip: u64) -> Cursor {
    let mut cursor = Cursor::new(ip, SP, SP);
    assert_eq!(step(&mut cursor, rule, &mut Pattern), CONTINUE, "{rule:?}");
    cursor
}

/// Panics unless `rule` says what gimli's row says. True if the row has no place in a rule.
fn same(
    section: &Section<'_>,
    encoding: gimli::Encoding,
    row: &UnwindTableRow<usize>,
    rule: Rule,
    at: u64,
) -> bool {
    let ra = row.register(X86_64::RA);
    let rbp = row.register(X86_64::RBP);
    match rule.kind() {
        kind::RSP | kind::RBP => {
            let want = CfaRule::RegisterAndOffset {
                register: if rule.kind() == kind::RSP {
                    X86_64::RSP
                } else {
                    X86_64::RBP
                },
                offset: rule.cfa_off() as i64,
            };
            assert_eq!(*row.cfa(), want, "CFA at {at:#x}");
            assert_eq!(
                ra,
                Some(RegisterRule::Offset(-8)),
                "return address at {at:#x}"
            );
            match rule.rbp_below_cfa() {
                0 => assert!(
                    matches!(
                        rbp,
                        None | Some(RegisterRule::Undefined | RegisterRule::SameValue)
                    ),
                    "rbp at {at:#x}: {rbp:?}"
                ),
                below => assert_eq!(
                    rbp,
                    Some(RegisterRule::Offset(-(below as i64))),
                    "rbp at {at:#x}"
                ),
            }
        }
        kind::PLT | kind::DEREF => {
            let CfaRule::Expression(expression) = row.cfa() else {
                panic!("CFA at {at:#x}")
            };
            for ip in at & !15..(at & !15) + 16 {
                let cfa = evaluate(section, encoding, expression, ip);
                assert_eq!(stepped(rule, ip).sp, cfa, "CFA at {ip:#x}");
            }
        }
        kind::SIG => {
            let CfaRule::Expression(cfa) = row.cfa() else {
                panic!("CFA at {at:#x}")
            };
            let Some(RegisterRule::Expression(ra)) = ra else {
                panic!("rip at {at:#x}: {ra:?}")
            };
            let Some(RegisterRule::Expression(rbp)) = rbp else {
                panic!("rbp at {at:#x}: {rbp:?}")
            };
            let cursor = stepped(rule, at);
            assert_eq!(cursor.sp, evaluate(section, encoding, cfa, at));
            assert_eq!(cursor.ip, word_at(evaluate(section, encoding, &ra, at)));
            assert_eq!(cursor.bp, word_at(evaluate(section, encoding, &rbp, at)));
            assert_eq!(cursor.after_call, 0);
        }
        kind::END => assert!(
            matches!(ra, None | Some(RegisterRule::Undefined)),
            "return address at {at:#x}: {ra:?}"
        ),
        kind::UNSUPPORTED => {
            let plain = matches!(row.cfa(), CfaRule::RegisterAndOffset { register, offset }
                if [X86_64::RSP, X86_64::RBP].contains(register) && (0..1 << 20).contains(offset));
            let rbp = matches!(rbp, None | Some(RegisterRule::SameValue));
            let ra = ra == Some(RegisterRule::Offset(-8));
            assert!(
                !(plain && rbp && ra),
                "an expressible row is unsupported at {at:#x}"
            );
            return true;
        }
        other => panic!("covered code is of kind {other} at {at:#x}"),
    }
    false
}

#[test]
fn every_row_of_the_system_says_what_gimli_says() {
    let (mut all, mut all_unsupported) = (0, 0);
    for path in unwind_support::images() {
        let data = unwind_support::map_file(&path);
        let began = Instant::now();
        let table = UnwindTable::from_elf(&data).unwrap();
        let took = began.elapsed();
        assert_eq!(table.skipped, 0, "{}", path.display());

        let file = object::File::parse(&*data).unwrap();
        let frames = file.section_by_name(".eh_frame").unwrap();
        let section = EhFrame::new(frames.data().unwrap(), LittleEndian);
        let text = file.section_by_name(".text").unwrap().address();
        let bases = BaseAddresses::default()
            .set_eh_frame(frames.address())
            .set_text(text);
        let mut context = UnwindContext::new();
        let mut entries = section.entries(&bases);
        let (mut rows, mut unsupported, mut fdes) = (0u64, 0u64, 0);
        while let Some(entry) = entries.next().unwrap() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let fde = partial.parse(Section::cie_from_offset).unwrap();
            if fde.len() == 0 {
                continue;
            }
            fdes += 1;
            let encoding = fde.cie().encoding();
            let mut lines = fde.rows(&section, &bases, &mut context).unwrap();
            while let Some(line) = lines.next_row().unwrap() {
                if line.start_address() == line.end_address() {
                    continue;
                }
                rows += 1;
                for at in [line.start_address(), line.end_address() - 1] {
                    let rule = table.rule(Svma(at));
                    unsupported += u64::from(same(&section, encoding, line, rule, at));
                }
            }
        }
        assert_eq!(fdes, table.entries, "{}", path.display());
        all += rows;
        all_unsupported += unsupported / 2;
        println!(
            "{}: {rows} rows of DWARF, {} kept, {} unsupported, built in {took:?}",
            path.display(),
            table.rows.len(),
            unsupported / 2
        );
    }
    assert!(
        all_unsupported * 500 <= all,
        "{all_unsupported} of {all} rows are unsupported"
    );
}

/// A look-up through the index is a plain search for the last row at or before the address.
fn assert_index(table: &UnwindTable, step: usize) {
    assert!(table.rows.is_sorted_by_key(|r| row::pc_rel(*r)));
    assert_eq!(row::pc_rel(table.rows[0]), 0);
    assert_eq!(table.index.last(), Some(&(table.rows.len() as u64)));
    let span = (table.index.len() as u64 - 1) << row::BLOCK_SHIFT;
    for rel in (0..span).step_by(step) {
        let after = table
            .rows
            .partition_point(|r| u64::from(row::pc_rel(*r)) <= rel);
        let want = row::rule(table.rows[after - 1]);
        assert_eq!(table.rule(Svma(table.base.0 + rel)), want, "{rel:#x}");
    }
    for outside in [
        0,
        table.base.0.wrapping_sub(1),
        table.base.0 + span,
        u64::MAX,
    ] {
        if outside.wrapping_sub(table.base.0) >= span {
            assert_eq!(table.rule(Svma(outside)), Rule::GAP, "{outside:#x}");
        }
    }
}

#[test]
fn the_index_finds_what_a_plain_search_finds() {
    for path in unwind_support::images() {
        let data = unwind_support::map_file(&path);
        let table = UnwindTable::from_elf(&data).unwrap();
        // Every byte of the small ones; bytes of all residues of the large ones.
        assert_index(&table, if data.len() < 4 << 20 { 1 } else { 13 });
        let crowded = table.index.array_windows().map(|[a, b]| b - a).max();
        println!("{}: at most {crowded:?} rows in a block", path.display());
    }
}

#[test]
fn the_signal_trampoline_and_the_thread_start_are_known() {
    let libc = unwind_support::map_file("/lib/x86_64-linux-gnu/libc.so.6".as_ref());
    let table = UnwindTable::from_elf(&libc).unwrap();
    let mut kinds = BTreeMap::new();
    for row in &table.rows {
        *kinds.entry(row::rule(*row).kind()).or_insert(0) += 1;
    }
    println!("rows of libc by kind: {kinds:?}");
    assert_eq!(kinds.get(&kind::SIG), Some(&1), "__restore_rt");
    assert!(kinds.contains_key(&kind::END), "clone and start_thread");
    assert!(kinds.contains_key(&kind::PLT));
    assert!(kinds.contains_key(&kind::RBP));
}

/// glibc ends the entries of `clone` before the system call, because afterwards they would be
/// wrong for the child. The parent waits there, in `posix_spawn`, until its child executes:
/// the short hole must not pass for padding, which would give it the rule of other code.
#[test]
fn a_parent_that_waits_in_clone_is_in_a_gap() {
    let libc = unwind_support::map_file("/lib/x86_64-linux-gnu/libc.so.6".as_ref());
    let table = UnwindTable::from_elf(&libc).unwrap();
    let file = object::File::parse(&*libc).unwrap();
    let clone = file
        .dynamic_symbols()
        .find(|s| s.name() == Ok("clone"))
        .unwrap();
    let text = file.section_by_name(".text").unwrap();
    let code = text
        .data_range(clone.address(), clone.size())
        .unwrap()
        .unwrap();
    let syscall = code.windows(2).position(|w| w == [0x0f, 0x05]).unwrap() as u64;
    let after = Svma(clone.address() + syscall + 2);
    assert_eq!(table.rule(after), Rule::GAP);
    assert_eq!(
        table.rule(Svma(clone.address())),
        Rule::encode(kind::RSP, 8, 0)
    );
}

#[test]
fn the_vdso_has_rows_with_and_without_section_headers() {
    let image = unwind_support::vdso();
    let table = UnwindTable::from_elf(&image).unwrap();
    assert!(table.entries > 0);
    assert_eq!(table.skipped, 0);
    assert!(table.rows.iter().any(|r| row::rule(*r).kind() == kind::RSP));
    assert_index(&table, 1);
    let bare = UnwindTable::from_elf(&without_sections(image)).unwrap();
    assert_same_rules(&table, &bare, "the vDSO");
}

/// That two tables of one file have the same rules where it has unwinding information. Without
/// section headers it has no names either, and functions that nothing covers are found by their
/// callers.
fn assert_same_rules(table: &UnwindTable, bare: &UnwindTable, name: &str) {
    assert_eq!(bare.entries, table.entries, "{name}");
    // Less than an alignment between two functions is padding, and no gap.
    const PADDING: u32 = 15;
    let made = |at: u32| {
        let mut spans = bare.synthesized.iter().chain(&table.synthesized);
        spans.any(|(start, len)| (start.saturating_sub(PADDING)..start + len).contains(&at))
    };
    let starts = table
        .rows
        .iter()
        .chain(&bare.rows)
        .map(|row| (row >> 32) as u32);
    let mut compared = 0;
    for at in starts.filter(|at| !made(*at)) {
        let svma = Svma(table.base.0 + u64::from(at));
        assert_eq!(bare.rule(svma), table.rule(svma), "{name} at {at:#x}");
        compared += 1;
    }
    assert!(compared >= table.entries, "{name}: {compared} rows");
}

/// As `sstrip` leaves it: e_shoff, e_shnum and e_shstrndx are zero.
fn without_sections(mut image: Vec<u8>) -> Vec<u8> {
    image[0x28..0x30].fill(0);
    image[0x3c..0x40].fill(0);
    image
}

#[test]
fn a_file_without_section_headers_gives_the_same_rows() {
    for name in ["libc.so.6", "libgcc_s.so.1"] {
        let path = std::path::Path::new("/lib/x86_64-linux-gnu").join(name);
        let data = unwind_support::map_file(&path).to_vec();
        let table = UnwindTable::from_elf(&data).unwrap();
        let module = Module::from_elf(&data).unwrap();
        let bare = without_sections(data);
        assert_same_rules(&table, &UnwindTable::from_elf(&bare).unwrap(), name);
        let stripped = Module::from_elf(&bare).unwrap();
        assert_eq!(stripped.build_id, module.build_id);
        assert_eq!(stripped.executable, module.executable);
        assert!(!stripped.has_dynsym && module.has_dynsym);
    }
}

#[test]
fn tables_are_shared_by_build_id() {
    let libc = unwind_support::map_file("/lib/x86_64-linux-gnu/libc.so.6".as_ref());
    let libm = unwind_support::map_file("/lib/x86_64-linux-gnu/libm.so.6".as_ref());
    let id = Module::from_elf(&libc).unwrap().build_id.unwrap();
    assert!(
        id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    let image = |bytes, build_id| Image { build_id, bytes };
    let tables = build_all(&[
        image(&libc, Some(&id)),
        image(&libm, None),
        image(b"#!/bin/sh", Some("5c41")),
        image(&libc, Some(&id)),
        image(&libm, None),
    ]);
    let tables: Vec<_> = tables.iter().map(|t| t.as_ref().ok()).collect();
    assert!(std::sync::Arc::ptr_eq(
        tables[0].unwrap(),
        tables[3].unwrap()
    ));
    assert!(!std::sync::Arc::ptr_eq(
        tables[1].unwrap(),
        tables[4].unwrap()
    ));
    assert_eq!(tables[1], tables[4]);
    assert!(tables[2].is_none());
    assert_eq!(**tables[0].unwrap(), UnwindTable::from_elf(&libc).unwrap());
}

#[test]
fn functions_are_where_the_symbols_say() {
    let own = std::env::current_exe().unwrap();
    let data = unwind_support::map_file(&own);
    let functions = Functions::from_elf(&data).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let (mut checked, mut found) = (0, 0);
    for symbol in file.symbols() {
        let rust = (symbol.name()).is_ok_and(|n| n.starts_with("_R") || n.starts_with("_ZN"));
        if symbol.kind() != object::SymbolKind::Text
            || !symbol.is_definition()
            || !rust
            || symbol.size() == 0
        {
            continue;
        }
        checked += 1;
        let middle = Svma(symbol.address() + symbol.size() / 2);
        let range = functions.containing(middle);
        found += u64::from(
            range == Some(Svma(symbol.address())..Svma(symbol.address() + symbol.size())),
        );
    }
    assert!(checked > 50, "{checked}");
    assert_eq!(found, checked);
    assert_eq!(functions.containing(Svma(0)), None);
    assert_eq!(functions.containing(Svma(u64::MAX)), None);
    let module = Module::from_elf(&data).unwrap();
    assert!(module.has_symtab && module.has_debug_lines);
}
