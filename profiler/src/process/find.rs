//! Finding the target by name.

use super::proc_dir::{self, PF_KTHREAD, ProcDir};
use super::threads::parse_comm;
use crate::error::{Error, Result, shell_word};
use crate::units::Pid;

/// Candidates listed at most where a name is not unique.
const MAX_LISTED: usize = 20;
/// Characters shown of a candidate's command line.
const MAX_CMDLINE: usize = 100;

/// The one process whose main thread or executable file is called `name`.
///
/// # Errors
/// Where there is none, or more than one: then each is listed.
pub fn find_by_name(name: &str) -> Result<Pid> {
    let proc = std::fs::read_dir("/proc")
        .map_err(|error| Error::new("cannot list the processes in /proc").because(error))?;
    let own = std::process::id();
    let mut found: Vec<(Pid, String)> = proc
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != own)
        .filter_map(|pid| Some((Pid(pid), matching(Pid(pid), name)?)))
        .collect();
    found.sort_unstable();
    match found.as_slice() {
        [] => Err(Error::new(format!("no process is called {name}"))
            .hint(format!("pgrep -af {}", shell_word(name)))),
        [(pid, _)] => Ok(*pid),
        [(first, _), ..] => {
            let mut error = Error::new(format!("{} processes are called {name}", found.len()))
                .hint(format!("holdup record -p {first}"));
            for (pid, cmdline) in found.iter().take(MAX_LISTED) {
                error = error.detail(format!("{pid:>7}  {cmdline}"));
            }
            if found.len() > MAX_LISTED {
                error = error.detail(format!("and {} more", found.len() - MAX_LISTED));
            }
            Err(error)
        }
    }
}

/// The command line of `pid` if it is called `name`. A process that ends meanwhile is none.
fn matching(pid: Pid, name: &str) -> Option<String> {
    let dir = ProcDir::open(pid).ok()?;
    let comm = parse_comm(&dir.read("comm").ok()?);
    // Readable for processes of other users only with CAP_SYS_PTRACE: then the name must do.
    let exe = dir.read_link("exe").unwrap_or_default();
    if comm != name && exe_file_name(&exe) != name.as_bytes() {
        return None;
    }
    let stat = proc_dir::parse_stat(&dir.read("stat").ok()?)?;
    if stat.flags & PF_KTHREAD != 0 || stat.state == b'Z' {
        return None;
    }
    let cmdline = dir.read("cmdline").unwrap_or_default();
    let text = String::from_utf8_lossy(&cmdline)
        .trim_end_matches('\0')
        .replace('\0', " ");
    let text = if text.is_empty() {
        format!("[{comm}]")
    } else {
        text
    };
    Some(shortened(&text))
}

fn exe_file_name(link: &[u8]) -> &[u8] {
    let path = link.strip_suffix(b" (deleted)").unwrap_or(link);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CMDLINE) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
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
    fn one_is_found_and_several_are_listed() {
        let dir = tempfile::tempdir().expect("dir");
        // Longer than a thread's name can be: found by the file's name.
        let name = format!("holdup-find-test-{}", std::process::id());
        let path = dir.path().join(&name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        assert!(
            find_by_name(&name).is_err_and(|error| {
                error.to_string() == format!("no process is called {name}")
            })
        );

        let mut first = sleeper(&path);
        let deadline = Instant::now() + Duration::from_secs(10);
        while find_by_name(&name).ok() != Some(Pid(first.id())) {
            assert!(Instant::now() < deadline, "never found");
        }
        let mut second = sleeper(&path);
        let error = loop {
            match find_by_name(&name) {
                Err(error) => break error,
                Ok(_) => assert!(Instant::now() < deadline, "never found both"),
            }
        };
        let lower = first.id().min(second.id());
        assert_eq!(error.to_string(), format!("2 processes are called {name}"));
        assert_eq!(
            error.suggestion(),
            Some(format!("holdup record -p {lower}").as_str())
        );
        assert_eq!(error.details().len(), 2);
        for child in [&mut first, &mut second] {
            let pid = child.id().to_string();
            assert!(
                error
                    .details()
                    .iter()
                    .any(|line| line.trim_start().starts_with(&pid))
            );
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    #[test]
    fn long_command_lines_are_cut_between_characters() {
        let long = "ä".repeat(200);
        assert_eq!(shortened(&long).chars().count(), MAX_CMDLINE + 1);
        assert_eq!(shortened("short"), "short");
        assert_eq!(exe_file_name(b"/a/b (deleted)"), b"b");
    }
}
