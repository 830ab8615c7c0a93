//! Rows read off the code against those that compilers and people wrote: where a function has
//! unwinding information, what is read off its instructions says the same or nothing.

mod unwind_support;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use holdup::process::module::Functions;
use holdup::units::Svma;
use holdup::unwind::{UnwindTable, synthesis};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};
use profiler_common::row::{Rule, kind};
use std::collections::HashSet;
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
