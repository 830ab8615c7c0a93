//! What processes have in common that are meant: a name, a unit, a container.

use super::comm::parse_comm;
use super::proc_dir::{ProcDir, exe_file_name};
use super::unit::{self, ROOT, group_paths};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Processes, by something other than their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those whose main thread or executable file is called so.
    Name(String),
    /// Those that execute the file at this path, as they see it. A link is followed anew each time.
    Exe(String),
    /// Those in this unit of systemd (`claims.service`).
    Unit(String),
    /// Those in this control group, by its path below the mount (`/system.slice/claims.service`), and in
    /// those below it.
    Cgroup(String),
    /// Those in the container whose id begins so.
    Container(String),
}

/// Kinds of units that have processes; a name without one is a service's.
const KINDS: [&str; 3] = [".service", ".scope", ".slice"];

impl Selector {
    /// By a name, or where it has a slash by a path, which may be relative to the working directory.
    #[must_use]
    pub fn name(text: &str) -> Selector {
        if !text.contains('/') {
            return Selector::Name(text.to_owned());
        }
        let path = std::path::absolute(text).unwrap_or_else(|_| text.into());
        Selector::Exe(path.to_string_lossy().into_owned())
    }

    /// By the name of a unit, with or without `.service`.
    #[must_use]
    pub fn unit(text: &str) -> Selector {
        let has_kind = KINDS.iter().any(|kind| text.ends_with(kind));
        Selector::Unit(match has_kind {
            true => text.to_owned(),
            false => format!("{text}.service"),
        })
    }

    /// By the path of a control group, below the mount or with it.
    #[must_use]
    pub fn cgroup(text: &str) -> Selector {
        Selector::Cgroup(below_mount(text, Path::new(ROOT)))
    }

    /// By the first digits of a container's id.
    #[must_use]
    pub fn container(text: &str) -> Selector {
        Selector::Container(text.to_ascii_lowercase())
    }

    /// Whether a process is meant. One that ends meanwhile is not.
    pub(super) fn matches(&self, dir: &ProcDir) -> bool {
        match self {
            Selector::Name(name) => {
                let comm = dir.read("comm").map(|comm| parse_comm(&comm));
                if comm.is_ok_and(|comm| comm == *name) {
                    return true;
                }
                // Readable for processes of other users only with CAP_SYS_PTRACE: then the name must do.
                let exe = dir.read_link("exe").unwrap_or_default();
                exe_file_name(&exe) == name.as_bytes()
            }
            Selector::Exe(path) => {
                let exe = dir.read_link("exe").unwrap_or_default();
                let exe = exe.strip_suffix(b" (deleted)").unwrap_or(&exe);
                // A deploy may have the link lead elsewhere meanwhile.
                let leads_to = || std::fs::canonicalize(path).ok();
                exe == path.as_bytes()
                    || leads_to().is_some_and(|path| exe == path.as_os_str().as_bytes())
            }
            Selector::Unit(unit) => in_groups(dir, |group| {
                group
                    .split('/')
                    .any(|part| part.strip_prefix('_').unwrap_or(part) == unit || part == unit)
            }),
            Selector::Cgroup(path) => in_groups(dir, |group| is_within(group, path)),
            Selector::Container(id) => in_groups(dir, |group| {
                unit::container_of(group).is_some_and(|own| own.starts_with(id.as_str()))
            }),
        }
    }

    /// Whether there is a control group of this path, with processes or not.
    pub(super) fn has_group(path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let root = Path::new(ROOT);
        let of_controllers = || {
            let dirs = std::fs::read_dir(root).into_iter().flatten().flatten();
            dirs.map(|dir| dir.path().join(path))
                .any(|dir| dir.is_dir())
        };
        root.join(path).is_dir() || (!is_unified(root) && of_controllers())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Name(name) => write!(f, "called {name}"),
            Selector::Exe(path) => write!(f, "executing {path}"),
            Selector::Unit(unit) => write!(f, "in the unit {unit}"),
            Selector::Cgroup(path) => write!(f, "in the control group {path}"),
            Selector::Container(id) => write!(f, "in a container {id}"),
        }
    }
}

/// Whether one of a process's control groups is meant.
fn in_groups(dir: &ProcDir, is_meant: impl FnMut(&str) -> bool) -> bool {
    let text = dir.read("cgroup").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    group_paths(&text).any(is_meant)
}

fn is_within(group: &str, path: &str) -> bool {
    let below = group.strip_prefix(path.trim_end_matches('/'));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the groups of version 2 are mounted here, and no others.
fn is_unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

/// The path of a control group as `/proc/PID/cgroup` has it.
fn below_mount(text: &str, root: &Path) -> String {
    let text = text.trim_end_matches('/');
    let below = Path::new(text).strip_prefix(root).ok();
    let path = match below {
        Some(below) if is_unified(root) => below,
        // Beside version 1, each hierarchy has a folder of its own there.
        Some(below) => {
            let mut parts = below.components();
            let _ = parts.next();
            parts.as_path()
        }
        None => Path::new(text),
    };
    format!("/{}", path.to_string_lossy().trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    #[test]
    fn words_say_what_is_meant() {
        assert_eq!(Selector::name("a b"), Selector::Name("a b".into()));
        assert_eq!(Selector::name("/x/a"), Selector::Exe("/x/a".into()));
        let here = std::env::current_dir().expect("a folder");
        let relative = here.join("x/a").display().to_string();
        assert_eq!(Selector::name("./x/a"), Selector::Exe(relative));
        assert_eq!(Selector::unit("a"), Selector::Unit("a.service".into()));
        for unit in ["a.service", "b.scope", "c.slice", "d@1.service"] {
            assert_eq!(Selector::unit(unit), Selector::Unit(unit.into()));
        }
        assert_eq!(
            Selector::container("0AF"),
            Selector::Container("0af".into())
        );
    }

    #[test]
    fn a_control_group_is_named_with_its_mount_or_without() {
        let unified = tempfile::tempdir().expect("dir");
        std::fs::write(unified.path().join("cgroup.controllers"), "cpu").expect("writes");
        let first = tempfile::tempdir().expect("dir");
        for (root, typed, path) in [
            (&unified, "/a.slice/b", "/a.slice/b"),
            (&unified, "a.slice/b/", "/a.slice/b"),
            (&unified, "ROOT/a.slice/b", "/a.slice/b"),
            (&unified, "ROOT", "/"),
            (&unified, "/", "/"),
            (&first, "ROOT/cpu,cpuacct/docker/1/", "/docker/1"),
            (&first, "ROOT/cpu", "/"),
            (&first, "/docker/1", "/docker/1"),
        ] {
            let root = root.path();
            let typed = typed.replace("ROOT", &root.display().to_string());
            assert_eq!(below_mount(&typed, root), path, "{typed}");
        }
    }

    #[test]
    fn groups_below_belong_to_a_group_and_its_neighbours_do_not() {
        for (group, path, is) in [
            ("/a/b", "/a/b", true),
            ("/a/b/c", "/a/b", true),
            ("/a/bc", "/a/b", false),
            ("/a", "/a/b", false),
            ("/a", "/", true),
        ] {
            assert_eq!(is_within(group, path), is, "{group} {path}");
        }
    }

    #[test]
    fn this_process_is_found_by_what_it_is() {
        let own = ProcDir::open(Pid(std::process::id())).expect("we live");
        let exe = std::env::current_exe().expect("a path");
        let dir = tempfile::tempdir().expect("dir");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&exe, &link).expect("links");
        let text = |path: &Path| path.display().to_string();
        let name = exe
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        for selector in [
            Selector::Name(name),
            Selector::Exe(text(&exe)),
            Selector::Exe(text(&link)),
            Selector::Cgroup("/".into()),
        ] {
            assert!(selector.matches(&own), "{selector}");
        }
        for selector in [
            Selector::Name("no such name".into()),
            Selector::Exe("/no/such/file".into()),
            Selector::Unit("no-such-unit.service".into()),
            Selector::Cgroup("/no/such/group".into()),
            Selector::Container("0123456789ab".into()),
        ] {
            assert!(!selector.matches(&own), "{selector}");
        }
    }
}
