//! Keys and values of the maps.

use crate::context::{PLACES, Place};

/// The kernel's `TASK_COMM_LEN`: a thread name with its terminating zero.
pub const COMM_LEN: usize = 16;

/// Processes that one recording can watch at most.
pub const MAX_PROCESSES: usize = 64;
/// Entries of the filter: process ids are looked up by their low bits, a power of two.
pub const FILTER_SIZE: usize = 4096;
/// Entries behind a process's own that it may have had to move to, where low bits collide.
pub const FILTER_PROBES: u32 = 4;
/// Entries of the thread table, a power of two.
pub const THREADS: usize = 16_384;
/// Neighbouring entries in which a thread may lie.
pub const THREAD_WAYS: u32 = 8;
/// A freed entry of the filter: unlike an empty one it does not end the search. It names the entry
/// behind all others, which is [`NO_PROCESS`].
pub const FILTER_FREED: u32 = MAX_PROCESSES as u32 + 1;
/// By what number place 0 of the filter goes where places and indices of processes share one map.
pub const FILTER_SLOT: u32 = MAX_PROCESSES as u32;
/// [`Process::tgid`] of an entry that no process has: not 0, which is the id of idle CPUs.
pub const NO_PROCESS: u32 = u32::MAX;
/// Mapping tables: one for each process, and some that were replaced a moment ago and may still
/// be walked by.
pub const MAX_TABLES: usize = 192;
/// Executable mappings of one process that are known to the kernel side.
pub const MAX_MAPPINGS: usize = 1024;
/// Banks of unwinding rows: 128 Ki rows a MiB.
pub const ROW_BANKS: usize = 64;
/// Banks of index entries.
pub const INDEX_BANKS: usize = 16;
/// Objects that are remembered as sent; the least recently seen go first, and are sent again.
pub const MAX_OBJECTS: usize = 16_384;
/// Entries of the aggregate, over all intervals that are not taken out yet.
pub const AGGREGATES: usize = 49_152;
/// Those of them that may be for waits for a known object: a thread may wait for new ones all the time,
/// and there must be room for new stacks.
pub const OBJECT_AGGREGATES: u64 = 32_768;
/// Bytes of the ring buffer.
pub const EVENT_BYTES: usize = 16 << 20;
/// Buckets of the log2 histogram of waits; the last one takes everything longer.
pub const HISTOGRAM_BUCKETS: usize = 40;

/// Where a thread's time went so far; nanoseconds. The three sums and the open stretch since
/// the last switch make up the time the thread lived in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ThreadTimes {
    /// When its life in the recording began: the recording's start, or its birth.
    pub first_seen: u64,
    /// On a CPU.
    pub running: u64,
    /// Wanting a CPU: preempted, or woken and not yet running.
    pub runnable: u64,
    /// Off-CPU, from the switch-out to the wakeup.
    pub blocked: u64,
    /// Waits behind `blocked`.
    pub waits: u64,
    /// The part of `running` inside system calls, of those that are measured and have returned,
    /// see [`crate::call::only_waits`]; 0 where none are.
    pub in_calls: u64,
}

impl ThreadTimes {
    /// None yet.
    pub const NONE: ThreadTimes = ThreadTimes {
        first_seen: 0,
        running: 0,
        runnable: 0,
        blocked: 0,
        waits: 0,
        in_calls: 0,
    };
}

/// A watched process. The filter holds the index of its entry, plus one. Written by userspace,
/// and by the kernel side where a watched process forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Process {
    /// Thread group id in the initial pid namespace; 0 is a free entry that the filter does not
    /// name, [`NO_PROCESS`] one that it does.
    pub tgid: u32,
    /// Which mapping table is its own; a forked process begins with that of its parent.
    pub table: u32,
    /// Entries in its mapping table.
    pub mappings: u32,
    /// Changes with every change of the mapping table, and differs between tables: tags the
    /// entries of the per-CPU rule cache. Never 0, which means no table.
    pub table_version: u32,
    /// [`ProcessCounters::exec_count`] when its mappings were read: with any other number the table is that of
    /// another program.
    pub exec_count: u32,
    /// Changes when an address comes to mean another code than before: stacks of the same
    /// addresses are different ones then.
    pub address_epoch: u32,
    /// 1 where processes that it forks are watched too.
    pub follow: u32,
    /// No padding.
    pub reserved: u32,
    /// When its recording began: from then on every switch of it is seen. 0 until that is known.
    pub start: u64,
    /// With [`crate::context::base::VARIABLES`], how far below a thread's FS base
    /// `thread_pool::worker::CURRENT` is, in bytes.
    pub worker_below_fs: u32,
    /// Likewise: `basic_scheduler::CURRENT`.
    pub current_thread_below_fs: u32,
    /// Likewise: `coop::CURRENT`, the budget.
    pub budget_below_fs: u32,
    /// Likewise: the tag of the handle in `runtime::context::CONTEXT`; 0 where it is not known.
    pub handle_below_fs: u32,
    /// Where the contexts of the process's copies of tokio are; the first that is not there ends
    /// the list.
    pub contexts: [Place; PLACES],
}

/// What the kernel side alone keeps of a process, beside its [`Process`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ProcessCounters {
    /// Execs so far, of the process and, up to the fork, of its parent (wrapping).
    pub exec_count: u32,
    /// The table_version in which `raw` was counted; 0 while there was no table.
    pub raw_table_version: u32,
    /// Stacks sent raw in that table_version.
    pub raw: u32,
    /// 1 from the end of the thread whose id is the process's to an exec by another one, which
    /// then has this id.
    pub leader_ended: u32,
}

/// [`Thread::phase`]: the entry was claimed just now.
pub const PHASE_NEW: u32 = 0;
/// [`Thread::phase`]: on a CPU.
pub const PHASE_RUNNING: u32 = 1;
/// [`Thread::phase`]: off-CPU, yet wants one.
pub const PHASE_RUNNABLE: u32 = 2;
/// [`Thread::phase`]: off-CPU, waits.
pub const PHASE_BLOCKED: u32 = 3;

/// [`Thread::phase`]: ended, but its record found no room in the ring buffer. The entry is
/// userspace's then: no program looks at it before it is free again.
pub const PHASE_DEAD: u32 = 4;

/// A thread of a watched process, by [`THREADS`] and its id.
///
/// What each switch of a parking thread needs comes first, a cache line of it and then another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Thread {
    /// Thread id in the initial pid namespace; 0 is a free entry.
    pub tid: u32,
    /// One of the `PHASE_*` constants.
    pub phase: u32,
    /// Its process.
    pub tgid: u32,
    /// What userspace said of `stack`, as in [`Stack::policy`], when the wait began.
    pub policy: u16,
    /// As [`WaitRecord::queued`](crate::record::WaitRecord::queued), of the wait.
    pub queued: u16,
    /// When the phase began.
    pub since: u64,
    /// When the wait was ended by a wakeup; 0 while it was not.
    pub wakeup: u64,
    /// Number of the stack of the wait.
    pub stack: u64,
    /// The scheduler's sum of the thread's waits for a CPU when this wait began.
    pub run_delay: u64,
    /// Number of the set of its remembered parks plus one, or 0.
    pub parks: u32,
    /// Which of them the wait is, plus one, or 0: then the wait belongs to its sums.
    pub park: u8,
    /// Which of the remembered parks may be meant, plus one, while the wait is being looked into.
    pub candidate: u8,
    /// How many programs are at work for it: more than one where one interrupts another.
    pub busy: u16,
    /// What tokio's thread-local state said, one of [`crate::context::tls_state`]: likewise.
    pub tls_state: u32,
    /// The interval of its last event; `at_cut` is its state at the start of that interval.
    pub cut: u32,
    /// Finished stretches.
    pub times: ThreadTimes,
    /// Id of the task that waits, or 0.
    pub task_id: u64,
    /// Number of the object of the wait, or 0.
    pub object: u64,
    /// Where an idle park was walked that is not remembered yet: [`Stack::frames`] of it. What so
    /// many frames are found by, the next walk notes. Else 0.
    pub remember: u32,
    /// With [`PHASE_DEAD`], the thread's id: `tid` is 0 then.
    pub ended_tid: u32,
    /// Address of its last page fault, or 0 where page faults are not told.
    pub fault: u64,
    /// The kernel's address of the file that is mapped there, or 0.
    pub fault_file: u64,
    /// Process of the waker.
    pub waker_tgid: u32,
    /// The waker.
    pub waker_tid: u32,
    /// Its name.
    pub waker_comm: [u8; COMM_LEN],
    /// Number of its stack, or 0.
    pub waker_stack: u64,
    /// When the system call began in which it is, or 0 where it is in none that is measured.
    pub call_start: u64,
    /// Its time on a CPU in the recording up to then.
    pub call_on_cpu: u64,
    /// What the thread was at the cut before its last event, see `cut`.
    pub at_cut: ThreadState,
    /// Address of the handle of the runtime that it had entered when the wait began, or 0: see
    /// [`crate::context::Found::handle`].
    pub runtime: u64,
    /// As [`WaitRecord::tick`](crate::record::WaitRecord::tick), of the wait.
    pub tick: u32,
    /// Where the epoll instance is kept whose events it waits for, see [`Driver`], plus one, or 0.
    pub driver: u32,
    /// As [`WaitRecord::core`](crate::record::WaitRecord::core), of the wait.
    pub core: u64,
}

impl Thread {
    /// A free entry. All zero, with [`PHASE_NEW`].
    pub const FREE: Thread = Thread {
        tid: 0,
        phase: PHASE_NEW,
        tgid: 0,
        policy: 0,
        queued: 0,
        since: 0,
        wakeup: 0,
        stack: 0,
        run_delay: 0,
        parks: 0,
        park: 0,
        candidate: 0,
        busy: 0,
        tls_state: 0,
        cut: 0,
        times: ThreadTimes::NONE,
        task_id: 0,
        object: 0,
        remember: 0,
        ended_tid: 0,
        fault: 0,
        fault_file: 0,
        waker_tgid: 0,
        waker_tid: 0,
        waker_comm: [0; COMM_LEN],
        waker_stack: 0,
        call_start: 0,
        call_on_cpu: 0,
        at_cut: ThreadState::NONE,
        runtime: 0,
        tick: 0,
        driver: 0,
        core: 0,
    };

    /// Its state as it is now, as [`Thread::at_cut`] keeps it.
    #[must_use]
    pub fn state(&self) -> ThreadState {
        let mut state = ThreadState::NONE;
        // SAFETY: two values of ours.
        unsafe { copy_state(self, &raw mut state) };
        state
    }
}

/// Copies the state of a thread, field by field: the kernel side has little room for a copy on its
/// stack.
///
/// # Safety
/// `thread` may be read and `state` written; `state` may be in the same entry.
#[inline(always)]
pub unsafe fn copy_state(thread: *const Thread, state: *mut ThreadState) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*state).phase = (*thread).phase;
        (*state).since = (*thread).since;
        (*state).wakeup = (*thread).wakeup;
        (*state).stack = (*thread).stack;
        (*state).object = (*thread).object;
        (*state).task_id = (*thread).task_id;
        (*state).tick = (*thread).tick;
        (*state).times = (*thread).times;
    }
}

/// The place in the thread table where a thread may lie, for a `way` below [`THREAD_WAYS`].
#[inline(always)]
#[must_use]
pub const fn thread_place(tid: u32, way: u32) -> u32 {
    tid.wrapping_add(way) & (THREADS as u32 - 1)
}

/// What of a thread is divided by a cut: its state at that instant. All zero, with [`PHASE_NEW`],
/// is a thread that was not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct ThreadState {
    /// As [`Thread::phase`].
    pub phase: u32,
    /// As [`Thread::tick`].
    pub tick: u32,
    /// As [`Thread::since`].
    pub since: u64,
    /// As [`Thread::wakeup`]; a wakeup later than the cut had not happened at the cut.
    pub wakeup: u64,
    /// As [`Thread::stack`].
    pub stack: u64,
    /// As [`Thread::object`].
    pub object: u64,
    /// As [`Thread::task_id`].
    pub task_id: u64,
    /// As [`Thread::times`], but for system calls, which may have returned a little later.
    pub times: ThreadTimes,
}

impl ThreadState {
    /// That of a thread that is not there yet.
    pub const NONE: ThreadState = ThreadState {
        phase: PHASE_NEW,
        tick: 0,
        since: 0,
        wakeup: 0,
        stack: 0,
        object: 0,
        task_id: 0,
        times: ThreadTimes::NONE,
    };
}

/// Epoll instances that are kept apart for each process, a power of two: by the lowest bits of their
/// descriptors. A runtime has one, which no descriptor of another runtime takes the place of for long.
pub const DRIVERS: usize = 8;

/// Shorter times without anybody who waits for events are not told, in nanoseconds.
pub const MIN_DRIVER_GAP: u64 = 1_000_000;

/// An epoll instance, as the I/O driver of a runtime is, and whether anybody waits for its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Driver {
    /// When the last thread that waited came to run; 0 where none was seen, [`Driver::ATTENDED`]
    /// while one waits.
    pub left: u64,
    /// Its descriptor.
    pub fd: u32,
    /// The process.
    pub tgid: u32,
    /// The thread that waited last.
    pub tid: u32,
    /// No padding.
    pub reserved: u32,
}

impl Driver {
    /// In [`Driver::left`].
    pub const ATTENDED: u64 = u64::MAX;
}

/// What waits are summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct AggregateKey {
    /// Number of the stack.
    pub stack: u64,
    /// Number of the object of the waits, or 0.
    pub object: u64,
    /// The thread. Only its own switch-ins write the entry, one at a time, so that the sums
    /// need no atomics.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
}

/// Key of the aggregate: the sums of one interval lie beside those of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct IntervalKey {
    /// What the waits are summed by.
    pub waits: AggregateKey,
    /// The interval in which they ended.
    pub cut: u32,
    /// No padding.
    pub reserved: u32,
}

/// Sums over the finished waits of one thread with one stack; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Aggregate {
    /// Finished waits.
    pub waits: u64,
    /// Switch-out to wakeup.
    pub blocked: u64,
    /// Wakeup to switch-in.
    pub runqueue: u64,
    /// Longest blocked part.
    pub max: u64,
    /// Blocked parts by the logarithm (base 2) of their nanoseconds.
    pub histogram: [u32; HISTOGRAM_BUCKETS],
}

/// Of so many waits shorter than `min_block` one is recorded, by chance, so that it is known who ends
/// them. A power of two.
pub const SHORT_WAITS_PER_SAMPLE: u32 = 32;

/// [`Stack::policy`]: nothing is known yet, so waits with this stack are recorded one by one.
pub const POLICY_RECORD: u16 = 0;
/// [`Stack::policy`]: an idle park: sums are enough.
pub const POLICY_SUM_ONLY: u16 = 1;
/// [`Stack::policy`]: as [`POLICY_SUM_ONLY`], by the word of tokio's thread-local state.
pub const POLICY_SUM_ONLY_IF_TLS: u16 = 2;
/// [`Thread::policy`]: a wait that ended before `min_block`, and is recorded one by one all the same:
/// one in [`SHORT_WAITS_PER_SAMPLE`].
pub const POLICY_RECORD_SHORT: u16 = 3;

/// A stack that was sent to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Stack {
    /// One of the `POLICY_*` constants, written by userspace.
    pub policy: u16,
    /// No padding.
    pub reserved: u16,
    /// So many of the innermost frames prove a policy other than [`POLICY_RECORD`], whatever the
    /// others are; never 0 then.
    pub frames: u32,
}

/// [`Stack::frames`]: all of them.
pub const ALL_FRAMES: u32 = u32::MAX;

const _: () = assert!(size_of::<ThreadTimes>() == 48);
const _: () = assert!(size_of::<Process>() == 56 + 4 * size_of::<Place>());
const _: () = assert!(size_of::<ProcessCounters>() == 16);
const _: () = assert!(size_of::<Thread>() == 5 * 64);
const _: () = assert!(core::mem::offset_of!(Thread, times) == 64);
const _: () = assert!(core::mem::offset_of!(Thread, remember) == 128);
const _: () = assert!(size_of::<ThreadState>() == 96);
const _: () = assert!(size_of::<AggregateKey>() == 24);
const _: () = assert!(size_of::<IntervalKey>() == 32);
const _: () = assert!(size_of::<Aggregate>() == 32 + 4 * HISTOGRAM_BUCKETS);
const _: () = assert!(size_of::<Stack>() == 8);

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ident),*) => {$(
            // SAFETY: `repr(C)`, without padding and valid for every bit pattern: bytemuck's
            // derive asserts both.
            unsafe impl aya::Pod for super::$name {}
        )*};
    }
    pod!(
        Process,
        ProcessCounters,
        Driver,
        Thread,
        AggregateKey,
        IntervalKey,
        Aggregate,
        Stack
    );
}
