//! How `holdup` ends: the one place of exit codes.

use crate::host::{PreflightError, RefusalKind};
use crate::process::{FindError, LaunchError, TargetError};

/// How `holdup` ends. The numbers are an interface: scripts and continuous integration read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well; also after a first Ctrl-C, and when the reader of standard output left.
    Success = 0,
    /// Something failed.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The target shows no sign of tokio.
    NoRuntime = 3,
    /// What was found is what the caller asked to be told of: `dump` saw that no worker of a runtime gets
    /// any further, or a condition of `--fail-if` holds.
    Finding = 4,
    /// The command that was recorded failed, and `--fail-with-command` was given.
    CommandFailed = 5,
    /// The kernel lacks what holdup needs (`EX_UNAVAILABLE` of `sysexits.h`).
    Unsupported = 69,
    /// Not permitted (`EX_NOPERM` of `sysexits.h`).
    Permission = 77,
    /// A second Ctrl-C: ended at once, without a report (128 + `SIGINT`).
    Interrupted = 130,
}

impl Exit {
    /// The number for the shell.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

/// The same table below every help.
macro_rules! with_exit_status {
    ($text:literal) => {
        concat!(
            $text,
            "
Exit status:
   0  success, also after a first Ctrl-C
   1  failure
   2  the command line makes no sense
   3  there is no sign of tokio in the target
   4  dump: the workers of a runtime are wedged or stopped; --fail-if: a condition holds
   5  --fail-with-command: the command failed
  69  the kernel lacks something that holdup needs
  77  permission denied
 130  ended by a second Ctrl-C"
        )
    };
}
pub(super) use with_exit_status;

impl From<RefusalKind> for Exit {
    fn from(kind: RefusalKind) -> Exit {
        match kind {
            RefusalKind::Permission => Exit::Permission,
            RefusalKind::Kernel => Exit::Unsupported,
            RefusalKind::Other => Exit::Failure,
        }
    }
}

impl From<&PreflightError> for Exit {
    fn from(error: &PreflightError) -> Exit {
        match error {
            PreflightError::Capabilities(_) => Exit::Failure,
            PreflightError::Refused(refused) => refused.kind.into(),
            PreflightError::Btf(_) => Exit::Unsupported,
        }
    }
}

impl From<&TargetError> for Exit {
    fn from(error: &TargetError) -> Exit {
        match error {
            TargetError::Denied { .. } => Exit::Permission,
            TargetError::NoPidfd => Exit::Unsupported,
            _ => Exit::Failure,
        }
    }
}

impl From<&FindError> for Exit {
    fn from(_: &FindError) -> Exit {
        Exit::Failure
    }
}

impl From<&LaunchError> for Exit {
    fn from(error: &LaunchError) -> Exit {
        match error {
            LaunchError::NoCommand => Exit::Usage,
            _ => Exit::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Barrier;
    use crate::units::Pid;

    #[test]
    fn what_a_process_refuses_is_a_matter_of_permission() {
        let denied = TargetError::Denied {
            pid: Pid(1),
            uid: None,
            why: Barrier::NoPtrace,
            source: std::io::ErrorKind::PermissionDenied.into(),
        };
        assert_eq!(Exit::from(&denied).code(), 77);
        assert_eq!(Exit::from(&TargetError::Gone(Pid(1))).code(), 1);
        assert_eq!(Exit::from(&TargetError::NoPidfd).code(), 69);
    }
}
