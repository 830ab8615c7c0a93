//! Finding the targets by what they have in common.

use super::comm::parse_comm;
use super::errors::FindError;
use super::near;
use super::proc_dir::{self, PF_KTHREAD, ProcDir, all_pids};
use super::selector::Selector;
use super::unit::{container_of, group_paths};
use crate::units::Pid;
use profiler_common::map::MAX_PROCESSES;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Characters shown of a candidate's command line.
const MAX_CMDLINE: usize = 100;

/// The processes that one of `selectors` means, in the order of their ids; of each selector at least
/// one.
///
/// # Errors
/// Where one of them means none, or all together more than can be recorded at once.
pub fn find(selectors: &[Selector]) -> Result<Vec<Pid>, FindError> {
    let mut found: BTreeMap<Pid, String> = BTreeMap::new();
    for selector in selectors {
        let meant = meant_by(selector)?;
        if let Selector::Container(id) = selector {
            let ids = container_ids(id, &meant);
            if ids.len() > 1 {
                let (id, ids) = (id.clone(), ids.into_iter().collect());
                return Err(FindError::Containers { id, ids });
            }
        }
        found.extend(meant);
        if found.len() > MAX_PROCESSES {
            return Err(FindError::TooMany {
                selector: selector.clone(),
                most: MAX_PROCESSES,
                found: found.into_iter().collect(),
            });
        }
    }
    Ok(found.into_keys().collect())
}

/// Whether one of `selectors` means a process, which is none that has ended.
#[must_use]
pub fn is_meant(selectors: &[Selector], pid: Pid) -> bool {
    let Ok(dir) = ProcDir::open(pid) else {
        return false;
    };
    selectors.iter().any(|selector| selector.matches(&dir)) && is_program(&dir)
}

/// The processes that one selector means, each with its command line.
fn meant_by(selector: &Selector) -> Result<Vec<(Pid, String)>, FindError> {
    let pids = all_pids().map_err(FindError::List)?.into_iter();
    let found: Vec<(Pid, String)> = pids
        .filter_map(|pid| Some((pid, matching(pid, selector)?)))
        .collect();
    if found.is_empty() {
        return Err(none(selector));
    }
    Ok(found)
}

fn none(selector: &Selector) -> FindError {
    match selector {
        Selector::Name(name) => FindError::None {
            selector: selector.clone(),
            near: near::near(name),
        },
        Selector::Exe(path) => FindError::None {
            selector: selector.clone(),
            near: near::near(path.rsplit('/').next().unwrap_or_default()),
        },
        Selector::Unit(unit) => FindError::NoUnit {
            unit: unit.clone(),
            // As sd_booted(3) asks.
            has_systemd: Path::new("/run/systemd/system").is_dir(),
            near: near::near_unit(unit),
        },
        Selector::Cgroup(path) => FindError::NoGroup {
            path: path.clone(),
            exists: Selector::has_group(path),
        },
        Selector::Container(id) => FindError::NoContainer { id: id.clone() },
    }
}

/// The ids of containers that begin with `id`, of some processes.
fn container_ids(id: &str, processes: &[(Pid, String)]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (pid, _) in processes {
        let text = ProcDir::open(*pid).and_then(|dir| dir.read("cgroup"));
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let own = group_paths(&text).filter_map(container_of);
        ids.extend(own.filter(|own| own.starts_with(id)).map(str::to_owned));
    }
    ids
}

/// Whether it is no thread of the kernel's, and has not ended.
fn is_program(dir: &ProcDir) -> bool {
    let stat = dir.read("stat").ok();
    let stat = stat.and_then(|stat| proc_dir::parse_stat(&stat));
    stat.is_some_and(|stat| stat.flags & PF_KTHREAD == 0 && stat.state != b'Z')
}

/// The command line of `pid` if it is meant. A process that ends meanwhile is none.
fn matching(pid: Pid, selector: &Selector) -> Option<String> {
    let dir = ProcDir::open(pid).ok()?;
    if !selector.matches(&dir) || !is_program(&dir) {
        return None;
    }
    let cmdline = dir.cmdline().unwrap_or_default();
    let text = String::from_utf8_lossy(&cmdline)
        .trim_end_matches('\0')
        .replace('\0', " ");
    let text = if text.is_empty() {
        format!("[{}]", parse_comm(&dir.read("comm").ok()?))
    } else {
        text
    };
    Some(shortened(&text))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CMDLINE) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proc_dir::exe_file_name;
    use super::*;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    /// A `sleep` under a name of its own, so that nothing else on the machine is called so.
    fn sleeper(path: &std::path::Path) -> Child {
        Command::new(path)
            .arg("60")
            .spawn()
            .expect("a copy of sleep runs")
    }

    #[test]
    fn all_of_a_name_are_found() {
        let dir = tempfile::tempdir().expect("dir");
        // Longer than a thread's name can be: found by the file's name.
        let name = format!("holdup-find-test-{}", std::process::id());
        let path = dir.path().join(&name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        let by_name = [Selector::Name(name.clone())];
        let none = find(&by_name);
        assert!(matches!(none, Err(FindError::None { selector, .. }) if selector == by_name[0]));

        let mut first = sleeper(&path);
        let deadline = Instant::now() + Duration::from_secs(10);
        while find(&by_name).ok() != Some(vec![Pid(first.id())]) {
            assert!(Instant::now() < deadline, "never found");
        }
        let mut second = sleeper(&path);
        let mut both = vec![Pid(first.id()), Pid(second.id())];
        both.sort_unstable();
        while find(&by_name).ok() != Some(both.clone()) {
            assert!(Instant::now() < deadline, "never found both");
        }
        // By its path, also after another file took that.
        let by_path = [Selector::Exe(path.display().to_string())];
        assert_eq!(find(&by_path).ok(), Some(both.clone()));
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(find(&by_path).ok(), Some(both.clone()));
        assert!(both.iter().all(|pid| is_meant(&by_path, *pid)));
        // One that means nothing is told, whatever the others mean.
        let and_none = [
            by_path[0].clone(),
            Selector::Cgroup("/no/such/group".into()),
        ];
        assert!(matches!(
            find(&and_none),
            Err(FindError::NoGroup { exists: false, .. })
        ));
        for child in [&mut first, &mut second] {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    #[test]
    fn nothing_is_meant_by_what_there_is_not() {
        let unit = find(&[Selector::unit("no-such-unit-of-mine")]);
        assert!(
            matches!(&unit, Err(FindError::NoUnit { unit, .. }) if unit == "no-such-unit-of-mine.service"),
            "{unit:?}"
        );
        let container = find(&[Selector::container("ffffffffffff")]);
        assert!(
            matches!(container, Err(FindError::NoContainer { .. })),
            "{container:?}"
        );
    }

    #[test]
    fn long_command_lines_are_cut_between_characters() {
        let long = "ä".repeat(200);
        assert_eq!(shortened(&long).chars().count(), MAX_CMDLINE + 1);
        assert_eq!(shortened("short"), "short");
        assert_eq!(exe_file_name(b"/a/b (deleted)"), b"b");
    }
}
