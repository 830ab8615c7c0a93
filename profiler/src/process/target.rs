//! One process, pinned.

use super::comm::parse_comm;
use super::deadline::{self, Reader, Server};
use super::errors::{Barrier, TargetError};
use super::exit;
use super::proc_dir::{self, ProcDir, is_denied, is_gone};
use super::stat::{self, PF_KTHREAD};
use crate::units::{Addr, Pid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;

/// `EM_X86_64` of the ELF specification.
const EM_X86_64: u16 = 62;

/// The process that is to be recorded. It is held by a pidfd and by its open `/proc` directory,
/// so that a number given out again is never taken for it.
#[derive(Debug)]
pub struct Target {
    pidfd: OwnedFd,
    dir: ProcDir,
    comm: String,
    cmdline: Vec<Vec<u8>>,
    exe: Vec<u8>,
    exe_deleted: bool,
    start_ticks: u64,
    uid: u32,
}

impl Target {
    /// Pins the process `pid` and tests that it can be recorded.
    ///
    /// # Errors
    /// Where there is no such process, it is a kernel thread, a thread's id or a zombie, no
    /// x86_64 program, or not ours to look into.
    pub fn open(pid: Pid) -> Result<Target, TargetError> {
        let pidfd = open_pidfd(pid)?;
        let dir = ProcDir::open(pid).map_err(|error| unreadable(pid, None, error))?;
        Target::describe(pidfd, dir)
    }

    /// Reads what there is to know of a process.
    fn describe(pidfd: OwnedFd, dir: ProcDir) -> Result<Target, TargetError> {
        let pid = dir.pid();
        let cannot = |error: io::Error| unreadable(pid, None, error);
        // The directory was opened by number: it is the pinned process's if that still lives.
        let ended = has_ended(&pidfd).map_err(|source| TargetError::Watch { pid, source })?;
        let stat = dir.read("stat").map_err(cannot)?;
        let stat = stat::parse_stat(&stat).ok_or(TargetError::Malformed(pid))?;
        let comm = parse_comm(&dir.read("comm").map_err(cannot)?);
        if stat.flags & PF_KTHREAD != 0 {
            return Err(TargetError::KernelThread { pid, comm });
        }
        if ended {
            return Err(TargetError::Zombie { pid, comm });
        }
        // Of a process whose main thread has ended the kernel shows memory and files by the others only.
        let dir = match stat.state {
            b'Z' => dir
                .by_living_thread()
                .map_err(|_| TargetError::MainThreadEnded {
                    pid,
                    comm: comm.clone(),
                })?,
            _ => dir,
        };
        let status = dir.read("status").map_err(cannot)?;
        let uid = proc_dir::status_number(&status, "Uid").unwrap_or(u32::MAX);
        let exe_error = |error: io::Error| unreadable(pid, Some(uid), error);
        let exe_file = dir.open_exe().map_err(exe_error)?;
        check_elf(&exe_file, &comm)?;
        let exe_link = dir.read_link("exe").map_err(exe_error)?;
        let unlinked = dir.exe_has_name() == Some(false);
        let (exe, exe_deleted) = match exe_link.strip_suffix(b" (deleted)") {
            // A file may really be called so: then it still has a name.
            Some(path) if unlinked => (path.to_vec(), true),
            _ => (exe_link, false),
        };
        let cmdline = parse_cmdline(&dir.cmdline().map_err(cannot)?);
        // `maps` and `mem` ask for more than `exe` does: better now than in the middle.
        dir.maps().map_err(exe_error)?;
        Ok(Target {
            pidfd,
            dir,
            comm,
            cmdline,
            exe,
            exe_deleted,
            start_ticks: stat.start_ticks,
            uid,
        })
    }

    /// Whether a process of this id runs: not ended, not yet to be waited for by its parent.
    #[must_use]
    pub fn lives(pid: Pid) -> bool {
        open_pidfd(pid).is_ok_and(|pidfd| !has_ended(&pidfd).unwrap_or(false))
    }

    /// The same process, with the program that it executes by now.
    ///
    /// # Errors
    /// As [`Target::open`].
    pub fn reopen(&self) -> Result<Target, TargetError> {
        let pid = self.pid();
        let cannot = |source: io::Error| TargetError::Unreadable { pid, source };
        let pidfd = self.pidfd.try_clone().map_err(cannot)?;
        let mut target = Target::describe(pidfd, self.dir.try_clone().map_err(cannot)?)?;
        // A directory of a thread's tells when that began.
        target.start_ticks = self.start_ticks;
        Ok(target)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.dir.pid()
    }

    /// The open `/proc/PID`.
    #[must_use]
    pub fn proc_dir(&self) -> &ProcDir {
        &self.dir
    }

    /// Name of the main thread when the process was pinned, raw.
    #[must_use]
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// Command line, one entry an argument, raw bytes.
    #[must_use]
    pub fn cmdline(&self) -> &[Vec<u8>] {
        &self.cmdline
    }

    /// Command line, with what is no UTF-8 replaced.
    #[must_use]
    pub fn cmdline_text(&self) -> Vec<String> {
        self.cmdline
            .iter()
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect()
    }

    /// Path of the executable as the process's own mount namespace names it, without the
    /// kernel's `(deleted)`.
    #[must_use]
    pub fn exe(&self) -> &[u8] {
        &self.exe
    }

    /// File name of the executable, with what is no UTF-8 replaced.
    #[must_use]
    pub fn exe_name(&self) -> String {
        let name = self
            .exe
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Whether the executable's file has no name any more: replaced by an upgrade, say.
    #[must_use]
    pub fn exe_deleted(&self) -> bool {
        self.exe_deleted
    }

    /// Opens the file the process executes, also where its path now names another or none.
    ///
    /// # Errors
    /// Those of the system; `TimedOut` where whoever serves it does not answer.
    pub fn open_exe(&self) -> io::Result<File> {
        self.dir.open_exe()
    }

    /// Opens `/tmp/perf-PID.map`, in which the process's compilers name the code that they make at run
    /// time: as the process sees its files, and by the id by which it knows itself.
    ///
    /// # Errors
    /// Those of opening; `InvalidData` where it is no plain file, or another user's.
    pub fn open_perf_map(&self) -> io::Result<File> {
        let status = self.dir.read("status")?;
        let own = proc_dir::own_pid(&status).unwrap_or(self.pid().0);
        let root = self.dir.try_clone()?;
        let open = move || -> io::Result<File> {
            let root = root.open_with("root", OFlags::PATH | OFlags::DIRECTORY)?;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let path = format!("tmp/perf-{own}.map");
            Ok(openat2(&root, path, flags, Mode::empty(), within)?.into())
        };
        let uid = self.uid;
        let checked = move || {
            let file = open()?;
            let stat = rustix::fs::fstat(&file)?;
            let plain = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
            if plain && (stat.st_uid == uid || stat.st_uid == 0) {
                Ok(file)
            } else {
                Err(io::Error::from(io::ErrorKind::InvalidData))
            }
        };
        deadline::within(Server::Names(self.pid()), checked)?
    }

    /// Start of the process in clock ticks since boot.
    #[must_use]
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// Real user id when the process was pinned; `u32::MAX` where `/proc` did not say.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        // A poll that fails tells nothing; the caller asks again.
        has_ended(&self.pidfd).unwrap_or(false)
    }

    /// How the process ended; none where it lives, or where that is not known.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        // The thread that began it may be gone while others live.
        self.ended().then(|| exit::status(&self.pidfd, &self.dir))?
    }

    /// Waits for the end of the process. Needs a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// Where the pidfd cannot be watched.
    pub async fn until_ended(&self) -> io::Result<()> {
        use tokio::io::{Interest, unix::AsyncFd};
        // SAFETY: `self` keeps the pidfd open for as long as the borrow in `watched` lives, and
        // a borrowed descriptor never changes its number.
        let watched =
            unsafe { AsyncFd::register_with_interest(self.pidfd.as_fd(), Interest::READABLE) }
                .map_err(io::Error::from)?;
        let _ready = watched.readable().await?;
        Ok(())
    }

    /// Reads memory of the process.
    ///
    /// # Errors
    /// `EIO` where nothing is mapped there; `UnexpectedEof` where less is, or the process is gone; `TimedOut`
    /// where whoever serves it does not answer.
    pub fn read_memory(&self, at: Addr, into: &mut [u8]) -> io::Result<()> {
        let memory = self.dir.open_file("mem")?;
        match deadline::read(self.pid(), &memory, into, at.0)? {
            read if read == into.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl AsFd for Target {
    /// The pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn open_pidfd(pid: Pid) -> Result<OwnedFd, TargetError> {
    let raw = i32::try_from(pid.0)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let raw = raw.ok_or(TargetError::Gone(pid))?;
    pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => TargetError::Gone(pid),
        Errno::NOSYS => TargetError::NoPidfd,
        // EINVAL, since Linux 6.9 ENOENT: the number is a thread's that leads no process.
        Errno::INVAL | Errno::NOENT => thread_id(pid),
        _ => TargetError::Pin {
            pid,
            source: errno.into(),
        },
    })
}

fn thread_id(tid: Pid) -> TargetError {
    let owner = ProcDir::open(tid)
        .and_then(|dir| dir.read("status"))
        .ok()
        .and_then(|status| proc_dir::status_number(&status, "Tgid"));
    match owner {
        Some(owner) => TargetError::Thread {
            tid,
            owner: Pid(owner),
        },
        None => TargetError::Gone(tid),
    }
}

fn unreadable(pid: Pid, uid: Option<u32>, source: io::Error) -> TargetError {
    if is_gone(&source) {
        return TargetError::Gone(pid);
    }
    if !is_denied(&source) {
        return TargetError::Unreadable { pid, source };
    }
    let held = rustix::thread::capabilities(None).map(|held| held.effective);
    let why = match held {
        Ok(held) if !held.contains(CapabilitySet::SYS_PTRACE) => Barrier::NoPtrace,
        Ok(held) => {
            let more = permitted(pid).difference(held);
            if more.is_empty() {
                Barrier::Protected
            } else {
                Barrier::Stronger(more)
            }
        }
        Err(_) => Barrier::Protected,
    };
    TargetError::Denied {
        pid,
        uid,
        why,
        source,
    }
}

/// What a process may do, which everybody may read; nothing where it is not known.
fn permitted(pid: Pid) -> CapabilitySet {
    let status = ProcDir::open(pid).and_then(|dir| dir.read("status"));
    let bits = status.ok().and_then(|status| {
        let status = String::from_utf8_lossy(&status).into_owned();
        let mut lines = status.lines();
        let bits = lines.find_map(|line| line.strip_prefix("CapPrm:"))?;
        u64::from_str_radix(bits.trim(), 16).ok()
    });
    CapabilitySet::from_bits_truncate(bits.unwrap_or_default())
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(poll(&mut fds, Some(&now))? > 0)
}

/// Tests that the stacks of this program are those that we can walk.
fn check_elf(exe: &File, comm: &str) -> Result<(), TargetError> {
    let comm = comm.to_owned();
    let mut head = [0u8; 20];
    let read = Reader::of(exe).and_then(|exe| exe.read_exact_at(&mut head, 0));
    if let Err(source) = read {
        return Err(TargetError::Executable { comm, source });
    }
    let [0x7f, b'E', b'L', b'F', class, data, ..] = head else {
        return Err(TargetError::NotElf { comm });
    };
    let [.., machine_low, machine_high] = head;
    let machine = u16::from_le_bytes([machine_low, machine_high]);
    match (class, data) {
        (2, 1) if machine == EM_X86_64 => Ok(()),
        (1, _) => Err(TargetError::Is32Bit { comm }),
        _ => Err(TargetError::NotX86 { comm, machine }),
    }
}

pub(super) fn parse_cmdline(content: &[u8]) -> Vec<Vec<u8>> {
    let content = content.strip_suffix(b"\0").unwrap_or(content);
    if content.is_empty() {
        return Vec::new();
    }
    content
        .split(|&byte| byte == 0)
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
