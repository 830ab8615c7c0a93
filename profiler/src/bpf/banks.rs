//! Arrays of the kernel that userspace fills through memory: 93,500 rows take 0.1 ms so, and
//! some hundred through the update call.

use super::mapped::Mapped;
use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{ArrayOfMaps, MapData};
use aya_obj::generated::BPF_F_MMAPABLE;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// An array map of its own, mapped into our memory. The kernel side only reads it.
#[derive(Debug)]
pub(super) struct Bank<T: Pod> {
    memory: Mapped<T>,
}

impl<T: Pod> Bank<T> {
    /// Creates an array of `len` zero values.
    pub(super) fn create(len: usize) -> Result<Bank<T>> {
        let entries = u32::try_from(len).context("a bank with more than 2^32 entries")?;
        let value = u32::try_from(size_of::<T>()).context("a bank of huge values")?;
        let definition = aya_obj::Map::new_from_params(
            BPF_MAP_TYPE_ARRAY as u32,
            4,
            value,
            entries,
            BPF_F_MMAPABLE,
        );
        let map = MapData::create(definition, "holdup_bank", None)
            .context("cannot create a table of the kernel")?;
        Ok(Bank {
            memory: Mapped::new(map, len)?,
        })
    }

    /// The values.
    pub(super) fn values(&self) -> &[T] {
        // SAFETY: only we write a bank.
        unsafe { self.memory.quiet() }
    }

    /// The values, to be filled while no program looks at them.
    pub(super) fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: no program looks at values that are to be filled.
        unsafe { self.memory.quiet_mut() }
    }

    /// The map itself.
    pub(super) fn map(&self) -> &MapData {
        self.memory.map()
    }
}

/// The banks of an array of maps, one after another, each put there before it is wanted.
///
/// After such a change the kernel waits until no program works with what was there before
/// (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`): 10 ms and more, in which a recording that is to
/// begin would wait as well.
#[derive(Debug)]
pub(super) struct Banks<T: Pod> {
    wanted: Sender<()>,
    ready: Receiver<Result<Bank<T>>>,
    taken: u32,
    /// Has the array in its end: programs that are loaded later name it.
    _thread: JoinHandle<ArrayOfMaps<MapData, MapData>>,
}

/// After one was taken, for so long nothing is done for the next: a recording that begins has its threads
/// give up rights, and none of them can while it waits in the kernel.
const LATER: Duration = Duration::from_millis(200);

impl<T: Pod + Send> Banks<T> {
    /// Begins to make up to `most` banks of `len` values in `outer`, of which a single one waits at a time.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn begin(
        mut outer: ArrayOfMaps<MapData, MapData>,
        most: u32,
        len: usize,
    ) -> Result<Banks<T>> {
        let (made, ready) = sync_channel(0);
        let (wanted, asked) = channel();
        let make = move || {
            for number in 0..most {
                if number > 0 && asked.recv_timeout(LATER) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
                let bank = Bank::create(len).and_then(|bank| {
                    let put = outer.set(number, bank.map(), 0);
                    put.context("cannot add a table to those of the kernel side")?;
                    Ok(bank)
                });
                let failed = bank.is_err();
                if made.send(bank).is_err() || failed {
                    break;
                }
            }
            outer
        };
        let thread = Builder::new()
            .name("holdup-banks".to_owned())
            .spawn(make)
            .context("cannot start a thread")?;
        Ok(Banks {
            wanted,
            ready,
            taken: 0,
            _thread: thread,
        })
    }

    /// The next bank, all zeros, and its number; nothing where all are taken.
    ///
    /// # Errors
    /// The kernel refused it. There are no more of them then.
    pub(super) fn next(&mut self) -> Option<Result<(u32, Bank<T>)>> {
        let bank = self.ready.try_recv().or_else(|_| {
            // Nobody listens where all are made: then there is none to come either.
            let _ = self.wanted.send(());
            self.ready.recv()
        });
        let bank = bank.ok()?;
        let number = self.taken;
        self.taken += 1;
        Some(bank.map(|bank| (number, bank)))
    }
}
