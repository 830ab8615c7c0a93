//! The records of [`profiler_common::record`], checked.

use bytemuck::{AnyBitPattern, try_pod_read_unaligned};
use profiler_common::record::{
    CallRecord, ChildRecord, ExecRecord, ForkRecord, Header, KIND_CALL, KIND_CHILD, KIND_EXEC,
    KIND_FORK, KIND_OBJECT, KIND_PANIC, KIND_RAW_STACK, KIND_SAMPLE, KIND_SNAPSHOT, KIND_STACK,
    KIND_THREAD_END, KIND_UNMAPPED_STACK, KIND_WAIT, MAX_KERNEL_FRAMES, MAX_OBJECT_TEXT,
    MAX_USER_FRAMES, ObjectRecord, PanicRecord, RAW_PIECE_BYTES, RawStackRecord, SampleRecord,
    SnapshotRecord, StackRecord, ThreadEndRecord, WaitRecord,
};
use std::fmt;

/// One thing that the kernel side told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stack seen for the first time.
    Stack(Box<StackSeen>),
    /// A finished wait.
    Wait(WaitRecord),
    /// The end of a thread.
    ThreadEnd(Box<ThreadEndRecord>),
    /// An exec.
    Exec(ExecRecord),
    /// A thread as the task iterator found it.
    Snapshot(Box<SnapshotRecord>),
    /// A fork of a process that is followed.
    Fork(ForkRecord),
    /// Something that is waited for, seen for the first time.
    Object(Box<ObjectSeen>),
    /// An exec of a child process.
    Child(ChildRecord),
    /// A long system call that has returned.
    Call(CallRecord),
    /// The begin of a panic.
    Panic(PanicRecord),
    /// A thread on a CPU.
    Sample(Box<SampleSeen>),
    /// A piece of a raw copy of a stack.
    RawStack(Box<RawPiece>),
    /// The same of a stack that could not be walked.
    UnmappedStack(Box<RawPiece>),
}

/// An [`ObjectRecord`] with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSeen {
    /// The fixed part.
    pub record: ObjectRecord,
    /// The text, as its kind defines it.
    pub text: Vec<u8>,
}

/// A [`SampleRecord`] with its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleSeen {
    /// The fixed part.
    pub record: SampleRecord,
    /// The stack, with its time and thread.
    pub stack: StackSeen,
}

/// A [`RawStackRecord`] with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPiece {
    /// The fixed part.
    pub record: RawStackRecord,
    /// The memory at [`RawStackRecord::address`].
    pub memory: Vec<u8>,
}

/// A [`StackRecord`] with its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSeen {
    /// The fixed part.
    pub record: StackRecord,
    /// User addresses, leaf first.
    pub user: Vec<u64>,
    /// Kernel addresses, leaf first.
    pub kernel: Vec<u64>,
}

/// Why bytes are not a record. Each is counted as a lost event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the record has.
    Short,
    /// A kind that this version does not know.
    Kind(u32),
    /// More frames than a record may have, or than its bytes hold.
    Frames,
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
        KIND_STACK => Event::Stack(Box::new(stack(bytes)?)),
        KIND_WAIT => Event::Wait(head(bytes)?),
        KIND_THREAD_END => Event::ThreadEnd(Box::new(head(bytes)?)),
        KIND_EXEC => Event::Exec(head(bytes)?),
        KIND_SNAPSHOT => Event::Snapshot(Box::new(head(bytes)?)),
        KIND_FORK => Event::Fork(head(bytes)?),
        KIND_OBJECT => Event::Object(Box::new(object(bytes)?)),
        KIND_CHILD => Event::Child(head(bytes)?),
        KIND_CALL => Event::Call(head(bytes)?),
        KIND_PANIC => Event::Panic(head(bytes)?),
        KIND_SAMPLE => {
            let record = head(bytes)?;
            let rest = bytes.get(size_of::<SampleRecord>()..).unwrap_or_default();
            Event::Sample(Box::new(SampleSeen {
                record,
                stack: stack(rest)?,
            }))
        }
        KIND_RAW_STACK => Event::RawStack(Box::new(raw_piece(bytes)?)),
        KIND_UNMAPPED_STACK => Event::UnmappedStack(Box::new(raw_piece(bytes)?)),
        kind => return Err(DecodeError::Kind(kind)),
    })
}

fn object(bytes: &[u8]) -> Result<ObjectSeen, DecodeError> {
    let record: ObjectRecord = head(bytes)?;
    let text = record.text as usize;
    if text > MAX_OBJECT_TEXT {
        return Err(DecodeError::Text);
    }
    let begin = size_of::<ObjectRecord>();
    Ok(ObjectSeen {
        record,
        text: bytes
            .get(begin..begin + text)
            .ok_or(DecodeError::Text)?
            .to_vec(),
    })
}

fn stack(bytes: &[u8]) -> Result<StackSeen, DecodeError> {
    let record: StackRecord = head(bytes)?;
    let (user, kernel) = (record.user_frames as usize, record.kernel_frames as usize);
    if user > MAX_USER_FRAMES || kernel > MAX_KERNEL_FRAMES {
        return Err(DecodeError::Frames);
    }
    let begin = size_of::<StackRecord>();
    let words = |from: usize, count: usize| -> Result<Vec<u64>, DecodeError> {
        let bytes = bytes
            .get(from..from + count * 8)
            .ok_or(DecodeError::Frames)?;
        Ok(bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect())
    };
    Ok(StackSeen {
        record,
        user: words(begin, user)?,
        kernel: words(begin + user * 8, kernel)?,
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
    Ok(RawPiece { record, memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(user_frames: u32, kernel_frames: u32) -> StackRecord {
        StackRecord {
            header: Header {
                kind: KIND_STACK,
                len: 0,
                tgid: 7,
                tid: 8,
            },
            time: 1,
            stack: 2,
            syscall: -1,
            args: [0; 6],
            walk: 0,
            table_version: 3,
            tls_state: 0,
            stack_kind: 0,
            raw: 0,
            reserved: 0,
            user_frames,
            kernel_frames,
            comm: *b"worker\0junk\0\0\0\0\0",
        }
    }

    fn bytes(record: &StackRecord, frames: &[u64]) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(record).to_vec();
        frames
            .iter()
            .for_each(|frame| bytes.extend(frame.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_stack_is_split_into_user_and_kernel_frames() {
        let record = record(2, 1);
        let Ok(Event::Stack(seen)) = decode(&bytes(&record, &[10, 11, 12])) else {
            panic!("not a stack");
        };
        assert_eq!((seen.user, seen.kernel), (vec![10, 11], vec![12]));
        assert_eq!(seen.record, record);
    }

    #[test]
    fn lengths_are_not_trusted() {
        let whole = bytes(&record(2, 1), &[10, 11, 12]);
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len} bytes passed");
        }
        for (user, kernel) in [(u32::MAX, 0), (0, u32::MAX), (128, 0), (0, 65)] {
            let bytes = bytes(&record(user, kernel), &[0; 256]);
            assert_eq!(decode(&bytes), Err(DecodeError::Frames));
        }
    }

    #[test]
    fn an_object_has_the_text_that_it_says() {
        let record = ObjectRecord {
            header: Header {
                kind: KIND_OBJECT,
                len: 0,
                tgid: 7,
                tid: 8,
            },
            time: 1,
            object: 2,
            kind: 6,
            fd: -1,
            numbers: [0; 6],
            text: 3,
            partial: 0,
        };
        let mut whole = bytemuck::bytes_of(&record).to_vec();
        whole.extend(b"/a\0");
        let Ok(Event::Object(seen)) = decode(&whole) else {
            panic!("not an object");
        };
        assert_eq!((seen.record, seen.text), (record, b"/a\0".to_vec()));
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len} bytes passed");
        }
        let record = ObjectRecord {
            text: u32::MAX,
            ..record
        };
        let mut long = bytemuck::bytes_of(&record).to_vec();
        long.extend([0; 4096]);
        assert_eq!(decode(&long), Err(DecodeError::Text));
    }

    #[test]
    fn a_sample_bears_its_stack() {
        let sample = SampleRecord {
            header: Header {
                kind: KIND_SAMPLE,
                len: 0,
                tgid: 7,
                tid: 8,
            },
            on_cpu: 1,
            waits: 2,
            task_id: 3,
            core: 4,
            tick: 5,
            cut: 6,
            reserved: 0,
        };
        let mut whole = bytemuck::bytes_of(&sample).to_vec();
        whole.extend(bytes(&record(2, 1), &[10, 11, 12]));
        let Ok(Event::Sample(seen)) = decode(&whole) else {
            panic!("not a sample");
        };
        assert_eq!(seen.record, sample);
        assert_eq!(
            (seen.stack.user, seen.stack.kernel),
            (vec![10, 11], vec![12])
        );
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len} bytes passed");
        }
    }

    #[test]
    fn the_length_of_copied_memory_is_not_trusted() {
        let piece = |len: u32| RawStackRecord {
            header: Header {
                kind: KIND_RAW_STACK,
                len: 0,
                tgid: 7,
                tid: 8,
            },
            time: 1,
            stack: 2,
            ip: 3,
            sp: 4,
            bp: 5,
            address: 4,
            table_version: 1,
            bytes: len,
            last: 1,
            exec_count: 0,
        };
        let record = |len: u32, memory: &[u8]| {
            let mut bytes = bytemuck::bytes_of(&piece(len)).to_vec();
            bytes.extend(memory);
            bytes
        };
        let Ok(Event::RawStack(raw)) = decode(&record(3, &[1, 2, 3, 9])) else {
            panic!("not a raw stack");
        };
        assert_eq!((raw.record, raw.memory), (piece(3), vec![1, 2, 3]));
        assert_eq!(decode(&record(4, &[1, 2, 3])), Err(DecodeError::Memory));
        for len in [4097, u32::MAX] {
            assert_eq!(decode(&record(len, &[0; 8192])), Err(DecodeError::Memory));
        }
        let whole = record(3, &[1, 2, 3]);
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "{len} bytes passed");
        }
    }

    #[test]
    fn unknown_kinds_are_told() {
        let mut bytes = bytes(&record(0, 0), &[]);
        bytes[0] = 99;
        assert_eq!(decode(&bytes), Err(DecodeError::Kind(99)));
    }
}
