//! Stacks that the kernel side could not walk, because it did not know the code yet: it sent
//! them raw, and they are walked here once the mappings have been read that they went through.

use super::gather::{Gathered, Unnamed};
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::decode::{RawPiece, StackSeen};
use crate::units::{Addr, Pid, Timestamp};
use crate::unwind::{Regs, walk};
use profiler_common::row::walk as code;
use profiler_common::walk::Memory;

/// Stacks that wait at most; they are some tens of kilobytes each.
const MOST: usize = 4096;

/// The stacks that wait.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "they come in boxes and go on in them")]
pub(super) struct Pending(Vec<Box<StackSeen>>);

impl Pending {
    /// Keeps a stack back whose pieces have arrived.
    pub(super) fn add(&mut self, seen: Box<StackSeen>) {
        self.0.push(seen);
    }

    /// Walks those whose process had its mappings read since, and puts them among the `new` ones.
    pub(super) fn walk(
        &mut self,
        gathered: &mut Gathered,
        kernel: &Programs,
        processes: &[TracedProcess],
        new: &mut Vec<Unnamed>,
    ) {
        let tables = kernel.tables_ref();
        let mut later = Vec::new();
        for mut seen in std::mem::take(&mut self.0) {
            let (pid, time) = (Pid(seen.record.header.tgid), Timestamp(seen.record.time));
            let own = processes.iter().rev().find(|process| process.pid == pid);
            let pieces = gathered.unmapped.get(&seen.record.stack);
            let (Some(own), Some(pieces)) = (own, pieces) else {
                settle(gathered, seen, new);
                continue;
            };
            let exec_count = pieces.first().map(|piece| piece.record.exec_count);
            let process = mappings_of(own, processes);
            let read = time < process.read_at || !std::ptr::eq(process, own);
            // Before its next exec is known it is not known which program the stack is of.
            if !read || exec_count.is_some_and(|exec_count| exec_count > process.exec_count) {
                later.push(seen);
                continue;
            }
            // Of a program that is executed no more, nobody can read the mappings.
            if exec_count == Some(process.exec_count) {
                let mut memory = Copied(pieces);
                let regs = pieces.first().map(registers).unwrap_or_default();
                let mut frames = Vec::new();
                let rule = |pc| process.rule(&tables, pc);
                seen.record.walk = walk(regs, rule, &mut memory, &mut frames);
                seen.record.table_version = process.table_version;
                seen.user = frames.into_iter().map(|address| address.0).collect();
            }
            settle(gathered, seen, new);
        }
        self.0 = later;
        if self.0.len() > MOST {
            let rest = self.0.split_off(MOST);
            Pending(rest).give_up(gathered, new);
        }
    }

    /// Takes those that still wait as far as the kernel side came.
    pub(super) fn give_up(&mut self, gathered: &mut Gathered, new: &mut Vec<Unnamed>) {
        for seen in self.0.drain(..) {
            settle(gathered, seen, new);
        }
    }
}

/// The process by whose mappings a stack of `process` is to be walked. A fork that ended too soon
/// had a copy of its parent's memory.
fn mappings_of<'a>(process: &'a TracedProcess, all: &'a [TracedProcess]) -> &'a TracedProcess {
    let parent = all.iter().rev().find(|parent| {
        process.unreadable
            && Some(parent.pid) == process.facts.parent
            && parent.exec_count == process.exec_count
            && parent.read_at >= process.start
    });
    parent.unwrap_or(process)
}

fn settle(gathered: &mut Gathered, mut seen: Box<StackSeen>, new: &mut Vec<Unnamed>) {
    gathered.unmapped.remove(&seen.record.stack);
    gathered.truncated += u64::from(seen.record.walk != code::COMPLETE);
    seen.record.raw = 0;
    new.push(Unnamed::Stack(seen));
}

fn registers(piece: &RawPiece) -> Regs {
    Regs {
        ip: Addr(piece.record.ip),
        sp: Addr(piece.record.sp),
        bp: Addr(piece.record.bp),
    }
}

/// Memory as it was when the thread began to wait, as far as it was copied.
struct Copied<'a>(&'a [RawPiece]);

impl Memory for Copied<'_> {
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        self.0.iter().find_map(|piece| {
            let at = usize::try_from(addr.checked_sub(piece.record.address)?).ok()?;
            let word = piece.memory.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::record::RawStackRecord;

    fn piece(address: u64, words: &[u64]) -> RawPiece {
        let mut record: RawStackRecord = bytemuck::Zeroable::zeroed();
        record.address = address;
        RawPiece {
            record,
            memory: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }

    #[test]
    fn copied_memory_is_read_over_the_ends_of_pieces_and_not_beyond() {
        let pieces = [piece(0x1ff0, &[1, 2]), piece(0x2000, &[3])];
        let mut memory = Copied(&pieces);
        let words: Vec<_> = (0x1fe8..0x2018)
            .step_by(8)
            .map(|at| memory.read_u64(at))
            .collect();
        assert_eq!(words, [None, Some(1), Some(2), Some(3), None, None]);
    }
}
