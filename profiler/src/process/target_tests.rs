use super::*;
use std::process::{Command, Stdio};

fn refusal(pid: u32) -> TargetError {
    match Target::open(Pid(pid)) {
        Ok(target) => panic!("{target:?} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_live_process_is_described() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let target = loop {
        let target = Target::open(Pid(child.id())).expect("opens");
        // Until the end of its exec it is still this test, or has no arguments yet.
        if target.cmdline_text() == ["sleep", "60"] {
            break target;
        }
    };
    assert!(target.exe().starts_with(b"/"));
    assert!(!target.ended());
    assert!(target.start_ticks() > 0);
    assert!(!target.exe_deleted());
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(target.ended());
    assert!(
        target
            .proc_dir()
            .read("maps")
            .is_err_and(|error| is_gone(&error))
    );
}

#[tokio::test]
async fn the_end_wakes_who_waits_for_it() {
    let mut child = Command::new("sleep").arg("0.2").spawn().expect("sleep");
    let target = Target::open(Pid(child.id())).expect("opens");
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, target.until_ended())
        .await
        .expect("in time")
        .expect("watched");
    assert!(target.ended());
    child.wait().expect("wait");
}

#[test]
fn numbers_that_are_no_process() {
    for pid in [0, u32::MAX, i32::MAX as u32] {
        let error = refusal(pid);
        assert!(
            matches!(error, TargetError::Gone(gone) if gone == Pid(pid)),
            "{error}"
        );
    }
}

#[test]
fn a_thread_id_names_its_process() {
    let tid = std::thread::spawn(|| {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        (tid, refusal(tid))
    });
    let (own, error) = tid.join().expect("thread");
    assert!(
        matches!(error, TargetError::Thread { tid, owner }
            if (tid, owner) == (Pid(own), Pid(std::process::id()))),
        "{error}"
    );
}

#[test]
fn a_zombie_is_refused() {
    let mut child = Command::new("true")
        .stdout(Stdio::null())
        .spawn()
        .expect("true");
    let pid = child.id();
    let raw = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(raw), options).expect("ends");
    let error = refusal(pid);
    assert!(matches!(error, TargetError::Zombie { .. }), "{error}");
    child.wait().expect("reaped");
}

#[test]
fn a_kernel_thread_is_refused() {
    // kthreadd, where this is not a container.
    let is_kernel = ProcDir::open(Pid(2))
        .and_then(|dir| dir.read("stat"))
        .ok()
        .and_then(|stat| stat::parse_stat(&stat))
        .is_some_and(|stat| stat.flags & PF_KTHREAD != 0);
    if is_kernel {
        let error = refusal(2);
        assert!(matches!(error, TargetError::KernelThread { .. }), "{error}");
    }
}

#[test]
fn foreign_programs_are_told_apart() {
    let dir = tempfile::tempdir().expect("dir");
    let check = |head: &[u8]| {
        let path = dir.path().join("exe");
        std::fs::write(&path, head).expect("write");
        check_elf(&File::open(&path).expect("open"), "prog")
    };
    let elf = |class: u8, data: u8, machine: u16| {
        let mut head = [0u8; 64];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head
    };
    use TargetError as E;
    assert!(check(&elf(2, 1, EM_X86_64)).is_ok());
    assert!(matches!(check(&elf(1, 1, 3)), Err(E::Is32Bit { .. })));
    let x32 = check(&elf(1, 1, EM_X86_64));
    assert!(matches!(x32, Err(E::Is32Bit { .. })));
    let arm = check(&elf(2, 1, 183));
    assert!(matches!(arm, Err(E::NotX86 { machine: 183, .. })));
    let script = check(b"#!/bin/sh\n and more to be long");
    assert!(matches!(script, Err(E::NotElf { .. })));
    assert!(matches!(check(b"\x7fELF"), Err(E::Executable { .. })));
}

#[test]
fn command_lines() {
    assert_eq!(parse_cmdline(b"a\0b c\0\0"), [&b"a"[..], b"b c", b""]);
    assert_eq!(parse_cmdline(b"title without end"), [b"title without end"]);
    assert!(parse_cmdline(b"").is_empty());
}
