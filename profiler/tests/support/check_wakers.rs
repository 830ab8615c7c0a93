//! Waits in the crates that people use: what for, and which function ended them.

use super::check::{Complaints, ms};
use super::record::Recorded;
use super::report::{Site, Waker, is_in};

/// Who has to have ended most of the waits.
enum By {
    /// This function of a thread of the target.
    Function(&'static str, &'static str),
    /// A thread of this name in another process.
    Process(&'static str),
    /// No thread.
    Interrupt,
}

/// A function of the fixture, the cause of its waits, the beginning of its call, what an object of
/// it must be and contain, and who ends the waits.
struct Wanted(
    &'static str,
    &'static str,
    &'static str,
    (&'static str, &'static str),
    By,
);

const HELPER: &str = "helper";
const FUTEX: (&str, &str) = ("futex", "0x");

const WANTED: &[Wanted] = &[
    Wanted(
        "block_by_std_mutex",
        "lock",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "hold_std_mutex"),
    ),
    Wanted(
        "block_by_read_behind_writer",
        "lock",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "hold_std_rwlock"),
    ),
    Wanted(
        "block_by_parking_lot_read",
        "lock",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "hold_parking_lot_rwlock"),
    ),
    Wanted(
        "block_by_condvar",
        "condvar",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "notify_condvar"),
    ),
    Wanted(
        "block_by_std_mpsc",
        "channel",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "send_by_std_mpsc"),
    ),
    Wanted(
        "block_by_crossbeam",
        "channel",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "send_by_crossbeam"),
    ),
    Wanted(
        "block_by_flume",
        "channel",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "send_by_flume"),
    ),
    Wanted(
        "block_by_futures",
        "nested-block-on",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "answer"),
    ),
    Wanted(
        "block_by_pollster",
        "nested-block-on",
        "futex wait",
        FUTEX,
        By::Function(HELPER, "answer"),
    ),
    // It waits at the reactor of its own, or for the thread that does.
    Wanted(
        "block_by_smol",
        "nested-block-on",
        "",
        ("", ""),
        By::Function(HELPER, "answer"),
    ),
    Wanted(
        "block_by_mmap",
        "memory",
        "mmap",
        ("", ""),
        By::Function("filler", "fill"),
    ),
    Wanted(
        "block_by_pipe",
        "pipe",
        "read fd ",
        ("pipe", "pipe:["),
        By::Function(HELPER, "write_to_pipe"),
    ),
    Wanted(
        "block_by_peer",
        "network",
        "recvfrom fd ",
        ("socket", "tcp 127.0.0.1:"),
        By::Interrupt,
    ),
    Wanted(
        "block_by_child",
        "child-process",
        "wait4 ",
        ("process", " (sleep)"),
        By::Process("sleep"),
    ),
    Wanted(
        "block_by_timer",
        "sleep",
        "clock_nanosleep ",
        ("timer", ""),
        By::Interrupt,
    ),
    Wanted(
        "block_by_tail_call",
        "sleep",
        "clock_nanosleep ",
        ("timer", ""),
        By::Interrupt,
    ),
    Wanted(
        "block_by_sqlite_lock",
        "file-lock",
        "clock_nanosleep ",
        ("timer", ""),
        By::Interrupt,
    ),
];

/// Sites that may have waited not once: on a busy machine a lock or a channel that spins and gives
/// its CPU away has what it wants before it waits.
const NEVER: usize = 3;

/// Each has its cause, its call, its object and its waker.
pub(crate) fn all(recorded: &Recorded) -> Complaints {
    let mut complaints = Vec::new();
    let mut never = Vec::new();
    for wanted in WANTED {
        let name = wanted.0;
        let mut known = recorded.truth.sites.iter();
        match known
            .find(|site| site.function == name)
            .map(|site| site.waits)
        {
            None => complaints.push(format!("{name}: the fixture has no such site")),
            Some(0) => never.push(name),
            Some(_) => {
                let sites = recorded.report.sites.iter();
                let longest = sites
                    .filter(|site| site.state == "blocked" && is_in(&site.function, name))
                    .max_by_key(|site| site.total_ns);
                match longest {
                    None => complaints.push(format!("{name}: no site")),
                    Some(site) => complaints.extend(of_site(recorded, wanted, site)),
                }
            }
        }
    }
    if never.len() > NEVER {
        complaints.push(format!("the fixture never waited in {never:?}"));
    }
    complaints
}

fn of_site(recorded: &Recorded, wanted: &Wanted, site: &Site) -> Complaints {
    let Wanted(name, cause, call, (kind, contains), by) = wanted;
    let mut complaints = Vec::new();
    if site.cause != *cause || !site.call.starts_with(call) {
        complaints.push(format!(
            "{name}: cause {}, call {:?}: {}",
            site.cause,
            site.call,
            site.describe()
        ));
    }
    let is_object = |kind_of: &str, name_of: &str| kind_of == *kind && name_of.contains(contains);
    let mut objects = site.objects.iter();
    if !kind.is_empty() && !objects.any(|object| is_object(&object.kind, &object.name)) {
        complaints.push(format!("{name}: objects {:?}", site.objects));
    }
    let is_waker = |waker: &&Waker| match by {
        By::Function(thread, function) => {
            let did = waker.function.as_deref().unwrap_or("");
            waker.pid == recorded.pid && waker.thread == *thread && is_in(did, function)
        }
        By::Process(name) => waker.pid != recorded.pid && waker.pid != 0 && waker.thread == *name,
        By::Interrupt => waker.pid == 0 && waker.function.is_none(),
    };
    let ended: u64 = site
        .wakers
        .iter()
        .filter(is_waker)
        .map(|waker| waker.waits)
        .sum();
    let all: u64 = site.wakers.iter().map(|waker| waker.waits).sum();
    // A wait may be ended in vain and go on.
    if ended == 0 || ended * 10 < all * 8 {
        complaints.push(format!(
            "{name}: {ended} of {all} waits ({}) ended as they should; wakers {:?}",
            ms(site.total_ns),
            site.wakers
        ));
    }
    complaints
}

/// The connections of a peer, each with a port of its own, are one line for a reader.
pub(crate) fn groups(recorded: &Recorded) -> Complaints {
    let mut sites = recorded.report.sites.iter();
    let Some(site) = sites.find(|site| is_in(&site.function, "block_by_peer")) else {
        return vec!["block_by_peer: no site".into()];
    };
    let group = site.object_groups.first();
    let whole = group.is_some_and(|group| {
        group.name.starts_with("tcp at 127.0.0.1:") && group.objects == site.objects.len() as u64
    });
    if whole && site.objects.len() > 1 {
        Vec::new()
    } else {
        vec![format!(
            "groups {:?} of {:?}",
            site.object_groups, site.objects
        )]
    }
}
