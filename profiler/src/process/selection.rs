//! Processes by what they have in common, and whose they are.

use super::proc_dir::{ProcDir, status_number};
use super::selector::Selector;
use super::stat::parse_stat;
use crate::units::Pid;
use std::fmt;

/// The processes that one of the selectors means, of one user or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where there are none, every process is meant, of the user.
    pub selectors: Vec<Selector>,
    /// Only processes that this user started, by their real user id.
    pub user: Option<u32>,
}

impl Selection {
    /// Processes of all users.
    #[must_use]
    pub fn of_all(selectors: Vec<Selector>) -> Selection {
        Selection {
            selectors,
            user: None,
        }
    }

    /// Whether nothing is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.selectors.is_empty() && self.user.is_none()
    }

    /// Whether a process is meant, which is none that has ended.
    #[must_use]
    pub fn means(&self, pid: Pid) -> bool {
        let Ok(dir) = ProcDir::open(pid) else {
            return false;
        };
        let selects = |selector: &Selector| selector.matches(&dir);
        !self.is_empty()
            && (self.selectors.is_empty() || self.selectors.iter().any(selects))
            && self.has_user(&dir)
            && is_program(&dir)
    }

    pub(super) fn has_user(&self, dir: &ProcDir) -> bool {
        self.user.is_none_or(|user| user_of(dir) == Some(user))
    }
}

/// What the processes are: `called x or in the unit y.service`; for all of a user's, `running`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.selectors.is_empty() {
            return f.write_str("running");
        }
        for (index, selector) in self.selectors.iter().enumerate() {
            if index > 0 {
                f.write_str(" or ")?;
            }
            write!(f, "{selector}")?;
        }
        Ok(())
    }
}

/// A process that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its id.
    pub pid: Pid,
    /// Who started it, by the real user id; none where it has just ended.
    pub user: Option<u32>,
}

/// Whether it is no thread of the kernel's, and has not ended.
pub(super) fn is_program(dir: &ProcDir) -> bool {
    let stat = dir.read("stat").ok();
    let stat = stat.and_then(|stat| parse_stat(&stat));
    stat.is_some_and(|stat| stat.is_of_a_program())
}

/// The real user id. Not that of `/proc/PID`, which root owns where a process cannot be dumped.
pub(super) fn user_of(dir: &ProcDir) -> Option<u32> {
    status_number(&dir.read("status").ok()?, "Uid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getuid;

    #[test]
    fn a_process_is_meant_by_its_name_and_its_user() {
        let own = Pid(std::process::id());
        let exe = std::env::current_exe().expect("a path");
        let exe = Selector::name(&exe.display().to_string());
        let user = getuid().as_raw();
        let means = |selectors: &[&Selector], user| {
            let selectors = selectors.iter().map(|&selector| selector.clone());
            Selection {
                selectors: selectors.collect(),
                user,
            }
            .means(own)
        };
        let other = Selector::name("no-such-name");
        assert!(means(&[&exe], None) && means(&[&other, &exe], Some(user)));
        assert!(!means(&[&exe], Some(user + 1)) && !means(&[&other], Some(user)));
        assert!(means(&[], Some(user)) && !means(&[], Some(user + 1)));
        assert!(!means(&[], None), "nothing");
    }

    #[test]
    fn it_says_what_it_means() {
        let selection = Selection::of_all(vec![Selector::name("a"), Selector::unit("b")]);
        assert_eq!(selection.to_string(), "called a or in the unit b.service");
        assert_eq!(Selection::default().to_string(), "running");
    }
}
