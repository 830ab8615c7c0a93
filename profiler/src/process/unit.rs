//! To which service, container and pod a process belongs, by the names of its control groups.

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
        for line in cgroup.lines() {
            let Some(path) = line.splitn(3, ':').nth(2) else {
                continue;
            };
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
        let stem = part
            .strip_suffix(".scope")
            .or_else(|| part.strip_suffix(".slice"))
            .or_else(|| part.strip_suffix(".service"));
        let name = stem.unwrap_or(part);
        if let Some(id) = container(name) {
            self.container = Some(id);
        } else if let Some(id) = pod(name) {
            self.pod = Some(id);
        } else if part.ends_with(".service") || part.ends_with(".scope") {
            self.unit = Some(part.to_owned());
        }
    }
}

/// `docker-0123…`, `cri-containerd-0123…`, or the id alone.
fn container(name: &str) -> Option<String> {
    let id = name.rsplit(['-', ':']).next()?;
    let is_id = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.chars().take(SHORT).collect())
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
    fn hierarchies_of_version_1_are_read_too() {
        let text = format!("12:pids:/\n4:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n");
        assert_eq!(Unit::of(&text).container.as_deref(), Some("0123456789ab"));
        assert_eq!(Unit::of("nonsense"), Unit::default());
    }
}
