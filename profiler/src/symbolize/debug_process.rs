//! Debug information is read in a process of its own.
//!
//! What it takes to read it is not known beforehand: a few bytes of DWARF may stand for any
//! number of rows, functions, ranges and inlined calls, and the library reads them into memory as
//! they come. So whoever reads a hostile file runs out of memory or of time. Here that is a child
//! with limits on both, without capabilities and with the few system calls that reading takes; what
//! it cannot read has no source lines. The parent goes on. Its user it cannot change: the right to
//! was given up when the recording began.
//!
//! Where there is much debug information, the file is the target's own ([`Whose::Targets`]), and
//! the child maps it. Whoever shortens that file ends the child by SIGBUS; whoever serves it and does not
//! answer has a child that cannot be ended, which is left behind.
//!
//! The child is a fork without `exec`: it needs the file's descriptor and this library, and the
//! pages that it never touches are shared with the parent.

use super::library::{find, new_blazesym};
use super::limits::{MAX_NAME, MAX_SYMBOL, cut};
use super::system_calls::keep_reading_only;
use super::time::time_of;
use crate::process::signals::{Blocked, close_range};
use crate::units::Svma;
use blazesym::symbolize::source::Source;
use blazesym::symbolize::{CodeInfo, Sym};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions,
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// CPU time that a child has in all, in seconds: while nobody waits for its answer, nobody looks at it.
/// Whoever waits gives up long before.
const MOST_CPU_SECONDS: u64 = 10;
/// How often the CPU time of a child at work is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// How long one answer may take by the clock, however busy the machine is.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a child that was ended may take to die.
const FOR_DYING: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 300_000_000,
};
/// Longest answer, in bytes. Each of its parts is cut by [`cut`].
const MAX_ANSWER: u32 = 4 << 20;
/// Most inlined frames of one address. Real ones have some dozens.
const MAX_INLINED: usize = 256;

/// What debug information says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DebugSymbol {
    /// The physical function's name, which may be short (`{closure#0}`); empty where it has none.
    pub(super) name: String,
    /// Its first address.
    pub(super) addr: u64,
    /// Whether its length is stated.
    pub(super) sized: bool,
    /// Where the address is in the source.
    pub(super) place: Option<Place>,
    /// Inlined functions, outermost first.
    pub(super) inlined: Vec<(String, Option<Place>)>,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: String,
    /// None where the code has no line.
    pub(super) line: Option<u32>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The file is broken, and how.
    Broken(String),
    /// It takes more memory than it may, or the child died of something else.
    Died,
    /// It takes more time than it may.
    TooLong,
}

/// Whose file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A copy of our own, which everybody may read.
    Ours,
    /// The target's, which its owner may have kept to himself.
    Targets,
}

/// The child that reads one module's debug information.
#[derive(Debug)]
pub(super) struct DebugProcess {
    pid: Pid,
    pidfd: OwnedFd,
    requests: File,
    answers: File,
    /// Bytes of data that it was born with.
    born_with: u64,
    /// Bytes of data that it had at its last answer. It takes no more before it is asked again.
    data: u64,
    /// Bytes of data that it may have; none before it is told.
    limit: Option<u64>,
    /// CPU time that it has used up to the last answer.
    used: Duration,
    /// Whether there is an answer to come that nobody wants.
    asked_ahead: bool,
}

impl DebugProcess {
    /// Forks. `file` is what `source` names by descriptor; nothing else stays open.
    ///
    /// # Errors
    /// Those of fork(2) and pipe(2).
    pub(super) fn start(
        source: &Source<'static>,
        file: &File,
        whose: Whose,
    ) -> io::Result<DebugProcess> {
        let (requests_out, requests) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (answers, answers_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&answers, true)?;
        let mut keep = [
            file.as_raw_fd(),
            requests_out.as_raw_fd(),
            answers_out.as_raw_fd(),
        ];
        keep.sort_unstable();
        let born_with = data_of("self")?;
        let parent = rustix::process::getpid();
        let signals = Blocked::all();
        // SAFETY: the child has this thread only. It takes none of the locks that other threads
        // may have held but those of the allocator, which the C library sees to; it does not
        // return from here.
        match unsafe { libc::fork() } {
            -1 => {
                let error = io::Error::last_os_error();
                drop(signals);
                Err(error)
            }
            0 => {
                let ready = contain(&keep, parent, signals, whose.rights()).is_ok();
                if ready {
                    serve(source, &mut requests_out.into(), &mut answers_out.into());
                }
                // SAFETY: ends this process, without the parent's buffers and handlers.
                unsafe { libc::_exit(i32::from(!ready)) }
            }
            pid => {
                drop(signals);
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                    .inspect_err(|_| end_child(pid))?;
                Ok(DebugProcess {
                    pid,
                    pidfd,
                    requests: requests.into(),
                    answers: answers.into(),
                    born_with,
                    data: born_with,
                    limit: None,
                    used: Duration::ZERO,
                    asked_ahead: false,
                })
            }
        }
    }

    /// Bytes of memory that it takes beyond what it was born with.
    pub(super) const fn grown(&self) -> u64 {
        self.data.saturating_sub(self.born_with)
    }

    /// Bytes of memory that it may take without anybody's notice: its limit, while nobody waits for its
    /// answer.
    pub(super) fn reserved(&self) -> u64 {
        let limit = self.limit.filter(|_| self.asked_ahead);
        limit.map_or(0, |most| most.saturating_sub(self.born_with))
    }

    /// Lets it take this many bytes beyond what it was born with.
    pub(super) fn limit(&mut self, bytes: u64) {
        let most = self.born_with.saturating_add(bytes);
        if self.limit == Some(most) {
            return;
        }
        let limit = Rlimit {
            current: Some(most),
            maximum: rustix::process::getrlimit(Resource::Data).maximum,
        };
        // Where the kernel refuses, the limit that was set last holds.
        if rustix::process::prlimit(Some(self.pid), Resource::Data, limit).is_ok() {
            self.limit = Some(most);
        }
    }

    /// Asks for an address so that the tables are read, and does not wait for the answer.
    pub(super) fn ask_ahead(&mut self, svma: Svma) -> Result<(), Failure> {
        if !self.asked_ahead {
            self.send(svma)?;
            self.asked_ahead = true;
        }
        Ok(())
    }

    /// Asks for an address of the file, and adds the CPU time that it took to `spent`, which it
    /// keeps below `most`.
    pub(super) fn ask(
        &mut self,
        svma: Svma,
        spent: &mut Duration,
        most: Duration,
    ) -> Result<Option<DebugSymbol>, Failure> {
        let answer = self.exchange(svma, most.saturating_sub(*spent));
        let used = self.time().unwrap_or(self.used);
        *spent += used.saturating_sub(self.used);
        self.used = used;
        self.data = data_of(&self.pid.to_string()).unwrap_or(self.data);
        match serde_json::from_slice(&answer?) {
            Ok(Answer::Found(symbol)) => Ok(Some(symbol)),
            Ok(Answer::Nothing) => Ok(None),
            Ok(Answer::Broken(why)) => Err(Failure::Broken(why)),
            Err(error) => Err(Failure::Broken(error.to_string())),
        }
    }

    /// A pipe has room for it: there are two requests at a time at most.
    fn send(&mut self, svma: Svma) -> Result<(), Failure> {
        let request = svma.0.to_le_bytes();
        self.requests.write_all(&request).map_err(|_| Failure::Died)
    }

    fn exchange(&mut self, svma: Svma, left: Duration) -> Result<Vec<u8>, Failure> {
        self.send(svma)?;
        if std::mem::take(&mut self.asked_ahead) {
            let _answer = self.receive(left)?;
        }
        self.receive(left)
    }

    /// The next answer, and nothing of the one after it.
    fn receive(&mut self, left: Duration) -> Result<Vec<u8>, Failure> {
        let (begun, until) = (Instant::now(), self.used + left);
        let mut answer = Vec::new();
        loop {
            let wanted = match answer.first_chunk::<4>() {
                None => 4,
                Some(len) => 4 + u32::from_le_bytes(*len).min(MAX_ANSWER) as usize,
            };
            if answer.len() >= 4 && answer.len() >= wanted {
                return Ok(answer.split_off(4));
            }
            let mut chunk = [0; 4096];
            let missing = (wanted - answer.len()).min(chunk.len());
            match self
                .answers
                .read(chunk.get_mut(..missing).unwrap_or_default())
            {
                Ok(0) => return Err(Failure::Died),
                Ok(read) => {
                    answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Failure::Died),
            }
            if begun.elapsed() > TIMEOUT || self.time().is_none_or(|used| used > until) {
                // It has ended, or it is too slow.
                return Err(match self.has_ended() {
                    true => Failure::Died,
                    false => Failure::TooLong,
                });
            }
            let glance = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(GLANCE.subsec_nanos()),
            };
            let mut wait = [PollFd::new(&self.answers, PollFlags::IN)];
            // What goes wrong here shows at the next read.
            let _ = poll(&mut wait, Some(&glance));
        }
    }

    fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// CPU time that it has used; none where it has ended.
    fn time(&self) -> Option<Duration> {
        let mut clock = 0;
        // SAFETY: `clock` outlives the call.
        let found = unsafe { libc::clock_getcpuclockid(self.pid.as_raw_pid(), &raw mut clock) };
        (found == 0).then(|| time_of(clock))?
    }
}

/// Ends a child that nobody has waited for yet, so that its number is still its own.
fn end_child(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
}

impl Drop for DebugProcess {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // It dies at once, unless the kernel waits for whoever serves the file that it has mapped.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll(&mut ended, Some(&FOR_DYING));
        let id = WaitId::PidFd(self.pidfd.as_fd());
        let _ = rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Found(DebugSymbol),
    Nothing,
    Broken(String),
}

/// Bytes of data of a process: `data` of `/proc/PID/statm`, which is what `RLIMIT_DATA` bounds.
fn data_of(process: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = text.split_ascii_whitespace().nth(5);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// In the child: gives up signals, descriptors, privileges, and everything that it could do.
fn contain(keep: &[RawFd], parent: Pid, signals: Blocked, rights: CapabilitySet) -> io::Result<()> {
    for signal in 1..=64 {
        // Ctrl-C goes to the whole group, and the report still wants its lines.
        let action = match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => libc::SIG_IGN,
            _ => libc::SIG_DFL,
        };
        // SAFETY: takes no pointers; of signals that cannot be set, nothing changes.
        unsafe { libc::signal(signal, action) };
    }
    drop(signals);
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // What the allocator says when it ends us is of no use to anybody.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // Closed below with all others.
    let null = null.into_raw_fd();
    for fd in 0..3 {
        // SAFETY: takes no pointers. Nobody in this process uses the three.
        unsafe { libc::dup2(null, fd) };
    }
    let mut first = 3;
    for fd in keep.iter().copied().filter(|fd| *fd > 2) {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    rustix::process::setrlimit(Resource::Fsize, none)?;
    rustix::process::setrlimit(Resource::Nproc, none)?;
    let cpu_time = Rlimit {
        current: Some(MOST_CPU_SECONDS),
        maximum: Some(MOST_CPU_SECONDS),
    };
    rustix::process::setrlimit(Resource::Cpu, cpu_time)?;
    rustix::thread::clear_ambient_capability_set()?;
    keep_rights(rights)?;
    rustix::thread::set_no_new_privs(true)?;
    match keep_reading_only() {
        // The kernel was built without: the other limits stay.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}

/// In the child: gives up all capabilities but these, as far as it has them.
fn keep_rights(rights: CapabilitySet) -> io::Result<()> {
    let mut kept = rustix::thread::capabilities(None)?.permitted & rights;
    if kept.contains(CapabilitySet::DAC_READ_SEARCH) {
        // Without the narrower right, as in containers, the wider one stands in for it.
        kept.remove(CapabilitySet::DAC_OVERRIDE);
    }
    let kept = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, kept)?)
}

impl Whose {
    /// What opening such a file may take.
    fn rights(self) -> CapabilitySet {
        match self {
            Whose::Ours => CapabilitySet::empty(),
            Whose::Targets => CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE,
        }
    }
}

/// In the child: answers until nobody asks any more.
fn serve(source: &Source<'static>, requests: &mut File, answers: &mut File) {
    let blazesym = new_blazesym();
    let mut request = [0; 8];
    while requests.read_exact(&mut request).is_ok() {
        let svma = Svma(u64::from_le_bytes(request));
        let answer = match find(&blazesym, source, svma) {
            Ok(Some(symbol)) => Answer::Found(DebugSymbol::of(&symbol)),
            Ok(None) => Answer::Nothing,
            Err(why) => Answer::Broken(cut(&why, MAX_NAME).into_owned()),
        };
        // The library keeps the file open that it opened for the first answer.
        if keep_rights(CapabilitySet::empty()).is_err() {
            return;
        }
        let Ok(text) = serde_json::to_vec(&answer) else {
            return;
        };
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if len > MAX_ANSWER
            || answers.write_all(&len.to_le_bytes()).is_err()
            || answers.write_all(&text).is_err()
        {
            return;
        }
    }
}

impl DebugSymbol {
    fn of(symbol: &Sym<'_>) -> DebugSymbol {
        let place = |info: &CodeInfo<'_>| Place {
            file: cut(&info.to_path().to_string_lossy(), MAX_NAME).into_owned(),
            // Line 0 is DWARF's "no line" (DWARF 5, 6.2.2).
            line: info.line.filter(|&line| line > 0),
        };
        let skip = symbol.inlined.len().saturating_sub(MAX_INLINED);
        let inlined = symbol.inlined.iter().skip(skip);
        DebugSymbol {
            name: cut(&symbol.name, MAX_SYMBOL).into_owned(),
            addr: symbol.addr,
            sized: symbol.size.is_some(),
            place: symbol.code_info.as_deref().map(place),
            inlined: inlined
                .map(|frame| {
                    let place = frame.code_info.as_ref().map(place);
                    (cut(&frame.name, MAX_SYMBOL).into_owned(), place)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_ends_the_child_alone() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut own = File::open("/proc/self/exe").expect("our own");
        io::copy(&mut own, &mut file).expect("a copy");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let source = Source::Elf(blazesym::symbolize::source::Elf::new(path));
        let mut child = DebugProcess::start(&source, &file, Whose::Targets).expect("a child");
        let (mut spent, most) = (Duration::ZERO, Duration::from_secs(60));
        child.ask(Svma(0x1000), &mut spent, most).expect("it reads");
        file.set_len(1).expect("shorter");
        // Whatever it looks at next.
        let asked = (0..1000).map(|n| child.ask(Svma(n << 12), &mut spent, most));
        let died = asked.filter_map(Result::err).next();
        assert_eq!(died, Some(Failure::Died));
        let begun = Instant::now();
        drop(child);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn what_is_asked_ahead_is_nobodys_answer() {
        let file = File::open("/proc/self/exe").expect("our own");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let source = Source::Elf(blazesym::symbolize::source::Elf::new(path));
        let start = || DebugProcess::start(&source, &file, Whose::Ours).expect("a child");
        let (mut spent, most) = (Duration::ZERO, Duration::from_secs(60));
        let mut child = start();
        let found = (0..4000).find_map(|n| {
            let svma = Svma(n << 12);
            let symbol = child.ask(svma, &mut spent, most).expect("it reads")?;
            Some((svma, symbol))
        });
        let (svma, wanted) = found.expect("code");
        let mut child = start();
        for _ in 0..2 {
            child.ask_ahead(Svma(0)).expect("it lives");
        }
        for _ in 0..2 {
            let symbol = child.ask(svma, &mut spent, most).expect("it reads");
            assert_eq!(symbol.as_ref(), Some(&wanted));
        }
    }

    #[test]
    fn a_child_has_no_rights_but_to_read() {
        let file = File::open("/lib/x86_64-linux-gnu/libc.so.6").expect("libc");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let source = Source::Elf(blazesym::symbolize::source::Elf::new(path));
        let mut child = DebugProcess::start(&source, &file, Whose::Targets).expect("a child");
        let (mut spent, most) = (Duration::ZERO, Duration::from_secs(60));
        child.ask(Svma(0x1000), &mut spent, most).expect("it reads");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid));
        let status = status.expect("it lives");
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.lines().any(|l| l == line), "no {line:?} in {status}");
        }
    }

    #[test]
    fn a_child_that_cannot_be_pinned_leaves_nothing_behind() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("a child");
        end_child(Pid::from_child(&child));
        let again = child.wait().expect_err("it was waited for");
        assert_eq!(again.raw_os_error(), Some(libc::ECHILD));
    }
}
