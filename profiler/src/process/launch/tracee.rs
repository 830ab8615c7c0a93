//! A process that this thread traces; see ptrace(2).

use crate::units::{Addr, Pid};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;

#[cfg(target_env = "gnu")]
type Request = std::ffi::c_uint;
#[cfg(not(target_env = "gnu"))]
type Request = c_int;

/// A process that the current thread traces. Every request fails with `ESRCH` where it is not
/// stopped, above all where it was killed meanwhile.
#[derive(Debug)]
pub(super) struct Tracee {
    pid: rustix::process::Pid,
    /// The kernel takes requests from the tracing thread alone: neither `Send` nor `Sync`.
    thread: PhantomData<*const ()>,
}

/// Why a tracee has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The signal is about to be delivered; the kernel delivers what [`Tracee::resume`] says.
    Signal(c_int),
    /// It takes part in a stop of the whole process, by `SIGSTOP` or its like.
    Group,
    /// It executes another program and has not run any of it.
    Exec,
    /// It forked; the child is traced too.
    Fork,
}

impl Tracee {
    /// `pid` must be a child that asked this thread to trace it, or be forked by such a one.
    pub(super) fn new(pid: rustix::process::Pid) -> Tracee {
        Tracee {
            pid,
            thread: PhantomData,
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid(self.pid.as_raw_pid().unsigned_abs())
    }

    /// Waits for the next stop; none where the process has ended. Its end is left for whoever
    /// reaps it.
    pub(super) fn next_stop(&self) -> io::Result<Option<Stop>> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = loop {
            match waitid(WaitId::Pid(self.pid), options) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let Some(code) = status.trapping_signal() else {
            return Ok(None);
        };
        let (signal, event) = (code & 0xff, code >> 8);
        Ok(Some(match event {
            libc::PTRACE_EVENT_EXEC => Stop::Exec,
            libc::PTRACE_EVENT_FORK => Stop::Fork,
            _ if self.stops_with_group(signal)? => Stop::Group,
            _ => Stop::Signal(signal),
        }))
    }

    /// Tells a stop of the process from the signal that is about to stop it.
    fn stops_with_group(&self, signal: c_int) -> io::Result<bool> {
        if !matches!(
            signal,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
        ) {
            return Ok(false);
        }
        // SAFETY: all zeros are a value of this plain C structure.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `siginfo_t` at the pointer.
        let told = unsafe { self.request(libc::PTRACE_GETSIGINFO, 0, (&raw mut info).cast()) };
        match told {
            Ok(()) => Ok(false),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sets `PTRACE_O_*` flags.
    pub(super) fn set_options(&self, flags: c_int) -> io::Result<()> {
        // SAFETY: the request takes flags, no pointer.
        unsafe { self.request(libc::PTRACE_SETOPTIONS, 0, number(flags)) }
    }

    /// Lets all signals through.
    pub(super) fn clear_signal_mask(&self) -> io::Result<()> {
        let mut empty = 0u64;
        // SAFETY: the kernel reads as many bytes at the pointer as it is told.
        unsafe {
            self.request(
                libc::PTRACE_SETSIGMASK,
                size_of_val(&empty),
                (&raw mut empty).cast(),
            )
        }
    }

    /// Lets it go on, with `signal` delivered; 0 for none.
    pub(super) fn resume(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: the request takes a signal's number, no pointer.
        unsafe { self.request(libc::PTRACE_CONT, 0, number(signal)) }
    }

    /// Lets it go for good, with `signal` delivered; 0 for none. The kernel then puts a stop of
    /// the whole process into effect through which we had [resumed](Tracee::resume) it.
    pub(super) fn detach(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: the request takes a signal's number, no pointer.
        unsafe { self.request(libc::PTRACE_DETACH, 0, number(signal)) }
    }

    /// The child whose birth [`Stop::Fork`] reports.
    pub(super) fn forked(&self) -> io::Result<Option<Tracee>> {
        let mut pid: libc::c_ulong = 0;
        // SAFETY: the kernel writes one `unsigned long` at the pointer.
        unsafe { self.request(libc::PTRACE_GETEVENTMSG, 0, (&raw mut pid).cast()) }?;
        let pid = i32::try_from(pid).ok();
        Ok(pid
            .and_then(rustix::process::Pid::from_raw)
            .map(Tracee::new))
    }

    /// Takes note of the end of a process that is not our child, so that its parent can.
    pub(super) fn pass_on_end(&self) -> io::Result<()> {
        waitpid(Some(self.pid), WaitOptions::empty())?;
        Ok(())
    }

    /// Where it goes on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn instruction_pointer(&self) -> io::Result<Addr> {
        Ok(Addr(self.registers()?.rip))
    }

    /// Makes it go on at `address`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn set_instruction_pointer(&self, address: Addr) -> io::Result<()> {
        let mut registers = self.registers()?;
        registers.rip = address.0;
        // SAFETY: the kernel reads one `user_regs_struct` at the pointer.
        unsafe { self.request(libc::PTRACE_SETREGS, 0, (&raw mut registers).cast()) }
    }

    #[cfg(target_arch = "x86_64")]
    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: all zeros are a value of this plain C structure.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `user_regs_struct` at the pointer.
        unsafe { self.request(libc::PTRACE_GETREGS, 0, (&raw mut registers).cast()) }?;
        Ok(registers)
    }

    /// # Safety
    /// `addr` and `data` must be what ptrace(2) says of the request; where that is a pointer,
    /// one that is valid for what the kernel reads or writes there.
    unsafe fn request(&self, request: Request, addr: usize, data: *mut c_void) -> io::Result<()> {
        // SAFETY: the caller's promise. The C library declares the function variadic and passes
        // on a process id and two words.
        let done = unsafe { libc::ptrace(request, self.pid.as_raw_pid(), addr, data) };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A plain number in place of a pointer.
fn number(of: c_int) -> *mut c_void {
    std::ptr::without_provenance_mut(of.unsigned_abs() as usize)
}
