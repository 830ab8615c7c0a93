//! Records into the ring buffer. They do not wake the reader, which polls, since a wakeup an
//! event costs microseconds; but for those that say that new mappings are to be read.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_ringbuf_output};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use profiler_common::counter::Counter;
use profiler_common::map::{EVENT_BYTES, Thread};
use profiler_common::record::{
    COMM_LEN, ExecRecord, Header, KIND_EXEC, KIND_SAMPLE, KIND_STACK, KIND_THREAD_END, KIND_WAIT,
    SampleRecord, StackRecord, ThreadEndRecord, WAKER_UNSEEN, WaitRecord,
};
use profiler_common::stack::{MAX_KERNEL_FRAMES, MAX_USER_FRAMES};

use profiler_common::row::walk;

use crate::counters::count;
use crate::filter::Task;
use crate::{config, slot, threads};

/// Of a number of user frames: [`MAX_USER_FRAMES`] is among them.
const FRAMES_MASK: usize = 2 * MAX_USER_FRAMES - 1;

const _: () = assert!((FRAMES_MASK + 1).is_power_of_two(), "used as a mask");

/// Frames of the kernel stack that are ours: the program, its trampoline and `__schedule`.
const OWN_KERNEL_FRAMES: u64 = 3;

/// A stack record with room for its frames, user frames first, and for what a sample has before
/// them.
#[repr(C)]
pub(crate) struct StackMessage {
    pub(crate) sample: SampleRecord,
    pub(crate) record: StackRecord,
    pub(crate) frames: [u64; FRAMES_MASK + MAX_KERNEL_FRAMES],
}

/// The stack being walked, in the form in which it is sent.
#[map]
pub(crate) static MESSAGE: PerCpuArray<StackMessage> =
    PerCpuArray::with_max_entries(slot::COUNT, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES as u32, 0);

/// Name of a task.
///
/// # Safety
/// As [`filter::tid`].
#[inline(always)]
pub(crate) unsafe fn comm(task: Task) -> [u8; COMM_LEN] {
    // SAFETY: the name is 16 bytes at an 8-aligned offset of the task.
    let words = unsafe {
        let at = task.add(config::off_task_comm() as usize).cast::<u64>();
        [at.read(), at.add(1).read()]
    };
    // SAFETY: both are 16 bytes of plain data.
    unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(words) }
}

/// Sends any record; says whether it found room.
#[inline(always)]
pub(crate) fn send<T>(record: &T) -> bool {
    send_with(record, BPF_RB_NO_WAKEUP)
}

#[inline(always)]
pub(crate) fn send_with<T>(record: &T, flags: u32) -> bool {
    // SAFETY: a live map, and `record` is that many readable bytes.
    unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            core::ptr::from_ref(record).cast_mut().cast(),
            size_of::<T>() as u64,
            flags.into(),
        ) == 0
    }
}

/// Whether and how a stack gets kernel frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelFrames {
    /// None.
    Without,
    /// Those of the program's own call chain, without its innermost frames, which are ours.
    OfTracepoint,
    /// Those that an interrupt interrupted.
    OfInterrupted,
}

/// Adds the kernel's own stack to what the walk left in `message`; returns the length of the stack
/// record, none if it cannot be right.
#[inline(always)]
fn complete(
    ctx: *mut c_void,
    message: *mut StackMessage,
    user_frames: u32,
    kernel: KernelFrames,
) -> Option<u32> {
    // Not a comparison: the verifier of Linux 6.1 forgets what it learned from one as soon as the
    // compiler takes the number from the stack again.
    let user_frames = user_frames & FRAMES_MASK as u32;
    // SAFETY: `message` is a live per-CPU value; the kernel frames go behind at most
    // FRAMES_MASK user frames, where MAX_KERNEL_FRAMES fit.
    unsafe {
        let frames = (&raw mut (*message).frames).cast::<u64>();
        let bytes = if kernel == KernelFrames::Without {
            0
        } else {
            bpf_get_stack(
                ctx,
                frames.add(user_frames as usize).cast(),
                (MAX_KERNEL_FRAMES * 8) as u32,
                if kernel == KernelFrames::OfTracepoint {
                    OWN_KERNEL_FRAMES
                } else {
                    0
                },
            )
        };
        let kernel_frames = if bytes > 0 {
            (bytes as u32 / 8) & 127
        } else {
            0
        };
        let kernel_frames = if kernel_frames as usize > MAX_KERNEL_FRAMES {
            MAX_KERNEL_FRAMES as u32
        } else {
            kernel_frames
        };
        let len = size_of::<StackRecord>() as u32 + (user_frames + kernel_frames) * 8;
        (*message).record.header.kind = KIND_STACK;
        (*message).record.header.len = len;
        (*message).record.user_frames = user_frames;
        (*message).record.kernel_frames = kernel_frames;
        if len as usize > size_of::<StackMessage>() - size_of::<SampleRecord>() {
            None
        } else {
            Some(len)
        }
    }
}

/// Sends the stack that the walk left in `message`.
#[inline(always)]
pub(crate) fn new_stack(
    ctx: *mut c_void,
    message: *mut StackMessage,
    user_frames: u32,
    kernel: KernelFrames,
) -> bool {
    let Some(len) = complete(ctx, message, user_frames, kernel) else {
        return false;
    };
    // SAFETY: `message` is a live per-CPU value, and `len` bytes of it begin at the record.
    unsafe {
        let flags = if (*message).record.walk == walk::UNMAPPED {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        };
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut (*message).record).cast(),
            len.into(),
            flags.into(),
        ) == 0
    }
}

/// Sends the sample in `message` with the stack that the walk left there.
#[inline(always)]
pub(crate) fn sample(ctx: *mut c_void, message: *mut StackMessage, user_frames: u32) -> bool {
    let Some(len) = complete(ctx, message, user_frames, KernelFrames::OfInterrupted) else {
        return false;
    };
    let len = len + size_of::<SampleRecord>() as u32;
    // SAFETY: `message` is a live per-CPU value, and that many bytes of it begin at its start.
    unsafe {
        (*message).sample.header = (*message).record.header;
        (*message).sample.header.kind = KIND_SAMPLE;
        (*message).sample.header.len = len;
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            message.cast(),
            len.into(),
            BPF_RB_NO_WAKEUP.into(),
        ) == 0
    }
}

/// A wait in the form in which it is sent: the stack has no room for it at a switch.
#[map]
static WAIT_MESSAGE: PerCpuArray<WaitRecord> = PerCpuArray::with_max_entries(1, 0);

/// Sends one wait, at a switch.
///
/// # Safety
/// `thread` is a live entry, and interrupts are off.
#[inline(never)]
pub(crate) unsafe fn wait(thread: *mut Thread, end: u64, woken: u64) {
    let Some(record) = WAIT_MESSAGE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: guaranteed by the caller; the message is this CPU's.
    unsafe {
        let seen = (*thread).wakeup == woken;
        (*record).header.kind = KIND_WAIT;
        (*record).header.len = size_of::<WaitRecord>() as u32;
        (*record).header.tgid = (*thread).tgid;
        (*record).header.tid = (*thread).tid;
        (*record).start = (*thread).since;
        (*record).wakeup = if seen || woken != end { woken } else { 0 };
        (*record).end = end;
        (*record).stack = (*thread).stack;
        (*record).task_id = (*thread).task_id;
        (*record).object = (*thread).object;
        (*record).waker_tgid = if seen { (*thread).waker_tgid } else { 0 };
        (*record).waker_tid = if seen {
            (*thread).waker_tid
        } else {
            WAKER_UNSEEN
        };
        (*record).waker_comm = (*thread).waker_comm;
        (*record).waker_stack = if seen { (*thread).waker_stack } else { 0 };
        (*record).running = (*thread).times.running;
        (*record).runnable = (*thread).times.runnable;
        (*record).blocked = (*thread).times.blocked;
        (*record).core = (*thread).core;
        (*record).cut = (*thread).cut;
        (*record).tick = (*thread).tick;
        // This one is counted by now.
        (*record).waits = ((*thread).times.waits as u32).wrapping_sub(1);
        (*record).queued = (*thread).queued.into();
        if !send(&*record) {
            count(Counter::RingFullWait);
        }
    }
}

/// The end of a thread at a switch, in the form in which it is sent: the stack has no room for it
/// there.
#[map]
static END_MESSAGE: PerCpuArray<ThreadEndRecord> = PerCpuArray::with_max_entries(1, 0);

/// Sends the end of a thread, at its last switch.
///
/// # Safety
/// As [`thread_end`], and interrupts are off.
#[inline(always)]
pub(crate) unsafe fn thread_end_at_switch(thread: *mut Thread, task: Task, now: u64) {
    // SAFETY: guaranteed by the caller; the message is this CPU's.
    unsafe {
        match END_MESSAGE.get_ptr_mut(0) {
            Some(record) => thread_end(thread, task, now, record),
            None => threads::leave(thread),
        }
    }
}

/// Sends the end of a thread that gives its id up at an exec.
///
/// # Safety
/// As [`thread_end`].
#[inline(always)]
pub(crate) unsafe fn thread_end_at_exec(thread: *mut Thread, task: Task, now: u64) {
    // On the stack: another exec may interrupt this one.
    let mut record = MaybeUninit::<ThreadEndRecord>::uninit();
    // SAFETY: guaranteed by the caller; every field is written before it is read.
    unsafe { thread_end(thread, task, now, record.as_mut_ptr()) };
}

/// Sends the times of a thread that ended, and gives its entry up. Where the record finds no room
/// the entry stays, for userspace to read.
///
/// # Safety
/// `thread` is a live entry, `task` the task or one of the same name.
#[inline(always)]
unsafe fn thread_end(thread: *mut Thread, task: Task, now: u64, record: *mut ThreadEndRecord) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        (*record).header.kind = KIND_THREAD_END;
        (*record).header.len = size_of::<ThreadEndRecord>() as u32;
        (*record).header.tgid = (*thread).tgid;
        (*record).header.tid = (*thread).tid;
        (*record).time = now;
        (*record).times = (*thread).times;
        (*record).comm = comm(task);
        (*record).cut = (*thread).cut;
        (*record).reserved = 0;
        (*record).at_cut = (*thread).at_cut;
        if send(&*record) {
            threads::release(thread);
        } else {
            threads::leave(thread);
            count(Counter::RingFullOther);
        }
    }
}

/// Sends the news of an exec.
#[inline(always)]
pub(crate) fn exec(tgid: u32, tid: u32, now: u64) {
    let record = ExecRecord {
        header: Header {
            kind: KIND_EXEC,
            len: size_of::<ExecRecord>() as u32,
            tgid,
            tid,
        },
        time: now,
    };
    if !send_with(&record, BPF_RB_FORCE_WAKEUP) {
        count(Counter::RingFullOther);
    }
}

/// Fills the fields of `message` that do not depend on the walk, for the current thread.
///
/// # Safety
/// `message` is a live per-CPU value.
#[inline(always)]
pub(crate) unsafe fn prepare(message: *mut StackMessage, time: u64) {
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: guaranteed by the caller.
    unsafe {
        let record = &raw mut (*message).record;
        (*record).header.tgid = (ids >> 32) as u32;
        (*record).header.tid = ids as u32;
        (*record).time = time;
        (*record).comm = bpf_get_current_comm().unwrap_or_default();
    }
}
