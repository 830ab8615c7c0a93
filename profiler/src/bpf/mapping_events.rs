//! News of executable mappings and of new processes: the records that the kernel writes for profilers
//! whenever a process maps code (`PERF_RECORD_MMAP`, perf_event_open(2)), as it does at an exec, and,
//! to whoever wants those, whenever one is forked (`PERF_RECORD_FORK`).
//!
//! One dummy event a CPU tells of the mappings of all processes there. It counts nothing, so that
//! no switch and no instruction of any process gets slower by it; only mapping code does, by the
//! time that it takes to write some hundred bytes. That something was unmapped is not told.

use crate::units::{Addr, Pid, Timestamp};
use anyhow::{Context, Result};
use aya_obj::generated::{
    perf_event_attr, perf_event_mmap_page, perf_event_type, perf_sw_ids, perf_type_id,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

/// `PERF_SAMPLE_TIME`.
const SAMPLE_TIME: u64 = 1 << 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
const RECORD_MMAP: u32 = perf_event_type::PERF_RECORD_MMAP as u32;
const RECORD_FORK: u32 = perf_event_type::PERF_RECORD_FORK as u32;
const RECORD_LOST: u32 = perf_event_type::PERF_RECORD_LOST as u32;

/// Pages of data in the buffer of a CPU, a power of two: some five hundred records.
const DATA_PAGES: usize = 16;
const PAGE: usize = 4096;

/// Something that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingEvent {
    /// Code was mapped.
    Mapped {
        /// By this process.
        pid: Pid,
        /// When.
        time: Timestamp,
        /// Where.
        range: Range<Addr>,
    },
    /// A process was forked.
    Forked {
        /// It.
        pid: Pid,
    },
    /// Some records found no room: anything may have been mapped, or forked.
    Lost,
}

/// The buffers of all CPUs.
#[derive(Debug)]
pub struct MappingEvents {
    rings: Vec<Ring>,
}

impl MappingEvents {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the kernel refuses, as it does without CAP_PERFMON.
    pub fn open() -> Result<MappingEvents> {
        let cpus = aya::util::online_cpus()
            .map_err(|(what, error)| anyhow::Error::new(error).context(what))?;
        let rings = cpus
            .into_iter()
            .map(|cpu| Ring::open(cpu).with_context(|| format!("no perf event on CPU {cpu}")))
            .collect::<Result<Vec<Ring>>>()?;
        Ok(MappingEvents { rings })
    }

    /// Descriptors that become readable when there is news.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|ring| ring.event.as_fd())
    }

    /// Hands over what has arrived.
    pub fn drain(&mut self, mut each: impl FnMut(MappingEvent)) {
        for ring in &mut self.rings {
            ring.drain(&mut each);
        }
    }
}

#[derive(Debug)]
struct Ring {
    event: OwnedFd,
    memory: NonNull<u8>,
    scratch: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    fn open(cpu: u32) -> io::Result<Ring> {
        // SAFETY: all zeros are a value of this plain C structure.
        let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
        attr.size = size_of::<perf_event_attr>() as u32;
        attr.type_ = perf_type_id::PERF_TYPE_SOFTWARE as u32;
        attr.config = perf_sw_ids::PERF_COUNT_SW_DUMMY as u64;
        attr.sample_type = SAMPLE_TIME;
        attr.set_mmap(1);
        attr.set_sample_id_all(1);
        attr.set_use_clockid(1);
        attr.clockid = libc::CLOCK_MONOTONIC;
        // A wakeup for each record: they are rare, and code may run at once.
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = 1;
        // SAFETY: the kernel reads `attr.size` bytes at the pointer; the other arguments are
        // plain numbers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                -1 as libc::pid_t,
                cpu as libc::c_int,
                -1 as libc::c_int,
                CLOSE_ON_EXEC,
            )
        };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                LENGTH,
                protection,
                MapFlags::SHARED,
                &event,
                0,
            )
        }?;
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no mapping"))?;
        Ok(Ring {
            event,
            memory,
            scratch: Vec::new(),
        })
    }

    fn drain(&mut self, each: &mut impl FnMut(MappingEvent)) {
        let page = self.memory.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: the first page of the mapping is this structure; the kernel writes the head,
        // we alone the tail. The barriers are those of perf_event_open(2).
        let (head, tail) = unsafe {
            let head = (&raw const (*page).data_head).read_volatile();
            fence(Ordering::Acquire);
            (head, (&raw const (*page).data_tail).read_volatile())
        };
        let len = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        self.scratch.clear();
        if len <= DATA_PAGES * PAGE {
            let at = tail as usize % (DATA_PAGES * PAGE);
            let first = len.min(DATA_PAGES * PAGE - at);
            // SAFETY: both parts lie within the data pages, and the kernel does not write what we
            // have not given back yet.
            unsafe {
                let data = self.memory.as_ptr().add(PAGE);
                let parts = [(data.add(at), first), (data, len - first)];
                for (part, len) in parts {
                    self.scratch
                        .extend_from_slice(std::slice::from_raw_parts(part, len));
                }
            }
        }
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { (&raw mut (*page).data_tail).write_volatile(head) };
        decode_all(&self.scratch, each);
    }
}

const LENGTH: usize = (1 + DATA_PAGES) * PAGE;

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, of which nothing is borrowed. Failure leaks it, at worst.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), LENGTH) };
    }
}

/// Decodes records that lie one behind the other.
fn decode_all(mut bytes: &[u8], each: &mut impl FnMut(MappingEvent)) {
    while let Some((record, rest)) = split(bytes) {
        match decode(record) {
            Some(event) => each(event),
            None if kind(record) == Some(RECORD_MMAP) => each(MappingEvent::Lost),
            None => {}
        }
        bytes = rest;
    }
}

/// The first record, by the length that its header states.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u16::from_ne_bytes(*bytes.get(6..8)?.first_chunk()?);
    if len < 8 {
        return None;
    }
    bytes.split_at_checked(usize::from(len))
}

fn kind(record: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*record.first_chunk()?))
}

/// `struct perf_event_header { u32 type; u16 misc; u16 size; }`, and for a mapping
/// `{ u32 pid, tid; u64 addr, len, pgoff; char filename[]; }` with the time at the end, for a fork
/// `{ u32 pid, ppid; u32 tid, ptid; u64 time; }`. A new thread's process is its parent's.
fn decode(record: &[u8]) -> Option<MappingEvent> {
    let word = |at: usize| Some(u64::from_ne_bytes(*record.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u32::from_ne_bytes(*record.get(at..)?.first_chunk()?));
    match kind(record)? {
        RECORD_LOST => Some(MappingEvent::Lost),
        RECORD_MMAP => {
            let pid = half(8)?;
            let (begin, len) = (word(16)?, word(24)?);
            // Behind the name is nothing but the time.
            let time = word(record.len().checked_sub(8).filter(|at| *at >= 40)?)?;
            Some(MappingEvent::Mapped {
                pid: Pid(pid),
                time: Timestamp(time),
                range: Addr(begin)..Addr(begin.saturating_add(len)),
            })
        }
        RECORD_FORK => {
            let (pid, parent) = (half(8)?, half(12)?);
            (pid != parent).then_some(MappingEvent::Forked { pid: Pid(pid) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend((body.len() as u16 + 8).to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn mapped() -> Vec<u8> {
        let mut body = [7u32.to_ne_bytes(), 8u32.to_ne_bytes()].concat();
        for word in [0x1000u64, 0x200, 0] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(b"/lib/x\0\0");
        body.extend(99u64.to_ne_bytes());
        record(RECORD_MMAP, &body)
    }

    fn all(bytes: &[u8]) -> Vec<MappingEvent> {
        let mut events = Vec::new();
        decode_all(bytes, &mut |event| events.push(event));
        events
    }

    #[test]
    fn mappings_and_losses_are_decoded_and_others_passed_over() {
        let bytes = [
            record(77, &[0; 16]),
            mapped(),
            record(RECORD_LOST, &[0; 24]),
        ]
        .concat();
        let mapping = MappingEvent::Mapped {
            pid: Pid(7),
            time: Timestamp(99),
            range: Addr(0x1000)..Addr(0x1200),
        };
        assert_eq!(all(&bytes), [mapping, MappingEvent::Lost]);
    }

    #[test]
    fn a_new_process_is_told_from_a_new_thread() {
        let forked = |words: [u32; 4]| {
            let mut body = words.map(u32::to_ne_bytes).concat();
            body.extend([0; 16]);
            all(&record(RECORD_FORK, &body))
        };
        let pid = Pid(9);
        assert_eq!(forked([9, 7, 9, 7]), [MappingEvent::Forked { pid }]);
        assert_eq!(forked([7, 7, 9, 7]), []);
        assert_eq!(all(&record(RECORD_FORK, &[0; 4])), []);
    }

    #[test]
    fn lengths_are_not_trusted() {
        let whole = mapped();
        for len in 0..whole.len() {
            assert_eq!(all(&whole[..len]), [], "{len} bytes passed");
        }
        // A record whose header says less than a mapping needs: something was mapped.
        assert_eq!(all(&record(RECORD_MMAP, &[0; 16])), [MappingEvent::Lost]);
        assert_eq!(all(&[0; 64]), []);
    }
}
