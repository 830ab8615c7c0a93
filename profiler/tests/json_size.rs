//! How large a JSON report becomes of a service in which everything waits.

#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

use holdup::analyze::build;
use holdup::recording::{Holder, ObjectKind, Recording, Stack};
use holdup::render::{Format, Options, render};
use holdup::runtime::State;
use holdup::units::{Pid, Tid};
use recordings::builder::{
    Builder, MS, SEC, WORKER, app, at, dependency, futex, stack, system, under_worker,
};
use serde_json::Value;

/// Threads that wait, each in a wait of its own.
const WAITS: u32 = 12_000;
/// Places in which they wait.
const PLACES: u32 = 50;
/// Frames of a stack below the runtime's.
const FRAMES: u32 = 80;
/// Bytes of the whole report at most.
const MOST: usize = 8 << 20;

/// A process of very many threads, all of which wait for one of some locks.
fn everything_waits() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let stacks: Vec<_> = (0..PLACES)
        .map(|place| {
            let mut frames = vec![system("syscall")];
            let middle = |depth: u32| match depth % 3 {
                0 => app(&format!(
                    "claims_api::handlers::layer_{depth}::Layer<T,S>::call"
                )),
                1 => dependency(&format!("tower::layer_{depth}::{{{{closure}}}}")),
                _ => app(&format!(
                    "claims_api::place_{place}::step_{depth}::{{{{closure}}}}"
                )),
            };
            frames.extend((0..FRAMES).map(|depth| at(middle(depth), "src/handlers.rs", depth)));
            b.stack(Stack {
                kernel: futex(),
                ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
            })
        })
        .collect();
    for n in 0..WAITS {
        let tid = 5_000 + n;
        let place = n % PLACES;
        b.thread(tid, "tokio-rt-worker", MS, 0);
        b.open(
            tid,
            stacks[place as usize],
            u64::from(n) * 1_000,
            n % 2 == 0,
        );
        let holder = Holder::Thread {
            tid: Tid(5_000 + place),
            name: "tokio-rt-worker".to_owned(),
            evidence: "its address is on the stack of this thread alone".to_owned(),
            likely: true,
        };
        b.held(ObjectKind::Futex, &format!("0x7f00dead{place:04x}"), holder);
    }
    b.recording()
}

#[test]
fn twelve_thousand_open_waits_are_a_few_megabytes() {
    let recording = everything_waits();
    let report = build(&recording);
    let mut json = Vec::new();
    render(Format::Json, &report, &Options::default(), &mut json).expect("memory");
    let bytes = json.len();
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let members = json.as_object().expect("an object").iter();
    let mut sizes: Vec<_> = members
        .map(|(name, value)| (value.to_string().len(), name))
        .collect();
    sizes.sort_unstable();
    assert!(bytes <= MOST, "{bytes} bytes: {sizes:?}");
    let open = json["open_waits"].as_array().expect("open waits");
    assert_eq!(open.len(), WAITS as usize);
    // Each still has all of its stack, by its number.
    let stacks = json["stacks"].as_array().expect("stacks");
    let frames = json["frames"].as_array().expect("frames");
    for wait in open {
        let stack = &stacks[wait["stack"].as_u64().expect("a stack") as usize];
        let stack = stack.as_array().expect("frames");
        assert!(stack.len() > FRAMES as usize);
        let last = stack.iter().all(|frame| {
            let index = frame.as_u64().and_then(|index| usize::try_from(index).ok());
            index.is_some_and(|index| index < frames.len())
        });
        assert!(last, "a frame that is not there");
        assert_eq!(wait["waiters"], WAITS / PLACES);
        assert_eq!(wait["pid"], Pid(4242).0);
    }
}
