//! Rows read off the code against those that compilers and people wrote: where a function has
//! unwinding information, what is read off its instructions says the same or nothing.

mod unwind_support;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use holdup::process::module::Functions;
use holdup::units::Svma;
use holdup::unwind::{UnwindTable, synthesis};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SegmentFlags, SymbolKind};
use profiler_common::row::{Rule, kind};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use unwind_support::{images, map_file};

/// Code of the image at an address.
fn code<'a>(file: &object::File<'a>, begin: u64, len: u64) -> Option<&'a [u8]> {
    let segment = file.segments().find(|segment| {
        let executable = matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.contains(object::elf::PF_X));
        executable && (segment.address()..segment.address() + segment.size()).contains(&begin)
    })?;
    let skip = (begin - segment.address()) as usize;
    segment.data().ok()?.get(skip..skip + len as usize)
}

/// Where functions begin that an exception may enter in the middle: their landing pads are
/// reached by no instruction. Functions without unwinding information have none.
fn with_landing_pads(file: &object::File<'_>) -> HashSet<u64> {
    let Some(section) = file.section_by_name(".eh_frame") else {
        return HashSet::new();
    };
    let bytes = section.uncompressed_data().unwrap();
    let frames = EhFrame::new(&bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut entries = frames.entries(&bases);
    let mut found = HashSet::new();
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(|section, bases, at| section.cie_from_offset(bases, at))
            && fde.lsda().is_some()
        {
            found.insert(fde.initial_address());
        }
    }
    found
}

#[derive(Debug, Default)]
struct Sum {
    functions: usize,
    proven: usize,
    rows: usize,
    /// Functions whose entry says only that they are one, and that move `rsp`.
    unstated: usize,
    wrong: Vec<String>,
}

/// Compares at every instruction, or (`exact` is false) at calls only: not all compilers state
/// what happens between the pushes of arguments, and none has to.
fn compare(name: &str, image: &[u8], exact: bool) -> Sum {
    let mut sum = Sum::default();
    let file = object::File::parse(image).unwrap();
    let (table, functions) = (
        UnwindTable::from_elf(image).unwrap(),
        Functions::from_elf(image).unwrap(),
    );
    let with_landing_pads = with_landing_pads(&file);
    for (start, len) in &functions.ranges {
        let begin = functions.base.0 + u64::from(*start);
        // A part that lies apart is entered in the middle of its function.
        if with_landing_pads.contains(&begin)
            || table.rule(Svma(begin)) != Rule::encode(kind::RSP, 8, 0)
        {
            continue;
        }
        let Some(code) = code(&file, begin, (*len).into()) else {
            continue;
        };
        sum.functions += 1;
        let Some(states) = synthesis::states(code, &[]) else {
            continue;
        };
        sum.proven += 1;
        let stated = |at: u32| table.rule(Svma(begin + u64::from(at)));
        // Hand-written code of which only that it is a function is stated.
        let says_nothing = states
            .iter()
            .all(|(at, _)| stated(*at) == Rule::encode(kind::RSP, 8, 0));
        for (at, state) in states {
            if says_nothing && !state.admits(stated(at)) {
                sum.unstated += 1;
                break;
            }
            let is_call = matches!(
                code.get(at as usize..),
                Some([0xe8 | 0xff, ..] | [0x0f, 0x05, ..])
            );
            if !exact && !is_call {
                continue;
            }
            sum.rows += 1;
            if state.rule() != Rule::UNSUPPORTED && !state.admits(stated(at)) {
                sum.wrong.push(format!(
                    "{name}: {begin:#x}+{at:#x}: stated {:x?}, read {state:x?}",
                    stated(at)
                ));
            }
        }
    }
    sum
}

#[test]
fn what_is_read_off_the_code_is_what_is_stated() {
    let mut wrong = Vec::new();
    for path in images() {
        let exact = path.starts_with("/usr/lib") || path.starts_with("/lib");
        let sum = compare(&path.display().to_string(), &map_file(&path), exact);
        println!(
            "{}: {} of {} functions proven, {} of them unstated, {} instructions compared, {} differ",
            path.display(),
            sum.proven,
            sum.functions,
            sum.unstated,
            sum.rows,
            sum.wrong.len()
        );
        wrong.extend(sum.wrong);
    }
    for line in wrong.iter().filter(|l| !l.contains("bin/cargo")).take(200) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} differ", wrong.len());
}

/// What is known at each instruction that can be reached, as the row that says it.
fn rules(code: &[u8]) -> Option<Vec<(u32, Rule)>> {
    let states = synthesis::states(code, &[])?;
    Some(
        states
            .iter()
            .map(|(at, state)| (*at, state.rule()))
            .collect(),
    )
}

fn rsp(offset: i64) -> Rule {
    Rule::encode(kind::RSP, offset, 0)
}

/// `push %rbx; test %edi, %edi; je L; pop %rbx; ret; L:`, and what a function ends in.
fn ends_in(last: &[u8]) -> Vec<u8> {
    let mut code = vec![0x53, 0x85, 0xff, 0x74, 0x02, 0x5b, 0xc3];
    code.extend(last);
    code
}

#[test]
fn a_call_at_the_end_does_not_return() {
    let direct: &[u8] = &[0xe8, 0x00, 0x10, 0x00, 0x00];
    // Through a slot of the global offset table, and through a virtual table.
    let by_slot: &[u8] = &[0xff, 0x15, 0x34, 0x12, 0x00, 0x00];
    let virtually: &[u8] = &[0xff, 0x50, 0x18];
    for call in [direct, by_slot, virtually] {
        for padding in [&[][..], &[0xcc], &[0x90, 0x90]] {
            let code = ends_in(&[call, padding].concat());
            let rules = rules(&code).unwrap_or_else(|| panic!("{code:x?}"));
            let at = |want: u32| rules.iter().find(|(at, _)| *at == want).unwrap().1;
            assert_eq!(
                (at(0), at(1), at(6), at(7)),
                (rsp(8), rsp(16), rsp(8), rsp(16))
            );
            assert!(rules.iter().all(|(at, _)| *at <= 7), "{rules:x?}");
        }
    }
}

/// How compilers touch each page of a large frame, one after the other.
#[test]
fn a_stack_that_is_probed_by_a_loop_has_a_depth_after_it() {
    let code = [
        &[0x4c, 0x8d, 0x9c, 0x24, 0, 0, 0xe0, 0xff][..], // 0: lea -0x200000(%rsp), %r11
        &[0x48, 0x81, 0xec, 0, 0x10, 0, 0],              // 8: sub $0x1000, %rsp
        &[0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0],           // 15: movq $0, (%rsp)
        &[0x4c, 0x39, 0xdc],                             // 23: cmp %r11, %rsp
        &[0x75, 0xec],                                   // 26: jne 8
        &[0x48, 0x83, 0xec, 0x38],                       // 28: sub $0x38, %rsp
        &[0xe8, 0, 0x10, 0, 0],                          // 32: call
        &[0x48, 0x81, 0xc4, 0x38, 0, 0x20, 0],           // 37: add $0x200038, %rsp
        &[0xc3],                                         // 44: ret
    ]
    .concat();
    let rules = rules(&code).expect("proven");
    let at = |want: u32| rules.iter().find(|(at, _)| *at == want).unwrap().1;
    assert_eq!((at(0), at(44)), (rsp(8), rsp(8)));
    for inside in [8, 15, 23, 26] {
        assert_eq!(
            at(inside),
            Rule::UNSUPPORTED,
            "in the loop no one depth holds"
        );
    }
    assert_eq!(at(28), rsp(8 + (2 << 20)));
    assert_eq!(at(37), rsp(8 + (2 << 20) + 0x38));
    assert_ne!(at(37), Rule::UNSUPPORTED);
    // Compared with something else, it is a loop like any other.
    let mut other = code.clone();
    other[23..26].copy_from_slice(&[0x4c, 0x39, 0xd4]); // cmp %r10, %rsp
    assert_eq!(self::rules(&other), None);
    // r11 is another one by then.
    let mut changed = code;
    changed[15..23].copy_from_slice(&[0x49, 0x83, 0xc3, 0x08, 0x90, 0x90, 0x90, 0x90]);
    assert_eq!(self::rules(&changed), None);
}

/// As musl's name look-ups have it: how long its arrays are is known only when it runs.
#[test]
fn below_an_array_of_variable_length_the_frame_pointer_counts() {
    let code = [
        &[0x55][..],               // 0: push %rbp
        &[0x48, 0x89, 0xe5],       // 1: mov %rsp, %rbp
        &[0x53],                   // 4: push %rbx
        &[0x48, 0x83, 0xec, 0x08], // 5: sub $8, %rsp
        &[0x48, 0x29, 0xc4],       // 9: sub %rax, %rsp
        &[0xe8, 0, 0x10, 0, 0],    // 12: call
        &[0x48, 0x8d, 0x65, 0xf8], // 17: lea -8(%rbp), %rsp
        &[0x5b],                   // 21: pop %rbx
        &[0x5d],                   // 22: pop %rbp
        &[0xc3],                   // 23: ret
    ]
    .concat();
    let rules = rules(&code).expect("proven");
    let at = |want: u32| rules.iter().find(|(at, _)| *at == want).unwrap().1;
    assert_eq!(at(9), Rule::encode(kind::RSP, 32, -16));
    for below in [12, 17] {
        assert_eq!(at(below), Rule::encode(kind::RBP, 16, -16));
    }
    assert_eq!(at(21), Rule::encode(kind::RSP, 24, -16));
    assert_eq!((at(0), at(23)), (rsp(8), rsp(8)));
    // Without a frame pointer nobody knows where the frame is.
    let mut without = code;
    without[1..4].copy_from_slice(&[0x90; 3]);
    assert_eq!(self::rules(&without), None);
}

/// A tail call through a pointer may stand in the middle of a function.
#[test]
fn a_jump_through_a_pointer_leaves_the_function() {
    for jump in [
        &[0xff, 0x60, 0x18][..],
        &[0xff, 0x25, 0x34, 0x12, 0x00, 0x00],
    ] {
        // test %edi, %edi; je L; jmp *…; L: push %rbx; call *0x1234(%rip)
        let mut code = vec![0x85, 0xff, 0x74, jump.len() as u8];
        code.extend(jump);
        code.extend([0x53, 0xff, 0x15, 0x34, 0x12, 0x00, 0x00]);
        let rules = rules(&code).unwrap_or_else(|| panic!("{code:x?}"));
        assert_eq!(rules.last(), Some(&(5 + jump.len() as u32, rsp(16))));
    }
}

/// Such a jump with something of the caller's still on the stack leads to nothing that is known,
/// nor does one whose target a register holds.
#[test]
fn other_jumps_stay_within_the_function() {
    // push %rbx; jmp *0x18(%rax); pop %rbx; ret: the rest can be reached by the jump only.
    let code = [0x53, 0xff, 0x60, 0x18, 0x5b, 0xc3];
    let rest = rules(&code).unwrap();
    assert_eq!(rest.get(2), Some(&(4, rsp(16))), "{rest:x?}");
    // jmp *(%rax,%rcx,8); ret
    let table = rules(&[0xff, 0x24, 0xc8, 0xc3]).unwrap();
    assert_eq!(table.last(), Some(&(3, rsp(8))), "{table:x?}");
}

/// Two jumps by table, one before and one after `rbp` gets another use: what both lead to is known
/// as far as both agree.
#[test]
fn jumps_by_table_agree_on_what_both_know() {
    // push %rbp; jmp *(%rax,%rcx,8); mov %eax, %ebp; jmp *(%rax,%rcx,8); pop %rbp; ret
    let jump = [0xff, 0x24, 0xc8];
    let code = [&[0x55], &jump[..], &[0x89, 0xc5], &jump, &[0x5d, 0xc3]].concat();
    let rules = rules(&code).unwrap();
    let saved = Rule::encode(kind::RSP, 16, -16);
    let at = |want: u32| rules.iter().find(|(at, _)| *at == want).unwrap().1;
    assert_eq!((at(1), at(6), at(9)), (rsp(16), saved, saved), "{rules:x?}");
    assert_eq!(at(10), rsp(8));
    // Where they do not agree on where the frame is, nothing is known.
    let code = [&[0x55], &jump[..], &[0x50], &jump, &[0x5d, 0xc3]].concat();
    assert_eq!(synthesis::states(&code, &[]), None);
}

/// A statically linked program, as the compiler made it.
fn static_program() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
    let text = "#include <stdio.h>\n#include <stdlib.h>\n#include <pthread.h>\n\
        static void *run(void *arg) { char b[64]; return fgets(b, 64, stdin) ? arg : 0; }\n\
        int main(int argc, char **argv) { pthread_t t; pthread_create(&t, 0, run, argv);\n\
        printf(\"%g %d\\n\", strtod(argv[0], 0), argc); return pthread_join(t, 0); }\n";
    std::fs::write(&source, text).expect("the source");
    let cc = std::process::Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .args([&program, &source])
        .status();
    assert!(cc.is_ok_and(|status| status.success()), "no C compiler");
    std::fs::read(&program).expect("the program")
}

/// Takes away what tells where functions are: symbols and unwinding information.
fn strip(image: &mut [u8]) {
    let half = |image: &[u8], at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    let word = |image: &[u8], at: usize| {
        usize::try_from(u64::from_le_bytes(image[at..at + 8].try_into().unwrap())).unwrap()
    };
    let segments = word(image, 32);
    for n in 0..usize::from(half(image, 56)) {
        let at = segments + n * 56;
        if image[at..at + 4] == 0x6474_e550_u32.to_le_bytes() {
            image[at..at + 4].fill(0); // PT_GNU_EH_FRAME to PT_NULL
        }
    }
    strip_symbols(image);
    let name = b"\0.eh_frame\0";
    let found = image.windows(name.len()).rposition(|bytes| bytes == name);
    image[found.expect("a section of that name") + 1] = b'-';
}

fn strip_symbols(image: &mut [u8]) {
    let sections = usize::try_from(u64::from_le_bytes(image[40..48].try_into().unwrap())).unwrap();
    for n in 0..usize::from(u16::from_le_bytes([image[60], image[61]])) {
        let at = sections + n * 64 + 4;
        if image[at..at + 4] == 2_u32.to_le_bytes() {
            image[at..at + 4].copy_from_slice(&1_u32.to_le_bytes()); // SHT_SYMTAB
        }
    }
}

/// Functions that nothing but their callers tell of are found, and what is read off their code is
/// true.
#[test]
fn functions_without_any_sign_are_found_by_their_callers() {
    let whole = static_program();
    let stated = UnwindTable::from_elf(&whole).unwrap();
    let mut stripped = whole.clone();
    strip(&mut stripped);
    let read = UnwindTable::from_elf(&stripped).unwrap();
    assert_eq!(read.entries, 0, "unwinding information was left");
    let functions = Functions::from_elf(&whole).unwrap();
    let starts: HashSet<u32> = functions.ranges.iter().map(|(start, _)| *start).collect();
    let found = read.synthesized.iter().map(|(start, _)| *start);
    let true_starts = found.filter(|start| starts.contains(start)).count();
    let (mut same, mut wrong) = (0_u64, Vec::new());
    let at = |rel: u32| Svma(functions.base.0 + u64::from(rel));
    for (start, len) in &functions.ranges {
        // Hand-written code of which only that it is a function is stated.
        if (*start..start + len).all(|rel| stated.rule(at(rel)) == rsp(8)) {
            continue;
        }
        for svma in (*start..start + len).map(at) {
            let (read, stated) = (read.rule(svma), stated.rule(svma));
            if read.kind() == kind::RSP && stated.kind() == kind::RSP {
                if read.cfa_off() == stated.cfa_off() {
                    same += 1;
                } else {
                    wrong.push(format!("{svma:x?}: stated {stated:x?}, read {read:x?}"));
                }
            }
        }
    }
    println!(
        "{} functions, {} found, {true_starts} of them where one begins; {same} bytes alike, {} not",
        functions.ranges.len(),
        read.synthesized.len(),
        wrong.len()
    );
    for line in wrong.iter().take(20) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} bytes differ", wrong.len());
    assert!(true_starts * 5 > functions.ranges.len(), "{true_starts}");
    assert!(
        true_starts * 10 > read.synthesized.len() * 9,
        "{true_starts}"
    );
}

/// A program in Rust in which panics abort, as the compiler made it.
fn jumping_program() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("jumps");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = std::process::Command::new(rustc)
        .args(["--edition=2024", "-O", "-Cpanic=abort", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/jumps.rs"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "no rustc");
    std::fs::read(&program).expect("the program")
}

/// Where the program's own functions are, by their names, and their code.
fn own_functions(image: &[u8]) -> BTreeMap<u64, (String, &[u8])> {
    let file = object::File::parse(image).unwrap();
    let functions = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text);
    let functions = functions.filter_map(|symbol| {
        let code = code(&file, symbol.address(), symbol.size())?;
        let name = symbol.name().ok().filter(|name| name.contains("5jumps"))?;
        Some((symbol.address(), (name.to_owned(), code)))
    });
    functions.collect()
}

/// Takes away the entries of these functions, as if they had none. How many there were.
fn without_entries(image: &mut [u8], of: impl Fn(u64) -> bool) -> usize {
    let whole = image.to_vec();
    let file = object::File::parse(&*whole).unwrap();
    let section = file.section_by_name(".eh_frame").unwrap();
    let (start, _) = section.file_range().unwrap();
    let frames = EhFrame::new(section.data().unwrap(), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut entries = frames.entries(&bases);
    let mut gone = 0;
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(|section, bases, at| section.cie_from_offset(bases, at))
            && of(fde.initial_address())
        {
            // Of no bytes of code: its length, its CIE, where the code begins, how long it is.
            let at = start as usize + fde.offset() + 12;
            assert_eq!(image[at..at + 4], (fde.len() as u32).to_le_bytes());
            image[at..at + 4].fill(0);
            gone += 1;
        }
    }
    gone
}

/// Where a program has no unwinding information, and no symbols either, what is read off its code is what
/// the compiler states of it: through jumps by table, past calls that do not return, and in functions that
/// only pointers and such jumps lead to.
#[test]
fn a_stripped_program_in_rust_is_read_as_the_compiler_states_it() {
    let whole = jumping_program();
    let stated = UnwindTable::from_elf(&whole).unwrap();
    let functions = own_functions(&whole);
    let mut bare = whole.clone();
    let gone = without_entries(&mut bare, |at| functions.contains_key(&at));
    assert_eq!(gone, functions.len(), "each has an entry");
    strip_symbols(&mut bare);
    let read = UnwindTable::from_elf(&bare).unwrap();
    assert_eq!(read.entries as usize + gone, stated.entries as usize);
    let (mut same, mut wrong, mut missing) = (0_u64, Vec::new(), Vec::new());
    for (at, (name, code)) in &functions {
        let mut found = 0;
        for svma in (*at..at + code.len() as u64).map(Svma) {
            let (read, stated) = (read.rule(svma), stated.rule(svma));
            if read.kind() != kind::RSP || stated.kind() != kind::RSP {
                continue;
            }
            found += 1;
            // Until it is overwritten, a saved `rbp` is also where it was.
            let rbp = [0, stated.rbp_below_cfa()].contains(&read.rbp_below_cfa());
            if read.cfa_off() == stated.cfa_off() && rbp {
                same += 1;
            } else {
                wrong.push(format!(
                    "{name} {svma:x?}: stated {stated:x?}, read {read:x?}"
                ));
            }
        }
        if found * 10 < code.len() as u64 * 9 {
            missing.push(format!("{name}: {found} of {} bytes", code.len()));
        }
    }
    let by_register = |code: &[u8]| {
        let mut pairs = code.windows(2);
        pairs.any(|bytes| matches!(bytes, [0xff, 0xe0..=0xe7]))
    };
    let by_table = functions.values().filter(|(_, code)| by_register(code));
    let by_table = by_table.count();
    println!(
        "{} functions, {by_table} of them with jumps by table, {} not read; {same} bytes alike, {} not",
        functions.len(),
        missing.len(),
        wrong.len()
    );
    for line in wrong.iter().chain(&missing).take(40) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} bytes differ", wrong.len());
    assert!(by_table >= 4, "{by_table} functions with jumps by table");
    assert!(missing.is_empty(), "{} are not read", missing.len());
}
