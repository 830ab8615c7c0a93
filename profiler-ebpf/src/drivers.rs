//! Whether anybody waits for the events of a runtime's I/O driver: an epoll instance.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use profiler_common::call::is_epoll_wait;
use profiler_common::counter::Counter;
use profiler_common::map::{DRIVERS as PER_PROCESS, Driver, MAX_PROCESSES, MIN_DRIVER_GAP, Thread};
use profiler_common::record::{DriverGapRecord, Header, KIND_DRIVER_GAP};

use crate::arch::Registers;
use crate::counters::count;
use crate::filter::Watched;
use crate::{emit, flags};

/// Those of each process. Userspace reads them at the end.
#[map]
static DRIVERS: Array<Driver> =
    Array::with_max_entries((MAX_PROCESSES * PER_PROCESS) as u32, flags::MMAPABLE);

const _: () = assert!(PER_PROCESS.is_power_of_two(), "used as a mask");

/// A thread begins to wait: for events, if that is its system call.
///
/// # Safety
/// `thread` is the current thread's live entry.
#[inline(always)]
pub(crate) unsafe fn enter(thread: *mut Thread, process: Watched, regs: &Registers, now: u64) {
    if !is_epoll_wait(regs.syscall as u32) {
        return;
    }
    let fd = regs.args[0] as u32;
    let slot = process.index * PER_PROCESS as u32 + (fd & (PER_PROCESS as u32 - 1));
    let Some(driver) = DRIVERS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: guaranteed by the caller; a live array value. Two threads that wait for one instance,
    // which no runtime lets them, would only make a gap seem shorter.
    unsafe {
        (*thread).driver = slot + 1;
        let (tgid, tid) = ((*thread).tgid, (*thread).tid);
        if (*driver).fd == fd && (*driver).tgid == tgid {
            let left = (*driver).left;
            // Mostly short: the comparison takes what is attended, or was never seen, for that.
            if left != 0 && now.saturating_sub(left) >= MIN_DRIVER_GAP {
                gap(u64::from(tgid) << 32 | u64::from(tid), left, now);
            }
        }
        (*driver).fd = fd;
        (*driver).tgid = tgid;
        (*driver).tid = tid;
        (*driver).left = Driver::ATTENDED;
    }
}

/// A thread that waited comes to run.
///
/// # Safety
/// `thread` is a live entry whose switches come one after another.
#[inline(always)]
pub(crate) unsafe fn leave(thread: *mut Thread, now: u64) {
    // SAFETY: guaranteed by the caller; a live array value.
    unsafe {
        let driver = (*thread).driver;
        if driver == 0 {
            return;
        }
        (*thread).driver = 0;
        if let Some(driver) = DRIVERS.get_ptr_mut(driver - 1) {
            (*driver).left = now;
        }
    }
}

/// Tells of a gap. Not inlined: the record would take room on the stack of every switch.
#[inline(never)]
fn gap(thread: u64, from: u64, to: u64) {
    let record = DriverGapRecord {
        header: Header {
            kind: KIND_DRIVER_GAP,
            len: size_of::<DriverGapRecord>() as u32,
            tgid: (thread >> 32) as u32,
            tid: thread as u32,
        },
        from,
        to,
    };
    if !emit::send(&record) {
        count(Counter::RingFullOther);
    }
}
