//! A user who may do one thing as root: call holdup.

use crate::capable::{LIMITED, LIMITS};
use crate::fixture::{Running, Variant};
use crate::report::Report;
use libtest_mimic::Failed;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Why real sudo cannot be tried here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    ["sudo", "runuser"]
        .into_iter()
        .find(|program| !has(program))
        .map(|program| format!("no {program}; apt-get install sudo util-linux"))
}

/// A user with a rule, both gone with the value.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    rule: PathBuf,
}

impl User {
    pub(crate) fn new() -> Result<User, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("holdup-t{}-{number}", std::process::id());
        let rule = PathBuf::from(format!("/etc/sudoers.d/{name}"));
        let made = Command::new("useradd")
            .args(["--no-create-home", "--shell", "/bin/sh", &name])
            .output()
            .map_err(|error| error.to_string())?;
        // From here on all is undone, whatever fails.
        let mut user = User { name, uid: 0, rule };
        if !made.status.success() {
            return Err(format!("{made:?}"));
        }
        let id = Command::new("id").args(["-u", &user.name]).output();
        let id = id.map_err(|error| error.to_string())?;
        user.uid = String::from_utf8_lossy(&id.stdout)
            .trim()
            .parse()
            .map_err(|error| format!("{id:?}: {error}"))?;
        let holdup = env!("CARGO_BIN_EXE_holdup");
        // Only what is complete may be found by this name.
        let draft = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        let text = format!("{} ALL=(root) NOPASSWD: {holdup}\n", user.name);
        fs::write(draft.path(), text).map_err(|error| error.to_string())?;
        fs::set_permissions(draft.path(), PermissionsExt::from_mode(0o440))
            .and_then(|()| fs::copy(draft.path(), &user.rule))
            .and_then(|_| fs::set_permissions(&user.rule, PermissionsExt::from_mode(0o440)))
            .map_err(|error| error.to_string())?;
        Ok(user)
    }

    /// `sudo holdup …`, typed by the user.
    fn sudo(&self, args: &[&str], environment: &[(&str, &str)]) -> Result<Output, String> {
        let mut command = Command::new("runuser");
        command.args(["-u", &self.name, "--", "env"]);
        for (name, value) in environment {
            command.arg(format!("{name}={value}"));
        }
        command
            .args(["sudo", "-n", env!("CARGO_BIN_EXE_holdup")])
            .args(args)
            .stdin(Stdio::null())
            .current_dir("/")
            .output()
            .map_err(|error| error.to_string())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.rule);
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

pub(crate) fn directory(owner: u32, mode: u32) -> Result<tempfile::TempDir, Failed> {
    let dir = tempfile::tempdir()?;
    chown(dir.path(), Some(owner), Some(owner))?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode))?;
    Ok(dir)
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

type Record<'a> = &'a dyn Fn(&Path, &[(&str, &str)]) -> Result<Output, String>;

/// A capture is the user's, in one file, and nothing beside it is touched: not by the names that
/// SQLite would give to a journal.
fn capture(
    user: &User,
    own: &Path,
    record: Record<'_>,
    wrong: &mut Vec<String>,
) -> Result<(), Failed> {
    let beside = ["x.holdup-journal", "x.holdup-wal", "x.holdup-shm"];
    for name in beside {
        symlink("/etc/holdup-test-journal", own.join(name))?;
    }
    let path = own.join("x.holdup");
    let output = record(&path, &[])?;
    let file = fs::metadata(&path)?;
    if !output.status.success() || (file.uid(), file.mode() & 0o7777 & 0o137) != (user.uid, 0) {
        wrong.push(format!("{output:?}; {}'s, {:o}", file.uid(), file.mode()));
    }
    if fs::symlink_metadata("/etc/holdup-test-journal").is_ok() {
        wrong.push("a journal was written by way of a link".into());
    }
    let report = Command::new("runuser")
        .args([
            "-u",
            &user.name,
            "--",
            env!("CARGO_BIN_EXE_holdup"),
            "report",
        ])
        .arg(&path)
        .output()?;
    if !report.status.success() {
        wrong.push(format!("the user cannot read the capture: {report:?}"));
    }
    for name in beside {
        fs::remove_file(own.join(name))?;
    }
    Ok(())
}

/// A command is the user's, with none of root's rights, wherever it is found.
fn command(user: &User, own: &Path, roots: &Path) -> Result<Option<String>, Failed> {
    let trick = own.join("id");
    fs::write(&trick, "#!/bin/sh\n/usr/bin/id -u\n")?;
    fs::set_permissions(&trick, PermissionsExt::from_mode(0o755))?;
    let path = format!("{}:/usr/bin:/bin", own.display());
    let environment = [
        ("PATH", &*path),
        ("LD_PRELOAD", "/no/such/library.so"),
        ("HOLDUP_LOG", "trace"),
        ("TMPDIR", &*roots.to_string_lossy()),
        ("HOME", "/root"),
    ];
    let output = user.sudo(&["record", "-d", "300ms", "--", "id", "-u"], &environment)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut lines = printed.lines();
    let is_users = lines.any(|line| line.trim() == user.uid.to_string());
    Ok((!is_users).then(|| format!("the command ran as somebody else: {output:?}")))
}

/// The rule lets the user record, and write where the user may write. It is no way to be root.
pub(crate) fn trial() -> Result<(), Failed> {
    let user = User::new()?;
    let (own, roots) = (directory(user.uid, 0o755)?, directory(0, 0o755)?);
    let shared = directory(0, 0o1777)?;
    let (own, roots, shared) = (own.path(), roots.path(), shared.path());
    symlink(roots, own.join("way"))?;
    symlink(roots.join("b.json"), own.join("link.json"))?;
    fs::write(shared.join("roots.json"), "root's")?;
    let mut fixture: Running = Variant::DEFAULT.start("scenarios")?;
    let pid = fixture.pid().to_string();
    let record = |path: &Path, environment: &[(&str, &str)]| {
        let path = path.to_string_lossy().into_owned();
        let args = ["record", "--force", "-d", "1s", "-p", &pid, "-o", &path];
        user.sudo(&args, environment)
    };
    let mut wrong = Vec::new();
    for path in [
        roots.join("a.json"),
        roots.join("a.holdup"),
        own.join("way/a.holdup"),
        "/etc/holdup-test.json".into(),
        "/etc/cron.d/holdup-test.json".into(),
        own.join("way/a.json"),
        own.join("link.json"),
        shared.join("roots.json"),
    ] {
        // Whatever the user says to be.
        let environment = [("SUDO_UID", "0"), ("SUDO_GID", "0"), ("SUDO_USER", "root")];
        let output = record(&path, &environment)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || said.contains("recording ") || !said.contains("write ") {
            wrong.push(format!("{} is not refused: {output:?}", path.display()));
        }
        if fs::metadata(&path).is_ok_and(|file| file.len() != "root's".len() as u64) {
            wrong.push(format!("{} was written", path.display()));
            let _ = fs::remove_file(&path);
        }
    }
    fixture.go()?;
    let report = own.join("report.json");
    let output = record(
        &report,
        &[
            // sudo keeps it from holdup, to which its caller and itself are both root.
            LIMITS,
            ("PATH", "/usr/bin:/bin"),
        ],
    )?;
    if !output.status.success() {
        wrong.push(format!("the user cannot record: {output:?}"));
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let losses = Report::parse(&fs::read_to_string(&report)?)?.losses;
        if said.contains(LIMITED) || losses.cause("stack_table_full") > 0 {
            wrong.push(format!("the user's limits count: {losses:?}; {said}"));
        }
        let file = fs::metadata(&report)?;
        if (file.uid(), file.mode() & 0o7777 & 0o137) != (user.uid, 0) {
            wrong.push(format!(
                "the report is {}'s, with mode {:o}",
                file.uid(),
                file.mode()
            ));
        }
    }
    capture(&user, own, &record, &mut wrong)?;
    wrong.extend(command(&user, own, roots)?);
    if names(roots) != [""; 0] || names(shared) != ["roots.json"] {
        wrong.push(format!(
            "there are {:?} and {:?}",
            names(roots),
            names(shared)
        ));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
