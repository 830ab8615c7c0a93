//! What tokio's own thread-local state says of a thread, read in the kernel.
//!
//! Every thread that has to do with tokio has a `tokio::runtime::context::CONTEXT`. Its layout is
//! the compiler's choice; the offsets below were read from DWARF of rustc 1.95 builds, and are
//! used only where the context's initial image in the binary agrees with them
//! (`process::module::context` in the userspace half).

/// Field offsets by tokio version, in bytes.
pub mod layout {
    /// Not known: the context is not read.
    pub const NONE: u32 = 0;
    /// tokio 1.40 to 1.54.
    pub const A: u32 = 1;
    /// tokio 1.29 to 1.39.
    pub const B: u32 = 2;

    /// tokio 1.20: no one context, but four variables, found by their symbols.
    pub const C: u32 = 3;

    /// Bytes of the context that hold all fields below, in either layout; a multiple of 8.
    pub const BYTES: usize = 80;
}

/// Offsets of one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pointer to the scheduler's own context, 0 outside a scheduler.
    pub scheduler: usize,
    /// Word that is 0 where no task is being polled.
    pub task: usize,
    /// Id of the task being polled.
    pub task_id: usize,
    /// Tag of an `Option` around the budget: 1 within `coop::budget`, that is in a poll.
    pub budget: usize,
    /// [`RUNTIME_CURRENT_THREAD`], [`RUNTIME_MULTI_THREAD`] or [`RUNTIME_NONE`].
    pub runtime: usize,
}

/// [`layout::A`].
pub const LAYOUT_A: Layout = Layout {
    scheduler: 40,
    task: 48,
    task_id: 48,
    budget: 68,
    runtime: 70,
};
/// [`layout::B`].
pub const LAYOUT_B: Layout = Layout {
    scheduler: 56,
    task: 32,
    task_id: 40,
    budget: 76,
    runtime: 78,
};

/// `EnterRuntime::Entered`, a `current_thread` runtime.
pub const RUNTIME_CURRENT_THREAD: u8 = 0;
/// `EnterRuntime::Entered`, a `multi_thread` runtime.
pub const RUNTIME_MULTI_THREAD: u8 = 1;
/// `EnterRuntime::NotEntered`: also within `block_in_place`, and in the blocking pool.
pub const RUNTIME_NONE: u8 = 2;

/// Offset of the tag of the `Option<Handle>` of the runtime that the thread has entered last, in
/// either layout; and what it is where there is none.
pub const HANDLE: usize = 8;
/// See [`HANDLE`].
pub const HANDLE_NONE: u8 = 2;
/// Offset of the count of handles entered one in the other (`HandleCell::depth`), likewise.
pub const DEPTH: usize = 24;
/// A thread of the blocking pool enters its runtime, and a worker's loop does so again: what goes
/// deeper is a `block_on` within a worker, which tokio permits in `block_in_place` alone.
pub const DEPTH_OF_WORKER: u64 = 2;

/// Of the scheduler's context: the tag that says `MultiThread`.
pub const SCHEDULER_MULTI_THREAD: u64 = 1;
/// Of a worker's context: where the pointer to its core is.
pub const WORKER_CORE: u64 = 24;
/// Words of a worker's context up to that pointer.
const WORKER_WORDS: usize = WORKER_CORE as usize / 8 + 1;
/// With [`layout::C`], of a worker's context: where the pointer to its core is.
pub const WORKER_CORE_C: u64 = 16;
/// Of a worker's core, in every layout: where the pointer to its parker is, 0 while the worker parks.
pub const CORE_PARK: u64 = 8;

/// What the state amounts to.
pub mod tls_state {
    /// Not known: no layout, or memory that could not be read.
    pub const UNKNOWN: u32 = 0;
    /// Outside any runtime, and no more is known.
    pub const OUTSIDE: u32 = 1;
    /// A worker with its core, in a task poll.
    pub const WORKER_POLL: u32 = 2;
    /// A worker with its core, parked or in the I/O driver.
    pub const WORKER_PARKED: u32 = 3;
    /// A worker that has given its core away, in a poll all the same.
    pub const CORELESS_POLL: u32 = 4;
    /// A worker thread without a core, in no poll: a hook, the shutdown.
    pub const CORELESS: u32 = 5;
    /// In the root future of a `multi_thread` runtime's `block_on`.
    pub const BLOCK_ON_POLL: u32 = 6;
    /// In such a `block_on`, parked.
    pub const BLOCK_ON_PARKED: u32 = 7;
    /// In a poll of a `current_thread` runtime.
    pub const CURRENT_THREAD_POLL: u32 = 8;
    /// In a `current_thread` runtime, in no poll.
    pub const CURRENT_THREAD_PARKED: u32 = 9;
    /// In a worker's `block_in_place`: its loop is there, but neither its core nor its runtime.
    pub const IN_PLACE: u32 = 10;
    /// Outside any runtime, and without a handle to one: no thread of tokio's.
    pub const FOREIGN: u32 = 11;
    /// Outside any runtime, with a handle to one, and in a task that is polled without a budget: a
    /// closure of `spawn_blocking`.
    pub const POOL_JOB: u32 = 12;
    /// Outside any runtime, with a handle to one, and in no task: a thread of the blocking pool
    /// without work, or one that entered a runtime by hand.
    pub const ENTERED: u32 = 13;
}

/// Words of the context.
pub type Words = [u64; layout::BYTES / 8];

/// A thread's memory.
pub trait Memory {
    /// The words from `at` on; 0 where they cannot be read.
    fn words<const N: usize>(&self, at: u64) -> [u64; N];
}

/// What a thread's state amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// One of [`tls_state`].
    pub tls_state: u32,
    /// Id of the task being polled, or 0.
    pub task_id: u64,
    /// The core of the worker that polls, or 0.
    pub core: u64,
}

impl Found {
    /// Nothing is known.
    pub const UNKNOWN: Found = Found {
        tls_state: tls_state::UNKNOWN,
        task_id: 0,
        core: 0,
    };
}

#[inline(always)]
fn byte(words: &Words, at: usize) -> u8 {
    (words[at / 8] >> (at % 8 * 8)) as u8
}

/// What a context amounts to.
#[inline(always)]
pub fn found(words: &Words, fields: Layout, memory: &impl Memory) -> Found {
    let runtime = byte(words, fields.runtime);
    let polls = byte(words, fields.budget) == 1;
    let scheduler = words[fields.scheduler / 8];
    let task_id = if words[fields.task / 8] == 0 {
        0
    } else {
        words[fields.task_id / 8]
    };
    let mut core = 0;
    let tls_state = if runtime == RUNTIME_NONE {
        outside(words, scheduler, polls, task_id, memory)
    } else if runtime == RUNTIME_CURRENT_THREAD {
        if polls {
            tls_state::CURRENT_THREAD_POLL
        } else {
            tls_state::CURRENT_THREAD_PARKED
        }
    } else if runtime != RUNTIME_MULTI_THREAD {
        tls_state::UNKNOWN
    } else if scheduler == 0 {
        if polls {
            tls_state::BLOCK_ON_POLL
        } else {
            tls_state::BLOCK_ON_PARKED
        }
    } else {
        // One read for the tag and the pointer: what a read costs is not its length.
        let worker: [u64; WORKER_WORDS] = memory.words(scheduler);
        if worker[0] != SCHEDULER_MULTI_THREAD {
            tls_state::UNKNOWN
        } else {
            let tls_state = by_core(worker[WORKER_WORDS - 1], polls, memory, &mut core);
            if tls_state == tls_state::CORELESS && words[DEPTH / 8] > DEPTH_OF_WORKER {
                tls_state::IN_PLACE
            } else {
                tls_state
            }
        }
    };
    Found {
        tls_state,
        task_id,
        core,
    }
}

/// Where a thread is that has entered no runtime.
#[inline(always)]
fn outside(words: &Words, scheduler: u64, polls: bool, task_id: u64, memory: &impl Memory) -> u32 {
    if scheduler != 0 {
        // Within a worker's loop `block_in_place` alone leaves the runtime, and it takes the core
        // away first.
        let worker: [u64; WORKER_WORDS] = memory.words(scheduler);
        if worker[0] == SCHEDULER_MULTI_THREAD && worker[WORKER_WORDS - 1] == 0 {
            tls_state::IN_PLACE
        } else {
            tls_state::OUTSIDE
        }
    } else if byte(words, HANDLE) == HANDLE_NONE {
        tls_state::FOREIGN
    } else if polls {
        // A task of a `LocalSet` that another executor polls.
        tls_state::OUTSIDE
    } else if task_id == 0 {
        tls_state::ENTERED
    } else {
        tls_state::POOL_JOB
    }
}

/// What a worker does, by its core. A budget tells a poll, in which no worker parks; that there is
/// none tells nothing, as `task::unconstrained` polls without one.
#[inline(always)]
pub fn by_core(core: u64, polls: bool, memory: &impl Memory, polling_core: &mut u64) -> u32 {
    if core == 0 {
        return if polls {
            tls_state::CORELESS_POLL
        } else {
            tls_state::CORELESS
        };
    }
    if !polls {
        let [park] = memory.words(core.wrapping_add(CORE_PARK));
        if park == 0 {
            return tls_state::WORKER_PARKED;
        }
    }
    *polling_core = core;
    tls_state::WORKER_POLL
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of memory, by address.
    struct Known<'a>(&'a [(u64, u64)]);

    impl Memory for Known<'_> {
        fn words<const N: usize>(&self, at: u64) -> [u64; N] {
            core::array::from_fn(|n| {
                let at = at + 8 * n as u64;
                let word = self.0.iter().find(|(address, _)| *address == at);
                word.map_or(0, |(_, word)| *word)
            })
        }
    }

    const SCHEDULER: u64 = 0x1000;
    const CORE: u64 = 0x2000;
    /// Of a multi_thread runtime's worker.
    const WORKER: (u64, u64) = (SCHEDULER, SCHEDULER_MULTI_THREAD);

    /// What a context is made of.
    #[derive(Clone, Copy)]
    struct Case {
        handle: u8,
        depth: u64,
        scheduler: u64,
        task: u64,
        polls: bool,
        runtime: u8,
    }

    const FREE: Case = Case {
        handle: HANDLE_NONE,
        depth: 0,
        scheduler: 0,
        task: 0,
        polls: false,
        runtime: RUNTIME_NONE,
    };

    fn of(case: Case, fields: Layout, memory: &[(u64, u64)]) -> Found {
        let mut words: Words = [0; layout::BYTES / 8];
        let mut byte = |at: usize, value: u8| words[at / 8] |= u64::from(value) << (at % 8 * 8);
        byte(HANDLE, case.handle);
        byte(fields.runtime, case.runtime);
        byte(fields.budget, case.polls.into());
        words[DEPTH / 8] = case.depth;
        words[fields.scheduler / 8] = case.scheduler;
        words[fields.task_id / 8] = case.task;
        if case.task != 0 && fields.task != fields.task_id {
            words[fields.task / 8] = 1;
        }
        found(&words, fields, &Known(memory))
    }

    fn place_of(case: Case, memory: &[(u64, u64)]) -> u32 {
        let [a, b] = [LAYOUT_A, LAYOUT_B].map(|fields| of(case, fields, memory).tls_state);
        assert_eq!(a, b, "the layouts differ");
        a
    }

    #[test]
    fn threads_outside_a_runtime_are_told_apart() {
        let pool = Case {
            handle: 1,
            depth: 1,
            ..FREE
        };
        assert_eq!(place_of(FREE, &[]), tls_state::FOREIGN);
        assert_eq!(place_of(pool, &[]), tls_state::ENTERED);
        assert_eq!(place_of(Case { task: 7, ..pool }, &[]), tls_state::POOL_JOB);
        let local = Case {
            task: 7,
            polls: true,
            ..pool
        };
        assert_eq!(place_of(local, &[]), tls_state::OUTSIDE);
        let in_place = Case {
            depth: 2,
            scheduler: SCHEDULER,
            task: 7,
            ..pool
        };
        assert_eq!(place_of(in_place, &[WORKER]), tls_state::IN_PLACE);
        // That cannot be, so nothing is made of it.
        let core = (SCHEDULER + WORKER_CORE, CORE);
        assert_eq!(place_of(in_place, &[WORKER, core]), tls_state::OUTSIDE);
        assert_eq!(place_of(in_place, &[(SCHEDULER, 0)]), tls_state::OUTSIDE);
    }

    #[test]
    fn workers_are_told_by_their_core() {
        let worker = Case {
            handle: 1,
            depth: 2,
            scheduler: SCHEDULER,
            runtime: RUNTIME_MULTI_THREAD,
            ..FREE
        };
        let polls = Case {
            polls: true,
            task: 7,
            ..worker
        };
        let core = (SCHEDULER + WORKER_CORE, CORE);
        let park = (CORE + CORE_PARK, 0x3000);
        assert_eq!(place_of(worker, &[WORKER, core]), tls_state::WORKER_PARKED);
        assert_eq!(
            place_of(polls, &[WORKER, core, park]),
            tls_state::WORKER_POLL
        );
        // `task::unconstrained`.
        assert_eq!(
            place_of(worker, &[WORKER, core, park]),
            tls_state::WORKER_POLL
        );
        assert_eq!(place_of(polls, &[WORKER]), tls_state::CORELESS_POLL);
        assert_eq!(place_of(worker, &[WORKER]), tls_state::CORELESS);
        let block_on = Case { depth: 3, ..worker };
        assert_eq!(place_of(block_on, &[WORKER]), tls_state::IN_PLACE);
    }

    #[test]
    fn an_id_without_its_tag_is_a_former_task() {
        let case = Case {
            handle: 1,
            depth: 1,
            ..FREE
        };
        let mut words: Words = [0; layout::BYTES / 8];
        words[HANDLE / 8] = case.handle.into();
        words[LAYOUT_B.runtime / 8] = u64::from(RUNTIME_NONE) << (LAYOUT_B.runtime % 8 * 8);
        words[LAYOUT_B.task_id / 8] = 7;
        let found = found(&words, LAYOUT_B, &Known(&[]));
        assert_eq!((found.tls_state, found.task_id), (tls_state::ENTERED, 0));
    }
}
