//! x86-64: the registers with which a thread entered the kernel, and where its own variables are.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use core::ffi::c_void;

use crate::config;
use crate::filter::Task;

/// `__USER_CS`, the code segment of 64-bit programs (`arch/x86/include/asm/segment.h`).
const USER_CS: u64 = 0x33;

/// Those that are of use.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
    /// The system call's number; -1 outside any.
    pub(crate) syscall: i64,
    pub(crate) args: [u64; 6],
}

impl Registers {
    /// Whether the kernel was entered by a system call, and not by an interrupt or a fault.
    #[inline(always)]
    pub(crate) const fn in_call(&self) -> bool {
        self.syscall != OUTSIDE
    }
}

/// What an entry that is no system call leaves where the number would be
/// (`arch/x86/entry/entry_64.S`).
const OUTSIDE: i64 = -1;

const NONE: Registers = Registers {
    ip: 0,
    sp: 0,
    bp: 0,
    syscall: OUTSIDE,
    args: [0; 6],
};

/// Takes them apart. Inlined: what `regs` points to is, to the verifier, either the kernel's or
/// on our stack.
///
/// # Safety
/// `regs` can be read.
#[inline(always)]
pub(crate) unsafe fn parts(regs: *const pt_regs) -> Registers {
    // SAFETY: guaranteed by the caller.
    unsafe {
        Registers {
            ip: (*regs).rip,
            sp: (*regs).rsp,
            bp: (*regs).rbp,
            syscall: (*regs).orig_rax as i64,
            args: [
                (*regs).rdi,
                (*regs).rsi,
                (*regs).rdx,
                (*regs).r10,
                (*regs).r8,
                (*regs).r9,
            ],
        }
    }
}

/// Copies of registers of one CPU, in a map since the stack has no room for them: one for programs
/// that run with interrupts off, and so one after another, one for the task iterator, and one for
/// the sampling clock, whose interrupt may interrupt the latter.
pub(crate) const COPY_OF_TRACEPOINT: u32 = 0;
pub(crate) const COPY_OF_ITERATOR: u32 = 1;
pub(crate) const COPY_OF_SAMPLE: u32 = 2;
pub(crate) const COPIES: u32 = 3;

/// Registers copied from a kernel stack, where there is no helper that finds them.
#[map]
static REGISTERS: PerCpuArray<pt_regs> = PerCpuArray::with_max_entries(COPIES, 0);

/// The saved registers of a task: an instruction pointer of 0 where they cannot be had.
///
/// # Safety
/// `task` is a task pointer that the verifier knows as such.
#[inline(always)]
pub(crate) unsafe fn of_task(task: Task, copy: u32) -> Registers {
    if config::has_task_pt_regs() != 0 {
        // SAFETY: guaranteed by the caller; the verifier knows what the helper returns.
        return unsafe { parts(bpf_task_pt_regs(task.cast_mut().cast()) as *const pt_regs) };
    }
    // SAFETY: guaranteed by the caller, a field at an offset from BTF.
    unsafe {
        on_stack(
            *task.add(config::off_task_stack() as usize).cast::<u64>(),
            copy,
        )
    }
}

/// The saved registers of the current task: those of its entry into the kernel, by a system call
/// or by the interrupt that runs.
#[inline(always)]
pub(crate) fn of_current(copy: u32) -> Registers {
    if config::has_current_task_btf() != 0 {
        // SAFETY: the verifier knows what the helper returns.
        return unsafe { of_task(bpf_get_current_task_btf().cast_const().cast(), copy) };
    }
    on_stack(of_current_task(config::off_task_stack()), copy)
}

/// The address by which a task finds its thread-local variables: its FS base.
///
/// # Safety
/// `task` is a task pointer that the verifier knows as such.
#[inline(always)]
pub(crate) unsafe fn thread_pointer(task: Task) -> u64 {
    // SAFETY: guaranteed by the caller, a field at an offset from BTF.
    unsafe { *task.add(config::off_task_fsbase() as usize).cast::<u64>() }
}

/// That of the current task.
#[inline(always)]
pub(crate) fn thread_pointer_of_current() -> u64 {
    of_current_task(config::off_task_fsbase())
}

/// The word at an offset of the current task; 0 where it cannot be read.
#[inline(always)]
pub(crate) fn of_current_task(offset: u32) -> u64 {
    let mut word = 0u64;
    // SAFETY: eight bytes go into `word`, which stays 0 where the helper fails.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut word).cast(),
            8,
            bpf_get_current_task().wrapping_add(offset.into()) as *const c_void,
        );
    }
    word
}

/// The registers at the top of the kernel stack that begins at `stack`: `task_pt_regs` of
/// `arch/x86/include/asm/processor.h`. The padding that FRED puts above them
/// (`TOP_OF_KERNEL_STACK_PADDING`) came after the helper that spares us this. A stack of another
/// size than told would show by its code segment.
#[inline(always)]
pub(crate) fn on_stack(stack: u64, copy: u32) -> Registers {
    let at = stack
        .wrapping_add(config::kernel_stack().into())
        .wrapping_sub(size_of::<pt_regs>() as u64);
    let Some(regs) = REGISTERS.get_ptr_mut(copy) else {
        return NONE;
    };
    // SAFETY: that many bytes go into the copy, which is not read where the helper fails.
    unsafe {
        let failed = bpf_probe_read_kernel(
            regs.cast(),
            size_of::<pt_regs>() as u32,
            at as *const c_void,
        );
        if failed != 0 {
            return NONE;
        }
        if (*regs).cs != USER_CS {
            return NONE;
        }
        parts(regs)
    }
}
