//! One recording for each process, out of one for all.

use super::books::Threads;
use crate::recording::{
    Losses, ObjectId, Panics, Recording, StackEntry, StackId, Target, Throttling, WaitObject,
};
use crate::units::Pid;
use std::collections::HashMap;

/// Gives each process its own of what `whole` has of all of them. `owners` says by stack whose it
/// is, `facts` are the processes, the first of which is that of the result, and `throttled` says
/// what a CPU quota did to them, and `panics` how often they panicked.
pub(super) fn split(
    mut whole: Recording,
    facts: &[Target],
    threads: Threads,
    owners: &[Pid],
    mut throttled: HashMap<Pid, Throttling>,
    mut panics: Option<HashMap<Pid, Panics>>,
) -> Recording {
    let mut parts: Vec<Recording> = Vec::new();
    let mut by_pid: HashMap<Pid, usize> = HashMap::new();
    for target in facts {
        // An id that was given out again: what is known of threads does not tell the two apart.
        by_pid.entry(target.pid).or_insert_with(|| {
            let mut part = empty(&whole, target.clone());
            part.throttling = throttled.remove(&target.pid);
            let own = |all: &mut HashMap<Pid, Panics>| all.remove(&target.pid).unwrap_or_default();
            part.panics = panics.as_mut().map(own);
            parts.push(part);
            parts.len() - 1
        });
    }
    for ((pid, _), thread) in threads.0 {
        if let Some(part) = by_pid.get(&pid).and_then(|&part| parts.get_mut(part)) {
            part.threads.push(thread);
        }
    }
    // By stack: whose it is, and which of its stacks.
    let mut places: Vec<Option<(usize, StackId)>> = Vec::with_capacity(owners.len());
    for (stack, owner) in std::mem::take(&mut whole.stacks).into_iter().zip(owners) {
        let place = by_pid.get(owner).copied();
        places.push(place.and_then(|place| {
            let part = parts.get_mut(place)?;
            part.stacks.push(stack);
            let id = u32::try_from(part.stacks.len() - 1).ok()?;
            Some((place, StackId(id)))
        }));
    }
    let mut objects = Objects::new(std::mem::take(&mut whole.objects));
    let mut wakers = HashMap::new();
    let place = |id: StackId| places.get(id.0 as usize).copied().flatten();
    for mut total in std::mem::take(&mut whole.totals) {
        if let Some((n, id)) = place(total.stack)
            && let Some(part) = parts.get_mut(n)
        {
            total.stack = id;
            total.object = objects.of_part(total.object, n, part);
            part.totals.push(total);
        }
    }
    for mut wait in std::mem::take(&mut whole.waits) {
        let Some((n, id)) = place(wait.stack) else {
            continue;
        };
        wait.stack = id;
        if let Some(waker) = &mut wait.waker {
            let stack = waker.stack.and_then(place);
            waker.stack = stack.and_then(|stack| waker_stack(stack, n, &mut parts, &mut wakers));
        }
        if let Some(part) = parts.get_mut(n) {
            wait.object = objects.of_part(wait.object, n, part);
            part.waits.push(wait);
        }
    }
    for mut open in std::mem::take(&mut whole.open_waits) {
        if let Some((n, id)) = place(open.stack)
            && let Some(part) = parts.get_mut(n)
        {
            open.stack = id;
            open.began_for = objects.of_part(open.began_for, n, part);
            part.open_waits.push(open);
        }
    }
    for mut sample in std::mem::take(&mut whole.samples) {
        if let Some((n, id)) = place(sample.stack)
            && let Some(part) = parts.get_mut(n)
        {
            sample.stack = id;
            part.samples.push(sample);
        }
    }
    for mut call in std::mem::take(&mut whole.calls) {
        if let Some((n, id)) = place(call.stack)
            && let Some(part) = parts.get_mut(n)
        {
            call.stack = id;
            call.object = objects.of_part(call.object, n, part);
            part.calls.push(call);
        }
    }
    for panics in parts.iter_mut().filter_map(|part| part.panics.as_mut()) {
        panics.totals.retain_mut(|total| {
            let own = place(total.stack);
            own.inspect(|(_, id)| total.stack = *id).is_some()
        });
    }
    for mut poll in std::mem::take(&mut whole.long_polls) {
        if let Some((n, id)) = place(poll.stack)
            && let Some(part) = parts.get_mut(n)
        {
            poll.stack = id;
            part.long_polls.push(poll);
        }
    }
    let losses = std::mem::take(&mut whole.losses);
    let mut parts = parts.into_iter();
    let mut first = parts.next().unwrap_or(whole);
    first.losses = losses;
    first.others = parts.collect();
    first
}

/// Objects of all processes, each of which gets those that it waited for.
struct Objects {
    all: Vec<WaitObject>,
    /// By part and id among all: the id in the part.
    known: HashMap<(usize, ObjectId), ObjectId>,
}

impl Objects {
    fn new(all: Vec<WaitObject>) -> Objects {
        let known = HashMap::new();
        Objects { all, known }
    }

    /// The id of an object in a part, which has it from then on.
    fn of_part(
        &mut self,
        id: Option<ObjectId>,
        n: usize,
        part: &mut Recording,
    ) -> Option<ObjectId> {
        let id = id?;
        if let Some(known) = self.known.get(&(n, id)) {
            return Some(*known);
        }
        let object = self.all.get(id.0 as usize)?;
        let own = ObjectId(u32::try_from(part.objects.len()).ok()?);
        part.objects.push(object.clone());
        self.known.insert((n, id), own);
        Some(own)
    }
}

/// The id that a waker's stack has in part `n`: that of another process is copied there.
fn waker_stack(
    (of, id): (usize, StackId),
    n: usize,
    parts: &mut [Recording],
    copied: &mut HashMap<(usize, usize, StackId), StackId>,
) -> Option<StackId> {
    if of == n {
        return Some(id);
    }
    if let Some(copy) = copied.get(&(n, of, id)) {
        return Some(*copy);
    }
    let stack: StackEntry = parts.get(of)?.stacks.get(id.0 as usize)?.clone();
    let part = parts.get_mut(n)?;
    let copy = StackId(u32::try_from(part.stacks.len()).ok()?);
    part.stacks.push(stack);
    copied.insert((n, of, id), copy);
    Some(copy)
}

fn empty(whole: &Recording, target: Target) -> Recording {
    Recording {
        tool: whole.tool.clone(),
        host: whole.host.clone(),
        target,
        started_at: whole.started_at,
        start: whole.start,
        end: whole.end,
        min_block: whole.min_block,
        threads: Vec::new(),
        stacks: Vec::new(),
        objects: Vec::new(),
        totals: Vec::new(),
        waits: Vec::new(),
        open_waits: Vec::new(),
        sampling: whole.sampling,
        samples: Vec::new(),
        long_polls: Vec::new(),
        calls_measured: whole.calls_measured,
        calls: Vec::new(),
        panics: None,
        throttling: None,
        judges: whole.judges,
        losses: Losses::default(),
        others: Vec::new(),
    }
}
