//! Where functions begin and end, from unwinding information: what is left to name the
//! functions of a stripped binary by.

use super::cfi::{Bytes, FdeVisitor, for_each_fde};
use super::elf::{Elf, ModuleError};
use crate::units::Svma;
use gimli::{BaseAddresses, FrameDescriptionEntry, UnwindSection};
use std::ops::Range;

/// The functions of an image that have unwinding information, sorted by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    /// What the starts are relative to: [`Elf::text_base`].
    pub base: Svma,
    /// Start relative to `base`, and length, both in bytes; sorted, without duplicates.
    pub ranges: Vec<(u32, u32)>,
}

impl Functions {
    /// Reads them from an image's bytes.
    ///
    /// # Errors
    /// [`ModuleError`] where the bytes are not an x86_64 ELF image. Entries that cannot be
    /// parsed are left out.
    pub fn from_elf(data: &[u8]) -> Result<Functions, ModuleError> {
        let elf = Elf::parse(data)?;
        let base = elf.text_base().unwrap_or_default();
        let mut visitor = Collect {
            base,
            executable: elf.executable().map(|s| s.file_backed()).collect(),
            ranges: Vec::new(),
        };
        for_each_fde(&elf, &mut visitor);
        let mut ranges = visitor.ranges;
        ranges.sort_unstable();
        ranges.dedup_by_key(|range| range.0);
        Ok(Functions { base, ranges })
    }

    /// The function that holds the address, as a range of addresses.
    #[must_use]
    pub fn containing(&self, svma: Svma) -> Option<Range<Svma>> {
        let rel = u32::try_from(svma.0.checked_sub(self.base.0)?).ok()?;
        let after = self.ranges.partition_point(|range| range.0 <= rel);
        let (start, len) = *self.ranges.get(after.checked_sub(1)?)?;
        let begin = Svma(self.base.0 + u64::from(start));
        (rel - start < len).then_some(begin..Svma(begin.0 + u64::from(len)))
    }
}

/// Functions that are believed. The largest programs have a million; a hostile file can state the
/// same ones again and again.
const MAX_FUNCTIONS: usize = 4 << 20;

struct Collect {
    base: Svma,
    executable: Vec<Range<u64>>,
    ranges: Vec<(u32, u32)>,
}

impl<'data> FdeVisitor<'data> for Collect {
    fn fde<S: UnwindSection<Bytes<'data>>>(
        &mut self,
        _: &S,
        _: &BaseAddresses,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
    ) {
        if self.ranges.len() < MAX_FUNCTIONS
            && let Some(range) = text_range(&self.executable, self.base, fde)
        {
            self.ranges.push((range.start, range.end - range.start));
        }
    }

    fn malformed(&mut self) {}
}

/// The code that an FDE covers, relative to `base`; none where it is empty or not within an
/// executable segment (linkers leave such entries behind for functions that they drop).
pub(crate) fn text_range(
    executable: &[Range<u64>],
    base: Svma,
    fde: &FrameDescriptionEntry<Bytes<'_>>,
) -> Option<Range<u32>> {
    let start = fde.initial_address();
    let end = start.checked_add(fde.len())?;
    let inside = executable
        .iter()
        .any(|segment| segment.start <= start && end <= segment.end);
    if !inside || start == end {
        return None;
    }
    let start = u32::try_from(start.checked_sub(base.0)?).ok()?;
    let end = u32::try_from(end.checked_sub(base.0)?).ok()?;
    Some(start..end)
}
