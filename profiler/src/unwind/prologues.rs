//! Code without unwinding information that keeps frame pointers, known by how its functions begin.
//!
//! A program may be stripped of its unwinding information and keep frame pointers instead: V8's
//! own functions in every program that embeds it, and all of deno. Then each function begins with
//! `push %rbp; mov %rsp, %rbp` (AMD64 supplement, 3.2.2).

use super::relocations::ReadAt;
use crate::process::module::Elf;
use crate::units::Svma;
use memchr::memmem::Finder;
use std::ops::Range;

/// `push %rbp; mov %rsp, %rbp`.
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// Code that has one in so many bytes keeps frame pointers: functions of deno have 400 bytes, those of
/// V8's interpreter 900. Without frame pointers only functions of variable frames have one, in 5 KB
/// and more.
const BYTES_PER_PROLOGUE: u64 = 2048;
/// Shorter stretches say nothing by themselves, but all of an image together do: where some crates have
/// unwinding information and others none, their functions take turns.
const MIN_STRETCH: u32 = 4096;
/// Code looked at of one image, in bytes. deno has 61 MiB.
const MAX_CODE: u64 = 256 << 20;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// A stretch of code that keeps frame pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Framed {
    /// Where it is, relative to the table's base.
    pub(super) range: Range<u32>,
    /// Where its functions begin, likewise, sorted.
    pub(super) starts: Vec<u32>,
}

/// Of stretches of code that nothing covers, those that keep frame pointers.
pub(super) fn framed(
    elf: &Elf<'_>,
    file: &ReadAt<'_>,
    base: Svma,
    gaps: &[Range<u32>],
) -> Vec<Framed> {
    let finder = Finder::new(&PROLOGUE);
    let mut left = MAX_CODE;
    let mut framed = Vec::new();
    let mut short = Density::default();
    for gap in gaps {
        let len = u64::from(gap.end.saturating_sub(gap.start));
        if len < PROLOGUE.len() as u64 || len > left {
            continue;
        }
        left -= len;
        let range = gap.clone();
        let starts = starts(elf, file, base, gap, &finder);
        if is_short(gap) {
            short.add(len, &starts);
        }
        framed.push(Framed { range, starts });
    }
    framed.retain(|stretch| {
        let len = u64::from(stretch.range.end - stretch.range.start);
        let mut own = Density::default();
        own.add(len, &stretch.starts);
        own.is_framed() && (!is_short(&stretch.range) || short.is_framed() && short.is_enough())
    });
    framed
}

fn is_short(gap: &Range<u32>) -> bool {
    gap.end.saturating_sub(gap.start) < MIN_STRETCH
}

/// How many functions of some code begin as those do that keep frame pointers.
#[derive(Clone, Copy, Debug, Default)]
struct Density {
    bytes: u64,
    prologues: u64,
}

impl Density {
    fn add(&mut self, bytes: u64, starts: &[u32]) {
        self.bytes += bytes;
        self.prologues += starts.len() as u64;
    }

    fn is_framed(self) -> bool {
        self.prologues > 0 && self.prologues * BYTES_PER_PROLOGUE >= self.bytes
    }

    fn is_enough(self) -> bool {
        self.bytes >= u64::from(MIN_STRETCH)
    }
}

/// Where functions begin in a stretch of code, as far as it can be read.
fn starts(
    elf: &Elf<'_>,
    file: &ReadAt<'_>,
    base: Svma,
    gap: &Range<u32>,
    finder: &Finder<'_>,
) -> Vec<u32> {
    let mut starts = Vec::new();
    let mut code = vec![0; CHUNK.min(gap.len())];
    let mut at = gap.start;
    while at < gap.end {
        let len = CHUNK.min((gap.end - at) as usize);
        let offset = elf.file_offset(Svma(base.0 + u64::from(at)));
        let Some(chunk) = code.get_mut(..len) else {
            break;
        };
        if !offset.is_some_and(|offset| file(chunk, offset)) {
            break;
        }
        starts.extend(finder.find_iter(chunk).map(|found| at + found as u32));
        if len <= PROLOGUE.len() {
            break;
        }
        // One may lie across the end of what was read.
        let next = at + (len - (PROLOGUE.len() - 1)) as u32;
        at = if at + len as u32 == gap.end {
            gap.end
        } else {
            next
        };
    }
    starts
}
