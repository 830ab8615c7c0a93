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
    /// Id of the task being polled, 0 outside a poll.
    pub task_id: usize,
    /// Tag of an `Option` around the budget: 1 within `coop::budget`, that is in a poll.
    pub budget: usize,
    /// [`RUNTIME_CURRENT_THREAD`], [`RUNTIME_MULTI_THREAD`] or [`RUNTIME_NONE`].
    pub runtime: usize,
}

/// [`layout::A`].
pub const LAYOUT_A: Layout = Layout {
    scheduler: 40,
    task_id: 48,
    budget: 68,
    runtime: 70,
};
/// [`layout::B`].
pub const LAYOUT_B: Layout = Layout {
    scheduler: 56,
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

/// Of the scheduler's context: the tag that says `MultiThread`.
pub const SCHEDULER_MULTI_THREAD: u64 = 1;
/// Of a worker's context: where the pointer to its core is.
pub const WORKER_CORE: u64 = 24;
/// With [`layout::C`], of a worker's context: where the pointer to its core is.
pub const WORKER_CORE_C: u64 = 16;
/// Of a worker's core, in every layout: where the pointer to its parker is, 0 while the worker parks.
pub const CORE_PARK: u64 = 8;

/// What the state amounts to.
pub mod place {
    /// Not known: no layout, or memory that could not be read.
    pub const UNKNOWN: u32 = 0;
    /// Outside any runtime: the blocking pool, `block_in_place`, a thread of the program's own.
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
}
