//! Indices into the per-CPU array of counters: what the kernel side did, and what it lost.

/// Declares the counters once, for the index constants and for their names in the output.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One counter of the kernel side; its value is the index in the counter array.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, in the order of the indices.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// The name under which logs and the bench print the counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

/// How many counters there are.
pub const COUNTERS: usize = Counter::ALL.len();

counters! {
    /// Switch-outs of target threads that wanted to go on running (preempted or yielding).
    SwitchOutRunnable = "switch-outs, runnable",
    /// Switch-outs of target threads that wait for something, but for [`Counter::ParksKnown`].
    SwitchOutBlocked = "switch-outs, blocked",
    /// Switch-ins that the tracepoint kept from us, made up for at the next switch-out from the
    /// scheduler's own note of when the thread came to run.
    RecoveredSwitchIn = "switch-ins recovered",
    /// Switch-ins that the tracepoint kept from us and that could not be made up for.
    MissedSwitchIn = "switch-ins missed",
    /// Wakeups that the tracepoint kept from us, made up for at the switch-in from the scheduler's
    /// own note of when the thread came to wait for a CPU.
    RecoveredWakeup = "wakeups recovered",
    /// Switch-ins of a thread that had not been seen to switch out.
    MissedSwitchOut = "switch-outs missed",
    /// User stacks walked.
    Walks = "stacks walked",
    /// Frames over all walks, for the mean depth.
    Frames = "frames walked",
    /// Walks that ended before the outermost frame, as [`crate::row::walk::TOO_DEEP`]; the next ones
    /// are in the order of that module's codes.
    TooDeep = "stacks truncated: too deep",
    /// [`crate::row::walk::UNMAPPED`].
    Unmapped = "stacks truncated: unmapped",
    /// [`crate::row::walk::NO_ROW`].
    NoRow = "stacks truncated: no row",
    /// [`crate::row::walk::UNSUPPORTED`].
    Unsupported = "stacks truncated: unsupported rule",
    /// [`crate::row::walk::UNREADABLE`].
    Unreadable = "stacks truncated: unreadable",
    /// [`crate::row::walk::NO_PROGRESS`].
    NoProgress = "stacks truncated: no progress",
    /// [`crate::row::walk::NO_STACK`].
    NoStack = "stacks truncated: no stack",
    /// [`crate::row::walk::TOO_COSTLY`].
    TooCostly = "stacks truncated: too costly",
    /// Waits recognised as idle parks, without a walk.
    ParksKnown = "parks recognised",
    /// Of those the ones that were walked to check, and were another stack.
    ParksMistaken = "parks mistaken",
    /// Threads whose parks could not be remembered, for want of room; they are walked.
    ParksUnremembered = "parks not remembered",
    /// Waits whose stack could not be numbered because the stack table was full.
    StackTableFull = "stack table full",
    /// Wakers whose stack could not be numbered because the stack table was full.
    WakerStackTableFull = "stack table full for wakers",
    /// Waits that found no place in the aggregate.
    AggregateFull = "aggregate full",
    /// Switches of threads that found no place in the thread table.
    ThreadTableFull = "thread table full",
    /// Forked processes that were to be watched and found no place.
    ProcessTableFull = "process table full",
    /// Stacks copied because the walk came to code that userspace is yet to learn of.
    RawUnmapped = "stacks copied, unmapped",
    /// Waits of such threads: in no sum and in no thread's times.
    WaitOfNoThread = "waits of threads not in the table",
    /// Stack records that did not fit into the ring buffer (the stack is sent again later).
    RingFullStack = "ring buffer full (stack)",
    /// Wait records that did not fit into the ring buffer.
    RingFullWait = "ring buffer full (wait)",
    /// Stacks of wakers walked; they are in none of the counters above.
    WakerWalks = "stacks of wakers walked",
    /// Threads of the target found on a CPU by the sampling clock.
    Samples = "samples",
    /// Of these, with a stack that does not reach the thread's start.
    SamplesTruncated = "samples truncated",
    /// Samples that did not fit into the ring buffer.
    RingFullSample = "ring buffer full (sample)",
    /// Other records that did not fit into the ring buffer.
    RingFullOther = "ring buffer full (other)",
    /// Forked processes of which the ring buffer had no room to tell; they are not recorded.
    RingFullFork = "ring buffer full (fork)",
    /// Stacks copied for the shadow check.
    RawCopies = "stacks copied",
    /// Of them those of which a piece did not fit into the ring buffer.
    RingFullRaw = "ring buffer full (stack copy)",
    /// Waits whose object could not be told apart in the sums because the aggregate was full.
    ObjectUnsummed = "waits summed without their object",
    /// Object records that did not fit into the ring buffer (the object is sent again later).
    RingFullObject = "ring buffer full (object)",
    /// Objects of which some part could not be read, or a path longer than we keep.
    ObjectPartial = "objects known in part",
    /// System calls that took a CPU for at least `--min-block`.
    LongCalls = "long system calls",
    /// Of these, with a stack that does not reach the thread's start.
    LongCallsTruncated = "long system calls truncated",
    /// Of these, those that did not fit into the ring buffer.
    RingFullCall = "ring buffer full (system call)",
    /// Panics seen.
    Panics = "panics",
    /// Of these, those that did not fit into the ring buffer.
    RingFullPanic = "ring buffer full (panic)",
    /// Of both, those whose stack could not be numbered because the stack table was full.
    CallStackTableFull = "stack table full for calls and panics",
}

const _: () = assert!(
    Counter::TooCostly as u32 - Counter::TooDeep as u32
        == crate::row::walk::TOO_COSTLY - crate::row::walk::TOO_DEEP
        && crate::row::walk::TOO_COSTLY == 8,
    "the counters of truncated walks follow the codes"
);
