//! What single functions tell of a wait: the vocabulary of the rules, as a table of patterns.
//!
//! User functions are looked up by their normalised paths (see [`crate::runtime::tokio`]), C functions
//! without leading underscores. In a pattern, `*` stands for any characters.

mod kernel;
mod user;

use kernel::KERNEL;
use std::ops::{BitOr, BitOrAssign};
use user::USER;

/// A set of things that functions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionTags(u64);

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl FunctionTags {
            $($(#[$doc])* pub const $name: FunctionTags = FunctionTags(1 << $bit);)*
        }
    };
}

tags! {
    /// The resolver of host names.
    DNS = 0;
    /// A join of a thread.
    JOIN = 1;
    /// Starting, reading from or waiting for a child process.
    CHILD = 2;
    /// A synchronous channel.
    CHANNEL = 3;
    /// A barrier.
    BARRIER = 4;
    /// `std::sync::Mutex`, `ReentrantLock`.
    STD_MUTEX = 5;
    /// `std::sync::RwLock`.
    STD_RWLOCK = 6;
    /// `Once`, `OnceLock`, `LazyLock`, once_cell.
    ONCE = 7;
    /// parking_lot's locks.
    PARKING_LOT = 8;
    /// pthread mutexes and rwlocks.
    PTHREAD_LOCK = 9;
    /// A condition variable.
    CONDVAR = 10;
    /// A `block_on`.
    BLOCK_ON = 11;
    /// `std::thread::park`.
    PARK = 12;
    /// A sleep of the standard library or of libc.
    SLEEP = 13;
    /// Files of the standard library.
    FILES = 14;
    /// Sockets of the standard library.
    SOCKETS = 15;
    /// Pipes of the standard library.
    PIPES = 16;
    /// rayon: a thread from outside waits for its pool.
    RAYON = 17;
    /// SQLite: another connection has locked the database.
    SQLITE_BUSY = 18;
    /// Standard output and error.
    STDIO = 19;
    /// CPython: taking the global interpreter lock.
    GIL = 20;
    /// tokio's queue of the blocking pool.
    TOKIO_POOL = 21;
    /// tokio's queue of tasks that come from outside of the workers.
    TOKIO_INJECT = 22;
    /// tokio's timers.
    TOKIO_TIMER = 23;
    /// The shutdown of a tokio runtime.
    TOKIO_SHUTDOWN = 24;
    /// rayon: a thread of its pool waits for the others of it, or for work.
    RAYON_POOL = 25;
    /// The event loop of another library.
    EVENT_LOOP = 26;

    /// Kernel: a page fault.
    K_FAULT = 32;
    /// Kernel: reading a page back from swap.
    K_SWAP = 33;
    /// Kernel: freeing memory before any can be given.
    K_RECLAIM = 34;
    /// Kernel: a writer or reader of a read-write semaphore waits.
    K_RWSEM = 35;
    /// Kernel: changing or reading the address space.
    K_MM = 36;
    /// Kernel: syncing a file or a file system.
    K_SYNC = 37;
    /// Kernel: a writer is slowed because too many pages are dirty.
    K_DIRTY = 38;
    /// Kernel: a file system, the page cache, a block device.
    K_FILE = 39;
    /// Kernel: a lock on a file.
    K_FILE_LOCK = 40;
    /// Kernel: a pipe or a FIFO.
    K_PIPE = 41;
    /// Kernel: a socket.
    K_SOCKET = 42;
    /// Kernel: a terminal.
    K_TTY = 43;
    /// Kernel: an eventfd, a timerfd, inotify.
    K_EVENT = 44;
    /// Kernel: a parent waits until its child has called exec.
    K_VFORK = 45;
    /// Kernel: the thread was stopped, frozen or traced.
    K_STOPPED = 46;
}

impl FunctionTags {
    /// No tag.
    pub const NONE: FunctionTags = FunctionTags(0);

    /// Whether any of `other` is in this set.
    #[must_use]
    pub const fn any(self, other: FunctionTags) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn all(self, other: FunctionTags) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set and `other`.
    #[must_use]
    pub const fn and(self, other: FunctionTags) -> FunctionTags {
        FunctionTags(self.0 | other.0)
    }
}

impl BitOr for FunctionTags {
    type Output = FunctionTags;
    fn bitor(self, other: FunctionTags) -> FunctionTags {
        self.and(other)
    }
}

impl BitOrAssign for FunctionTags {
    fn bitor_assign(&mut self, other: FunctionTags) {
        *self = self.and(other);
    }
}

/// What functions tell, by patterns of their names.
type Table = &'static [(FunctionTags, &'static [&'static str])];

/// What a function of the program tells, by its normalised path.
pub(super) fn of_user(path: &str) -> FunctionTags {
    look_up(USER, bare(path))
}

/// What a function of the kernel tells.
pub(super) fn of_kernel(function: &str) -> FunctionTags {
    look_up(KERNEL, function)
}

/// A path; a C function without what marks it as internal.
pub(super) fn bare(path: &str) -> &str {
    if path.contains("::") {
        return path;
    }
    path.trim_start_matches('_')
        .trim_start_matches("GI_")
        .trim_start_matches('_')
}

fn look_up(table: Table, name: &str) -> FunctionTags {
    let mut found = FunctionTags::NONE;
    for (tag, patterns) in table {
        if patterns.iter().any(|pattern| matches(pattern, name)) {
            found |= *tag;
        }
    }
    found
}

/// Whether `text` is what `pattern` describes, in which `*` stands for any characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    // The first place where a piece fits is as good as any later one, but for the last piece.
    while let Some((piece, more)) = rest.split_once('*') {
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = text.get(at + piece.len()..).unwrap_or("");
        rest = more;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in [
            ("a::b", "a::b"),
            ("a::*", "a::b::c"),
            ("a::*::c", "a::b::c"),
            ("*::c", "a::b::c"),
            ("a*b*c", "a1b2b3c"),
            ("*", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a::b", "a::bc"),
            ("a::*::c", "a::c"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn internal_c_names_lose_their_marks() {
        assert!(of_user("__GI___pthread_mutex_lock").any(FunctionTags::PTHREAD_LOCK));
        assert!(of_user("__libc_res_nsearch").any(FunctionTags::DNS));
        assert!(of_user("__pthread_clockjoin_ex").any(FunctionTags::JOIN));
    }

    #[test]
    fn functions_of_the_application_tell_nothing() {
        for path in [
            "claims::store::read",
            "claims::sleep",
            "my::std::fs::read",
            "sleep_well::x",
        ] {
            assert_eq!(of_user(path), FunctionTags::NONE, "{path}");
        }
    }
}
