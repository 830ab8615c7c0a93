//! One recording for each process, out of one for all.

use super::finish::Threads;
use crate::model::{Losses, Recording, StackId, Target};
use crate::units::Pid;
use std::collections::HashMap;

/// Gives each process its own of what `whole` has of all of them. `owners` says by stack whose it
/// is, `facts` are the processes, the first of which is that of the result.
pub(super) fn split(
    mut whole: Recording,
    facts: &[Target],
    threads: Threads,
    owners: &[Pid],
) -> Recording {
    let mut parts: Vec<Recording> = Vec::new();
    let mut by_pid: HashMap<Pid, usize> = HashMap::new();
    for target in facts {
        // An id that was given out again: what is known of threads does not tell the two apart.
        by_pid.entry(target.pid).or_insert_with(|| {
            parts.push(empty(&whole, target.clone()));
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
    let place = |id: StackId| places.get(id.0 as usize).copied().flatten();
    for mut total in std::mem::take(&mut whole.totals) {
        if let Some((part, id)) = place(total.stack)
            && let Some(part) = parts.get_mut(part)
        {
            total.stack = id;
            part.totals.push(total);
        }
    }
    for mut wait in std::mem::take(&mut whole.waits) {
        if let Some((part, id)) = place(wait.stack)
            && let Some(part) = parts.get_mut(part)
        {
            wait.stack = id;
            part.waits.push(wait);
        }
    }
    for mut open in std::mem::take(&mut whole.open_waits) {
        if let Some((part, id)) = place(open.stack)
            && let Some(part) = parts.get_mut(part)
        {
            open.stack = id;
            part.open_waits.push(open);
        }
    }
    let losses = std::mem::take(&mut whole.losses);
    let mut parts = parts.into_iter();
    let mut first = parts.next().unwrap_or(whole);
    first.losses = losses;
    first.others = parts.collect();
    first
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
        totals: Vec::new(),
        waits: Vec::new(),
        open_waits: Vec::new(),
        judges: whole.judges,
        losses: Losses::default(),
        others: Vec::new(),
    }
}
