//! The second judge: tokio's thread-local state, read in the kernel at the switch-out.
//!
//! It needs neither frames nor names, but it reads memory at offsets that a compiler chose. So it
//! counts only while every stack that both judges speak of has the same meaning to both; one that
//! has not switches it off for the whole recording.

use super::verdict::{Flavor, Role, RuleName, State, Verdict};
use profiler_common::context::place;

/// Number of `epoll_wait` on x86_64, in which the I/O driver of a runtime parks.
const EPOLL_WAIT: u32 = 232;

/// What a thread was to its runtime when it went off-CPU, by the thread-local state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// Not known.
    #[default]
    Unknown,
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

impl From<u32> for Place {
    /// From one of [`profiler_common::context::place`]; anything else is unknown.
    fn from(number: u32) -> Place {
        match number {
            place::OUTSIDE => Place::Outside,
            place::IN_PLACE => Place::HandedOff,
            place::FOREIGN => Place::Foreign,
            place::POOL_JOB => Place::PoolJob,
            place::ENTERED => Place::Entered,
            place::WORKER_POLL => Place::WorkerPoll,
            place::WORKER_PARKED => Place::WorkerParked,
            place::CORELESS_POLL => Place::CorelessPoll,
            place::CORELESS => Place::Coreless,
            place::BLOCK_ON_POLL => Place::BlockOnPoll,
            place::BLOCK_ON_PARKED => Place::BlockOnParked,
            place::CURRENT_THREAD_POLL => Place::CurrentThreadPoll,
            place::CURRENT_THREAD_PARKED => Place::CurrentThreadParked,
            _ => Place::Unknown,
        }
    }
}

/// How the two judges get on, over the stacks of one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Stacks that mean the same to both.
    pub agreed: u64,
    /// Stacks that mean different things to them.
    pub disagreed: u64,
}

impl Agreement {
    /// Takes a stack into account. `syscall` is the system call that it waits in.
    pub fn add(&mut self, verdict: &Verdict, syscall: Option<u32>, place: Place) {
        match same_meaning(verdict, syscall, place) {
            Some(true) => self.agreed += 1,
            Some(false) => self.disagreed += 1,
            None => {}
        }
    }

    /// Whether the thread-local state counts: something spoke for it and nothing against.
    #[must_use]
    pub fn trusted(&self) -> bool {
        self.agreed > 0 && self.disagreed == 0
    }

    /// The verdict of both judges together.
    #[must_use]
    pub fn judge(&self, by_stack: Verdict, place: Place) -> Verdict {
        if self.trusted() {
            overrule(by_stack, place)
        } else {
            by_stack
        }
    }
}

/// Which judge a verdict is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judge {
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
    pub fn judge_of(&self, by_stack: &Verdict, syscall: Option<u32>, place: Place) -> Judge {
        if self.trusted() && overrule(*by_stack, place) != *by_stack {
            Judge::Context
        } else if by_stack.state == State::Unknown {
            Judge::Neither
        } else if same_meaning(by_stack, syscall, place) == Some(true) {
            Judge::Both
        } else {
            Judge::Symbols
        }
    }
}

const WORKER: Role = Role::Worker(Flavor::MultiThread);
const CURRENT_THREAD: Role = Role::Worker(Flavor::CurrentThread);

/// Whether both judges say the same; none where one of them says nothing that binds the other.
fn same_meaning(verdict: &Verdict, syscall: Option<u32>, place: Place) -> Option<bool> {
    match (verdict.state, verdict.role, place) {
        (_, _, Place::Unknown) => None,
        (State::Idle, WORKER, Place::WorkerParked) => Some(true),
        (State::Idle, WORKER, Place::WorkerPoll) => Some(false),
        (State::Idle, Role::PoolThread, Place::Entered) => Some(true),
        (State::Idle, Role::PoolThread, Place::WorkerPoll | Place::PoolJob) => Some(false),
        (State::Blocked, WORKER, Place::WorkerPoll | Place::CorelessPoll) => Some(true),
        // `Outside` and `HandedOff` are what an inlined `block_in_place` looks like: the case for
        // which we ask.
        (
            State::Blocked,
            WORKER,
            Place::WorkerParked | Place::Foreign | Place::PoolJob | Place::Entered,
        ) => Some(false),
        (State::Pool, _, Place::Outside | Place::PoolJob) => Some(true),
        (State::HandedOff, WORKER, Place::Outside | Place::HandedOff) => Some(true),
        (State::HandedOff, WORKER, Place::Foreign | Place::PoolJob | Place::Entered) => Some(false),
        (State::Pool | State::HandedOff, _, Place::WorkerPoll | Place::WorkerParked) => Some(false),
        // Without names: an I/O driver that parks has put its parker away.
        (State::Unknown, _, Place::WorkerParked) if syscall == Some(EPOLL_WAIT) => Some(true),
        _ => None,
    }
}

/// What the thread-local state knows better: what names do not tell.
fn overrule(by_stack: Verdict, place: Place) -> Verdict {
    let verdict = |state, role, rule| Verdict {
        state,
        role,
        rule: RuleName(rule),
        ..by_stack
    };
    match (by_stack.state, by_stack.role, place) {
        (State::Blocked, WORKER, Place::Outside) => {
            verdict(State::HandedOff, WORKER, "context-outside")
        }
        (State::Blocked, WORKER, Place::HandedOff) => {
            verdict(State::HandedOff, WORKER, "context-in-place")
        }
        (State::Blocked, WORKER, Place::CorelessPoll) => {
            verdict(State::HandedOff, WORKER, "context-coreless-poll")
        }
        // `Other` is also what a stack shows whose runtime's frames were all inlined.
        (State::Unknown | State::Other, _, place) => match place {
            Place::WorkerPoll => verdict(State::Blocked, WORKER, "context-worker-poll"),
            Place::WorkerParked => verdict(State::Idle, WORKER, "context-worker-parked"),
            Place::CorelessPoll => verdict(State::HandedOff, WORKER, "context-coreless-poll"),
            Place::HandedOff => verdict(State::HandedOff, WORKER, "context-in-place"),
            Place::Coreless => verdict(State::Runtime, WORKER, "context-coreless"),
            Place::BlockOnPoll => verdict(State::Blocked, Role::BlockOn, "context-block-on-poll"),
            Place::BlockOnParked => verdict(State::Idle, Role::BlockOn, "context-block-on-parked"),
            Place::CurrentThreadPoll => verdict(
                State::Blocked,
                CURRENT_THREAD,
                "context-current-thread-poll",
            ),
            Place::CurrentThreadParked => {
                verdict(State::Idle, CURRENT_THREAD, "context-current-thread-parked")
            }
            // Where the thread began tells more: see [`super::PoolThreads`].
            Place::Outside | Place::Foreign | Place::PoolJob | Place::Entered | Place::Unknown => {
                by_stack
            }
        },
        _ => by_stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_stack(state: State, role: Role) -> Verdict {
        Verdict {
            state,
            role,
            rule: RuleName("test"),
            frame: None,
            task_frame: None,
        }
    }

    fn agreement(cases: &[(State, Role, Place)]) -> Agreement {
        let mut agreement = Agreement::default();
        for (state, role, place) in cases {
            agreement.add(&by_stack(*state, *role), None, *place);
        }
        agreement
    }

    const CONFIRMED: (State, Role, Place) = (State::Idle, WORKER, Place::WorkerParked);

    #[test]
    fn nothing_counts_before_it_is_confirmed() {
        let alone = agreement(&[]);
        let blocked = by_stack(State::Blocked, WORKER);
        assert_eq!(alone.judge(blocked, Place::Outside), blocked);
        let confirmed = agreement(&[CONFIRMED]);
        assert_eq!(
            confirmed.judge(blocked, Place::Outside).state,
            State::HandedOff
        );
        assert_eq!(
            confirmed.judge(blocked, Place::CorelessPoll).state,
            State::HandedOff
        );
        assert_eq!(
            confirmed.judge(blocked, Place::HandedOff).state,
            State::HandedOff
        );
        assert_eq!(confirmed.judge(blocked, Place::WorkerPoll), blocked);
        let inlined = by_stack(State::Other, Role::None);
        assert_eq!(
            confirmed.judge(inlined, Place::CurrentThreadPoll).state,
            State::Blocked
        );
        assert_eq!(confirmed.judge(inlined, Place::Outside), inlined);
    }

    #[test]
    fn one_disagreement_switches_it_off() {
        for against in [
            (State::Idle, WORKER, Place::WorkerPoll),
            (State::Blocked, WORKER, Place::WorkerParked),
            (State::Pool, Role::PoolThread, Place::WorkerPoll),
            (State::HandedOff, WORKER, Place::WorkerPoll),
            (State::HandedOff, WORKER, Place::Entered),
            (State::Blocked, WORKER, Place::PoolJob),
            (State::Idle, Role::PoolThread, Place::PoolJob),
        ] {
            let both = agreement(&[CONFIRMED, CONFIRMED, against]);
            assert!(!both.trusted(), "{against:?}");
            let blocked = by_stack(State::Blocked, WORKER);
            assert_eq!(both.judge(blocked, Place::Outside), blocked);
        }
    }

    #[test]
    fn it_speaks_where_stacks_do_not() {
        let mut agreement = Agreement::default();
        let unnamed = by_stack(State::Unknown, Role::None);
        agreement.add(&unnamed, Some(0), Place::WorkerParked);
        assert!(!agreement.trusted(), "any read might be a worker's");
        agreement.add(&unnamed, Some(EPOLL_WAIT), Place::WorkerParked);
        assert!(agreement.trusted());
        for (place, state) in [
            (Place::WorkerPoll, State::Blocked),
            (Place::WorkerParked, State::Idle),
            (Place::CorelessPoll, State::HandedOff),
            (Place::Coreless, State::Runtime),
            (Place::BlockOnPoll, State::Blocked),
            (Place::BlockOnParked, State::Idle),
            (Place::CurrentThreadPoll, State::Blocked),
            (Place::CurrentThreadParked, State::Idle),
            (Place::HandedOff, State::HandedOff),
            (Place::Outside, State::Unknown),
            (Place::Foreign, State::Unknown),
            (Place::PoolJob, State::Unknown),
            (Place::Entered, State::Unknown),
            (Place::Unknown, State::Unknown),
        ] {
            assert_eq!(agreement.judge(unnamed, place).state, state, "{place:?}");
        }
    }

    #[test]
    fn every_verdict_has_its_judge() {
        let trusted = agreement(&[CONFIRMED]);
        let of = |agreement: &Agreement, state, role, place| {
            agreement.judge_of(&by_stack(state, role), None, place)
        };
        for (agreement, state, role, place, judge) in [
            (
                &trusted,
                State::Idle,
                WORKER,
                Place::WorkerParked,
                Judge::Both,
            ),
            (
                &trusted,
                State::Idle,
                WORKER,
                Place::Unknown,
                Judge::Symbols,
            ),
            (
                &trusted,
                State::Blocked,
                WORKER,
                Place::Outside,
                Judge::Context,
            ),
            (
                &trusted,
                State::Unknown,
                Role::None,
                Place::WorkerPoll,
                Judge::Context,
            ),
            (
                &trusted,
                State::Unknown,
                Role::None,
                Place::Outside,
                Judge::Neither,
            ),
            (
                &agreement(&[]),
                State::Unknown,
                Role::None,
                Place::WorkerPoll,
                Judge::Neither,
            ),
            (
                &agreement(&[]),
                State::Blocked,
                WORKER,
                Place::Outside,
                Judge::Symbols,
            ),
        ] {
            assert_eq!(
                of(agreement, state, role, place),
                judge,
                "{state:?} {place:?}"
            );
        }
    }

    #[test]
    fn numbers_become_places() {
        assert_eq!(Place::from(place::WORKER_POLL), Place::WorkerPoll);
        assert_eq!(
            Place::from(place::CURRENT_THREAD_PARKED),
            Place::CurrentThreadParked
        );
        assert_eq!(Place::from(place::ENTERED), Place::Entered);
        assert_eq!(Place::from(place::ENTERED + 1), Place::Unknown);
    }
}
