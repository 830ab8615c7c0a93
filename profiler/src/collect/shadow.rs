//! The shadow check: stacks that the kernel side walked are walked again, by framehop, on the
//! registers and the memory that the kernel side copied in the same event.

use super::address_map::AddressMap;
use super::maps::Maps;
use super::modules::Modules;
use crate::decode::{RawPiece, StackNumber, StackSeen, TableVersion, ThreadKey};
use crate::recording::ShadowCheck;
use crate::units::{Addr, Timestamp};
use crate::unwind::{LEFT_OUT, Reference, Sections};
use std::collections::HashMap;

/// Copies of which not all pieces have come. More are there only where pieces were lost.
const MAX_PENDING: usize = 64;
/// Walks kept to compare with: as many as the kernel side numbers.
const MAX_WALKS: usize = 1 << 16;
/// Differences told one by one.
const MAX_TOLD: u64 = 8;

/// A walk of the kernel side.
#[derive(Debug)]
struct Walk {
    frames: Vec<Addr>,
    complete: bool,
}

/// The check under way.
#[derive(Debug)]
pub(super) struct Shadow {
    outcome: ShadowCheck,
    walks: HashMap<StackNumber, Walk>,
    /// Copies by thread and time.
    pending: HashMap<(ThreadKey, Timestamp), Vec<RawPiece>>,
    /// By module.
    sections: HashMap<usize, Option<Sections>>,
    /// framehop for one version of the mappings.
    reference: Option<(TableVersion, Reference)>,
}

/// How a comparison went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Equal,
    Different,
    GivenUp,
}

impl Shadow {
    /// One stack in `every` is copied; 0 for none.
    pub(super) fn new(every: u32) -> Shadow {
        Shadow {
            outcome: ShadowCheck {
                every,
                ..ShadowCheck::default()
            },
            walks: HashMap::new(),
            pending: HashMap::new(),
            sections: HashMap::new(),
            reference: None,
        }
    }

    /// What came of it; none where it was not asked for.
    pub(super) fn outcome(&self) -> Option<ShadowCheck> {
        let unfinished = self.pending.len() as u64;
        (self.outcome.every > 0).then_some(ShadowCheck {
            lost: self.outcome.lost + unfinished,
            ..self.outcome
        })
    }

    /// Keeps the kernel side's walk.
    pub(super) fn keep(&mut self, seen: &StackSeen) {
        let Some(number) = seen.number.filter(|_| self.outcome.every > 0) else {
            return;
        };
        if self.walks.len() >= MAX_WALKS && !self.walks.contains_key(&number) {
            // Copies come right after their walks: old ones are asked for by none.
            self.walks.clear();
        }
        let walk = Walk {
            frames: seen.user.clone(),
            complete: seen.truncated.is_none(),
        };
        self.walks.insert(number, walk);
    }

    /// Compares all copies that are complete. `maps` are the mappings by version.
    pub(super) fn compare(&mut self, pieces: &mut Vec<RawPiece>, maps: &Maps, modules: &Modules) {
        for piece in pieces.drain(..) {
            let key = (piece.thread, piece.time);
            let last = piece.last;
            self.pending.entry(key).or_default().push(piece);
            if last && let Some(copy) = self.pending.remove(&key) {
                self.compare_one(&copy, maps, modules);
            }
        }
        if self.pending.len() > MAX_PENDING {
            self.outcome.lost += self.pending.len() as u64;
            self.pending.clear();
        }
    }

    fn compare_one(&mut self, copy: &[RawPiece], maps: &Maps, modules: &Modules) {
        let Some(first) = copy.first() else { return };
        let (regs, table_version) = (first.regs, first.table_version);
        let begins = first.address == regs.sp;
        let Some(map) = maps.known(table_version).filter(|_| begins) else {
            self.outcome.lost += 1;
            return;
        };
        self.prepare(table_version, map, modules);
        let walk = first.number.and_then(|number| self.walks.get(&number));
        let (Some(walk), Some((_, reference))) = (walk, &self.reference) else {
            self.outcome.lost += 1;
            return;
        };
        let (theirs, end) = reference.walk(regs, |addr| word(copy, addr));
        let guess = |depth: usize, pc: Addr| {
            let before = |pc: Addr| Addr(pc.0.saturating_sub(1));
            !reference.covers(if depth == 0 { pc } else { before(pc) })
        };
        let (known, all) = until_guess(&theirs, guess);
        // What lies beyond frames that were left out is not compared.
        let kept = walk.frames.iter().position(|frame| *frame == LEFT_OUT);
        let (ours, complete) = match kept {
            Some(kept) => (walk.frames.get(..kept).unwrap_or_default(), false),
            None => (walk.frames.as_slice(), walk.complete),
        };
        match compared(ours, complete, known, all && end.is_ok()) {
            Compared::Equal => self.outcome.compared += 1,
            Compared::GivenUp => {
                tracing::debug!("framehop gave up after {} frames: {end:?}", theirs.len());
                self.outcome.given_up += 1;
            }
            Compared::Different => {
                self.outcome.compared += 1;
                self.outcome.differing += 1;
                if self.outcome.differing <= MAX_TOLD {
                    tracing::warn!(
                        "a walk differs from framehop's: {:x?}, framehop {theirs:x?} ({end:?})",
                        walk.frames
                    );
                }
            }
        }
    }

    fn prepare(&mut self, table_version: TableVersion, map: &AddressMap, modules: &Modules) {
        if self
            .reference
            .as_ref()
            .is_some_and(|(of, _)| *of == table_version)
        {
            return;
        }
        let mut reference = Reference::new();
        for (range, bias, index) in map.regions() {
            let module = modules.get(index);
            let sections = self
                .sections
                .entry(index)
                .or_insert_with(|| module.and_then(|module| module.sections()));
            if let (Some(module), Some(sections)) = (module, sections) {
                reference.add(
                    module.source.name.to_string(),
                    range,
                    bias,
                    sections.clone(),
                );
            }
        }
        self.reference = Some((table_version, reference));
    }
}

/// The word at an address, out of the copy.
fn word(copy: &[RawPiece], addr: u64) -> Option<u64> {
    let byte = |addr: u64| {
        copy.iter().find_map(|piece| {
            let at = usize::try_from(addr.checked_sub(piece.address.0)?).ok()?;
            piece.memory.get(at).copied()
        })
    };
    let mut bytes = [0; 8];
    for (offset, into) in (0..8).zip(&mut bytes) {
        *into = byte(addr.checked_add(offset)?)?;
    }
    Some(u64::from_le_bytes(bytes))
}

/// The frames that framehop did not guess: up to the first one without unwinding information. Also
/// whether there is no such frame: what comes after it is a guess, and so is that nothing does.
fn until_guess(frames: &[Addr], guess: impl Fn(usize, Addr) -> bool) -> (&[Addr], bool) {
    let first = frames
        .iter()
        .enumerate()
        .position(|(depth, pc)| guess(depth, *pc));
    // The frame itself is known, only its callers are not.
    let known = first.map_or(frames.len(), |first| first + 1);
    (frames.get(..known).unwrap_or(frames), first.is_none())
}

/// Frames of both, leaf first. A walk that either of them could not finish says nothing about
/// what lies beyond its end.
fn compared(ours: &[Addr], our_end: bool, theirs: &[Addr], their_end: bool) -> Compared {
    let common = ours.len().min(theirs.len());
    if ours.get(..common) != theirs.get(..common) {
        return Compared::Different;
    }
    match (our_end, their_end) {
        (true, true) if ours.len() != theirs.len() => Compared::Different,
        // It is at its end, and we went on.
        (false, true) if ours.len() > theirs.len() => Compared::Different,
        // We were at our end, and it found more.
        (true, false) if theirs.len() > ours.len() => Compared::Different,
        (_, false) if ours.len() > theirs.len() => Compared::GivenUp,
        _ => Compared::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Pid, Tid};
    use crate::unwind::Regs;

    fn piece(address: u64, memory: &[u8], last: bool) -> RawPiece {
        RawPiece {
            thread: ThreadKey {
                pid: Pid(1),
                tid: Tid(2),
            },
            time: Timestamp(3),
            number: StackNumber::new(4),
            regs: Regs {
                ip: Addr(5),
                sp: Addr(0x1ff8),
                bp: Addr(0),
            },
            address: Addr(address),
            table_version: TableVersion(1),
            exec_count: 0,
            last,
            memory: memory.to_vec(),
        }
    }

    fn addresses(words: &[u64]) -> Vec<Addr> {
        words.iter().map(|word| Addr(*word)).collect()
    }

    #[test]
    fn words_are_read_across_pieces_and_not_beyond() {
        let bytes: Vec<u8> = (0..32).collect();
        let copy = [
            piece(0x1ff8, &bytes[..8], false),
            piece(0x2000, &bytes[8..], true),
        ];
        assert_eq!(word(&copy, 0x1ff8), Some(0x0706_0504_0302_0100));
        assert_eq!(word(&copy, 0x1ffc), Some(0x0b0a_0908_0706_0504));
        assert_eq!(word(&copy, 0x2010), Some(0x1f1e_1d1c_1b1a_1918));
        assert_eq!(word(&copy, 0x2011), None);
        assert_eq!(word(&copy, 0x1ff0), None);
        assert_eq!(word(&copy, u64::MAX - 3), None);
    }

    #[test]
    fn frames_are_judged_as_far_as_both_came() {
        let both = |ours: &[u64], our_end, theirs: &[u64], their_end| {
            compared(&addresses(ours), our_end, &addresses(theirs), their_end)
        };
        assert_eq!(both(&[1, 2], true, &[1, 2], true), Compared::Equal);
        assert_eq!(both(&[1, 2], true, &[1, 3], true), Compared::Different);
        assert_eq!(both(&[1, 2], true, &[1], true), Compared::Different);
        assert_eq!(both(&[1], true, &[1, 2], true), Compared::Different);
        assert_eq!(both(&[1], false, &[1, 2], true), Compared::Equal);
        assert_eq!(both(&[1, 2], false, &[1], true), Compared::Different);
        assert_eq!(both(&[1, 2], true, &[1], false), Compared::GivenUp);
        assert_eq!(both(&[1], true, &[1, 2], false), Compared::Different);
        assert_eq!(both(&[1, 2], false, &[2], false), Compared::Different);
    }

    #[test]
    fn what_framehop_guesses_counts_for_nothing() {
        let guess = |_: usize, pc: Addr| pc == Addr(7);
        let cases = [
            (&[1, 7, 3][..], 2, false),
            (&[1, 2, 3], 3, true),
            // It took the begin of the thread for what comes next.
            (&[1, 7], 2, false),
            (&[7], 1, false),
        ];
        for (frames, known, all) in cases {
            let frames = addresses(frames);
            assert_eq!(until_guess(&frames, guess), (&frames[..known], all));
        }
    }

    #[test]
    fn copies_that_never_end_are_counted() {
        let mut shadow = Shadow::new(100);
        let mut pieces: Vec<RawPiece> = (0..=MAX_PENDING as u64)
            .map(|time| {
                let mut piece = piece(0x1ff8, &[0; 8], false);
                piece.time = Timestamp(time);
                piece
            })
            .collect();
        shadow.compare(&mut pieces, &Maps::default(), &Modules::default());
        assert!(shadow.pending.is_empty());
        let mut pieces = vec![piece(0x1ff8, &[0; 8], true), piece(0x1ff8, &[0; 8], false)];
        shadow.compare(&mut pieces, &Maps::default(), &Modules::default());
        let outcome = shadow.outcome().expect("a check");
        assert_eq!(outcome.lost, MAX_PENDING as u64 + 1 + 1 + 1);
        assert_eq!(Shadow::new(0).outcome(), None);
    }
}
