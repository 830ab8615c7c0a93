//! Two looks at every thread, and nothing in between: what `holdup dump` shows.
//!
//! To see switches, the kernel has to verify a program that takes a quarter of a second. Two passes of
//! the task iterator, which takes a millisecond, tell who waits, since when at least, and who has
//! moved; threads on a CPU are met by the sampling clock.

use super::Collector;
use crate::bpf::{Programs, monotonic};
use crate::collect::open_waits::Found;
use crate::collect::stacks::Naming;
use crate::collect::{Options, interval_clock::IntervalClock};
use crate::decode::{Activity, Snapshot, ThreadKey, WaitStack};
use crate::host::KernelBtf;
use crate::process::{CpuClocks, LastRan, Target};
use crate::recording::{Header, Interval, OpenWait, STANDSTILL, Tables, ThreadId, ThreadTimes};
use crate::runtime::{Queued, State};
use crate::units::{Nanos, Timestamp};
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the scheduler is asked about threads. Each takes some tens of microseconds.
const ASKING: Duration = Duration::from_millis(120);

/// How often threads are walked again that moved while they were, as those do that look for a lock every
/// few milliseconds.
const ROUNDS: u32 = 20;

/// All rounds together.
const WALKING: Duration = Duration::from_millis(200);

/// How often threads that wait in pieces are looked at once more at the end, and how long after each other: a
/// piece is some milliseconds long.
const MORE_LOOKS: u32 = 8;
const BETWEEN_PIECES: Duration = Duration::from_millis(1);

/// What was seen of the targets.
#[derive(Debug)]
pub struct Seen {
    /// By what and where.
    pub header: Header,
    /// What the interval names by index.
    pub tables: Tables,
    /// From the first look to the second. It has no finished waits; those that go on are
    /// [`before_recording`](OpenWait::before_recording) where their threads did not move in between.
    pub interval: Interval,
    /// For how long, at least, threads that wait had not run at the second look, by the scheduler's
    /// word.
    pub asleep: BTreeMap<ThreadId, Nanos>,
    /// What waits for workers that are in a poll.
    pub queued: BTreeMap<ThreadId, Queued>,
}

/// The time between the looks.
#[derive(Debug)]
pub struct Look {
    collector: Collector,
    /// How often each thread had switched at the first look.
    first: HashMap<ThreadKey, u64>,
}

impl Look {
    /// Looks for the first time. Of `options`, what is about waits and switches means nothing here.
    ///
    /// # Errors
    /// As [`Collector::attach`].
    pub fn begin(targets: &[Arc<Target>], types: &KernelBtf, options: Options) -> Result<Look> {
        let mut kernel = Programs::load_with(types, &options.load())?;
        kernel.attach_for_looks(options.sample_period)?;
        let mut collector = Collector::of(kernel, targets, options)?;
        collector.add(targets)?;
        let start = monotonic();
        collector.clock = IntervalClock::begin(start);
        collector.targets.begin(&mut collector.kernel, start)?;
        let first = collector.pass()?;
        let first = first.iter();
        Ok(Look {
            first: first.map(|one| (one.thread, one.switches)).collect(),
            collector,
        })
    }

    /// Whether any module of a target holds tokio.
    #[must_use]
    pub fn sees_tokio(&self) -> bool {
        self.collector.sees_tokio()
    }

    /// Looks for the second time. The kernel side is not stopped in order: it goes with the process.
    ///
    /// # Errors
    /// Where the kernel refuses to be read.
    pub fn finish(self) -> Result<Seen> {
        let Look {
            mut collector,
            first,
        } = self;
        let (latest, unread) = collector.walk_all()?;
        let mut end = monotonic();
        let walked = collector.stacks.initial().unnamed();
        let tasks: HashMap<ThreadId, u64> = walked.collect();
        let queued = collector.stacks.initial().queued().collect();
        collector.name_new(Naming::All)?;
        let mut asleep = collector.asleep(&latest, end);
        let is_unmoved = |one: &Snapshot| first.get(&one.thread) == Some(&one.switches);
        let of_unknown_length: Vec<ThreadId> = collector
            .which_wait(&latest)
            .filter(|(one, thread)| is_unmoved(one) && !asleep.contains_key(thread))
            .map(|(_, thread)| thread)
            .collect();
        if !of_unknown_length.is_empty() {
            // They are looked at for as long as it takes to call them wedged.
            let start = collector.clock.start();
            std::thread::sleep(Duration::from_nanos(
                (STANDSTILL.0).saturating_sub((end - start).0),
            ));
            end = monotonic();
            asleep = collector.asleep(&latest, end);
            for thread in of_unknown_length {
                asleep.entry(thread).or_insert(end - start);
            }
        }
        let found = collector.found_of(&latest, &HashMap::new());
        let in_pieces: Vec<&Snapshot> = latest
            .iter()
            .filter(|one| {
                let thread = collector.targets.thread(one.thread);
                let found = thread.and_then(|thread| found.get(&thread));
                found.is_some_and(|(_, found)| found.in_pieces)
            })
            .collect();
        let later = collector.later(&in_pieces)?;
        let mut interval = Interval {
            start: collector.clock.start(),
            end,
            samples: collector.interval.samples.take(),
            ..Interval::default()
        };
        for snapshot in &latest {
            let Some(thread) = collector.targets.thread(snapshot.thread) else {
                continue;
            };
            let has_stack = tasks.contains_key(&thread);
            let waits = waits(snapshot) && (has_stack || unread.contains(&thread));
            let seen = times(thread, snapshot, waits, &interval);
            interval.threads.push(seen);
            if !waits || !has_stack {
                continue;
            }
            // What was found may be of another wait where the thread has gone on.
            let now = later.get(&snapshot.thread);
            let same = now.is_some_and(|now| now.switches == snapshot.switches);
            if !same {
                asleep.remove(&thread);
            }
            let unmoved = same && is_unmoved(snapshot);
            let stack = collector.stack(thread, WaitStack::BeforeRecording);
            let since = asleep.get(&thread).map_or(0, |asleep| asleep.0);
            let found = found.get(&thread).map(|(_, found)| found);
            let is_of_it = |found: &&Found| {
                same || found.in_pieces && now.is_some_and(|now| is_same_futex(snapshot, now))
            };
            let found = found.filter(is_of_it);
            let task = tasks.get(&thread).copied().filter(|task| *task != 0);
            interval.open_waits.push(OpenWait {
                thread,
                stack,
                began_for: None,
                since: if unmoved {
                    interval.start
                } else {
                    Timestamp(end.0.saturating_sub(since))
                },
                woken: None,
                before_recording: unmoved,
                object: found.map(|found| found.object.clone()),
                holder: found.and_then(|found| found.holder.clone()),
                task_id: collector.task_id(stack, task),
            });
        }
        collector.publish_processes();
        let header = collector.header();
        collector.lend_tables();
        Ok(Seen {
            header,
            tables: collector.tables,
            interval,
            asleep,
            queued,
        })
    }
}

/// Where the time of a thread went, as far as two looks tell: one that neither waits for longer than a look
/// takes nor wants a CPU runs.
fn times(thread: ThreadId, snapshot: &Snapshot, blocked: bool, interval: &Interval) -> ThreadTimes {
    let lived = interval.end - interval.start;
    let only = |is: bool| if is { lived } else { Nanos::ZERO };
    let runnable = matches!(snapshot.activity, Activity::Runnable);
    ThreadTimes {
        thread,
        lived,
        until: interval.end,
        running: only(!runnable && !blocked),
        runnable: only(runnable),
        blocked: only(blocked),
        waits: 0,
        in_calls: Nanos::ZERO,
    }
}

/// Whether a thread waits at the same futex, or at the other of the two words of one condition variable.
fn is_same_futex(before: &Snapshot, now: &Snapshot) -> bool {
    let futex = |snapshot: &Snapshot| match snapshot.activity {
        Activity::Waiting {
            syscall: Some(syscall),
            ..
        } if i64::from(syscall.number) == libc::SYS_futex => {
            let [at, ..] = syscall.args;
            Some(at & !7)
        }
        _ => None,
    };
    futex(before).is_some() && futex(before) == futex(now)
}

/// Whether a thread waits and has a stack of its own.
const fn waits(snapshot: &Snapshot) -> bool {
    matches!(snapshot.activity, Activity::Waiting { regs: Some(_), .. })
}

impl Collector {
    /// What every thread does just now.
    fn pass(&mut self) -> Result<Vec<Snapshot>> {
        self.snapshots.clear();
        self.kernel.snapshot()?;
        self.receive();
        Ok(std::mem::take(&mut self.snapshots))
    }

    /// What every thread does some moments later. Those that wait `in_pieces` are between two of them now
    /// and then: where one does not wait, it is looked at again.
    fn later(&mut self, in_pieces: &[&Snapshot]) -> Result<HashMap<ThreadKey, Snapshot>> {
        let by_thread = |seen: Vec<Snapshot>| seen.into_iter().map(|one| (one.thread, one));
        let mut later: HashMap<ThreadKey, Snapshot> = by_thread(self.pass()?).collect();
        for _ in 0..MORE_LOOKS {
            let is_between = |before: &&&Snapshot| {
                let now = later.get(&before.thread);
                now.is_some_and(|now| !is_same_futex(before, now))
            };
            let between: HashSet<ThreadKey> = in_pieces
                .iter()
                .filter(is_between)
                .map(|one| one.thread)
                .collect();
            if between.is_empty() {
                break;
            }
            std::thread::sleep(BETWEEN_PIECES);
            let again = by_thread(self.pass()?);
            later.extend(again.filter(|(thread, _)| between.contains(thread)));
        }
        Ok(later)
    }

    /// Walks the stacks of all threads that wait, and again those that moved meanwhile. What is
    /// returned is what all did after the last walk: a thread in it that waits and has no stack
    /// moved each time. The second part is those of them for which there was no time to try as often as
    /// it takes to say that.
    fn walk_all(&mut self) -> Result<(Vec<Snapshot>, HashSet<ThreadId>)> {
        let until = Instant::now() + WALKING;
        let mut latest = self.pass()?;
        let mut left: Vec<Snapshot> = latest.iter().filter(|one| waits(one)).cloned().collect();
        let mut rounds = 0;
        while rounds < ROUNDS {
            rounds += 1;
            let initial = self.stacks.initial();
            let _ = initial.walk_more(left, &self.kernel, self.targets.processes());
            latest = self.pass()?;
            let initial = self.stacks.initial();
            initial.forget_moved(&latest);
            let walked: HashSet<ThreadId> = initial.unnamed().map(|(thread, _)| thread).collect();
            let is_left = |one: &&Snapshot| {
                let thread = self.targets.thread(one.thread);
                waits(one) && thread.is_some_and(|thread| !walked.contains(&thread))
            };
            left = latest.iter().filter(is_left).cloned().collect();
            if left.is_empty() || Instant::now() > until {
                break;
            }
        }
        let thread = |one: &Snapshot| self.targets.thread(one.thread);
        let unread = match rounds < ROUNDS {
            true => left.iter().filter_map(thread).collect(),
            false => HashSet::new(),
        };
        Ok((latest, unread))
    }

    fn state(&self, thread: ThreadId) -> Option<State> {
        let stack = self.stacks.waiting(thread);
        stack.map(|stack| stack.class.state)
    }

    /// Threads that wait and are not idle.
    fn which_wait<'a>(
        &self,
        latest: &'a [Snapshot],
    ) -> impl Iterator<Item = (&'a Snapshot, ThreadId)> {
        let threads = latest.iter().filter(|one| waits(one));
        let threads = threads.filter_map(|one| Some((one, self.targets.thread(one.thread)?)));
        threads.filter(|(_, thread)| self.state(*thread) != Some(State::Idle))
    }

    /// For how long threads that wait and are not idle had not run at `end`.
    fn asleep(&self, latest: &[Snapshot], end: Timestamp) -> BTreeMap<ThreadId, Nanos> {
        let until = Instant::now() + ASKING;
        let threads = self.which_wait(latest).map(|(_, thread)| thread);
        let mut threads: Vec<ThreadId> = threads.collect();
        // Those first on which the finding depends: where the machine is slow there is no time for all.
        threads.sort_by_key(|thread| self.state(*thread) != Some(State::Blocked));
        let last: Vec<(ThreadId, LastRan)> = threads
            .into_iter()
            .take_while(|_| Instant::now() < until)
            .filter_map(|thread| {
                let process = self.targets.processes().get(thread.process)?;
                let process = process.target.as_ref()?.proc_dir();
                Some((thread, LastRan::read(process, thread.tid)?))
            })
            .collect();
        let clocks = CpuClocks::read(last.iter().map(|(_, last)| last));
        let later = monotonic() - end;
        let since = last.iter().filter_map(|(thread, last)| {
            let since = clocks.since(*last)?;
            Some((*thread, since.saturating_sub(later)))
        });
        since.collect()
    }
}
