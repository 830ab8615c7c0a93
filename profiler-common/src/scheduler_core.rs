//! The core of a runtime's scheduler (tokio's `Core`), read in the kernel: which turn of its loop it is in,
//! and which tasks wait for its thread.

/// Where a runtime's core has what is read of it, in bytes from its start, below `8 *`
/// [`CORE_WORDS`]. The core holds the tasks that run next; a worker takes it along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Core {
    /// A worker's: the pointer to its parker, 0 while it parks.
    pub park: u16,
    /// Which of [`queue`] holds its tasks.
    pub queue_kind: u8,
    /// With [`queue::WITH_SLOT_IN_CORE`], which of the core's words is the LIFO slot.
    pub slot: u8,
    /// Where that begins.
    pub queue: u16,
    /// The tick, and after it the interval at which the global queue is looked at, four bytes each;
    /// 0 where that is not known.
    pub tick: u16,
}

/// How a core holds the tasks that run next.
pub mod queue {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// A pointer to a queue, and a word of the core is the LIFO slot, from which no other worker
    /// takes.
    pub const WITH_SLOT_IN_CORE: u8 = 1;
    /// A pointer to a queue, which holds the LIFO slot too.
    pub const WITH_SLOT_IN_QUEUE: u8 = 2;
    /// The number of tasks in a queue of the core's own.
    pub const LENGTH: u8 = 3;
}

/// The cores that are known, read from DWARF of builds by rustc 1.95 of tokio 1.30 to 1.54 with all
/// features, and those of builds with `tokio_unstable`, which has counters in them, from what rustc 1.95
/// says of 1.30, 1.38 to 1.41, 1.44, 1.45 and 1.47 to 1.54 (`-Zprint-type-sizes`). With fewer features the driver at the start of a `current_thread` core is smaller, by one,
/// two or three times [`SINGLE_STEP`], and the rest comes earlier.
pub mod core_layout {
    use super::{Core, queue};

    /// Of a worker, by a version that is not known: as in all versions but [`WORKER_1_51`].
    pub const WORKER: Core = Core {
        park: 8,
        queue_kind: queue::UNKNOWN,
        slot: 0,
        queue: 24,
        tick: 0,
    };
    /// Of a worker, 1.30 to 1.44.
    pub const WORKER_1_30: Core = Core {
        queue_kind: queue::WITH_SLOT_IN_CORE,
        tick: 64,
        ..WORKER
    };
    /// Of a worker, from 1.45 on, but for [`WORKER_1_51`].
    pub const WORKER_1_45: Core = Core {
        tick: 104,
        ..WORKER_1_30
    };
    /// Of a worker, 1.51.0 to 1.52.1.
    pub const WORKER_1_51: Core = Core {
        park: 0,
        queue_kind: queue::WITH_SLOT_IN_QUEUE,
        slot: 0,
        queue: 16,
        tick: 96,
    };
    /// Of a worker with `tokio_unstable`, 1.30 to 1.38.
    pub const UNSTABLE_WORKER_1_30: Core = Core {
        tick: 200,
        ..WORKER_1_30
    };
    /// Of a worker with `tokio_unstable`, 1.39 and 1.40.
    pub const UNSTABLE_WORKER_1_39: Core = Core {
        tick: 208,
        ..WORKER_1_30
    };
    /// Of a worker with `tokio_unstable`, 1.41 to 1.48.
    pub const UNSTABLE_WORKER_1_41: Core = Core {
        park: 208,
        queue_kind: queue::WITH_SLOT_IN_CORE,
        slot: 25,
        queue: 192,
        tick: 224,
    };
    /// Of a worker with `tokio_unstable`, from 1.49 on, but for [`UNSTABLE_WORKER_1_51`]: it has a time
    /// context.
    pub const UNSTABLE_WORKER_1_49: Core = Core {
        park: 256,
        slot: 31,
        tick: 272,
        ..UNSTABLE_WORKER_1_41
    };
    /// Of a worker with `tokio_unstable`, 1.51.0 to 1.52.1.
    pub const UNSTABLE_WORKER_1_51: Core = Core {
        park: 248,
        queue_kind: queue::WITH_SLOT_IN_QUEUE,
        slot: 0,
        queue: 192,
        tick: 264,
    };
    /// Of a `current_thread` runtime, by a version that is not known.
    pub const SINGLE: Core = Core {
        park: 0,
        queue_kind: queue::UNKNOWN,
        slot: 0,
        queue: 0,
        tick: 0,
    };
    /// Of a `current_thread` runtime, 1.30 to 1.44.
    pub const SINGLE_1_30: Core = Core {
        queue_kind: queue::LENGTH,
        queue: 88,
        tick: 96,
        ..SINGLE
    };
    /// Of a `current_thread` runtime, 1.45 to 1.53.
    pub const SINGLE_1_45: Core = Core {
        tick: 136,
        ..SINGLE_1_30
    };
    /// Of a `current_thread` runtime, from 1.54 on.
    pub const SINGLE_1_54: Core = Core {
        queue: 112,
        tick: 160,
        ..SINGLE_1_30
    };
    /// Of a `current_thread` runtime with `tokio_unstable`, 1.30 to 1.38.
    pub const UNSTABLE_SINGLE_1_30: Core = Core {
        tick: 232,
        ..SINGLE_1_30
    };
    /// Of a `current_thread` runtime with `tokio_unstable`, 1.39 and 1.40.
    pub const UNSTABLE_SINGLE_1_39: Core = Core {
        tick: 240,
        ..SINGLE_1_30
    };
    /// Of a `current_thread` runtime with `tokio_unstable`, 1.41 to 1.53.
    pub const UNSTABLE_SINGLE_1_41: Core = Core {
        queue: 248,
        tick: 256,
        ..SINGLE_1_30
    };
    /// Of a `current_thread` runtime with `tokio_unstable`, from 1.54 on.
    pub const UNSTABLE_SINGLE_1_54: Core = Core {
        queue: 272,
        tick: 280,
        ..SINGLE_1_30
    };
}

/// By how much the drivers of a `current_thread` core differ in size, in bytes.
pub const SINGLE_STEP: u32 = 24;
/// How many sizes there are.
pub const SINGLE_STEPS: u32 = 4;

/// Words of a core that are read at most, a power of two.
pub const CORE_WORDS: usize = 64;

/// A pointer to a queue is to the counters of an `Arc` and the queue's buffer; then come its two
/// heads, the LIFO slot if it has one, and its tail.
pub const QUEUE_HEADS: u64 = 24;

/// What a core says of the tasks that wait for its thread: whether there is one in the LIFO slot in the
/// lowest bit, and how many are in the queue.
#[inline(always)]
#[must_use]
pub const fn queued(slot_taken: bool, tasks: u32) -> u16 {
    // Tokio's queues have 256 places; what a `current_thread` runtime has may be any number.
    let tasks = if tasks > MAX_QUEUED {
        MAX_QUEUED
    } else {
        tasks
    };
    slot_taken as u16 | (tasks as u16) << 1
}

/// Tasks of a queue that are counted at most.
pub const MAX_QUEUED: u32 = 0x3fff;

/// Whether a word may be a worker's tick and its global queue interval, which tokio keeps within 2 and
/// 127 unless the program has set another one. A pointer has more in its upper half.
#[inline(always)]
#[must_use]
pub const fn is_clock(word: u64) -> bool {
    let interval = word >> 32;
    interval >= 1 && interval <= 4096
}

/// Whether a word is the tick of a `current_thread` core and its global queue interval, which is 31
/// unless the program has set another one.
#[inline(always)]
#[must_use]
pub const fn is_single_clock(word: u64) -> bool {
    word >> 32 == 31
}

const _: () = assert!(size_of::<Core>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_fits_into_its_number() {
        assert_eq!(queued(false, 0), 0);
        assert_eq!(queued(true, 0), 1);
        assert_eq!(queued(true, 256), 513);
        assert_eq!(queued(true, u32::MAX), queued(true, MAX_QUEUED));
        assert!(queued(true, MAX_QUEUED) < u16::MAX, "one is added to it");
    }

    /// A tick with the interval that comes after it, and words that have other things there.
    #[test]
    fn a_tick_is_told_from_a_pointer() {
        for clock in [31 << 32 | 7, 61 << 32 | 0xffff_ffff, 1 << 32, 4096 << 32] {
            assert!(is_clock(clock), "{clock:x}");
        }
        for other in [0, 7, 0x7f12_3456_7890, 0x5555_5555_5000, u64::MAX] {
            assert!(!is_clock(other), "{other:x}");
            assert!(!is_single_clock(other), "{other:x}");
        }
        assert!(is_single_clock(31 << 32 | 7));
    }
}
