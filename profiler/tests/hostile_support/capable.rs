//! holdup with file capabilities, called by a user who has none.

use crate::fixture::{Running, Variant};
use crate::honest;
use crate::live_recording::ensure;
use crate::record::{ATTACHED, spawn_record, until_recording};
use crate::report::Report;
use crate::sudo::{User, directory, names};
use libtest_mimic::Failed;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,\
    cap_checkpoint_restore,cap_syslog,cap_kill,cap_fowner,cap_dac_override,\
    cap_setuid,cap_setgid=ep";
const SECRET: &str = "for root's eyes only";

/// A table of stacks that is full at once. Who heeds it says so, and loses stacks.
pub(crate) const LIMITS: (&str, &str) = ("HOLDUP_TEST_LIMITS", "STACKS=8");
/// What is said then.
pub(crate) const LIMITED: &str = "tables are made small";
/// For the honest program to play its part.
const LENGTH: &str = "4s";

/// Why it cannot be tried here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let there = Command::new("setcap").arg("-h").output().is_ok();
    let missing = (!there).then(|| "no setcap; apt-get install libcap2-bin".into());
    missing.or_else(crate::sudo::missing)
}

/// What came of [`LIMITS`].
#[derive(Debug)]
struct Limited {
    warned: bool,
    /// Waits that found the table full.
    full: u64,
    /// What the report lacks.
    missing: Vec<String>,
}

/// Records the honest program by this holdup, with [`LIMITS`] in its environment.
fn limited(mut holdup: Command, report: &Path) -> Result<Limited, Failed> {
    let mut fixture: Running = Variant::DEFAULT.start(honest::MODE)?;
    let pid = fixture.pid();
    holdup
        .args(["record", "--force", "-d", LENGTH, "-p", &pid.to_string()])
        .arg("-o")
        .arg(report)
        .env(LIMITS.0, LIMITS.1)
        .env_remove("HOLDUP_LOG")
        .current_dir("/");
    let (mut holdup, mut messages) = spawn_record(&mut holdup)?;
    until_recording(&mut messages)?;
    fixture.go()?;
    let truth = fixture.truth()?;
    let status = holdup.wait(ATTACHED)?;
    messages.drain(Duration::from_secs(1));
    let said = messages.transcript();
    if !status.success() {
        return Err(format!("it cannot be recorded: {status}; {said}").into());
    }
    let report = Report::parse(&fs::read_to_string(report)?)?;
    Ok(Limited {
        warned: said.contains(LIMITED),
        full: report.losses.cause("stack_table_full"),
        missing: honest::compared(&report, pid, truth, 0).waits,
    })
}

/// What is ignored for a user counts for root, who gains nothing by it: where it did not, nothing would
/// be tried by it.
fn limits_count_for_root() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let holdup = Command::new(env!("CARGO_BIN_EXE_holdup"));
    let recording = limited(holdup, &dir.path().join("report.json"))?;
    let counts = recording.warned && recording.full > 0 && !recording.missing.is_empty();
    ensure(counts, || format!("{recording:?}"))
}

/// What tells a file that the user may not read.
fn told_secrets(
    secret: &Path,
    call: impl Fn(&[&str]) -> Result<Output, Failed>,
) -> Result<Vec<String>, Failed> {
    let mut wrong = Vec::new();
    let secret_path = secret.to_string_lossy().into_owned();
    for args in [
        &["record", "-d", "300ms", "--", "cat", &secret_path][..],
        &[
            "record",
            "-d",
            "300ms",
            "--",
            "sh",
            "-c",
            &format!("cat {secret_path}"),
        ],
        &["record", "-d", "300ms", "--", &secret_path],
        &["check", "--", &secret_path],
    ] {
        let output = call(args)?;
        let printed = [output.stdout, output.stderr].concat();
        if String::from_utf8_lossy(&printed).contains(SECRET) {
            wrong.push(format!("{args:?} tells the secret"));
        }
    }
    Ok(wrong)
}

/// No file of root's is read or written for a user who could not, and nothing that the user says counts.
pub(crate) fn trial() -> Result<(), Failed> {
    limits_count_for_root()?;
    let user = User::new()?;
    let (own, roots) = (directory(user.uid, 0o755)?, directory(0, 0o755)?);
    let (own, roots) = (own.path(), roots.path());
    let holdup = roots.join("holdup");
    fs::copy(env!("CARGO_BIN_EXE_holdup"), &holdup)?;
    let capable = Command::new("setcap")
        .arg(CAPABILITIES)
        .arg(&holdup)
        .status()?;
    if !capable.success() {
        return Err("setcap fails".into());
    }
    let secret = roots.join("secret");
    fs::write(&secret, SECRET)?;
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600))?;
    symlink(roots, own.join("way"))?;
    symlink(&secret, own.join("link.json"))?;
    let fixture: Running = Variant::DEFAULT.start(honest::MODE)?;
    let pid = fixture.pid().to_string();
    let call = |args: &[&str]| -> Result<Output, Failed> {
        let output = Command::new("runuser")
            .args(["-u", &user.name, "--"])
            .arg(&holdup)
            .args(args)
            // None of these counts: who calls it gains rights.
            .env(LIMITS.0, LIMITS.1)
            .env("SUDO_UID", "0")
            .env("SUDO_GID", "0")
            .stdin(Stdio::null())
            .current_dir("/")
            .output()?;
        Ok(output)
    };
    let record = |path: &Path| {
        let path = path.to_string_lossy().into_owned();
        call(&["record", "--force", "-d", "1s", "-p", &pid, "-o", &path])
    };
    let mut wrong = Vec::new();
    for path in [
        roots.join("a.json"),
        own.join("way/a.json"),
        "/etc/cron.d/holdup-test.json".into(),
        "/root/holdup-test.json".into(),
    ] {
        let output = record(&path)?;
        if output.status.success() || path.exists() {
            wrong.push(format!("{} is not refused: {output:?}", path.display()));
            let _ = fs::remove_file(&path);
        }
    }
    // What is at the name may be replaced: the directory is the user's. What it leads to may not.
    record(&own.join("link.json"))?;
    drop(fixture);
    let mut by_user = Command::new("runuser");
    by_user.args(["-u", &user.name, "--"]).arg(&holdup);
    let report = own.join("report.json");
    let recording = limited(by_user, &report)?;
    if recording.warned || recording.full > 0 {
        wrong.push(format!("the user's environment counts: {recording:?}"));
    }
    wrong.extend(recording.missing);
    if fs::metadata(&report)?.uid() != user.uid {
        wrong.push("the report is not the user's".into());
    }
    wrong.extend(told_secrets(&secret, call)?);
    if fs::read_to_string(&secret)? != SECRET || names(roots).len() != 2 {
        wrong.push(format!("there are {:?}", names(roots)));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
