//! The kernel's own statistics of its eBPF programs, by `bpf(2)`; the layouts are those of
//! `linux/bpf.h`.

use anyhow::{Context as _, Result};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_ENABLE_STATS: libc::c_int = 32;

/// `union bpf_attr` as far as it is used here: eight bytes for the first two commands' arguments,
/// sixteen for the last one's.
#[repr(C, align(8))]
#[derive(Default)]
struct Attr {
    /// `BPF_ENABLE_STATS`: type; `GET_FD_BY_ID`: id; `GET_INFO_BY_FD`: file descriptor.
    first: u32,
    /// `GET_INFO_BY_FD`: length of the information in bytes.
    info_len: u32,
    /// `GET_INFO_BY_FD`: where it goes.
    info: u64,
}

/// `struct bpf_prog_info` up to `recursion_misses` (Linux 5.12).
#[repr(C, align(8))]
struct ProgInfo {
    before_name: [u8; 64],
    name: [u8; 16],
    after_name: [u8; 112],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
}

const _: () = {
    assert!(std::mem::offset_of!(ProgInfo, run_time_ns) == 192);
    assert!(std::mem::offset_of!(ProgInfo, run_cnt) == 200);
};

/// The kernel counts as long as this lives. (Unlike `kernel.bpf_stats_enabled` it needs not be
/// restored, however this process ends.)
#[derive(Debug)]
pub(super) struct Counting {
    _fd: OwnedFd,
}

impl Counting {
    pub(super) fn start() -> Result<Counting> {
        // The type 0 is BPF_STATS_RUN_TIME.
        let fd = bpf_fd(BPF_ENABLE_STATS, &mut Attr::default());
        let fd = fd.context("cannot turn the kernel's statistics on (this needs root)")?;
        Ok(Counting { _fd: fd })
    }
}

/// What a program has done since the counting began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    /// The program's name, of which the kernel keeps 15 bytes.
    pub(super) name: String,
    pub(super) runs: u64,
    pub(super) nanos: u64,
}

/// Looks a program up by its id.
pub(super) fn runs(id: u32) -> Result<Runs> {
    let fd = bpf_fd(
        BPF_PROG_GET_FD_BY_ID,
        &mut Attr {
            first: id,
            ..Attr::default()
        },
    );
    let fd = fd.with_context(|| format!("cannot open the eBPF program {id}"))?;
    let info = info(&fd).with_context(|| format!("cannot ask about the eBPF program {id}"))?;
    let name = info
        .name
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    Ok(Runs {
        name: String::from_utf8_lossy(name).into_owned(),
        runs: info.run_cnt,
        nanos: info.run_time_ns,
    })
}

fn bpf_fd(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: both commands that come here return a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(program: &OwnedFd) -> io::Result<ProgInfo> {
    let mut info = ProgInfo {
        before_name: [0; 64],
        name: [0; 16],
        after_name: [0; 112],
        run_time_ns: 0,
        run_cnt: 0,
        recursion_misses: 0,
    };
    let mut attr = Attr {
        first: program
            .as_raw_fd()
            .try_into()
            .map_err(|_| io::ErrorKind::InvalidInput)?,
        info_len: size_of::<ProgInfo>() as u32,
        info: std::ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<i32> {
    let size = size_of::<Attr>();
    // SAFETY: the kernel reads and writes at most `size` bytes of `attr`, which is as long; and
    // with BPF_OBJ_GET_INFO_BY_FD at most `info_len` bytes at `info`, a `ProgInfo` that the
    // caller holds and whose all-zero arrays ask for no further memory to be written.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size) };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}
