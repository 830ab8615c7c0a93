//! Functions that are on no stack because their last act was a jump: `drop(guard)` at a function's
//! end is one to the code that wakes the next owner, so that a lock's holder would go unnamed.
//!
//! Its caller called it, and the call instruction before the return address still says so. Where it left
//! is told by its jump to the function that is on the stack, if it has one such line only.

use super::address_map::AddressMap;
use crate::process::Target;
use crate::process::deadline;
use crate::process::module::ReadMemory;
use crate::symbolize::{Frame, FrameRef, ModuleSource, Naming, Origin, Symbolizer};
use crate::units::{Addr, Pid, Svma};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;

/// `CALL rel32`: the opcode, and its length with the operand (Intel SDM, volume 2, "CALL").
const CALL: u8 = 0xe8;
const CALL_LEN: u64 = 5;

/// `JMP rel32`, the second byte of `Jcc rel32` without its condition (the first is [`TWO_BYTES`]), and
/// `JMP m64` by an address behind it in two bytes (Intel SDM, volume 2, "JMP" and "Jcc").
const JUMP: u8 = 0xe9;
const TWO_BYTES: u8 = 0x0f;
const JUMP_IF: u8 = 0x80;
const JUMP_BY_MEMORY: [u8; 2] = [0xff, 0x25];

/// How far into a function its jump is looked for, in bytes.
const MAX_FUNCTION: u64 = 16 << 10;

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

    /// Where the function that begins at `begin` may jump to what `is_wanted` takes: the addresses of the
    /// jumps, also those of what comes behind it. Bytes that only look like a jump lead to no wanted
    /// function but by a chance of one in billions.
    fn jumps(&self, begin: Addr, is_wanted: impl Fn(Addr) -> bool) -> Vec<Addr> {
        let end = begin.0.saturating_add(MAX_FUNCTION);
        let code: Vec<u8> = (begin.0..end).map_while(|at| self.byte(at)).collect();
        let jump = |(at, bytes): (usize, &[u8])| {
            let [first, second, rest @ ..] = bytes else {
                return None;
            };
            let operand = |bytes: &[u8]| Some(i32::from_le_bytes(*bytes.first_chunk()?));
            let (from, length) = (Addr(begin.0 + at as u64), |opcode: u64| opcode + 4);
            let after = |length: u64, offset: i32| {
                let next = from.0.wrapping_add(length);
                Addr(next.wrapping_add_signed(offset.into()))
            };
            let to = match (*first, *second) {
                (JUMP, _) => after(length(1), operand(bytes.get(1..)?)?),
                (TWO_BYTES, condition) if condition & 0xf0 == JUMP_IF => {
                    after(length(2), operand(rest)?)
                }
                (first, second) if [first, second] == JUMP_BY_MEMORY => {
                    let place = after(length(2), operand(rest)?);
                    let mut to = [0; 8];
                    ReadMemory::read(self, place.0, &mut to).then_some(())?;
                    Addr(u64::from_le_bytes(to))
                }
                _ => return None,
            };
            is_wanted(to).then_some(from)
        };
        let windows = (0..code.len()).filter_map(|at| Some((at, code.get(at..)?)));
        windows.filter_map(jump).collect()
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

/// A function that was called and left its caller's stack by a jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump<'a> {
    /// What holds the function, and where it begins, as the file states it and in the process.
    pub(super) source: &'a ModuleSource,
    pub(super) start: Svma,
    pub(super) called: Addr,
    /// The function that is on the stack.
    pub(super) callee: Function,
    /// What the addresses mean.
    pub(super) map: &'a AddressMap,
    pub(super) memory: &'a Code,
}

impl Jump<'_> {
    /// The frames of the function, innermost first, as though it stood where it jumped. Where it cannot
    /// be told which jump it was, it is one frame without a line. None where it is no function that
    /// anybody wants to see.
    pub(super) fn frames(&self, symbolizer: &mut Symbolizer) -> Option<Vec<FrameRef>> {
        let at_start = self.at(symbolizer, self.called);
        let physical = at_start.last()?;
        // Stubs (PLT) have no name of their own, and code in the middle of a function is none.
        if physical.naming != Naming::Symbol || physical.start != Some(self.start) {
            return None;
        }
        if matches!(physical.origin, Origin::System | Origin::Kernel) {
            return None;
        }
        let is_callee = |to: Addr| self.map.resolve(to) == Some(self.callee);
        let jumps = self.memory.jumps(self.called, is_callee).into_iter();
        let places = jumps.map(|jump| self.at(symbolizer, jump));
        let in_it = |frames: &Vec<FrameRef>| {
            let physical = frames.last();
            physical.is_some_and(|physical| physical.start == Some(self.start))
        };
        let mut places = places.filter(in_it);
        if let Some(first) = places.next()
            && places.all(|other| same_lines(&first, &other))
        {
            return Some(first);
        }
        let without_line = Frame {
            file: None,
            line: None,
            ..Frame::clone(physical)
        };
        Some(vec![FrameRef::new(without_line)])
    }

    fn at(&self, symbolizer: &mut Symbolizer, address: Addr) -> Vec<FrameRef> {
        let mut frames = Vec::new();
        let svma = Svma(self.start.0.wrapping_add(address.0 - self.called.0));
        symbolizer.user(Some(self.source), svma, address, &mut frames);
        frames
    }
}

fn same_lines(one: &[FrameRef], other: &[FrameRef]) -> bool {
    let lines = |frames: &[FrameRef]| -> Vec<_> {
        let line = |frame: &FrameRef| (frame.function.clone(), frame.file.clone(), frame.line);
        frames.iter().map(line).collect()
    };
    lines(one) == lines(other)
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
    fn jumps_to_a_function_are_found_in_each_form() {
        // As far as a function is read, from the first page that is all of ours.
        let mut code = vec![0u8; (MAX_FUNCTION + 2 * PAGE) as usize];
        let begin = Addr((code.as_ptr() as u64).next_multiple_of(PAGE));
        let first = usize::try_from(begin.0 - code.as_ptr() as u64).expect("in it");
        let wanted = Addr(begin.0 + 0x1000);
        let mut put = |at: usize, bytes: &[u8]| {
            code[first + at..first + at + bytes.len()].copy_from_slice(bytes);
        };
        let to = |next: u64| i32::try_from(0x1000 - next.cast_signed()).expect("near");
        put(0x10, &[JUMP]);
        put(0x11, &to(0x15).to_le_bytes());
        put(0x20, &[TWO_BYTES, JUMP_IF | 4]);
        put(0x22, &to(0x26).to_le_bytes());
        put(0x30, &JUMP_BY_MEMORY);
        put(0x32, &0xca_i32.to_le_bytes());
        put(0x100, &wanted.0.to_le_bytes());
        // Elsewhere, and a call.
        put(0x40, &[JUMP, 0, 0, 0, 0]);
        put(0x50, &[CALL]);
        put(0x51, &to(0x55).to_le_bytes());
        let target = Target::open(Pid(std::process::id())).expect("self");
        let found = Code::open(&target).jumps(begin, |to| to == wanted);
        let offsets: Vec<u64> = found.iter().map(|jump| jump.0 - begin.0).collect();
        assert_eq!(offsets, [0x10, 0x20, 0x30]);
        assert_eq!(Code::default().jumps(begin, |_| true), []);
    }

    #[test]
    fn calls_go_forward_and_back() {
        let to = |bytes| destination(bytes, Addr(0x5000));
        assert_eq!(to([0xe8, 0x10, 0, 0, 0]), Some(Addr(0x5010)));
        assert_eq!(to([0xe8, 0xf0, 0xff, 0xff, 0xff]), Some(Addr(0x4ff0)));
        assert_eq!(to([0xff, 0x15, 0, 0, 0]), None);
    }
}
