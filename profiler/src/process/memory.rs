//! How much memory there is for us: the machine's, or less where our control group has a limit.

use super::cgroup::hierarchies;
use super::unit::ROOT;
use std::path::Path;

/// The least that a share is, in bytes: with less a recording would show hardly any names.
const LEAST: u64 = 16 << 20;

/// One part in `parts` of the memory that is available, in bytes, and no more than `most`.
/// What holdup reads of files is bounded by shares, so that on a small machine, or in a small
/// container, a hostile file does not have the memory that others need.
pub(crate) fn share(parts: u64, most: u64) -> u64 {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = available(&text("/proc/meminfo"));
    let group = group_limit(Path::new(ROOT), &text("/proc/self/cgroup"));
    let memory = machine.into_iter().chain(group).min();
    let share = memory.map_or(most, |memory| memory / parts);
    share.max(LEAST).min(most)
}

/// What processes could take without swapping: `MemAvailable`, proc_meminfo(5).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The lowest limit of a group and of those above it, by the text of `/proc/self/cgroup`:
/// `memory.max` of version 2, `memory.limit_in_bytes` of version 1.
fn group_limit(root: &Path, cgroup: &str) -> Option<u64> {
    let limits = hierarchies(root, cgroup, "memory").filter_map(|hierarchy| {
        let name = if hierarchy.is_v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        let limit = |group: &Path| {
            let text = std::fs::read_to_string(group.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let groups = hierarchy.groups();
        groups.filter_map(|(group, _)| limit(&group)).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_the_least_and_the_most() {
        assert_eq!(share(u64::MAX, 1 << 40), LEAST);
        assert_eq!(share(1, 1 << 20), 1 << 20);
        assert!(share(2, 1 << 60) > LEAST);
    }

    #[test]
    fn the_machine_tells_what_is_available() {
        let text = "MemTotal:  24000 kB\nMemFree: 1 kB\nMemAvailable:   16000 kB\n";
        assert_eq!(available(text), Some(16_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: x kB\n"), None);
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_those_above_it_counts() {
        let root = tempfile::tempdir().expect("dir");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            std::fs::write(path, text).expect("writes");
        };
        let limit = |cgroup: &str| group_limit(root.path(), cgroup);
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1073741824\n");
        assert_eq!(limit("0::/a/b\n"), Some(1 << 30));
        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(
            limit("4:memory:/c\n1:cpu:/\n"),
            Some(9_223_372_036_854_771_712)
        );
        assert_eq!(limit("4:memory:/c\n0::/a\n"), Some(1 << 30));
        assert_eq!(limit("nonsense"), None);
    }
}
