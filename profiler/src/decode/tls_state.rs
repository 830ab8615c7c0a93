//! What tokio's thread-local state says, from the kernel side's numbers or from a thread's memory.

use crate::process::module::TlsContext;
use crate::runtime::tokio::TlsState;
use crate::units::Addr;
use crate::unwind::RemoteMemory;
use profiler_common::context::{self, LAYOUT_A, LAYOUT_B, Memory, Words, layout, tls_state};

/// What tokio's thread-local state says of a thread that waits, by its FS base. Where the state is
/// in several variables (tokio 1.20), those have names, and so have the frames.
#[must_use]
pub fn read_tls_state(known: &TlsContext, fs: Addr, memory: &RemoteMemory) -> TlsState {
    let fields = match known.layout {
        layout::A => LAYOUT_A,
        layout::B => LAYOUT_B,
        _ => return TlsState::Unknown,
    };
    let words: Words = memory.words(fs.0.wrapping_sub(known.below_fs));
    // Of memory that cannot be read nothing but zeros is there, and no context is that.
    if words == [0; _] {
        return TlsState::Unknown;
    }
    context::found(&words, fields, memory).tls_state.into()
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
        assert_eq!(TlsState::from(tls_state::ENTERED + 1), TlsState::Unknown);
    }
}
