//! Memory and files whose owner never serves them: who reads them gives up, and says so.

use children::Child;
use holdup::process::{Budget, PrivateCopy, Target, deadline};
use holdup::units::{Addr, Pid};
use holdup::unwind::UnwindTable;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// The promise, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(4);

/// A page that nobody serves; the descriptor has to be held.
fn unserved_page() -> io::Result<(*mut libc::c_void, OwnedFd)> {
    const UFFD_API: u64 = 0xaa;
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
    const MODE_MISSING: u64 = 1;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).expect("a descriptor");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made a moment ago, and is nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut api = [UFFD_API, 0, 0];
    // SAFETY: the kernel reads and writes three words.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, rights, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    let mut register = [page as u64, PAGE as u64, MODE_MISSING, 0];
    // SAFETY: the kernel reads and writes four words.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    Ok((page, fd))
}

/// The kernel refuses this, or it is given up: nobody waits for it.
#[test]
fn memory_that_nobody_serves_is_not_waited_for() {
    let (page, _held) = match unserved_page() {
        Ok(made) => made,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no userfaultfd: {error}");
            return;
        }
    };
    let target = Target::open(Pid(std::process::id())).expect("self");
    let mut byte = [0];
    let here = Addr((&raw const byte) as u64);
    target
        .read_memory(here, &mut byte)
        .expect("memory that is there");
    let begun = Instant::now();
    for _ in 0..3 {
        let read = target.read_memory(Addr(page as u64), &mut byte);
        read.expect_err("nobody serves it");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Has the kernel ask whoever holds the group, who never answers, before something is done with a
/// file.
fn ask_before(group: &OwnedFd, path: &Path, what: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let (group, add) = (group.as_raw_fd(), libc::FAN_MARK_ADD);
    // SAFETY: the path is terminated.
    match unsafe { libc::fanotify_mark(group, add, what, libc::AT_FDCWD, path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As on a file system whose server is gone: every read waits for somebody's leave.
#[test]
fn a_file_that_nobody_serves_is_given_up() {
    // In memory, since only what is on no disk can have a server.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = dir.path().join("lib.so");
    std::fs::copy("/proc/self/exe", &path).expect("copies");
    let file = File::open(&path).expect("opens");
    let budget = || Budget::new(1 << 40, 1 << 40);
    PrivateCopy::of(&file, &budget()).expect("it is served");
    // SAFETY: takes no pointers.
    let group = unsafe {
        libc::fanotify_init(
            libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC,
            libc::O_RDONLY as u32,
        )
    };
    if group < 0 {
        let error = io::Error::last_os_error();
        assert!(std::env::var_os("CI").is_none(), "no fanotify: {error}");
        return;
    }
    // SAFETY: it was made a moment ago, and is nobody else's.
    let group = unsafe { OwnedFd::from_raw_fd(group) };
    let program = dir.path().join("program");
    std::fs::copy("/bin/sleep", &program).expect("copies");
    // Ended when it is dropped.
    let child = Child::spawn("program", Command::new(&program).arg("600")).expect("runs");
    let exe = format!("/proc/{}/exe", child.id());
    while std::fs::read_link(&exe).is_ok_and(|exe| exe != program) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let marked = ask_before(&group, &path, libc::FAN_ACCESS_PERM)
        .and_then(|()| ask_before(&group, &program, libc::FAN_OPEN_PERM));
    if let Err(error) = marked {
        assert!(
            std::env::var_os("CI").is_none(),
            "no permission events: {error}"
        );
        return;
    }
    // The kernel asks only for what was opened while somebody wanted to be asked.
    let file = File::open(&path).expect("opens");
    let (begun, before) = (Instant::now(), deadline::given_up());
    for _ in 0..3 {
        let error = PrivateCopy::of(&file, &budget()).expect_err("nobody serves it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
    assert!(
        begun.elapsed() < SOON,
        "waited for once: {:?}",
        begun.elapsed()
    );
    assert_eq!(deadline::given_up(), before + 3);
    // Who executes what is there is not waited for either, nor asked again.
    let pid = Pid(child.id());
    let (send, opened) = mpsc::channel();
    std::thread::spawn(move || send.send(Target::open(pid)));
    let opened = opened.recv_timeout(SOON);
    // Closing the group serves whoever waits.
    drop(group);
    opened.expect("soon").expect_err("nobody serves it");
}

/// What was read is of some of its states, and stays.
#[test]
fn a_file_that_is_rewritten_while_it_is_read_is_copied_or_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("lib.so");
    let original = std::fs::read("/proc/self/exe").expect("reads");
    let original = original.get(..4 << 20).unwrap_or(&original).to_vec();
    std::fs::write(&path, &original).expect("writes");
    let (stop, writes) = (Arc::new(AtomicBool::new(false)), path.clone());
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let file = File::options().write(true).open(writes).expect("opens");
        while !stopped.load(Ordering::Relaxed) {
            file.set_len(100).expect("shortens");
            file.write_all_at(&original, 0).expect("writes");
        }
    });
    let mut copied = 0;
    for _ in 0..100 {
        let file = File::open(&path).expect("opens");
        let Ok(copy) = PrivateCopy::of(&file, &Budget::new(1 << 30, 1 << 30)) else {
            continue;
        };
        copied += 1;
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let first = sum(copy.bytes());
        let _ = UnwindTable::from_elf(copy.bytes());
        assert_eq!(sum(copy.bytes()), first);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("it only writes");
    assert!(copied > 0);
}
