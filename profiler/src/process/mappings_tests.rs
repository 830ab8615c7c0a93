use super::*;
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
    for file in [target.open_mapped(code), target.open_by_path(code)] {
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
    let error = target.open_by_path(&mapping).expect_err("replaced");
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
