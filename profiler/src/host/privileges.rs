//! Giving up, once the programs are attached, every right that the rest of a recording can do
//! without.
//!
//! What is left was found by experiment: without any one of [`RECORDING`], some recording lacks
//! something. Capabilities belong to threads and there is no system call that changes those of
//! another thread, so that every thread is sent a signal and gives up its own, as the C library
//! does for `setuid` (nptl(7)).

mod identity;

pub(crate) use identity::{as_user, is_owner, is_trusted};
pub use identity::{is_more_than_its_caller, user_of_files};

use crate::process::{Invoker, deadline};
use identity::set_file_ids;
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
};
use std::collections::HashSet;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What every recording needs from when it is attached to its end.
///
/// - `CAP_SYS_PTRACE`: `/proc/PID/{maps,map_files,mem,root}` of processes of other users, and of
///   those that hold capabilities we gave up.
/// - `CAP_DAC_READ_SEARCH`: those files have their owner's mode bits too, and so have programs
///   and libraries.
/// - `CAP_CHECKPOINT_RESTORE`: `/proc/PID/map_files`, the only way to the file that is really
///   mapped.
/// - `CAP_BPF`: new tables, when the target maps new code. What is open may be read and written
///   without it.
/// - `CAP_SYSLOG`: `/proc/kallsyms` with addresses, read when the first stack arrives.
pub const RECORDING: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::SYSLOG);

/// What ends a command that we started and that runs as another user by now.
pub const ENDING: CapabilitySet = CapabilitySet::KILL;

/// What gives a file its name where less is not enough: in `/tmp` and its like.
const NAMING: CapabilitySet = CapabilitySet::FOWNER;

/// The same in a directory that is not ours to write to.
const NAMING_ANYWHERE: CapabilitySet = NAMING.union(CapabilitySet::DAC_OVERRIDE);

/// For how long threads may take to give up their rights. None of them blocks signals; this is
/// for machines that are busy beyond measure.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    needed: CapabilitySet,
    /// As whom files are touched, where not as ourselves.
    user: Option<Invoker>,
}

impl Keep {
    /// What a recording needs, and the least with which `can_write` says yes: nothing more, or
    /// capabilities that help. `can_write` is called with each in turn; where it never says yes,
    /// all that helps is kept.
    ///
    /// Where a user called us by `sudo` (`invoker`), or has less rights than this program, files
    /// are touched as that user: `can_write` is not asked.
    pub fn least(
        needed: CapabilitySet,
        invoker: Option<&Invoker>,
        can_write: impl Fn() -> bool,
    ) -> Keep {
        if let Some(user) = user_of_files(invoker) {
            return Keep {
                needed,
                user: Some(user),
            };
        }
        let own = |naming| Keep {
            needed: needed | naming,
            user: None,
        };
        [own(CapabilitySet::empty()), own(NAMING)]
            .into_iter()
            .find(|keep| keep.rehearse(&can_write))
            .unwrap_or(own(NAMING_ANYWHERE))
    }

    /// The capabilities, of those that are there.
    fn of(&self, permitted: CapabilitySet) -> CapabilitySet {
        let mut kept = self.needed & permitted;
        // The wider right stands in for the narrower one where only that was given, as it mostly
        // is in containers.
        for (narrow, wide) in [
            (CapabilitySet::BPF, CapabilitySet::SYS_ADMIN),
            (CapabilitySet::CHECKPOINT_RESTORE, CapabilitySet::SYS_ADMIN),
            (CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE),
        ] {
            if self.needed.contains(narrow) && !permitted.contains(narrow) {
                kept |= wide & permitted;
            }
        }
        kept
    }

    /// Asks `can_write` with the rights that this thread would have: its effective capabilities
    /// are lowered meanwhile, its permitted ones stay.
    fn rehearse(&self, can_write: &impl Fn() -> bool) -> bool {
        let Ok(before) = capabilities(None) else {
            return false;
        };
        let lowered = CapabilitySets {
            effective: self.of(before.permitted) & before.effective,
            ..before
        };
        let answer = set_capabilities(None, lowered).is_ok() && can_write();
        set_capabilities(None, before).is_ok() && answer
    }
}

/// What the threads are asked for. Written before the first signal is sent, read in handlers.
static KEPT: AtomicU64 = AtomicU64::new(0);
static DROP_BOUNDING: AtomicBool = AtomicBool::new(false);
static FILE_UID: AtomicU32 = AtomicU32::new(u32::MAX);
static FILE_GID: AtomicU32 = AtomicU32::new(u32::MAX);
static FILE_GROUPS: OnceLock<Vec<Gid>> = OnceLock::new();

/// Gives up, for every thread of this process and for good, all capabilities but those to keep,
/// and the gaining of privileges by executing programs. Programs that were started before are
/// not touched.
///
/// To be called once in a process.
///
/// # Errors
/// Where a thread still has more after some seconds, or the kernel refuses.
pub fn drop_to(keep: Keep) -> io::Result<()> {
    let held = capabilities(None)?;
    KEPT.store(keep.of(held.permitted).bits(), Ordering::SeqCst);
    DROP_BOUNDING.store(
        held.effective.contains(CapabilitySet::SETPCAP),
        Ordering::SeqCst,
    );
    if let Some(user) = keep.user {
        FILE_UID.store(user.uid.as_raw(), Ordering::SeqCst);
        FILE_GID.store(user.gid.as_raw(), Ordering::SeqCst);
        if !identity::has_groups_of(&user)? {
            // Set only once, like everything here.
            let _ = FILE_GROUPS.set(user.groups);
        }
    }
    // They have what this process has now.
    deadline::end_children();
    give_up()?;
    ask_other_threads()
}

/// Gives up what this thread has. Makes system calls only, so that a signal handler may call it:
/// nothing is allocated, locked, or put into the C library's `errno`.
fn give_up() -> Result<(), Errno> {
    let kept = CapabilitySet::from_bits_retain(KEPT.load(Ordering::SeqCst));
    if DROP_BOUNDING.load(Ordering::SeqCst) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if kept.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // There are no more.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    clear_ambient_capability_set()?;
    let (uid, gid) = (
        FILE_UID.load(Ordering::SeqCst),
        FILE_GID.load(Ordering::SeqCst),
    );
    if uid != u32::MAX {
        if let Some(groups) = FILE_GROUPS.get() {
            set_thread_groups(groups)?;
        }
        set_file_ids(uid, gid);
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    // Last: by this, others see that it is done.
    set_no_new_privs(true)
}

extern "C" fn on_signal(_: libc::c_int) {
    // Who waits for it sees in `/proc` whether it worked.
    let _ = give_up();
}

fn ask_other_threads() -> io::Result<()> {
    let signal = libc::SIGRTMIN();
    let before = handle(
        signal,
        on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t,
    )?;
    let all = wait_for_all(signal);
    if deadline::left_behind().is_empty() {
        // SAFETY: what stood there before; no thread has the signal pending any more, or `all` is
        // an error that ends the program.
        unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
    }
    all
}

fn handle(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<libc::sigaction> {
    // SAFETY: zeros are a valid `sigaction`, and it is filled before it is used.
    let (mut action, mut before) =
        unsafe { (std::mem::zeroed::<libc::sigaction>(), std::mem::zeroed()) };
    action.sa_sigaction = handler;
    // Whatever a thread waits for goes on afterwards.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both point to locals, and the handler makes nothing but system calls.
    match unsafe { libc::sigaction(signal, &raw const action, &raw mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks every thread once, until none is left that has not done it. A thread that was started
/// meanwhile has what its starter had: it may have to be asked, too.
fn wait_for_all(signal: libc::c_int) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut asked = HashSet::new();
    // A second look finds what was started behind the back of the first.
    let mut looks = 0;
    while looks < 2 {
        let mut left = threads_left()?;
        // Those that wait in the kernel for a target have the signal, and get to nothing else
        // before it.
        let waiting = deadline::left_behind();
        left.retain(|tid| !asked.contains(tid) || !waiting.contains(&tid.cast_signed()));
        if left.is_empty() {
            looks += 1;
            continue;
        }
        looks = 0;
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "threads {left:?} still have them"
            )));
        }
        for tid in left {
            if asked.insert(tid) {
                // SAFETY: takes no pointers. A thread that has ended is no problem.
                unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, signal) };
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The threads of this process that have more than they should.
fn threads_left() -> io::Result<Vec<u32>> {
    let kept = KEPT.load(Ordering::SeqCst);
    let bounded = DROP_BOUNDING.load(Ordering::SeqCst);
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        let tid = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // One that cannot be read has ended.
        if let (Some(tid), Ok(status)) = (tid, std::fs::read_to_string(path.join("status")))
            && !has_given_up(&status, kept, bounded)
        {
            left.push(tid);
        }
    }
    Ok(left)
}

/// Whether a thread with this `/proc/…/status` has no more than `kept`.
fn has_given_up(status: &str, kept: u64, bounded: bool) -> bool {
    let field = |key: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let within = |key: &str, most: u64| field(key).is_some_and(|set| set & !most == 0);
    within("CapPrm", kept)
        && within("CapEff", kept)
        && within("CapInh", 0)
        && within("CapAmb", 0)
        && (!bounded || within("CapBnd", kept))
        && field("NoNewPrivs") == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CapabilitySet as C;
    use rustix::process::Uid;

    fn keep(needed: CapabilitySet) -> Keep {
        Keep { needed, user: None }
    }

    #[test]
    fn root_keeps_what_is_needed_and_nothing_else() {
        assert_eq!(keep(RECORDING).of(C::all()), RECORDING);
        assert_eq!(keep(RECORDING | NAMING).of(C::all()), RECORDING | NAMING);
        assert!(!RECORDING.intersects(C::SYS_ADMIN | C::PERFMON | C::SETUID | C::SETPCAP));
    }

    #[test]
    fn nothing_is_gained_and_wider_rights_stand_in() {
        assert_eq!(keep(RECORDING).of(C::empty()), C::empty());
        assert_eq!(keep(RECORDING).of(C::BPF | C::PERFMON), C::BPF);
        assert_eq!(
            keep(RECORDING).of(C::SYS_ADMIN | C::SYS_PTRACE | C::NET_ADMIN),
            C::SYS_ADMIN | C::SYS_PTRACE
        );
        let docker = C::BPF | C::PERFMON | C::SYS_PTRACE | C::DAC_OVERRIDE | C::CHOWN;
        assert_eq!(
            keep(RECORDING).of(docker),
            C::BPF | C::SYS_PTRACE | C::DAC_OVERRIDE
        );
    }

    fn invoker(uid: u32) -> Invoker {
        Invoker {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(uid),
            groups: vec![Gid::from_raw(uid)],
        }
    }

    #[test]
    fn the_first_that_can_write_is_taken() {
        let before = capabilities(None).expect("own");
        let seen = std::cell::RefCell::new(Vec::new());
        let most = Keep::least(RECORDING, None, || {
            let effective = capabilities(None).expect("own").effective;
            seen.borrow_mut().push(effective & NAMING_ANYWHERE);
            false
        });
        assert_eq!(most, keep(RECORDING | NAMING_ANYWHERE));
        assert!(
            seen.borrow()
                .iter()
                .all(|helps| !helps.contains(C::DAC_OVERRIDE))
        );
        assert_eq!(Keep::least(RECORDING, None, || true), keep(RECORDING));
        assert_eq!(
            capabilities(None).expect("own"),
            before,
            "nothing was lost by asking"
        );
        if before.effective.contains(C::FOWNER) {
            assert_eq!(*seen.borrow(), [C::empty(), C::FOWNER]);
            let with_help = || capabilities(None).is_ok_and(|held| held.effective.contains(NAMING));
            assert_eq!(
                Keep::least(RECORDING, None, with_help),
                keep(RECORDING | NAMING)
            );
        }
    }

    /// No right to files is kept for a user who called `sudo`, whatever cannot be written.
    #[test]
    fn who_called_sudo_has_no_rights_of_roots() {
        let user = invoker(54_321);
        let kept = Keep::least(RECORDING, Some(&user), || false);
        assert_eq!(kept.needed, RECORDING);
        assert_eq!(kept.user, Some(user));
        let root = invoker(0);
        assert_eq!(
            Keep::least(RECORDING, Some(&root), || true),
            keep(RECORDING)
        );
    }

    #[test]
    fn a_status_tells_what_is_left() {
        let status = |inh: &str, prm: &str, eff: &str, bnd: &str, nnp: &str| {
            format!(
                "Name:\tx\nCapInh:\t{inh}\nCapPrm:\t{prm}\nCapEff:\t{eff}\nCapBnd:\t{bnd}\n\
                 CapAmb:\t0000000000000000\nNoNewPrivs:\t{nnp}\n"
            )
        };
        let zero = "0000000000000000";
        let kept = "0000010400080004";
        let good = status(zero, kept, kept, kept, "1");
        assert!(has_given_up(&good, 0x104_0008_0004, true));
        assert!(
            has_given_up(&status(zero, zero, zero, zero, "1"), 0x4, true),
            "less is fine"
        );
        let all = "000001ffffffffff";
        assert!(has_given_up(
            &status(zero, kept, kept, all, "1"),
            0x104_0008_0004,
            false
        ));
        for bad in [
            status(zero, kept, kept, all, "1"),
            status(zero, kept, kept, kept, "0"),
            status(zero, all, kept, kept, "1"),
            status(kept, kept, kept, kept, "1"),
            String::new(),
        ] {
            assert!(!has_given_up(&bad, 0x104_0008_0004, true), "{bad}");
        }
    }
}
