//! States as reports show them.

use crate::report::RuntimeReport;
use crate::runtime::State;
use crate::units::Nanos;

/// The states of a runtime's bars, the gravest first, those that say least last.
pub(super) const BY_GRAVITY: [State; 10] = [
    State::Blocked,
    State::Runtime,
    State::Running,
    State::Runnable,
    State::Idle,
    State::Stopped,
    State::Unknown,
    State::Other,
    State::Pool,
    State::HandedOff,
];

/// The states of a runtime that are listed, with their times. Four answer the first questions even where
/// they are nothing.
pub(super) fn listed(runtime: &RuntimeReport) -> impl Iterator<Item = (State, Nanos)> + '_ {
    let timed = |state| {
        let time = runtime.states.get(&state).copied().unwrap_or_default();
        let always = matches!(
            state,
            State::Blocked | State::Running | State::Runnable | State::Idle
        );
        (always || time > Nanos::ZERO).then_some((state, time))
    };
    BY_GRAVITY.into_iter().filter_map(timed)
}
