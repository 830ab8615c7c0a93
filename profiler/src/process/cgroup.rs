//! The CPU quota of a process's control group, and what it has done so far.

use super::target::Target;
use super::unit::ROOT;
use crate::units::Nanos;
use std::fs;
use std::path::{Path, PathBuf};

/// What the quotas over a process had done at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    groups: Vec<Group>,
}

/// What a quota did over some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Path of the control group below the mount.
    pub group: String,
    /// Periods of the quota.
    pub periods: u64,
    /// Periods in which the group used its quota up.
    pub throttled_periods: u64,
    /// For how long its threads were kept from the CPUs.
    pub throttled: Nanos,
}

/// A control group with a CPU quota.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// Its directory.
    dir: PathBuf,
    /// Its path below the mount.
    name: String,
    stat: Stat,
}

/// The figures of `cpu.stat` (Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files";
/// of cgroup v1, Documentation/scheduler/sched-bwc.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    periods: u64,
    throttled_periods: u64,
    throttled: Nanos,
}

impl CpuQuota {
    /// Reads the quotas of the target's group and of those above it. None where there is none, or
    /// where the groups cannot be seen from here (as in a container with a namespace of its own).
    #[must_use]
    pub fn read(target: &Target) -> Option<CpuQuota> {
        let text = target.proc_dir().read("cgroup").ok()?;
        Self::below(Path::new(ROOT), &String::from_utf8_lossy(&text))
    }

    /// As [`CpuQuota::read`], with the mount and the text of `/proc/PID/cgroup`.
    fn below(root: &Path, cgroup: &str) -> Option<CpuQuota> {
        let mut groups = Vec::new();
        for hierarchy in hierarchies(root, cgroup, "cpu") {
            for (dir, group) in hierarchy.groups() {
                if let Some(stat) = has_quota(&dir).then(|| stat_of(&dir)).flatten() {
                    groups.push(Group {
                        dir,
                        name: format!("/{}", group.display()),
                        stat,
                    });
                }
            }
        }
        (!groups.is_empty()).then_some(CpuQuota { groups })
    }

    /// What the quota that held the process up longest has done since; none where none did.
    #[must_use]
    pub fn since(&self) -> Option<QuotaUse> {
        let grown = |group: &Group| {
            let now = stat_of(&group.dir)?;
            let before = group.stat;
            Some(QuotaUse {
                group: group.name.clone(),
                periods: now.periods.saturating_sub(before.periods),
                throttled_periods: now
                    .throttled_periods
                    .saturating_sub(before.throttled_periods),
                throttled: now.throttled.saturating_sub(before.throttled),
            })
        };
        self.groups
            .iter()
            .filter_map(grown)
            .max_by_key(|throttling| throttling.throttled)
    }
}

/// A hierarchy of control groups that a process is in.
#[derive(Debug)]
pub(super) struct Hierarchy<'a> {
    mount: PathBuf,
    /// The process's group below the mount.
    path: &'a Path,
    /// Whether it is that of cgroup v2.
    pub(super) is_v2: bool,
}

impl Hierarchy<'_> {
    /// The group and those above it: their directories, and their paths below the mount.
    pub(super) fn groups(&self) -> impl Iterator<Item = (PathBuf, &Path)> {
        let groups = self.path.ancestors();
        groups.map(|group| (self.mount.join(group), group))
    }
}

/// The hierarchies that may hold a controller (`cpu`), by the text of `/proc/PID/cgroup`: lines
/// `0::/path` of cgroup v2, `2:cpu,cpuacct:/path` of v1.
pub(super) fn hierarchies<'a>(
    root: &Path,
    cgroup: &'a str,
    controller: &str,
) -> impl Iterator<Item = Hierarchy<'a>> {
    cgroup.lines().filter_map(move |line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_v2 = number == "0" && controllers.is_empty();
        let mount = if is_v2 {
            // Beside version 1, version 2 is mounted here.
            let beside = root.join("unified");
            if beside.is_dir() {
                beside
            } else {
                root.to_owned()
            }
        } else if controllers.split(',').any(|name| name == controller) {
            root.join(controllers)
        } else {
            return None;
        };
        Some(Hierarchy {
            mount,
            path: Path::new(path.trim_start_matches('/')),
            is_v2,
        })
    })
}

/// Whether a quota is set: `cpu.max` of v2 begins with a number, v1 has -1 for none.
fn has_quota(dir: &Path) -> bool {
    let first = |name: &str| -> Option<i64> {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    first("cpu.max").is_some() || first("cpu.cfs_quota_us").is_some_and(|quota| quota >= 0)
}

fn stat_of(dir: &Path) -> Option<Stat> {
    let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    Some(parse(&text))
}

/// Reads `text` as every text of a control group.
pub(super) fn read_every(text: &str) {
    for hierarchy in hierarchies(Path::new("/none"), text, "cpu") {
        let _ = hierarchy.groups().count();
    }
    let _ = parse(text);
}

fn parse(text: &str) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else {
            continue;
        };
        let Ok(value) = value.trim().parse::<u64>() else {
            continue;
        };
        match name {
            "nr_periods" => stat.periods = value,
            "nr_throttled" => stat.throttled_periods = value,
            "throttled_usec" => stat.throttled = Nanos(value.saturating_mul(1_000)),
            "throttled_time" => stat.throttled = Nanos(value),
            _ => {}
        }
    }
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    #[test]
    fn the_quota_may_be_of_a_group_above() {
        let root = tempfile::tempdir().expect("a directory");
        let slice = root.path().join("a.slice");
        write(&slice.join("cpu.max"), "50000 100000\n");
        let stat = "usage_usec 9\nnr_periods 10\nnr_throttled 4\nthrottled_usec 700\n";
        write(&slice.join("cpu.stat"), stat);
        write(&slice.join("b/cpu.max"), "max 100000\n");
        write(&slice.join("b/cpu.stat"), stat);
        let quota = CpuQuota::below(root.path(), "0::/a.slice/b\n").expect("a quota");
        let later = "nr_periods 30\nnr_throttled 9\nthrottled_usec 900\n";
        write(&slice.join("cpu.stat"), later);
        assert_eq!(
            quota.since(),
            Some(QuotaUse {
                group: "/a.slice".to_owned(),
                periods: 20,
                throttled_periods: 5,
                throttled: Nanos(200_000),
            })
        );
    }

    #[test]
    fn version_1_counts_nanoseconds() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("cpu,cpuacct/docker/1");
        write(&dir.join("cpu.cfs_quota_us"), "20000\n");
        write(
            &dir.join("cpu.stat"),
            "nr_periods 1\nnr_throttled 1\nthrottled_time 5\n",
        );
        let text = "9:name=systemd:/\n2:cpu,cpuacct:/docker/1\n";
        let quota = CpuQuota::below(root.path(), text).expect("a quota");
        write(&dir.join("cpu.stat"), "throttled_time 12\n");
        assert_eq!(quota.since().map(|since| since.throttled), Some(Nanos(7)));
    }

    #[test]
    fn no_quota_is_none() {
        let root = tempfile::tempdir().expect("a directory");
        write(&root.path().join("cpu/cpu.cfs_quota_us"), "-1\n");
        for text in ["1:cpu:/\n", "0::/nowhere\n", "nonsense", ""] {
            assert_eq!(CpuQuota::below(root.path(), text), None, "{text:?}");
        }
    }
}
