//! A system call as a person reads it.

use super::location::syscall;
use crate::arch::{Subject, subject};
use crate::recording::{ObjectKind, Stack, WaitObject};

/// The operations of `futex` without their flags (`include/uapi/linux/futex.h`).
const FUTEX_OPS: [&str; 14] = [
    "wait",
    "wake",
    "fd",
    "requeue",
    "cmp_requeue",
    "wake_op",
    "lock_pi",
    "unlock_pi",
    "trylock_pi",
    "wait_bitset",
    "wake_bitset",
    "wait_requeue_pi",
    "cmp_requeue_pi",
    "lock_pi2",
];
/// `FUTEX_CMD_MASK`.
const FUTEX_COMMAND: u64 = 0x7f;
const CONNECT: u32 = crate::arch::syscall("connect");
const FLOCK: u32 = crate::arch::syscall("flock");

/// The call of a wait with this stack for this object: `read fd 12 /var/lib/x`, `futex wait`,
/// `clock_nanosleep 20 ms`, `connect tcp 10.0.0.5:5432`, `openat "/var/lib/x"`. Raw: it may hold
/// any character.
pub(super) fn call(stack: &Stack, object: Option<&WaitObject>) -> String {
    let mut text = syscall(stack);
    let Some(number) = stack.syscall else {
        if let Some(object) = object {
            text.push_str(" at ");
            text.push_str(&object.object.name);
        }
        return text;
    };
    let argument = |index: usize| stack.args.and_then(|args| args.get(index).copied());
    let what = subject(number);
    if what == Subject::Futex
        && let Some(op) = argument(1)
        && let Some(name) = FUTEX_OPS.get((op & FUTEX_COMMAND) as usize)
    {
        text.push(' ');
        text.push_str(name.trim_end_matches("_bitset"));
    }
    let Some(object) = object else {
        if what == Subject::Descriptor
            && let Some(fd) = argument(0)
            && let Ok(fd) = u32::try_from(fd)
        {
            text.push_str(&format!(" fd {fd}"));
        }
        return text;
    };
    if number == FLOCK && argument(1).is_some_and(|operation| operation & 2 != 0) {
        text.push_str(" exclusive");
    }
    let name = &object.object.name;
    match (number, object.object.kind, object.fd) {
        // Who is called is all that matters of a connection that does not yet exist.
        (CONNECT, ObjectKind::Socket, _) if name.contains(" -> ") => {
            let protocol = name.split(' ').next().unwrap_or("");
            let peer = name.rsplit(" -> ").next().unwrap_or("");
            text.push_str(&format!(" {protocol} {peer}"));
        }
        (_, _, Some(fd)) => text.push_str(&format!(" fd {fd} {name}")),
        (_, ObjectKind::Path, None) => text.push_str(&format!(" \"{name}\"")),
        // An address tells nobody anything here; it is among the objects.
        (_, ObjectKind::Futex, None) => {}
        (_, _, None) => text.push_str(&format!(" {name}")),
    }
    text
}

/// What the site called, by `wait` unless the system call says another thing. Functions of std whose code
/// is the same are one in a release build, and the symbol table names any of them: the read of a
/// `TcpStream` may be called `UdpSocket::recv`. Then the call leads.
pub(super) fn fitting(wait: &str, call: &str) -> String {
    const NAMES: [(&str, &[&str]); 3] = [
        ("tcp", &["TcpStream", "TcpListener"]),
        ("udp", &["UdpSocket"]),
        ("unix", &["UnixStream", "UnixDatagram", "UnixListener"]),
    ];
    let of_name = NAMES
        .iter()
        .find(|(_, names)| names.iter().any(|name| wait.contains(name)));
    let of_call = NAMES
        .iter()
        .find(|(kind, _)| call.split(' ').any(|word| word == *kind));
    match (of_name, of_call) {
        (Some((name, _)), Some((kind, _))) if name != kind => {
            call.split(' ').next().unwrap_or(wait).to_owned()
        }
        _ => wait.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::testing::stack;
    use crate::recording::Object;
    use crate::runtime::Role;
    use crate::runtime::State;

    fn text(
        syscall: Option<u32>,
        args: [u64; 6],
        object: Option<(ObjectKind, &str, Option<u32>)>,
    ) -> String {
        let mut stack = stack(Vec::new(), State::Blocked, Role::None, None);
        stack.syscall = syscall;
        stack.args = Some(args);
        let object = object.map(|(kind, name, fd)| WaitObject {
            object: Object {
                kind,
                name: name.to_owned(),
            },
            fd,
            many: 1,
        });
        call(&stack, object.as_ref())
    }

    #[test]
    fn calls_read_as_a_person_reads_them() {
        use ObjectKind::{Futex, Memory, Path, Process, Socket, Timer};
        for (syscall, args, object, wanted) in [
            (
                0,
                [12, 0],
                Some((Path, "/var/lib/x", Some(12))),
                "read fd 12 /var/lib/x",
            ),
            (0, [12, 0], None, "read fd 12"),
            (202, [1, 128], Some((Futex, "0x1", None)), "futex wait"),
            (202, [1, 0x189], None, "futex wait"),
            (202, [1, 134], None, "futex lock_pi"),
            (
                230,
                [1, 0],
                Some((Timer, "20 ms", None)),
                "clock_nanosleep 20 ms",
            ),
            (
                42,
                [7, 0],
                Some((Socket, "tcp 10.0.0.1:40000 -> 10.0.0.5:5432", Some(7))),
                "connect tcp 10.0.0.5:5432",
            ),
            (
                257,
                [0xffff_ff9c, 0],
                Some((Path, "/var/lib/x", None)),
                "openat \"/var/lib/x\"",
            ),
            (
                61,
                [77, 0],
                Some((Process, "77 (sleep)", None)),
                "wait4 77 (sleep)",
            ),
            (
                73,
                [3, 2],
                Some((Path, "/run/lock", Some(3))),
                "flock exclusive fd 3 /run/lock",
            ),
            (39, [0, 0], None, "getpid"),
        ] {
            let args = [args[0], args[1], 0, 0, 0, 0];
            assert_eq!(text(Some(syscall), args, object), wanted);
        }
        let page = Some((Memory, "0x7000 /var/lib/x", None));
        assert_eq!(
            text(None, [0; 6], page),
            "no system call at 0x7000 /var/lib/x"
        );
    }

    #[test]
    fn the_call_leads_where_names_of_one_code_mislead() {
        let of_tcp = "recvfrom fd 29 tcp 127.0.0.1:60018 -> 127.0.0.1:33107";
        assert_eq!(
            fitting("std::net::udp::UdpSocket::recv", of_tcp),
            "recvfrom"
        );
        assert_eq!(
            fitting("std::net::tcp::TcpStream::read", of_tcp),
            "std::net::tcp::TcpStream::read"
        );
        assert_eq!(
            fitting("std::io::Read::read", of_tcp),
            "std::io::Read::read"
        );
        let unknown = "recvfrom fd 3";
        assert_eq!(
            fitting("std::net::UdpSocket::recv", unknown),
            "std::net::UdpSocket::recv"
        );
    }
}
