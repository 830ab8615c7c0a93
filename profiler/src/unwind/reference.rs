//! framehop, an unwinder that shares no code with ours: the second opinion on our walks.

use super::walker::Regs;
use crate::units::Addr;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};
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

/// framehop, made ready for the mappings of one process.
pub struct Reference(UnwinderX86_64<Arc<[u8]>>);

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
        Reference(UnwinderX86_64::new())
    }

    /// Adds the module mapped at `range`; `bias` is what to take from an address to get the one
    /// that the file states.
    pub fn add(&mut self, name: String, range: Range<Addr>, bias: u64, sections: Sections) {
        let range = range.start.0..range.end.0;
        self.0
            .add_module(framehop::Module::new(name, range, bias, sections.0));
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
        let mut frames = self.0.iter_frames(regs.ip.0, start, &mut cache, &mut read);
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
