use super::*;
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
    assert!(
        error
            .suggestion()
            .is_some_and(|hint| hint.contains("--force"))
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
    let missing = write(&dir.path().join("no/such/x"), false, "x").expect_err("no directory");
    assert!(
        missing
            .suggestion()
            .is_some_and(|hint| hint.starts_with("mkdir -p "))
    );
}

#[test]
fn the_owner_is_set_where_we_may() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.txt");
    let owner = (Uid::from_raw(65534), Gid::from_raw(65534));
    let created = PendingFile::create(&path, false, Some(owner));
    if !rustix::process::geteuid().is_root() {
        assert!(created.is_err());
        return;
    }
    created.expect("creates").commit().expect("commits");
    let meta = std::fs::metadata(&path).expect("stat");
    assert_eq!((meta.uid(), meta.gid()), (65534, 65534));
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
