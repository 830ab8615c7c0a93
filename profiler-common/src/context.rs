//! What tokio's own thread-local state says of a thread, read in the kernel.
//!
//! Every thread that has to do with tokio has a `tokio::runtime::context::CONTEXT`. Where its fields
//! are is the compiler's choice and tokio's options': userspace finds it in the initial image of a
//! module's thread-local memory and says here where the fields lie ([`Fields`]) and how a thread's
//! own copy is found ([`Place`]). Nothing is read at an offset that the image does not bear out.

use crate::scheduler_core::{Core, core_layout};

/// How a thread's copy of a module's thread-local memory is found, from its FS base.
pub mod base {
    /// There is no such place.
    pub const NONE: u32 = 0;
    /// [`super::Place::offset`] bytes below the FS base: the executable's, and what the loader has
    /// put beside it ("variant II" and "static TLS", ELF Handling For Thread-Local Storage).
    pub const BELOW_FS: u32 = 1;
    /// [`super::Place::offset`] bytes into the block of [`super::Place::module`], by glibc's vector
    /// of blocks: the word at `fs + 8` points to it, an entry has 16 bytes, and the 16 bytes before
    /// the first hold how many there are (`dtv_t` in glibc's `sysdeps/generic/dl-dtv.h`).
    pub const GLIBC_VECTOR: u32 = 2;
    /// Likewise by musl's, where an entry has 8 bytes and the first is how many there are
    /// (`struct pthread` in musl's `src/internal/pthread_impl.h`).
    pub const MUSL_VECTOR: u32 = 3;
    /// tokio 1.20: no one context, but several variables, found by their symbols. `offset` is that of
    /// `runtime::enter::ENTERED`, the others' are in [`crate::map::Process`]: see
    /// [`super::Variables`].
    pub const VARIABLES: u32 = 4;
}

/// Copies of tokio in one process that are told apart.
pub const PLACES: usize = 4;

/// Words of a context that are read at most, a power of two.
pub const WORDS: usize = 16;

/// Words of the context.
pub type Words = [u64; WORDS];

/// Where a context has its fields, in bytes from its begin, below `8 *` [`WORDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Fields {
    /// `Option<Handle>` of the runtime that the thread has entered last: its tag, if it has one,
    /// else the pointer.
    pub tag: u8,
    /// The low byte of the tag where there is no handle. Without a tag that is 0.
    pub no_handle: u8,
    /// The pointer to the scheduler's handle, the same in all threads of one runtime.
    pub handle: u8,
    /// The count of handles entered one in the other (`HandleCell::depth`).
    pub depth: u8,
    /// Pointer to the scheduler's own context, 0 outside a scheduler.
    pub scheduler: u8,
    /// Word that is 0 where no task is being polled.
    pub task: u8,
    /// Id of the task being polled.
    pub task_id: u8,
    /// Tag of an `Option` around the budget: 1 within `coop::budget`, that is in a poll.
    pub budget: u8,
    /// [`RUNTIME_CURRENT_THREAD`], [`RUNTIME_MULTI_THREAD`] or [`RUNTIME_NONE`].
    pub runtime: u8,
    /// How many words hold all of these.
    pub words: u8,
    /// No padding.
    pub reserved: [u8; 6],
}

/// The arrangements of fields that are known, read from what rustc 1.95 says of builds of tokio 1.29,
/// 1.35, 1.38, 1.39, 1.40, 1.43 and 1.54 (`-Zprint-type-sizes`), and found in images by rustc 1.82 to
/// 1.100.
pub mod layout {
    use super::Fields;

    /// tokio from 1.40 on.
    pub const NEW: Fields = Fields {
        tag: 8,
        no_handle: 2,
        handle: 16,
        depth: 24,
        scheduler: 40,
        task: 48,
        task_id: 48,
        budget: 68,
        runtime: 70,
        words: 9,
        reserved: [0; 6],
    };
    /// tokio 1.29 to 1.39, whose task ids have a tag.
    pub const OLD: Fields = Fields {
        scheduler: 56,
        task: 32,
        task_id: 40,
        budget: 76,
        runtime: 78,
        words: 10,
        ..NEW
    };
    /// As [`NEW`], built for task dumps (`tokio_unstable` and `taskdump`): three words more.
    pub const NEW_TASKDUMP: Fields = Fields {
        budget: 92,
        runtime: 94,
        words: 12,
        ..NEW
    };
    /// As [`NEW`], without the `multi_thread` runtime: the handle has no tag.
    pub const NEW_SINGLE: Fields = Fields {
        tag: 16,
        no_handle: 0,
        handle: 16,
        depth: 24,
        scheduler: 32,
        task: 40,
        task_id: 40,
        budget: 60,
        runtime: 62,
        words: 8,
        reserved: [0; 6],
    };
    /// As [`OLD`], likewise.
    pub const OLD_SINGLE: Fields = Fields {
        tag: 32,
        handle: 32,
        depth: 40,
        scheduler: 48,
        task: 0,
        task_id: 8,
        budget: 68,
        runtime: 70,
        words: 9,
        ..NEW_SINGLE
    };
}

/// Where the context of one copy of tokio is in each thread of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Place {
    /// One of [`base`].
    pub base: u32,
    /// The loader's number of the module, for its vector of blocks.
    pub module: u32,
    /// See [`base`].
    pub offset: u64,
    /// Where a worker's core has its fields.
    pub worker: Core,
    /// Likewise the core of a `current_thread` runtime.
    pub single: Core,
    /// Where the fields are.
    pub fields: Fields,
}

const _: () = assert!(size_of::<Fields>() == 16);
const _: () = assert!(size_of::<Place>() == 48);

/// `EnterRuntime::Entered`, a `current_thread` runtime.
pub const RUNTIME_CURRENT_THREAD: u8 = 0;
/// `EnterRuntime::Entered`, a `multi_thread` runtime.
pub const RUNTIME_MULTI_THREAD: u8 = 1;
/// `EnterRuntime::NotEntered`: also within `block_in_place`, and in the blocking pool.
pub const RUNTIME_NONE: u8 = 2;

/// A thread of the blocking pool enters its runtime, and a worker's loop does so again: what goes
/// deeper is a `block_on` within a worker, which tokio permits in `block_in_place` alone.
pub const DEPTH_OF_WORKER: u64 = 2;

/// Of the scheduler's context: the tag that says `CurrentThread`.
pub const SCHEDULER_CURRENT_THREAD: u64 = 0;
/// Of the scheduler's context: the tag that says `MultiThread`.
pub const SCHEDULER_MULTI_THREAD: u64 = 1;
/// Of the scheduler's context, of either kind: where the pointer to the core is.
pub const WORKER_CORE: u64 = 24;
/// Likewise without the `multi_thread` runtime, where there is no tag.
const SINGLE_CORE: u64 = 16;
/// Words of such a context up to that pointer.
const WORKER_WORDS: usize = WORKER_CORE as usize / 8 + 1;
/// With [`base::VARIABLES`], of a worker's context: where the pointer to its core is.
const WORKER_CORE_C: u64 = 16;
/// Of a worker's core by `tokio_unstable`, which begins with the worker's counters, as [`Core::park`]:
/// of tokio 1.45, and of 1.54, which has a time context before it. Then come its random numbers, its
/// tick and global queue interval, and its flags.
pub const UNSTABLE_PARKS: [u64; 2] = [208, 256];
/// Of a core without `tokio_unstable`, where its tick and global queue interval are, and its flags,
/// unless its version says otherwise.
const CORE_TICK: u64 = 104;

/// What the state amounts to.
pub mod tls_state {
    /// Not known: no context, or memory that could not be read.
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
    /// Fields that no thread of tokio's has together: what was read is no context.
    pub const INCONSISTENT: u32 = 14;
}

/// A thread's memory.
pub trait Memory {
    /// The words from `at` on; 0 where they cannot be read.
    fn words<const N: usize>(&self, at: u64) -> [u64; N];

    /// The word at `at`, if it can be read.
    fn word(&self, at: u64) -> Option<u64>;
}

/// What a thread's state amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// One of [`tls_state`].
    pub tls_state: u32,
    /// Which of the process's places says so.
    pub place: u32,
    /// Id of the task being polled, or 0.
    pub task_id: u64,
    /// The core of the worker that polls, or of the `current_thread` runtime, or 0.
    pub core: u64,
    /// Address of the handle of the runtime that the thread has entered last, or 0: the same in all
    /// threads of a runtime, and another in those of another.
    pub handle: u64,
}

impl Found {
    /// Nothing is known.
    pub const UNKNOWN: Found = Found {
        tls_state: tls_state::UNKNOWN,
        place: 0,
        task_id: 0,
        core: 0,
        handle: 0,
    };

    /// A thread that has never touched this tokio, so that it has no context yet.
    pub const UNTOUCHED: Found = Found {
        tls_state: tls_state::FOREIGN,
        ..Found::UNKNOWN
    };
}

/// How much a state says: of several copies of tokio, the one in which the thread has entered a
/// runtime counts, and of two such the one that polls. A park within another runtime's poll
/// blocks that poll.
#[inline(always)]
pub const fn weight(state: u32) -> u32 {
    use tls_state::*;
    if state == UNKNOWN {
        0
    } else if state == FOREIGN {
        1
    } else if state == OUTSIDE || state == POOL_JOB || state == ENTERED || state == INCONSISTENT {
        2
    } else if state == WORKER_PARKED
        || state == BLOCK_ON_PARKED
        || state == CURRENT_THREAD_PARKED
        || state == CORELESS
    {
        3
    } else {
        HEAVIEST
    }
}

/// The greatest [`weight`].
pub const HEAVIEST: u32 = 4;

/// Whether one copy of tokio says more of a thread than another. That the thread is none's takes that
/// all could be read.
#[inline(always)]
pub const fn is_heavier(one: u32, other: u32) -> bool {
    let (one, other) = (weight(one), weight(other));
    if other == weight(tls_state::FOREIGN) {
        one != other
    } else if one == weight(tls_state::FOREIGN) {
        false
    } else {
        one > other
    }
}

/// What a thread is by two copies of tokio.
#[inline(always)]
pub const fn heavier(one: Found, other: Found) -> Found {
    if is_heavier(other.tls_state, one.tls_state) {
        other
    } else {
        one
    }
}

/// The fields of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whether tags tell the kinds of runtimes apart, of which there may be two.
    tagged: bool,
    has_handle: bool,
    handle: u64,
    depth: u64,
    scheduler: u64,
    task_id: u64,
    polls: bool,
    runtime: u8,
}

#[inline(always)]
const fn word(words: &Words, at: u8) -> u64 {
    words[(at as usize / 8) & (WORDS - 1)]
}

#[inline(always)]
const fn byte(words: &Words, at: u8) -> u8 {
    (word(words, at) >> (at % 8 * 8)) as u8
}

impl Context {
    /// Takes the fields from the words of a context.
    #[inline(always)]
    pub const fn of(words: &Words, fields: &Fields) -> Context {
        let tagged = fields.tag != fields.handle;
        let has_handle = if tagged {
            byte(words, fields.tag) != fields.no_handle
        } else {
            word(words, fields.handle) != 0
        };
        Context {
            tagged,
            has_handle,
            handle: if has_handle {
                word(words, fields.handle)
            } else {
                0
            },
            depth: word(words, fields.depth),
            scheduler: word(words, fields.scheduler),
            task_id: if word(words, fields.task) == 0 {
                0
            } else {
                word(words, fields.task_id)
            },
            polls: byte(words, fields.budget) == 1,
            runtime: byte(words, fields.runtime),
        }
    }
}

/// Where a thread has the variables of tokio 1.20, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// `runtime::enter::ENTERED`.
    pub entered: u64,
    /// `thread_pool::worker::CURRENT`.
    pub worker: u64,
    /// `basic_scheduler::CURRENT`.
    pub current_thread: u64,
    /// `coop::CURRENT`, the budget.
    pub budget: u64,
    /// The tag of the handle in `runtime::context::CONTEXT`, behind which the pointer to the scheduler's
    /// part is that all threads of a runtime share; 0 where it is not known.
    pub handle: u64,
}

/// The greatest tag of a handle in [`Variables`]: of the two kinds of runtime.
const VARIABLES_HANDLE: u64 = 1;

/// What the variables of tokio 1.20 amount to, which knows no task ids.
#[inline(always)]
pub fn found_in_variables(at: &Variables, memory: &impl Memory) -> Found {
    let Some(entered) = memory.word(at.entered) else {
        return Found::UNKNOWN;
    };
    let read = |at: u64| memory.words::<1>(at)[0];
    let (worker, current_thread) = (read(at.worker), read(at.current_thread));
    let polls = read(at.budget) as u8 == 1;
    let mut core = 0;
    let tls_state = if entered as u8 == RUNTIME_NONE {
        tls_state::OUTSIDE
    } else if worker != 0 {
        let own = read(worker.wrapping_add(WORKER_CORE_C));
        by_core(own, &core_layout::WORKER, polls, memory, &mut core)
    } else if current_thread != 0 {
        if polls {
            tls_state::CURRENT_THREAD_POLL
        } else {
            tls_state::CURRENT_THREAD_PARKED
        }
    } else if polls {
        tls_state::BLOCK_ON_POLL
    } else {
        tls_state::BLOCK_ON_PARKED
    };
    let mut handle = 0;
    if at.handle != 0 {
        let [tag, pointer] = memory.words(at.handle);
        if tag <= VARIABLES_HANDLE {
            handle = pointer;
        }
    }
    Found {
        tls_state,
        core,
        handle,
        ..Found::UNKNOWN
    }
}

/// What a context amounts to. `worker` is where a worker's core has its fields.
#[inline(always)]
pub fn found(context: &Context, worker: &Core, memory: &impl Memory) -> Found {
    let Context {
        scheduler,
        task_id,
        polls,
        runtime,
        ..
    } = *context;
    let mut core = 0;
    let tls_state = if runtime == RUNTIME_NONE {
        outside(context, memory)
    } else if runtime <= RUNTIME_MULTI_THREAD && !context.has_handle {
        // Who enters a runtime gets a handle to it in the same breath.
        tls_state::INCONSISTENT
    } else if runtime == RUNTIME_CURRENT_THREAD {
        single_thread(context, memory, &mut core)
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
        let words: [u64; WORKER_WORDS] = memory.words(scheduler);
        if words[0] != SCHEDULER_MULTI_THREAD {
            // Zeros are what cannot be read.
            if words[0] | words[1] == 0 {
                tls_state::UNKNOWN
            } else {
                tls_state::INCONSISTENT
            }
        } else {
            let at = words[WORKER_WORDS - 1];
            let tls_state = by_core(at, worker, polls, memory, &mut core);
            if tls_state == tls_state::CORELESS && context.depth > DEPTH_OF_WORKER {
                tls_state::IN_PLACE
            } else {
                tls_state
            }
        }
    };
    Found {
        tls_state,
        place: 0,
        task_id,
        core,
        handle: context.handle,
    }
}

/// Where a thread is in a `current_thread` runtime. That it runs the loop of a worker, which such a
/// runtime does not have, can be only in a worker's `block_in_place`, which goes deeper.
#[inline(always)]
fn single_thread(context: &Context, memory: &impl Memory, core: &mut u64) -> u32 {
    if context.scheduler != 0 {
        let words: [u64; WORKER_WORDS] = memory.words(context.scheduler);
        if !context.tagged {
            // It begins with the runtime's handle, which the thread has entered.
            if words[0] == context.handle {
                *core = words[SINGLE_CORE as usize / 8];
            }
        } else if words[0] == SCHEDULER_MULTI_THREAD {
            if context.depth <= DEPTH_OF_WORKER {
                return tls_state::INCONSISTENT;
            }
        } else if words[0] == SCHEDULER_CURRENT_THREAD {
            *core = words[WORKER_WORDS - 1];
        }
    }
    if context.polls {
        tls_state::CURRENT_THREAD_POLL
    } else {
        tls_state::CURRENT_THREAD_PARKED
    }
}

/// Where a thread is that has entered no runtime.
#[inline(always)]
fn outside(context: &Context, memory: &impl Memory) -> u32 {
    if context.scheduler != 0 {
        // Within a worker's loop `block_in_place` alone leaves the runtime, and it takes the core
        // away first.
        let worker: [u64; WORKER_WORDS] = memory.words(context.scheduler);
        if worker[0] == SCHEDULER_MULTI_THREAD && worker[WORKER_WORDS - 1] == 0 {
            tls_state::IN_PLACE
        } else {
            tls_state::OUTSIDE
        }
    } else if !context.has_handle {
        tls_state::FOREIGN
    } else if context.polls {
        // A task of a `LocalSet` that another executor polls.
        tls_state::OUTSIDE
    } else if context.task_id == 0 {
        tls_state::ENTERED
    } else {
        tls_state::POOL_JOB
    }
}

/// What a worker does, by its core, whose fields are where `fields` says. A budget tells a poll, in which no
/// worker parks; that there is none tells nothing, as `task::unconstrained` polls without one.
#[inline(always)]
pub fn by_core(
    core: u64,
    fields: &Core,
    polls: bool,
    memory: &impl Memory,
    polling_core: &mut u64,
) -> u32 {
    if core == 0 {
        return if polls {
            tls_state::CORELESS_POLL
        } else {
            tls_state::CORELESS
        };
    }
    if !polls {
        let [park] = memory.words(core.wrapping_add(fields.park.into()));
        if park == 0 || parks_unstable(core, fields, memory) {
            return tls_state::WORKER_PARKED;
        }
    }
    *polling_core = core;
    tls_state::WORKER_POLL
}

/// Whether a core of a build with `tokio_unstable` has no parker. Where neither a version nor a path in
/// the image tells such a build, the words that come last in a core have values that others hardly have.
#[inline(always)]
fn parks_unstable(core: u64, fields: &Core, memory: &impl Memory) -> bool {
    let tick = if fields.tick == 0 {
        CORE_TICK
    } else {
        fields.tick as u64
    };
    let [clock, flags] = memory.words(core.wrapping_add(tick));
    if is_end_of_core(clock, flags) {
        return false;
    }
    let [first, second] = UNSTABLE_PARKS;
    let parks = |at: u64| {
        let [park, _, clock, flags] = memory.words(core.wrapping_add(at));
        park == 0 && is_end_of_core(clock, flags)
    };
    parks(first) || parks(second)
}

/// Whether these are a core's tick and its global queue interval, which tokio keeps within 2 and 127
/// unless the program has set another, and four flags.
#[inline(always)]
const fn is_end_of_core(clock: u64, flags: u64) -> bool {
    let interval = clock >> 32;
    interval >= 2 && interval <= 127 && flags & 0xfefe_fefe == 0
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
