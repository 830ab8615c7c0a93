//! Bytes of the ring buffer to [`Event`]s. Nothing here trusts a length or a number.

use super::event::{
    Activity, CallSeen, ChildExec, DriverGap, Event, Exec, Fork, ObjectSeen, PanicSeen, PollClock,
    RawObject, RawPiece, RawSocket, SampleSeen, Snapshot, StackKind, StackSeen, Syscall, ThreadEnd,
    WaitSeen, Waker,
};
use super::ids::{
    ObjectNumber, StackNumber, TableVersion, ThreadKey, ThreadName, WaitStack, queued, tick,
};
use super::thread;
use super::tls_state::runtime_handle;
use crate::runtime::StoppedBy;
use crate::runtime::tokio::TlsState;
use crate::units::{Addr, Nanos, Pid, Tid, Timestamp};
use crate::unwind::{Regs, unroll, walk_outcome};
use bytemuck::{AnyBitPattern, try_pod_read_unaligned};
use profiler_common::record::{
    CallRecord, ChildRecord, DriverGapRecord, ExecRecord, ForkRecord, Header, KIND_CALL,
    KIND_CHILD, KIND_DRIVER_GAP, KIND_EXEC, KIND_FORK, KIND_OBJECT, KIND_PANIC, KIND_RAW_STACK,
    KIND_SAMPLE, KIND_SNAPSHOT, KIND_STACK, KIND_THREAD_END, KIND_UNMAPPED_STACK, KIND_WAIT,
    MAX_OBJECT_TEXT, OBJECT_CHILD, OBJECT_FILE, OBJECT_FUTEX, OBJECT_MEMORY, OBJECT_PATH,
    OBJECT_POLL, OBJECT_SOCKET, OBJECT_TIMER, ObjectRecord, PanicRecord, RAW_PIECE_BYTES,
    RawStackRecord, SampleRecord, SnapshotRecord, StackRecord, ThreadEndRecord, WAKER_INTERRUPT,
    WAKER_UNSEEN, WaitRecord, stack_kind,
};
use profiler_common::stack::{MAX_KERNEL_FRAMES, MAX_USER_FRAMES};
use std::fmt;

/// `task_struct.__state` of a thread that runs or wants to (`include/linux/sched.h`).
const TASK_RUNNING: u32 = 0;
/// The bit of one that is being woken.
const TASK_WAKING: u32 = 0x200;

/// Why bytes are not a record. Each is counted as a lost event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the record has.
    Short,
    /// A kind that this version does not know.
    Kind(u32),
    /// More frames than a record may have, or than its bytes hold.
    Frames,
    /// A stack of a kind that this version does not know.
    StackKind(u32),
    /// A stack without a number.
    StackNumber,
    /// An object of a kind that this version does not know, or without a number.
    Object(u32),
    /// More text than a record may have, or than its bytes hold.
    Text,
    /// A piece of memory that is longer than a piece may be, or than its record.
    Memory,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short => write!(f, "a record shorter than its kind"),
            DecodeError::Kind(kind) => write!(f, "a record of unknown kind {kind}"),
            DecodeError::Frames => write!(f, "a stack whose frames are not all there"),
            DecodeError::StackKind(kind) => write!(f, "a stack of unknown kind {kind}"),
            DecodeError::StackNumber => write!(f, "a stack without a number"),
            DecodeError::Object(kind) => {
                write!(f, "an object of unknown kind {kind} or without a number")
            }
            DecodeError::Text => write!(f, "a record with more text than it may have"),
            DecodeError::Memory => write!(f, "a copy of memory that is not all there"),
        }
    }
}

impl std::error::Error for DecodeError {}

fn head<T: AnyBitPattern>(bytes: &[u8]) -> Result<T, DecodeError> {
    bytes
        .get(..size_of::<T>())
        .and_then(|head| try_pod_read_unaligned(head).ok())
        .ok_or(DecodeError::Short)
}

/// Decodes one record.
///
/// # Errors
/// Where the bytes are no record; they are then to be counted as lost.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let header: Header = head(bytes)?;
    Ok(match header.kind {
        KIND_STACK => {
            let seen = stack(bytes)?;
            // Without a number no wait would ever name it.
            if seen.number.is_none() {
                return Err(DecodeError::StackNumber);
            }
            Event::Stack(Box::new(seen))
        }
        KIND_WAIT => Event::Wait(wait(&head(bytes)?)),
        KIND_THREAD_END => Event::ThreadEnd(Box::new(thread_end(&head(bytes)?))),
        KIND_EXEC => {
            let record: ExecRecord = head(bytes)?;
            Event::Exec(Exec {
                pid: Pid(record.header.tgid),
                time: Timestamp(record.time),
            })
        }
        KIND_SNAPSHOT => Event::Snapshot(Box::new(snapshot(&head(bytes)?))),
        KIND_FORK => {
            let record: ForkRecord = head(bytes)?;
            Event::Fork(Fork {
                child: Pid(record.header.tgid),
                parent: Pid(record.parent),
                time: Timestamp(record.time),
                index: record.index,
            })
        }
        KIND_OBJECT => Event::Object(Box::new(object(bytes)?)),
        KIND_CHILD => {
            let record: ChildRecord = head(bytes)?;
            Event::ChildExec(ChildExec {
                parent: Pid(record.header.tgid),
                child: record.pid,
                name: ThreadName::new(record.comm),
            })
        }
        KIND_CALL => Event::Call(call(&head(bytes)?)),
        KIND_PANIC => {
            let record: PanicRecord = head(bytes)?;
            Event::Panic(PanicSeen {
                thread: ThreadKey::of(&record.header),
                time: Timestamp(record.time),
                stack: StackNumber::new(record.stack),
                task_id: nonzero(record.task_id),
                cut: record.cut,
            })
        }
        KIND_DRIVER_GAP => {
            let record: DriverGapRecord = head(bytes)?;
            Event::DriverGap(DriverGap {
                thread: ThreadKey::of(&record.header),
                from: Timestamp(record.from),
                to: Some(Timestamp(record.to.max(record.from))),
            })
        }
        KIND_SAMPLE => Event::Sample(Box::new(sample(bytes)?)),
        KIND_RAW_STACK => Event::RawStack(Box::new(raw_piece(bytes)?)),
        KIND_UNMAPPED_STACK => {
            let piece = raw_piece(bytes)?;
            if piece.number.is_none() {
                return Err(DecodeError::StackNumber);
            }
            Event::UnmappedStack(Box::new(piece))
        }
        kind => return Err(DecodeError::Kind(kind)),
    })
}

/// 0 stands for nothing known.
fn nonzero(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

fn syscall(number: i64, args: [u64; 6]) -> Option<Syscall> {
    let number = u32::try_from(number).ok()?;
    Some(Syscall { number, args })
}

/// Records of waits and of samples have the same fields for it.
macro_rules! poll_clock {
    ($record:expr) => {
        PollClock {
            core: nonzero($record.core).map(Addr),
            tick: tick($record.tick),
            queued: None,
            waits: $record.waits,
            running: Nanos($record.running),
            runnable: Nanos($record.runnable),
            blocked: Nanos($record.blocked),
        }
    };
}

fn wait(record: &WaitRecord) -> WaitSeen {
    let waker = match record.waker_tid {
        WAKER_UNSEEN => Waker::Unseen,
        WAKER_INTERRUPT => Waker::Interrupt,
        tid => Waker::Thread {
            thread: ThreadKey {
                pid: Pid(record.waker_tgid),
                tid: Tid(tid),
            },
            name: ThreadName::new(record.waker_comm),
            stack: StackNumber::new(record.waker_stack),
        },
    };
    WaitSeen {
        thread: ThreadKey::of(&record.header),
        start: Timestamp(record.start),
        wakeup: nonzero(record.wakeup).map(Timestamp),
        end: Timestamp(record.end),
        stack: WaitStack::new(record.stack),
        task_id: nonzero(record.task_id),
        object: ObjectNumber::new(record.object),
        waker,
        clock: PollClock {
            queued: queued(record.queued),
            ..poll_clock!(record)
        },
        cut: record.cut,
    }
}

fn thread_end(record: &ThreadEndRecord) -> ThreadEnd {
    ThreadEnd {
        thread: ThreadKey::of(&record.header),
        time: Timestamp(record.time),
        times: record.times.into(),
        name: ThreadName::new(record.comm),
        cut: record.cut,
        at_cut: thread::ThreadState::of(&record.at_cut),
    }
}

fn snapshot(record: &SnapshotRecord) -> Snapshot {
    let activity = if record.on_cpu != 0 {
        Activity::Running
    } else if record.task_state == TASK_RUNNING || record.task_state & TASK_WAKING != 0 {
        Activity::Runnable
    } else {
        Activity::Waiting {
            regs: (record.ip != 0).then(|| regs(record.ip, record.sp, record.bp)),
            fs: Addr(record.fs),
            syscall: syscall(record.syscall, record.args),
            stopped: stopped_by(record.stack_kind),
        }
    };
    Snapshot {
        thread: ThreadKey::of(&record.header),
        time: Timestamp(record.time),
        activity,
        switches: record.switches,
        name: ThreadName::new(record.comm),
    }
}

const fn regs(ip: u64, sp: u64, bp: u64) -> Regs {
    Regs {
        ip: Addr(ip),
        sp: Addr(sp),
        bp: Addr(bp),
    }
}

fn call(record: &CallRecord) -> CallSeen {
    CallSeen {
        thread: ThreadKey::of(&record.header),
        start: Timestamp(record.start),
        end: Timestamp(record.end),
        on_cpu: Nanos(record.on_cpu),
        stack: StackNumber::new(record.stack),
        task_id: nonzero(record.task_id),
        object: ObjectNumber::new(record.object),
        cut: record.cut,
    }
}

fn sample(bytes: &[u8]) -> Result<SampleSeen, DecodeError> {
    let record: SampleRecord = head(bytes)?;
    let rest = bytes.get(size_of::<SampleRecord>()..).unwrap_or_default();
    let mut stack = stack(rest)?;
    // It is a hash of the frames, and no entry of the kernel side's table.
    stack.number = None;
    Ok(SampleSeen {
        clock: poll_clock!(record),
        task_id: nonzero(record.task_id),
        stack,
        cut: record.cut,
    })
}

fn object(bytes: &[u8]) -> Result<ObjectSeen, DecodeError> {
    let record: ObjectRecord = head(bytes)?;
    let len = record.text as usize;
    if len > MAX_OBJECT_TEXT {
        return Err(DecodeError::Text);
    }
    let begin = size_of::<ObjectRecord>();
    let text = bytes.get(begin..begin + len).ok_or(DecodeError::Text)?;
    let unknown = DecodeError::Object(record.kind);
    let [first, second, third, fourth, fifth, sixth] = record.numbers;
    let object = match record.kind {
        OBJECT_FILE => RawObject::File {
            inode: first,
            mode: third as u32,
            magic: fourth,
            parts: text.to_vec(),
        },
        OBJECT_SOCKET => RawObject::Socket(RawSocket {
            family: first as u16,
            kind: (first >> 16) as u16,
            protocol: (first >> 32) as u16,
            own_port: second as u16,
            peer_port: (second >> 16) as u16,
            own: address(third, fourth),
            peer: address(fifth, sixth),
            path: text.to_vec(),
        }),
        OBJECT_FUTEX => RawObject::Futex(Addr(first)),
        OBJECT_TIMER => RawObject::Timer(Nanos(first)),
        OBJECT_CHILD => RawObject::Child(u32::try_from(first).ok().filter(|pid| *pid != 0)),
        OBJECT_PATH => RawObject::Path(text.strip_suffix(b"\0").unwrap_or(text).to_vec()),
        OBJECT_POLL => RawObject::Poll(first),
        OBJECT_MEMORY => RawObject::Memory(Addr(first)),
        _ => return Err(unknown),
    };
    Ok(ObjectSeen {
        thread: ThreadKey::of(&record.header),
        number: ObjectNumber::new(record.object).ok_or(unknown)?,
        object,
        fd: u32::try_from(record.fd).ok(),
        partial: record.partial != 0,
    })
}

fn address(low: u64, high: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

const fn stopped_by(kind: u32) -> Option<StoppedBy> {
    match kind {
        stack_kind::STOPPED_BY_SIGNAL => Some(StoppedBy::Signal),
        stack_kind::STOPPED_BY_DEBUGGER => Some(StoppedBy::Debugger),
        stack_kind::STOPPED_BY_FREEZER => Some(StoppedBy::Freezer),
        _ => None,
    }
}

fn stack(bytes: &[u8]) -> Result<StackSeen, DecodeError> {
    let record: StackRecord = head(bytes)?;
    let (user, kernel) = (record.user_frames as usize, record.kernel_frames as usize);
    if user > MAX_USER_FRAMES || kernel > MAX_KERNEL_FRAMES {
        return Err(DecodeError::Frames);
    }
    let kind = match record.stack_kind {
        stack_kind::WAIT => StackKind::OffCpu,
        stack_kind::WAKER => StackKind::Waker,
        stack_kind::SAMPLE => StackKind::Sample,
        stack_kind::CALL => StackKind::Syscall,
        stack_kind::PANIC => StackKind::Panic,
        kind => stopped_by(kind)
            .map(StackKind::Stopped)
            .ok_or(DecodeError::StackKind(kind))?,
    };
    let begin = size_of::<StackRecord>();
    let frames = |from: usize, count: usize| -> Result<Vec<Addr>, DecodeError> {
        let bytes = bytes
            .get(from..from + count * 8)
            .ok_or(DecodeError::Frames)?;
        let words = bytes.as_chunks::<8>().0.iter();
        Ok(words.map(|word| Addr(u64::from_le_bytes(*word))).collect())
    };
    let mut user_addresses = frames(begin, user)?;
    unroll(&mut user_addresses, record.left_out.into());
    Ok(StackSeen {
        thread: ThreadKey::of(&record.header),
        name: ThreadName::new(record.comm),
        time: Timestamp(record.time),
        number: StackNumber::new(record.stack),
        kind,
        syscall: syscall(record.syscall, record.args),
        truncated: walk_outcome(record.walk),
        table_version: TableVersion(record.table_version),
        tls_state: TlsState::from(record.tls_state),
        runtime: runtime_handle(record.runtime),
        raw: record.raw != 0,
        pointer_steps: record.pointer_steps.into(),
        user: user_addresses,
        kernel: frames(begin + user * 8, kernel)?,
    })
}

fn raw_piece(bytes: &[u8]) -> Result<RawPiece, DecodeError> {
    let record: RawStackRecord = head(bytes)?;
    let (begin, len) = (size_of::<RawStackRecord>(), record.bytes as usize);
    if len > RAW_PIECE_BYTES {
        return Err(DecodeError::Memory);
    }
    let memory = bytes
        .get(begin..begin + len)
        .ok_or(DecodeError::Memory)?
        .to_vec();
    Ok(RawPiece {
        thread: ThreadKey::of(&record.header),
        time: Timestamp(record.time),
        number: StackNumber::new(record.stack),
        regs: regs(record.ip, record.sp, record.bp),
        address: Addr(record.address),
        table_version: TableVersion(record.table_version),
        exec_count: record.exec_count,
        last: record.last != 0,
        memory,
    })
}

#[cfg(test)]
#[path = "read_object_tests.rs"]
mod object_tests;
#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
