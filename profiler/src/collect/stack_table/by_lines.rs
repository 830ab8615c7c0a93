//! Stacks that are the same by functions and lines, not by places: samples, and those that are kept
//! without some of their callers.

use super::shorten::shortened;
use super::{NewStack, Owner, StackTable};
use crate::collect::frames::{CodeOf, Frames, Jumped, Place};
use crate::decode::{SampleSeen, StackKind};
use crate::recording::StackId;
use crate::symbolize::FrameRef;
use crate::units::Addr;
use std::hash::BuildHasher;

impl StackTable {
    /// Takes in the stack of a sample. Every instruction of a loop is a stack of its own by place,
    /// so those with the same functions and lines are one. None where it found no room, which is
    /// counted.
    pub(in crate::collect) fn add_sample(
        &mut self,
        seen: &SampleSeen,
        owner: Owner,
        code: &CodeOf<'_>,
        frames: &mut Frames,
    ) -> Option<StackId> {
        let new = NewStack::from(&seen.stack);
        let places = Frames::places(new.user, code);
        let named = frames.name_apart(&places, code);
        let identity = self.identity_by_lines(owner, &new, &named);
        if let Some(id) = self.samples.get(&identity) {
            return Some(*id);
        }
        if !self.has_room(StackKind::Sample) {
            let id = self.shorten_named(owner, &new, &named);
            self.samples_left_out += u64::from(id.is_none());
            return id;
        }
        let id = self.keep_sample(owner, &new, &places, code, frames);
        self.samples.insert(identity, id);
        Some(id)
    }

    /// A stack of which there is no room for the whole, without some of its callers. None where
    /// there is no room for that either.
    pub(super) fn shorten(
        &mut self,
        owner: Owner,
        new: &NewStack<'_>,
        places: &[(Place, Addr)],
        code: &CodeOf<'_>,
        frames: &mut Frames,
    ) -> Option<StackId> {
        if self.shortened_now >= self.bounds.shortened_at_once {
            return None;
        }
        self.shortened_now += 1;
        let named = frames.name_apart(places, code);
        self.shorten_named(owner, new, &named)
    }

    fn shorten_named(
        &mut self,
        owner: Owner,
        new: &NewStack<'_>,
        named: &[FrameRef],
    ) -> Option<StackId> {
        let kept = shortened(named);
        let identity = self.identity_by_lines(owner, new, &kept);
        if let Some(id) = self.shortened.get(&identity) {
            return Some(*id);
        }
        let used = self.used_by_shortened.entry(new.kind).or_default();
        if !used.fits(self.bounds.shortened) {
            return None;
        }
        used.stacks += 1;
        used.frames += kept.len();
        let id = self.keep(owner, new, kept, false);
        self.shortened.insert(identity, id);
        Some(id)
    }

    /// What is the same for stacks of the same functions and lines.
    fn identity_by_lines(&self, owner: Owner, new: &NewStack<'_>, named: &[FrameRef]) -> u64 {
        // The innermost address in the kernel is another one each time.
        let callers = new.kernel.get(1..).unwrap_or_default();
        let syscall = new.syscall.map(|syscall| syscall.number);
        let of_thread = (
            owner,
            new.kind,
            new.truncated,
            syscall,
            new.tls_state,
            new.runtime,
        );
        let lines = named.iter();
        let lines: Vec<_> = lines
            .map(|frame| (&frame.function, frame.line, frame.inlined))
            .collect();
        self.hasher
            .hash_one((of_thread, new.kernel.len(), callers, lines))
    }

    fn keep_sample(
        &mut self,
        owner: Owner,
        new: &NewStack<'_>,
        places: &[(Place, Addr)],
        code: &CodeOf<'_>,
        frames: &mut Frames,
    ) -> StackId {
        let before = frames.made();
        let ids = frames.ids_of(places);
        let named = frames.name(places, &ids, code, Jumped::No);
        self.use_room(StackKind::Sample, named.len(), frames.made() - before);
        self.keep(owner, new, named, true)
    }
}
