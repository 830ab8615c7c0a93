//! Recordings taken interval by interval: each is sound by itself, and all of them together are the
//! whole, to the nanosecond and to the last wait.

#[path = "intervals_reloads.rs"]
mod reloads;
#[path = "intervals_reports.rs"]
mod reports;

use super::fixture::{Output, Variant};
use super::privilege;
use super::report::is_in;
use super::truth::{Truth, slowdown};
use holdup::collect::{Collector, Options};
use holdup::host::KernelBtf;
use holdup::limits::Limits;
use holdup::process::{Selection, Target};
use holdup::recording::{Header, Interval, OpenWait, Stack, Tables, ThreadId};
use holdup::symbolize::{FrameRef, Origin};
use holdup::units::{Nanos, Pid, Timestamp};
use libtest_mimic::Trial;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

type Complaints = Vec<String>;
type Check = fn(&Taken) -> Complaints;

struct Case {
    name: &'static str,
    mode: &'static str,
    interval: Duration,
    min_block: Nanos,
    limits: &'static str,
    check: Check,
}

const CASES: &[Case] = &[
    Case {
        name: "storm",
        mode: "storm",
        interval: Duration::from_millis(100),
        min_block: Nanos(1_000),
        limits: "",
        check: storm,
    },
    Case {
        name: "each_is_sound",
        mode: "scenarios",
        interval: Duration::from_secs(1),
        min_block: Nanos(1_000_000),
        limits: "",
        check: sound_and_reported,
    },
    Case {
        name: "threads_come_and_go",
        mode: "churn",
        interval: Duration::from_millis(30),
        min_block: Nanos(1_000_000),
        limits: "",
        check: sound_and_reported,
    },
    Case {
        name: "an_exec",
        mode: "exec-midway",
        interval: Duration::from_millis(50),
        min_block: Nanos(1_000_000),
        limits: "",
        check: |taken| taken.sound(),
    },
    Case {
        name: "a_connection_per_request",
        mode: "requests",
        interval: Duration::from_secs(1),
        min_block: Nanos(1_000_000),
        limits: "AGGREGATES=4096,OBJECTS=2048",
        check: requests,
    },
    Case {
        name: "a_library_comes_and_goes",
        mode: "reloads",
        interval: Duration::from_millis(500),
        min_block: Nanos(1_000_000),
        limits: "",
        check: reloads::check,
    },
    Case {
        name: "twenty_threads",
        mode: "busy",
        interval: Duration::from_secs(1),
        min_block: Nanos(100_000),
        limits: "",
        check: |taken| costs_at_most(taken, 20, Duration::from_millis(2)),
    },
    Case {
        name: "two_thousand_threads",
        mode: "crowd",
        interval: Duration::from_secs(1),
        min_block: Nanos(1_000_000),
        limits: "",
        check: |taken| costs_at_most(taken, 2_000, Duration::from_millis(30)),
    },
];

/// The trials.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        Trial::ignorable_test(format!("intervals::{}", case.name), move || {
            privilege::unless_skipped(privilege::missing(), || {
                let complaints = (case.check)(&take(case)?);
                if complaints.is_empty() {
                    Ok(())
                } else {
                    Err(complaints.join("\n").into())
                }
            })
        })
    };
    CASES.iter().map(trial).collect()
}

/// A recording, and what its target says.
struct Taken {
    header: Header,
    tables: Tables,
    intervals: Vec<Interval>,
    /// CPU time that the end of each interval took that was not a short one, but for the last one.
    costs: Vec<Duration>,
    truth: Truth,
}

pub(super) fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn sound_and_reported(taken: &Taken) -> Complaints {
    let mut complaints = taken.sound();
    complaints.extend(reports::check(taken));
    complaints
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Says when the target is through.
fn wait_for(output: &mut Output, mode: &str) -> Result<Truth, String> {
    let mut truth = output.truth()?;
    if mode == "exec-midway" {
        truth.sites.extend(output.truth()?.sites);
    }
    Ok(truth)
}

/// A recording of waits alone, in intervals of this length.
pub(super) fn options(interval: Duration) -> Options {
    Options {
        interval,
        min_block: Nanos(1_000_000),
        sample_period: None,
        long_poll: Nanos(10_000_000),
        launched: false,
        joining: Selection::default(),
        follow: false,
        shadow_every: 0,
        calls: false,
        panics: false,
        limits: Limits::default(),
    }
}

fn take(case: &'static Case) -> Result<Taken, String> {
    let mut fixture = Variant::DEFAULT.start(case.mode)?;
    let target = Target::open(Pid(fixture.pid())).map_err(text)?;
    let types = KernelBtf::load().map_err(text)?;
    let options = Options {
        min_block: case.min_block,
        // As a recording has it where nobody says otherwise; the others are of waits alone.
        sample_period: (case.mode == "busy").then_some(Nanos(10_101_010)),
        limits: Limits::parse(case.limits),
        ..options(case.interval)
    };
    let mut collector = Collector::attach(&[Arc::new(target)], &types, options).map_err(text)?;
    fixture.go()?;
    let (through, stop) = tokio::sync::oneshot::channel::<()>();
    // The fixture stays here: whatever fails below, it ends, and so does the thread.
    let mut output = fixture.take_output()?;
    let waiter = thread::spawn(move || {
        let truth = wait_for(&mut output, case.mode);
        // Threads may still be on their way to where they wait now.
        thread::sleep(Duration::from_millis(50));
        drop(through);
        truth
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    let (mut intervals, mut costs, mut walls) = (Vec::new(), Vec::new(), Vec::new());
    // Intervals as somebody takes them who looks on.
    let began = Instant::now();
    let mut stop = std::pin::pin!(async { drop(stop.await) });
    let mut over = false;
    while !over && began.elapsed() < Duration::from_secs(200) {
        runtime
            .block_on(async {
                let pause = tokio::time::sleep(case.interval);
                let either = async {
                    tokio::select! {
                        () = &mut stop => over = true,
                        () = pause => {}
                    }
                };
                collector
                    .run(either, |_, interval| {
                        intervals.push(interval);
                        Ok(())
                    })
                    .await
            })
            .map_err(text)?;
        let (before, begun) = (cpu_time(), Instant::now());
        let interval = collector.interval().map_err(text)?;
        // `run` may just have ended one.
        if interval.end - interval.start >= Nanos::from(case.interval / 2) {
            costs.push(cpu_time() - before);
            walls.push(begun.elapsed());
        }
        intervals.push(interval);
    }
    let (header, tables, last) = collector.finish(None).map_err(text)?;
    intervals.push(last);
    let truth = waiter.join().map_err(|_| "the waiter panicked")??;
    fixture.finish()?;
    println!(
        "{} intervals in {:?}; CPU time of one: {:?} at most, {:?} in the middle; {:?} by the clock",
        intervals.len(),
        began.elapsed(),
        costs.iter().max(),
        middle(&costs),
        middle(&walls),
    );
    Ok(Taken {
        header,
        tables,
        intervals,
        costs,
        truth,
    })
}

fn middle(costs: &[Duration]) -> Duration {
    let mut sorted = costs.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Of a wait that was open at a cut: how long it had been blocked then.
fn blocked_at(open: &OpenWait, cut: Timestamp) -> u64 {
    let until = open.woken.unwrap_or(cut).max(open.since);
    (until - open.since).0
}

impl Taken {
    fn length(&self) -> Duration {
        let end = self.intervals.last().map(|last| last.end);
        let length = end.map_or(0, |end| (end - self.header.start).0);
        Duration::from_nanos(length)
    }

    /// What holds for every recording.
    fn sound(&self) -> Complaints {
        let mut complaints = Vec::new();
        let (mut open, mut end) = (Vec::new(), self.header.start);
        let mut repaired = 0;
        for (n, interval) in self.intervals.iter().enumerate() {
            let mut complain = |text: String| complaints.push(format!("interval {n}: {text}"));
            if interval.start != end || interval.end < interval.start {
                complain(format!("from {:?} to {:?}", interval.start, interval.end));
            }
            let bare = |open: &OpenWait| (open.thread, open.since, open.stack);
            let (before, carried): (Vec<_>, Vec<_>) = (
                open.iter().map(bare).collect(),
                interval.carried.iter().map(bare).collect(),
            );
            if before != carried {
                complain(format!("{carried:?} were carried of {before:?}"));
            }
            repaired += check_interval(interval, &mut complain);
            self.check_names(interval, &mut complain);
            (open, end) = (interval.open_waits.clone(), interval.end);
        }
        complaints.extend(self.whole());
        println!("{} ns of blocking were told in another interval", repaired);
        let all: u64 = self.threads().values().map(|sum| sum.blocked).sum();
        // An emulated CPU may stand still for milliseconds between a wakeup and its event.
        if repaired * 100 > all * slowdown() {
            complaints.push(format!(
                "{repaired} ns of {all} were told in another interval"
            ));
        }
        complaints
    }

    /// Everything that is named by index is there.
    fn check_names(&self, interval: &Interval, complain: &mut impl FnMut(String)) {
        let sums = interval.sums.iter().map(|sum| (sum.stack, sum.object));
        let waits = interval.waits.iter().map(|wait| (wait.stack, wait.object));
        let open = interval
            .open_waits
            .iter()
            .map(|open| (open.stack, open.began_for));
        for (stack, object) in sums.chain(waits).chain(open) {
            let known = object.is_none_or(|object| self.tables.object(object).is_some());
            if self.tables.stack(stack).is_none() || !known {
                complain(format!("{stack:?} or {object:?} is in no table"));
            }
        }
        for times in &interval.threads {
            if self.tables.process(times.thread.process).is_none()
                || self.tables.thread_name(times.thread).is_empty()
            {
                complain(format!("{times:?} has no name"));
            }
        }
    }

    /// By thread, over all intervals.
    fn threads(&self) -> BTreeMap<ThreadId, Sum> {
        let mut threads: BTreeMap<ThreadId, Sum> = BTreeMap::new();
        for times in self.intervals.iter().flat_map(|interval| &interval.threads) {
            let sum = threads.entry(times.thread).or_default();
            sum.lived += times.lived.0;
            sum.known += (times.running + times.runnable + times.blocked).0;
            sum.blocked += times.blocked.0;
            sum.waits += times.waits;
            sum.running += times.running.0;
            sum.in_calls += times.in_calls.0;
        }
        threads
    }

    /// All intervals together.
    fn whole(&self) -> Complaints {
        let mut complaints = Vec::new();
        let Some(last) = self.intervals.last() else {
            return vec!["there is no interval".into()];
        };
        let whole = (last.end - self.header.start).0;
        let lost = |count: fn(&Interval) -> u64| self.intervals.iter().map(count).sum::<u64>();
        let missed = lost(|interval| {
            interval.losses.by_cause.missed_switch_ins + interval.losses.by_cause.missed_switch_outs
        });
        for (thread, sum) in self.threads() {
            if missed == 0 && sum.in_calls > sum.running {
                let (calls, running) = (sum.in_calls, sum.running);
                complaints.push(format!(
                    "{thread:?}: {calls} ns in calls, it ran for {running}"
                ));
            }
            if missed == 0 && sum.known != sum.lived {
                complaints.push(format!(
                    "{thread:?} lived {} and did {}",
                    sum.lived, sum.known
                ));
            }
            // Its last switch may bear a time a little later than the last cut's.
            if sum.lived > whole + 1_000_000 {
                complaints.push(format!("{thread:?} lived {} of {whole}", sum.lived));
            }
        }
        let waits: u64 = self.threads().values().map(|sum| sum.waits).sum();
        let sums = self.intervals.iter().flat_map(|interval| &interval.sums);
        let summed: u64 = sums.map(|sum| sum.waits).sum();
        let unsummed = lost(|interval| interval.losses.by_cause.aggregate_full);
        println!("{waits} waits, {summed} in sums, {unsummed} lost");
        if waits != summed + unsummed {
            complaints.push(format!("{waits} waits, {summed} in sums, {unsummed} lost"));
        }
        if waits != lost(|interval| interval.losses.waits)
            || summed != lost(|interval| interval.losses.summed)
        {
            complaints.push("the losses have other counts of waits".into());
        }
        complaints
    }

    /// Waits at a function, which is the innermost one of the program's own, over all intervals.
    fn waits_at(&self, function: &str) -> u64 {
        let is_own = |frame: &&FrameRef| frame.origin == Origin::Application;
        self.waits_with(|stack| {
            let innermost = stack.frames.iter().find(is_own);
            innermost.is_some_and(|frame| is_in(&frame.function, function))
        })
    }

    /// Waits whose stack goes through a function, over all intervals.
    pub(super) fn waits_in(&self, function: &str) -> u64 {
        self.waits_with(|stack| {
            let mut frames = stack.frames.iter();
            frames.any(|frame| is_in(&frame.function, function))
        })
    }

    fn waits_with(&self, is_there: impl Fn(&Stack) -> bool) -> u64 {
        let stacks = self.tables.stacks.iter().enumerate();
        let through: HashSet<usize> = stacks
            .filter(|(_, stack)| is_there(stack))
            .map(|(id, _)| id)
            .collect();
        let sums = self.intervals.iter().flat_map(|interval| &interval.sums);
        let found = sums.filter(|sum| through.contains(&sum.stack.index()));
        found.map(|sum| sum.waits).sum()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Of `known`, on a CPU, and in system calls.
    running: u64,
    in_calls: u64,
    lived: u64,
    known: u64,
    blocked: u64,
    waits: u64,
}

/// One interval by itself. How much of its blocking was reported in another one, since the kernel hid a
/// wakeup for a while.
fn check_interval(interval: &Interval, complain: &mut impl FnMut(String)) -> u64 {
    let causes = &interval.losses.by_cause;
    let missed = causes.missed_switch_ins + causes.missed_switch_outs;
    let mut blocked: HashMap<ThreadId, i64> = HashMap::new();
    let mut waits: HashMap<ThreadId, u64> = HashMap::new();
    for sum in &interval.sums {
        *blocked.entry(sum.thread).or_default() += sum.blocked.0 as i64;
        *waits.entry(sum.thread).or_default() += sum.waits;
        let counted: u64 = sum.histogram.iter().map(|count| u64::from(*count)).sum();
        if sum.max > sum.blocked || counted > sum.waits {
            complain(format!("a sum that cannot be: {sum:?}"));
        }
    }
    for open in &interval.carried {
        *blocked.entry(open.thread).or_default() -= blocked_at(open, interval.start) as i64;
    }
    for open in &interval.open_waits {
        *blocked.entry(open.thread).or_default() += blocked_at(open, interval.end) as i64;
    }
    let mut repaired = 0;
    for times in &interval.threads {
        let parts = times.running + times.runnable + times.blocked;
        if missed == 0 && parts != times.lived {
            complain(format!("{times:?} does not sum up"));
        }
        let by_waits = blocked.remove(&times.thread).unwrap_or(0);
        repaired += by_waits.abs_diff(times.blocked.0 as i64);
        let summed = waits.remove(&times.thread).unwrap_or(0);
        if causes.aggregate_full == 0 && summed != times.waits {
            complain(format!("{summed} waits are in sums of {times:?}"));
        }
    }
    if let Some((thread, _)) = waits.iter().find(|(_, waits)| **waits > 0) {
        complain(format!("{thread:?} waited and did not live"));
    }
    repaired
}

/// The kernel's own count of waits, and every thread's life.
fn storm(taken: &Taken) -> Complaints {
    let mut complaints = taken.sound();
    let mut all = 0;
    for site in taken.truth.blocked() {
        let found = taken.waits_at(&site.function);
        all += site.waits;
        println!("{} waits, {found} in the intervals", site.waits);
        if found != site.waits {
            complaints.push(format!(
                "{found} waits at {}, the kernel counted {}",
                site.function, site.waits
            ));
        }
    }
    // About 90 on a machine that has nothing else to do.
    let rate = all as f64 / taken.length().as_secs_f64();
    println!("{rate:.0} waits a second");
    if taken.intervals.len() < 20 || rate * slowness() < LEAST_STORM {
        complaints.push(format!(
            "{all} waits in {} intervals, {rate:.0} a second, show nothing",
            taken.intervals.len()
        ));
    }
    complaints
}

/// Waits a second of a storm, at least, on the machine of [`YARDSTICK`]: it makes 230,000 where nothing
/// else runs, and other tests may.
const LEAST_STORM: f64 = 100_000.0;

/// Every wait of a request knows its connection.
fn requests(taken: &Taken) -> Complaints {
    let mut complaints = taken.sound();
    let losses = taken.intervals.iter().map(|interval| &interval.losses);
    let lost: u64 = losses.map(|l| l.objects + l.by_cause.aggregate_full).sum();
    if lost > 0 {
        complaints.push(format!("{lost} objects or sums were lost"));
    }
    let site = taken.truth.blocked();
    let made: u64 = site.map(|site| site.waits).sum();
    let (mut found, mut without) = (0, 0);
    let mut by_stack = BTreeMap::<String, u64>::new();
    for sum in taken.intervals.iter().flat_map(|interval| &interval.sums) {
        let stack = taken.tables.stack(sum.stack);
        let is_request = stack.is_some_and(|stack| {
            let mut frames = stack.frames.iter();
            frames.any(|frame| is_in(&frame.function, "block_by_request"))
        });
        if is_request {
            found += sum.waits;
            let frames = stack.iter().flat_map(|stack| &stack.frames);
            let names: Vec<&str> = frames.map(|frame| &*frame.function).take(12).collect();
            *by_stack.entry(names.join(" < ")).or_default() += sum.waits;
            without += if sum.object.is_none() { sum.waits } else { 0 };
        }
    }
    println!(
        "{made} requests waited, {found} were found, {without} of them without an object; \
         {} objects",
        taken.tables.objects.len()
    );
    // Two thousand a second for two minutes.
    if found != made || without > 0 || made < 216_000 / slowdown() {
        complaints.push(format!(
            "{made} requests waited, {found} found, {without} without: {by_stack:#?}"
        ));
    }
    if taken.tables.objects.len() > 5_000 {
        complaints.push(format!("{} objects are kept", taken.tables.objects.len()));
    }
    complaints
}

/// What the machine for which bounds of CPU time are meant takes for [`yardstick`].
const YARDSTICK: Duration = Duration::from_micros(3_100);

/// The CPU time that a fixed piece of work takes here: the least of several.
fn yardstick() -> Duration {
    let times = (0..7).map(|_| {
        let before = cpu_time();
        let map: HashMap<u64, u64> = (0..100_000).map(|n| (n, n)).collect();
        let sum: u64 = (0..100_000).filter_map(|n| map.get(&n)).sum();
        std::hint::black_box(sum);
        cpu_time() - before
    });
    times.min().unwrap_or_default()
}

/// How many times slower this machine is than the one for which bounds are meant; 1 on a faster one.
pub(super) fn slowness() -> f64 {
    let yardstick = yardstick();
    println!("the yardstick takes {yardstick:?} here, and {YARDSTICK:?} elsewhere");
    let slower = yardstick.div_duration_f64(YARDSTICK).max(1.0);
    slower * slowdown() as f64
}

/// The end of an interval of a service of `threads` threads takes at most so much CPU time, by the
/// median.
fn costs_at_most(taken: &Taken, threads: usize, most: Duration) -> Complaints {
    let mut complaints = taken.sound();
    let seen = taken.intervals.iter();
    let seen = seen.map(|interval| interval.threads.len()).max();
    let seen = seen.unwrap_or(0);
    if seen < threads {
        complaints.push(format!("only {seen} threads were seen"));
    }
    let middle = middle(&taken.costs);
    // Tests are built with little optimization and with assertions: half as much again. A slower
    // machine takes longer, and an emulated CPU as long as its host lets it.
    let slower = slowness();
    if slowdown() == 1 && middle > (most * 3 / 2).mul_f64(slower) {
        complaints.push(format!(
            "an interval of {seen} threads took {middle:?} of CPU on a machine {slower:.2} times \
             slower than the one of the bound"
        ));
    }
    complaints
}
