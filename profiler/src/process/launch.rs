//! Starting the target ourselves, so that not one of its instructions goes unseen.
//!
//! The child asks to be traced and executes the command. The kernel stops it right after the
//! exec, at the first instruction of the dynamic loader: the executable is mapped, its libraries
//! are not, and without them its first stacks could not be walked. So we let it go on to the
//! program's entry point (module `entry`): only the loader has run, and what the libraries bring
//! to initialize themselves. There we attach; then we let go of the child, and nobody traces it
//! any more, nor any program that it executes later.
//!
//! Of a script (`#!`) the interpreter is what is held and recorded. A program with the set-user-ID
//! bit or file capabilities runs without the privileges that they give, as always under
//! ptrace(2), unless whoever it is started as could trace every process (`CAP_SYS_PTRACE`): then
//! it has them. Started by hand and recorded with `-p` it has them in any case.

#[cfg(target_arch = "x86_64")]
mod entry;
mod tracee;

use self::tracee::Tracee;
use super::errors::LaunchError;
use super::proc_dir::is_gone;
use super::user::Invoker;
use crate::units::Pid;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What the child was doing when it failed before its exec; one byte through a pipe.
const STAGE_USER: u8 = b'u';
const STAGE_TRACE: u8 = b't';

/// A command that was started and is held before its first instruction, until
/// [`Launched::release`]. Dropped before that, it is killed.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    pidfd: OwnedFd,
    /// Tells the keeper to let go; dropped unused, to kill.
    go: Option<mpsc::SyncSender<()>>,
    /// The thread that is the child's parent: the kernel lets no other thread trace it.
    keeper: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Launched {
    /// Starts `command` with this process's environment, directory and standard streams, as
    /// `user` where one is given.
    ///
    /// # Errors
    /// Where the command cannot be executed.
    pub fn spawn(command: &[OsString], user: Option<&Invoker>) -> Result<Launched, LaunchError> {
        Launched::spawn_with(command, user, Streams::Inherited)
    }

    /// As [`Launched::spawn`], with these standard streams.
    ///
    /// # Errors
    /// As [`Launched::spawn`].
    pub fn spawn_with(
        command: &[OsString],
        user: Option<&Invoker>,
        streams: Streams,
    ) -> Result<Launched, LaunchError> {
        let [program, args @ ..] = command else {
            return Err(LaunchError::NoCommand);
        };
        let mut prepared = Command::new(program);
        prepared.args(args);
        if streams == Streams::Null {
            let (input, output, error) = (Stdio::null(), Stdio::null(), Stdio::null());
            prepared.stdin(input).stdout(output).stderr(error);
        }
        let (started, start) = mpsc::sync_channel(1);
        let (go, gone) = mpsc::sync_channel(1);
        let user = user.cloned();
        let keeper = std::thread::Builder::new()
            .name("holdup-launch".into())
            .spawn(move || keep(prepared, user, &started, &gone))
            .map_err(LaunchError::Thread)?;
        match start.recv() {
            Ok(Ok((pid, pidfd))) => Ok(Launched {
                pid,
                pidfd,
                go: Some(go),
                keeper: Some(keeper),
            }),
            Ok(Err(failure)) => Err(failure.of(program)),
            Err(mpsc::RecvError) => Err(LaunchError::ThreadEnded),
        }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the command run. Again: nothing.
    pub fn release(&mut self) {
        if let Some(go) = self.go.take() {
            // The keeper takes exactly one message, and waits for it.
            let _ = go.send(());
        }
    }

    /// Asks the command to end (`SIGTERM`). No error where it has ended already.
    ///
    /// # Errors
    /// Those of the system.
    pub fn terminate(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the command has ended and [`Launched::wait`] returns at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the command, letting it run if it does not yet.
    ///
    /// # Errors
    /// Those of the system.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.release();
        match self.keeper.take().map(JoinHandle::join) {
            Some(Ok(status)) => status,
            _ => Err(io::Error::other("the launching thread failed")),
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Closing the channel makes the keeper kill and reap a child still held. One that runs
        // is left alone, and its keeper with it.
        if self.go.take().is_some()
            && let Some(keeper) = self.keeper.take()
        {
            let _ = keeper.join();
        }
    }
}

/// What a command reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// What this process does.
    Inherited,
    /// Nothing: the terminal is needed for something else.
    Null,
}

enum Failure {
    Stage(u8, io::Error),
    Spawn(io::Error),
    Hold(io::Error),
    Ended(ExitStatus),
}

impl Failure {
    fn of(self, program: &OsStr) -> LaunchError {
        let program = program.to_string_lossy().into_owned();
        match self {
            Failure::Stage(STAGE_USER, source) => LaunchError::User { program, source },
            Failure::Stage(_, source) => LaunchError::Trace { program, source },
            Failure::Spawn(source) => LaunchError::Run { program, source },
            Failure::Hold(source) => LaunchError::Hold { program, source },
            // The loader says on standard error which library it lacks.
            Failure::Ended(status) => LaunchError::Ended { program, status },
        }
    }
}

type Started = mpsc::SyncSender<std::result::Result<(Pid, OwnedFd), Failure>>;

/// The keeper's life: it starts the child, holds it, lets it go and reaps it.
fn keep(
    command: Command,
    user: Option<Invoker>,
    started: &Started,
    go: &mpsc::Receiver<()>,
) -> io::Result<ExitStatus> {
    let mut child = match start(command, user) {
        Ok(child) => child,
        Err(failure) => return report(started, failure),
    };
    let pid = rustix::process::Pid::from_child(&child);
    let tracee = Tracee::new(pid);
    let held = hold(&tracee).and_then(|()| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    match held {
        Ok(pidfd) => {
            if started.send(Ok((Pid(child.id()), pidfd))).is_err() || go.recv().is_err() {
                child.kill()?;
                return child.wait();
            }
        }
        Err(error) => {
            let _ = child.kill();
            let failure = match child.wait() {
                Ok(status) if is_gone(&error) => Failure::Ended(status),
                _ => Failure::Hold(error),
            };
            return report(started, failure);
        }
    }
    if tracee.detach(0).is_err() {
        // Killed meanwhile: the wait says so. Anything else must not leave it stopped.
        let _ = child.kill();
    }
    child.wait()
}

fn report(started: &Started, failure: Failure) -> io::Result<ExitStatus> {
    // The other side waits for exactly this.
    let _ = started.send(Err(failure));
    Err(io::Error::other("the command was not started"))
}

fn start(mut command: Command, user: Option<Invoker>) -> std::result::Result<Child, Failure> {
    let (mut stages, stage) = io::pipe().map_err(Failure::Hold)?;
    // SAFETY: between fork and exec only system calls are made, nothing is allocated: the
    // writer, the user and its groups are there already.
    unsafe {
        command.pre_exec(move || prepare_child(&stage, user.as_ref()));
    }
    let spawned = command.spawn();
    // It owns the closure, and that our end of the pipe: without it the read below ends.
    drop(command);
    spawned.map_err(|error| {
        let mut byte = [0];
        match stages.read(&mut byte) {
            Ok(1) => Failure::Stage(u8::from_ne_bytes(byte), error),
            _ => Failure::Spawn(error),
        }
    })
}

/// Runs in the child between fork and exec.
fn prepare_child(mut stage: &PipeWriter, user: Option<&Invoker>) -> io::Result<()> {
    if let Some(user) = user {
        become_user(user).inspect_err(|_| {
            let _ = stage.write(&[STAGE_USER]);
        })?;
    }
    // A signal that came now would stop the child before its exec, for which our parent waits.
    // Only the trap that reports the exec must pass; the parent clears the mask afterwards.
    // SAFETY: `sigfillset` initializes the set, and all pointers are to locals.
    let blocked = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigdelset(&raw mut set, libc::SIGTRAP);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    // SAFETY: the request takes no pointers.
    if blocked != 0 || unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) } != 0 {
        let error = io::Error::last_os_error();
        let _ = stage.write(&[STAGE_TRACE]);
        return Err(error);
    }
    Ok(())
}

fn become_user(user: &Invoker) -> io::Result<()> {
    // The groups first: afterwards we may not. A forked child has one thread, so that the
    // calls for one thread are enough.
    rustix::thread::set_thread_groups(&user.groups)?;
    rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid)?;
    rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid)?;
    Ok(())
}

/// Waits for the stop after the exec, and runs the child to its entry point.
///
/// # Errors
/// `ESRCH` where the child has ended before.
fn hold(tracee: &Tracee) -> io::Result<()> {
    tracee.next_stop()?.ok_or(Errno::SRCH)?;
    // Should we die before the release, nobody else would ever let it run.
    tracee.set_options(
        libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACEFORK,
    )?;
    tracee.clear_signal_mask()?;
    #[cfg(target_arch = "x86_64")]
    entry::run_to_entry(tracee)?;
    Ok(())
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
