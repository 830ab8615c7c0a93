//! Who has locks on a file, by `/proc/locks` (proc(5)).

use crate::process::{ProcDir, parse_comm};
use crate::recording::{Holder, HolderProcess, MAX_HOLDERS};
use crate::units::Pid;

/// Who has locks on the file with this inode; none where the kernel names nobody.
pub(super) fn holders(inode: u64) -> Option<Holder> {
    let locks = std::fs::read("/proc/locks").unwrap_or_default();
    let owners = lock_owners(&String::from_utf8_lossy(&locks), inode);
    let name = |pid: u32| {
        let comm = ProcDir::open(Pid(pid)).and_then(|dir| dir.read("comm"));
        parse_comm(&comm.unwrap_or_default())
    };
    let named = owners.iter().take(MAX_HOLDERS);
    let processes: Vec<HolderProcess> = named
        .map(|pid| HolderProcess {
            pid: Pid(*pid),
            name: name(*pid),
        })
        .collect();
    (!processes.is_empty()).then(|| Holder::Processes {
        more: owners.len().saturating_sub(MAX_HOLDERS) as u32,
        processes,
        evidence: "a lock on it".to_owned(),
    })
}

/// Who holds locks on the file with this inode. Lines of waiters have an arrow; a lock that
/// belongs to an open file and not to a process has -1 for its owner.
fn lock_owners(locks: &str, inode: u64) -> Vec<u32> {
    let mut owners: Vec<u32> = locks
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            if fields.next()? == "->" {
                return None;
            }
            let owner = fields.nth(2)?.parse().ok()?;
            let file = fields.next()?;
            (file.rsplit(':').next()?.parse() == Ok(inode)).then_some(owner)
        })
        .collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_file_locks_are_found_and_waiters_are_not() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 fe:00:99 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:99 0 EOF\n\
                     2: POSIX  ADVISORY  READ 4713 fe:00:98 0 EOF\n\
                     3: OFDLCK ADVISORY  READ -1 fe:00:99 0 EOF\n\
                     garbage\n4: FLOCK\n";
        assert_eq!(lock_owners(locks, 99), [4711]);
        assert_eq!(lock_owners(locks, 98), [4713]);
        assert!(lock_owners(locks, 97).is_empty());
    }
}
