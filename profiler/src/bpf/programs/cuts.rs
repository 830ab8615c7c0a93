//! Cuts: where one interval of a recording ends and the next one begins.
//!
//! # Why nothing is lost or counted twice
//!
//! A program marks the entry of its thread as busy, reads the number of the interval, and adds what
//! it adds to the sums of that number: in the aggregate it is part of the key, and the sums of a park
//! say themselves of which interval they are. [`Programs::cut`] raises the number and waits until it
//! has seen each thread's entry not busy. Every sum belongs to one thread, so from then on nothing
//! adds to the old interval: its sums are read and taken out while programs go on adding to the new
//! one, and nobody takes those.
//!
//! The state of a thread is divided at the same point as its sums: at the first event of the new
//! interval the program keeps what the thread was before it (`profiler-ebpf/src/interval.rs`), and
//! where there was no such event the live state is that of the cut still. So the waits that a
//! thread's times have at the cut are exactly those that are in the sums before it. An event that
//! goes through the ring buffer carries the number itself: waits and ends of threads of the old
//! interval are all in the buffer when [`Programs::cut`] returns; a sample, a system call or a panic
//! may be a moment late.
//!
//! The time of a cut is read before the number is raised, and that of an event after the event has
//! read the number. So no event of the new interval is earlier than the cut. Some of the old one are
//! later, by as long as such programs run: a thread whose last event lies behind the cut has its
//! boundary there.

use super::{Programs, monotonic};
use crate::bpf::mapped::{Mapped, shared_u32, shared_u64};
use crate::decode::{ObjectNumber, StackNumber, Sum, SumKey, ThreadKey, ThreadState, park_sum};
use crate::units::{Pid, Timestamp};
use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use profiler_common::park::{ParkSet, Sums, set_claim};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

/// Within this time every store of a CPU is visible to the others, many times over: it lies in the
/// store buffer for as long as some cache misses take, and an interrupt or an exit to the hypervisor
/// does not hold it there.
const STORES_VISIBLE: Duration = Duration::from_millis(1);

/// The boundary between two intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The interval that begins here; the one that ends has the number before. The first interval
    /// of a recording is 0.
    pub number: u32,
    /// When.
    pub time: Timestamp,
}

/// The number of the interval under way, and what a cut changes with it.
#[derive(Debug)]
pub(in crate::bpf) struct Cuts {
    number: Mapped<u64>,
    /// As the kernel side counts them, for the room that objects may take.
    object_sums: Mapped<u64>,
    parks: Mapped<ParkSet>,
    current: u32,
    /// The first interval whose sums are not taken out.
    untaken: u32,
}

impl Cuts {
    pub(in crate::bpf) fn new(ebpf: &mut Ebpf) -> Result<Cuts> {
        Ok(Cuts {
            number: Mapped::take(ebpf, "CUT")?,
            object_sums: Mapped::take(ebpf, "OBJECT_SUMS")?,
            parks: Mapped::take(ebpf, "PARKS")?,
            current: 0,
            untaken: 0,
        })
    }

    /// Begins the next interval. Programs at work may have read the number of the one before, for as
    /// long as [`STORES_VISIBLE`] without having said so.
    fn raise(&mut self) -> Result<()> {
        let number = self.number.address(0).context("an empty map CUT")?;
        self.current += 1;
        // SAFETY: mapped for as long as `self` lives.
        unsafe { shared_u64(number) }.store(self.current.into(), Ordering::SeqCst);
        Ok(())
    }

    /// The number of the interval under way.
    pub(in crate::bpf) const fn current(&self) -> u32 {
        self.current
    }

    /// Gives up a set of parks whose thread has ended: nobody looks at it before its claim is given
    /// up. Its sums stay as they are, of their intervals.
    fn free_set(&mut self, number: u32) {
        let Some(set) = self.parks.address(number as usize) else {
            return;
        };
        // SAFETY: mapped for as long as `self` lives.
        unsafe {
            let parks = (&raw mut (*set).parks).cast::<profiler_common::park::Park>();
            for way in 0..profiler_common::park::WAYS {
                let park = parks.add(way);
                (&raw mut (*park).key.ip).write_volatile(0);
                (&raw mut (*park).stack).write_volatile(0);
            }
            (&raw mut (*set).next).write_volatile(0);
            (&raw mut (*set).last).write_volatile(0);
            shared_u32(&raw mut (*set).tid).store(0, Ordering::SeqCst);
        }
    }

    /// The room for objects that an interval had is free again.
    fn forget_objects_of(&self, interval: u32) {
        if let Some(count) = self.object_sums.address(interval as usize & 1) {
            // SAFETY: mapped for as long as `self` lives.
            unsafe { shared_u64(count) }.store(0, Ordering::SeqCst);
        }
    }

    /// Every sum of a park in one of these intervals.
    fn park_sums(&self, intervals: std::ops::Range<u32>, each: &mut impl FnMut(&Sums)) {
        for index in 0..self.parks.len() {
            let Some(set) = self.parks.address(index) else {
                continue;
            };
            // SAFETY: mapped for as long as `self` lives, and every bit pattern is a value.
            unsafe {
                if (&raw const (*set).used).read_volatile() == 0 {
                    continue;
                }
                let parks = (&raw const (*set).parks).cast::<profiler_common::park::Park>();
                for way in 0..profiler_common::park::WAYS {
                    let both = (&raw const (*parks.add(way)).sums).cast::<Sums>();
                    for bank in 0..2 {
                        // What has the number of a past interval does not change.
                        let sums = both.add(bank);
                        if intervals.contains(&(&raw const (*sums).cut).read_volatile()) {
                            let sums = sums.read_volatile();
                            if sums.waits > 0 {
                                each(&sums);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Programs {
    /// Ends the interval under way and begins the next one. Returns when nothing can be added to the
    /// old one any more: after one or two milliseconds, in which this thread sleeps.
    ///
    /// After it: [`threads_at`](Programs::threads_at), then [`drain`](Programs::drain), in this
    /// order, since a thread that ends leaves the table and is in the ring buffer from then on; and
    /// [`take_sums`](Programs::take_sums) before the next cut.
    ///
    /// # Errors
    /// Where the sums of the interval before were not taken out, or the kernel refuses.
    pub fn cut(&mut self) -> Result<Cut> {
        ensure!(
            self.cuts.untaken == self.cuts.current,
            "the sums of interval {} are still to be taken",
            self.cuts.untaken
        );
        self.cut_at(monotonic())
    }

    pub(in crate::bpf) fn cut_at(&mut self, time: Timestamp) -> Result<Cut> {
        self.cuts.raise()?;
        sleep(STORES_VISIBLE);
        let at_work = self.threads.wait_until_seen_idle();
        if at_work > 0 {
            // What these add to the old interval from now on is in no interval.
            if self.unfinished_cuts == 0 {
                tracing::warn!(
                    "a kernel program has not ended for seconds ({at_work} threads): what it adds \
                     to the sums of this interval may be missing"
                );
            }
            self.unfinished_cuts += 1;
        }
        Ok(Cut {
            number: self.cuts.current,
            time,
        })
    }

    /// Takes the sums over all waits that ended in the interval before `cut` out of the kernel's
    /// tables. There may be several of the same key.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn take_sums(&mut self, cut: &Cut, mut each: impl FnMut(SumKey, Sum)) -> Result<()> {
        let intervals = self.cuts.untaken..cut.number;
        let mut taken = Vec::new();
        self.aggregates
            .for_each(|key, sums| {
                if intervals.contains(&key.cut) {
                    each(SumKey::from(&key.waits), Sum::from(&sums));
                }
                // Also what could not be removed the last time.
                if key.cut < cut.number {
                    taken.push(key);
                }
            })
            .context("cannot read the sums of the kernel programs")?;
        self.cuts.park_sums(intervals.clone(), &mut |sums| {
            let (key, sums) = park_sum(sums);
            each(key, sums);
        });
        self.cuts.untaken = cut.number;
        self.aggregates
            .remove(&taken)
            .context("cannot empty the sums of the kernel programs")?;
        for interval in intervals {
            self.cuts.forget_objects_of(interval);
        }
        Ok(())
    }

    /// Every thread that was there at `cut`, the last one. To be asked before the ring buffer is:
    /// those that ended since are in it, with their state at the cut
    /// ([`ThreadEndRecord::at_cut`](profiler_common::record::ThreadEndRecord::at_cut)).
    ///
    /// A thread that had not switched since its recording began is in no table. When it does
    /// switch, it has been there since then, longer than its first interval.
    pub fn threads_at(&self, cut: &Cut) -> impl Iterator<Item = (ThreadKey, ThreadState)> {
        self.threads.at(*cut)
    }

    /// Frees the entries of threads that had ended before `cut` and could not say so; to be called
    /// after [`threads_at`](Programs::threads_at) and [`take_sums`](Programs::take_sums) have told
    /// of them. Threads that a process has left behind which was forgotten before `cut` end here:
    /// the next cut tells of that.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_ended(&mut self, cut: &Cut) -> Result<()> {
        let freed = self.threads.free_ended(*cut);
        for set in &freed.sets {
            self.cuts.free_set(*set);
        }
        let mut claims = freed.places;
        claims.extend(freed.sets.iter().map(|set| set_claim(*set)));
        self.claims
            .remove(&claims)
            .context("cannot give the entries of ended threads up")?;
        self.end_forgotten(cut)
    }

    /// Ends the threads of processes that were forgotten before `cut`, which has waited for their
    /// programs.
    fn end_forgotten(&mut self, cut: &Cut) -> Result<()> {
        let (before, later) = std::mem::take(&mut self.forgotten)
            .into_iter()
            .partition(|(_, interval)| *interval < cut.number);
        self.forgotten = later;
        let before: Vec<(Pid, u32)> = before;
        for (pid, _) in before {
            let since = self.start_of(pid)?;
            for place in self.threads.of_process(pid, since) {
                self.claims
                    .replace(&(place as u32), &0)
                    .context("cannot give the entries of a process up")?;
                self.threads.end(place);
            }
        }
        Ok(())
    }

    /// When the recording of the process began that has this id now.
    fn start_of(&self, pid: Pid) -> Result<Option<Timestamp>> {
        for process in self.processes.iter() {
            let process = process?;
            if process.tgid == pid.0 {
                return Ok(Some(Timestamp(process.start)));
            }
        }
        Ok(None)
    }

    /// Makes the kernel side forget stacks, to make room: one that comes again is sent again. A wait
    /// that is under way now may still name one of them; from the next cut on only such a wait may.
    /// A park that is recognised does not look whether its stack is: where one may have it,
    /// [`Programs::forget_parks`] is to be called as well.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_stacks(&mut self, numbers: &[StackNumber]) -> Result<()> {
        let numbers: Vec<u64> = numbers.iter().map(|number| number.get()).collect();
        self.stacks.remove(&numbers).context("cannot forget stacks")
    }

    /// Makes the kernel side forget objects, to make room: one that comes again is sent again. From
    /// the next cut on only a thread may name one of them that waited for it last, see
    /// [`ThreadEntry::last_object`](crate::decode::ThreadEntry::last_object).
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_objects(&mut self, numbers: &[ObjectNumber]) -> Result<()> {
        let numbers: Vec<u64> = numbers.iter().map(|number| number.get()).collect();
        self.objects
            .remove(&numbers)
            .context("cannot forget objects")
    }
}
