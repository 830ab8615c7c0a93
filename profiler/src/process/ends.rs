//! Who holds the ends of pipes and sockets: a look through the open files of all processes.

use super::comm::parse_comm;
use super::proc_dir::ProcDir;
use crate::units::Pid;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

/// Open files looked at in one search, at most.
const MAX_FILES: usize = 200_000;

/// How a process holds a pipe or a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The process.
    pub pid: Pid,
    /// Its name, raw.
    pub name: String,
    /// Whether it may read there.
    pub reads: bool,
    /// Whether it may write there.
    pub writes: bool,
}

/// What `/proc/PID/fd` calls the device by which every file system of FUSE is served.
const FUSE: &str = "/dev/fuse";

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    by_link: HashMap<String, BTreeSet<End>>,
    /// Whether the search looked at all that there was to look at.
    pub complete: bool,
}

impl Ends {
    /// The ends of what `/proc/PID/fd` calls `link` (`pipe:[4711]`), by process. The device of the FUSE
    /// file system with the device number 0:53 is `/dev/fuse:[53]`; `/dev/fuse` are those of which the
    /// kernel does not say whose they are, as before Linux 6.17.
    pub fn of(&self, link: &str) -> impl Iterator<Item = &End> {
        self.by_link.get(link).into_iter().flatten()
    }

    /// Looks for the holders of all of `links`, not longer than until `deadline`. Processes that
    /// we may not look into make the search incomplete.
    #[must_use]
    pub fn find(links: &HashSet<String>, deadline: Instant) -> Ends {
        let mut ends = Ends {
            by_link: HashMap::new(),
            complete: true,
        };
        if links.is_empty() {
            return ends;
        }
        let Ok(proc) = std::fs::read_dir("/proc") else {
            ends.complete = false;
            return ends;
        };
        let mut left = MAX_FILES;
        for entry in proc.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = pid else { continue };
            if left == 0 || Instant::now() >= deadline {
                ends.complete = false;
                break;
            }
            ends.search(Pid(pid), links, &mut left);
        }
        ends
    }

    fn search(&mut self, pid: Pid, links: &HashSet<String>, left: &mut usize) {
        let Ok(dir) = ProcDir::open(pid) else { return };
        let fds = match dir.list_numbers("fd") {
            Ok(fds) => fds,
            Err(error) => {
                self.complete &= super::proc_dir::is_gone(&error);
                return;
            }
        };
        let wants_fuse = links.iter().any(|link| link.starts_with(FUSE));
        for fd in fds {
            let Some(rest) = left.checked_sub(1) else {
                self.complete = false;
                return;
            };
            *left = rest;
            let Ok(link) = dir.read_link(&format!("fd/{fd}")) else {
                continue;
            };
            let Ok(link) = String::from_utf8(link) else {
                continue;
            };
            let is_fuse = link == FUSE;
            if !(links.contains(&link) || is_fuse && wants_fuse) {
                continue;
            }
            let info = dir.read(&format!("fdinfo/{fd}")).unwrap_or_default();
            let (reads, writes) = access(&info);
            let link = if is_fuse { fuse_link(&info) } else { link };
            let name = parse_comm(&dir.read("comm").unwrap_or_default());
            let end = End {
                pid,
                name,
                reads,
                writes,
            };
            self.by_link.entry(link).or_default().insert(end);
        }
    }
}

/// `/dev/fuse:[53]`, by what `/proc/PID/fdinfo` says of the connection.
fn fuse_link(fdinfo: &[u8]) -> String {
    let text = String::from_utf8_lossy(fdinfo);
    let connection = text
        .lines()
        .find_map(|line| line.strip_prefix("fuse_connection:"))
        .and_then(|number| number.trim().parse::<u32>().ok());
    connection.map_or_else(|| FUSE.to_owned(), |number| format!("{FUSE}:[{number}]"))
}

/// Whether an open file may be read and written, by `flags:` of `/proc/PID/fdinfo` (octal, as
/// open(2) has them). Both where it does not say.
fn access(fdinfo: &[u8]) -> (bool, bool) {
    let text = String::from_utf8_lossy(fdinfo);
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    match flags.map(|flags| flags & libc::O_ACCMODE) {
        Some(libc::O_RDONLY) => (true, false),
        Some(libc::O_WRONLY) => (false, true),
        _ => (true, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    #[test]
    fn access_is_read_from_the_flags() {
        assert_eq!(access(b"pos:\t0\nflags:\t02000001\n"), (false, true));
        assert_eq!(access(b"flags:\t0100000\n"), (true, false));
        assert_eq!(access(b"flags:\t02\n"), (true, true));
        assert_eq!(access(b"flags:\tzz\n"), (true, true));
        assert_eq!(access(b""), (true, true));
    }

    #[test]
    fn the_connection_tells_which_file_system_is_served() {
        assert_eq!(
            fuse_link(b"pos:\t0\nflags:\t0100002\nfuse_connection:\t53\n"),
            "/dev/fuse:[53]"
        );
        assert_eq!(fuse_link(b"flags:\t0100002\n"), "/dev/fuse");
    }

    #[test]
    fn both_ends_of_an_own_pipe_are_found() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let link = std::fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let link = link.expect("a link").to_string_lossy().into_owned();
        let links = HashSet::from([link.clone()]);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ends = Ends::find(&links, deadline);
        let own = |end: &&End| end.pid == Pid(std::process::id());
        let own: Vec<&End> = ends.of(&link).filter(own).collect();
        assert!(own.iter().any(|end| end.reads && !end.writes), "{own:?}");
        assert!(own.iter().any(|end| end.writes && !end.reads), "{own:?}");
        assert_eq!(ends.of("pipe:[0]").count(), 0);
        drop(writer);
        let late = Ends::find(&links, Instant::now());
        assert!(!late.complete, "no time, and yet all was looked at");
    }
}
