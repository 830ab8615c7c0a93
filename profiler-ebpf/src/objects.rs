//! What a thread waits for: the object of its system call, at the time of the wait, since a
//! descriptor may be closed and a path renamed a millisecond later.
//!
//! An object is known by a number, a hash of what identifies it. What it is called crosses the
//! ring buffer once; after that the number is enough.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_user, bpf_probe_read_user_str, bpf_ringbuf_output,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use core::ffi::c_void;
use profiler_common::call::{self, CALLS};
use profiler_common::counter::Counter;
use profiler_common::map::{MAX_OBJECTS, Thread};
use profiler_common::record::{
    KIND_OBJECT, MAX_OBJECT_TEXT, OBJECT_CHILD, OBJECT_FILE, OBJECT_FUTEX, OBJECT_MEMORY,
    OBJECT_PATH, OBJECT_POLL, OBJECT_SOCKET, OBJECT_TIMER, ObjectRecord,
};

use crate::arch::Registers;
use crate::counters::count;
use crate::emit::EVENTS;
use crate::kernel_memory::{read_u32, read_u64};
use crate::object_message::{OBJECT_MESSAGE, OF_CALL, OF_WAIT, ObjectMessage};
use crate::sockets::SocketAddrs;
use crate::{config, paths, sockets};

/// What each system call waits for, one of [`profiler_common::call`].
#[map]
static CALL_OBJECTS: Array<u32> = Array::with_max_entries(CALLS as u32, 0);

/// Objects that were sent, by number.
#[map]
static OBJECTS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(MAX_OBJECTS as u32, 0);

/// The wait or, as the second, the system call whose object is being looked at.
#[map]
static OBJECT_CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(2, 0);

/// Words of a path argument that go into its number.
const HASHED_WORDS: usize = 16;

const NANOS: u64 = 1_000_000_000;
/// `TIMER_ABSTIME`.
const ABSOLUTE: u64 = 1;
const CLOCK_MONOTONIC: u64 = 1;
/// Times until a given instant vary from wait to wait: they are one object by the millisecond.
const GRAIN: u64 = 1_000_000;

const AF_UNIX: u64 = 1;
/// Memory within 2 MiB is one object.
const REGION_SHIFT: u32 = 21;

/// The file type in `i_mode`.
const S_IFMT: u64 = 0xf000;
const S_IFSOCK: u64 = 0xc000;

/// Two words of the program's memory; 0 where they cannot be read.
#[inline(always)]
fn user_words(at: u64) -> [u64; 2] {
    let mut words = [0u64; 2];
    // SAFETY: sixteen bytes go into `words`, which stay 0 where the helper fails.
    unsafe {
        bpf_probe_read_user(words.as_mut_ptr().cast(), 16, at as *const c_void);
    }
    words
}

/// The time of a `timespec`.
#[inline(always)]
fn nanos(words: [u64; 2]) -> u64 {
    words[0].wrapping_mul(NANOS).wrapping_add(words[1])
}

#[inline(always)]
fn mix(hash: u64, more: u64) -> u64 {
    let mixed = (hash ^ more).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

/// A wait that begins.
#[repr(C)]
pub(crate) struct Call {
    pub(crate) syscall: i64,
    pub(crate) args: [u64; 3],
    pub(crate) now: u64,
    pub(crate) fault: u64,
    pub(crate) fault_file: u64,
    pub(crate) last: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
}

/// Keeps what [`take`] needs of the registers: another copy of all of them would be too much for
/// the stack.
#[inline(always)]
pub(crate) fn note(regs: &Registers) {
    if let Some(call) = OBJECT_CALL.get_ptr_mut(OF_WAIT) {
        // SAFETY: this CPU's.
        unsafe {
            (*call).syscall = regs.syscall;
            (*call).args = [regs.args[0], regs.args[1], regs.args[2]];
        }
    }
}

/// Finds what the current thread, which begins to wait, waits for, and leaves its number in
/// `thread`. Its registers were noted.
///
/// # Safety
/// `thread` is a live entry.
#[inline(always)]
pub(crate) unsafe fn take(thread: *mut Thread, now: u64) {
    let Some(call) = OBJECT_CALL.get_ptr_mut(OF_WAIT) else {
        return;
    };
    // SAFETY: guaranteed by the caller; `call` is this CPU's.
    unsafe {
        (*call).now = now;
        (*call).fault = (*thread).fault;
        (*call).fault_file = (*thread).fault_file;
        (*call).last = (*thread).object;
        (*call).tgid = (*thread).tgid;
        (*call).tid = (*thread).tid;
        (*thread).object = object_of_wait();
    }
}

/// The number of the object of a system call from which the current thread returns, or 0.
///
/// # Safety
/// `thread` is its live entry.
#[inline(always)]
pub(crate) unsafe fn of_call(regs: &Registers, thread: *const Thread, now: u64) -> u64 {
    let Some(call) = OBJECT_CALL.get_ptr_mut(OF_CALL) else {
        return 0;
    };
    // SAFETY: guaranteed by the caller; `call` is this CPU's.
    unsafe {
        (*call).syscall = regs.syscall;
        (*call).args = [regs.args[0], regs.args[1], regs.args[2]];
        (*call).now = now;
        (*call).fault = 0;
        (*call).fault_file = 0;
        (*call).last = 0;
        (*call).tgid = (*thread).tgid;
        (*call).tid = (*thread).tid;
        object_of_call()
    }
}

/// The number of what the thread in the first of [`OBJECT_CALL`] waits for, or 0.
///
/// A global function: the verifier looks at it once, whatever led to its call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn object_of_wait() -> u64 {
    object_of_current::<OF_WAIT>()
}

/// The same of the second, a system call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn object_of_call() -> u64 {
    object_of_current::<OF_CALL>()
}

#[inline(always)]
fn object_of_current<const WHICH: u32>() -> u64 {
    let (Some(message), Some(call)) = (
        OBJECT_MESSAGE.get_ptr_mut(WHICH),
        OBJECT_CALL.get_ptr_mut(WHICH),
    ) else {
        return 0;
    };
    // SAFETY: both are this CPU's.
    unsafe {
        let task = bpf_get_current_task();
        let seen = Seen::<WHICH> {
            tgid: (*call).tgid,
            tid: (*call).tid,
            message,
            now: (*call).now,
            last: (*call).last,
        };
        let syscall = (*call).syscall;
        let [first, second, third] = (*call).args;
        // Each of the ways to an object once: the compiler makes code of every call.
        let (mut file, mut fd, mut path) = (0u64, -1, 0);
        let mut what = call::NOTHING;
        if syscall < 0 {
            if (*call).fault == 0 {
                return 0;
            }
            file = (*call).fault_file;
        } else if let Some(known) = CALL_OBJECTS.get(syscall as u32) {
            what = *known;
        }
        match what {
            call::NOTHING => {}
            call::DESCRIPTOR => fd = first as i32,
            call::POLL if second == 1 => fd = user_words(first)[0] as i32,
            call::CONNECT => {
                let number = seen.unix_address(second, third);
                if number != 0 {
                    return number;
                }
                fd = first as i32;
            }
            call::PATH => path = first,
            call::PATH_AT => (path, fd) = (second, first as i32),
            _ => {}
        }
        if path != 0 {
            let number = seen.path(path);
            if number != 0 {
                return number;
            }
        }
        if fd >= 0 {
            file = file_of_descriptor(task, fd);
        }
        if file != 0 {
            return seen.open_file(task, file, fd);
        }
        if syscall < 0 {
            // One object by region: pages would be too many.
            let fault = (*call).fault;
            return seen.plain(OBJECT_MEMORY, fault, 0, fault >> REGION_SHIFT);
        }
        seen.simple(what, first, second, third)
    }
}

/// The file behind a descriptor of the current task, or 0.
#[inline(always)]
fn file_of_descriptor(task: u64, fd: i32) -> u64 {
    let files = read_u64(task.wrapping_add(config::task_files()));
    let table = read_u64(files.wrapping_add(config::files_fdt()));
    if fd as u32 >= read_u32(table.wrapping_add(config::fdt_max())) {
        return 0;
    }
    let entries = read_u64(table.wrapping_add(config::fdt_fd()));
    read_u64(entries.wrapping_add(u64::from(fd as u32) * 8))
}

/// A wait whose object is being looked at.
#[derive(Clone, Copy)]
struct Seen<const WHICH: u32> {
    tgid: u32,
    tid: u32,
    message: *mut ObjectMessage,
    now: u64,
    last: u64,
}

impl<const WHICH: u32> Seen<WHICH> {
    /// The number of an object of this thread's process.
    #[inline(always)]
    fn number(self, kind: u32, fd: i32, identity: u64) -> u64 {
        let hash = mix(
            u64::from(kind) << 32 | u64::from(self.tgid),
            u64::from(fd as u32),
        );
        let hash = mix(hash, identity);
        // 0 is no object.
        hash | 1
    }

    /// Whether an object is still to be sent. Threads mostly wait for the same one again.
    #[inline(always)]
    fn is_new(self, number: u64) -> bool {
        number != self.last && OBJECTS.get_ptr(&number).is_none()
    }

    /// Fills what all records have.
    #[inline(always)]
    unsafe fn begin(self, number: u64, kind: u32, fd: i32) {
        // SAFETY: live map values.
        unsafe {
            let record = &raw mut (*self.message).record;
            (*record).header.kind = KIND_OBJECT;
            (*record).header.tgid = self.tgid;
            (*record).header.tid = self.tid;
            (*record).time = self.now;
            (*record).object = number;
            (*record).kind = kind;
            (*record).fd = fd;
            (*record).numbers = [0; 6];
            (*record).partial = 0;
        }
    }

    /// Sends the record with `text` bytes of text; returns the number, or 0 where nobody will know
    /// what it stands for.
    #[inline(always)]
    unsafe fn send(self, number: u64, text: u32) -> u64 {
        // SAFETY: live map values; no more than the message is sent.
        unsafe {
            let text = if text as usize > MAX_OBJECT_TEXT {
                (*self.message).record.partial = 1;
                MAX_OBJECT_TEXT as u32
            } else {
                text
            };
            (*self.message).record.text = text;
            let len = size_of::<ObjectRecord>() as u32 + (text & (2 * MAX_OBJECT_TEXT as u32 - 1));
            (*self.message).record.header.len = len;
            if len as usize > size_of::<ObjectMessage>() {
                return 0;
            }
            if (*self.message).record.partial != 0 {
                count(Counter::ObjectPartial);
            }
            let sent = bpf_ringbuf_output(
                (&raw const EVENTS).cast_mut().cast(),
                self.message.cast(),
                len.into(),
                BPF_RB_NO_WAKEUP.into(),
            ) == 0;
            if !sent {
                count(Counter::RingFullObject);
                return 0;
            }
            let _ = OBJECTS.insert(&number, &1, 0);
            number
        }
    }

    /// The objects that the arguments themselves tell.
    #[inline(always)]
    unsafe fn simple(self, what: u32, first: u64, second: u64, third: u64) -> u64 {
        let (kind, number) = match what {
            call::FUTEX => (OBJECT_FUTEX, first),
            call::NANOSLEEP => (OBJECT_TIMER, nanos(user_words(first))),
            call::CLOCK_NANOSLEEP => {
                let time = nanos(user_words(third));
                if second & ABSOLUTE == 0 {
                    (OBJECT_TIMER, time)
                } else if first == CLOCK_MONOTONIC {
                    let left = time.saturating_sub(self.now).wrapping_add(GRAIN / 2);
                    (OBJECT_TIMER, left / GRAIN * GRAIN)
                } else {
                    return 0;
                }
            }
            call::WAIT4 => (OBJECT_CHILD, first as i32 as i64 as u64),
            // `P_PID`; any other kind of id may be any child.
            call::WAITID => (OBJECT_CHILD, if first == 1 { second } else { u64::MAX }),
            call::POLL => (OBJECT_POLL, second),
            _ => return 0,
        };
        // SAFETY: live map values.
        unsafe { self.plain(kind, number, second, number) }
    }

    /// An object that is known by numbers alone.
    #[inline(always)]
    unsafe fn plain(self, kind: u32, first: u64, second: u64, identity: u64) -> u64 {
        let number = self.number(kind, -1, identity);
        if self.is_new(number) {
            // SAFETY: live map values.
            unsafe {
                self.begin(number, kind, -1);
                (*self.message).record.numbers[0] = first;
                (*self.message).record.numbers[1] = second;
                return self.send(number, 0);
            }
        }
        number
    }

    /// A path that the program named; 0 where it is empty or cannot be read.
    #[inline(always)]
    unsafe fn path(self, at: u64) -> u64 {
        // SAFETY: live map values; no more than MAX_OBJECT_TEXT bytes are read into the text, of
        // which the hash reads the first words.
        unsafe {
            let text = (&raw mut (*self.message).text).cast::<u64>();
            // Without a branch on the length: the verifier would follow every one of them.
            for index in 0..HASHED_WORDS {
                text.add(index).write(0);
            }
            let len =
                bpf_probe_read_user_str(text.cast(), MAX_OBJECT_TEXT as u32, at as *const c_void);
            // The terminating zero counts.
            if len <= 1 {
                return 0;
            }
            let len = len as u32 as usize;
            let mut identity = len as u64;
            for index in 0..HASHED_WORDS {
                identity = mix(identity, text.add(index).read());
            }
            let number = self.number(OBJECT_PATH, -1, identity);
            if self.is_new(number) {
                self.begin(number, OBJECT_PATH, -1);
                if len >= MAX_OBJECT_TEXT {
                    (*self.message).record.partial = 1;
                }
                return self.send(number, len as u32);
            }
            number
        }
    }

    /// The path of a Unix socket that is to be connected: until it is, only the address has it. 0
    /// for any other address.
    #[inline(always)]
    unsafe fn unix_address(self, at: u64, len: u64) -> u64 {
        // SAFETY: live map values; at most 127 bytes are read into the text.
        unsafe {
            if user_words(at)[0] & 0xffff != AF_UNIX || len <= 2 || len > 110 {
                return 0;
            }
            let text = (&raw mut (*self.message).text).cast::<u64>();
            for index in 0..HASHED_WORDS {
                text.add(index).write(0);
            }
            let len = (len as u32 - 2) & 127;
            if bpf_probe_read_user(text.cast(), len, (at + 2) as *const c_void) != 0 {
                return 0;
            }
            let mut identity = 0;
            for index in 0..HASHED_WORDS {
                identity = mix(identity, text.add(index).read());
            }
            let number = self.number(OBJECT_SOCKET, -1, identity);
            if self.is_new(number) {
                self.begin(number, OBJECT_SOCKET, -1);
                (*self.message).record.numbers[0] = AF_UNIX;
                return self.send(number, len);
            }
            number
        }
    }

    /// What an open file is.
    #[inline(always)]
    unsafe fn open_file(self, task: u64, file: u64, fd: i32) -> u64 {
        // SAFETY: the current task; what is read goes through helpers that stand wrong addresses.
        unsafe {
            let inode = read_u64(file.wrapping_add(config::file_inode()));
            let number = read_u64(inode.wrapping_add(config::inode_number()));
            let mode = u64::from(read_u32(inode.wrapping_add(config::inode_mode()))) & 0xffff;
            if mode & S_IFMT == S_IFSOCK {
                self.socket(file, fd, number)
            } else {
                self.file(task, file, fd, inode, number, mode)
            }
        }
    }

    #[inline(always)]
    unsafe fn socket(self, file: u64, fd: i32, inode: u64) -> u64 {
        // SAFETY: as in `open_file`.
        unsafe {
            let socket = read_u64(file.wrapping_add(config::file_private()));
            let sock = read_u64(socket.wrapping_add(config::socket_sock()));
            let ends = SocketAddrs::of(sock);
            let number = self.number(
                OBJECT_SOCKET,
                fd,
                mix(mix(inode, ends.addresses), ends.ports.into()),
            );
            if self.is_new(number) {
                self.begin(number, OBJECT_SOCKET, fd);
                let text = sockets::describe(sock, ends, inode, self.message);
                return self.send(number, text);
            }
            number
        }
    }

    #[inline(always)]
    unsafe fn file(self, task: u64, file: u64, fd: i32, inode: u64, ino: u64, mode: u64) -> u64 {
        // SAFETY: as in `open_file`.
        unsafe {
            let path = file.wrapping_add(config::file_path());
            let mount = read_u64(path.wrapping_add(config::path_mnt()));
            let dentry = read_u64(path.wrapping_add(config::path_dentry()));
            // Hash and length of the name, and where it is: another file with the same of all
            // three has the same path.
            let name = read_u64(dentry.wrapping_add(config::dentry_name()));
            let parent = read_u64(dentry.wrapping_add(config::dentry_parent()));
            let number = self.number(OBJECT_FILE, fd, mix(mix(ino, name), parent));
            if !self.is_new(number) {
                return number;
            }
            self.begin(number, OBJECT_FILE, fd);
            let system = read_u64(inode.wrapping_add(config::inode_super()));
            (*self.message).record.numbers = [
                ino,
                read_u32(system.wrapping_add(config::super_dev())).into(),
                mode,
                read_u64(system.wrapping_add(config::super_magic())),
                0,
                0,
            ];
            let text = paths::write::<WHICH>(task, mount, dentry, self.message);
            self.send(number, text)
        }
    }
}
