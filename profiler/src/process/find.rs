//! Finding the target by name.

use super::comm::parse_comm;
use super::errors::FindError;
use super::near;
use super::proc_dir::{self, PF_KTHREAD, ProcDir, all_pids, exe_file_name};
use crate::units::Pid;
use profiler_common::map::MAX_PROCESSES;

/// Characters shown of a candidate's command line.
const MAX_CMDLINE: usize = 100;

/// The processes whose main thread or executable file is called `name`, in the order of their
/// ids; at least one.
///
/// # Errors
/// Where there is none, or more than can be recorded at once.
pub fn find_by_name(name: &str) -> Result<Vec<Pid>, FindError> {
    let pids = all_pids().map_err(FindError::List)?.into_iter();
    let found: Vec<(Pid, String)> = pids
        .filter_map(|pid| Some((pid, matching(pid, name)?)))
        .collect();
    match found.len() {
        0 => Err(FindError::None {
            name: name.to_owned(),
            near: near::near(name),
        }),
        1..=MAX_PROCESSES => Ok(found.into_iter().map(|(pid, _)| pid).collect()),
        _ => Err(FindError::TooMany {
            name: name.to_owned(),
            most: MAX_PROCESSES,
            found,
        }),
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
    let cmdline = dir.cmdline().unwrap_or_default();
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
    fn all_of_a_name_are_found() {
        let dir = tempfile::tempdir().expect("dir");
        // Longer than a thread's name can be: found by the file's name.
        let name = format!("holdup-find-test-{}", std::process::id());
        let path = dir.path().join(&name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        assert!(
            matches!(find_by_name(&name), Err(FindError::None { name: none, .. }) if none == name)
        );

        let mut first = sleeper(&path);
        let deadline = Instant::now() + Duration::from_secs(10);
        while find_by_name(&name).ok() != Some(vec![Pid(first.id())]) {
            assert!(Instant::now() < deadline, "never found");
        }
        let mut second = sleeper(&path);
        let mut both = vec![Pid(first.id()), Pid(second.id())];
        both.sort_unstable();
        while find_by_name(&name).ok() != Some(both.clone()) {
            assert!(Instant::now() < deadline, "never found both");
        }
        for child in [&mut first, &mut second] {
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
