//! The tasks that wait for a worker, read from the memory of its process as the kernel side does.

use crate::runtime::Queued;
use profiler_common::context::{Found, Memory, Place, tls_state};
use profiler_common::scheduler_core::{
    Core, MAX_QUEUED, QUEUE_HEADS, SINGLE_STEP, SINGLE_STEPS, is_clock, is_single_clock, queue,
};

/// What waits for a thread, if it is a worker in a poll and its core is known.
pub(super) fn queued(place: &Place, found: &Found, memory: &impl Memory) -> Option<Queued> {
    match found.tls_state {
        _ if found.core == 0 => None,
        tls_state::CURRENT_THREAD_POLL => of_single(found.core, &place.single, memory),
        tls_state::WORKER_POLL => of_worker(found.core, &place.worker, memory),
        _ => None,
    }
}

fn of_worker(core: u64, fields: &Core, memory: &impl Memory) -> Option<Queued> {
    let word = |at: u16| memory.word(core.wrapping_add(at.into()));
    if fields.tick == 0 || !is_clock(word(fields.tick)?) {
        return None;
    }
    let heads = word(fields.queue)?.wrapping_add(QUEUE_HEADS);
    let in_queue = |n: u64| memory.word(heads.wrapping_add(8 * n));
    let (slot, tail) = match fields.queue_kind {
        queue::WITH_SLOT_IN_CORE => (word(8 * u16::from(fields.slot))?, in_queue(1)?),
        queue::WITH_SLOT_IN_QUEUE => (in_queue(1)?, in_queue(2)?),
        _ => return None,
    };
    // The real head and the tail are 32 bits wide and count up, around their ends too.
    let waiting = (tail as u32).wrapping_sub(in_queue(0)? as u32);
    Some(Queued {
        in_slot: slot != 0,
        in_queue: waiting.min(MAX_QUEUED),
    })
}

fn of_single(core: u64, fields: &Core, memory: &impl Memory) -> Option<Queued> {
    let is_there = |earlier: &u32| {
        let tick = u64::from(fields.tick).checked_sub(u64::from(*earlier));
        let word = tick.and_then(|tick| memory.word(core.wrapping_add(tick)));
        word.is_some_and(is_single_clock)
    };
    if fields.tick == 0 || fields.queue_kind != queue::LENGTH {
        return None;
    }
    let mut steps = (0..SINGLE_STEPS).map(|step| step * SINGLE_STEP);
    let earlier = steps.find(is_there)?;
    let length = u64::from(fields.queue).checked_sub(earlier.into())?;
    let length = memory.word(core.wrapping_add(length))?;
    Some(Queued {
        in_slot: false,
        in_queue: (length as u32).min(MAX_QUEUED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiler_common::scheduler_core::core_layout;
    use std::collections::BTreeMap;

    struct Words(BTreeMap<u64, u64>);

    impl Memory for Words {
        fn words<const N: usize>(&self, at: u64) -> [u64; N] {
            std::array::from_fn(|n| self.word(at + 8 * n as u64).unwrap_or(0))
        }

        fn word(&self, at: u64) -> Option<u64> {
            self.0.get(&at).copied()
        }
    }

    const CORE: u64 = 0x1000;
    const QUEUE: u64 = 0x9000;

    fn queued(in_slot: bool, in_queue: u32) -> Option<Queued> {
        Some(Queued { in_slot, in_queue })
    }

    #[test]
    fn a_worker_has_a_slot_and_a_queue() {
        let fields = core_layout::WORKER_1_45;
        let mut words = Words(BTreeMap::from([
            (CORE, 0x7777_0000),
            (CORE + 24, QUEUE),
            (CORE + 104, 61 << 32 | 12),
            // Stealers are at the upper half of the heads.
            (QUEUE + 24, 7 << 32 | 0xffff_fffe),
            (QUEUE + 32, 3),
        ]));
        assert_eq!(of_worker(CORE, &fields, &words), queued(true, 5));
        words.0.insert(CORE, 0);
        assert_eq!(of_worker(CORE, &fields, &words), queued(false, 5));
        words.0.insert(CORE + 104, 0x7f00_1234_5678);
        assert_eq!(of_worker(CORE, &fields, &words), None, "no tick is there");
        assert_eq!(of_worker(CORE, &core_layout::WORKER, &words), None);
    }

    /// With `tokio_unstable` the slot is behind the counters and the queue.
    #[test]
    fn the_slot_may_be_anywhere_in_the_core() {
        let fields = core_layout::UNSTABLE_WORKER_1_49;
        let mut words = Words(BTreeMap::from([
            (CORE, 0x7777_0000),
            (CORE + 192, QUEUE),
            (CORE + 248, 0),
            (CORE + 272, 61 << 32 | 12),
            (QUEUE + 24, 4),
            (QUEUE + 32, 6),
        ]));
        assert_eq!(of_worker(CORE, &fields, &words), queued(false, 2));
        words.0.insert(CORE + 248, 0x7777_0000);
        assert_eq!(of_worker(CORE, &fields, &words), queued(true, 2));
    }

    #[test]
    fn a_queue_may_have_the_slot() {
        let fields = core_layout::WORKER_1_51;
        let words = Words(BTreeMap::from([
            (CORE + 16, QUEUE),
            (CORE + 96, 61 << 32 | 12),
            (QUEUE + 24, 4),
            (QUEUE + 32, 0x7777_0000),
            (QUEUE + 40, 4),
        ]));
        assert_eq!(of_worker(CORE, &fields, &words), queued(true, 0));
        let unreadable = Words(BTreeMap::new());
        assert_eq!(of_worker(CORE, &fields, &unreadable), None);
    }

    #[test]
    fn a_core_of_one_thread_has_a_length() {
        let fields = core_layout::SINGLE_1_54;
        for earlier in [0, 24, 48, 72] {
            let words = Words(BTreeMap::from([
                (CORE + 112 - earlier, 3),
                (CORE + 160 - earlier, 31 << 32 | 5),
            ]));
            assert_eq!(of_single(CORE, &fields, &words), queued(false, 3));
        }
        let other = Words(BTreeMap::from([(CORE + 160, 61 << 32 | 5)]));
        assert_eq!(of_single(CORE, &fields, &other), None);
    }
}
