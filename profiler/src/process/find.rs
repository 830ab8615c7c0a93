//! Finding the targets by what they have in common.

use super::errors::FindError;
use super::near;
use super::proc_dir::{ProcDir, all_pids};
use super::selection::{Found, Selection, is_program, user_of};
use super::selector::Selector;
use super::unit::{container_of, group_paths};
use std::collections::BTreeSet;
use std::path::Path;

/// The processes that are meant, in the order of their ids; of each selector at least one.
///
/// # Errors
/// Where one of the selectors means none, or several containers.
pub fn find(selection: &Selection) -> Result<Vec<Found>, FindError> {
    let mut found = BTreeSet::new();
    if selection.selectors.is_empty() {
        found.extend(with(|dir| selection.has_user(dir))?);
        if let (Some(user), true) = (selection.user, found.is_empty()) {
            let (selection, others) = (selection.clone(), Vec::new());
            return Err(FindError::NoneOfUser {
                user,
                selection,
                others,
            });
        }
    }
    for selector in &selection.selectors {
        let meant = with(|dir| selector.matches(dir) && selection.has_user(dir))?;
        if meant.is_empty() {
            return Err(none(selection, selector));
        }
        if let Selector::Container(id) = selector {
            let ids = container_ids(id, &meant);
            if ids.len() > 1 {
                let (id, ids) = (id.clone(), ids.into_iter().collect());
                return Err(FindError::Containers { id, ids });
            }
        }
        found.extend(meant);
    }
    Ok(found.into_iter().collect())
}

/// The processes of which this is so. Those that end meanwhile are not among them.
fn with(is_meant: impl Fn(&ProcDir) -> bool) -> Result<Vec<Found>, FindError> {
    let pids = all_pids().map_err(FindError::List)?.into_iter();
    let found = pids.filter_map(|pid| {
        let dir = ProcDir::open(pid).ok()?;
        let user = user_of(&dir);
        (is_meant(&dir) && is_program(&dir)).then_some(Found { pid, user })
    });
    Ok(found.collect())
}

fn none(selection: &Selection, selector: &Selector) -> FindError {
    if let Some(user) = selection.user {
        return FindError::NoneOfUser {
            user,
            selection: selection.clone(),
            others: with(|dir| selector.matches(dir)).unwrap_or_default(),
        };
    }
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
fn container_ids(id: &str, processes: &[Found]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for found in processes {
        let text = ProcDir::open(found.pid).and_then(|dir| dir.read("cgroup"));
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let own = group_paths(&text).filter_map(container_of);
        ids.extend(own.filter(|own| own.starts_with(id)).map(str::to_owned));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::super::proc_dir::exe_file_name;
    use super::*;
    use crate::units::Pid;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    /// A `sleep` under a name of its own, so that nothing else on the machine is called so.
    fn sleeper(path: &std::path::Path) -> Child {
        Command::new(path)
            .arg("60")
            .spawn()
            .expect("a copy of sleep runs")
    }

    fn pids(selection: &Selection) -> Option<Vec<Pid>> {
        let found = find(selection).ok()?;
        Some(found.into_iter().map(|found| found.pid).collect())
    }

    #[test]
    fn all_of_a_name_are_found() {
        let dir = tempfile::tempdir().expect("dir");
        // Longer than a thread's name can be: found by the file's name.
        let name = format!("holdup-find-test-{}", std::process::id());
        let path = dir.path().join(&name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        let by_name = Selection::of_all(vec![Selector::Name(name.clone())]);
        let none = find(&by_name);
        assert!(
            matches!(none, Err(FindError::None { selector, .. }) if selector == by_name.selectors[0])
        );

        let mut first = sleeper(&path);
        let deadline = Instant::now() + Duration::from_secs(10);
        while pids(&by_name) != Some(vec![Pid(first.id())]) {
            assert!(Instant::now() < deadline, "never found");
        }
        let mut second = sleeper(&path);
        let mut both = vec![Pid(first.id()), Pid(second.id())];
        both.sort_unstable();
        while pids(&by_name) != Some(both.clone()) {
            assert!(Instant::now() < deadline, "never found both");
        }
        // By its path, also after another file took that.
        let by_path = Selection::of_all(vec![Selector::Exe(path.display().to_string())]);
        assert_eq!(pids(&by_path), Some(both.clone()));
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(pids(&by_path), Some(both.clone()));
        assert!(both.iter().all(|pid| by_path.means(*pid)));
        // One that means nothing is told, whatever the others mean.
        let mut and_none = by_path.clone();
        let group = Selector::Cgroup("/no/such/group".into());
        and_none.selectors.push(group);
        assert!(matches!(
            find(&and_none),
            Err(FindError::NoGroup { exists: false, .. })
        ));
        // Only those of a user.
        let of = |user| Selection {
            user: Some(user),
            ..by_path.clone()
        };
        let user = rustix::process::getuid().as_raw();
        assert_eq!(pids(&of(user)), Some(both.clone()));
        let none = find(&of(user + 1));
        assert!(
            matches!(&none, Err(FindError::NoneOfUser { others, .. }) if others.len() == 2),
            "{none:?}"
        );
        for child in [&mut first, &mut second] {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    #[test]
    fn nothing_is_meant_by_what_there_is_not() {
        let unit = find(&Selection::of_all(vec![Selector::unit(
            "no-such-unit-of-mine",
        )]));
        assert!(
            matches!(&unit, Err(FindError::NoUnit { unit, .. }) if unit == "no-such-unit-of-mine.service"),
            "{unit:?}"
        );
        let container = find(&Selection::of_all(vec![Selector::container(
            "ffffffffffff",
        )]));
        assert!(
            matches!(container, Err(FindError::NoContainer { .. })),
            "{container:?}"
        );
    }

    #[test]
    fn a_deleted_program_keeps_its_name() {
        assert_eq!(exe_file_name(b"/a/b (deleted)"), b"b");
    }
}
