//! The second judge: tokio's thread-local state, read in the kernel at the switch-out.
//!
//! It needs neither frames nor names, but it reads memory at offsets that a compiler chose. So it
//! counts only while every stack that both judges speak of has the same meaning to both; one that
//! has not switches it off for the whole recording. How sure it is is told as a [`Certainty`]: by how
//! much else than itself speaks for it. Where names tell a stack's meaning, it overrules them only
//! if it has agreed with them elsewhere.

use super::callbacks::is_in_callback;
use crate::arch::{syscall, waits_in_epoll};
use crate::runtime::{Classification, Flavor, Role, RuleName, State};
use crate::units::Addr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The system call in which threads park that are not in the I/O driver.
const FUTEX: u32 = syscall("futex");

/// What a thread was to its runtime when it went off-CPU, by the thread-local state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsState {
    /// Not known.
    #[default]
    Unknown,
    /// Fields that no thread has together: it is no context, or one that was read while it changed.
    Inconsistent,
    /// Outside any runtime, and no more is known.
    Outside,
    /// In a worker's `block_in_place`.
    HandedOff,
    /// Outside any runtime, and without a handle to one.
    Foreign,
    /// Outside any runtime, in a task polled without a budget: a closure of `spawn_blocking`.
    PoolJob,
    /// Outside any runtime and any task, but with a handle to a runtime.
    Entered,
    /// A worker with its core, in a task poll.
    WorkerPoll,
    /// A worker with its core, parked or in the I/O driver.
    WorkerParked,
    /// A worker that has given its core away, in a poll all the same.
    CorelessPoll,
    /// A worker thread without a core, in no poll: a hook, the shutdown.
    Coreless,
    /// In the root future of a `multi_thread` runtime's `block_on`.
    BlockOnPoll,
    /// In such a `block_on`, parked.
    BlockOnParked,
    /// In a poll of a `current_thread` runtime.
    CurrentThreadPoll,
    /// In a `current_thread` runtime, in no poll.
    CurrentThreadParked,
}

/// Which runtime it is, of those that live in a process: the address of its scheduler's handle, the
/// same in the contexts of all its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuntimeHandle(pub Addr);

/// What a thread's context said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadContext {
    /// What the thread was to its runtime.
    pub state: TlsState,
    /// Which runtime that is.
    pub runtime: Option<RuntimeHandle>,
    /// Id of the task being polled, or 0.
    pub task_id: u64,
}

/// How the two judges get on, over the stacks of one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Stacks that mean the same to both.
    pub agreed: u64,
    /// Of these, those without names: of parks in the I/O driver.
    pub driver_parks: u64,
    /// Stacks that mean different things to them.
    pub disagreed: u64,
    /// Stacks without names in which the thread-local state says parked, and the thread waits as
    /// parked threads do.
    pub parks: u64,
    /// Of these, those of workers, which tell where the pointer to their parker is.
    pub worker_parks: u64,
    /// Stacks without names in which it says that the thread is in a runtime, and nothing else
    /// speaks for or against that.
    pub alone: u64,
    /// Of these, those in which it says that a worker polls, and the thread waits in `epoll_wait`.
    pub polls_in_epoll: u64,
    /// Stacks in which it says what no thread does: fields that do not go together, or a `block_on` of a
    /// `multi_thread` runtime that parks in the I/O driver.
    pub odd: u64,
}

/// So many such stacks are no chance. One may be: a context is not written all at once.
const ODD: u64 = 2;

/// How sure the thread-local state is, in distinct stacks of threads that waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Certainty {
    /// It says nothing.
    #[default]
    Nothing,
    /// It cannot be right, so that it does not count.
    Contradicted {
        /// By this many stacks.
        stacks: u64,
    },
    /// Nothing else speaks for it or against it.
    Alone,
    /// Threads that it says are parked wait as parked threads do.
    CorroboratedByParks {
        /// In this many stacks.
        parks: u64,
    },
    /// Something else says the same.
    Confirmed {
        /// The names of functions, in this many stacks.
        named: u64,
        /// The system call of the I/O driver, in this many stacks without names.
        driver_parks: u64,
    },
}

impl Agreement {
    /// Takes a stack into account. `syscall` is the system call that it waits in.
    pub fn add(&mut self, verdict: &Classification, syscall: Option<u32>, tls_state: TlsState) {
        let driver = syscall.is_some_and(waits_in_epoll);
        if tls_state == TlsState::Inconsistent || tls_state == TlsState::BlockOnParked && driver {
            self.odd += 1;
            return;
        }
        match same_meaning(verdict, syscall, tls_state) {
            Some(true) => {
                self.agreed += 1;
                self.driver_parks += u64::from(verdict.state == State::Unknown);
            }
            Some(false) => self.disagreed += 1,
            None if verdict.state == State::Unknown => self.add_unnamed(syscall, tls_state),
            None => {}
        }
    }

    fn add_unnamed(&mut self, syscall: Option<u32>, tls_state: TlsState) {
        let driver = syscall.is_some_and(waits_in_epoll);
        let parks = driver || syscall == Some(FUTEX);
        match tls_state {
            TlsState::WorkerParked | TlsState::CurrentThreadParked | TlsState::BlockOnParked
                if parks =>
            {
                self.parks += 1;
                self.worker_parks += u64::from(tls_state == TlsState::WorkerParked);
            }
            // What a place would say at which there is no context.
            TlsState::Unknown | TlsState::Foreign | TlsState::Outside | TlsState::Inconsistent => {}
            _ => {
                self.alone += 1;
                let polls = tls_state == TlsState::WorkerPoll && driver;
                self.polls_in_epoll += u64::from(polls);
            }
        }
    }

    /// How sure the thread-local state is.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        if self.disagreed > 0 {
            Certainty::Contradicted {
                stacks: self.disagreed,
            }
        } else if self.odd >= ODD && self.odd >= self.agreed {
            Certainty::Contradicted { stacks: self.odd }
        } else if self.agreed > 0 {
            Certainty::Confirmed {
                named: self.agreed.saturating_sub(self.driver_parks),
                driver_parks: self.driver_parks,
            }
        } else if self.polls_in_epoll > 0 && self.worker_parks == 0 {
            // If the place of the parker were another, parks in the driver would look like this.
            Certainty::Contradicted {
                stacks: self.polls_in_epoll,
            }
        } else if self.parks > 0 {
            Certainty::CorroboratedByParks { parks: self.parks }
        } else if self.alone > 0 {
            Certainty::Alone
        } else {
            Certainty::Nothing
        }
    }

    /// Whether the thread-local state counts: it says something, and nothing contradicts it.
    #[must_use]
    pub const fn trusted(&self) -> bool {
        !matches!(
            self.certainty(),
            Certainty::Nothing | Certainty::Contradicted { .. }
        )
    }

    /// Whether something contradicts it.
    #[must_use]
    pub const fn contradicted(&self) -> bool {
        matches!(self.certainty(), Certainty::Contradicted { .. })
    }

    /// Whether it counts where this is what the names say: against them only if it has agreed with
    /// names, or the I/O driver, elsewhere.
    pub(super) fn counts_for(&self, by_names: &Classification) -> bool {
        if by_names.state == State::Unknown {
            self.trusted()
        } else {
            matches!(self.certainty(), Certainty::Confirmed { .. })
        }
    }

    /// The verdict of both judges together.
    #[must_use]
    pub fn judge(&self, by_stack: Classification, tls_state: TlsState) -> Classification {
        if self.counts_for(&by_stack) {
            overrule(by_stack, tls_state)
        } else {
            by_stack
        }
    }
}

/// Which judge a verdict is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClassifiedBy {
    /// The rules over named frames.
    Symbols,
    /// tokio's thread-local state.
    Context,
    /// Both, which said the same.
    Both,
    /// None could tell.
    Neither,
}

impl Agreement {
    /// Which judge the verdict of [`Agreement::judge`] is from.
    #[must_use]
    pub fn judge_of(
        &self,
        by_stack: &Classification,
        syscall: Option<u32>,
        tls_state: TlsState,
    ) -> ClassifiedBy {
        if self.judge(*by_stack, tls_state) != *by_stack {
            ClassifiedBy::Context
        } else if by_stack.state == State::Unknown {
            ClassifiedBy::Neither
        } else if same_meaning(by_stack, syscall, tls_state) == Some(true) {
            ClassifiedBy::Both
        } else {
            ClassifiedBy::Symbols
        }
    }
}

const WORKER: Role = Role::Worker(Flavor::MultiThread);
const CURRENT_THREAD: Role = Role::Worker(Flavor::CurrentThread);

/// Whether both judges say the same; none where one of them says nothing that binds the other.
fn same_meaning(
    verdict: &Classification,
    syscall: Option<u32>,
    tls_state: TlsState,
) -> Option<bool> {
    if is_in_callback(verdict) {
        // Outside every poll, which the thread-local state does not tell from a park.
        return None;
    }
    match (verdict.state, verdict.role, tls_state) {
        (_, _, TlsState::Unknown | TlsState::Inconsistent) => None,
        (State::Idle, WORKER, TlsState::WorkerParked) => Some(true),
        (State::Idle, WORKER, TlsState::WorkerPoll) => Some(false),
        (State::Idle, Role::PoolThread, TlsState::Entered) => Some(true),
        (State::Idle, Role::PoolThread, TlsState::WorkerPoll | TlsState::PoolJob) => Some(false),
        (State::Blocked, WORKER, TlsState::WorkerPoll | TlsState::CorelessPoll) => Some(true),
        // `Outside` and `HandedOff` are what an inlined `block_in_place` looks like: the case for
        // which we ask.
        (
            State::Blocked,
            WORKER,
            TlsState::WorkerParked | TlsState::Foreign | TlsState::PoolJob | TlsState::Entered,
        ) => Some(false),
        (State::Pool, _, TlsState::Outside | TlsState::PoolJob) => Some(true),
        (State::HandedOff, WORKER, TlsState::Outside | TlsState::HandedOff) => Some(true),
        (State::HandedOff, WORKER, TlsState::Foreign | TlsState::PoolJob | TlsState::Entered) => {
            Some(false)
        }
        (State::Pool | State::HandedOff, _, TlsState::WorkerPoll | TlsState::WorkerParked) => {
            Some(false)
        }
        // Without names: an I/O driver that parks has put its parker away.
        (State::Unknown, _, TlsState::WorkerParked) if syscall.is_some_and(waits_in_epoll) => {
            Some(true)
        }
        _ => None,
    }
}

/// What the thread-local state knows better: what names do not tell.
fn overrule(by_stack: Classification, tls_state: TlsState) -> Classification {
    let verdict = |state, role, rule| Classification {
        state,
        role,
        rule: RuleName(rule),
        ..by_stack
    };
    match (by_stack.state, by_stack.role, tls_state) {
        _ if is_in_callback(&by_stack) => by_stack,
        (State::Blocked, WORKER, TlsState::Outside) => {
            verdict(State::HandedOff, WORKER, "context-outside")
        }
        (State::Blocked, WORKER, TlsState::HandedOff) => {
            verdict(State::HandedOff, WORKER, "context-in-place")
        }
        (State::Blocked, WORKER, TlsState::CorelessPoll) => {
            verdict(State::HandedOff, WORKER, "context-coreless-poll")
        }
        // `Other` is also what a stack shows whose runtime's frames were all inlined.
        (State::Unknown | State::Other, _, tls_state) => match tls_state {
            TlsState::WorkerPoll => verdict(State::Blocked, WORKER, "context-worker-poll"),
            TlsState::WorkerParked => verdict(State::Idle, WORKER, "context-worker-parked"),
            TlsState::CorelessPoll => verdict(State::HandedOff, WORKER, "context-coreless-poll"),
            TlsState::HandedOff => verdict(State::HandedOff, WORKER, "context-in-place"),
            TlsState::Coreless => verdict(State::Runtime, WORKER, "context-coreless"),
            TlsState::BlockOnPoll => {
                verdict(State::Blocked, Role::BlockOn, "context-block-on-poll")
            }
            TlsState::BlockOnParked => {
                verdict(State::Idle, Role::BlockOn, "context-block-on-parked")
            }
            TlsState::CurrentThreadPoll => verdict(
                State::Blocked,
                CURRENT_THREAD,
                "context-current-thread-poll",
            ),
            TlsState::CurrentThreadParked => {
                verdict(State::Idle, CURRENT_THREAD, "context-current-thread-parked")
            }
            // Where the thread began tells more: see [`super::PoolThreads`].
            TlsState::Outside
            | TlsState::Foreign
            | TlsState::PoolJob
            | TlsState::Entered
            | TlsState::Inconsistent
            | TlsState::Unknown => by_stack,
        },
        _ => by_stack,
    }
}

#[cfg(test)]
#[path = "tls_state_tests.rs"]
mod tests;
