//! What tokio's thread-local state says, from the kernel side's numbers or from a thread's memory.

use super::queued_tasks::queued;
use crate::runtime::Queued;
use crate::runtime::tokio::{ContextsOfProcess, RuntimeHandle, ThreadContext, TlsState};
use crate::units::Addr;
use crate::unwind::RemoteMemory;
use profiler_common::arch::tls::{Block, locate};
use profiler_common::context::{
    self, Context, Found, Memory, Place, Variables, WORDS, Words, base, tls_state,
};

/// What tokio's thread-local state says of a thread that waits, by its FS base; and what waits for the
/// thread, if it is a worker in a poll and its core is known.
#[must_use]
pub fn read_context(
    contexts: &ContextsOfProcess,
    fs: Addr,
    memory: &RemoteMemory,
) -> (ThreadContext, Option<Queued>) {
    let copies = (0..).zip(contexts.places());
    let found = copies.map(|(number, place)| Found {
        place: number,
        ..at_place(fs, (contexts, place), memory)
    });
    let Some(found) = found.reduce(context::heavier) else {
        return (ThreadContext::default(), None);
    };
    let place = contexts.places().nth(found.place as usize);
    let queued = place.and_then(|place| queued(place, &found, memory));
    (found.into(), queued)
}

/// By one copy of tokio.
fn at_place(
    fs: Addr,
    (contexts, place): (&ContextsOfProcess, &Place),
    memory: &RemoteMemory,
) -> Found {
    let at = match locate(fs.0, place, memory) {
        Block::At(at) => at,
        Block::Untouched => return Found::UNTOUCHED,
        Block::Unreadable => return Found::UNKNOWN,
    };
    if place.base == base::VARIABLES {
        let [worker, current_thread, budget, handle] = contexts.variables_below_fs;
        let below = |bytes: u32| fs.0.wrapping_sub(bytes.into());
        let at = Variables {
            entered: at,
            worker: below(worker),
            current_thread: below(current_thread),
            budget: below(budget),
            handle: if handle == 0 { 0 } else { below(handle) },
        };
        return context::found_in_variables(&at, memory);
    }
    let mut words: Words = [0; WORDS];
    for (n, word) in words.iter_mut().enumerate().take(place.fields.words.into()) {
        let Some(read) = memory.word(at.wrapping_add(8 * n as u64)) else {
            return Found::UNKNOWN;
        };
        *word = read;
    }
    context::found(&Context::of(&words, &place.fields), &place.worker, memory)
}

impl From<Found> for ThreadContext {
    fn from(found: Found) -> ThreadContext {
        ThreadContext {
            state: found.tls_state.into(),
            runtime: runtime_handle(found.handle),
            task_id: found.task_id,
        }
    }
}

/// The runtime of a handle at this address; none where the thread has entered no runtime.
pub(super) fn runtime_handle(address: u64) -> Option<RuntimeHandle> {
    (address != 0).then_some(RuntimeHandle(Addr(address)))
}

impl From<u32> for TlsState {
    /// From one of [`profiler_common::context::tls_state`]; anything else is unknown.
    fn from(number: u32) -> TlsState {
        match number {
            tls_state::OUTSIDE => TlsState::Outside,
            tls_state::IN_PLACE => TlsState::HandedOff,
            tls_state::FOREIGN => TlsState::Foreign,
            tls_state::POOL_JOB => TlsState::PoolJob,
            tls_state::ENTERED => TlsState::Entered,
            tls_state::INCONSISTENT => TlsState::Inconsistent,
            tls_state::WORKER_POLL => TlsState::WorkerPoll,
            tls_state::WORKER_PARKED => TlsState::WorkerParked,
            tls_state::CORELESS_POLL => TlsState::CorelessPoll,
            tls_state::CORELESS => TlsState::Coreless,
            tls_state::BLOCK_ON_POLL => TlsState::BlockOnPoll,
            tls_state::BLOCK_ON_PARKED => TlsState::BlockOnParked,
            tls_state::CURRENT_THREAD_POLL => TlsState::CurrentThreadPoll,
            tls_state::CURRENT_THREAD_PARKED => TlsState::CurrentThreadParked,
            _ => TlsState::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_places() {
        assert_eq!(TlsState::from(tls_state::WORKER_POLL), TlsState::WorkerPoll);
        assert_eq!(
            TlsState::from(tls_state::CURRENT_THREAD_PARKED),
            TlsState::CurrentThreadParked
        );
        assert_eq!(TlsState::from(tls_state::ENTERED), TlsState::Entered);
        let last = tls_state::INCONSISTENT;
        assert_eq!(TlsState::from(last), TlsState::Inconsistent);
        assert_eq!(TlsState::from(last + 1), TlsState::Unknown);
    }

    #[test]
    fn a_runtime_is_known_by_its_handle() {
        let of = |handle| {
            ThreadContext::from(Found {
                tls_state: tls_state::ENTERED,
                task_id: 7,
                handle,
                ..Found::UNKNOWN
            })
        };
        assert_eq!(of(0).runtime, None);
        assert_eq!(of(0x5000).runtime, Some(RuntimeHandle(Addr(0x5000))));
        assert_ne!(of(0x5000).runtime, of(0x6000).runtime);
        assert_eq!((of(0).state, of(0).task_id), (TlsState::Entered, 7));
    }
}
