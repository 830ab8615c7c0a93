//! Stacks that the kernel side could not walk, because it did not know the code yet: it sent
//! them raw, and they are walked here once the mappings have been read that they went through.

use super::processes::ProcessList;
use super::traced_process::TracedProcess;
use crate::bpf::Programs;
use crate::decode::{RawPiece, StackNumber, StackSeen};
use crate::units::{Pid, Timestamp};
use crate::unwind::{walk_counted, walk_outcome};
use profiler_common::walk::Memory;
use std::collections::{HashMap, HashSet};

/// Stacks that wait at most; they are some tens of kilobytes each.
const MAX_PENDING: usize = 4096;
/// Copies that wait for their stack at most. More are there only where records were lost.
const MAX_COPIES: usize = MAX_PENDING + 1024;

/// Stacks come in boxes and go on in them.
type Stacks = Vec<Box<StackSeen>>;

/// The stacks that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    stacks: Stacks,
    /// Their copies, piece by piece.
    copies: HashMap<StackNumber, Vec<RawPiece>>,
    /// Stacks that were cut off here, and not in the kernel, since this was asked last.
    truncated: u64,
}

impl Pending {
    /// Keeps a piece of the copy of a stack, which comes after it.
    pub(super) fn add_piece(&mut self, piece: RawPiece) {
        let Some(number) = piece.number else { return };
        if self.copies.len() >= MAX_COPIES && !self.copies.contains_key(&number) {
            // Of those that wait for mappings too, which then are as far as the kernel side came.
            self.copies.clear();
        }
        self.copies.entry(number).or_default().push(piece);
    }

    /// Keeps a stack back whose pieces have arrived.
    pub(super) fn add(&mut self, seen: Box<StackSeen>) {
        self.stacks.push(seen);
    }

    /// The processes whose mappings are to be read for the stacks that wait.
    pub(super) fn waits_for(&self) -> HashSet<Pid> {
        self.stacks.iter().map(|seen| seen.thread.pid).collect()
    }

    /// Stacks that were cut off here, and not in the kernel, since this was asked last.
    pub(super) fn take_truncated(&mut self) -> u64 {
        std::mem::take(&mut self.truncated)
    }

    /// Walks those whose process had its mappings read since, and gives all that need not wait any
    /// longer.
    pub(super) fn walk(&mut self, programs: &Programs, processes: &ProcessList) -> Stacks {
        let mut done = Vec::new();
        for mut seen in std::mem::take(&mut self.stacks) {
            match self.walk_one(&mut seen, programs, processes, Patience::Has) {
                Walked::Later => self.stacks.push(seen),
                Walked::Settled => done.push(self.settle(seen)),
            }
        }
        while self.stacks.len() > MAX_PENDING
            && let Some(seen) = self.stacks.pop()
        {
            let seen = self.settle(seen);
            done.push(seen);
        }
        done
    }

    fn walk_one(
        &self,
        seen: &mut StackSeen,
        programs: &Programs,
        processes: &ProcessList,
        patience: Patience,
    ) -> Walked {
        let own = processes.by_pid(seen.thread.pid);
        let own = own.and_then(|own| processes.get(own));
        let pieces = seen.number.and_then(|number| self.copies.get(&number));
        let first = pieces.and_then(|pieces| pieces.first());
        let (Some(own), Some(pieces), Some(first)) = (own, pieces, first) else {
            return Walked::Settled;
        };
        let process = mappings_of(own, processes);
        // Of one that has ended nobody can read later mappings. Those known last will do: where other
        // code was mapped over them since, that was told, and the stack ends there.
        let read = seen.time < process.read_at
            || !std::ptr::eq(process, own)
            || (process.is_ended() || patience == Patience::Lost) && process.table.is_some();
        // Before its next exec is known it is not known which program the stack is of.
        if !read || first.exec_count > process.exec_count {
            return Walked::Later;
        }
        // Of a program that is executed no more, nobody can read the mappings.
        if first.exec_count == process.exec_count {
            let tables = programs.tables_ref();
            let mut frames = Vec::new();
            let rule = |pc| process.rule(&tables, pc);
            let (outcome, pointer_steps) =
                walk_counted(first.regs, rule, &mut Copied(pieces), &mut frames);
            seen.pointer_steps = pointer_steps;
            seen.truncated = walk_outcome(outcome);
            seen.table_version = process.table_version;
            seen.user = frames;
        }
        Walked::Settled
    }

    /// Gives those taken until then that still wait: as far as the mappings lead that were known last.
    pub(super) fn give_up(
        &mut self,
        until: Timestamp,
        programs: &Programs,
        processes: &ProcessList,
    ) -> Stacks {
        let given_up = self.take_until(until).into_iter();
        let walked = given_up.map(|mut seen| {
            self.walk_one(&mut seen, programs, processes, Patience::Lost);
            self.settle(seen)
        });
        walked.collect()
    }

    fn take_until(&mut self, until: Timestamp) -> Stacks {
        let all = std::mem::take(&mut self.stacks).into_iter();
        let (given_up, waiting): (Stacks, Stacks) = all.partition(|seen| seen.time <= until);
        self.stacks = waiting;
        given_up
    }

    /// The stack is as it will be. It keeps the mark that it was sent raw: no other wait names it.
    fn settle(&mut self, seen: Box<StackSeen>) -> Box<StackSeen> {
        let pieces = seen.number.and_then(|number| self.copies.remove(&number));
        if let Some(why) = seen.truncated {
            tracing::debug!(
                pid = seen.thread.pid.0,
                time = seen.time.0,
                frames = seen.user.len(),
                pieces = pieces.map_or(0, |pieces| pieces.len()),
                "a stack that waited for mappings is cut off: {why:?}"
            );
        }
        self.truncated += u64::from(seen.truncated.is_some());
        seen
    }
}

/// Whether a stack may wait for a later look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Has,
    Lost,
}

/// What became of a stack.
enum Walked {
    /// It waits.
    Later,
    /// It need not wait any longer.
    Settled,
}

/// The process by whose mappings a stack of `process` is to be walked. A fork that ended too soon
/// had a copy of its parent's memory.
fn mappings_of<'a>(process: &'a TracedProcess, all: &'a ProcessList) -> &'a TracedProcess {
    let parent = process.facts.parent.filter(|_| process.unreadable);
    let parent = parent.and_then(|parent| all.get(all.by_pid(parent)?));
    let parent = parent.filter(|parent| {
        parent.exec_count == process.exec_count && parent.read_at >= process.start
    });
    parent.unwrap_or(process)
}

/// Memory as it was when the thread began to wait, as far as it was copied.
struct Copied<'a>(&'a [RawPiece]);

impl Memory for Copied<'_> {
    fn read_u64(&mut self, addr: u64) -> Option<u64> {
        self.0.iter().find_map(|piece| {
            let at = usize::try_from(addr.checked_sub(piece.address.0)?).ok()?;
            let word = piece.memory.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{StackKind, TableVersion, ThreadKey, ThreadName};
    use crate::runtime::tokio::TlsState;
    use crate::units::{Addr, Tid};
    use crate::unwind::{Regs, Truncation};

    const THREAD: ThreadKey = ThreadKey {
        pid: Pid(7),
        tid: Tid(8),
    };

    fn piece(number: u64, address: u64, words: &[u64]) -> RawPiece {
        RawPiece {
            thread: THREAD,
            time: Timestamp(1),
            number: StackNumber::new(number),
            regs: Regs::default(),
            address: Addr(address),
            table_version: TableVersion::NONE,
            exec_count: 0,
            last: true,
            memory: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }

    fn stack(number: u64) -> Box<StackSeen> {
        Box::new(StackSeen {
            thread: THREAD,
            name: ThreadName::new([0; 16]),
            time: Timestamp(1),
            number: StackNumber::new(number),
            kind: StackKind::OffCpu,
            syscall: None,
            truncated: Some(Truncation::Unmapped),
            table_version: TableVersion::NONE,
            tls_state: TlsState::Unknown,
            runtime: None,
            raw: true,
            pointer_steps: 0,
            user: vec![Addr(0x1000)],
            kernel: Vec::new(),
        })
    }

    #[test]
    fn copied_memory_is_read_over_the_ends_of_pieces_and_not_beyond() {
        let pieces = [piece(9, 0x1ff0, &[1, 2]), piece(9, 0x2000, &[3])];
        let mut memory = Copied(&pieces);
        let words: Vec<_> = (0x1fe8..0x2018)
            .step_by(8)
            .map(|at| memory.read_u64(at))
            .collect();
        assert_eq!(words, [None, Some(1), Some(2), Some(3), None, None]);
    }

    #[test]
    fn what_is_of_later_goes_on_waiting() {
        let mut pending = Pending::default();
        pending.add_piece(piece(9, 0x1ff0, &[1]));
        pending.add(stack(9));
        assert_eq!(pending.waits_for(), HashSet::from([Pid(7)]));
        assert!(pending.take_until(Timestamp(0)).is_empty());
        let given_up = pending.take_until(Timestamp(1)).pop().expect("it is due");
        assert_eq!(pending.settle(given_up), stack(9));
        assert_eq!((pending.take_truncated(), pending.take_truncated()), (1, 0));
        assert!(pending.waits_for().is_empty());
        assert!(pending.copies.is_empty());
    }

    #[test]
    fn copies_whose_stack_never_comes_do_not_pile_up() {
        let mut pending = Pending::default();
        for number in 0..3 * MAX_COPIES as u64 {
            pending.add_piece(piece(number + 2, 0, &[1]));
        }
        assert!(pending.copies.len() <= MAX_COPIES);
    }
}
