//! Causes, objects and advice of the sites that the fixture knows.

use super::check::Complaints;
use super::report::{Report, Site, is_in};
use super::truth::Truth;
use holdup::host::KernelBtf;

/// What the object of a wait must be: its kind, and what its name must contain and end with.
struct Object {
    kind: &'static str,
    contains: &'static str,
    end: &'static str,
}

/// A function of the fixture, with the cause of its waits.
struct Wanted {
    function: &'static str,
    cause: &'static str,
    /// Beginning of the decoded call.
    call: &'static str,
    object: Option<Object>,
    /// What the advice must name.
    advice: &'static str,
}

const fn wanted(
    function: &'static str,
    cause: &'static str,
    call: &'static str,
    advice: &'static str,
) -> Wanted {
    Wanted {
        function,
        cause,
        call,
        object: None,
        advice,
    }
}

impl Wanted {
    const fn object(
        mut self,
        kind: &'static str,
        contains: &'static str,
        end: &'static str,
    ) -> Wanted {
        self.object = Some(Object {
            kind,
            contains,
            end,
        });
        self
    }
}

const WANTED: &[Wanted] = &[
    wanted(
        "block_by_sleep",
        "sleep",
        "clock_nanosleep ",
        "tokio::time::sleep",
    ),
    wanted("block_by_mutex", "lock", "futex wait", "tokio::sync::Mutex").object("futex", "0x", ""),
    wanted(
        "block_by_rwlock_read",
        "lock",
        "futex wait",
        "tokio::sync::RwLock",
    ),
    wanted(
        "block_by_rwlock_write",
        "lock",
        "futex wait",
        "tokio::sync::RwLock",
    ),
    wanted("block_by_condvar", "condvar", "futex wait", "Notify"),
    wanted(
        "block_by_mpsc_recv",
        "channel",
        "futex wait",
        "tokio::sync::mpsc",
    ),
    wanted(
        "block_by_sync_send",
        "channel",
        "futex wait",
        "tokio::sync::mpsc",
    ),
    wanted(
        "block_by_parking_lot",
        "lock",
        "futex wait",
        "tokio::sync::Mutex",
    ),
    wanted("block_by_once", "lock", "futex wait", "OnceCell"),
    wanted(
        "block_by_barrier",
        "condvar",
        "futex wait",
        "tokio::sync::Barrier",
    ),
    wanted("block_by_park_timeout", "condvar", "futex wait", "Notify"),
    wanted(
        "block_by_thread_join",
        "thread-join",
        "futex wait",
        "spawn_blocking",
    ),
    wanted(
        "block_by_fifo_open",
        "pipe",
        "openat \"/",
        "tokio::net::unix::pipe",
    )
    .object("path", "/", "/fifo"),
    wanted(
        "block_by_fifo_read",
        "pipe",
        "read fd ",
        "tokio::net::unix::pipe",
    )
    .object("pipe", "/", "/fifo"),
    wanted(
        "block_by_closed_read",
        "pipe",
        "read fd ",
        "tokio::net::unix::pipe",
    )
    .object("pipe", "/", "/closed"),
    wanted(
        "block_by_flock",
        "file-lock",
        "flock exclusive fd ",
        "spawn_blocking",
    )
    .object("path", "/", "/lock"),
    wanted(
        "block_by_fcntl_lock",
        "file-lock",
        "fcntl fd ",
        "spawn_blocking",
    )
    .object("path", "/", "/range"),
    wanted("block_by_fsync", "file-io", "fsync fd ", "sync_all").object("path", "/", "/synced"),
    wanted("block_by_file_read", "file-io", "pread64 fd ", "tokio::fs")
        .object("path", "/", "/cold"),
    wanted(
        "block_by_page_fault",
        "page-fault",
        "page fault at ",
        "spawn_blocking",
    )
    .object("path", "/", "/cold"),
    wanted("block_by_tcp_read", "network", "recvfrom fd ", "TcpStream").object(
        "socket",
        "-> 127.0.0.9:",
        "",
    ),
    wanted(
        "block_by_tcp_accept",
        "network",
        "accept4 fd ",
        "tokio::net::TcpListener",
    )
    .object("socket", "tcp 127.0.0.1:", ""),
    wanted(
        "block_by_unix_read",
        "network",
        "recvfrom fd ",
        "UnixStream",
    )
    .object("socket", "unix socket:[", "]"),
    wanted(
        "block_by_unix_connect",
        "network",
        "connect unix /",
        "tokio",
    )
    .object("socket", "unix /", "/socket"),
    wanted("block_by_udp_recv", "network", "recvfrom fd ", "UdpSocket").object(
        "socket",
        "udp 127.0.0.1:",
        "",
    ),
    wanted(
        "block_by_pipe_read",
        "pipe",
        "read fd ",
        "tokio::net::unix::pipe",
    )
    .object("pipe", "pipe:[", "]"),
    wanted("block_by_poll", "poll", "poll fd ", "AsyncFd").object("socket", "unix socket:[", "]"),
    wanted(
        "block_by_child_wait",
        "child-process",
        "wait4 ",
        "tokio::process",
    )
    .object("process", " (sleep", ")"),
    wanted(
        "block_by_command_status",
        "child-process",
        "",
        "status().await",
    )
    .object("process", " (sleep", ")"),
    wanted(
        "block_by_command_output",
        "child-process",
        "",
        "output().await",
    ),
    wanted("block_by_getaddrinfo", "dns", "", "lookup_host"),
    wanted(
        "block_by_futures_block_on",
        "nested-block-on",
        "futex wait",
        ".await",
    ),
    wanted(
        "block_by_pollster",
        "nested-block-on",
        "futex wait",
        ".await",
    ),
    wanted(
        "block_by_drop",
        "sleep",
        "clock_nanosleep ",
        "tokio::time::sleep",
    ),
];

/// Every kind of blocking has its cause, its call, its object and its advice.
pub(crate) fn causes(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    // Before Linux 5.17 nothing tells the file of a page fault, and `holdup check` says so.
    let tells_faults = KernelBtf::load().is_ok_and(|btf| btf.has_helper("find_vma"));
    for wanted in WANTED {
        let waits = truth
            .sites
            .iter()
            .find(|site| site.function == wanted.function)
            .map(|site| site.waits);
        match waits {
            None => complaints.push(format!("{}: the fixture has no such site", wanted.function)),
            // A memory file system never waits, and some machines ask no name server.
            Some(0) => {}
            Some(_) if wanted.cause == "page-fault" && !tells_faults => {
                let without = Wanted {
                    call: "page fault",
                    object: None,
                    ..*wanted
                };
                complaints.extend(of_site(report, &without));
            }
            Some(_) => complaints.extend(of_site(report, wanted)),
        }
    }
    complaints
}

fn of_site(report: &Report, wanted: &Wanted) -> Complaints {
    let name = wanted.function;
    let longest = report
        .sites
        .iter()
        .filter(|site| site.state == "blocked" && is_in(&site.function, name))
        .max_by_key(|site| site.total_ns);
    let Some(site) = longest else {
        return vec![format!("{name}: no site")];
    };
    let mut complaints = Vec::new();
    if site.cause != wanted.cause {
        complaints.push(format!(
            "{name}: cause {} instead of {}: {}",
            site.cause,
            wanted.cause,
            site.describe()
        ));
    }
    if !site.call.starts_with(wanted.call) {
        complaints.push(format!("{name}: call {:?}", site.call));
    }
    let advice = site.advice.as_ref();
    if !advice.is_some_and(|advice| advice.text.contains(wanted.advice)) {
        complaints.push(format!("{name}: advice {advice:?}"));
    }
    if let Some(object) = &wanted.object {
        complaints.extend(object_of(name, site, object));
    }
    complaints
}

fn object_of(name: &str, site: &Site, wanted: &Object) -> Complaints {
    let found = site.objects.iter().find(|object| {
        object.kind == wanted.kind
            && object.name.contains(wanted.contains)
            && object.name.ends_with(wanted.end)
    });
    match found {
        None => vec![format!("{name}: objects {:?}", site.objects)],
        Some(object) if object.waits == 0 || object.total_ns == 0 => {
            vec![format!("{name}: an object without waits: {object:?}")]
        }
        Some(_) => Vec::new(),
    }
}

/// Without names the kernel's stack and the system call are enough for objects, and for the
/// causes that they tell.
pub(crate) fn stripped(report: &Report) -> Complaints {
    [
        ("sleep", "clock_nanosleep "),
        ("file-lock", "flock exclusive fd "),
        ("pipe", "openat \"/"),
        ("network", "accept4 fd "),
        ("child-process", "wait4 "),
        ("lock", "futex wait"),
        ("poll", "poll fd "),
    ]
    .into_iter()
    .filter(|(cause, call)| {
        !report.sites.iter().any(|site| {
            site.state == "blocked" && site.cause == *cause && site.call.starts_with(call)
        })
    })
    .map(|(cause, call)| format!("no blocked site of cause {cause} in {call}"))
    .collect()
}
