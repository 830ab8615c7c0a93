//! Who called us, where `sudo` stands between.

use rustix::process::{Gid, Uid, geteuid, getgid, getgroups, getuid};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};

/// The user who typed `sudo holdup …`: commands are launched as this user, and files that are
/// made belong to this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoker {
    /// User id.
    pub uid: Uid,
    /// Primary group id.
    pub gid: Gid,
    /// All group ids of the user, the primary one included.
    pub groups: Vec<Gid>,
}

impl Invoker {
    /// Who called this program, whatever rights it has beyond its caller's.
    #[must_use]
    pub fn caller() -> Invoker {
        Invoker {
            uid: getuid(),
            gid: getgid(),
            groups: getgroups().unwrap_or_default(),
        }
    }

    /// Who called this program where it is setuid root; none where it is not, or root called.
    #[must_use]
    pub fn of_setuid() -> Option<Invoker> {
        let is_setuid = geteuid().is_root() && !getuid().is_root();
        is_setuid.then(Invoker::caller)
    }

    /// Reads `SUDO_UID`, `SUDO_GID` and `SUDO_USER` through `lookup`. None where we are not
    /// root (anybody may set a variable, only root may act on it) or `sudo` did not call.
    #[must_use]
    pub fn from_sudo(
        effective_uid: Uid,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Option<Invoker> {
        if !effective_uid.is_root() {
            return None;
        }
        let number = |name: &str| lookup(name)?.to_str()?.parse::<u32>().ok();
        let uid = number("SUDO_UID").filter(|&uid| uid != u32::MAX)?;
        let gid = number("SUDO_GID").filter(|&gid| gid != u32::MAX)?;
        let mut groups = lookup("SUDO_USER")
            .and_then(|name| groups_of(&name, gid))
            .unwrap_or_default();
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Some(Invoker {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        })
    }
}

/// The groups that the system's databases give `user`, as initgroups(3) would set them. Asked
/// before the fork, since afterwards hardly anything may be called.
fn groups_of(user: &OsStr, gid: u32) -> Option<Vec<u32>> {
    let user = CString::new(user.as_encoded_bytes()).ok()?;
    let mut groups = vec![0u32; 64];
    // The number of groups may grow between two calls, but not for ever.
    for _ in 0..4 {
        let mut count = i32::try_from(groups.len()).ok()?;
        // SAFETY: the name is terminated, and `groups` has room for `count` ids.
        let got =
            unsafe { libc::getgrouplist(user.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).ok()?;
        if got >= 0 {
            groups.truncate(count);
            return Some(groups);
        }
        groups.resize(count.max(groups.len() * 2), 0);
    }
    None
}

/// The names of users by their ids, as `/etc/passwd` here has them. Others' container may have others.
#[must_use]
pub fn user_names() -> BTreeMap<u32, String> {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    names_of(&String::from_utf8_lossy(&passwd))
}

/// Of lines `name:password:uid:…` (passwd(5)); of one id the first.
fn names_of(passwd: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1))
            && let Ok(uid) = uid.parse()
        {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(uid: u32, vars: &[(&str, &str)]) -> Option<Invoker> {
        Invoker::from_sudo(Uid::from_raw(uid), |name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn only_root_under_sudo_has_an_invoker() {
        let sudo = [
            ("SUDO_UID", "1234"),
            ("SUDO_GID", "77"),
            ("SUDO_USER", "no-such-user"),
        ];
        assert_eq!(with(1000, &sudo), None);
        assert_eq!(with(0, &[]), None);
        assert_eq!(with(0, &[("SUDO_UID", "x"), ("SUDO_GID", "1")]), None);
        assert_eq!(
            with(0, &[("SUDO_UID", "4294967295"), ("SUDO_GID", "1")]),
            None
        );
        let got = with(0, &sudo).expect("sudo");
        assert_eq!((got.uid.as_raw(), got.gid.as_raw()), (1234, 77));
        assert!(got.groups.contains(&Gid::from_raw(77)));
    }

    #[test]
    fn groups_come_from_the_system() {
        let root = with(
            0,
            &[("SUDO_UID", "0"), ("SUDO_GID", "0"), ("SUDO_USER", "root")],
        );
        assert_eq!(
            root.map(|root| root.groups.contains(&Gid::ROOT)),
            Some(true)
        );
    }
}
