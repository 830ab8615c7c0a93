//! From parts of waits to the pieces of the sweeps, each with what it would not be there without: its
//! own site and task, and those of the waits for which it waited in turn.

use super::blame::{Blames, Chain, End, Follower, Segment, Timeline, Waited};
use super::homes::Homes;
use super::labels::{Label, Labelling, Labels};
use super::meanwhile::{Activity, Doings, Stretch};
use super::parts::{Ender, Kind, Part, Pieces, Track};
use super::stack_facts::class_of;
use super::sweep::Piece;
use crate::fast_hash::FastMap;
use crate::recording::{ProcessId, StackId, Tables, ThreadId};
use crate::runtime::{Flavor, Role, State};
use crate::units::{Pid, Timestamp};
use std::sync::Arc;

/// Segments of blame for each wait, on average, and for few waits.
const BUDGET: (usize, usize) = (16, 1 << 16);
/// Parts of waits that are kept until it is known what the thread did of which they tell. Of more than
/// these that is not known.
const MAX_BUSY: usize = 1 << 18;

/// What is known, and what is added to, while parts become pieces.
pub(super) struct Spread<'a> {
    tables: &'a Tables,
    homes: &'a Homes,
    activity: &'a Activity,
    labelling: Labelling<'a>,
    blames: &'a mut Blames,
    /// Parts in which a thread was in no wait that is recorded by itself.
    busy: Vec<Busy>,
    sets: FastMap<Vec<Label>, Arc<[Label]>>,
    /// The processes by pid, of several with one pid the last.
    processes: FastMap<Pid, ProcessId>,
}

/// A part of a wait of a site in which a thread ran, was idle, or waited shortly.
#[derive(Debug)]
struct Busy {
    site: Label,
    /// As [`Chain::sites`].
    sites: Arc<[Label]>,
    stretch: Stretch,
}

impl<'a> Spread<'a> {
    pub(super) fn new(
        (tables, homes): (&'a Tables, &'a Homes),
        activity: &'a Activity,
        (labels, blames): (&'a mut Labels, &'a mut Blames),
    ) -> Spread<'a> {
        let processes = tables.processes.iter().zip(0..);
        Spread {
            tables,
            homes,
            activity,
            labelling: Labelling::new(tables, labels),
            blames,
            busy: Vec::new(),
            sets: FastMap::default(),
            processes: processes
                .map(|(process, id)| (process.pid, ProcessId(id)))
                .collect(),
        }
    }

    /// The pieces of `parts`, with the blame for those that begin before `until`. `later` are the
    /// parts after these, which may have ended them.
    pub(super) fn pieces<'p>(
        mut self,
        parts: impl Iterator<Item = &'p Part> + Clone,
        later: impl Iterator<Item = &'p Part>,
    ) -> Pieces {
        let all = parts.clone().chain(later);
        let waits = all.filter_map(|part| Some((part.thread, self.waited(part)?)));
        let timeline = Timeline::new(waits);
        // From when on each of them is to be swept over.
        let own: FastMap<(ThreadId, Timestamp), Timestamp> = parts
            .clone()
            .filter(|part| matches!(part.kind, Kind::Wait { .. }))
            .map(|part| ((part.thread, part.began), part.from))
            .collect();
        let mut pieces = Pieces::new();
        // Of each track and thread, where its waits are.
        let mut covered: FastMap<(Track, ThreadId), Vec<(Timestamp, Timestamp)>> =
            FastMap::default();
        let mut follower = Follower::new(&timeline, own.len() * BUDGET.0 + BUDGET.1);
        for (thread, waits) in timeline.waits() {
            for wait in waits {
                let Some(&rest) = own.get(&(thread, wait.from)) else {
                    continue;
                };
                let track = track(self.tables, self.homes, thread, wait.stack);
                let segments = self.segments(&mut follower, thread, wait);
                let Some(track) = track else { continue };
                let covered = covered.entry((track, thread)).or_default();
                covered.push((rest, wait.to));
                let own = pieces.entry(track).or_default();
                let left = segments.into_iter().filter(|(_, to, _)| *to > rest);
                own.extend(
                    left.map(|(from, to, labels)| Piece::new(thread, from.max(rest), to, labels)),
                );
            }
        }
        self.settle_busy(&timeline);
        for part in parts.filter(|part| matches!(part.kind, Kind::Poll)) {
            let Some(track) = track(self.tables, self.homes, part.thread, part.stack) else {
                continue;
            };
            let labels = self.set(&[part.stack]);
            let covered = covered
                .get(&(track, part.thread))
                .map_or(&[][..], Vec::as_slice);
            let own = pieces.entry(track).or_default();
            for (from, to) in gaps(covered, part.from, part.to) {
                own.push(Piece::new(part.thread, from, to, labels.clone()));
            }
        }
        pieces
    }

    fn waited(&self, part: &Part) -> Option<Waited> {
        let Kind::Wait { ender, ran } = part.kind else {
            return None;
        };
        Some(Waited {
            from: part.began,
            to: part.to,
            ran: ran.max(part.to),
            stack: part.stack,
            waker: ender.and_then(|ender| self.thread(part.thread, ender)),
        })
    }

    /// The thread that ended a wait of `thread`, if it is a recorded one.
    fn thread(&self, thread: ThreadId, ender: Ender) -> Option<ThreadId> {
        let waker = match ender {
            Ender::Holder(tid) => return Some(ThreadId { tid, ..thread }),
            Ender::Waker(waker) => self.tables.waker(waker)?,
        };
        let process = *self.processes.get(&waker.pid)?;
        Some(ThreadId {
            process,
            tid: waker.tid,
        })
    }

    /// The parts of a wait with their labels. Notes the blame for it.
    fn segments(
        &mut self,
        follower: &mut Follower<'_>,
        thread: ThreadId,
        wait: &Waited,
    ) -> Vec<(Timestamp, Timestamp, Arc<[Label]>)> {
        if wait.waker.is_none() {
            return vec![(wait.from, wait.to, self.set(&[wait.stack]))];
        }
        let site = self.labelling.of(wait.stack).site;
        if let Some(site) = site {
            self.blames.add_wait(site, wait.to - wait.from);
        }
        let mut segments: Vec<(Timestamp, Timestamp, Arc<[Label]>)> = Vec::new();
        follower.follow(thread, wait, &mut |segment| {
            if let Some(site) = site {
                self.blame(site, segment);
            }
            let labels = self.set(segment.links);
            match segments.last_mut() {
                Some((_, to, last)) if *last == labels => *to = segment.to,
                _ => segments.push((segment.from, segment.to, labels)),
            }
        });
        segments
    }

    /// Notes what was to blame for a part of a wait, or that it has to be asked for.
    fn blame(&mut self, site: Label, segment: &Segment<'_>) {
        let chain = self.chain(site, segment);
        let busy = segment.who.filter(|_| chain.end == End::Busy);
        match busy {
            Some(thread) if self.busy.len() < MAX_BUSY => self.busy.push(Busy {
                site,
                sites: chain.sites,
                stretch: (thread, segment.from, segment.to),
            }),
            _ => self.blames.add(site, chain, segment.to - segment.from),
        }
    }

    /// Finds out what those did that were in no wait that is recorded by itself.
    fn settle_busy(&mut self, timeline: &Timeline) {
        let busy = std::mem::take(&mut self.busy);
        let stretches = busy.iter().map(|busy| busy.stretch);
        let doings = Doings::of((self.tables, self.activity), timeline, stretches);
        for Busy {
            site,
            sites,
            stretch,
        } in busy
        {
            doings.split(stretch, &mut |end, length| {
                let sites = sites.clone();
                self.blames.add(site, Chain { sites, end }, length);
            });
        }
    }

    fn chain(&mut self, site: Label, segment: &Segment<'_>) -> Chain {
        let mut sites: Vec<Label> = Vec::new();
        let (mut last, mut end) = (site, segment.end);
        for stack in segment.links.iter().skip(1) {
            // A stack that has no place ends the chain: its thread waits where it should.
            let Some(label) = self.labelling.of(*stack).site else {
                end = match class_of(self.tables, *stack).0 {
                    State::Idle => End::Idle,
                    State::Stopped => End::Stopped,
                    _ => End::Unknown,
                };
                break;
            };
            if label != last {
                sites.push(label);
                last = label;
            }
        }
        Chain {
            sites: self.shared(sites),
            end,
        }
    }

    /// The sites and tasks of stacks, each once.
    fn set(&mut self, stacks: &[StackId]) -> Arc<[Label]> {
        let mut labels: Vec<Label> = Vec::with_capacity(2 * stacks.len());
        for stack in stacks {
            let own = self.labelling.of(*stack);
            labels.extend(own.site.into_iter().chain(own.task));
        }
        labels.sort_unstable();
        labels.dedup();
        self.shared(labels)
    }

    /// One copy of each row of labels.
    fn shared(&mut self, labels: Vec<Label>) -> Arc<[Label]> {
        if let Some(set) = self.sets.get(&labels) {
            return set.clone();
        }
        let set: Arc<[Label]> = labels.as_slice().into();
        self.sets.insert(labels, set.clone());
        set
    }
}

/// What of the time from `from` to `to` is not in `covered`, which is in the order of time.
fn gaps(
    covered: &[(Timestamp, Timestamp)],
    from: Timestamp,
    to: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let first = covered.partition_point(|(_, end)| *end <= from);
    let mut gaps = Vec::new();
    let mut at = from;
    for (begin, end) in covered
        .iter()
        .skip(first)
        .take_while(|(begin, _)| *begin < to)
    {
        if at < *begin {
            gaps.push((at, *begin));
        }
        at = at.max(*end);
    }
    if at < to {
        gaps.push((at, to));
    }
    gaps
}

/// With which threads a thread counts while it waits with a stack.
fn track(tables: &Tables, homes: &Homes, thread: ThreadId, stack: StackId) -> Option<Track> {
    Some(match class_of(tables, stack) {
        (State::Blocked, Role::Worker(Flavor::MultiThread)) => {
            Track::Workers(homes.of_thread(thread))
        }
        (State::Blocked, Role::Worker(Flavor::CurrentThread)) => Track::CurrentThread(thread),
        (State::HandedOff, _) if homes.is_worker(thread) => {
            Track::HandedOff(homes.of_thread(thread))
        }
        (State::Pool, _) => Track::Pool(thread.process),
        _ => return None,
    })
}
