//! What the kernel tells about a process under /proc; the formats are in proc(5).

use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::Duration;

/// CPU time that a process has used, its threads together.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let ticks = user_and_system_ticks(&stat).context("/proc/PID/stat is not as proc(5) says")?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn user_and_system_ticks(stat: &str) -> Option<u64> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

/// A field of `/proc/PID/stat` behind the name, numbered as in proc(5), from 3 on.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    // The second field, the name, may contain blanks and parentheses.
    let after_name = stat.rsplit_once(')')?.1;
    let field = after_name.split_whitespace().nth(number.checked_sub(3)?)?;
    field.parse().ok()
}

/// Page faults of a process that needed no reading.
pub(super) fn minor_faults(pid: u32) -> Result<u64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    stat_field(&stat, 10).context("/proc/PID/stat is not as proc(5) says")
}

/// Resident memory of a process in bytes, now.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmRSS:").context("no VmRSS in /proc/PID/status")?;
    Ok(kib * 1024)
}

/// How often the threads of a process have given their CPU away in order to wait.
pub(super) fn voluntary_switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has ended meanwhile counts no more.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            continue;
        };
        sum += field(&status, "voluntary_ctxt_switches:").context("no count of switches")?;
    }
    Ok(sum)
}

/// Switches of all CPUs since the machine was started.
pub(super) fn switches_of_all() -> Result<u64> {
    field(&read("/proc/stat")?, "ctxt").context("no ctxt in /proc/stat")
}

/// The eBPF programs that a process holds, by itself or through a link: their ids.
pub(super) fn bpf_programs(pid: u32) -> io::Result<BTreeSet<u32>> {
    Ok(fd_infos(pid)?
        .iter()
        .filter_map(|info| field(info, "prog_id:"))
        .filter_map(|id| id.try_into().ok())
        .collect())
}

/// The eBPF maps that a process holds: their ids.
pub(super) fn bpf_maps(pid: u32) -> io::Result<BTreeSet<u32>> {
    Ok(fd_infos(pid)?
        .iter()
        .filter_map(|info| field(info, "map_id:"))
        .filter_map(|id| id.try_into().ok())
        .collect())
}

/// Whether a process holds a link, that is, a program that is attached to something.
pub(super) fn has_bpf_link(pid: u32) -> io::Result<bool> {
    Ok(fd_infos(pid)?
        .iter()
        .any(|info| info.lines().any(|line| line.starts_with("link_type:"))))
}

/// Kernel memory of the eBPF maps that a process holds, in bytes, as the kernel reckons it. Banks
/// of tables are held by a map that holds them and not by a descriptor each: those that have none
/// are not in it.
pub(crate) fn bpf_map_bytes(pid: u32) -> io::Result<u64> {
    let maps: BTreeMap<u64, u64> = fd_infos(pid)?
        .iter()
        .filter_map(|info| Some((field(info, "map_id:")?, field(info, "memlock:")?)))
        .collect();
    Ok(maps.values().sum())
}

fn fd_infos(pid: u32) -> io::Result<Vec<String>> {
    let dir = fs::read_dir(format!("/proc/{pid}/fdinfo"))?;
    // A descriptor may be closed while we look at it.
    Ok(dir
        .flatten()
        .filter_map(|fd| fs::read_to_string(fd.path()).ok())
        .collect())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 9 9 9";
        assert_eq!(user_and_system_ticks(stat), Some(300));
        assert_eq!(stat_field(stat, 10), Some(100));
        assert_eq!(stat_field(stat, 1), None);
        assert_eq!(user_and_system_ticks("7 (a S 1"), None);
        assert_eq!(user_and_system_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_field_is_the_number_after_its_name() {
        let info = "pos:\t0\nprog_type:\t26\nprog_id:\t111\n";
        assert_eq!(field(info, "prog_id:"), Some(111));
        assert_eq!(field("VmRSS:\t    2048 kB\n", "VmRSS:"), Some(2048));
        assert_eq!(
            field(
                "nonvoluntary_ctxt_switches:\t3\n",
                "voluntary_ctxt_switches:"
            ),
            None
        );
    }

    #[test]
    fn this_process_can_be_measured() -> Result<()> {
        let pid = std::process::id();
        let begin = std::time::Instant::now();
        // On a busy machine it may get the CPU late.
        while cpu_time(pid)? < Duration::from_millis(20) {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        assert!(resident(pid)? > 100_000);
        std::thread::sleep(Duration::from_millis(1));
        assert!(voluntary_switches(pid)? > 0);
        assert!(switches_of_all()? > 0);
        assert!(!has_bpf_link(pid)?);
        Ok(())
    }
}
