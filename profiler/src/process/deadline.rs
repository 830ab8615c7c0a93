//! Reads that may never end.
//!
//! A target's memory and files can be served by the target itself: by FUSE, by userfaultfd, by a
//! network file system whose server is gone. The kernel then waits for as long as that pleases
//! whoever serves, and nothing short of ending the process gets the reader back. So whatever the
//! target may serve is read by a thread of its own, which is left behind when it takes too long;
//! it ends with the process, or when it is served after all. Who was waited for in vain once is
//! not asked again.

use super::device::Device;
use crate::units::Pid;
use rustix::fs::{AtFlags, StatxFlags};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How long one read may take, of some hundred KiB at most. A disk that is asked much takes some
/// tenths of a second.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// Threads that may be left behind. Where there are so many, nobody who may be slow is asked.
const MAX_LEFT_BEHIND: usize = 32;

/// What the threads have on their stacks is small.
const STACK: usize = 512 << 10;

/// Who is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// A file system.
    Files(Device),
    /// Whoever serves a process's memory.
    Memory(Pid),
    /// Whoever serves the names of files as a process sees them.
    Names(Pid),
}

#[derive(Debug, Default)]
struct State {
    /// Who was waited for in vain.
    slow: HashSet<Server>,
    /// The threads that still wait, by thread id.
    left_behind: HashSet<i32>,
    given_up: u64,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// The state, whatever became of a thread that held it: every change of it is complete in itself.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something for which `server` may be waited for, for [`PATIENCE`] at most.
///
/// # Errors
/// `TimedOut` where it takes longer, or `server` was waited for in vain before; those of starting
/// a thread.
pub fn within<T: Send + 'static>(
    server: Server,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    within_patience(server, PATIENCE, act)
}

fn within_patience<T: Send + 'static>(
    server: Server,
    patience: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    {
        let mut state = state();
        if state.slow.contains(&server) || state.left_behind.len() >= MAX_LEFT_BEHIND {
            state.given_up += 1;
            return Err(timed_out());
        }
    }
    let (tell, told) = mpsc::sync_channel(1);
    let (send, receive) = mpsc::sync_channel(1);
    let _handle = std::thread::Builder::new()
        .name("holdup-read".into())
        .stack_size(STACK)
        .spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            let answer = Answer {
                tid,
                send: Some(send),
            };
            // Who asks waits for this, and for the result only so long.
            let _ = tell.send(tid);
            if let Some(send) = &answer.send {
                let _ = send.send(act());
            }
        })?;
    let tid = told.recv().map_err(io::Error::other)?;
    match receive.recv_timeout(patience) {
        Ok(result) => Ok(result),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(panicked()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let mut state = state();
            // It may have come to its end at this very moment.
            match receive.try_recv() {
                Ok(result) => return Ok(result),
                Err(mpsc::TryRecvError::Disconnected) => return Err(panicked()),
                Err(mpsc::TryRecvError::Empty) => {}
            }
            state.slow.insert(server);
            state.left_behind.insert(tid);
            state.given_up += 1;
            tracing::warn!("{server:?} does not answer: it is not read any more");
            Err(timed_out())
        }
    }
}

/// A thread's way to who asked. Dropped, by a panic too, the thread is not left behind any more.
struct Answer<T> {
    tid: i32,
    send: Option<mpsc::SyncSender<T>>,
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        // First, so that nobody who holds the state takes this thread for one that still waits.
        self.send = None;
        state().left_behind.remove(&self.tid);
    }
}

/// A file that is read within [`PATIENCE`], where anybody but the kernel may serve it.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    /// None where it is on a disk of the machine's.
    server: Option<Server>,
    len: u64,
}

impl Reader {
    /// Reads `file` so. Its file system is not asked for anything yet.
    ///
    /// # Errors
    /// Those of statx(2) and of duplicating the descriptor.
    pub fn of(file: &File) -> io::Result<Reader> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?;
        let device = Device {
            major: stat.stx_dev_major,
            minor: stat.stx_dev_minor,
        };
        Ok(Reader {
            file: Arc::new(file.try_clone()?),
            // File systems without a block device have 0: those of networks, FUSE, and overlays
            // of whatever is below.
            server: (device.major == 0).then_some(Server::Files(device)),
            len: stat.stx_size,
        })
    }

    /// The file's length when this began, in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads what there is from `offset` on, up to the length of `into`.
    ///
    /// # Errors
    /// As [`within`], and those of reading.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(server) = self.server else {
            return self.file.read_at(into, offset);
        };
        let (file, mut bytes) = (Arc::clone(&self.file), vec![0; into.len()]);
        let read = move || file.read_at(&mut bytes, offset).map(|read| (bytes, read));
        let (bytes, read) = within(server, read)??;
        if let (Some(into), Some(bytes)) = (into.get_mut(..read), bytes.get(..read)) {
            into.copy_from_slice(bytes);
        }
        Ok(read)
    }

    /// Reads from `offset` on until `into` is full or the file ends. Returns how many bytes there
    /// were.
    ///
    /// # Errors
    /// As [`Reader::read_at`].
    pub fn read_full(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.read_at(room, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// As [`Reader::read_at`]; `UnexpectedEof` where the file ends before.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_full(into, offset)? < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn panicked() -> io::Error {
    io::Error::other("a reader panicked")
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "whoever serves it does not answer")
}

/// How many reads were given up.
#[must_use]
pub fn given_up() -> u64 {
    state().given_up
}

/// The threads of this process that wait in vain, by thread id. They are within the kernel, and
/// handle the signals that they got before they do anything else.
pub(crate) fn left_behind() -> HashSet<i32> {
    state().left_behind.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Nobody else's in this process.
    fn server(number: u32) -> Server {
        Server::Memory(Pid(u32::MAX - number))
    }

    #[test]
    fn what_ends_in_time_has_its_result() {
        assert_eq!(within(server(0), || 42).expect("in time"), 42);
        let panicked = within(server(0), || panic!("on purpose"));
        assert_ne!(
            panicked.expect_err("nothing").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(within(server(0), || 43).expect("again"), 43);
    }

    /// Whether nobody is left behind, soon.
    fn all_ended() -> bool {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            left_behind().is_empty()
        })
    }

    #[test]
    fn who_does_not_answer_is_left_behind_and_not_asked_again() {
        for (number, panics) in [(1, false), (2, true)] {
            let (mut reader, mut writer) = io::pipe().expect("a pipe");
            let before = given_up();
            let read = move || {
                let mut byte = [0];
                let read = reader.read_exact(&mut byte);
                assert!(!panics, "on purpose");
                read
            };
            let patience = Duration::from_millis(50);
            let error = within_patience(server(number), patience, read).expect_err("too long");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(left_behind().len(), 1);
            let error = within(server(number), || 1).expect_err("not asked");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(given_up() >= before + 2);
            assert_eq!(within(server(9), || 2).expect("another"), 2);
            // Served after all, it ends.
            writer.write_all(b"x").expect("it waits");
            assert!(all_ended(), "{:?} are still there", left_behind());
        }
    }
}
