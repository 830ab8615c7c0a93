//! Two processes recorded at once: `-p 4242,5151`.

use super::builder::*;
use holdup::recording::{ObjectKind, Recording, Stack};
use holdup::runtime::State;
use holdup::units::Pid;

/// A service whose workers ask a database synchronously, each time by a connection of its own, and
/// answer callers by others; and one that it has forked, which waits for children, until somebody
/// kills it.
pub fn several() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    service(&mut b);
    forked(&mut b);
    b.recording()
}

fn service(b: &mut Builder) {
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let network = |function: &str, file: &str, line: u32| Stack {
        syscall: Some(45),
        ..stack(
            State::Blocked,
            WORKER,
            "worker-poll",
            under_worker(vec![
                system("recv"),
                library("<std::net::TcpStream as std::io::Read>::read"),
                at(app(function), file, line),
            ]),
        )
    };
    let query = b.stack(network("claims_api::ledger::query", "src/ledger.rs", 61));
    let reply = b.stack(network("claims_api::legacy::answer", "src/legacy.rs", 19));
    let interrupt = Some(b.waker(0, 0, "interrupt"));
    b.thread(4242, "claims_api", MS, 0);
    b.thread(4250, "tokio-rt-worker", 300 * MS, MS);
    for n in 0..20_u64 {
        let (port, database) = (40_000 + n, 5 + n % 2);
        let name = format!("tcp 10.0.0.1:{port} -> 10.0.0.{database}:5432");
        b.waits_for(ObjectKind::Socket, &name, Some(9));
        b.woken(4250, query, n * 300 * MS, 90 * MS + n * MS, interrupt);
    }
    for n in 0..3_u64 {
        let name = format!("tcp 10.0.0.1:8080 -> 192.168.7.{n}:{}", 50_000 + 3 * n);
        b.waits_for(ObjectKind::Socket, &name, Some(11));
        b.woken(4250, reply, 7 * SEC + n * 300 * MS, 30 * MS, interrupt);
    }
    b.waits_for_anything();
    b.rest([4242], main);
    b.rest([4250], park);
}

fn forked(b: &mut Builder) {
    let target = b.process(5151, "/srv/claims_api");
    target.parent = Some(Pid(4242));
    target.ended = Some("killed by SIGKILL".to_owned());
    let park = b.stack(park());
    let convert = b.stack(Stack {
        syscall: Some(61),
        ..stack(
            State::Blocked,
            WORKER,
            "worker-poll",
            under_worker(vec![
                system("wait4"),
                library("std::process::Child::wait"),
                at(app("claims_api::convert::render"), "src/convert.rs", 7),
            ]),
        )
    });
    b.thread(5160, "tokio-rt-worker", 200 * MS, MS);
    for n in 0..4_u64 {
        let name = format!("{} (pdftotext)", 6_000 + n);
        b.waits_for(ObjectKind::Process, &name, None);
        let child = b.waker(6_000 + n as u32, 6_000 + n as u32, "pdftotext");
        b.woken(5160, convert, n * SEC, 200 * MS + n * MS, Some(child));
    }
    b.waits_for_anything();
    b.rest([5160], park);
}
