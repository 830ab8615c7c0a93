//! `/proc/PID`, held open.

use super::deadline::{self, Server};
use super::device::Device;
use super::stat::parse_stat;
use crate::units::Pid;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An open `/proc/PID`. The kernel ties the directory to the process and not to the number:
/// after the process is gone every access fails, even if the number was given out again.
#[derive(Debug)]
pub struct ProcDir {
    pid: Pid,
    dir: OwnedFd,
}

impl ProcDir {
    /// Opens `/proc/PID`. Works for thread ids too, though `/proc` does not list them.
    ///
    /// # Errors
    /// `ENOENT` where there is no such process (or `/proc` hides it).
    pub fn open(pid: Pid) -> io::Result<ProcDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(ProcDir { pid, dir })
    }

    /// Another handle of the same directory.
    ///
    /// # Errors
    /// Where descriptors are used up.
    pub(super) fn try_clone(&self) -> io::Result<ProcDir> {
        Ok(ProcDir {
            pid: self.pid,
            dir: self.dir.try_clone()?,
        })
    }

    /// The same process by one of its threads that lives: where the main thread has ended, the kernel shows
    /// nothing of the process's memory and files by its id.
    ///
    /// # Errors
    /// `NotFound` where none lives, or none is to be seen.
    pub(super) fn by_living_thread(&self) -> io::Result<ProcDir> {
        for tid in self.list_numbers("task")? {
            let Ok(ProcDir { dir, .. }) = ProcDir::open(Pid(tid)) else {
                continue;
            };
            let thread = ProcDir { pid: self.pid, dir };
            let status = thread.read("status").unwrap_or_default();
            let is_its = status_number(&status, "Tgid") == Some(self.pid.0);
            let stat = thread.read("stat").unwrap_or_default();
            let lives = parse_stat(&stat).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'));
            if is_its && lives {
                return Ok(thread);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Reads a whole file below the directory.
    ///
    /// # Errors
    /// Those of the system: `ESRCH` or `ENOENT` where the process is gone, `EACCES` or `EPERM`
    /// where it belongs to another user.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open_file(name)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Opens a file below the directory for reading; follows the kernel's own links.
    ///
    /// # Errors
    /// As [`ProcDir::read`].
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDONLY)
    }

    /// The arguments, each with a zero behind it. They stand in the process's memory, which it may
    /// serve itself.
    ///
    /// # Errors
    /// As [`ProcDir::read`]; `TimedOut` where whoever serves the memory does not answer.
    pub fn cmdline(&self) -> io::Result<Vec<u8>> {
        deadline::read_to_end(self.pid, &self.open_file("cmdline")?)
    }

    /// The text of `maps`. Reading it takes a lock that the process may hold for as long as it
    /// likes: while somebody waits for memory that it serves.
    ///
    /// # Errors
    /// As [`ProcDir::read`]; `TimedOut` where the lock is held.
    pub fn maps(&self) -> io::Result<Vec<u8>> {
        deadline::read_to_end(self.pid, &self.open_file("maps")?)
    }

    /// Opens the file that the process executes. The process may serve that, too.
    ///
    /// # Errors
    /// As [`ProcDir::read`]; `TimedOut` where whoever serves the file does not answer.
    pub fn open_exe(&self) -> io::Result<File> {
        let flags = AtFlags::STATX_DONT_SYNC;
        let stat = statx(&self.dir, "exe", flags, StatxFlags::BASIC_STATS)?;
        let device = Device {
            major: stat.stx_dev_major,
            minor: stat.stx_dev_minor,
        };
        // A disk of the machine's has a number; nobody but the kernel serves it.
        if device.major != 0 {
            return self.open_file("exe");
        }
        let dir = self.try_clone()?;
        deadline::within(Server::Files(device), move || dir.open_file("exe"))?
    }

    /// Whether the file that the process executes has a name yet; none where that is not known.
    pub(super) fn exe_has_name(&self) -> Option<bool> {
        let flags = AtFlags::STATX_DONT_SYNC;
        let stat = statx(&self.dir, "exe", flags, StatxFlags::NLINK).ok()?;
        Some(stat.stx_nlink > 0)
    }

    /// Opens with `flags`; the descriptor is closed on exec.
    pub(crate) fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        Ok(openat(&self.dir, name, flags | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// The text of a link below the directory, in bytes.
    ///
    /// # Errors
    /// As [`ProcDir::read`].
    pub fn read_link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.dir, name, Vec::new())?.into_bytes())
    }

    /// The names in a directory below the directory that are numbers.
    ///
    /// # Errors
    /// As [`ProcDir::read`].
    pub fn list_numbers(&self, name: &str) -> io::Result<Vec<u32>> {
        let dir = self.open_with(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            if let Ok(name) = entry?.file_name().to_str()
                && let Ok(number) = name.parse()
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Every process that there is now but this one, in the order of their ids.
///
/// # Errors
/// Where `/proc` cannot be listed.
pub fn all_pids() -> io::Result<Vec<Pid>> {
    let own = std::process::id();
    let mut pids: Vec<Pid> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != own)
        .map(Pid)
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The file name in the link `exe`.
pub(super) fn exe_file_name(link: &[u8]) -> &[u8] {
    let path = link.strip_suffix(b" (deleted)").unwrap_or(link);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether an error means that the process or thread is gone.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::SRCH | Errno::NOENT)
    )
}

/// Whether an error means that we may not look.
pub(crate) fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The id of a process in its own pid namespace, from its `status` or that of one of its threads
/// (proc_pid_status(5), `NStgid`).
pub(crate) fn own_pid(status: &[u8]) -> Option<u32> {
    innermost(status, b"NStgid:")
}

/// The id of a thread in its own pid namespace, from its `status` (proc_pid_status(5), `NSpid`).
pub(crate) fn own_tid(status: &[u8]) -> Option<u32> {
    innermost(status, b"NSpid:")
}

/// The last of the ids that a line of a `status` lists: that of the innermost namespace.
fn innermost(status: &[u8], key: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(key))?;
    let mut ids = line.split(u8::is_ascii_whitespace);
    let last = ids.rfind(|id| !id.is_empty())?;
    std::str::from_utf8(last).ok()?.parse().ok()
}

/// A number out of `/proc/PID/status`, such as `Tgid` or the real `Uid`.
pub(crate) fn status_number(status: &[u8], key: &str) -> Option<u32> {
    status.split(|&byte| byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b":")?;
        std::str::from_utf8(value)
            .ok()?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_numbers() {
        let status = b"Name:\tTgid: 1\nTgid:\t42\nUid:\t1000\t0\t0\t0\n";
        assert_eq!(status_number(status, "Tgid"), Some(42));
        assert_eq!(status_number(status, "Uid"), Some(1000));
        assert_eq!(status_number(status, "Gid"), None);
    }

    #[test]
    fn a_process_s_own_id_is_the_innermost() {
        let status = b"Name:\tx\nNStgid:\t4711\t17\t3\nNSpid:\t4712\t18\t4\n";
        assert_eq!((own_pid(status), own_tid(status)), (Some(3), Some(4)));
        assert_eq!(own_pid(b"NStgid:\t4711\n"), Some(4711));
        assert_eq!(own_pid(b"NStgid:\n"), None);
        assert_eq!(own_tid(b"Name:\tx\n"), None);
    }

    #[test]
    fn own_directory_reads() {
        let me = ProcDir::open(Pid(std::process::id())).expect("own /proc");
        assert!(
            me.read("stat")
                .is_ok_and(|stat| super::super::stat::parse_stat(&stat).is_some())
        );
        assert!(me.list_numbers("task").is_ok_and(|tids| !tids.is_empty()));
        assert!(me.read("no-such-file").is_err_and(|error| is_gone(&error)));
    }
}
