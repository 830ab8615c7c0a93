use super::*;
use crate::process::Target;
use crate::testing::skipped;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn command(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}

fn shell(script: &str, args: &[&Path]) -> Vec<OsString> {
    let mut words = command(&["/bin/sh", "-c", script, "sh"]);
    words.extend(args.iter().map(|path| path.as_os_str().to_owned()));
    words
}

#[test]
fn the_command_is_held_until_the_release() {
    let dir = tempfile::tempdir().expect("dir");
    let mark = dir.path().join("mark");
    let mut launched =
        Launched::spawn(&shell("echo ran > \"$1\"; exit 7", &[&mark]), None).expect("starts");

    let target = Target::open(launched.pid()).expect("it is the program already");
    assert_eq!(
        target.cmdline_text().first().map(String::as_str),
        Some("/bin/sh")
    );
    let mappings = target.mappings().expect("maps");
    assert!(
        mappings
            .iter()
            .any(|mapping| mapping.executable && mapping.path == target.exe())
    );
    std::thread::sleep(Duration::from_millis(50));
    assert!(!mark.exists(), "it ran before the release");
    assert!(!launched.is_finished());

    launched.release();
    launched.release();
    assert_eq!(launched.wait().expect("reaped").code(), Some(7));
    assert!(mark.exists());
    assert!(target.ended());
}

#[test]
fn signals_work_after_the_release() {
    let mut launched = Launched::spawn(&command(&["sleep", "60"]), None).expect("starts");
    launched.release();
    launched.terminate().expect("sent");
    let status = launched.wait().expect("reaped");
    assert_eq!(
        status.signal(),
        Some(libc::SIGTERM),
        "the signal mask is empty again"
    );
}

#[test]
fn dropped_before_the_release_it_is_killed() {
    let dir = tempfile::tempdir().expect("dir");
    let mark = dir.path().join("mark");
    let launched = Launched::spawn(&shell("echo ran > \"$1\"", &[&mark]), None).expect("starts");
    let target = Target::open(launched.pid()).expect("opens");
    drop(launched);
    assert!(target.ended());
    assert!(!mark.exists());
}

#[test]
fn a_signal_during_the_hold_waits() {
    let mut launched = Launched::spawn(&command(&["sleep", "60"]), None).expect("starts");
    launched.terminate().expect("sent");
    launched.release();
    assert_eq!(
        launched.wait().expect("reaped").signal(),
        Some(libc::SIGTERM)
    );
}

#[test]
fn what_cannot_run_says_why() {
    let refused = |words: &[&str]| match Launched::spawn(&command(words), None) {
        Ok(launched) => panic!("{launched:?} runs"),
        Err(error) => error,
    };
    let reason = |error: LaunchError| match error {
        LaunchError::Run { source, .. } => source.kind(),
        other => panic!("{other:?}"),
    };
    let missing = reason(refused(&["/no/such/program"]));
    assert_eq!(missing, io::ErrorKind::NotFound);
    let forbidden = reason(refused(&["/etc/passwd"]));
    assert_eq!(forbidden, io::ErrorKind::PermissionDenied);
    assert!(matches!(refused(&[]), LaunchError::NoCommand));
}

#[test]
fn under_sudo_it_runs_as_the_invoker() {
    use rustix::process::{Gid, Uid, geteuid};
    let nobody = Invoker {
        uid: Uid::from_raw(65534),
        gid: Gid::from_raw(65534),
        groups: vec![Gid::from_raw(65534), Gid::from_raw(100)],
    };
    if !geteuid().is_root() {
        let error = Launched::spawn(&command(&["true"]), Some(&nobody)).expect_err("not root");
        assert!(matches!(error, LaunchError::User { .. }), "{error}");
        return skipped("not root");
    }
    let mut launched = Launched::spawn(&command(&["sleep", "60"]), Some(&nobody)).expect("starts");
    launched.release();
    let path = format!("/proc/{}/status", launched.pid());
    let status = std::fs::read_to_string(path).expect("status");
    let line = |key: &str| {
        status
            .lines()
            .find(|line| line.starts_with(key))
            .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>())
    };
    assert_eq!(line("Uid:"), Some(vec!["65534"; 4]));
    assert_eq!(line("Gid:"), Some(vec!["65534"; 4]));
    assert_eq!(line("Groups:"), Some(vec!["100", "65534"]));
    assert_eq!(line("CapEff:"), Some(vec!["0000000000000000"]));
    assert_eq!(line("SigBlk:"), Some(vec!["0000000000000000"]));
    launched.terminate().expect("sent");
    let begun = Instant::now();
    launched.wait().expect("reaped");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
