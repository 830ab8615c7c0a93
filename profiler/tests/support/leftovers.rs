//! Entries of the thread table whose threads have ended unseen: nobody inherits them, and they do
//! not stay. Recorded is this very process.

use super::kernel_walk::{text, watch};
use super::privilege;
use holdup::bpf::Programs;
use holdup::decode::{Phase, ThreadKey, ThreadState};
use holdup::host::KernelBtf;
use holdup::units::{Nanos, Pid, Tid};
use libtest_mimic::Trial;
use profiler_common::map::{NO_PROCESS, Process};
use std::collections::HashMap;
use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Waits by which the first thread of an id is known.
const WAITS: u64 = 20;
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("life::a_forgotten_process_leaves_no_threads", || {
            privilege::unless_skipped(privilege::missing(), || Ok(forgotten()?))
        }),
        Trial::ignorable_test("life::a_thread_inherits_nothing_by_its_id", || {
            privilege::unless_skipped(privilege::missing_root(), || Ok(reborn()?))
        }),
    ]
}

/// A thread of ours that has waited some times and then waits until it is dropped.
struct Waiting {
    tid: Tid,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    fn start(waits: u64) -> Result<Waiting, String> {
        let ((end, until), (tell, told)) = (channel::<()>(), channel());
        let thread = thread::spawn(move || {
            let tid = rustix::thread::gettid();
            for _ in 0..waits {
                sleep(Duration::from_millis(1));
            }
            let _ = tell.send(Tid(tid.as_raw_nonzero().get().unsigned_abs()));
            let _ = until.recv();
        });
        Ok(Waiting {
            tid: told.recv_timeout(SOON).map_err(text)?,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// On a busy machine another thread may be given the id.
    fn with_tid(tid: Tid) -> Result<Waiting, String> {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            fs::write("/proc/sys/kernel/ns_last_pid", (tid.0 - 1).to_string())
                .map_err(|error| format!("ids cannot be chosen: {error}"))?;
            let thread = Waiting::start(1)?;
            if thread.tid == tid {
                return Ok(thread);
            }
        }
        Err(format!("nobody was given the id {tid}"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn own() -> Pid {
    Pid(std::process::id())
}

fn recorded() -> Result<Programs, String> {
    let types = KernelBtf::load().map_err(text)?;
    let mut kernel = Programs::load(&types, Nanos(u64::MAX)).map_err(text)?;
    kernel.attach(None, false).map_err(text)?;
    watch(&mut kernel, own().0, |_| {})?;
    Ok(kernel)
}

/// Every thread at a cut that is made now.
fn cut(kernel: &mut Programs) -> Result<Vec<(ThreadKey, ThreadState)>, String> {
    let cut = kernel.cut().map_err(text)?;
    let threads = kernel.threads_at(&cut).collect();
    kernel.take_sums(&cut, |_, _| {}).map_err(text)?;
    kernel.forget_ended(&cut).map_err(text)?;
    Ok(threads)
}

/// Of each thread that was there the end is told, once, and its entry is free.
fn forgotten() -> Result<(), String> {
    let mut kernel = recorded()?;
    let threads: Vec<Waiting> = (0..4)
        .map(|_| Waiting::start(WAITS))
        .collect::<Result<_, _>>()?;
    let before = kernel.live_threads().count();
    if before < threads.len() {
        return Err(format!("{before} threads in the table"));
    }
    kernel.forget_process(0, own()).map_err(text)?;
    drop(threads);
    let mut ends: HashMap<Tid, u32> = HashMap::new();
    for _ in 0..3 {
        for (key, state) in cut(&mut kernel)? {
            if let Phase::Ended(_) = state.phase {
                *ends.entry(key.tid).or_default() += 1;
            }
        }
    }
    let left: Vec<_> = kernel.live_threads().collect();
    if !left.is_empty() {
        return Err(format!("{} of {before} threads stay: {left:?}", left.len()));
    }
    if ends.len() != before || ends.values().any(|times| *times != 1) {
        return Err(format!(
            "the ends of {before} threads are told so often: {ends:?}"
        ));
    }
    Ok(())
}

/// A thread whose id a recorded one had, whose end nobody saw, begins from nothing.
fn reborn() -> Result<(), String> {
    let mut kernel = recorded()?;
    let first = Waiting::start(WAITS)?;
    let tid = first.tid;
    // For a while its events are nobody's.
    let process = kernel.process(0).map_err(text)?;
    let nobody = Process {
        tgid: NO_PROCESS,
        ..process
    };
    kernel.describe(0, nobody).map_err(text)?;
    drop(first);
    // Its last switch comes after what it is waited for by.
    sleep(Duration::from_millis(50));
    kernel.describe(0, process).map_err(text)?;
    let second = Waiting::with_tid(tid)?;
    for interval in 0..3 {
        let threads = cut(&mut kernel)?;
        let of_id = || threads.iter().filter(|(key, _)| key.tid == tid);
        let (ended, living): (Vec<_>, Vec<_>) =
            of_id().partition(|(_, state)| matches!(state.phase, Phase::Ended(_)));
        let [(_, living)] = living.as_slice() else {
            return Err(format!(
                "interval {interval}: {living:?} live, {ended:?} ended"
            ));
        };
        if living.times.waits >= WAITS {
            return Err(format!("it has the waits of another thread: {living:?}"));
        }
        super::cuts::lived(living)?;
        match (interval, ended.as_slice()) {
            (0, [(_, ended)]) if ended.times.waits >= WAITS => super::cuts::lived(ended)?,
            (1.., []) => {}
            _ => return Err(format!("interval {interval}: {ended:?} ended")),
        }
    }
    drop(second);
    Ok(())
}
