//! The frames of stacks: each place in the code is named once, and all stacks that go through it
//! share its frames.

use super::address_map::AddressMap;
use super::made_code::MadeCode;
use super::modules::Modules;
use super::tail_calls::{Code, Function, Jump};
use crate::recording::ProcessId;
use crate::symbolize::{Frame, FrameRef, LeftOut, Origin, Symbolizer};
use crate::units::{Addr, Svma};
use crate::unwind::LEFT_OUT;
use std::collections::HashMap;
use std::sync::Arc;

/// The frames of one place at this many addresses are kept: a library may be mapped here and there.
const MAX_ADDRESSES: usize = 4;

/// What the addresses of a stack mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeOf<'a> {
    /// The mappings by which the stack was walked.
    pub(super) map: &'a AddressMap,
    /// The files behind them.
    pub(super) modules: &'a Modules,
    /// The process.
    pub(super) process: ProcessId,
    /// The names of code that it made at run time.
    pub(super) made: Option<&'a MadeCode>,
    /// The process's memory, where functions are to be found that left the stack by a jump.
    pub(super) memory: Option<&'a Code>,
}

/// Where in the code a frame is, wherever that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// In a module, at an address that its file states.
    InModule(usize, Svma),
    /// In no known mapping, of this process.
    Unmapped(ProcessId, Addr),
    /// Those of a deep stack that were not kept, see [`LEFT_OUT`].
    LeftOut,
}

/// A place by its position in [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PlaceId(u32);

/// The functions that are to be found which left the stack by a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jumped {
    /// None.
    No,
    /// Those of the application, which the rules do not look at.
    Application,
    /// All.
    All,
}

/// The frames of one place at an address, innermost first.
type Named = (Addr, Arc<[FrameRef]>);

/// Every place that stacks go through.
#[derive(Debug, Default)]
pub(super) struct Frames {
    symbolizer: Symbolizer,
    ids: HashMap<Place, PlaceId>,
    named: Vec<Vec<Named>>,
    /// Frames of functions that left the stack, by where they begin and what they jumped to.
    jumped: HashMap<(Function, Function), Arc<[FrameRef]>>,
    made: usize,
}

impl Frames {
    /// What names addresses.
    pub(super) const fn symbolizer(&mut self) -> &mut Symbolizer {
        &mut self.symbolizer
    }

    /// Addresses that have no name.
    pub(super) fn unresolved(&self) -> u64 {
        self.symbolizer.unresolved()
    }

    /// Modules whose names or source lines would cost too much.
    pub(super) const fn left_out(&self) -> &LeftOut {
        self.symbolizer.left_out()
    }

    /// How many frames there are.
    pub(super) const fn made(&self) -> usize {
        self.made
    }

    /// The places of a stack, leaf first, and the addresses at which they were looked up. All but
    /// the leaf are return addresses, but for a frame that a signal interrupted; taking one off
    /// there too may show the instruction before, which is nearly always of the same line.
    pub(super) fn places(addresses: &[Addr], code: &CodeOf<'_>) -> Vec<(Place, Addr)> {
        let place = |(depth, address): (usize, &Addr)| {
            let at = match depth {
                0 => *address,
                _ => Addr(address.0.saturating_sub(1)),
            };
            let place = match code.map.resolve(at) {
                _ if depth > 0 && *address == LEFT_OUT => Place::LeftOut,
                Some((module, svma)) => Place::InModule(module, svma),
                None => Place::Unmapped(code.process, at),
            };
            (place, at)
        };
        addresses.iter().enumerate().map(place).collect()
    }

    /// The ids of places; none where one is new, or has another name by now.
    pub(super) fn ids(
        &self,
        places: &[(Place, Addr)],
        code: &CodeOf<'_>,
    ) -> Option<Box<[PlaceId]>> {
        let id = |(place, at): &(Place, Addr)| {
            let id = self.ids.get(place).copied()?;
            let known = self.at(id, *at);
            let outdated = known.is_some_and(|(_, group)| is_outdated(group, *place, *at, code));
            (!outdated).then_some(id)
        };
        places.iter().map(id).collect()
    }

    /// The ids of places, of which new ones get theirs.
    pub(super) fn ids_of(&mut self, places: &[(Place, Addr)]) -> Box<[PlaceId]> {
        let id = |(place, _): &(Place, Addr)| {
            let next = PlaceId(self.named.len() as u32);
            let id = *self.ids.entry(*place).or_insert(next);
            if id == next {
                self.named.push(Vec::new());
            }
            id
        };
        places.iter().map(id).collect()
    }

    /// The frames of a stack that is kept, by its places and their ids.
    pub(super) fn name(
        &mut self,
        places: &[(Place, Addr)],
        ids: &[PlaceId],
        code: &CodeOf<'_>,
        jumped: Jumped,
    ) -> Vec<FrameRef> {
        let mut frames: Vec<FrameRef> = Vec::new();
        let mut callee: Option<Function> = None;
        for ((place, at), id) in places.iter().zip(ids) {
            if let (Some(memory), Some(callee)) = (code.memory, callee)
                && jumped != Jumped::No
                && let Some(group) = self.jumped(memory, *at, callee, code)
                && (jumped == Jumped::All || is_application(&group))
            {
                frames.extend(group.iter().cloned());
            }
            let group = self.group(*place, *at, *id, code);
            let start = group.last().and_then(|frame| frame.start);
            callee = match place {
                Place::InModule(module, _) => start.map(|start| (*module, start)),
                Place::Unmapped(..) | Place::LeftOut => None,
            };
            frames.extend(group.iter().cloned());
        }
        frames
    }

    /// The frames of a stack that may not be kept.
    pub(super) fn name_apart(
        &mut self,
        places: &[(Place, Addr)],
        code: &CodeOf<'_>,
    ) -> Vec<FrameRef> {
        let mut frames: Vec<FrameRef> = Vec::new();
        for (place, at) in places {
            let known = self.ids.get(place).and_then(|id| self.at(*id, *at));
            match known {
                Some((_, group)) if !is_outdated(group, *place, *at, code) => {
                    frames.extend(group.iter().cloned())
                }
                _ => look_up(&mut self.symbolizer, *place, *at, code, &mut frames),
            }
        }
        frames
    }

    /// The frames of a place at this very address, or at another one where enough are known.
    fn at(&self, id: PlaceId, at: Addr) -> Option<&Named> {
        let named = self.named.get(id.0 as usize)?;
        let here = named.iter().find(|(known, _)| *known == at);
        here.or_else(|| named.get(MAX_ADDRESSES - 1).and_then(|_| named.first()))
    }

    fn group(&mut self, place: Place, at: Addr, id: PlaceId, code: &CodeOf<'_>) -> Arc<[FrameRef]> {
        if let Some((_, group)) = self.at(id, at)
            && !is_outdated(group, place, at, code)
        {
            return Arc::clone(group);
        }
        let mut group = Vec::new();
        look_up(&mut self.symbolizer, place, at, code, &mut group);
        self.made += group.len();
        let group: Arc<[FrameRef]> = group.into();
        if let Some(named) = self.named.get_mut(id.0 as usize) {
            named.retain(|(known, _)| *known != at);
            named.push((at, Arc::clone(&group)));
        }
        group
    }

    /// The function that the call before the return address behind `at` went to, if it is not the
    /// one that stands on the stack.
    fn jumped(
        &mut self,
        memory: &Code,
        at: Addr,
        callee: Function,
        code: &CodeOf<'_>,
    ) -> Option<Arc<[FrameRef]>> {
        let called = memory.called(Addr(at.0.saturating_add(1)))?;
        let function = code.map.resolve(called)?;
        if function == callee {
            return None;
        }
        if let Some(known) = self.jumped.get(&(function, callee)) {
            return Some(Arc::clone(known));
        }
        let jump = Jump {
            source: &code.modules.get(function.0)?.source,
            start: function.1,
            called,
            callee,
            map: code.map,
            memory,
        };
        let frames: Arc<[FrameRef]> = jump.frames(&mut self.symbolizer)?.into();
        self.made += frames.len();
        self.jumped.insert((function, callee), Arc::clone(&frames));
        Some(frames)
    }
}

/// Whether the physical function of some frames is the application's.
fn is_application(group: &[FrameRef]) -> bool {
    let physical = group.last();
    physical.is_some_and(|physical| physical.origin == Origin::Application)
}

/// Whether the code at an address, which was made at run time, had no name when these frames were made,
/// or another one: its compiler writes names down when it likes, and may use the memory again.
fn is_outdated(group: &[FrameRef], place: Place, at: Addr, code: &CodeOf<'_>) -> bool {
    let name = match place {
        Place::Unmapped(..) => code.made.and_then(|made| made.name(at)),
        Place::InModule(..) | Place::LeftOut => None,
    };
    name.is_some_and(|name| group.iter().all(|frame| *frame.function != **name))
}

fn look_up(
    symbolizer: &mut Symbolizer,
    place: Place,
    at: Addr,
    code: &CodeOf<'_>,
    out: &mut Vec<FrameRef>,
) {
    let (source, svma) = match place {
        Place::InModule(module, svma) => (code.modules.get(module), svma),
        Place::Unmapped(..) => {
            if let Some(name) = code.made.and_then(|made| made.name(at)) {
                out.push(Frame::made(name, at).into());
                return;
            }
            (None, Svma::default())
        }
        Place::LeftOut => {
            out.push(Frame::left_out().into());
            return;
        }
    };
    symbolizer.user(source.map(|module| &module.source), svma, at, out);
}
