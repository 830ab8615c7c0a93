//! Who owns a lock, by its word in memory.
//!
//! A futex's word is the program's own: its meaning is known only of a few locks, and a number in
//! it may be a thread's by chance. So each rule asks for more than the number.

use crate::process::Target;
use crate::recording::{Holder, Object, ObjectKind};
use crate::symbolize::{FrameRef, Space};
use crate::units::{Addr, Tid};

/// `FUTEX_PRIVATE_FLAG`, and the operations (`include/uapi/linux/futex.h`).
const PRIVATE: u32 = 128;
const COMMAND: u32 = !(PRIVATE | 256);
const WAIT: u32 = 0;
const LOCK_PI: u32 = 6;
const WAIT_BITSET: u32 = 9;
const LOCK_PI2: u32 = 13;
/// In the word of a robust or priority-inheriting lock.
const WAITERS: u32 = 0x8000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// A `pthread_mutex_t` of glibc on x86_64 (`struct __pthread_mutex_s`): lock, count, owner, users.
const MUTEX_BYTES: usize = 16;
/// What glibc's lock word holds while somebody waits (`nptl/lowlevellock.h`).
const CONTENDED: u32 = 2;

/// A thread that waits at a futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FutexWait {
    pub(super) addr: Addr,
    op: u32,
    /// What the thread expected to find.
    pub(super) expected: u32,
    pub(super) word: u32,
    /// What follows the word: only of a mutex it means anything.
    owner: Option<u32>,
    users: Option<u32>,
}

impl FutexWait {
    /// Reads the word; none where it cannot be read.
    pub(super) fn read(target: &Target, addr: Addr, op: u32, expected: u32) -> Option<FutexWait> {
        let read = |len| {
            let mut bytes = vec![0; len];
            target.read_memory(addr, &mut bytes).map(|()| bytes)
        };
        let bytes = read(MUTEX_BYTES).or_else(|_| read(4)).ok()?;
        let word = |index: usize| {
            let words = bytes.as_chunks::<4>().0;
            words.get(index).map(|word| u32::from_ne_bytes(*word))
        };
        Some(FutexWait {
            addr,
            op,
            expected,
            word: word(0)?,
            owner: word(2),
            users: word(3),
        })
    }

    /// Whether it waits at a futex of the process's own for its word to change.
    pub(super) const fn is_private_wait(&self) -> bool {
        let command = self.op & COMMAND;
        self.op & PRIVATE != 0 && (command == WAIT || command == WAIT_BITSET)
    }

    #[cfg(test)]
    pub(super) const fn for_test(addr: Addr, op: u32, word: u32) -> FutexWait {
        FutexWait {
            addr,
            op,
            expected: word,
            word,
            owner: None,
            users: None,
        }
    }
}

/// What the wait is for and who holds it. `thread` finds a living thread of the target by the
/// number that the target itself knows it by.
pub(super) fn judge(
    wait: &FutexWait,
    frames: &[FrameRef],
    mut thread: impl FnMut(u32) -> Option<(Tid, String)>,
) -> (Object, Holder) {
    let lock = Object {
        kind: ObjectKind::Futex,
        name: format!("{:#x}", wait.addr.0),
    };
    let mut held = |own: u32, evidence: &str| {
        let (tid, name) = thread(own)?;
        Some(Holder::Thread {
            tid,
            name,
            evidence: evidence.to_owned(),
            likely: false,
        })
    };
    let command = wait.op & COMMAND;
    let shared = wait.op & PRIVATE == 0;
    let waits = command == WAIT || command == WAIT_BITSET;
    let named = wait.word & TID_MASK;
    if command == LOCK_PI || command == LOCK_PI2 {
        if let Some(holder) = held(named, "the owner in a priority-inheriting lock") {
            return (lock, holder);
        }
    } else if shared && waits && wait.word & WAITERS != 0 && wait.word == wait.expected {
        // Without the kernel's help nobody writes this bit: a robust lock (nptl).
        if let Some(holder) = held(named, "the owner in a robust lock") {
            return (lock, holder);
        }
    } else if shared && waits && wait.word == wait.expected && in_libc(frames, 1) {
        // The word that the kernel clears at a thread's end (`CLONE_CHILD_CLEARTID`) holds the
        // thread's number until then, and is no private futex: pthread_join(3).
        if let Some(Holder::Thread { tid, name, .. }) = held(wait.word, "") {
            let object = Object {
                kind: ObjectKind::Thread,
                name: tid.to_string(),
            };
            let evidence = "it has not ended".to_owned();
            return (
                object,
                Holder::Thread {
                    tid,
                    name,
                    evidence,
                    likely: false,
                },
            );
        }
    } else if waits
        && wait.word == CONTENDED
        && wait.expected == CONTENDED
        && wait
            .users
            .is_some_and(|users| (1..1 << 16).contains(&users))
        && in_libc(frames, 2)
        && let Some(owner) = wait.owner
        && let Some(holder) = held(owner, "the owner in a pthread mutex")
    {
        return (lock, holder);
    }
    let reason = "the lock does not name its owner".to_owned();
    (lock, Holder::Unknown { reason })
}

/// Whether the `count` innermost functions are of the C library. A mutex of std calls its
/// `syscall` from its own code.
fn in_libc(frames: &[FrameRef], count: usize) -> bool {
    let is_libc = |frame: &FrameRef| {
        frame.module.as_deref().is_some_and(|module| {
            module.starts_with("libc.so")
                || module.starts_with("libpthread")
                || module.starts_with("libc-")
                || module.starts_with("libpthread-")
        })
    };
    let physical = |frame: &&FrameRef| frame.space == Space::User && !frame.inlined;
    let innermost: Vec<&FrameRef> = frames.iter().filter(physical).take(count).collect();
    innermost.len() == count && innermost.into_iter().all(is_libc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::{Frame, Origin};
    use crate::units::Pid;
    use std::sync::Arc;

    fn frames(modules: &[&str]) -> Vec<FrameRef> {
        let frame = |module: &&str| {
            Arc::new(Frame {
                module: Some((*module).into()),
                ..Frame::named("f", Origin::System)
            })
        };
        modules.iter().map(frame).collect()
    }

    fn wait(op: u32, word: u32) -> FutexWait {
        FutexWait {
            addr: Addr(0x7f00),
            op,
            expected: word,
            word,
            owner: Some(42),
            users: Some(1),
        }
    }

    /// Who the holder is, with 42 and 43 the only threads.
    fn holder(wait: &FutexWait, modules: &[&str]) -> Option<u32> {
        let thread = |own: u32| (42..44).contains(&own).then(|| (Tid(own), "t".to_owned()));
        match judge(wait, &frames(modules), thread).1 {
            Holder::Thread { tid, .. } => Some(tid.0),
            Holder::Unknown { .. } => None,
            Holder::Processes { .. } => panic!("a process holds no futex"),
        }
    }

    const LIBC: &[&str] = &["libc.so.6", "libc.so.6", "app"];
    const STD: &[&str] = &["libc.so.6", "app"];

    #[test]
    fn locks_that_name_their_owner_do() {
        assert_eq!(
            holder(&wait(LOCK_PI | PRIVATE, 43 | WAITERS), STD),
            Some(43)
        );
        assert_eq!(holder(&wait(LOCK_PI | PRIVATE, 99), STD), None);
        assert_eq!(holder(&wait(WAIT, 43 | WAITERS), LIBC), Some(43));
        assert_eq!(holder(&wait(WAIT | PRIVATE, CONTENDED), LIBC), Some(42));
        assert_eq!(holder(&wait(WAIT_BITSET | 256, 43), LIBC), Some(43));
    }

    #[test]
    fn numbers_in_other_locks_are_no_owners() {
        // std's mutex: the word says only that it is locked, and data follows.
        assert_eq!(holder(&wait(WAIT_BITSET | PRIVATE, CONTENDED), STD), None);
        // std's RwLock: readers are counted where other locks have their owner.
        assert_eq!(
            holder(&wait(WAIT_BITSET | PRIVATE, 42 | WAITERS), STD),
            None
        );
        assert_eq!(holder(&wait(WAIT | PRIVATE, 42), LIBC), None);
        let mut dead = wait(WAIT | PRIVATE, CONTENDED);
        dead.owner = Some(77);
        assert_eq!(holder(&dead, LIBC), None);
        let mut unused = wait(WAIT | PRIVATE, CONTENDED);
        unused.users = Some(0);
        assert_eq!(holder(&unused, LIBC), None);
        let mut moved = wait(WAIT_BITSET | 256, 43);
        moved.expected = 42;
        assert_eq!(holder(&moved, LIBC), None);
    }

    #[test]
    fn a_thread_that_is_joined_is_the_object() {
        let thread = |own: u32| Some((Tid(own + 100), "joined".to_owned()));
        let (object, _) = judge(&wait(WAIT_BITSET | 256, 43), &frames(LIBC), thread);
        assert_eq!(
            (object.kind, object.name.as_str()),
            (ObjectKind::Thread, "143")
        );
    }

    #[test]
    fn memory_of_a_process_is_read() {
        let mutex: [u32; 4] = [CONTENDED, 0, 42, 1];
        let addr = Addr(mutex.as_ptr() as u64);
        let target = Target::open(Pid(std::process::id())).expect("self");
        let read = FutexWait::read(&target, addr, WAIT | PRIVATE, CONTENDED);
        let expected = FutexWait {
            addr,
            ..wait(WAIT | PRIVATE, CONTENDED)
        };
        assert_eq!(read, Some(expected));
        assert_eq!(FutexWait::read(&target, Addr(0), WAIT, 0), None);
    }
}
