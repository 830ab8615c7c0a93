//! Functions that are called alike.

use super::builder::*;
use holdup::recording::{Recording, Stack};
use holdup::runtime::State;
use holdup::symbolize::Frame;
use holdup::units::Svma;

/// What the functions of [`alike`] are called in every form that draws frames.
pub const NAMES: [&str; 4] = [
    "claims_api::api::quote @0x1100",
    "claims_api::api::quote @0x2200",
    "<claims_api::Store as claims_api::Reserve>::get",
    "<claims_api::Store as claims_api::Release>::get",
];

/// A task that waits in two closures of one function, of which no source lines are known, and in the
/// functions of two traits of one type.
pub fn alike() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let (park, main) = (b.stack(park()), b.stack(main_park()));
    let closure = |start| Frame {
        start: Some(Svma(start)),
        ..app("claims_api::api::quote::{{closure}}")
    };
    let leaves = [
        closure(0x1100),
        closure(0x2200),
        app("<claims_api::Store as claims_api::Reserve>::get"),
        app("<claims_api::Store as claims_api::Release>::get"),
    ];
    b.thread(4242, "claims_api", 2 * MS, 0);
    b.thread(4250, "tokio-rt-worker", 20 * MS, 2 * MS);
    for (n, leaf) in (1..).zip(leaves) {
        let frames = vec![
            system("clock_nanosleep"),
            library("std::thread::sleep"),
            leaf,
            app("claims_api::api::serve"),
        ];
        let id = b.stack(Stack {
            syscall: Some(230),
            ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
        });
        b.single(4250, id, n * SEC, 100 * MS, 20 * US);
    }
    b.rest([4242], main);
    b.rest([4250], park);
    b.recording()
}
