//! The rules: which functions, in which order from the leaf, make which state.
//!
//! The walk goes from the leaf outward; at each frame the rules are tried in order, and the
//! first that holds decides. The far end of a stack proves nothing: a worker *is* a job of the
//! blocking pool (pool loop → poll of the launching task → worker loop).
//!
//! Rules rest on what survives every build with symbols (tokio 1.20 to 1.54, opt-level 3, s and
//! z, thin and fat LTO, panic=abort): a worker's `run_task` and its park, one of `raw::poll` and
//! `Harness::poll`, the thread park's `Inner::park`, the drivers' `turn`.

use super::callbacks;
use super::markers::Markers;
use crate::runtime::{Flavor, Role, RuleName, State};

/// What the frames between the leaf and the frame at hand must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Anything.
    Any,
    /// Nothing but the park's own wait: system call, condvar or epoll, tokio's drivers.
    Clean,
    /// Something besides: user code, a waker, a contended lock.
    Dirty,
    /// Something besides, and code that is neither tokio's nor std's is among it.
    Foreign,
    /// Clean, and the thread park or a driver is among them (or is the frame itself). A clean
    /// way to a `block_on` is not enough: a condvar wait inlined from user code looks the same.
    Parked,
    /// Not `Parked`.
    NotParked,
}

/// A demand on the frames outward of the one at hand: the next that is any of `among` must be
/// any of `is`; where `is` is empty, there must be no such frame up to the stack's end, and the
/// stack must be complete.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The functions at which the search stops.
    pub among: Markers,
    /// What the function found must be.
    pub is: Markers,
}

/// Where the polled task's frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// The wait is in no task.
    None,
    /// At the frame at hand.
    Here,
    /// At the frame that the first step found.
    FirstStep,
}

/// One rule. It holds at a frame that is any of `at`, if `leaf` and all `outward` steps hold.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name; reports carry it as evidence.
    pub name: RuleName,
    /// Why it is right, and where tokio says so.
    pub why: &'static str,
    /// What the frame at hand must be.
    pub at: Markers,
    /// What lies nearer the leaf.
    pub leaf: Leaf,
    /// What lies outward, each step from where the last one ended.
    pub outward: &'static [Step],
    /// The state of a wait with this stack.
    pub state: State,
    /// The thread's role in it.
    pub role: Role,
    /// Where the task's own frames end.
    pub task: TaskEnd,
}

const MULTI: Role = Role::Worker(Flavor::MultiThread);
const SINGLE: Role = Role::Worker(Flavor::CurrentThread);

const NOTHING: Markers = Markers::of(&[]);
const WORKER: Markers = Markers::WORKER.and(Markers::WORKER_PARK);
const SINGLE_LOOP: Markers = Markers::SINGLE.and(Markers::SINGLE_PARK);

/// Who may own a task poll.
const OWNERS: Markers = Markers::of(&[
    WORKER,
    SINGLE_LOOP,
    Markers::LOCAL_SET,
    Markers::BLOCK_ON,
    Markers::POOL,
    Markers::BLOCK_IN_PLACE,
    Markers::SHUTDOWN,
]);
/// What may surround a thread park or a `block_on`, other than more of the same.
const AROUND: Markers = Markers::of(&[
    Markers::TASK,
    Markers::BLOCK_IN_PLACE,
    WORKER,
    SINGLE_LOOP,
    Markers::POOL,
    Markers::SHUTDOWN,
]);

const fn owner(is: Markers) -> Step {
    Step { among: OWNERS, is }
}

const fn around(is: Markers) -> Step {
    Step { among: AROUND, is }
}

const fn rule(name: &'static str, at: Markers, leaf: Leaf, outward: &'static [Step]) -> Rule {
    Rule {
        name: RuleName(name),
        why: "",
        at,
        leaf,
        outward,
        state: State::Other,
        role: Role::None,
        task: TaskEnd::None,
    }
}

impl Rule {
    const fn gives(mut self, state: State, role: Role) -> Rule {
        self.state = state;
        self.role = role;
        self
    }
    const fn task(mut self, task: TaskEnd) -> Rule {
        self.task = task;
        self
    }
    const fn because(mut self, why: &'static str) -> Rule {
        self.why = why;
        self
    }
}

/// All rules, in the order in which they are tried at each frame.
pub const RULES: &[Rule] = &[
    rule(
        "block-in-place",
        Markers::BLOCK_IN_PLACE,
        Leaf::Any,
        &[around(Markers::TASK), owner(WORKER)],
    )
    .gives(State::HandedOff, MULTI)
    .task(TaskEnd::FirstStep)
    .because(
        "block_in_place gives the worker's core to another thread before it calls the \
             closure (scheduler/multi_thread/worker.rs, block_in_place); runtime and thread \
             locals come back only after it",
    ),
    rule(
        "block-in-place-in-root",
        Markers::BLOCK_IN_PLACE,
        Leaf::Any,
        &[Step {
            among: AROUND.and(Markers::BLOCK_ON),
            is: Markers::BLOCK_ON,
        }],
    )
    .gives(State::HandedOff, Role::BlockOn)
    .because(
        "the root future of a multi_thread block_on may block in place: it holds no \
             core, and tokio runs the closure where it is",
    ),
    rule(
        "block-on-in-worker",
        Markers::THREAD_PARK.and(Markers::BLOCK_ON),
        Leaf::Any,
        &[around(Markers::TASK), owner(WORKER)],
    )
    .gives(State::HandedOff, MULTI)
    .task(TaskEnd::FirstStep)
    .because(
        "tokio panics when block_on or a blocking_recv is called while a runtime is \
             entered (context/runtime.rs, enter_runtime), so one that runs under a worker's \
             poll is inside a block_in_place, even where the compiler inlined that away \
             (fat LTO)",
    ),
    rule(
        "shutdown-in-worker",
        Markers::SHUTDOWN,
        Leaf::Any,
        &[around(Markers::TASK), owner(WORKER)],
    )
    .gives(State::HandedOff, MULTI)
    .task(TaskEnd::FirstStep)
    .because(
        "tokio panics when a runtime is dropped where blocking is not allowed \
             (blocking/shutdown.rs, Receiver::wait): so this is inside a block_in_place",
    ),
    rule("worker-poll", Markers::TASK, Leaf::Any, &[owner(WORKER)])
        .gives(State::Blocked, MULTI)
        .task(TaskEnd::Here)
        .because(
            "a task is polled (or dropped at shutdown) by a multi_thread worker's run loop, \
             and the thread waits: no other task runs on this worker",
        ),
    rule(
        "local-set-poll",
        Markers::TASK,
        Leaf::Any,
        &[owner(Markers::LOCAL_SET)],
    )
    .gives(State::Blocked, SINGLE)
    .task(TaskEnd::Here)
    .because("a LocalSet polls all of its tasks on this one thread (task/local.rs, tick)"),
    rule(
        "current-thread-poll",
        Markers::TASK,
        Leaf::Any,
        &[owner(SINGLE_LOOP.and(Markers::BLOCK_ON))],
    )
    .gives(State::Blocked, SINGLE)
    .task(TaskEnd::Here)
    .because(
        "a current_thread runtime polls all tasks inside block_on on this thread; a \
             block_on of a multi_thread runtime polls no task, so where only block_on is \
             left of the frames (LTO) it is a current_thread one",
    ),
    rule(
        "current-thread-poll-inlined",
        Markers::TASK,
        Leaf::Any,
        &[Step {
            among: OWNERS.and(Markers::THREAD_ENTRY),
            is: NOTHING,
        }],
    )
    .gives(State::Blocked, SINGLE)
    .task(TaskEnd::Here)
    .because(
        "a poll that no worker, LocalSet or pool thread called: all of a current_thread \
             block_on was inlined into its caller (fat LTO). Workers' and pools' frames \
             survive that, or are learned",
    ),
    rule(
        "pool-closure",
        Markers::TASK,
        Leaf::Any,
        &[owner(Markers::POOL)],
    )
    .gives(State::Pool, Role::PoolThread)
    .task(TaskEnd::Here)
    .because(
        "a spawn_blocking closure runs as a task polled by a pool thread \
             (blocking/pool.rs, run)",
    ),
    rule(
        callbacks::SINGLE_DRIVER.0,
        Markers::THREAD_PARK.and(Markers::DRIVER),
        Leaf::Foreign,
        &[around(SINGLE_LOOP)],
    )
    .gives(State::Blocked, SINGLE)
    .because(
        "the driver of a current_thread runtime calls a waker that waits: the thread that polls \
             all tasks is held up, outside every poll",
    ),
    rule(
        "park-lock-current-thread",
        Markers::THREAD_PARK.and(Markers::DRIVER),
        Leaf::Dirty,
        &[around(SINGLE_LOOP)],
    )
    .gives(State::Runtime, SINGLE)
    .because(
        "below the park of a current_thread runtime runs something other than its wait: \
             a waker called by a driver, or a contended lock of the park",
    ),
    rule(
        "park-lock",
        Markers::THREAD_PARK.and(Markers::DRIVER),
        Leaf::Dirty,
        &[around(NOTHING)],
    )
    .gives(State::Runtime, Role::BlockOn)
    .because(
        "a block_on thread waits in its park, but not on the condvar: for the park's \
             lock",
    ),
    rule(
        "block-on-park",
        Markers::THREAD_PARK,
        Leaf::Clean,
        &[around(NOTHING)],
    )
    .gives(State::Idle, Role::BlockOn)
    .because(
        "block_on of a multi_thread runtime, of a handle, or a blocking_recv, parked \
             until its future is woken (runtime/park.rs, CachedParkThread::block_on); \
             outside every poll",
    ),
    rule("worker-park", Markers::WORKER_PARK, Leaf::Clean, &[])
        .gives(State::Idle, MULTI)
        .because(
            "the worker found nothing to do and waits on its condvar or in the driver \
             (scheduler/multi_thread/park.rs, Inner::park)",
        ),
    rule(
        callbacks::WORKER_PARK.0,
        Markers::WORKER_PARK,
        Leaf::Foreign,
        &[],
    )
    .gives(State::Blocked, MULTI)
    .because(
        "foreign code runs inside the worker's park, a waker that the driver calls or an \
             on_thread_park hook, and waits: the worker polls no task meanwhile",
    ),
    rule("worker-park-lock", Markers::WORKER_PARK, Leaf::Dirty, &[])
        .gives(State::Runtime, MULTI)
        .because(
            "tokio's own code other than the wait runs inside the worker's park: for a contended \
             lock, as a rule",
        ),
    rule(
        callbacks::WORKER_LOOP.0,
        Markers::WORKER,
        Leaf::Foreign,
        &[],
    )
    .gives(State::Blocked, MULTI)
    .because(
        "foreign code that the worker's run loop calls, in neither poll nor park: an \
             on_thread_unpark hook. The worker polls no task meanwhile",
    ),
    rule("worker-loop", Markers::WORKER, Leaf::Any, &[])
        .gives(State::Runtime, MULTI)
        .because("the worker's run loop, in neither poll nor park: the injection queue's lock"),
    rule(
        "current-thread-park",
        Markers::SINGLE_PARK,
        Leaf::Clean,
        &[],
    )
    .gives(State::Idle, SINGLE)
    .because(
        "the current_thread scheduler found nothing to do (scheduler/current_thread, \
             Context::park)",
    ),
    rule(
        callbacks::SINGLE_PARK.0,
        Markers::SINGLE_PARK,
        Leaf::Foreign,
        &[],
    )
    .gives(State::Blocked, SINGLE)
    .because(
        "foreign code runs inside the park, a hook or a waker, and waits: no task is polled \
             meanwhile",
    ),
    rule(
        "current-thread-park-lock",
        Markers::SINGLE_PARK,
        Leaf::Dirty,
        &[],
    )
    .gives(State::Runtime, SINGLE)
    .because("tokio's own code other than the wait runs inside the park"),
    rule(
        "current-thread-park-inlined",
        Markers::SINGLE,
        Leaf::Parked,
        &[],
    )
    .gives(State::Idle, SINGLE)
    .because(
        "as current-thread-park, where the compiler inlined Context::park into its \
             caller",
    ),
    rule("current-thread-root", Markers::SINGLE, Leaf::NotParked, &[])
        .gives(State::Blocked, SINGLE)
        .task(TaskEnd::Here)
        .because(
            "the root future of a current_thread block_on runs on the thread that polls all \
             tasks: while it waits, none of them runs (scheduler/current_thread, \
             CoreGuard::block_on)",
        ),
    rule("local-set-root", Markers::LOCAL_SET, Leaf::Any, &[])
        .gives(State::Blocked, SINGLE)
        .task(TaskEnd::Here)
        .because(
            "the future of LocalSet::run_until runs on the thread that polls all local \
             tasks",
        ),
    rule(
        "block-on-root",
        Markers::BLOCK_ON,
        Leaf::NotParked,
        &[around(NOTHING)],
    )
    .gives(State::Blocked, Role::BlockOn)
    .task(TaskEnd::Here)
    .because(
        "the root future of a block_on outside the workers (main under #[tokio::main]) \
             waits inside its poll. It holds up no task but itself, which the role block-on \
             says: it is a poll that blocks, and never a blocked worker",
    ),
    rule(
        "runtime-shutdown",
        Markers::SHUTDOWN,
        Leaf::Any,
        &[around(NOTHING)],
    )
    .gives(State::Runtime, Role::None)
    .because(
        "the thread that ends a runtime waits for its workers and pool threads \
             (blocking/pool.rs, shutdown): in tokio's code, neither parked nor in a poll",
    ),
    rule("pool-idle", Markers::POOL, Leaf::Clean, &[])
        .gives(State::Idle, Role::PoolThread)
        .because("a pool thread without a job, until its keep-alive ends (blocking/pool.rs, run)"),
    rule("pool-hook", Markers::POOL, Leaf::Dirty, &[])
        .gives(State::Runtime, Role::PoolThread)
        .because(
            "a pool thread outside a job, not on its condvar: a start or stop hook, the \
             queue's lock",
        ),
];
