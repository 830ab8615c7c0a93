//! Recordings of programs whose tokio is known in part only.

use super::builder::*;
use holdup::recording::{Recording, StackId};
use holdup::runtime::tokio::{Certainty, MissingContext, NoContext};
use holdup::runtime::{Role, State};

/// A stripped service of two threads, whose waits are of `state` in stacks without names.
fn service(state: State, role: Role, rule: &'static str) -> (Builder, StackId) {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    b.target().has_symbols = false;
    b.target().has_lines = false;
    let mut waits = stack(
        state,
        role,
        rule,
        vec![system("read"), stripped("claims_api+0x90b30")],
    );
    waits.syscall = Some(0);
    let waits = b.stack(waits);
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", SEC, 5 * MS);
    }
    for n in 0..20 {
        b.wait(4250 + n % 2, waits, u64::from(n) * 400 * MS, 30 * MS, "");
    }
    (b, waits)
}

/// One whose context is all that is known, and whose version is not.
pub fn context_alone() -> Recording {
    let (mut b, _) = service(State::Blocked, WORKER, "context-worker-poll");
    b.target().tokio_version = None;
    b.target().tokio.context = Certainty::Alone;
    b.interval.classified.by_context = 68;
    let park = b.stack(stack(
        State::Idle,
        WORKER,
        "context-worker-parked",
        vec![system("syscall"), stripped("claims_api+0x41a20")],
    ));
    b.rest(4250..4252, park);
    b.recording()
}

/// One that hung before the recording began, so that no wait ended.
pub fn hung_and_stripped() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 5 * SEC);
    b.target().has_symbols = false;
    b.target().has_lines = false;
    b.target().tokio.context = Certainty::CorroboratedByParks { parks: 2 };
    let lock = b.stack(stack(
        State::Blocked,
        WORKER,
        "context-worker-poll",
        vec![system("syscall"), stripped("claims_api+0x90b30")],
    ));
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", 0, 0);
        b.open(tid, lock, 0, true);
    }
    b.recording()
}

/// One whose context said what cannot be.
pub fn contradicted() -> Recording {
    let (mut b, waits) = service(State::Unknown, Role::None, "none");
    b.target().tokio.context = Certainty::Contradicted { stacks: 3 };
    b.interval.classified.by_neither = 20;
    b.rest(4250..4252, waits);
    b.recording()
}

/// One whose tokio is in two libraries that do not show their contexts.
pub fn context_missing() -> Recording {
    let (mut b, waits) = service(State::Unknown, Role::None, "none");
    let missing = |module: &str, reason| MissingContext {
        module: module.to_owned(),
        reason,
    };
    b.target().tokio_version = None;
    b.target().tokio.context = Certainty::Nothing;
    b.target().tokio.without_context = vec![
        missing("lib\u{1b}[5mwork.so", NoContext::UnknownArrangement),
        missing("other.so", NoContext::NoModuleNumber),
    ];
    b.rest(4250..4252, waits);
    b.recording()
}

/// One with a tokio from before the rules.
pub fn too_old() -> Recording {
    let (mut b, waits) = service(State::Unknown, Role::None, "none");
    b.target().has_symbols = true;
    b.target().tokio_version = Some("0.2.25".to_owned());
    b.target().tokio.not_understood = Some("0.2.25".to_owned());
    b.target().tokio.context = Certainty::Nothing;
    b.target().tokio.without_context = vec![MissingContext {
        module: "claims_api".to_owned(),
        reason: NoContext::MadeAtFirstUse("0.2.25".to_owned()),
    }];
    b.rest(4250..4252, waits);
    b.recording()
}

/// One whose threads do nothing for a runtime.
pub fn no_worker() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 2 * SEC);
    b.target().tokio.context = Certainty::Nothing;
    let read = b.stack(stack(
        State::Other,
        Role::None,
        "none",
        vec![system("read"), app("claims_api::main")],
    ));
    b.thread(77, "claims_api", 500 * MS, 0);
    b.rest([77], read);
    b.recording()
}
