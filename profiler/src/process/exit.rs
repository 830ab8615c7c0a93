//! How a process ended that is not our child: `wait` tells only its parent.

use super::proc_dir::ProcDir;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Field of `/proc/PID/stat` that has the exit status in the form of `wait`; counted as in
/// proc_pid_stat(5), from 1.
const EXIT_CODE: usize = 52;
/// Fields that follow the name, the first of which is the third.
const FIRST_AFTER_NAME: usize = 3;

/// How the process of a pidfd ended: from Linux 6.15 on the pidfd tells it once the process was
/// waited for, before that its directory does. None where it lives, or where that is not known.
pub(super) fn status(pidfd: impl AsFd, dir: &ProcDir) -> Option<ExitStatus> {
    by_pidfd(pidfd).or_else(|| by_stat(&dir.read("stat").ok()?))
}

fn by_pidfd(pidfd: impl AsFd) -> Option<ExitStatus> {
    // SAFETY: numbers, for which all bits zero are a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the command's number has the size of what it writes, `info`, in it.
    let failed = unsafe { libc::ioctl(fd, libc::PIDFD_GET_INFO, &raw mut info) };
    let told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    (failed == 0 && told).then(|| ExitStatus::from_raw(info.exit_code))
}

/// The status of a process that has ended and was not waited for.
fn by_stat(stat: &[u8]) -> Option<ExitStatus> {
    // The name may have anything in it, brackets and spaces too.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    let code = fields.nth(EXIT_CODE - FIRST_AFTER_NAME - 1)?;
    Some(ExitStatus::from_raw(code.parse().ok()?))
}

/// `exited`, `exited with status 3`, `killed by SIGKILL`; `ended` where it is not known how.
#[must_use]
pub fn status_text(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return "ended".into();
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => "exited".into(),
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => "ended".into(),
    }
}

/// The name of a signal as signal(7) has it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Target;
    use crate::units::Pid;
    use std::process::Command;

    #[test]
    fn statuses_have_words() {
        for (raw, text) in [
            (0, "exited"),
            (3 << 8, "exited with status 3"),
            (libc::SIGKILL, "killed by SIGKILL"),
            (libc::SIGSEGV | 0x80, "killed by SIGSEGV"),
            (40, "killed by signal 40"),
        ] {
            assert_eq!(status_text(Some(ExitStatus::from_raw(raw))), text);
        }
        assert_eq!(status_text(None), "ended");
    }

    #[test]
    fn only_what_has_ended_has_a_status_in_stat() {
        let numbers = |last: i32| {
            let zeros = "0 ".repeat(EXIT_CODE - FIRST_AFTER_NAME - 1);
            format!("{zeros}{last}")
        };
        let text = |state: &str| format!("7 (a) Z (b) {state} {}", numbers(9));
        let status = by_stat(text("Z").as_bytes()).expect("it has ended");
        assert_eq!(status_text(Some(status)), "killed by SIGKILL");
        assert_eq!(by_stat(text("S").as_bytes()), None);
        assert_eq!(by_stat(b"7 (a) Z 1 2"), None);
        assert_eq!(by_stat(b""), None);
    }

    /// Before and after it was waited for.
    #[test]
    fn a_killed_process_tells_the_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let target = Target::open(Pid(child.id())).expect("it lives");
        assert_eq!(target.exit_status(), None);
        child.kill().expect("kill");
        while !target.ended() {
            std::thread::yield_now();
        }
        assert_eq!(status_text(target.exit_status()), "killed by SIGKILL");
        child.wait().expect("wait");
        // Older kernels do not say any more.
        let after = status_text(target.exit_status());
        assert!(["killed by SIGKILL", "ended"].contains(&&*after), "{after}");
    }
}
