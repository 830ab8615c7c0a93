use super::*;
use crate::testing::{is_root, skipped};
use rustix::process::{Gid, Uid};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn write(path: &Path, overwrite: bool, text: &str) -> Result<()> {
    let pending = PendingFile::create(path, overwrite, None)?;
    pending.file().write_all(text.as_bytes()).expect("writes");
    pending
        .commit()
        .map_err(|error| Error::new("commit").because(error))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("dir")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Ours, without setting it: it is the whole process's.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .expect("an umask");
    u32::from_str_radix(line.trim(), 8).expect("octal")
}

/// The same file, but with a temporary name as on file systems without nameless files.
fn named(path: &Path, overwrite: bool) -> PendingFile {
    let mut pending = PendingFile::create(path, overwrite, None).expect("creates");
    let (file, name) = open_named(&pending.dir).expect("creates");
    (pending.file, pending.temporary) = (file, name);
    pending
}

#[test]
fn a_file_appears_whole_and_private() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.txt");
    let pending = PendingFile::create(&path, false, None).expect("creates");
    pending.file().write_all(b"half").expect("writes");
    assert!(!path.exists(), "not before it is complete");
    pending.file().write_all(b" whole").expect("writes");
    pending.commit().expect("commits");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "half whole");
    let mode = std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode, 0o640 & !umask());
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn dropped_it_leaves_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    drop(PendingFile::create(&dir.path().join("a"), false, None).expect("creates"));
    drop(named(&dir.path().join("b"), false));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn existing_files_are_kept_without_force() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.txt");
    write(&path, false, "old").expect("writes");
    let error = write(&path, false, "new").expect_err("exists");
    assert!(error.to_string().ends_with("it exists"), "{error}");
    let dir_name = dir.path().display();
    assert_eq!(
        error.suggestion(),
        Some(&*format!("add --force, or -o {dir_name}/a-%t.txt"))
    );
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "old");
    write(&path, true, "new").expect("forced");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "new");
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn what_appears_meanwhile_is_kept_too() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.txt");
    for make in [
        |path: &Path| PendingFile::create(path, false, None).expect("creates"),
        |path: &Path| named(path, false),
    ] {
        let pending = make(&path);
        std::fs::write(&path, "other").expect("writes");
        let error = pending.commit().expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "other");
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn links_are_refused_and_never_followed() {
    let dir = tempfile::tempdir().expect("dir");
    let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
    std::fs::write(&victim, "precious").expect("writes");
    symlink(&victim, &link).expect("links");
    for force in [false, true] {
        let error = write(&link, force, "x").expect_err("a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    // One that is put there during the recording: replaced, not followed.
    std::fs::remove_file(&link).expect("removes");
    for make in [
        |path: &Path| PendingFile::create(path, true, None).expect("creates"),
        |path: &Path| named(path, true),
    ] {
        let pending = make(&link);
        pending.file().write_all(b"report").expect("writes");
        symlink(&victim, &link).expect("links");
        pending.commit().expect("commits");
        assert!(link.symlink_metadata().expect("stat").is_file());
        std::fs::remove_file(&link).expect("removes");
    }
    assert_eq!(std::fs::read_to_string(&victim).expect("reads"), "precious");
    symlink(dir.path().join("nowhere"), &link).expect("links");
    assert!(write(&link, true, "x").is_err(), "a dangling link, too");
}

#[test]
fn places_that_hold_no_file() {
    let dir = tempfile::tempdir().expect("dir");
    let refused = |path: &Path| write(path, true, "x").expect_err("refused").chain();
    assert!(refused(dir.path()).ends_with("it is a directory"));
    assert!(refused(&dir.path().join("sub/")).ends_with("it names a directory"));
    assert!(refused(&dir.path().join("..")).ends_with("it names a directory"));
    assert!(refused(Path::new("/dev/null")).ends_with("it is no regular file"));
    let error = PendingFile::create(Path::new("/dev/stdout"), true, None).expect_err("a link");
    assert_eq!(error.suggestion(), Some("for standard output: -o -"));
    let missing = write(&dir.path().join("no/such/x"), false, "x").expect_err("no directory");
    assert!(
        missing
            .suggestion()
            .is_some_and(|hint| hint.starts_with("mkdir -p "))
    );
}

/// A user who has nothing here.
fn user() -> Invoker {
    Invoker {
        uid: Uid::from_raw(54_321),
        gid: Gid::from_raw(54_322),
        groups: vec![Gid::from_raw(54_322)],
    }
}

/// A directory of a user's, within one that everybody may look into.
fn dir_of(owner: u32, mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("dir");
    std::os::unix::fs::chown(dir.path(), Some(owner), None).expect("chown");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).expect("chmod");
    dir
}

/// Root may write anywhere. Who may call holdup by `sudo` may not for that.
#[test]
fn a_user_behind_sudo_writes_where_the_user_may_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("dir");
    if !rustix::process::geteuid().is_root() {
        assert!(PendingFile::create(&dir.path().join("a"), false, Some(&user())).is_err());
        return skipped("not root");
    }
    let refused = |path: &Path| {
        let error = PendingFile::create(path, true, Some(&user())).expect_err("refused");
        let hint = error.suggestion().unwrap_or_default();
        assert!(hint.starts_with("ls -ld /"), "{hint}");
        error.chain()
    };
    let roots = dir_of(0, 0o755);
    for path in [roots.path().join("a"), "/etc/holdup-test".into()] {
        assert!(
            refused(&path).contains("ermission denied"),
            "{}",
            refused(&path)
        );
    }
    // Through a link of the user's own: the user's rights end where they end.
    let own = dir_of(54_321, 0o755);
    symlink(roots.path(), own.path().join("way")).expect("links");
    std::os::unix::fs::lchown(own.path().join("way"), Some(54_321), None).expect("chown");
    assert!(refused(&own.path().join("way/a")).contains("ermission denied"));
    // A directory that the user cannot even look into.
    let secret = dir_of(0, 0o700);
    assert!(refused(&secret.path().join("a")).contains("ermission denied"));
    assert_eq!(names(roots.path()), [""; 0]);

    let path = own.path().join("a.txt");
    let pending = PendingFile::create(&path, false, Some(&user())).expect("creates");
    assert!(pending.can_commit());
    pending.file().write_all(b"report").expect("writes");
    pending.commit().expect("commits");
    let meta = std::fs::metadata(&path).expect("stat");
    assert_eq!((meta.uid(), meta.gid()), (54_321, 54_322));
    std::fs::write(own.path().join("precious"), "").expect("writes");
}

/// In `/tmp` nobody replaces the file of another, and so nobody does by way of holdup.
#[test]
fn a_user_behind_sudo_does_not_replace_the_file_of_another() {
    if !is_root() {
        return;
    }
    let shared = dir_of(0, 0o1777);
    let path = shared.path().join("precious");
    std::fs::write(&path, "root's").expect("writes");
    let error = PendingFile::create(&path, true, Some(&user())).expect_err("refused");
    assert!(error.chain().contains("not permitted"), "{}", error.chain());
    // One that is put there during the recording.
    std::fs::remove_file(&path).expect("removes");
    let pending = PendingFile::create(&path, true, Some(&user())).expect("creates");
    std::fs::write(&path, "root's").expect("writes");
    pending.commit().expect_err("not permitted");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), "root's");
    assert_eq!(names(shared.path()), ["precious"]);
}

/// Root has links on the way only from those who could do as much without.
#[test]
fn links_of_others_on_the_way_are_not_followed() {
    if !is_root() {
        return;
    }
    let (theirs, target) = (dir_of(54_321, 0o755), dir_of(0, 0o755));
    let link = |name: &str, to: &Path, owner: u32| {
        let path = theirs.path().join(name);
        symlink(to, &path).expect("links");
        std::os::unix::fs::lchown(&path, Some(owner), None).expect("chown");
        path
    };
    let trusted = link("trusted", target.path(), 0);
    write(&trusted.join("a"), false, "report").expect("writes");
    assert_eq!(names(target.path()), ["a"]);
    let hostile = link("hostile", target.path(), 54_321);
    let trusted_to_hostile = link("both", &hostile, 0);
    for way in [&hostile, &hostile.join(".."), &trusted_to_hostile] {
        let error = write(&way.join("b"), true, "x").expect_err("refused");
        let hint = error.suggestion().unwrap_or_default();
        let command = format!("readlink -f {}", way.display());
        assert!(
            hint.contains("another user's") && hint.ends_with(&command),
            "{}: {hint}",
            error.chain()
        );
    }
    let circle = theirs.path().join("circle");
    symlink(&circle, &circle).expect("links");
    let error = write(&circle.join("c"), true, "x").expect_err("no end");
    assert!(error.chain().contains("cannot write"), "{}", error.chain());
    assert_eq!(names(target.path()), ["a"]);
}

/// While another user swaps a directory and a link to a better place under our feet, what we write
/// is never in that place.
#[test]
fn a_race_for_the_way_is_never_won() {
    if !is_root() {
        return;
    }
    let (theirs, precious) = (dir_of(54_321, 0o755), dir_of(0, 0o755));
    let way = theirs.path().join("way");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            as_user(&user(), || {
                let (dir, link) = (theirs.path().join("dir"), theirs.path().join("link"));
                std::fs::create_dir(&dir).expect("makes");
                symlink(precious.path(), &link).expect("links");
                std::fs::rename(&dir, &way).expect("renames");
                while !stop.load(Ordering::Relaxed) {
                    let swap = RenameFlags::EXCHANGE;
                    let cwd = rustix::fs::CWD;
                    renameat_with(cwd, &way, cwd, &link, swap).expect("swaps");
                }
            })
            .expect("root may be anybody");
        });
        let mut written = 0;
        for number in 0..3000 {
            let path = way.join(format!("{number}"));
            for user in [None, Some(&user())] {
                written += u32::from(
                    PendingFile::create(&path, true, user)
                        .and_then(|file| file.commit().map_err(|e| Error::new("x").because(e)))
                        .is_ok(),
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(written > 0, "the race was never run");
    });
    assert_eq!(names(precious.path()), [""; 0]);
}

#[test]
fn a_rehearsal_leaves_nothing_and_takes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    for temporary in [false, true] {
        let path = dir.path().join(format!("a-{temporary}"));
        let pending = if temporary {
            named(&path, false)
        } else {
            PendingFile::create(&path, false, None).expect("creates")
        };
        pending.file().write_all(b"text").expect("writes");
        let before = names(dir.path());
        assert!(pending.can_commit());
        assert_eq!(names(dir.path()), before);
        pending.commit().expect("commits");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "text");
    }
    assert_eq!(names(dir.path()), ["a-false", "a-true"]);
}

#[test]
fn a_rehearsal_fails_where_the_directory_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).expect("makes");
    let pending = PendingFile::create(&inner.join("a"), true, None).expect("creates");
    std::fs::remove_dir(&inner).expect("removes");
    assert!(!pending.can_commit());
}

#[test]
fn what_we_wrote_ourselves_is_replaced_and_what_another_did_is_not() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("report");
    let read = || std::fs::read_to_string(&path).expect("reads");
    let write = |pending: PendingFile, text: &str| {
        pending.file().write_all(text.as_bytes()).expect("writes");
        pending.commit()
    };
    let last = PendingFile::create(&path, false, None).expect("creates");
    for text in ["first", "second"] {
        let early = last.again().expect("another");
        assert_eq!(early.path(), path);
        write(early, text).expect("its own may be replaced");
        assert_eq!(read(), text);
    }
    let other = last.again().expect("another");
    std::fs::remove_file(&path).expect("removes");
    std::fs::write(&path, "somebody's").expect("writes");
    assert!(write(other, "third").is_err());
    assert!(write(last, "fourth").is_err());
    assert_eq!(read(), "somebody's");
    assert_eq!(names(dir.path()), ["report"]);
}
