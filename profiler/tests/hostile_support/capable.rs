//! holdup with file capabilities, called by a user who has none.

use crate::fixture::{Running, Variant};
use crate::sudo::{User, directory, names};
use libtest_mimic::Failed;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,\
    cap_checkpoint_restore,cap_syslog,cap_kill,cap_fowner,cap_dac_override,\
    cap_setuid,cap_setgid=ep";
const SECRET: &str = "for root's eyes only";

/// Why it cannot be tried here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let there = Command::new("setcap").arg("-h").output().is_ok();
    let missing = (!there).then(|| "no setcap; apt-get install libcap2-bin".into());
    missing.or_else(crate::sudo::missing)
}

/// No file of root's is read or written for a user who could not.
pub(crate) fn trial() -> Result<(), Failed> {
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
    let mut fixture: Running = Variant::DEFAULT.start("scenarios")?;
    let pid = fixture.pid().to_string();
    let call = |args: &[&str]| -> Result<Output, Failed> {
        let output = Command::new("runuser")
            .args(["-u", &user.name, "--"])
            .arg(&holdup)
            .args(args)
            // None of these counts: who calls it gains rights.
            .env("HOLDUP_TEST_LIMITS", "STACKS=1")
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
    fixture.go()?;
    let report = own.join("report.json");
    let output = record(&report)?;
    match fs::metadata(&report) {
        Ok(file) if output.status.success() && file.uid() == user.uid => {}
        other => wrong.push(format!("the user cannot record: {other:?} {output:?}")),
    }
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
    if fs::read_to_string(&secret)? != SECRET || names(roots).len() != 2 {
        wrong.push(format!("there are {:?}", names(roots)));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
