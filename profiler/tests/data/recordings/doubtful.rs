//! Recordings of which something is missing or wrong.

use super::builder::*;
use holdup::recording::{
    Holder, HolderProcess, LossCauses, Losses, ObjectKind, Recording, ShadowCheck, Stack, StackId,
    TokioFacts,
};
use holdup::runtime::{Role, State};
use holdup::units::{Nanos, Pid};
use holdup::unwind::Truncation;

/// A release binary with `strip = true`.
pub fn stripped() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    b.target().has_symbols = false;
    b.target().has_lines = false;
    let idle = b.stack(stack(
        State::Idle,
        WORKER,
        "tls-park",
        vec![
            system("syscall"),
            super::builder::stripped("claims_api+0x41a20"),
        ],
    ));
    let mut read = stack(
        State::Blocked,
        WORKER,
        "tls-poll",
        vec![
            system("read"),
            super::builder::stripped("claims_api+0x90b30"),
            super::builder::stripped("claims_api+0x12340"),
            super::builder::stripped("claims_api+0x12900"),
            super::builder::stripped("claims_api+0x41000"),
        ],
    );
    read.syscall = Some(0);
    read.class.task_frame = Some(3);
    let read = b.stack(read);
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", SEC, 5 * MS);
    }
    for n in 0..20 {
        b.wait(4250 + n % 2, read, u64::from(n) * 400 * MS, 30 * MS, "");
    }
    b.rest(4250..4252, idle);
    b.recording()
}

/// Losses of every kind, stacks cut off, clocks that disagree.
pub fn lossy() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let park = b.stack(park());
    let cut = b.stack(Stack {
        truncated: Some(Truncation::NoRow),
        syscall: Some(0),
        ..stack(
            State::Unknown,
            Role::None,
            "truncated",
            vec![system("read"), app("claims_api::plugin::call")],
        )
    });
    let deep = b.stack(Stack {
        truncated: Some(Truncation::TooDeep),
        ..stack(
            State::Blocked,
            WORKER,
            "task-poll",
            vec![
                system("syscall"),
                library("std::sync::mpsc::Receiver<T>::recv"),
                app("claims_api::tree::walk"),
            ],
        )
    });
    let none = b.stack(Stack {
        truncated: Some(Truncation::NoStack),
        syscall: None,
        ..stack(State::Unknown, Role::None, "no-stack", vec![])
    });
    for tid in 4250..4252 {
        b.thread(tid, "tokio-rt-worker", SEC, 5 * MS);
    }
    b.wait(4250, cut, SEC, 700 * MS, "");
    b.wait(4250, deep, 3 * SEC, 250 * MS, "");
    b.wait(4251, none, SEC, 90 * MS, "");
    b.wait(4251, StackId(99), 2 * SEC, 10 * MS, "");
    b.rest(4250..4252, park);
    b.interval.threads[1].running += Nanos(1_234);
    b.interval.losses = Losses {
        events: 12,
        stacks: 3,
        truncated: 31,
        unresolved: 4,
        unknown_waits: 0,
        timeline: 70_000,
        objects: 17,
        mistaken_parks: 0,
        walked: 12_345,
        functions_by_code: 1,
        stacks_by_frame_pointers: 0,
        samples: 5,
        calls: 2,
        waits: 90_003,
        summed: 90_000,
        by_cause: LossCauses {
            ring_full_waits: 12,
            aggregate_full: 3,
            too_deep: 30,
            unreadable: 1,
            timeline_full: 70_000,
            ring_full_calls: 2,
            ..LossCauses::default()
        },
        shadow: Some(ShadowCheck {
            every: 100,
            copied: 120,
            compared: 117,
            differing: 1,
            given_up: 2,
            lost: 1,
        }),
    };
    b.recording()
}

/// Names that attack terminals, XML, folded stacks and eyes.
pub fn hostile() -> Recording {
    let mut b = Builder::new("/srv/<script>alert(1)<!-- & \"x'", 10 * SEC);
    b.target().cmdline = vec![
        "\u{1b}]0;title\u{7}".to_owned(),
        "\"quoted\" & <b>".to_owned(),
    ];
    b.target().tokio_version = Some("1.54\u{1b}[2J".to_owned());
    b.target().ended = Some("killed\nby \u{202e}us".to_owned());
    b.header.host.kernel = "6.12\u{1b}c".to_owned();
    let park = b.stack(park());
    let mut frames = vec![
        system("futex;wait 42"),
        library("std::\u{1b}[31mred"),
        at(
            app("</title><script>alert('x')</script> < \"&; drop 12 34"),
            "src/\u{1b}]8;;http://evil\u{7}\u{202e}sr.rs",
            1,
        ),
        at(app("予約::\"引用\"&<T>::\nzeile"), "src/予約.rs", 2),
    ];
    frames.push(app("]]> --> ' onload='x"));
    let evil = b.stack(Stack {
        kernel: futex(),
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    });
    b.thread(4250, "\u{1b}[5mblink\u{1b}[0m", SEC, 5 * MS);
    b.thread(4251, "<b>&\"';\u{200b}", SEC, 5 * MS);
    b.wait(4250, evil, SEC, 400 * MS, "\u{7}\u{9b}31m<waker>;\r\n");
    b.open(4251, evil, 9 * SEC, false);
    let holder = Holder::Processes {
        processes: vec![HolderProcess {
            pid: Pid(4711),
            name: "\u{1b}[2J<sh>\u{202e}".to_owned(),
        }],
        more: 3,
        evidence: "the other \u{7}side".to_owned(),
    };
    b.held(ObjectKind::Socket, "unix @\u{1b}]0;x\u{7}\n<evil>", holder);
    b.rest(4250..4252, park);
    b.recording()
}

/// Threads, but none of tokio's.
pub fn no_tokio() -> Recording {
    let mut b = Builder::new("/usr/bin/sort", 2 * SEC);
    b.target().tokio_version = None;
    b.target().tokio = TokioFacts::default();
    let read = b.stack(Stack {
        syscall: Some(0),
        ..stack(
            State::Other,
            Role::None,
            "none",
            vec![system("read"), app("sort::main")],
        )
    });
    b.thread(77, "sort", 500 * MS, 0);
    b.wait(77, read, 100 * MS, 900 * MS, "");
    b.rest([77], read);
    b.recording()
}

/// Nothing at all.
pub fn empty() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 0);
    b.interval.losses = Losses::default();
    b.target().build_id = None;
    b.recording()
}

/// A recording whose tables were too small.
pub fn unclear() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let park = b.stack(park());
    b.thread(4250, "tokio-rt-worker", SEC, 5 * MS);
    b.short(4250, park, 7 * SEC);
    b.interval.losses.stacks = 31_000;
    b.recording()
}
