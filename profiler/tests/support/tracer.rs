//! A debugger that takes a process and lets it go again, and does nothing else.

use std::fs;
use std::io;
use std::ptr::null_mut;

/// Holds all threads of a process, until it is dropped. Only the thread that attached it may detach it.
pub(crate) struct Tracer {
    tids: Vec<libc::pid_t>,
}

impl Tracer {
    /// Attaches to each thread of a process, and waits until it is held.
    pub(crate) fn attach(pid: u32) -> Result<Tracer, String> {
        let mut tracer = Tracer { tids: Vec::new() };
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.map_err(|error| format!("the threads of {pid}: {error}"))? {
            let name = task.map_err(|error| error.to_string())?.file_name();
            let tid = name.to_str().and_then(|name| name.parse().ok());
            let tid = tid.ok_or_else(|| format!("{} is no thread", name.display()))?;
            tracer
                .take(tid)
                .map_err(|error| format!("thread {tid}: {error}"))?;
        }
        Ok(tracer)
    }

    fn take(&mut self, tid: libc::pid_t) -> io::Result<()> {
        trace(libc::PTRACE_SEIZE, tid)?;
        self.tids.push(tid);
        trace(libc::PTRACE_INTERRUPT, tid)?;
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        match unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) } {
            -1 => Err(io::Error::last_os_error()),
            _ if libc::WIFSTOPPED(status) => Ok(()),
            _ => Err(io::Error::other(format!("it ended ({status:#x})"))),
        }
    }

    /// Lets all threads go on.
    pub(crate) fn detach(mut self) -> Result<(), String> {
        for tid in std::mem::take(&mut self.tids) {
            trace(libc::PTRACE_DETACH, tid).map_err(|error| format!("thread {tid}: {error}"))?;
        }
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        for tid in &self.tids {
            // What has ended has nothing to be detached from.
            let _ = trace(libc::PTRACE_DETACH, *tid);
        }
    }
}

/// A request that takes neither an address nor data.
fn trace(request: libc::c_uint, tid: libc::pid_t) -> io::Result<()> {
    // SAFETY: these requests touch no memory of ours.
    match unsafe {
        libc::ptrace(
            request,
            tid,
            null_mut::<libc::c_void>(),
            null_mut::<libc::c_void>(),
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
