//! Running a process that was just executed to its program's entry point.

use super::tracee::{Stop, Tracee};
use crate::process::proc_dir::{ProcDir, is_gone};
use crate::units::Addr;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The instruction `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Key of the entry point in the auxiliary vector; see getauxval(3).
const AT_ENTRY: u64 = 9;

/// Lets `tracee`, stopped by its exec, go on until it would execute the first instruction of
/// the program proper. Where that cannot be found or held, it stays at the loader's first one.
/// Signals reach it meanwhile as if nobody traced it; one that stops it does so at the detach.
///
/// # Errors
/// `ESRCH` where it ended before; else where it can neither be held nor safely let go.
pub(super) fn run_to_entry(tracee: &Tracee) -> io::Result<()> {
    loop {
        let breakpoint = match Breakpoint::plant(tracee) {
            Ok(Some(breakpoint)) => breakpoint,
            Ok(None) => return Ok(()),
            Err(why) => {
                tracing::debug!("process {} is held at its loader: {why}", tracee.pid());
                return Ok(());
            }
        };
        match breakpoint.run_to(tracee)? {
            Reached::Breakpoint => return Ok(()),
            Reached::Exec => {}
        }
    }
}

enum Reached {
    Breakpoint,
    /// A library has executed another program, to which the breakpoint does not belong.
    Exec,
}

/// A breakpoint that is planted.
struct Breakpoint {
    at: Addr,
    memory: File,
    /// What was there.
    original: [u8; 1],
}

impl Breakpoint {
    /// Plants one at the entry point; none where the tracee is there already, as that of a
    /// program without a loader is.
    fn plant(tracee: &Tracee) -> io::Result<Option<Breakpoint>> {
        let dir = ProcDir::open(tracee.pid())?;
        let at = entry_point(&dir.read("auxv")?)
            .ok_or_else(|| io::Error::other("no entry point in its auxiliary vector"))?;
        if tracee.instruction_pointer()? == at {
            return Ok(None);
        }
        // Unlike ptrace's own requests this one works with a program that may be executed and
        // not read, if we have the capability.
        let memory = dir.open_with("mem", OFlags::RDWR)?;
        let mut original = [0];
        memory.read_exact_at(&mut original, at.0)?;
        memory.write_all_at(&[BREAKPOINT], at.0)?;
        Ok(Some(Breakpoint {
            at,
            memory,
            original,
        }))
    }

    fn run_to(&self, tracee: &Tracee) -> io::Result<Reached> {
        // The processor reports a breakpoint once it has gone past it.
        let after = Addr(self.at.0.wrapping_add(1));
        tracee.resume(0)?;
        loop {
            let signal = match tracee.next_stop()?.ok_or(Errno::SRCH)? {
                Stop::Signal(libc::SIGTRAP) if tracee.instruction_pointer()? == after => {
                    self.lift(&self.memory)?;
                    tracee.set_instruction_pointer(self.at)?;
                    return Ok(Reached::Breakpoint);
                }
                Stop::Exec => return Ok(Reached::Exec),
                Stop::Signal(signal) => signal,
                Stop::Fork => {
                    if let Some(child) = tracee.forked()?
                        && let Err(why) = self.release_fork(&child)
                    {
                        tracing::debug!("process {} was not let go: {why}", child.pid());
                    }
                    0
                }
                Stop::Group => 0,
            };
            tracee.resume(signal)?;
        }
    }

    /// Frees a process that a library forked, and whose memory has a copy of the breakpoint.
    fn release_fork(&self, child: &Tracee) -> io::Result<()> {
        match self.let_go(child) {
            Err(error) if is_gone(&error) => child.pass_on_end(),
            done => done,
        }
    }

    fn let_go(&self, child: &Tracee) -> io::Result<()> {
        let mut stop = child.next_stop()?.ok_or(Errno::SRCH)?;
        let memory = ProcDir::open(child.pid()).and_then(|dir| dir.open_with("mem", OFlags::RDWR));
        if let Err(why) = memory.and_then(|memory| self.lift(&memory)) {
            // It hardly comes by the entry point; stopped for ever it would be worse off.
            tracing::debug!("process {} keeps a breakpoint: {why}", child.pid());
        }
        loop {
            match stop {
                // With this signal, which nobody sent, begins the trace of a new process.
                Stop::Signal(libc::SIGSTOP) => return child.detach(0),
                Stop::Signal(signal) => child.resume(signal)?,
                Stop::Group | Stop::Exec | Stop::Fork => child.resume(0)?,
            }
            stop = child.next_stop()?.ok_or(Errno::SRCH)?;
        }
    }

    fn lift(&self, memory: &File) -> io::Result<()> {
        memory.write_all_at(&self.original, self.at.0)
    }
}

/// The program's entry point by the auxiliary vector of a 64-bit process.
fn entry_point(auxv: &[u8]) -> Option<Addr> {
    let (words, _) = auxv.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| pair.map(u64::from_ne_bytes))
        .take_while(|&[key, _]| key != 0)
        .find_map(|[key, value]| (key == AT_ENTRY).then_some(Addr(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pairs: &[[u64; 2]]) -> Vec<u8> {
        pairs
            .as_flattened()
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    #[test]
    fn the_entry_point_is_found_by_its_key() {
        let auxv = vector(&[[6, 4096], [3, AT_ENTRY], [AT_ENTRY, 0x40_1000], [0, 0]]);
        assert_eq!(entry_point(&auxv), Some(Addr(0x40_1000)));
        let after_the_end = vector(&[[0, 0], [AT_ENTRY, 0x40_1000]]);
        assert_eq!(entry_point(&after_the_end), None);
    }

    #[test]
    fn a_damaged_vector_has_none() {
        let auxv = vector(&[[AT_ENTRY, 1]]);
        assert_eq!(entry_point(&auxv[..15]), None);
        assert_eq!(entry_point(&[]), None);
        // Of a 32-bit process.
        let narrow: Vec<u8> = [6u32, 4096, 9, 0x0804_8000, 0, 0]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(entry_point(&narrow), None);
    }

    #[test]
    fn our_own_entry_point_is_in_our_program() {
        let auxv = std::fs::read("/proc/self/auxv").expect("auxv");
        let entry = entry_point(&auxv).expect("it has one");
        let exe = std::env::current_exe().expect("exe");
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let holds = |line: &&str| {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            range.is_some_and(|(begin, end)| {
                let parse = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
                (parse(begin)..parse(end)).contains(&entry.0)
            })
        };
        let line = maps.lines().find(holds).expect("mapped");
        assert!(line.ends_with(&*exe.to_string_lossy()), "{line}");
    }
}
