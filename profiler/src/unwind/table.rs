//! The rows of one module, and the index over them.

use super::effort::{Effort, Share};
use super::prologues::framed;
use super::relocations::ReadAt;
use super::rule::rule_of;
use super::uncovered::synthesize;
use crate::process::module::{Bytes, Elf, FdeVisitor, ModuleError, for_each_fde, text_range};
use crate::units::{Addr, Svma};
use gimli::{
    BaseAddresses, FrameDescriptionEntry, Register, RegisterRule, UnwindContext,
    UnwindContextStorage, UnwindSection, UnwindTableRow,
};
use profiler_common::row::{self, BLOCK_SHIFT, Mapping, Rows, Rule};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Functions are aligned to this many bytes where the compiler does not optimise for size.
const FUNCTION_ALIGN: u32 = 16;

/// How many times the bytes of its file a module's code may span. Code is contiguous in a real
/// file; an index over a wider span is a hostile file's way to take our memory.
const MAX_SPREAD: u64 = 64;

/// Unwinding rows of one module: relocatable, so that all processes can share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwindTable {
    /// [`row::row`]s, sorted; neighbours differ in their rule. The first is at 0, so that every
    /// address has a row: [`Rule::GAP`] where the module says nothing.
    pub rows: Vec<u64>,
    /// `index[b]` is the number of the first row at or after `b << BLOCK_SHIFT`; the last entry
    /// is the number of rows. There is one entry more than there are blocks of code.
    pub index: Vec<u64>,
    /// The address that rows are relative to: that of the lowest executable segment.
    pub base: Svma,
    /// Frame description entries that became rows. 0 is a module without unwinding information.
    pub entries: u32,
    /// Functions without such an entry whose rows were read off their code: starts, relative to
    /// the base, and lengths in bytes, sorted.
    pub synthesized: Vec<(u32, u32)>,
    /// Functions of code that has neither and keeps frame pointers ([`Rule::FRAME_POINTER`]): likewise,
    /// each up to the next.
    pub framed: Vec<(u32, u32)>,
    /// Entries that could not be parsed, in whole or in part; what they cover is
    /// [`Rule::GAP`] or [`Rule::UNSUPPORTED`].
    pub skipped: u32,
    /// Whether there was more than [`Effort`] allows; what it covers is [`Rule::GAP`], too.
    pub left_out: bool,
}

impl UnwindTable {
    /// Builds the rows from an ELF image's bytes. An image without unwinding information gives
    /// a table that is one gap.
    ///
    /// # Errors
    /// [`ModuleError`] where the bytes are not an x86_64 ELF image, have no code, or state
    /// addresses that no real file has. Entries that cannot be parsed are no error: see
    /// [`UnwindTable::skipped`].
    pub fn from_elf(data: &[u8]) -> Result<UnwindTable, ModuleError> {
        UnwindTable::from_memory(data, &Effort::default())
    }

    /// As [`UnwindTable::from_elf`], of what is read beside others.
    ///
    /// # Errors
    /// As [`UnwindTable::from_elf`].
    pub fn from_memory(data: &[u8], effort: &Effort) -> Result<UnwindTable, ModuleError> {
        let read = |into: &mut [u8], offset: u64| {
            let bytes = usize::try_from(offset).ok().and_then(|at| data.get(at..));
            let bytes = bytes.and_then(|rest| rest.get(..into.len()));
            bytes.inspect(|bytes| into.copy_from_slice(bytes)).is_some()
        };
        UnwindTable::from_elf_and_file(data, &read, effort)
    }

    /// As [`UnwindTable::from_elf`], of an image in which the code may be missing: that is read
    /// from `file` where it is wanted. Whoever drops the table gives back what it
    /// takes to `effort` ([`UnwindTable::effort`]).
    ///
    /// # Errors
    /// As [`UnwindTable::from_elf`].
    pub fn from_elf_and_file(
        data: &[u8],
        file: &ReadAt<'_>,
        effort: &Effort,
    ) -> Result<UnwindTable, ModuleError> {
        let elf = Elf::parse(data)?;
        let base = elf
            .text_base()
            .ok_or(ModuleError::Malformed("no executable segment"))?;
        let executable: Vec<Range<u64>> = elf.executable().map(|s| s.file_backed()).collect();
        let end = executable.iter().map(|r| r.end).max().unwrap_or(base.0);
        let span = end - base.0;
        let widest = (data.len() as u64).saturating_mul(MAX_SPREAD);
        if span > widest || u32::try_from(span).is_err() {
            return Err(ModuleError::Malformed("executable segments far apart"));
        }
        let mut share = Share::new(effort);
        if !share.allows_index(span.div_ceil(1 << BLOCK_SHIFT)) {
            return Err(ModuleError::Malformed("more code than may be read"));
        }
        let mut builder = Builder {
            base,
            executable,
            context: UnwindContext::new_in(),
            rows: Vec::new(),
            spans: Vec::new(),
            framed: Vec::new(),
            skipped: 0,
            share,
        };
        for_each_fde(&elf, &mut builder);
        let framed = builder.find_framed(&elf, file, span as u32);
        let synthesized = builder.synthesize(&elf, file, span as u32);
        let entries = u32::try_from(builder.spans.len() - synthesized.len())
            .map_err(|_| ModuleError::Malformed("too many unwinding entries"))?;
        let skipped = builder.skipped;
        let (rows, left_out) = builder.finish();
        let index = index_of(&rows, span)?;
        Ok(UnwindTable {
            rows,
            index,
            base,
            entries,
            synthesized,
            framed,
            skipped,
            left_out,
        })
    }

    /// What it takes of an [`Effort`] as long as it is in memory, in rows.
    #[must_use]
    pub fn effort(&self) -> u64 {
        (self.rows.len() + self.index.len().saturating_sub(1)) as u64
    }

    /// The rule for an address that the image states: [`Rule::GAP`] outside its code.
    #[must_use]
    pub fn rule(&self, svma: Svma) -> Rule {
        row::find(&self, &self.mapping(Addr(0), Addr(0), 0, 0, 0), svma.0)
    }

    /// The kernel's record of a mapping `begin..end` that this table covers. `bias` is the
    /// mapping's load bias ([`crate::process::module::Module::bias_for`]); `rows` and `index`
    /// are the numbers under which the table's first row and index entry are stored.
    #[must_use]
    pub fn mapping(&self, begin: Addr, end: Addr, bias: u64, rows: u32, index: u32) -> Mapping {
        Mapping {
            begin: begin.0,
            end: end.0,
            bias: bias.wrapping_add(self.base.0),
            rows,
            // Both fit: `index_of` has numbered the rows, and there are fewer index entries
            // than the 2^32 bytes that they cover.
            row_count: self.rows.len() as u32,
            index,
            index_len: self.index.len() as u32,
        }
    }
}

impl Rows for &UnwindTable {
    fn row(&self, n: u32) -> Option<&u64> {
        self.rows.get(n as usize)
    }

    fn index(&self, n: u32) -> Option<&u64> {
        self.index.get(n as usize)
    }
}

/// An image to build a table from.
#[derive(Clone, Copy, Debug)]
pub struct Image<'data> {
    /// Its build ID. Images that bear the same one share a table.
    pub build_id: Option<&'data str>,
    /// Its bytes.
    pub bytes: &'data [u8],
}

/// Builds the tables of many images, in parallel, each build ID once. The results stand in the
/// order of the images.
pub fn build_all(images: &[Image<'_>]) -> Vec<Result<Arc<UnwindTable>, ModuleError>> {
    let mut first_with = HashMap::new();
    let source: Vec<usize> = images
        .iter()
        .enumerate()
        .map(|(i, image)| match image.build_id {
            Some(id) => *first_with.entry(id).or_insert(i),
            None => i,
        })
        .collect();
    let built: Vec<Option<_>> = images
        .par_iter()
        .zip(&source)
        .enumerate()
        .map(|(i, (image, from))| {
            (*from == i).then(|| UnwindTable::from_elf(image.bytes).map(Arc::new))
        })
        .collect();
    source
        .iter()
        .filter_map(|from| built.get(*from)?.clone())
        .collect()
}

/// Room for the rules of one row and for rows that `DW_CFA_remember_state` puts aside. gimli
/// copies all of a row's room, and its own is for 192 registers: libc, which remembers states
/// in most functions, takes eight times as long with that. x86_64 has 17 registers to restore,
/// and all of them are in the signal trampoline's entry only.
struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = Box<[UnwindTableRow<usize, Self>; 8]>;
}

/// Collects rows in the order of the entries, which is nearly but not always that of the
/// addresses.
struct Builder<'a> {
    base: Svma,
    executable: Vec<Range<u64>>,
    /// Kept from entry to entry: it owns some kilobytes of heap.
    context: UnwindContext<usize, Storage>,
    rows: Vec<u64>,
    spans: Vec<(u32, u32)>,
    /// Stretches of code that keep frame pointers, sorted.
    framed: Vec<Range<u32>>,
    skipped: u32,
    share: Share<'a>,
}

impl<'data> FdeVisitor<'data> for Builder<'_> {
    fn fde<S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
    ) {
        let Some(range) = text_range(&self.executable, self.base, fde) else {
            return;
        };
        // Of an entry that is not read, the code is a gap.
        let bytes = fde.entry_len() + fde.cie().entry_len();
        if !self.share.allows_bytes(bytes as u64) {
            return;
        }
        self.spans.push((range.start, range.end));
        let signal = fde.is_signal_trampoline();
        let encoding = fde.cie().encoding();
        let mut covered = range.start;
        if let Ok(mut table) = fde.rows(section, bases, &mut self.context) {
            while let Ok(Some(row)) = table.next_row() {
                // Rows follow each other without holes; only the end needs looking at, and an
                // advance beyond the entry's range is the file's mistake.
                let end = row.end_address().wrapping_sub(self.base.0);
                let end = u32::try_from(end).unwrap_or(u32::MAX).min(range.end);
                if end <= covered {
                    continue;
                }
                if !self.share.allows_row(self.rows.len()) {
                    break;
                }
                let rule = rule_of(section, encoding, signal, row);
                self.rows.push(row::row(covered, rule));
                covered = end;
            }
        }
        if covered < range.end {
            self.rows.push(row::row(covered, Rule::UNSUPPORTED));
            self.skipped = self.skipped.saturating_add(1);
        }
    }

    fn malformed(&mut self) {
        self.skipped = self.skipped.saturating_add(1);
    }
}

impl Builder<'_> {
    /// Finds the code that keeps frame pointers; returns the starts and lengths of its functions.
    fn find_framed(&mut self, elf: &Elf<'_>, file: &ReadAt<'_>, end: u32) -> Vec<(u32, u32)> {
        self.spans.sort_unstable();
        let gaps: Vec<Range<u32>> = gaps(&self.spans, end).collect();
        let mut functions = Vec::new();
        for framed in framed(elf, file, self.base, &gaps) {
            let ends = framed.starts.iter().skip(1).copied();
            let ends = ends.chain([framed.range.end]);
            let each = framed.starts.iter().zip(ends);
            functions.extend(each.map(|(start, end)| (*start, end - start)));
            self.framed.push(framed.range);
        }
        functions
    }

    /// The rule where nothing covers the code.
    fn rule_of_gap(&self, gap: u32) -> Rule {
        let after = self.framed.partition_point(|range| range.start <= gap);
        let before = after.checked_sub(1).and_then(|at| self.framed.get(at));
        if before.is_some_and(|range| range.contains(&gap)) {
            Rule::FRAME_POINTER
        } else {
            Rule::GAP
        }
    }

    /// Adds rows for functions that no entry covers; returns their starts and lengths.
    fn synthesize(&mut self, elf: &Elf<'_>, file: &ReadAt<'_>, end: u32) -> Vec<(u32, u32)> {
        let gaps: Vec<Range<u32>> = gaps(&self.spans, end)
            .filter(|gap| self.rule_of_gap(gap.start) == Rule::GAP)
            .collect();
        let made = synthesize(elf, file, self.base, &self.executable, &self.spans, &gaps);
        self.rows.extend(&made.rows);
        self.spans.extend(&made.spans);
        let spans = made.spans.into_iter();
        spans.map(|(start, end)| (start, end - start)).collect()
    }

    /// Sorts, puts rows into the gaps between entries, and drops rows that say what the row
    /// before them says.
    fn finish(mut self) -> (Vec<u64>, bool) {
        if !self.spans.is_sorted() {
            self.spans.sort_unstable();
        }
        if self.rows.is_empty() || !self.rows.is_sorted() {
            self.rows.sort_unstable();
        }
        let gaps: Vec<u32> = gaps(&self.spans, u32::MAX).map(|gap| gap.start).collect();
        let mut gaps = gaps
            .into_iter()
            .map(|gap| row::row(gap, self.rule_of_gap(gap)))
            .peekable();
        let mut merged = Vec::with_capacity(self.rows.len() + 1);
        let mut push = |row: u64| match merged.last_mut() {
            // Entries overlap: one row an address is what bounds the search in a block.
            Some(last) if row::pc_rel(*last) == row::pc_rel(row) => *last = row,
            Some(last) if row::rule(*last) == row::rule(row) => {}
            _ => merged.push(row),
        };
        for row in &self.rows {
            while let Some(gap) = gaps.next_if(|gap| row::pc_rel(*gap) <= row::pc_rel(*row)) {
                push(gap);
            }
            push(*row);
        }
        gaps.for_each(push);
        merged.shrink_to_fit();
        let left_out = self.share.keep(merged.len());
        (merged, left_out)
    }
}

/// Where no entry covers the code: before the first, after the last, and between two that are
/// further apart than padding. Padding is never executed, so that it may pass for the end of
/// the function before it, which saves a row for nearly every function.
fn gaps(spans: &[(u32, u32)], end: u32) -> impl Iterator<Item = Range<u32>> {
    let first = match spans.first() {
        Some((0, _)) => None,
        first => Some(0..first.map_or(end, |(start, _)| *start)),
    };
    let mut covered = 0;
    let rest = spans.iter().enumerate().filter_map(move |(i, span)| {
        covered = covered.max(span.1);
        let Some(next) = spans.get(i + 1) else {
            return Some(covered..end.max(covered));
        };
        let padding = next.0.saturating_sub(covered) < FUNCTION_ALIGN
            && next.0.is_multiple_of(FUNCTION_ALIGN);
        (next.0 > covered && !padding).then_some(covered..next.0)
    });
    first.into_iter().chain(rest)
}

/// The index over `rows` for `span` bytes of code.
fn index_of(rows: &[u64], span: u64) -> Result<Vec<u64>, ModuleError> {
    let count = u32::try_from(rows.len()).map_err(|_| ModuleError::Malformed("too many rows"))?;
    let blocks = span.div_ceil(1 << BLOCK_SHIFT) as usize;
    let mut index = Vec::with_capacity(blocks + 1);
    for (number, row) in (0u64..).zip(rows) {
        let block = (row::pc_rel(*row) >> BLOCK_SHIFT) as usize;
        // This is the first row at or after all blocks that begin between the last row and it.
        if index.len() <= block && block < blocks {
            index.resize(block + 1, number);
        }
    }
    index.resize(blocks, count.into());
    index.push(count.into());
    Ok(index)
}
