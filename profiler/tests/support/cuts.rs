//! A recording that is cut into intervals while it runs: at each cut a thread's times and the sums
//! over its waits are those of the same waits, to the nanosecond, whatever the thread does meanwhile.

use super::fixture::{Running, Variant};
use super::kernel_walk::{text, watch};
use super::privilege;
use holdup::bpf::{Cut, Programs};
use holdup::decode::{Event, Phase, StackKind, StackPolicy, ThreadEnd, ThreadState};
use holdup::host::KernelBtf;
use holdup::units::{Nanos, Tid, Timestamp};
use libtest_mimic::Trial;
use profiler_common::counter::Counter;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);
/// A cut as soon as the last one is made: some hundred a second.
const AT_ONCE: Duration = Duration::ZERO;
const FEWEST_INTERVALS: usize = 10;
/// In this mode a thread on the first CPU executes a program.
const BY_ANOTHER_THREAD: &str = "exec-by-thread";

pub(crate) fn trials() -> Vec<Trial> {
    let seconds = Duration::from_secs;
    let modes = [
        ("storm", "storm", INTERVAL, seconds(9), false),
        ("storm_of_parks", "storm", INTERVAL, seconds(9), true),
        ("cut_at_once", "storm", AT_ONCE, seconds(9), false),
        ("parks_cut_at_once", "storm", AT_ONCE, seconds(9), true),
        ("threads_come_and_go", "churn", AT_ONCE, seconds(3), true),
        ("exec", "exec-midway", INTERVAL, seconds(4), true),
        (
            "exec_by_another_thread",
            BY_ANOTHER_THREAD,
            INTERVAL,
            seconds(6),
            true,
        ),
    ];
    let mut trials: Vec<Trial> = modes
        .into_iter()
        .map(|(name, mode, interval, how_long, parks)| {
            Trial::ignorable_test(format!("cuts::{name}"), move || {
                privilege::unless_skipped(privilege::missing(), || {
                    Ok(cut_up(mode, interval, how_long, parks)?)
                })
            })
        })
        .collect();
    trials.push(Trial::ignorable_test("cuts::a_fork_takes_over_all", || {
        privilege::unless_skipped(privilege::missing(), || Ok(forked()?))
    }));
    trials
}

/// What a thread, or several of one id after another, waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waits {
    waits: u64,
    blocked: u64,
}

impl Waits {
    fn add(&mut self, waits: u64, blocked: u64) {
        self.waits += waits;
        self.blocked += blocked;
    }
}

/// The recording so far, by thread id.
#[derive(Default)]
struct Intervals {
    /// By the kernel side's sums.
    summed: BTreeMap<Tid, Waits>,
    /// By the times of threads that had ended before the last cut.
    ended: BTreeMap<Tid, Waits>,
    /// Ends after the last cut.
    ends: Vec<ThreadEnd>,
    /// Records of single waits, by interval.
    single: BTreeMap<u32, u64>,
    /// Sums of the interval before the last cut.
    waits_of_last: u64,
    most_at_once: usize,
    waits: u64,
    /// Threads whose end was not in the ring buffer.
    unsaid: u64,
    /// Programs that were executed.
    execs: u64,
    parks: bool,
    costs: Vec<Duration>,
}

impl Intervals {
    /// Takes everything up to `cut` and holds both sides against each other.
    fn take(&mut self, kernel: &mut Programs, cut: Cut) -> Result<(), String> {
        let begun = cpu_time();
        let threads: Vec<_> = kernel.threads_at(&cut).collect();
        let (mut taken, mut waits) = (Vec::new(), 0);
        kernel
            .take_sums(&cut, |key, sums| {
                taken.push((key.thread.tid, sums.waits, sums.blocked.0));
                waits += sums.waits;
            })
            .map_err(text)?;
        let counters = kernel.counters().map_err(text)?;
        kernel.forget_ended(&cut).map_err(text)?;
        self.costs.push(cpu_time() - begun);
        for (tid, waits, blocked) in taken {
            self.summed.entry(tid).or_default().add(waits, blocked);
        }
        self.waits_of_last = waits;
        self.waits += waits;
        self.most_at_once = self.most_at_once.max(threads.len());
        for counter in [Counter::AggregateFull, Counter::ThreadTableFull] {
            if counters.get(counter) != 0 {
                return Err(format!("{}: {}", counter.name(), counters.get(counter)));
            }
        }

        let before = std::mem::take(&mut self.ends);
        for end in &before {
            self.add_end(end);
        }
        self.drain(kernel)?;
        let mut at: BTreeMap<Tid, ThreadState> = BTreeMap::new();
        for (key, thread) in threads {
            if let Phase::Ended(_) = thread.phase {
                // Its end found no room in the ring buffer, and its entry is free from now on.
                self.unsaid += 1;
                let ended = self.ended.entry(key.tid).or_default();
                ended.add(thread.times.waits, thread.times.blocked.0);
                lived(&thread)?;
                continue;
            }
            if at.insert(key.tid, until(cut, thread)).is_some() {
                return Err(format!("thread {} is twice in the table", key.tid));
            }
        }
        for end in std::mem::take(&mut self.ends) {
            if end.cut < cut.number {
                self.add_end(&end);
                continue;
            }
            // It ended while we were reading the table, or just after.
            if let Some(thread) = end.at_cut.map(|thread| until(cut, thread)) {
                let known = *at.entry(end.thread.tid).or_insert(thread);
                if known != thread {
                    return Err(format!("{known:?} in the table, {thread:?} at its end"));
                }
            }
            self.ends.push(end);
        }
        self.compare(&at, cut)?;
        let lost = counters.get(Counter::RingFullWait) + counters.get(Counter::StackTableFull);
        let single = self.single.get(&(cut.number - 1)).copied().unwrap_or(0);
        if !self.parks && lost == 0 && single != self.waits_of_last {
            return Err(format!(
                "interval {}: {single} single waits, {} in its sums",
                cut.number - 1,
                self.waits_of_last
            ));
        }
        Ok(())
    }

    fn add_end(&mut self, end: &ThreadEnd) {
        let ended = self.ended.entry(end.thread.tid).or_default();
        ended.add(end.times.waits, end.times.blocked.0);
    }

    /// Events of the ring buffer. With parks, the kernel side is told of every stack that it is an
    /// idle park.
    fn drain(&mut self, kernel: &mut Programs) -> Result<(), String> {
        let mut stacks = Vec::new();
        kernel.drain(|event| match event {
            Ok(Event::ThreadEnd(end)) => self.ends.push(*end),
            Ok(Event::Exec(_)) => self.execs += 1,
            Ok(Event::Wait(wait)) => *self.single.entry(wait.cut).or_default() += 1,
            Ok(Event::Stack(seen)) if seen.kind == StackKind::OffCpu => stacks.extend(seen.number),
            _ => {}
        });
        for stack in stacks {
            if self.parks {
                let policy = StackPolicy::SumOnly {
                    decisive_frames: None,
                };
                kernel.set_policy(stack, policy).map_err(text)?;
            }
        }
        Ok(())
    }

    fn compare(&self, at: &BTreeMap<Tid, ThreadState>, cut: Cut) -> Result<(), String> {
        let mut expected = self.ended.clone();
        for (tid, thread) in at {
            let times = &thread.times;
            let expected = expected.entry(*tid).or_default();
            expected.add(times.waits, times.blocked.0);
            lived(thread)?;
        }
        for (tid, expected) in &expected {
            let summed = self.summed.get(tid).copied().unwrap_or_default();
            if summed != *expected {
                return Err(format!(
                    "thread {tid} at cut {}: {expected:?} by its times, {summed:?} by the sums; \
                     {:?}",
                    cut.number,
                    at.get(tid)
                ));
            }
        }
        match self.summed.keys().find(|tid| !expected.contains_key(tid)) {
            Some(tid) => Err(format!("sums of thread {tid}, which never was")),
            None => Ok(()),
        }
    }
}

/// A state at a cut without a wakeup that came after it: programs note a wakeup at any time.
fn until(cut: Cut, mut thread: ThreadState) -> ThreadState {
    if let Phase::Waiting(wait) = &mut thread.phase {
        wait.woken = wait.woken.filter(|woken| *woken <= cut.time);
    }
    thread
}

/// A thread's finished times are its life up to its last switch.
pub(crate) fn lived(thread: &ThreadState) -> Result<(), String> {
    let since: Timestamp = match thread.phase {
        Phase::Running(since) | Phase::Runnable(since) | Phase::Ended(since) => since,
        Phase::Waiting(wait) => wait.since,
    };
    let times = &thread.times;
    if times.running + times.runnable + times.blocked == since - times.first_seen {
        return Ok(());
    }
    Err(format!("{thread:?} lives in no whole"))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn recorded(mode: &str) -> Result<(Running, Programs), String> {
    let fixture = Variant::DEFAULT.start(mode)?;
    let types = KernelBtf::load().map_err(text)?;
    let mut kernel = Programs::load(&types, Nanos(0)).map_err(text)?;
    kernel.attach(None, false).map_err(text)?;
    Ok((fixture, kernel))
}

/// A thread of ours that keeps the first CPU busy until it is dropped.
struct Hog {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hog {
    fn start() -> Hog {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut first = CpuSet::new();
            first.set(0);
            // Where that is not allowed, nobody is held up.
            let _ = sched_setaffinity(None, &first);
            while !until.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Hog {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Cuts a recording of the fixture for this long.
fn cut_up(mode: &str, interval: Duration, how_long: Duration, parks: bool) -> Result<(), String> {
    let (mut fixture, mut kernel) = recorded(mode)?;
    watch(&mut kernel, fixture.pid(), |_| {})?;
    // Whoever takes an id over at an exec is to be off its CPU between that and the news of it.
    let hog = (mode == BY_ANOTHER_THREAD).then(Hog::start);
    fixture.go()?;
    let mut intervals = Intervals {
        parks,
        ..Intervals::default()
    };
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    // More often than so a busy machine may not let us.
    while begun.elapsed() < how_long || intervals.costs.len() < FEWEST_INTERVALS {
        let next = Instant::now() + interval;
        // Not to let the ring buffer overflow.
        while Instant::now() < next {
            sleep(Duration::from_millis(10));
            intervals.drain(&mut kernel)?;
        }
        let asked = Instant::now();
        let cut = kernel.cut().map_err(text)?;
        longest = longest.max(asked.elapsed());
        intervals.take(&mut kernel, cut)?;
    }
    let last = kernel.stop().map_err(text)?;
    intervals.take(&mut kernel, last)?;
    let counters = kernel.counters().map_err(text)?;
    intervals.costs.sort_unstable();
    println!(
        "{} waits in {} intervals, {} threads at once, {} ends without a record; {} parks known \
         again, {} walks; an interval took {:?} of CPU time \
         (median), the longest cut {longest:?}",
        intervals.waits,
        last.number,
        intervals.most_at_once,
        intervals.unsaid,
        counters.get(Counter::ParksKnown),
        counters.get(Counter::Walks),
        intervals.costs[intervals.costs.len() / 2],
    );
    // What the trial is about has happened.
    if intervals.waits < 20 {
        return Err("hardly anything happened".into());
    }
    if mode.starts_with("exec-") && intervals.execs != 1 {
        return Err(format!("{} programs were executed", intervals.execs));
    }
    if intervals.unsaid != counters.get(Counter::RingFullOther) {
        return Err(format!(
            "{} ends untold",
            counters.get(Counter::RingFullOther)
        ));
    }
    if mode == "storm" && (counters.get(Counter::ParksKnown) > 1_000) != parks {
        return Err(format!("{} parks known", counters.get(Counter::ParksKnown)));
    }
    drop(hog);
    drop(fixture);
    Ok(())
}

/// A process that is forked begins with all that is known of its parent.
fn forked() -> Result<(), String> {
    let (mut fixture, mut kernel) = recorded("family")?;
    let parent = watch(&mut kernel, fixture.pid(), |process| {
        process.follow = 1;
        process.contexts[1].worker.tick = 0x123;
        process.worker_below_fs = 0x456;
    })?;
    fixture.go()?;
    let begun = Instant::now();
    let mut forks = Vec::new();
    while forks.is_empty() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(1));
        kernel.drain(|event| {
            if let Ok(Event::Fork(fork)) = event {
                forks.push(fork);
            }
        });
    }
    let fork = forks.first().ok_or("no fork was seen")?;
    let child = kernel.process(fork.index).map_err(text)?;
    let expected = profiler_common::map::Process {
        tgid: fork.child.0,
        start: fork.time.0,
        ..parent
    };
    if child == expected {
        Ok(())
    } else {
        Err(format!("{child:?} of {parent:?}"))
    }
}
