//! framehop, an unwinder that shares no code with ours: the second opinion on our walks.

use super::walker::Regs;
use crate::units::Addr;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};
use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection};
use object::{Object, ObjectSection};
use std::ops::Range;
use std::sync::Arc;

/// Frames after which a walk is given up: more than any of ours has.
const MAX_FRAMES: usize = 512;

/// What framehop reads of a module. Cloning it copies no bytes.
#[derive(Clone, Debug)]
pub struct Sections(ExplicitModuleSectionInfo<Arc<[u8]>>);

impl Sections {
    /// The sections of an ELF image; none where it is none.
    #[must_use]
    pub fn of(image: &[u8]) -> Option<Sections> {
        let file = object::File::parse(image).ok()?;
        let bytes = |name: &str| Some(Arc::from(file.section_by_name(name)?.data().ok()?));
        let svma = |name: &str| {
            let section = file.section_by_name(name)?;
            Some(section.address()..section.address().saturating_add(section.size()))
        };
        Some(Sections(ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: svma(".text"),
            eh_frame_svma: svma(".eh_frame"),
            eh_frame: bytes(".eh_frame"),
            eh_frame_hdr_svma: svma(".eh_frame_hdr"),
            eh_frame_hdr: bytes(".eh_frame_hdr"),
            got_svma: svma(".got"),
            ..Default::default()
        }))
    }
}

impl Sections {
    /// Whether there is unwinding information for an address of the file. True where the table of
    /// functions is missing or damaged: then it is not known.
    fn covers(&self, svma: u64) -> bool {
        let section = |bytes: &Option<Arc<[u8]>>, svma: &Option<Range<u64>>| {
            Some((bytes.clone()?, svma.clone()?.start))
        };
        let frames = section(&self.0.eh_frame, &self.0.eh_frame_svma);
        let Some((frames, frames_at)) = frames else {
            return false;
        };
        let header = section(&self.0.eh_frame_hdr, &self.0.eh_frame_hdr_svma);
        let Some((header, header_at)) = header else {
            return true;
        };
        let text = self.0.text_svma.as_ref().map_or(0, |text| text.start);
        let bases = BaseAddresses::default()
            .set_eh_frame(frames_at)
            .set_eh_frame_hdr(header_at)
            .set_text(text);
        let mut frames = EhFrame::new(&frames, LittleEndian);
        frames.set_address_size(8);
        let header = EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8);
        let Ok(header) = header else { return true };
        let Some(table) = header.table() else {
            return true;
        };
        let found = table.fde_for_address(&frames, &bases, svma, EhFrame::cie_from_offset);
        found.is_ok()
    }
}

/// framehop, made ready for the mappings of one process.
pub struct Reference {
    unwinder: UnwinderX86_64<Arc<[u8]>>,
    modules: Vec<(Range<Addr>, u64, Sections)>,
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reference").finish_non_exhaustive()
    }
}

impl Default for Reference {
    fn default() -> Reference {
        Reference::new()
    }
}

impl Reference {
    /// Without any module yet.
    #[must_use]
    pub fn new() -> Reference {
        Reference {
            unwinder: UnwinderX86_64::new(),
            modules: Vec::new(),
        }
    }

    /// Adds the module mapped at `range`; `bias` is what to take from an address to get the one
    /// that the file states.
    pub fn add(&mut self, name: String, range: Range<Addr>, bias: u64, sections: Sections) {
        let addresses = range.start.0..range.end.0;
        self.modules.push((range, bias, sections.clone()));
        self.unwinder
            .add_module(framehop::Module::new(name, addresses, bias, sections.0));
    }

    /// Whether framehop has unwinding information for an address. Where it has none it takes
    /// `rbp` for a frame pointer, so that what it says of the callers is a guess.
    #[must_use]
    pub fn covers(&self, pc: Addr) -> bool {
        let module = self.modules.iter().find(|(range, ..)| range.contains(&pc));
        module.is_some_and(|(_, bias, sections)| sections.covers(pc.0.wrapping_sub(*bias)))
    }

    /// The frames that framehop sees, leaf first, and why it went no further.
    ///
    /// # Errors
    /// The second value: framehop's, where it did not come to the thread's start.
    pub fn walk(
        &self,
        regs: Regs,
        mut read: impl FnMut(u64) -> Option<u64>,
    ) -> (Vec<Addr>, Result<(), framehop::Error>) {
        let mut cache = CacheX86_64::<_>::new();
        let mut read = |addr| read(addr).ok_or(());
        let start = UnwindRegsX86_64::new(regs.ip.0, regs.sp.0, regs.bp.0);
        let mut frames = self
            .unwinder
            .iter_frames(regs.ip.0, start, &mut cache, &mut read);
        let mut seen = Vec::new();
        while seen.len() < MAX_FRAMES {
            match frames.next() {
                Ok(Some(frame)) => seen.push(match frame {
                    FrameAddress::InstructionPointer(at) => Addr(at),
                    FrameAddress::ReturnAddress(at) => Addr(at.get()),
                }),
                Ok(None) => break,
                Err(error) => return (seen, Err(error)),
            }
        }
        (seen, Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_code_is_covered_and_nothing_outside_it() {
        let image = std::fs::read("/proc/self/exe").expect("the test itself");
        let sections = Sections::of(&image).expect("an ELF file");
        let text = sections.0.text_svma.clone().expect("code");
        let mut reference = Reference::new();
        let bias = 0x10_0000_0000;
        let range = Addr(text.start + bias)..Addr(text.end + bias);
        reference.add("self".into(), range, bias, sections);
        // Hand-written code has none, the rest has.
        let covered = (text.start..text.end)
            .step_by(4096)
            .filter(|svma| reference.covers(Addr(svma + bias)))
            .count() as u64;
        assert!(
            covered * 4096 * 10 > (text.end - text.start) * 9,
            "{covered}"
        );
        assert!(!reference.covers(Addr(text.start)));
        assert!(!reference.covers(Addr(text.end + bias)));
        assert!(Sections::of(b"no ELF file").is_none());
    }
}
