//! The frame description entries (FDEs) of an image, wherever they are.

use super::elf::Elf;
use gimli::{
    BaseAddresses, CommonInformationEntry, DebugFrame, EhFrame, EhFrameHdr, EndianSlice,
    FrameDescriptionEntry, LittleEndian, UnwindOffset, UnwindSection,
};

/// Bytes of an image, as gimli reads them.
pub(crate) type Bytes<'data> = EndianSlice<'data, LittleEndian>;

/// Longest common information entry believed, in bytes. Real ones are under a hundred; each is
/// run anew for each of its FDEs, so that a long one would make a small file take for ever.
const MAX_CIE: usize = 256;

/// Longest run of terminators believed, in bytes. Linkers leave one or two; a hostile file could
/// have gigabytes of them that take no room on its disk.
const MAX_TERMINATORS: usize = 4096;

/// What becomes of the entries.
pub(crate) trait FdeVisitor<'data> {
    /// An entry, in the order of the section.
    fn fde<S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
    );

    /// An entry, or the rest of the section, that cannot be parsed.
    fn malformed(&mut self);
}

/// Shows `visitor` every FDE of the image: those of `.eh_frame`, found by its section header
/// or, without one, by the table in `.eh_frame_hdr`; and only if there is neither, those of
/// `.debug_frame`.
///
/// Formats: Linux Standard Base Core 5.0, 10.6 (`.eh_frame`, `.eh_frame_hdr`); DWARF 5, 6.4.
pub(crate) fn for_each_fde<'data>(elf: &Elf<'data>, visitor: &mut impl FdeVisitor<'data>) {
    let text = elf.section(".text").map_or(0, |s| s.svma.0);
    let bases = BaseAddresses::default().set_text(text);
    if let Some(section) = elf.section(".eh_frame").filter(|s| !s.bytes.is_empty()) {
        let bases = bases.set_eh_frame(section.svma.0);
        let mut frames = EhFrame::new(section.bytes, LittleEndian);
        frames.set_address_size(8);
        scan(section.bytes, &frames, &bases, EH_CIE_ID, visitor);
    } else if !by_header(elf, &bases, visitor)
        && let Some(section) = elf.section(".debug_frame")
    {
        let mut frames = DebugFrame::new(section.bytes, LittleEndian);
        frames.set_address_size(8);
        scan(section.bytes, &frames, &bases, DEBUG_CIE_ID, visitor);
    }
}

/// What stands for the CIE offset in a CIE of `.eh_frame`, and in one of 32-bit `.debug_frame`.
const EH_CIE_ID: u32 = 0;
const DEBUG_CIE_ID: u32 = u32::MAX;

/// Goes by the search table of `.eh_frame_hdr`; false if there is none. The section's own
/// length is not known then, so that nothing but the table says where it ends.
fn by_header<'data>(
    elf: &Elf<'data>,
    bases: &BaseAddresses,
    visitor: &mut impl FdeVisitor<'data>,
) -> bool {
    let Some(section) = elf.eh_frame_hdr() else {
        return false;
    };
    let bases = bases.clone().set_eh_frame_hdr(section.svma.0);
    let Ok(header) = EhFrameHdr::new(section.bytes, LittleEndian).parse(&bases, 8) else {
        return false;
    };
    let Ok(start) = header.eh_frame_ptr().direct() else {
        return false;
    };
    let Some(bytes) = elf.bytes_from(crate::units::Svma(start)) else {
        return false;
    };
    let bases = bases.set_eh_frame(start);
    let mut frames = EhFrame::new(bytes, LittleEndian);
    frames.set_address_size(8);
    let Some(table) = header.table() else {
        scan(bytes, &frames, &bases, EH_CIE_ID, visitor);
        return true;
    };
    let mut entries = table.iter(&bases);
    let mut reader = FdeReader::default();
    loop {
        match entries.next() {
            // gimli's own `pointer_to_offset` subtracts without a check.
            Ok(Some((_, pointer))) => {
                match pointer.direct().ok().and_then(|at| offset_in(at, start)) {
                    Some(offset) => reader.read(&frames, &bases, offset.into(), visitor),
                    None => visitor.malformed(),
                }
            }
            Ok(None) => return true,
            Err(_) => {
                visitor.malformed();
                return true;
            }
        }
    }
}

fn offset_in(at: u64, start: u64) -> Option<usize> {
    usize::try_from(at.checked_sub(start)?).ok()
}

/// Goes by the lengths of the entries. Goes on behind an entry that gimli refuses, and behind
/// a terminator (a length of 0): linkers leave some in the middle where start files are linked
/// in an unusual order.
fn scan<'data, S: UnwindSection<Bytes<'data>>>(
    bytes: &'data [u8],
    section: &S,
    bases: &BaseAddresses,
    cie_id: u32,
    visitor: &mut impl FdeVisitor<'data>,
) where
    S::Offset: From<usize>,
{
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*word))
    };
    let mut reader = FdeReader::default();
    let (mut at, mut terminators) = (0, 0);
    while at < bytes.len() {
        let Some(length) = word(at) else {
            // Fewer than four bytes: padding, or the end of a cut file.
            if bytes
                .get(at..)
                .is_some_and(|rest| rest.iter().any(|b| *b != 0))
            {
                visitor.malformed();
            }
            return;
        };
        if length == 0 {
            at += 4;
            terminators += 4;
            if terminators > MAX_TERMINATORS {
                return;
            }
            continue;
        }
        terminators = 0;
        // A length of `u32::MAX` announces the 64-bit format, which no entry is big enough for.
        let end = at + 4 + length as usize;
        let id = word(at + 4);
        if length == u32::MAX || end > bytes.len() || id.is_none() {
            visitor.malformed();
            return;
        }
        if id != Some(cie_id) {
            reader.read(section, bases, S::Offset::from(at), visitor);
        }
        at = end;
    }
}

/// Parses FDEs and keeps the last CIE: neighbours mostly share it.
#[derive(Default)]
struct FdeReader<'data> {
    cie: Option<(usize, CommonInformationEntry<Bytes<'data>>)>,
}

impl<'data> FdeReader<'data> {
    fn read<S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        offset: S::Offset,
        visitor: &mut impl FdeVisitor<'data>,
    ) {
        let parsed = section.fde_from_offset(bases, offset, |section, bases, at| {
            let number = UnwindOffset::into(at);
            if let Some((kept, cie)) = &self.cie
                && *kept == number
            {
                return Ok(cie.clone());
            }
            let cie = section.cie_from_offset(bases, at)?;
            if cie.entry_len() > MAX_CIE {
                return Err(gimli::Error::OffsetOutOfBounds(number as u64));
            }
            self.cie = Some((number, cie.clone()));
            Ok(cie)
        });
        match parsed {
            Ok(fde) => visitor.fde(section, bases, &fde),
            Err(_) => visitor.malformed(),
        }
    }
}
