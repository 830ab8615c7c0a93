use super::*;
use crate::testing::{is_root, skipped};
use crate::units::Pid;
use std::io::{Read, Write};
use std::os::fd::AsFd;

fn one(line: &str) -> Option<Mapping> {
    parse_maps(line.as_bytes()).pop()
}

#[test]
fn a_plain_line() {
    let got = one(
        "55d0c8a00000-55d0c8a5c000 r-xp 0001f000 fd:01 1835019                    /usr/bin/claims_api\n",
    );
    let want = Mapping {
        range: Addr(0x55d0_c8a0_0000)..Addr(0x55d0_c8a5_c000),
        executable: true,
        shared: false,
        file_offset: 0x1f000,
        device: Device {
            major: 0xfd,
            minor: 1,
        },
        inode: 1_835_019,
        kind: MappingKind::File,
        path: b"/usr/bin/claims_api".to_vec(),
        deleted: false,
    };
    assert_eq!(got, Some(want));
}

#[test]
fn nasty_paths_stay_whole() {
    let line = |path: &str| format!("1000-2000 r-xp 00000000 08:02 7 {path}");
    for (path, plain, deleted) in [
        ("/a b  c", "/a b  c", false),
        ("/trailing ", "/trailing ", false),
        ("/new\\012line", "/new\nline", false),
        ("/back\\slash\\01", "/back\\slash\\01", false),
        ("/gone (deleted)", "/gone", true),
        ("/twice (deleted) (deleted)", "/twice (deleted)", true),
        ("/memfd:jit code (deleted)", "/memfd:jit code", true),
        ("/[vdso]", "/[vdso]", false),
        ("/-p 0 0:0 0 /x", "/-p 0 0:0 0 /x", false),
    ] {
        let got = one(&line(path)).expect(path);
        assert_eq!(got.path, plain.as_bytes(), "{path}");
        assert_eq!(got.deleted, deleted, "{path}");
        assert_eq!(got.kind, MappingKind::File, "{path}");
    }
    let raw = [&b"1000-2000 r-xp 00000000 08:02 7 /latin\xe9"[..], b"\n"].concat();
    assert_eq!(
        parse_maps(&raw).pop().map(|mapping| mapping.path),
        Some(b"/latin\xe9".to_vec())
    );
}

#[test]
fn kinds() {
    for (rest, kind) in [
        ("00:00 0 ", MappingKind::Anonymous),
        ("00:00 0", MappingKind::Anonymous),
        ("00:00 0 [vdso]", MappingKind::Vdso),
        ("00:00 0 [vsyscall]", MappingKind::Vsyscall),
        ("00:00 0 [stack]", MappingKind::Special),
        ("00:00 0 [anon: tokio]", MappingKind::Anonymous),
        ("00:01 0 /SYSV00000000 (deleted)", MappingKind::Special),
        ("00:0e 99 anon_inode:[perf_event]", MappingKind::Special),
    ] {
        let got = one(&format!("1000-2000 r-xp 00000000 {rest}")).expect(rest);
        assert_eq!(got.kind, kind, "{rest}");
        assert!(got.executable);
    }
}

#[test]
fn senseless_lines_are_skipped() {
    for line in [
        "",
        "x",
        "1000",
        "1000-",
        "-1000 r-xp 0 0:0 0",
        "2000-1000 r-xp 0 0:0 0",
        "+1000-2000 r-xp 0 0:0 0",
        "1000-2000 r-xp",
        "1000-2000 rx 0 0:0 0",
        "1000-2000 r-xp 0 00 0",
        "1000-2000 r-xp 0 0:0 x",
        "1000-20000000000000000 r-xp 0 0:0 0",
    ] {
        assert_eq!(one(line), None, "{line}");
    }
    let mixed = parse_maps(b"junk\n1000-2000 r-xp 0 0:0 0 [vdso]\n\xff\xfe\n");
    assert_eq!(mixed.len(), 1);
}

#[test]
fn own_executable_opens_both_ways() {
    let target = Target::open(Pid(std::process::id())).expect("self");
    let mappings = target.mappings().expect("maps");
    let code = mappings
        .iter()
        .find(|mapping| mapping.executable && mapping.path == target.exe())
        .expect("own code");
    for file in [
        target.open_mapped(code),
        super::open_by_path(target.proc_dir(), code),
    ] {
        let mut magic = [0; 4];
        file.expect("opens").read_exact(&mut magic).expect("reads");
        assert_eq!(&magic, b"\x7fELF");
    }
    let vdso = target
        .vdso_image(&mappings)
        .expect("readable")
        .expect("a vDSO");
    assert!(vdso.starts_with(b"\x7fELF"));
}

/// Whoever may write to the file shows in its stamp, also if he turns its clock back.
#[test]
fn a_file_that_is_written_to_has_another_stamp() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("lib.so");
    std::fs::write(&path, [7; 4096]).expect("writes");
    let file = std::fs::File::open(&path).expect("open");
    // SAFETY: a fresh private mapping of a file that nobody truncates.
    let _held = unsafe { memmap2::Mmap::map(file.as_fd().as_raw_fd()) }.expect("map");
    let target = Target::open(Pid(std::process::id())).expect("self");
    let mappings = target.mappings().expect("maps");
    let is_it = |mapping: &&Mapping| mapping.path == path.as_os_str().as_encoded_bytes();
    let mapping = mappings.iter().find(is_it).expect("mapped");
    let Some(before) = target.stamp(mapping).expect("it can be told") else {
        assert!(
            !rustix::process::geteuid().is_root(),
            "root may follow the link"
        );
        return skipped("not root");
    };
    assert_eq!(target.stamp(mapping).expect("again"), Some(before));
    let modified = file
        .metadata()
        .and_then(|meta| meta.modified())
        .expect("a time");
    std::thread::sleep(std::time::Duration::from_millis(20));
    let writer = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&writer, &[8; 4096], 0).expect("writes");
    writer.set_modified(modified).expect("turns it back");
    assert_ne!(target.stamp(mapping).expect("again"), Some(before));
}

/// What a process makes of its vDSO is its own affair: all others have the kernel's.
#[test]
fn the_vdso_is_the_kernels() {
    let target = Target::open(Pid(std::process::id())).expect("self");
    let mappings = target.mappings().expect("maps");
    let vdso = mappings
        .iter()
        .find(|mapping| mapping.kind == MappingKind::Vdso);
    let mut elsewhere = vdso.expect("a vDSO").clone();
    elsewhere.range = Addr(4096)..Addr(8192);
    let image = target
        .vdso_image(&[elsewhere])
        .expect("readable")
        .expect("an image");
    assert_eq!(Some(image), target.vdso_image(&mappings).expect("readable"));
    assert_eq!(target.vdso_image(&[]).expect("readable"), None);
}

#[test]
fn a_replaced_file_is_not_taken_for_the_mapped_one() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("lib with space.so");
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(&[7; 4096]))
        .expect("file");
    let file = std::fs::File::open(&path).expect("open");
    // SAFETY: a fresh private mapping of a file that nobody truncates.
    let _held = unsafe { memmap2::Mmap::map(file.as_fd().as_raw_fd()) }.expect("map");
    // The old inode stays in use through the mapping, so that the new file gets another.
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, [9; 4096]).expect("replace");

    let target = Target::open(Pid(std::process::id())).expect("self");
    let mapping = target
        .mappings()
        .expect("maps")
        .into_iter()
        .find(|mapping| mapping.file_name() == "lib with space.so")
        .expect("the mapping");
    assert!(mapping.deleted);
    let error = open_by_path(target.proc_dir(), &mapping).expect_err("replaced");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    if let Ok(mut by_link) = target.open_mapped(&mapping) {
        let mut first = [0];
        by_link.read_exact(&mut first).expect("reads");
        assert_eq!(first, [7], "the mapped file and not its successor");
    }
}

#[test]
fn a_link_does_not_lead_out_of_the_root() {
    let dir = ProcDir::open(Pid(std::process::id())).expect("self");
    // Our root is `/` itself, so `..` above it must stay inside rather than fail.
    let found = open_in_root(&dir, b"/../../../proc/self/stat");
    assert!(found.is_ok(), "{found:?}");
    assert!(
        open_in_root(&dir, b"/proc/self/exe").is_err(),
        "magic links are refused"
    );
}

/// A process in a root of its own, made of copies of what `sleep` needs. None where we may not
/// make one.
fn jailed(root: &std::path::Path) -> Option<std::process::Child> {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        return None;
    }
    let mut free = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    let files = loop {
        let target = Target::open(Pid(free.id())).expect("opens");
        let mappings = target.mappings().expect("maps");
        let code = mappings.iter().filter(|mapping| {
            mapping.executable && mapping.kind == MappingKind::File && !mapping.deleted
        });
        let files: Vec<String> = code
            .filter_map(|mapping| String::from_utf8(mapping.path.clone()).ok())
            .collect();
        // Until it has loaded its libraries it is not yet itself.
        if files.iter().any(|path| path.ends_with("/sleep"))
            && files.iter().any(|path| path.contains("/libc.so"))
        {
            break files;
        }
    };
    free.kill().expect("kill");
    free.wait().expect("wait");
    let copy = |from: &str, to: &str| {
        let place = root.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().expect("a parent")).expect("dirs");
        std::fs::copy(from, place).expect("copies");
    };
    for path in &files {
        copy(path, path);
        // Where the loader is and looks, whatever links lead there on this system.
        let name = path.rsplit('/').next().unwrap_or_default();
        for dir in ["/lib64", "/lib/x86_64-linux-gnu", "/usr/lib"] {
            copy(path, &format!("{dir}/{name}"));
        }
    }
    let root = root.to_owned();
    let mut command = std::process::Command::new(files.iter().find(|p| p.ends_with("/sleep"))?);
    command.arg("60").env_clear();
    // SAFETY: two system calls between fork and exec; the path is allocated already.
    unsafe {
        command.pre_exec(move || {
            rustix::process::chroot(&root)?;
            Ok(rustix::process::chdir("/")?)
        });
    }
    Some(command.spawn().expect("sleep in its own root"))
}

#[test]
fn a_link_planted_in_another_root_does_not_lead_to_a_file_of_ours() {
    let dir = tempfile::tempdir().expect("dir");
    let Some(mut child) = jailed(dir.path()) else {
        return;
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let (target, mapping) = loop {
        let target = Target::open(Pid(child.id())).expect("opens");
        let mappings = target.mappings().expect("maps");
        let libc = mappings
            .into_iter()
            .find(|mapping| mapping.executable && mapping.file_name().starts_with("libc.so"));
        if let Some(mapping) = libc {
            break (target, mapping);
        }
        assert!(std::time::Instant::now() < deadline, "no libc in the jail");
    };
    let inside = std::path::PathBuf::from(String::from_utf8_lossy(&mapping.path).as_ref());
    assert!(inside.starts_with(dir.path()), "as we see it: {mapping:?}");
    let opened = |file: io::Result<File>| {
        use std::os::unix::fs::MetadataExt;
        file.and_then(|file| file.metadata()).map(|file| file.ino())
    };
    assert_eq!(
        opened(open_by_path(target.proc_dir(), &mapping)).ok(),
        Some(mapping.inode)
    );

    std::fs::remove_file(&inside).expect("removes");
    for (link, what) in [
        ("/etc/passwd", "a file of ours"),
        ("../../../../../../etc/passwd", "a way up"),
        ("/proc/self/exe", "a link of the kernel's"),
    ] {
        std::os::unix::fs::symlink(link, &inside).expect("links");
        assert!(open_by_path(target.proc_dir(), &mapping).is_err(), "{what}");
        std::fs::remove_file(&inside).expect("removes");
    }
    // The same once there is such a file within the root: it is another one than the mapped.
    std::fs::create_dir_all(dir.path().join("etc")).expect("dir");
    std::fs::write(dir.path().join("etc/passwd"), "root:x:").expect("writes");
    std::os::unix::fs::symlink("/etc/passwd", &inside).expect("links");
    let error = open_by_path(target.proc_dir(), &mapping).expect_err("another file");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    std::fs::remove_file(&inside).expect("removes");
    rustix::fs::mknodat(rustix::fs::CWD, &inside, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    assert!(
        open_by_path(target.proc_dir(), &mapping).is_err(),
        "a pipe, without waiting for a writer"
    );
    // By the kernel's own link it is still the mapped one.
    if let Ok(inode) = opened(target.open_mapped(&mapping)) {
        assert_eq!(inode, mapping.inode);
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
}
