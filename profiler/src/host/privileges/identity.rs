//! As whom a thread touches files: its user, its group and its other groups, which belong to each
//! thread of its own; see credentials(7).

use crate::process::Invoker;
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
};
use std::io;

/// What files are touched with beyond the rights of their owners; capabilities(7).
const RIGHTS_TO_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD);

/// Does something with files as `user`, and as nobody else: with its groups, and without any
/// right to files beyond the user's. This thread alone is changed, and changed back.
///
/// # Errors
/// Where the kernel does not let us be that user; `act` is not called then.
pub(crate) fn as_user<T>(user: &Invoker, act: impl FnOnce() -> T) -> io::Result<T> {
    let (uid, gid) = own_file_ids();
    let back = Identity {
        uid,
        gid,
        groups: (!has_groups_of(user)?).then(getgroups).transpose()?,
        capabilities: capabilities(None)?,
    };
    if back.groups.is_some() {
        set_thread_groups(&user.groups)?;
    }
    set_file_ids(user.uid.as_raw(), user.gid.as_raw());
    // The calls that set ids fail without a word.
    if own_file_ids() != (user.uid.as_raw(), user.gid.as_raw()) {
        return Err(Errno::PERM.into());
    }
    let held = capabilities(None)?;
    let lowered = CapabilitySets {
        effective: held.effective - RIGHTS_TO_FILES,
        ..held
    };
    set_capabilities(None, lowered)?;
    Ok(act())
}

/// Whether this thread has the groups of that user already.
pub(super) fn has_groups_of(user: &Invoker) -> io::Result<bool> {
    let sorted = |groups: &[Gid]| {
        let mut groups: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    Ok(sorted(&getgroups()?) == sorted(&user.groups))
}

/// Who this thread was before. Dropped, it is so again.
struct Identity {
    uid: u32,
    gid: u32,
    /// None where they did not change.
    groups: Option<Vec<Gid>>,
    capabilities: CapabilitySets,
}

impl Drop for Identity {
    fn drop(&mut self) {
        // Back to ids of our own, which needs no capability; the one for the groups was there a
        // moment ago. Setting the ids gives and takes capabilities, so those come last.
        set_file_ids(self.uid, self.gid);
        if let Some(groups) = &self.groups {
            let _ = set_thread_groups(groups);
        }
        let _ = set_capabilities(None, self.capabilities);
    }
}

/// Whether this program has rights that its caller has not: it is setuid, setgid, or has
/// capabilities of its own. What the caller put into the environment counts for nothing then.
#[must_use]
pub fn is_more_than_its_caller() -> bool {
    // SAFETY: takes no pointers.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) };
    secure != 0 || getuid() != geteuid() || getgid() != getegid()
}

/// Whose rights to files count: those of the user behind `sudo`, or of the one who called a
/// program that has more; none where we are nobody but ourselves.
#[must_use]
pub fn user_of_files(invoker: Option<&Invoker>) -> Option<Invoker> {
    let not_root = |user: &Invoker| !user.uid.is_root();
    match invoker {
        Some(invoker) => Some(invoker.clone()).filter(not_root),
        None => is_more_than_its_caller()
            .then(Invoker::caller)
            .filter(not_root),
    }
}

/// The user and the group as whom this thread touches files.
pub(super) fn own_file_ids() -> (u32, u32) {
    // Ids that are none change nothing.
    set_file_ids(u32::MAX, u32::MAX)
}

/// Whether this thread may do with a file of the user `uid` what its owner may.
pub(crate) fn is_owner(uid: u32) -> bool {
    own_file_ids().0 == uid
        || capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::FOWNER))
}

/// Whether a name that leads elsewhere may be followed: only root, or we ourselves, can have put
/// it there.
pub(crate) fn is_trusted(owner: u32) -> bool {
    Uid::from_raw(owner).is_root() || own_file_ids().0 == owner
}

/// Makes this thread touch files as this user and group; see setfsuid(2). Returns the ids before.
pub(super) fn set_file_ids(uid: u32, gid: u32) -> (u32, u32) {
    // SAFETY: the calls take no pointers and change this thread only.
    let gid = unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    let uid = unsafe { libc::setfsuid(uid) };
    (uid.cast_unsigned(), gid.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::skipped;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// A user that has nothing here but what is everybody's, in a group of its own.
    fn user(groups: &[u32]) -> Invoker {
        Invoker {
            uid: Uid::from_raw(54_321),
            gid: Gid::from_raw(54_322),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }

    fn may_change_ids() -> bool {
        capabilities(None).is_ok_and(|held| {
            let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
            held.effective.contains(needed)
        })
    }

    #[test]
    fn a_user_has_its_own_rights_and_no_others() {
        let dir = tempfile::tempdir().expect("dir");
        let make = |name: &str, mode: u32, owner: (u32, u32)| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("makes");
            std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).expect("chown");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            path
        };
        if !may_change_ids() {
            assert!(as_user(&user(&[54_322]), || ()).is_err());
            return skipped("users cannot be changed");
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let (roots, own) = (
            make("roots", 0o755, (0, 0)),
            make("own", 0o700, (54_321, 0)),
        );
        let of_group = make("of-group", 0o770, (0, 54_323));
        let write = |dir: &std::path::Path| std::fs::write(dir.join("x"), "x");
        let user_of_group = user(&[54_322, 54_323]);
        let before = (
            own_file_ids(),
            getgroups().expect("groups"),
            capabilities(None).ok(),
        );
        for (dir, who, works) in [
            (&roots, &user(&[54_322]), false),
            (&own, &user(&[54_322]), true),
            (&of_group, &user(&[54_322]), false),
            (&of_group, &user_of_group, true),
        ] {
            let written = as_user(who, || write(dir)).expect("root may be anybody");
            assert_eq!(written.is_ok(), works, "{} {written:?}", dir.display());
            if works {
                let made = std::fs::metadata(dir.join("x")).expect("there");
                assert_eq!((made.uid(), made.gid()), (54_321, 54_322));
            }
        }
        let after = (
            own_file_ids(),
            getgroups().expect("groups"),
            capabilities(None).ok(),
        );
        assert_eq!(before, after);
        let inner = as_user(&user_of_group, || {
            as_user(&user_of_group, || write(&of_group))
        });
        assert!(
            matches!(inner, Ok(Ok(Ok(())))),
            "as the same again: {inner:?}"
        );
    }

    #[test]
    fn a_panic_leaves_nobody_else_behind() {
        if !may_change_ids() {
            return skipped("users cannot be changed");
        }
        let before = (own_file_ids(), getgroups().expect("groups"));
        let panicked = std::panic::catch_unwind(|| as_user(&user(&[1]), || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(before, (own_file_ids(), getgroups().expect("groups")));
    }
}
