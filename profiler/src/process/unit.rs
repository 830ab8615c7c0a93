//! To which service, container and pod a process belongs, by the names of its control groups.

/// Where control groups are mounted everywhere.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// What the path of a control group tells. The names are whatever its maker chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The innermost service or scope of systemd (`claims.service`).
    pub unit: Option<String>,
    /// The container's id, in its first twelve digits as `docker ps` shows it.
    pub container: Option<String>,
    /// The pod's id.
    pub pod: Option<String>,
}

/// Digits of a container's id that are told.
const SHORT: usize = 12;
/// Digits of such an id.
const ID: usize = 64;

impl Unit {
    /// By the text of `/proc/PID/cgroup`: lines `0::/path` of cgroup v2, `2:cpu:/path` of v1. Paths
    /// are below the root of the cgroup namespace of whoever reads.
    #[must_use]
    pub fn of(cgroup: &str) -> Unit {
        let mut unit = Unit::default();
        for path in group_paths(cgroup) {
            for part in path.split('/') {
                unit.add(part);
            }
            // Hierarchies of v1 say the same as the first that says anything.
            if unit != Unit::default() {
                break;
            }
        }
        unit
    }

    fn add(&mut self, part: &str) {
        let name = stem(part);
        if let Some(id) = container(name) {
            self.container = Some(id.chars().take(SHORT).collect());
        } else if let Some(id) = pod(name) {
            self.pod = Some(id);
        } else if part.ends_with(".service") || part.ends_with(".scope") {
            self.unit = Some(part.to_owned());
        }
    }
}

/// The paths in the text of `/proc/PID/cgroup`, without the mark of a group that was removed.
pub(super) fn group_paths(cgroup: &str) -> impl Iterator<Item = &str> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(|path| path.strip_suffix(" (deleted)").unwrap_or(path))
}

/// The whole id of the innermost container that a group's path names.
pub(super) fn container_of(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|part| container(stem(part)))
}

/// Units that a group's path names, the outermost first.
pub(super) fn units_of(path: &str) -> impl Iterator<Item = &str> {
    let units = path.split('/').filter(|part| stem(part) != *part);
    units.map(|part| part.strip_prefix('_').unwrap_or(part))
}

/// The name of a unit without its kind.
fn stem(part: &str) -> &str {
    part.strip_suffix(".scope")
        .or_else(|| part.strip_suffix(".slice"))
        .or_else(|| part.strip_suffix(".service"))
        .unwrap_or(part)
}

/// `docker-0123…`, `cri-containerd-0123…`, or the id alone.
fn container(name: &str) -> Option<&str> {
    let id = name.rsplit(['-', ':']).next()?;
    let is_id = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// `kubepods-burstable-pod0123_4567_…`, `pod0123-4567-…`.
fn pod(name: &str) -> Option<String> {
    let at = name
        .find("pod")
        .filter(|at| *at == 0 || name.starts_with("kubepods-"))?;
    let id = match name.get(at..)?.strip_prefix("pods-") {
        // The first one is of `kubepods`.
        Some(rest) => rest.rsplit("pod").next()?,
        None => name.get(at..)?.strip_prefix("pod")?,
    };
    let id = id.replace('_', "-");
    let is_id = id.len() >= 32
        && id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn told(path: &str) -> (Option<String>, Option<String>, Option<String>) {
        let Unit {
            unit,
            container,
            pod,
        } = Unit::of(&format!("0::{path}\n"));
        (unit, container, pod)
    }

    #[test]
    fn services_containers_and_pods_are_told_by_their_groups() {
        let short = || Some("0123456789ab".to_owned());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told("/system.slice/claims.service"),
            (some("claims.service"), None, None)
        );
        assert_eq!(
            told("/user.slice/user-1000.slice/session-3.scope"),
            (some("session-3.scope"), None, None)
        );
        assert_eq!(
            told(&format!("/system.slice/docker-{ID}.scope")),
            (None, short(), None)
        );
        assert_eq!(told(&format!("/docker/{ID}")), (None, short(), None));
        let pod = "12345678-1234-1234-1234-123456789abc";
        let slice = pod.replace('-', "_");
        assert_eq!(
            told(&format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/\
                 cri-containerd-{ID}.scope"
            )),
            (None, short(), some(pod))
        );
        assert_eq!(
            told(&format!("/kubepods/besteffort/pod{pod}/{ID}")),
            (None, short(), some(pod))
        );
        assert_eq!(told("/"), (None, None, None));
        assert_eq!(told("/podium/app"), (None, None, None));
    }

    #[test]
    fn whole_ids_and_units_are_told_of_a_path() {
        let path = format!("/system.slice/docker-{ID}.scope/init");
        assert_eq!(container_of(&path), Some(ID));
        assert_eq!(container_of("/system.slice/x.service"), None);
        let units: Vec<_> = units_of("/user.slice/user@7.service/app/_cpu.service").collect();
        assert_eq!(units, ["user.slice", "user@7.service", "cpu.service"]);
        let paths: Vec<_> = group_paths("0::/a (deleted)\nx\n3:cpu:/b:c\n").collect();
        assert_eq!(paths, ["/a", "/b:c"]);
    }

    #[test]
    fn hierarchies_of_version_1_are_read_too() {
        let text = format!("12:pids:/\n4:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n");
        assert_eq!(Unit::of(&text).container.as_deref(), Some("0123456789ab"));
        assert_eq!(Unit::of("nonsense"), Unit::default());
    }
}
