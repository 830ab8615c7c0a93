//! `bpf(2)`, as far as it is used here; commands and layouts are those of `linux/bpf.h`.

use anyhow::{Context as _, Result, ensure};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const ENABLE_STATS: libc::c_int = 32;

const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// `union bpf_attr`: what is not set is zero, which the kernel takes for not given.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    const NONE: Attr = Attr([0; 128]);

    fn number(mut self, at: usize, value: u32) -> Attr {
        self.put(at, &value.to_ne_bytes());
        self
    }

    fn address<T: ?Sized>(mut self, at: usize, of: *const T) -> Attr {
        let address = of.cast::<u8>().expose_provenance() as u64;
        self.put(at, &address.to_ne_bytes());
        self
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }
}

/// # Safety
/// What `attr` points to is as large as `command` makes the kernel write or read there.
unsafe fn bpf(command: libc::c_int, mut attr: Attr) -> io::Result<i32> {
    let size = size_of::<Attr>();
    // SAFETY: `attr` is `size` bytes; the rest is guaranteed by the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size) };
    match i32::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// As [`bpf`], and the command returns a new descriptor.
unsafe fn bpf_fd(command: libc::c_int, attr: Attr) -> io::Result<OwnedFd> {
    // SAFETY: guaranteed by the caller.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(command, attr)?)) }
}

fn raw(fd: &OwnedFd) -> u32 {
    // Descriptors are not negative.
    fd.as_raw_fd().unsigned_abs()
}

/// What the kernel tells about a program or a map: `N` bytes of it.
fn info<const N: usize>(object: &OwnedFd) -> io::Result<[u8; N]> {
    let mut info = [0; N];
    let attr = Attr::NONE
        .number(0, raw(object))
        .number(4, N as u32)
        .address(8, &raw mut info);
    // SAFETY: the kernel writes at most `N` bytes, and nothing where an address in what we give
    // is zero.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, attr)? };
    Ok(info)
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u64::from_ne_bytes(*word))
}

/// A name, of which the kernel keeps 15 bytes.
fn name_at(bytes: &[u8], at: usize) -> String {
    let name = bytes.get(at..at + 16).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// The kernel counts what programs take for as long as this lives. (Unlike
/// `kernel.bpf_stats_enabled` it needs not be restored, however this process ends.)
#[derive(Debug)]
pub(super) struct Counting {
    _fd: OwnedFd,
}

impl Counting {
    pub(super) fn start() -> Result<Counting> {
        // SAFETY: no pointers; the type 0 is BPF_STATS_RUN_TIME.
        let fd = unsafe { bpf_fd(ENABLE_STATS, Attr::NONE) };
        let fd = fd.context("cannot turn the kernel's statistics on (this needs root)")?;
        Ok(Counting { _fd: fd })
    }
}

/// What a program has done since the counting began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    /// The program's name.
    pub(super) name: String,
    pub(super) runs: u64,
    pub(super) nanos: u64,
}

/// Looks a program up by its id.
pub(super) fn runs(id: u32) -> Result<Runs> {
    // SAFETY: no pointers.
    let fd = unsafe { bpf_fd(PROG_GET_FD_BY_ID, Attr::NONE.number(0, id)) };
    let fd = fd.with_context(|| format!("cannot open the eBPF program {id}"))?;
    runs_of(&fd).with_context(|| format!("cannot ask about the eBPF program {id}"))
}

fn runs_of(program: &OwnedFd) -> io::Result<Runs> {
    // `struct bpf_prog_info` up to `recursion_misses` (Linux 5.12).
    let info: [u8; 216] = info(program)?;
    Ok(Runs {
        name: name_at(&info, 64),
        nanos: number_at(&info, 192),
        runs: number_at(&info, 200),
    })
}

/// A program that does nothing, at every context switch: what the kernel says that it takes is
/// what the kernel's statistics themselves take for each run of any program.
#[derive(Debug)]
pub(super) struct Nothing {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Nothing {
    pub(super) fn attach() -> Result<Nothing> {
        // `r0 = 0; exit`.
        let code: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        let attr = Attr::NONE
            .number(0, PROG_TYPE_RAW_TRACEPOINT)
            .number(4, code.len() as u32)
            .address(8, &raw const code)
            .address(16, c"GPL".as_ptr());
        // SAFETY: so many instructions, and a string with its end.
        let program = unsafe { bpf_fd(PROG_LOAD, attr) };
        let program = program.context("cannot load an empty eBPF program")?;
        let attr = Attr::NONE
            .address(0, c"sched_switch".as_ptr())
            .number(8, raw(&program));
        // SAFETY: a string with its end.
        let link = unsafe { bpf_fd(RAW_TRACEPOINT_OPEN, attr) };
        let link = link.context("cannot attach an empty eBPF program")?;
        Ok(Nothing {
            program,
            _link: link,
        })
    }

    pub(super) fn runs(&self) -> Result<Runs> {
        runs_of(&self.program).context("cannot ask about the empty eBPF program")
    }
}

/// Counters of 64 bits for each CPU, in the order of their numbers: a map has one or several of them
/// in a value.
#[derive(Debug)]
pub(super) struct Counters {
    map: OwnedFd,
    cpus: usize,
    /// Counters in a value.
    together: usize,
}

impl Counters {
    /// The one of this name among the maps with these ids.
    pub(super) fn find(name: &str, ids: impl IntoIterator<Item = u32>) -> Result<Counters> {
        for id in ids {
            // SAFETY: no pointers.
            let Ok(map) = (unsafe { bpf_fd(MAP_GET_FD_BY_ID, Attr::NONE.number(0, id)) }) else {
                continue;
            };
            // `struct bpf_map_info` up to `name`.
            let info: [u8; 40] = info(&map).context("cannot ask about an eBPF map")?;
            if name_at(&info, 24) == name {
                let value_size = number_at(&info, 12) as u32 as usize;
                ensure!(
                    value_size > 0 && value_size.is_multiple_of(8),
                    "the map {name} has other values than numbers"
                );
                return Ok(Counters {
                    map,
                    cpus: possible_cpus()?,
                    together: value_size / 8,
                });
            }
        }
        anyhow::bail!("the recorder has no map {name}")
    }

    /// The sum over all CPUs.
    pub(super) fn get(&self, number: u32) -> Result<u64> {
        let mut values = vec![0u64; self.cpus * self.together];
        let (key, place) = (
            number / self.together as u32,
            number as usize % self.together,
        );
        let attr = Attr::NONE
            .number(0, raw(&self.map))
            .address(8, &raw const key)
            .address(16, values.as_mut_ptr());
        // SAFETY: a key of four bytes, and a value for every possible CPU.
        unsafe { bpf(MAP_LOOKUP_ELEM, attr) }.context("cannot read the recorder's counters")?;
        Ok(values.iter().skip(place).step_by(self.together).sum())
    }
}

fn possible_cpus() -> Result<usize> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    last_of(&list).context("/sys/devices/system/cpu/possible is no list of CPUs")
}

/// One more than the last number of a list like `0-3,8`.
fn last_of(list: &str) -> Option<usize> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbered_from_zero() {
        assert_eq!(last_of("0\n"), Some(1));
        assert_eq!(last_of("0-1\n"), Some(2));
        assert_eq!(last_of("0,2-15\n"), Some(16));
        assert_eq!(last_of("\n"), None);
    }

    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        let attr = Attr::NONE
            .number(0, 7)
            .number(4, 9)
            .address(8, &raw const *"x");
        assert_eq!(attr.0[..8], [7, 0, 0, 0, 9, 0, 0, 0]);
        assert!(number_at(&attr.0, 8) != 0 && attr.0[16..].iter().all(|byte| *byte == 0));
        assert_eq!(name_at(b"..sched_switch\0\0xx..", 2), "sched_switch");
        assert_eq!((number_at(&[0; 7], 0), name_at(&[], 0)), (0, String::new()));
    }
}
