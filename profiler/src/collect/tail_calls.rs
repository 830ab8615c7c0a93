//! Functions that are on no stack because their last act was a jump: `drop(guard)` at a function's
//! end is one to the code that wakes the next owner, so that a lock's holder would go unnamed.
//!
//! Its caller called it, and the call instruction before the return address still says so.

use crate::process::Target;
use crate::process::deadline;
use crate::process::module::ReadMemory;
use crate::symbolize::{Frame, ModuleSource, Naming, Origin, Symbolizer};
use crate::units::{Addr, Pid, Svma};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;

/// `CALL rel32`: the opcode, and its length with the operand (Intel SDM, volume 2, "CALL").
const CALL: u8 = 0xe8;
const CALL_LEN: u64 = 5;

/// What is read of the code at once, and kept.
const PAGE: u64 = 4096;
/// Pages kept at most; all are forgotten when there are so many.
const MAX_PAGES: usize = 512;

/// A page of code; none where it cannot be read.
type Page = Option<Box<[u8]>>;

/// The target's code, as it is in its memory. Our copies of its files have none.
#[derive(Debug, Default)]
pub(super) struct Code {
    memory: Option<(Pid, File)>,
    /// By their numbers. The same few pages are asked for again and again, and each may have to be
    /// waited for.
    pages: RefCell<HashMap<u64, Page>>,
}

impl Code {
    /// Opens the target's memory; it stays readable when we have given rights up.
    pub(super) fn open(target: &Target) -> Code {
        let memory = target.proc_dir().open_file("mem").ok();
        Code {
            memory: memory.map(|memory| (target.pid(), memory)),
            pages: RefCell::default(),
        }
    }

    /// The code is another one from now on.
    pub(super) fn forget(&self) {
        self.pages.borrow_mut().clear();
    }

    /// Whether there is memory that may be read.
    pub(super) const fn is_open(&self) -> bool {
        self.memory.is_some()
    }

    /// Where the direct call before a return address goes; none where there is none, or no memory
    /// any more.
    pub(super) fn called(&self, return_address: Addr) -> Option<Addr> {
        let at = return_address.0.checked_sub(CALL_LEN)?;
        let mut bytes = [0; CALL_LEN as usize];
        for (address, byte) in (at..return_address.0).zip(&mut bytes) {
            *byte = self.byte(address)?;
        }
        destination(bytes, return_address)
    }

    fn byte(&self, address: u64) -> Option<u8> {
        let (number, at) = (address / PAGE, usize::try_from(address % PAGE).ok()?);
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= MAX_PAGES && !pages.contains_key(&number) {
            pages.clear();
        }
        let page = pages.entry(number).or_insert_with(|| self.read(number));
        page.as_ref()?.get(at).copied()
    }

    /// Reads a page. Whoever serves the file that it is mapped from may not answer.
    fn read(&self, number: u64) -> Page {
        let (pid, memory) = self.memory.as_ref()?;
        let mut page = vec![0; PAGE as usize].into_boxed_slice();
        let read = deadline::read(*pid, memory, &mut page, number * PAGE).ok()?;
        (read == page.len()).then_some(page)
    }
}

impl ReadMemory for Code {
    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let Some((pid, memory)) = &self.memory else {
            return false;
        };
        deadline::read(*pid, memory, into, at).is_ok_and(|read| read == into.len())
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
    fn calls_are_read_over_the_end_of_a_page_and_each_page_once() {
        let mut code = vec![0u8; 4 * PAGE as usize];
        let begin = code.as_ptr() as u64;
        let border = begin.next_multiple_of(PAGE) + PAGE;
        let call = border - 2;
        let at = usize::try_from(call - begin).expect("in it");
        code[at..at + 5].copy_from_slice(&[0xe8, 0x10, 0, 0, 0]);
        let target = Target::open(Pid(std::process::id())).expect("self");
        let memory = Code::open(&target);
        let returns = Addr(call + CALL_LEN);
        assert_eq!(memory.called(returns), Some(Addr(returns.0 + 0x10)));
        assert_eq!(memory.pages.borrow().len(), 2);
        // The code changes, and that is reported.
        code[at] = 0x90;
        assert!(memory.called(returns).is_some());
        memory.forget();
        assert_eq!(memory.called(returns), None);
        assert_eq!(memory.called(Addr(3)), None);
        assert_eq!(
            memory.called(Addr(PAGE + 9)),
            None,
            "nothing is mapped there"
        );
        for page in 0..2 * MAX_PAGES as u64 {
            memory.called(Addr(page * PAGE + 9));
        }
        assert!(memory.pages.borrow().len() <= MAX_PAGES);
    }

    #[test]
    fn calls_go_forward_and_back() {
        let to = |bytes| destination(bytes, Addr(0x5000));
        assert_eq!(to([0xe8, 0x10, 0, 0, 0]), Some(Addr(0x5010)));
        assert_eq!(to([0xe8, 0xf0, 0xff, 0xff, 0xff]), Some(Addr(0x4ff0)));
        assert_eq!(to([0xff, 0x15, 0, 0, 0]), None);
    }
}
