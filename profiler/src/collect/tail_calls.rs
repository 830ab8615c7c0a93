//! Functions that are on no stack because their last act was a jump: `drop(guard)` at a function's
//! end is one to the code that wakes the next owner, so that a lock's holder would go unnamed.
//!
//! Its caller called it, and the call instruction before the return address still says so.

use crate::process::Target;
use crate::process::module::ReadMemory;
use crate::symbolize::{Frame, ModuleSource, Naming, Origin, Symbolizer};
use crate::units::{Addr, Svma};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// `CALL rel32`: the opcode, and its length with the operand (Intel SDM, volume 2, "CALL").
const CALL: u8 = 0xe8;
const CALL_LEN: u64 = 5;

/// The target's code, as it is in its memory. Our copies of its files have none.
#[derive(Debug, Default)]
pub(super) struct Code(Option<File>);

impl Code {
    /// Opens the target's memory; it stays readable when we have given rights up.
    pub(super) fn open(target: &Target) -> Code {
        Code(target.proc_dir().open_file("mem").ok())
    }

    /// Whether there is memory that may be read.
    pub(super) const fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Where the direct call before a return address goes; none where there is none, or no memory
    /// any more.
    pub(super) fn called(&self, return_address: Addr) -> Option<Addr> {
        let mut bytes = [0; CALL_LEN as usize];
        let at = return_address.0.checked_sub(CALL_LEN)?;
        self.0.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
        destination(bytes, return_address)
    }
}

impl ReadMemory for Code {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let memory = self.0.as_ref();
        memory.is_some_and(|memory| memory.read_exact_at(into, at).is_ok())
    }
}

fn destination(bytes: [u8; CALL_LEN as usize], return_address: Addr) -> Option<Addr> {
    let [CALL, offset @ ..] = bytes else {
        return None;
    };
    let offset = i64::from(i32::from_le_bytes(offset));
    Some(Addr(return_address.0.wrapping_add_signed(offset)))
}

/// A physical function: its module and its start.
pub(super) type Function = (usize, Svma);

/// The frame of a function that was called and jumped away: it begins at `svma`, which is `called`
/// in the process. It has no line, since where the jump was is not known. None where it is no
/// function that anybody wants to see.
pub(super) fn jumped(
    symbolizer: &mut Symbolizer,
    source: &ModuleSource,
    svma: Svma,
    called: Addr,
) -> Option<Frame> {
    let mut frames = Vec::new();
    symbolizer.user(Some(source), svma, called, &mut frames);
    let mut frame = Frame::clone(&*frames.pop()?);
    // Stubs (PLT) have no name of their own, and code in the middle of a function is none.
    if frame.naming != Naming::Symbol || frame.start != Some(svma) {
        return None;
    }
    if matches!(frame.origin, Origin::System | Origin::Kernel) {
        return None;
    }
    (frame.file, frame.line) = (None, None);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_forward_and_back() {
        let to = |bytes| destination(bytes, Addr(0x5000));
        assert_eq!(to([0xe8, 0x10, 0, 0, 0]), Some(Addr(0x5010)));
        assert_eq!(to([0xe8, 0xf0, 0xff, 0xff, 0xff]), Some(Addr(0x4ff0)));
        assert_eq!(to([0xff, 0x15, 0, 0, 0]), None);
    }
}
