//! Recordings of several intervals.

use super::builder::*;
use holdup::recording::{Interval, OpenWait, Recording, Stack, StackId};
use holdup::runtime::State;

/// Two services recorded at once: one waits for a disk, and the other computes.
pub fn beside_hog() -> Recording {
    let mut b = Builder::new("/srv/claims_api", 10 * SEC);
    let idle = b.stack(park());
    let sync = b.stack(fsync());
    b.thread(4250, "tokio-rt-worker", 100 * MS, MS);
    for n in 0..10 {
        b.wait(4250, sync, n * SEC, 300 * MS, "kworker/1:2");
    }
    b.rest([4250], idle);
    b.process(5151, "/srv/resizer");
    let idle = b.stack(park());
    for tid in 5160..5162 {
        b.thread(tid, "tokio-rt-worker", 9_400 * MS, 20 * MS);
    }
    b.rest(5160..5162, idle);
    b.recording()
}

fn fsync() -> Stack {
    let frames = vec![
        system("fsync"),
        library("std::fs::File::sync_all"),
        at(app("claims_api::ledger::flush"), "src/ledger.rs", 131),
    ];
    Stack {
        syscall: Some(74),
        ..stack(State::Blocked, WORKER, "task-poll", under_worker(frames))
    }
}

/// A wait in time since the start.
struct Told {
    tid: u32,
    start: u64,
    wakeup: u64,
    end: u64,
}

const fn told(tid: u32, start: u64, wakeup: u64, end: u64) -> Told {
    Told {
        tid,
        start,
        wakeup,
        end,
    }
}

/// One worker waits from the first second to the third. The other begins a wait in the first one
/// that ends in the second, and then one that is over in the third but for a CPU.
const WAITS: [Told; 3] = [
    told(4250, 800 * MS, 2_300 * MS, 2_300 * MS),
    told(4251, 600 * MS, 1_250 * MS, 1_250 * MS),
    told(4251, 1_500 * MS, 1_900 * MS, 2_050 * MS),
];

/// Three seconds of two workers that wait for a disk, in intervals that end at `ends`.
pub fn in_intervals(ends: &[u64]) -> Recording {
    let mut b = Builder::new("/srv/claims_api", 0);
    let sync = b.stack(fsync());
    let mut intervals = Vec::new();
    let mut from = 0;
    for &to in ends {
        b.interval = Interval {
            start: b.instant(from),
            end: b.instant(to),
            carried: open_at(&b, sync, from),
            open_waits: open_at(&b, sync, to),
            ..Interval::default()
        };
        for tid in 4250..4252 {
            let own = || WAITS.iter().filter(|wait| wait.tid == tid);
            let part = |start: u64, end: u64| end.min(to).saturating_sub(start.max(from));
            let blocked: u64 = own().map(|wait| part(wait.start, wait.wakeup)).sum();
            let runnable = own().map(|wait| part(wait.wakeup, wait.end)).sum();
            let running = to - from - blocked - runnable;
            b.thread(tid, "tokio-rt-worker", running, runnable);
        }
        for wait in WAITS
            .iter()
            .filter(|wait| from < wait.end && wait.end <= to)
        {
            let blocked = wait.wakeup - wait.start;
            b.single(wait.tid, sync, wait.start, blocked, wait.end - wait.wakeup);
        }
        intervals.push(std::mem::take(&mut b.interval));
        from = to;
    }
    Recording {
        intervals,
        ..b.recording()
    }
}

fn open_at(b: &Builder, stack: StackId, at: u64) -> Vec<OpenWait> {
    let open = WAITS.iter().filter(|wait| wait.start < at && at < wait.end);
    open.map(|wait| OpenWait {
        thread: b.id(wait.tid),
        stack,
        began_for: None,
        since: b.instant(wait.start),
        woken: (wait.wakeup <= at).then(|| b.instant(wait.wakeup)),
        before_recording: false,
        object: None,
        holder: None,
        task_id: None,
    })
    .collect()
}
