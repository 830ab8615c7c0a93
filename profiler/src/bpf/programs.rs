//! The loaded programs and their maps.

mod cuts;
mod drivers;
pub(super) mod load;
mod thread_table;

pub use cuts::Cut;
pub use load::LoadOptions;

use super::hash_table::HashTable;
use super::mapped::Mapped;
use super::memlock::MemlockRaised;
use super::tables::{MappingTable, Tables};
use crate::decode::{DecodeError, Event, StackNumber, StackPolicy, ThreadEntry, decode};
use crate::units::{Pid, Tid, Timestamp};
use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::Iter;
use aya::{Btf, Ebpf};
use aya_log::EbpfLogger;
use aya_obj::generated::BPF_NOEXIST;
use cuts::Cuts;
use load::{SNAPSHOT, program};
use profiler_common::context::{PLACES, Place};
use profiler_common::counter::{COUNTERS, Counter};
use profiler_common::map::{
    Aggregate, Driver, EVENT_BYTES, FILTER_FREED, FILTER_PROBES, FILTER_SIZE, FILTER_SLOT,
    IntervalKey, MAX_PROCESSES, NO_PROCESS, Process, ProcessCounters, Stack,
};
use rustix::time::{ClockId, clock_gettime};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use thread_table::ThreadTable;

/// The kernel side's counters, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(Vec<u64>);

impl Counters {
    /// One of them.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Walks that ended early, for whatever reason.
    #[must_use]
    pub fn truncated(&self) -> u64 {
        let (first, last) = (Counter::TooDeep as usize, Counter::TooCostly as usize);
        self.0.get(first..=last).map_or(0, |sums| sums.iter().sum())
    }
}

/// The kernel half of holdup, loaded. Dropping it detaches everything.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    /// The kernel's types, some twenty megabytes, until the programs that need them are loaded.
    pub(super) btf: Option<Btf>,
    pub(super) tables: Tables,
    pub(super) filter: Array<MapData, u32>,
    pub(super) processes: Array<MapData, Process>,
    pub(super) process_counters: Array<MapData, ProcessCounters>,
    pub(super) slot_owners: HashMap<MapData, u32, u32>,
    pub(super) threads: ThreadTable,
    /// Places of threads and of sets of parks, to who has them.
    pub(super) claims: HashTable<u32, u32>,
    pub(super) stacks: HashTable<u64, Stack>,
    pub(super) objects: HashTable<u64, u32>,
    pub(super) aggregates: HashTable<IntervalKey, Aggregate>,
    pub(super) cuts: Cuts,
    pub(super) drivers: Mapped<Driver>,
    /// Processes whose threads may have left entries behind, and the interval in which they were
    /// forgotten.
    pub(super) forgotten: Vec<(Pid, u32)>,
    /// Cuts that did not wait any longer for a program.
    pub(super) unfinished_cuts: u64,
    pub(super) park_cache_epoch: Array<MapData, u32>,
    pub(super) counters: PerCpuArray<MapData, [u64; COUNTERS]>,
    pub(super) events: RingBuf<MapData>,
    /// Whether the program for panics is loaded, which few recordings want.
    pub(super) panics_loaded: bool,
    /// Programs and maps that are made later count as well.
    pub(super) _memlock: Option<MemlockRaised>,
    /// What the programs warn of; none where the kernel refused it.
    pub(super) log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("ebpf", &self.ebpf)
            .finish_non_exhaustive()
    }
}

impl Programs {
    /// The unwinding tables.
    pub fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The unwinding tables, to be read.
    #[must_use]
    pub fn tables_ref(&self) -> &Tables {
        &self.tables
    }

    /// Whether a switch of the thread was seen.
    #[must_use]
    pub fn has_switched(&self, tid: Tid) -> bool {
        self.threads.find(tid).is_some()
    }

    /// The thread's entry, if it has one: if a switch of it was seen.
    #[must_use]
    pub fn thread(&self, tid: Tid) -> Option<ThreadEntry> {
        self.threads.find(tid).as_ref().and_then(ThreadEntry::of)
    }

    /// Begins to record a process, and says from when on. Only from then on is each of its switches
    /// seen for sure, so that a thread without any has gone on with what it does.
    ///
    /// # Errors
    /// Where all slots are taken or the kernel refuses.
    pub fn watch(&mut self, index: u32, process: Process) -> Result<Timestamp> {
        let mut free = None;
        for probe in 0..FILTER_PROBES {
            let place = process.tgid.wrapping_add(probe) & (FILTER_SIZE as u32 - 1);
            match self.filter.get(&place, 0)? {
                0 | FILTER_FREED => free = free.or(Some(place)),
                _ => {}
            }
        }
        let place = free.with_context(|| {
            format!(
                "process {} collides with others that are watched",
                process.tgid
            )
        })?;
        for taken in [index, FILTER_SLOT + place] {
            self.slot_owners.insert(taken, process.tgid, 0)?;
        }
        self.enter(place, index, process)
    }

    /// Enters a process into the filter. When its recording began is told after that: holdup may lose its
    /// CPU before it.
    fn enter(&mut self, place: u32, index: u32, process: Process) -> Result<Timestamp> {
        self.describe(
            index,
            Process {
                start: 0,
                ..process
            },
        )?;
        self.filter.set(place, index + 1, 0)?;
        let start = monotonic();
        let begun = Process {
            start: start.0,
            ..process
        };
        self.describe(index, begun)?;
        Ok(start)
    }

    /// Takes a free place for a process, while the kernel side may take others for what targets fork.
    /// None where all are taken.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn claim_process(&mut self, pid: Pid) -> Result<Option<u32>> {
        for index in 0..MAX_PROCESSES as u32 {
            if self.processes.get(&index, 0)?.tgid == 0 && self.make_ours(index, pid) {
                // What the one before has left there.
                let nothing: ProcessCounters = bytemuck::Zeroable::zeroed();
                self.process_counters.set(index, nothing, 0)?;
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// As [`Programs::watch`], a process whose place was [claimed](Programs::claim_process). None where
    /// there is no room in the filter; then the place is given back.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn watch_claimed(&mut self, index: u32, process: Process) -> Result<Option<Timestamp>> {
        let pid = Pid(process.tgid);
        for probe in 0..FILTER_PROBES {
            let place = pid.0.wrapping_add(probe) & (FILTER_SIZE as u32 - 1);
            let is_free = matches!(self.filter.get(&place, 0)?, 0 | FILTER_FREED);
            if is_free && self.make_ours(FILTER_SLOT + place, pid) {
                return self.enter(place, index, process).map(Some);
            }
        }
        self.describe(index, bytemuck::Zeroable::zeroed())?;
        self.slot_owners.remove(&index)?;
        Ok(None)
    }

    /// Makes a place ours: of all who race for it, the kernel side too, one succeeds.
    fn make_ours(&mut self, place: u32, pid: Pid) -> bool {
        let flags = u64::from(BPF_NOEXIST);
        self.slot_owners.insert(place, pid.0, flags).is_ok()
    }

    /// Changes what the kernel side knows of a process, whether it records it or not.
    ///
    /// # Errors
    /// Where there is no such place or the kernel refuses.
    pub fn describe(&mut self, index: u32, process: Process) -> Result<()> {
        if index as usize >= MAX_PROCESSES {
            bail!("more than {MAX_PROCESSES} processes at once");
        }
        Ok(self.processes.set(index, process, 0)?)
    }

    /// What the kernel side knows of a process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn process(&self, index: u32) -> Result<Process> {
        Ok(self.processes.get(&index, 0)?)
    }

    /// Gives the place of a process up that has ended: nothing may run of it any more.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_process(&mut self, index: u32, pid: Pid) -> Result<()> {
        for probe in 0..FILTER_PROBES {
            let place = pid.0.wrapping_add(probe) & (FILTER_SIZE as u32 - 1);
            if self.filter.get(&place, 0)? == index + 1 {
                // Not 0: what lies behind it would not be found any more.
                self.filter.set(place, FILTER_FREED, 0)?;
                self.slot_owners.remove(&(FILTER_SLOT + place))?;
            }
        }
        self.forgotten.push((pid, self.cuts.current()));
        let free: Process = bytemuck::Zeroable::zeroed();
        self.processes.set(index, free, 0)?;
        Ok(self.slot_owners.remove(&index)?)
    }

    /// How often a process has executed another program. To be asked before its mappings are
    /// read, for [`Process::exec_count`].
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn exec_count(&self, index: u32) -> Result<u32> {
        Ok(self.process_counters.get(&index, 0)?.exec_count)
    }

    /// The mapping tables that the kernel side may walk by.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn tables_in_use(&self) -> Result<Vec<u32>> {
        let mut tables = Vec::new();
        for process in self.processes.iter() {
            let process = process?;
            if process.tgid != 0 && process.tgid != NO_PROCESS {
                tables.push(process.table);
            }
        }
        Ok(tables)
    }

    /// Ends all recording, with a last cut. After it no program is at work any more: every table is
    /// as it stays.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn stop(&mut self) -> Result<Cut> {
        for place in 0..FILTER_SIZE as u32 {
            if self.filter.get(&place, 0)? != 0 {
                self.filter.set(place, 0, 0)?;
            }
        }
        // It waits for those that passed the filter just before.
        self.cut_at(monotonic())
    }

    /// Lets the task iterator pass over all tasks; the watched ones arrive as events.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn snapshot(&mut self) -> Result<()> {
        let iter: &mut Iter = program(&mut self.ebpf, SNAPSHOT)?.try_into()?;
        let link = iter.attach().context("cannot attach the task iterator")?;
        let mut file = iter
            .take_link(link)?
            .into_file()
            .context("cannot run the task iterator")?;
        let mut nothing = Vec::new();
        file.read_to_end(&mut nothing)
            .context("cannot read the task iterator")?;
        Ok(())
    }

    /// Passes on what the programs had to warn of.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// A descriptor that becomes readable when an event cannot wait for the next tick.
    #[must_use]
    pub fn wakeup_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer's descriptor is open as long as `self.events` lives.
        unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) }
    }

    /// Hands every event that has arrived by now to `each`, and some that arrive meanwhile: not all,
    /// or it would have no end where they come as fast as they are taken.
    pub fn drain(&mut self, each: impl FnMut(Result<Event, DecodeError>)) {
        self.drain_while(|| true, each);
    }

    /// As [`Programs::drain`], for as long as `go_on` says so, which is asked now and then. Whether
    /// it ended for that.
    pub fn drain_while(
        &mut self,
        mut go_on: impl FnMut() -> bool,
        mut each: impl FnMut(Result<Event, DecodeError>),
    ) -> bool {
        /// From one question to the next.
        const EVENTS: u32 = 256;
        // More than this the buffer did not hold when we began.
        let mut bytes = 0;
        let mut events = 0;
        while bytes < EVENT_BYTES
            && let Some(item) = self.events.next()
        {
            bytes += item.len();
            events += 1;
            each(decode(&item));
            drop(item);
            if events % EVENTS == 0 && !go_on() {
                return true;
            }
        }
        false
    }

    /// Tells the kernel side what a stack is good for.
    ///
    /// # Errors
    /// Where the kernel refuses; a stack that is not there any more is none.
    pub fn set_policy(&mut self, stack: StackNumber, policy: StackPolicy) -> Result<()> {
        self.stacks.replace(&stack.get(), &policy.raw())?;
        Ok(())
    }

    /// Makes the kernel side forget which walks it knows again: to be called after policy that
    /// takes back what was said of a stack.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_parks(&mut self) -> Result<()> {
        let epoch = self.park_cache_epoch.get(&0, 0)?;
        Ok(self.park_cache_epoch.set(0, epoch.wrapping_add(1), 0)?)
    }

    /// Every thread in the thread table, as it is now.
    pub fn live_threads(&self) -> impl Iterator<Item = ThreadEntry> {
        self.threads.entries()
    }

    /// Cuts that did not wait any longer for a program of the kernel side, which seemed to be at
    /// work for seconds: what it adds to the interval that ended is in none.
    #[must_use]
    pub const fn unfinished_cuts(&self) -> u64 {
        self.unfinished_cuts
    }

    /// The counters.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn counters(&self) -> Result<Counters> {
        let mut sums = [0; COUNTERS];
        for of_cpu in self.counters.get(&0, 0)?.iter() {
            for (sum, value) in sums.iter_mut().zip(of_cpu) {
                *sum += value;
            }
        }
        Ok(Counters(sums.to_vec()))
    }
}

/// The clock of all events.
#[must_use]
pub fn monotonic() -> Timestamp {
    let now = clock_gettime(ClockId::Monotonic);
    Timestamp(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

/// The entry of a process whose mappings are in a table, and whose contexts of tokio are not known.
#[must_use]
pub fn process_entry(
    pid: Pid,
    table: MappingTable,
    table_version: u32,
    start: Timestamp,
) -> Process {
    Process {
        tgid: pid.0,
        table: table.number,
        mappings: table.mappings,
        table_version,
        exec_count: 0,
        address_epoch: 0,
        follow: 0,
        reserved: 0,
        start: start.0,
        worker_below_fs: 0,
        current_thread_below_fs: 0,
        budget_below_fs: 0,
        handle_below_fs: 0,
        contexts: [Place::default(); PLACES],
    }
}
